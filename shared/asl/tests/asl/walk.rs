//! The semantics of each state, one machine each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Notes, Scripted, execution, failed, observed};
use highwater_asl::{ExecutionFailed, Options, Pause, StateMachine, walk};
use serde_json::{Value, json};

pub fn machine(definition: &Value) -> StateMachine {
    StateMachine::parse(&definition.to_string(), &BTreeMap::new()).unwrap()
}

/// One state `S` with these fields, and two ends to go to.
pub fn one(state: &Value) -> StateMachine {
    let mut states = json!({"S": state});
    for (name, end) in [
        ("Good", json!({"Type": "Succeed"})),
        (
            "Bad",
            json!({"Type": "Fail", "ErrorPath": "$.Error", "CausePath": "$.Cause"}),
        ),
    ] {
        if state.to_string().contains(&format!("\"{name}\"")) {
            states[name] = end;
        }
    }
    machine(&json!({"StartAt": "S", "States": states}))
}

pub async fn run(
    machine: &StateMachine,
    input: Value,
    tasks: &Scripted,
) -> Result<Value, ExecutionFailed> {
    let clock = Arc::new(Notes::default());
    walk(machine, input, &execution(), tasks, &observed(&clock).0).await
}

pub fn echo() -> Scripted {
    Scripted::new(|_, payload, _| Some(Ok(payload.clone())))
}

/// A function that fails with these errors, one per call, and then answers `"ok"`.
pub fn failing(errors: &'static [&'static str]) -> Scripted {
    Scripted::new(move |_, _, call| {
        Some(
            errors
                .get(call)
                .map_or(Ok(json!("ok")), |error| failed(error)),
        )
    })
}

#[tokio::test]
async fn pass_reshapes_its_input() {
    let input = json!({"a": {"b": 1}, "c": 2});
    for (fields, expected) in [
        (json!({}), input.clone()),
        (json!({"InputPath": "$.a"}), json!({"b": 1})),
        (json!({"InputPath": null}), json!({})),
        (json!({"OutputPath": "$.c"}), json!(2)),
        (json!({"OutputPath": null}), json!({})),
        (
            json!({"Result": [1], "ResultPath": "$.r"}),
            json!({"a": {"b": 1}, "c": 2, "r": [1]}),
        ),
        (json!({"Result": 7, "ResultPath": null}), input.clone()),
        (
            json!({"InputPath": "$.a", "Parameters": {"x.$": "$.b", "n.$": "$$.State.Name"}, "ResultPath": "$.a"}),
            json!({"a": {"x": 1, "n": "S"}, "c": 2}),
        ),
        (json!({"OutputPath": "$$.Execution.Input.c"}), json!(2)),
    ] {
        let mut state = json!({"Type": "Pass", "End": true});
        for (name, value) in fields.as_object().unwrap() {
            state[name] = value.clone();
        }
        let output = run(&one(&state), input.clone(), &echo()).await;
        assert_eq!(output, Ok(expected), "{fields}");
    }
}

#[tokio::test]
async fn a_task_gets_its_payload_and_its_result_finds_its_place() {
    let invoke = one(&json!({
        "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
        "InputPath": "$.in",
        "Parameters": {"FunctionName": "f", "Payload": {"x.$": "$.x", "run.$": "$$.Execution.Id"}},
        "ResultSelector": {"got.$": "$.Payload.x", "status.$": "$.StatusCode"},
        "ResultPath": "$.out", "OutputPath": "$.out"
    }));
    let tasks = echo();
    let output = run(&invoke, json!({"in": {"x": 5}}), &tasks).await;
    assert_eq!(output, Ok(json!({"got": 5, "status": 200})));
    assert_eq!(
        tasks.calls(),
        [("f".to_owned(), json!({"x": 5, "run": execution().id}))]
    );

    let plain = one(&json!({"Type": "Task", "Resource": "f", "End": true, "ResultPath": "$.r"}));
    let output = run(&plain, json!({"x": 5}), &echo()).await;
    assert_eq!(
        output,
        Ok(json!({"x": 5, "r": {"x": 5}})),
        "a function's own answer"
    );

    let whole = one(&json!({
        "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true,
        "Parameters": {"FunctionName": "f", "Payload.$": "$"}, "OutputPath": "$.Payload"
    }));
    assert_eq!(run(&whole, json!([1]), &echo()).await, Ok(json!([1])));
}

#[tokio::test]
async fn choice_takes_the_first_rule_that_holds() {
    let choice = one(&json!({
        "Type": "Choice", "Default": "Bad",
        "Choices": [
            {"And": [{"Variable": "$.n", "IsPresent": true}, {"Variable": "$.n", "NumericGreaterThan": 3}], "Next": "Good"},
            {"Variable": "$.s", "StringEquals": "x", "Next": "Good"}
        ]
    }));
    let good = run(&choice, json!({"n": 4}), &echo()).await;
    assert_eq!(good, Ok(json!({"n": 4})));
    let bad = run(
        &choice,
        json!({"n": 3, "s": "y", "Error": "E", "Cause": "C"}),
        &echo(),
    )
    .await;
    assert_eq!(
        bad,
        Err(ExecutionFailed {
            state: "Bad".into(),
            error: "E".into(),
            cause: "C".into()
        })
    );
    let missing = run(&choice, json!({"n": 3}), &echo()).await.unwrap_err();
    assert_eq!(
        (missing.state.as_str(), missing.error.as_str()),
        ("S", "States.Runtime")
    );
    assert!(missing.cause.contains("$.s"), "{}", missing.cause);
}

#[tokio::test]
async fn wait_waits_and_passes_on() {
    let wait = one(&json!({"Type": "Wait", "Seconds": 30, "End": true}));
    let clock = Arc::new(Notes::default());
    let output = walk(
        &wait,
        json!({"a": 1}),
        &execution(),
        &echo(),
        &observed(&clock).0,
    )
    .await;
    assert_eq!(output, Ok(json!({"a": 1})));
    assert_eq!(clock.of(Pause::Wait), [Duration::from_secs(30)]);
}

#[tokio::test]
async fn wait_takes_its_length_from_the_input() {
    let wait = one(&json!({"Type": "Wait", "SecondsPath": "$.s", "End": true}));
    let clock = Arc::new(Notes::default());
    let observed = observed(&clock).0;
    let walked = async |input| walk(&wait, input, &execution(), &echo(), &observed).await;
    assert_eq!(walked(json!({"s": 7})).await, Ok(json!({"s": 7})));
    assert_eq!(clock.of(Pause::Wait), [Duration::from_secs(7)]);
    for input in [json!({"s": -1}), json!({"s": "7"}), json!({})] {
        let failed = walked(input).await.unwrap_err();
        assert_eq!(failed.error, "States.Runtime");
        assert!(failed.cause.contains("SecondsPath"), "{}", failed.cause);
    }
}

#[tokio::test]
async fn fail_says_what_it_is_told_to_say() {
    let fixed = one(&json!({"Type": "Fail", "Error": "Mine", "Cause": "because"}));
    let failure = run(&fixed, json!({}), &echo()).await.unwrap_err();
    assert_eq!(failure.to_string(), "state S failed with Mine: because");
    let path = one(&json!({"Type": "Fail", "ErrorPath": "$.e.Error"}));
    let failure = run(&path, json!({"e": {"Error": "Theirs"}}), &echo())
        .await
        .unwrap_err();
    assert_eq!(
        (failure.error.as_str(), failure.cause.as_str()),
        ("Theirs", "")
    );
    for input in [json!({}), json!({"e": {"Error": 5}})] {
        let failure = run(&path, input, &echo()).await.unwrap_err();
        assert_eq!(failure.error, "States.Runtime");
    }
}

#[tokio::test]
async fn a_walk_can_be_spawned_and_stopped_where_it_is() {
    let machine = Arc::new(machine(&json!({"StartAt": "A", "States": {
        "A": {"Type": "Choice", "Choices": [{"Variable": "$.stop", "IsPresent": true, "Next": "B"}], "Default": "A"},
        "B": {"Type": "Succeed"}
    }})));
    let handle = tokio::spawn(async move {
        let tasks = echo();
        walk(
            &machine,
            json!({}),
            &execution(),
            &tasks,
            &Options::default(),
        )
        .await
    });
    tokio::task::yield_now().await;
    handle.abort();
    assert!(
        handle.await.unwrap_err().is_cancelled(),
        "an endless loop of choices lets go"
    );
}

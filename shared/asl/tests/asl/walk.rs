//! The semantics of each state, one machine each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Notes, Scripted, execution, failed, observed};
use highwater_asl::{ExecutionFailed, Options, Pause, StateMachine, walk};
use serde_json::{Value, json};

fn machine(definition: &Value) -> StateMachine {
    StateMachine::parse(&definition.to_string(), &BTreeMap::new()).unwrap()
}

/// One state `S` with these fields, and two ends to go to.
fn one(state: &Value) -> StateMachine {
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

async fn run(
    machine: &StateMachine,
    input: Value,
    tasks: &Scripted,
) -> Result<Value, ExecutionFailed> {
    let clock = Arc::new(Notes::default());
    walk(machine, input, &execution(), tasks, &observed(&clock).0).await
}

fn echo() -> Scripted {
    Scripted::new(|_, payload, _| Some(Ok(payload.clone())))
}

/// A function that fails with these errors, one per call, and then answers `"ok"`.
fn failing(errors: &'static [&'static str]) -> Scripted {
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

fn retrying(retry: &Value) -> StateMachine {
    one(&json!({
        "Type": "Task", "Resource": "f", "End": true, "Retry": retry,
        "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Bad"}]
    }))
}

#[tokio::test]
async fn retries_wait_longer_and_longer_and_then_succeed() {
    let machine =
        retrying(&json!([{"ErrorEquals": ["A"], "IntervalSeconds": 2, "MaxDelaySeconds": 5}]));
    let clock = Arc::new(Notes::default());
    let (options, events) = observed(&clock);
    let tasks = failing(&["A", "A", "A"]);
    let output = walk(&machine, json!({}), &execution(), &tasks, &options).await;
    assert_eq!(output, Ok(json!("ok")));
    assert_eq!(clock.of(Pause::Retry), [2, 4, 5].map(Duration::from_secs));
    assert_eq!(
        *events.lock().unwrap(),
        ["> S", "~ S A 1", "~ S A 2", "~ S A 3", "< S"]
    );
}

#[tokio::test]
async fn full_jitter_depends_on_the_seed_and_nothing_else() {
    let machine = retrying(&json!([
        {"ErrorEquals": ["A"], "IntervalSeconds": 10, "MaxAttempts": 3, "JitterStrategy": "FULL"}
    ]));
    let waits = async |jitter_seed: u64| {
        let clock = Arc::new(Notes::default());
        let options = Options {
            clock: Arc::clone(&clock) as _,
            jitter_seed,
            observer: None,
        };
        let tasks = failing(&["A", "A", "A"]);
        walk(&machine, json!({}), &execution(), &tasks, &options)
            .await
            .unwrap();
        clock.of(Pause::Retry)
    };
    let first = waits(1).await;
    assert_eq!(first, waits(1).await);
    assert_ne!(first, waits(2).await);
    for (wait, full) in first.iter().zip([10, 20, 40]) {
        assert!(*wait < Duration::from_secs(full), "{wait:?}");
    }
}

#[tokio::test]
async fn each_retrier_counts_for_itself_and_the_first_match_decides() {
    let machine = retrying(&json!([
        {"ErrorEquals": ["A"], "MaxAttempts": 1},
        {"ErrorEquals": ["B"], "MaxAttempts": 2},
        {"ErrorEquals": ["States.ALL"], "MaxAttempts": 9}
    ]));
    let output = run(&machine, json!({}), &failing(&["A", "B", "B", "C", "C"])).await;
    assert_eq!(output, Ok(json!("ok")));
    let tasks = failing(&["A", "B", "A"]);
    let failure = run(&machine, json!({}), &tasks).await.unwrap_err();
    assert_eq!(
        failure.error, "A",
        "the second A does not fall through to States.ALL"
    );
    assert_eq!(tasks.calls().len(), 3);
    let never = retrying(&json!([{"ErrorEquals": ["A"], "MaxAttempts": 0}]));
    assert_eq!(
        run(&never, json!({}), &failing(&["A"]))
            .await
            .unwrap_err()
            .error,
        "A"
    );
}

#[tokio::test]
async fn retries_begin_anew_when_a_state_is_entered_again() {
    let machine = machine(&json!({"StartAt": "S", "States": {
        "S": {"Type": "Task", "Resource": "f", "Next": "More?",
              "Retry": [{"ErrorEquals": ["A"], "MaxAttempts": 1}]},
        "More?": {"Type": "Choice", "Choices": [{"Variable": "$.done", "BooleanEquals": true, "Next": "End"}], "Default": "S"},
        "End": {"Type": "Succeed"}
    }}));
    let tasks = Scripted::new(|_, _, call| {
        Some(if call % 2 == 0 {
            failed("A")
        } else {
            Ok(json!({"done": call == 5}))
        })
    });
    assert_eq!(
        run(&machine, json!({}), &tasks).await,
        Ok(json!({"done": true}))
    );
    assert_eq!(tasks.calls().len(), 6);
}

#[tokio::test]
async fn a_catcher_keeps_the_input_where_its_path_says() {
    let machine = one(&json!({
        "Type": "Task", "Resource": "f", "End": true,
        "Catch": [
            {"ErrorEquals": ["A"], "ResultPath": "$.failure", "Next": "Good"},
            {"ErrorEquals": ["B"], "ResultPath": null, "Next": "Good"},
            {"ErrorEquals": ["States.TaskFailed"], "Next": "Good"}
        ]
    }));
    let input = json!({"id": 7});
    let caught = async |error: &'static str| {
        let tasks = Scripted::new(move |_, _, _| Some(failed(error)));
        run(&machine, input.clone(), &tasks).await
    };
    let error = |name: &str| json!({"Error": name, "Cause": format!("the story of {name}")});
    assert_eq!(
        caught("A").await,
        Ok(json!({"id": 7, "failure": error("A")}))
    );
    assert_eq!(caught("B").await, Ok(input.clone()));
    assert_eq!(caught("C").await, Ok(error("C")));
    assert_eq!(
        caught("States.Timeout").await.unwrap_err().error,
        "States.Timeout"
    );
    let text = Scripted::new(|_, _, _| Some(failed("A")));
    let failure = run(&machine, json!("text"), &text).await.unwrap_err();
    assert_eq!(failure.error, "States.ResultPathMatchFailure");
}

#[tokio::test]
async fn a_task_that_does_not_answer_in_time_is_dropped_and_may_be_retried() {
    let machine = one(&json!({
        "Type": "Task", "Resource": "f", "End": true, "TimeoutSeconds": 60,
        "Retry": [{"ErrorEquals": ["States.Timeout"], "MaxAttempts": 2}]
    }));
    let clock = Arc::new(Notes::with_timeouts());
    let tasks = Scripted::new(|_, _, _| None);
    let failure = walk(
        &machine,
        json!({}),
        &execution(),
        &tasks,
        &observed(&clock).0,
    )
    .await;
    assert_eq!(failure.unwrap_err().error, "States.Timeout");
    assert_eq!(tasks.dropped(), 3);
    assert_eq!(clock.of(Pause::Timeout), [Duration::from_mins(1); 3]);
    assert_eq!(
        run(&machine, json!(1), &echo()).await,
        Ok(json!(1)),
        "an answer in time counts"
    );
}

#[tokio::test]
async fn paths_that_find_nothing_are_never_caught() {
    for fields in [
        json!({"InputPath": "$.x"}),
        json!({"Parameters": {"a.$": "$.x"}}),
        json!({"ResultSelector": {"a.$": "$.x"}}),
        json!({"OutputPath": "$.x"}),
    ] {
        let mut state = json!({
            "Type": "Task", "Resource": "f", "End": true,
            "Retry": [{"ErrorEquals": ["States.ALL"]}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Good"}]
        });
        for (name, value) in fields.as_object().unwrap() {
            state[name] = value.clone();
        }
        let tasks = echo();
        let failure = run(&one(&state), json!({"y": 1}), &tasks)
            .await
            .unwrap_err();
        assert_eq!(failure.error, "States.Runtime", "{fields}");
        assert!(failure.cause.contains("$.x"), "{}", failure.cause);
        assert!(tasks.calls().len() <= 1, "{fields}");
    }
}

#[tokio::test]
async fn payloads_over_the_limit_stop_the_execution_unless_caught_by_name() {
    let big = "x".repeat(256 * 1024);
    let echoing = |catch: &str| {
        one(&json!({
            "Type": "Task", "Resource": "f", "End": true,
            "Catch": [{"ErrorEquals": [catch], "ResultPath": "$.failure", "Next": "Good"}]
        }))
    };
    let answer = big.clone();
    let tasks = Scripted::new(move |_, _, _| Some(Ok(json!(answer))));
    let failure = run(&echoing("States.ALL"), json!({}), &tasks)
        .await
        .unwrap_err();
    assert_eq!(failure.error, "States.DataLimitExceeded");
    let caught = run(&echoing("States.DataLimitExceeded"), json!({}), &tasks)
        .await
        .unwrap();
    assert_eq!(caught["failure"]["Error"], "States.DataLimitExceeded");
    let untouched = echo();
    let failure = run(&echoing("States.ALL"), json!(big), &untouched)
        .await
        .unwrap_err();
    assert_eq!(failure.error, "States.DataLimitExceeded");
    assert!(
        untouched.calls().is_empty(),
        "an oversized input starts nothing"
    );
    let doubled = one(&json!({
        "Type": "Task", "Resource": "f", "End": true, "Parameters": {"a.$": "$", "b.$": "$"}
    }));
    let half = json!("x".repeat(200 * 1024));
    let failure = run(&doubled, half, &untouched).await.unwrap_err();
    assert_eq!(failure.error, "States.DataLimitExceeded");
    assert!(
        untouched.calls().is_empty(),
        "nor does an oversized payload"
    );
}

fn mapping(fields: &Value) -> StateMachine {
    let mut state = json!({
        "Type": "Map", "End": true, "ItemsPath": "$.list",
        "ItemProcessor": {"StartAt": "I", "States": {
            "I": {"Type": "Task", "Resource": "f", "End": true}
        }}
    });
    for (name, value) in fields.as_object().unwrap() {
        state[name] = value.clone();
    }
    one(&state)
}

#[tokio::test]
async fn map_results_are_in_the_order_of_the_items() {
    let input = json!({"list": ["a", "b", "c"], "id": 9});
    assert_eq!(
        run(&mapping(&json!({})), input.clone(), &echo()).await,
        Ok(json!(["a", "b", "c"])),
        "without a selector an iteration gets the item"
    );
    let selecting = mapping(&json!({
        "ItemSelector": {"i.$": "$$.Map.Item.Index", "v.$": "$$.Map.Item.Value", "id.$": "$.id"},
        "ResultPath": "$.out", "OutputPath": "$.out"
    }));
    assert_eq!(
        run(&selecting, input, &echo()).await,
        Ok(
            json!([{"i": 0, "v": "a", "id": 9}, {"i": 1, "v": "b", "id": 9}, {"i": 2, "v": "c", "id": 9}])
        )
    );
    let nothing = json!({"list": []});
    assert_eq!(
        run(&mapping(&json!({})), nothing, &echo()).await,
        Ok(json!([]))
    );
}

#[tokio::test]
async fn a_map_never_runs_more_iterations_than_its_limit_and_does_use_it() {
    let list: Vec<u32> = (0..100).collect();
    for (fields, most) in [
        (json!({"MaxConcurrency": 1}), 1),
        (json!({"MaxConcurrency": 7}), 7),
        (json!({"MaxConcurrencyPath": "$.c"}), 5),
        (json!({}), 40),
    ] {
        let tasks = echo();
        let output = run(&mapping(&fields), json!({"list": list, "c": 5}), &tasks).await;
        assert_eq!(output, Ok(json!(list)));
        assert_eq!(tasks.most(), most, "{fields}");
        assert_eq!(tasks.calls().len(), 100);
    }
}

#[tokio::test]
async fn the_first_failing_iteration_stops_the_others() {
    let script = |_: &str, item: &Value, _: usize| match item.as_u64() {
        Some(3) => Some(failed("A")),
        Some(0..=2) => Some(Ok(item.clone())),
        _ => None,
    };
    let tasks = Scripted::new(script);
    let input = json!({"list": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "id": 1});
    let failure = run(
        &mapping(&json!({"MaxConcurrency": 4})),
        input.clone(),
        &tasks,
    )
    .await;
    assert_eq!(
        failure,
        Err(ExecutionFailed {
            state: "I".into(),
            error: "A".into(),
            cause: "the story of A".into()
        })
    );
    assert_eq!(tasks.most(), 4);
    assert!(tasks.calls().len() < 10, "those that wait never begin");
    assert!(tasks.dropped() > 0, "those under way are dropped");

    let catching = mapping(&json!({
        "MaxConcurrency": 4,
        "Catch": [{"ErrorEquals": ["A"], "ResultPath": "$.failure", "Next": "Good"}]
    }));
    let output = run(&catching, input, &Scripted::new(script)).await.unwrap();
    assert_eq!(output["failure"]["Error"], "A");
    assert_eq!(output["id"], 1);
}

#[tokio::test]
async fn a_map_that_is_retried_runs_every_item_again() {
    let machine = mapping(&json!({"MaxConcurrency": 1, "Retry": [{"ErrorEquals": ["A"]}]}));
    let tasks = Scripted::new(|_, item, call| {
        Some(if call == 1 {
            failed("A")
        } else {
            Ok(item.clone())
        })
    });
    let output = run(&machine, json!({"list": [10, 20]}), &tasks).await;
    assert_eq!(output, Ok(json!([10, 20])));
    assert_eq!(
        tasks.payloads("f"),
        [json!(10), json!(20), json!(10), json!(20)]
    );
}

#[tokio::test]
async fn a_map_over_something_else_cannot_be_computed() {
    for (fields, input) in [
        (json!({}), json!({"list": {}})),
        (json!({}), json!({})),
        (json!({"MaxConcurrencyPath": "$.c"}), json!({"list": [1]})),
        (
            json!({"MaxConcurrencyPath": "$.c"}),
            json!({"list": [1], "c": -1}),
        ),
        (
            json!({"MaxConcurrencyPath": "$.c"}),
            json!({"list": [1], "c": "4"}),
        ),
        (
            json!({"ItemSelector": {"x.$": "$.x"}}),
            json!({"list": [1]}),
        ),
    ] {
        let tasks = echo();
        let failure = run(&mapping(&fields), input, &tasks).await.unwrap_err();
        assert_eq!(
            (failure.state.as_str(), failure.error.as_str()),
            ("S", "States.Runtime")
        );
        assert!(tasks.calls().is_empty(), "{fields}");
    }
}

#[tokio::test]
async fn maps_nest_and_the_inner_item_is_the_one_in_sight() {
    let inner = json!({
        "Type": "Map", "End": true, "ItemsPath": "$.list",
        "ItemSelector": {"outer.$": "$.n", "inner.$": "$$.Map.Item.Value"},
        "ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Task", "Resource": "f", "End": true}}}
    });
    let outer = one(&json!({
        "Type": "Map", "End": true,
        "ItemSelector": {"n.$": "$$.Map.Item.Value", "list": [7, 8]},
        "ItemProcessor": {"StartAt": "M", "States": {"M": inner}}
    }));
    assert_eq!(
        run(&outer, json!([1, 2]), &echo()).await,
        Ok(json!([
            [{"outer": 1, "inner": 7}, {"outer": 1, "inner": 8}],
            [{"outer": 2, "inner": 7}, {"outer": 2, "inner": 8}]
        ]))
    );
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

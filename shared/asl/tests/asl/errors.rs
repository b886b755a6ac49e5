//! Retry, Catch, time-outs and limits.

use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Notes, Scripted, execution, failed, observed};
use crate::walk::{echo, failing, machine, one, run};
use highwater_asl::{Options, Pause, StateMachine, walk};
use serde_json::{Value, json};

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
            ..Options::default()
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

#[tokio::test]
async fn retries_can_be_left_to_the_caller() {
    let machine = one(&json!({
        "Type": "Task", "Resource": "f", "End": true,
        "Retry": [{"ErrorEquals": ["A"], "MaxAttempts": 5}]
    }));
    let options = Options {
        retries: false,
        ..Options::default()
    };
    let failed = walk(
        &machine,
        json!({}),
        &execution(),
        &failing(&["A"]),
        &options,
    )
    .await;
    assert_eq!(failed.unwrap_err().error, "A");
}

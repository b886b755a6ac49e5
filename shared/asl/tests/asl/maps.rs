//! Map: order, concurrency, failure, nesting.

use crate::scripted::{Scripted, failed};
use crate::walk::{echo, one, run};
use highwater_asl::{ExecutionFailed, StateMachine};
use serde_json::{Value, json};

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

/// The same Map, each iteration in an execution of its own.
fn distributed(fields: &Value) -> StateMachine {
    let mut processor = json!({"StartAt": "I", "States": {
        "I": {"Type": "Task", "Resource": "f", "End": true}
    }});
    processor["ProcessorConfig"] = json!({"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"});
    let mut all = json!({"ItemProcessor": processor});
    for (name, value) in fields.as_object().unwrap() {
        all[name] = value.clone();
    }
    mapping(&all)
}

#[tokio::test]
async fn a_distributed_map_gathers_the_childrens_outputs_in_order() {
    let machine = distributed(&json!({
        "ItemSelector": {"i.$": "$$.Map.Item.Index", "run.$": "$$.Execution.Id"}, "ResultPath": "$.out",
        "ToleratedFailurePercentage": 0, "Label": "Children", "MaxConcurrencyPath": "$.c"
    }));
    let id = crate::scripted::execution().id;
    let tasks = echo();
    let output = run(&machine, json!({"list": ["a", "b", "c"], "c": 2}), &tasks).await;
    assert_eq!(
        output.unwrap()["out"],
        json!([{"i": 0, "run": id}, {"i": 1, "run": id}, {"i": 2, "run": id}]),
        "an ItemSelector sees the parent's execution"
    );
    assert_eq!(tasks.most(), 2);
    let wide = echo();
    let list: Vec<u32> = (0..100).collect();
    let none = distributed(&json!({"MaxConcurrency": 0}));
    run(&none, json!({"list": list}), &wide).await.unwrap();
    assert_eq!(wide.most(), 100, "an inline one would run 40");
}

#[tokio::test]
async fn a_child_is_an_execution_of_its_own() {
    let inside = |path: &str| {
        let processor = json!({
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "P", "States": {"P": {"Type": "Pass", "Parameters": {"seen.$": path}, "End": true}}
        });
        mapping(&json!({"ItemProcessor": processor}))
    };
    let seen = async |path: &str| run(&inside(path), json!({"list": ["a"]}), &echo()).await;
    let parent = crate::scripted::execution().id;
    assert_eq!(
        seen("$$.Execution.Id").await,
        Ok(json!([{"seen": format!("{parent}/S:0")}]))
    );
    assert_eq!(
        seen("$$.Execution.Input").await,
        Ok(json!([{"seen": "a"}])),
        "its input is the item, and not the parent's input"
    );
    for path in ["$$.Map.Item.Value", "$$.Execution.StartTime"] {
        let failure = seen(path).await.unwrap_err();
        assert_eq!(
            failure.error, "States.ExceedToleratedFailureThreshold",
            "{path} is not told to a child"
        );
    }
}

#[tokio::test]
async fn a_failed_child_stops_the_others_and_its_reason_is_its_own() {
    let script = |_: &str, item: &Value, _: usize| match item.as_u64() {
        Some(3) => Some(failed("A")),
        Some(0..=2) => Some(Ok(item.clone())),
        _ => None,
    };
    let tasks = Scripted::new(script);
    let clock = std::sync::Arc::default();
    let (options, events) = crate::scripted::observed(&clock);
    let machine = distributed(&json!({
        "MaxConcurrency": 4,
        "Catch": [
            {"ErrorEquals": ["A"], "Next": "Bad"},
            {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Good"}
        ]
    }));
    let input = json!({"list": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]});
    let execution = crate::scripted::execution();
    let output = highwater_asl::walk(&machine, input, &execution, &tasks, &options).await;
    assert_eq!(
        output.unwrap()["failure"],
        json!({
            "Error": "States.ExceedToleratedFailureThreshold",
            "Cause": "The specified tolerated failure threshold was exceeded"
        })
    );
    assert!(tasks.calls().len() < 10, "those that wait never begin");
    assert!(tasks.dropped() > 0, "those under way are stopped");
    assert!(
        events.lock().unwrap().contains(&"x I A".to_owned()),
        "an onlooker sees what failed the child"
    );
}

/// The list of outputs passes from state to state, as everything else does.
#[tokio::test]
async fn what_the_children_put_out_must_fit_a_payload() {
    let tasks = Scripted::new(|_, _, _| Some(Ok(json!("x".repeat(100_000)))));
    let machine = distributed(&json!({"ResultPath": null}));
    let failure = run(&machine, json!({"list": [1, 2, 3]}), &tasks).await;
    assert_eq!(failure.unwrap_err().error, "States.DataLimitExceeded");
}

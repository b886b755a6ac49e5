//! What a definition may say, and what is refused by name.

use std::collections::{BTreeMap, BTreeSet};

use highwater_asl::definition::{Kind, Resource};
use highwater_asl::{DefinitionError, StateMachine};
use serde_json::{Value, json};

fn parse(definition: &Value) -> Result<StateMachine, DefinitionError> {
    StateMachine::parse(&definition.to_string(), &BTreeMap::new())
}

/// A machine of one Task state `S`, with these fields over the usual ones; `null` takes a field away.
fn with_task(fields: &Value) -> Value {
    let mut task = json!({"Type": "Task", "Resource": "fn", "End": true});
    for (name, value) in fields.as_object().unwrap() {
        if value == &json!("-") {
            task.as_object_mut().unwrap().remove(name);
        } else {
            task[name] = value.clone();
        }
    }
    json!({"StartAt": "S", "States": {"S": task}})
}

fn refusal(definition: &Value) -> String {
    parse(definition).unwrap_err().to_string()
}

#[test]
fn what_is_not_implemented_is_refused_with_state_and_field() {
    for (fields, place) in [
        (json!({"HeartbeatSeconds": 5}), "HeartbeatSeconds"),
        (json!({"TimeoutSecondsPath": "$.t"}), "TimeoutSecondsPath"),
        (json!({"Credentials": {}}), "Credentials"),
        (json!({"Assign": {}}), "Assign"),
        (json!({"QueryLanguage": "JSONata"}), "QueryLanguage"),
        (json!({"Type": "Parallel"}), "Type"),
        (
            json!({"Resource": "arn:aws:states:::sqs:sendMessage"}),
            "Resource",
        ),
        (
            json!({"Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken"}),
            "Resource",
        ),
        (
            json!({"Parameters": {"x.$": "States.UUID()"}}),
            "Parameters",
        ),
        (json!({"InputPath": "$..x"}), "InputPath"),
        (
            json!({"ResultSelector": {"x.$": "$$.Task.Token"}}),
            "ResultSelector",
        ),
        (
            json!({"Retry": [{"ErrorEquals": ["E"], "Delay": 1}]}),
            "Retry[0].Delay",
        ),
        (
            json!({"Catch": [{"ErrorEquals": ["E"], "Next": "S", "Assign": {}}]}),
            "Catch[0].Assign",
        ),
    ] {
        let error = parse(&with_task(&fields)).unwrap_err();
        let DefinitionError::Unsupported { state, field, .. } = &error else {
            panic!("{fields}: {error}");
        };
        assert_eq!((state.as_str(), field.as_str()), ("S", place), "{fields}");
    }
    let mut top = with_task(&json!({}));
    top["TimeoutSeconds"] = json!(5);
    assert!(refusal(&top).contains("state (definition): TimeoutSeconds"));
}

/// A machine of one distributed Map, with these fields over the usual ones, and this `ProcessorConfig`.
fn with_map(fields: &Value, config: &Value) -> Value {
    let mut map = json!({"Type": "Map", "End": true, "ItemProcessor": {
        "ProcessorConfig": config, "StartAt": "I", "States": {"I": {"Type": "Succeed"}}
    }});
    for (name, value) in fields.as_object().unwrap() {
        map[name] = value.clone();
    }
    json!({"StartAt": "S", "States": {"S": map}})
}

#[test]
fn of_a_distributed_map_what_is_not_implemented_is_refused() {
    let children = json!({"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"});
    let same = json!({"ToleratedFailureCount": 0, "ToleratedFailurePercentage": 0, "Label": "L"});
    parse(&with_map(&same, &children)).unwrap();
    for (fields, config, place) in [
        (json!({}), json!({"Mode": "PARALLEL"}), "Mode"),
        (json!({}), json!({"Mode": "DISTRIBUTED"}), "ExecutionType"),
        (
            json!({}),
            json!({"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}),
            "ExecutionType",
        ),
        (
            json!({}),
            json!({"Mode": "INLINE", "ExecutionType": "STANDARD"}),
            "ExecutionType",
        ),
        (json!({"Label": "L"}), json!({"Mode": "INLINE"}), "Label"),
        (json!({"Label": "L".repeat(41)}), children.clone(), "Label"),
        (
            json!({"ToleratedFailureCount": 1}),
            children.clone(),
            "ToleratedFailureCount",
        ),
        (
            json!({"ToleratedFailurePercentage": 100}),
            children.clone(),
            "ToleratedFailurePercentage",
        ),
        (json!({"ItemReader": {}}), children.clone(), "ItemReader"),
        (json!({"ItemBatcher": {}}), children.clone(), "ItemBatcher"),
        (json!({"ResultWriter": {}}), children, "ResultWriter"),
    ] {
        let refused = refusal(&with_map(&fields, &config));
        assert!(
            refused.contains("state S") && refused.contains(place),
            "{refused}"
        );
    }
}

#[test]
fn starting_an_execution_takes_a_machine_and_its_input() {
    let resource = "arn:aws:states:::states:startExecution";
    let start = |parameters: Value| {
        refusal(&with_task(
            &json!({"Resource": resource, "Parameters": parameters}),
        ))
    };
    let input = json!({"x": 1});
    for (parameters, place) in [
        (json!({"Input": input}), "Parameters.StateMachineArn"),
        (json!({"StateMachineArn": "m"}), "Parameters.Input"),
        (
            json!({"StateMachineArn": "m", "Input": input, "Input.$": "$"}),
            "Parameters.Input",
        ),
        (
            json!({"StateMachineArn": "m", "Input": input, "Name.$": "$.n"}),
            "Parameters.Name.$",
        ),
    ] {
        let refused = start(parameters);
        assert!(refused.contains(place), "{refused}");
    }
    let without = refusal(&with_task(&json!({"Resource": resource})));
    assert!(without.contains("Parameters is missing"), "{without}");
}

#[test]
fn wrong_values_are_refused_with_state_and_field() {
    let retry = |fields: Value| {
        let mut retrier = json!({"ErrorEquals": ["E"]});
        for (name, value) in fields.as_object().unwrap() {
            retrier[name] = value.clone();
        }
        json!({"Retry": [retrier]})
    };
    for (fields, place) in [
        (json!({"TimeoutSeconds": 0}), "TimeoutSeconds"),
        (json!({"TimeoutSeconds": 1.5}), "TimeoutSeconds"),
        (json!({"TimeoutSeconds": "60"}), "TimeoutSeconds"),
        (json!({"End": false}), "End"),
        (json!({"Next": "S"}), "End"),
        (json!({"Parameters": []}), "Parameters"),
        (json!({"ResultPath": "$.a[0]"}), "ResultPath"),
        (json!({"ResultPath": 7}), "ResultPath"),
        (json!({"Retry": {}}), "Retry"),
        (json!({"Retry": [7]}), "Retry[0]"),
        (retry(json!({"ErrorEquals": []})), "Retry[0].ErrorEquals"),
        (retry(json!({"ErrorEquals": [7]})), "Retry[0].ErrorEquals"),
        (
            retry(json!({"IntervalSeconds": 0})),
            "Retry[0].IntervalSeconds",
        ),
        (retry(json!({"MaxAttempts": -1})), "Retry[0].MaxAttempts"),
        (retry(json!({"BackoffRate": 0.5})), "Retry[0].BackoffRate"),
        (
            retry(json!({"JitterStrategy": "SOME"})),
            "Retry[0].JitterStrategy",
        ),
        (
            retry(json!({"IntervalSeconds": 9, "MaxDelaySeconds": 9})),
            "Retry[0].MaxDelaySeconds",
        ),
        (
            json!({"Retry": [{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["E"]}]}),
            "Retry[0].ErrorEquals",
        ),
        (
            json!({"Catch": [{"ErrorEquals": ["E", "States.ALL"], "Next": "S"}]}),
            "Catch[0].ErrorEquals",
        ),
        (json!({"Resource": "${Fn"}), "Resource"),
        (json!({"Resource": "arn:${Region}:x"}), "Resource"),
        (json!({"Resource": ""}), "Resource"),
    ] {
        let error = parse(&with_task(&fields)).unwrap_err();
        let DefinitionError::Invalid { state, field, .. } = &error else {
            panic!("{fields}: {error}");
        };
        assert_eq!((state.as_str(), field.as_str()), ("S", place), "{fields}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (definition, place) in [
        (with_task(&json!({"Type": "-"})), ("S", "Type")),
        (with_task(&json!({"Resource": "-"})), ("S", "Resource")),
        (with_task(&json!({"End": "-"})), ("S", "Next")),
        (
            with_task(&json!({"Resource": "arn:aws:states:::lambda:invoke"})),
            ("S", "Parameters"),
        ),
        (
            with_task(&json!({
                "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"Payload": {}}
            })),
            ("S", "Parameters.FunctionName"),
        ),
        (
            with_task(&json!({"Retry": [{}]})),
            ("S", "Retry[0].ErrorEquals"),
        ),
        (
            with_task(&json!({"Catch": [{"ErrorEquals": ["E"]}]})),
            ("S", "Catch[0].Next"),
        ),
        (
            json!({"StartAt": "S", "States": {"S": {"Type": "Fail"}}}),
            ("S", "Error"),
        ),
        (
            json!({"StartAt": "S", "States": {"S": {"Type": "Wait", "End": true}}}),
            ("S", "Seconds"),
        ),
        (
            json!({"StartAt": "S", "States": {"S": {"Type": "Map", "End": true}}}),
            ("S", "ItemProcessor"),
        ),
        (
            json!({"StartAt": "S", "States": {"S": {
                "Type": "Choice", "Choices": [{"Variable": "$.x", "IsPresent": true, "Next": "S"}]
            }}}),
            ("S", "Default"),
        ),
        (
            json!({"StartAt": "S", "States": {"S": {"Type": "Choice", "Choices": [], "Default": "S"}}}),
            ("S", "Choices"),
        ),
        (json!({"States": {}}), ("(definition)", "StartAt")),
        (json!({"StartAt": "S"}), ("(definition)", "States")),
    ] {
        let error = parse(&definition).unwrap_err();
        let DefinitionError::Missing { state, field } = &error else {
            panic!("{definition}: {error}");
        };
        assert_eq!((state.as_str(), field.as_str()), place, "{definition}");
    }
}

#[test]
fn a_choice_rule_of_an_unknown_operator_is_refused() {
    let choice = |rule: Value| {
        json!({"StartAt": "C", "States": {
            "C": {"Type": "Choice", "Choices": [rule], "Default": "E"}, "E": {"Type": "Succeed"}
        }})
    };
    for (rule, place) in [
        (
            json!({"Variable": "$.x", "StringMatches": "a*", "Next": "E"}),
            "Choices[0].Variable",
        ),
        (
            json!({"Variable": "$.x", "IsPresent": true, "IsNull": true, "Next": "E"}),
            "Choices[0].IsNull",
        ),
        (
            json!({"Not": {"Variable": "$.x", "IsPresent": true, "Next": "E"}, "Next": "E"}),
            "Choices[0].Not.Next",
        ),
        (
            json!({"And": [{"Variable": "$.x", "IsPresent": true}, {"Variable": "$.x", "IsNull": true}], "Next": "E"}),
            "Choices[0].And[1].Variable",
        ),
    ] {
        let error = parse(&choice(rule)).unwrap_err();
        let DefinitionError::Unsupported { field, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(field, place);
    }
    assert!(
        refusal(&choice(
            json!({"Variable": "$.x", "NumericEquals": "5", "Next": "E"})
        ))
        .contains("Choices[0].NumericEquals")
    );
}

#[test]
fn a_map_takes_one_limit_and_a_processor_of_its_own() {
    let inline = json!({"Mode": "INLINE"});
    assert!(parse(&with_map(&json!({}), &inline)).is_ok());
    assert!(parse(&with_map(&json!({}), &json!({}))).is_ok());
    for (fields, place) in [
        (json!({"Iterator": {}}), "Iterator"),
        (json!({"ItemReader": {}}), "ItemReader"),
        (json!({"ToleratedFailureCount": 1}), "ToleratedFailureCount"),
        (
            json!({"MaxConcurrency": 1, "MaxConcurrencyPath": "$.c"}),
            "MaxConcurrency",
        ),
        (json!({"ItemProcessor": {}}), "ItemProcessor.StartAt"),
    ] {
        let error = refusal(&with_map(&fields, &inline));
        assert!(error.contains(&format!("state S: {place} ")), "{error}");
    }
}

#[test]
fn every_way_must_lead_to_a_state_and_to_an_end() {
    let machine = |start: &str, states: Value| json!({"StartAt": start, "States": states});
    let pass = |next: &str| json!({"Type": "Pass", "Next": next});
    let end = json!({"Type": "Succeed"});
    assert!(matches!(
        parse(&machine("Z", json!({"A": end}))),
        Err(DefinitionError::NoSuchState { state, field, target })
            if state == "(definition)" && field == "StartAt" && target == "Z"
    ));
    assert!(matches!(
        parse(&machine("A", json!({"A": pass("B")}))),
        Err(DefinitionError::NoSuchState { state, field, target })
            if state == "A" && field == "Next" && target == "B"
    ));
    let caught = json!({"A": {
        "Type": "Task", "Resource": "f", "End": true,
        "Catch": [{"ErrorEquals": ["E"], "Next": "A"}, {"ErrorEquals": ["States.ALL"], "Next": "B"}]
    }});
    assert!(matches!(
        parse(&machine("A", caught)),
        Err(DefinitionError::NoSuchState { field, .. }) if field == "Catch[1].Next"
    ));
    assert!(matches!(
        parse(&machine("A", json!({"A": end, "B": end}))),
        Err(DefinitionError::Unreachable { state }) if state == "B"
    ));
    assert!(matches!(
        parse(&machine("A", json!({"A": pass("B"), "B": pass("A")}))),
        Err(DefinitionError::Endless { state }) if state == "A"
    ));
    let branches = json!({
        "A": {"Type": "Choice", "Choices": [{"Variable": "$.x", "IsPresent": true, "Next": "B"}], "Default": "C"},
        "B": pass("B"), "C": end
    });
    assert!(
        matches!(
            parse(&machine("A", branches)),
            Err(DefinitionError::Endless { state }) if state == "B"
        ),
        "one dead end is enough"
    );
}

#[test]
fn a_maps_inside_is_a_scope_of_its_own() {
    let map = |inner: Value| {
        json!({"StartAt": "M", "States": {
            "M": {"Type": "Map", "ItemProcessor": inner, "Next": "E"}, "E": {"Type": "Succeed"}
        }})
    };
    assert!(
        matches!(
            parse(&map(json!({"StartAt": "I", "States": {"I": {"Type": "Pass", "Next": "E"}}}))),
            Err(DefinitionError::NoSuchState { state, target, .. }) if state == "I" && target == "E"
        ),
        "a transition cannot leave the map"
    );
    assert!(matches!(
        parse(&map(json!({"StartAt": "E", "States": {"E": {"Type": "Succeed"}}}))),
        Err(DefinitionError::Duplicate { state }) if state == "E"
    ));
    assert!(matches!(
        parse(&map(json!({"StartAt": "X", "States": {"I": {"Type": "Succeed"}}}))),
        Err(DefinitionError::NoSuchState { state, .. }) if state == "M"
    ));
}

#[test]
fn a_state_that_is_written_twice_is_not_lost_in_silence() {
    let text =
        r#"{"StartAt":"A","States":{"A":{"Type":"Fail","Error":"E"},"A":{"Type":"Succeed"}}}"#;
    let error = StateMachine::parse(text, &BTreeMap::new()).unwrap_err();
    let DefinitionError::Json(source) = error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("\"A\" is given twice"));
}

#[test]
fn names_in_dollar_braces_are_substituted_or_name_the_function() {
    let definition = json!({"StartAt": "A", "States": {
        "A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
              "Parameters": {"FunctionName": "${PlanArn}"}, "Next": "B"},
        "B": {"Type": "Task", "Resource": "${ScanArn}", "Next": "C"},
        "C": {"Type": "Task", "Resource": "arn:aws:lambda:${Region}:1:function:x", "End": true}
    }})
    .to_string();
    let given = BTreeMap::from([
        ("PlanArn".to_owned(), "plan-backup".to_owned()),
        ("Region".to_owned(), "eu-west-1".to_owned()),
    ]);
    let machine = StateMachine::parse(&definition, &given).unwrap();
    assert_eq!(
        machine.functions(),
        BTreeSet::from([
            "plan-backup",
            "ScanArn",
            "arn:aws:lambda:eu-west-1:1:function:x"
        ])
    );
    let Kind::Task(task) = &machine.states["A"].kind else {
        panic!("{:?}", machine.states["A"]);
    };
    assert_eq!(
        task.resource,
        Resource::LambdaInvoke {
            function: "plan-backup".into(),
            payload: None
        }
    );
}

#[test]
fn text_that_is_no_json_is_refused() {
    for text in ["", "[]", "{\"StartAt\":", "7"] {
        assert!(
            StateMachine::parse(text, &BTreeMap::new()).is_err(),
            "{text}"
        );
    }
}

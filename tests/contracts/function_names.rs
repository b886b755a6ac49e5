//! A state, its function, its folder and its events share one name. A function that no state calls is called by a
//! mapping or by a schedule, and shares its name with that.

use std::collections::{BTreeMap, BTreeSet};

use highwater_asl::StateMachine;
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::template::resources;

/// `PlanBackup` as `plan-backup`.
fn folder_of(state: &str) -> String {
    let mut folder = String::new();
    for letter in state.chars() {
        if letter.is_uppercase() && !folder.is_empty() {
            folder.push('-');
        }
        folder.extend(letter.to_lowercase());
    }
    folder
}

fn folders(parent: &str) -> BTreeSet<String> {
    let names = checkout::entries(parent).unwrap().into_iter();
    names
        .filter(|name| checkout::path(&format!("{parent}/{name}")).is_dir())
        .collect()
}

/// Every definition.
fn definitions() -> Vec<String> {
    let files = checkout::entries("statemachine").unwrap().into_iter();
    files.map(|file| format!("statemachine/{file}")).collect()
}

fn machine(file: &str) -> StateMachine {
    StateMachine::parse(&checkout::text(file).unwrap(), &BTreeMap::new()).unwrap()
}

/// `PlanBackupFunctionArn` of the definitions, as `PlanBackup`.
fn called() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in definitions() {
        let machine = machine(&file);
        for started in machine.machines() {
            let name = started.strip_suffix("StateMachineArn");
            let name = name.unwrap_or_else(|| panic!("{started}: no …StateMachineArn"));
            let known =
                definitions().contains(&format!("statemachine/{}.asl.json", folder_of(name)));
            assert!(known, "{file} starts {name}, which has no definition");
        }
        for placeholder in machine.functions() {
            let name = placeholder.strip_suffix("FunctionArn");
            let name = name.unwrap_or_else(|| panic!("{placeholder}: no …FunctionArn"));
            assert!(
                names.insert(name.to_owned()),
                "{name} is called by two machines"
            );
        }
    }
    names
}

/// Functions that the template itself calls, by a stream or by a schedule: `ConsumeStream`.
fn triggered() -> BTreeSet<String> {
    let function = |name: &str| {
        let name = name.strip_suffix("Function");
        name.unwrap_or_else(|| panic!("no …Function")).to_owned()
    };
    let mut names = BTreeSet::new();
    for (mapping, properties) in resources("AWS::Lambda::EventSourceMapping") {
        let of = function(properties["FunctionName"]["Ref"].as_str().unwrap());
        let place = mapping.strip_prefix(&format!("{of}Mapping"));
        let place = place.and_then(|place| place.parse::<u8>().ok());
        assert!(
            place.is_some(),
            "{mapping} is named after its function and its place"
        );
        names.insert(of);
    }
    for (name, properties) in resources("AWS::Serverless::Function") {
        if properties.get("Events").is_some() {
            assert!(names.insert(function(&name)), "{name} is triggered twice");
        }
    }
    names
}

#[test]
fn states_functions_folders_and_events_agree_one_to_one() {
    let mut callers = called();
    for name in triggered() {
        assert!(
            callers.insert(name.clone()),
            "{name} is a state and triggered, too"
        );
    }
    let expected: BTreeSet<String> = callers.iter().map(|caller| folder_of(caller)).collect();
    assert_eq!(folders("functions"), expected);
    assert_eq!(folders("events"), expected);
    let deployed = resources("AWS::Serverless::Function");
    assert_eq!(deployed.len(), expected.len());
    for (name, properties) in deployed {
        let state = name.strip_suffix("Function").unwrap();
        assert!(
            callers.contains(state),
            "{name} is deployed and never called"
        );
        let folder = folder_of(state);
        assert_eq!(properties["CodeUri"], format!("functions/{folder}"));
    }
}

#[test]
fn a_state_is_named_like_the_function_that_it_calls() {
    let mut states = BTreeSet::new();
    for file in definitions() {
        let machine = machine(&file);
        let names = machine
            .all_states()
            .into_iter()
            .map(|(name, _)| name.to_owned());
        states.extend(names);
    }
    for function in called() {
        assert!(states.contains(&function), "{function}");
    }
}

#[test]
fn the_template_fills_exactly_the_placeholders_of_the_definition() {
    let mut deployed = BTreeSet::new();
    for (name, resource) in resources("AWS::Serverless::StateMachine") {
        let definition = resource["DefinitionUri"].as_str().unwrap().to_owned();
        let mut substitutions = BTreeMap::new();
        for (placeholder, value) in resource["DefinitionSubstitutions"].as_object().unwrap() {
            let of = placeholder.strip_suffix("Arn").unwrap().to_owned();
            // A state machine's Ref is its ARN, and a function's is its name.
            let arn = if of.ends_with("Function") {
                json!({"Fn::GetAtt": [of, "Arn"]})
            } else {
                json!({"Ref": of})
            };
            assert_eq!(*value, arn, "{name}");
            substitutions.insert(placeholder.clone(), of);
        }
        let text = checkout::text(&definition).unwrap();
        let parsed = StateMachine::parse(&text, &substitutions).unwrap();
        let called: BTreeSet<&str> = parsed
            .functions()
            .union(&parsed.machines())
            .copied()
            .collect();
        let filled: BTreeSet<&str> = substitutions.values().map(String::as_str).collect();
        assert_eq!(called, filled, "{definition}");
        deployed.insert(definition);
    }
    assert_eq!(deployed, definitions().into_iter().collect());
}

#[test]
fn a_state_waits_longer_than_its_function_may_run() {
    fn timeouts(states: &Value, found: &mut BTreeMap<String, u64>) {
        for (name, state) in states.as_object().unwrap() {
            if let Some(seconds) = state["TimeoutSeconds"].as_u64() {
                found.insert(name.clone(), seconds);
            }
            if state["Type"] == "Map" {
                timeouts(&state["ItemProcessor"]["States"], found);
            }
        }
    }
    let mut found = BTreeMap::new();
    for file in definitions() {
        timeouts(&checkout::json(&file).unwrap()["States"], &mut found);
    }
    let seconds = |state: &str| {
        *found
            .get(state)
            .unwrap_or_else(|| panic!("{state} has no TimeoutSeconds"))
    };
    for (name, properties) in resources("AWS::Serverless::Function") {
        let state = name.strip_suffix("Function").unwrap();
        if triggered().contains(state) {
            continue;
        }
        let timeout = properties["Timeout"].as_u64().unwrap();
        assert!(
            seconds(state) > timeout,
            "{state}: the function's own end must come first"
        );
    }
}

#[test]
fn a_functions_main_only_wires() {
    for folder in folders("functions") {
        let manifest = checkout::text(&format!("functions/{folder}/Cargo.toml")).unwrap();
        assert!(
            manifest.contains(&format!("\nname = \"{folder}\"\n")),
            "{folder}"
        );
        let main = checkout::text(&format!("functions/{folder}/src/main.rs")).unwrap();
        assert!(main.lines().count() < 60, "{folder}: main.rs");
        assert_eq!(
            checkout::entries(&format!("functions/{folder}/src")).unwrap(),
            ["main.rs"],
            "{folder}: what is more than wiring belongs to the step"
        );
        // An audit is of one table, and the function's schedule may mean several.
        let step = match folder.as_str() {
            "audit-stream" => "audit_tables".to_owned(),
            folder => folder.replace('-', "_"),
        };
        assert!(
            main.contains(&format!("{step}::run(")),
            "{folder} runs the step of its name"
        );
    }
}

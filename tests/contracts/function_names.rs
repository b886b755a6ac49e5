//! A state, its function, its folder and its events share one name. A function that no state calls is called by a
//! mapping or by a schedule, and shares its name with that.

use std::collections::{BTreeMap, BTreeSet};

use highwater_asl::StateMachine;
use highwater_tests::checkout;
use serde_json::Value;

use super::template::Mapping;

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
    checkout::entries(parent).unwrap().into_iter().collect()
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
        for placeholder in machine(&file).functions() {
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
    let template = Mapping::template();
    let function = |name: &str| {
        let name = name.strip_suffix("Function");
        name.unwrap_or_else(|| panic!("no …Function")).to_owned()
    };
    let mut names = BTreeSet::new();
    for (mapping, properties) in template.resources("AWS::Lambda::EventSourceMapping") {
        let of = properties.value("FunctionName");
        let of = function(of.strip_prefix("!Ref ").unwrap());
        assert_eq!(mapping, format!("{of}Mapping"));
        assert!(names.insert(of), "{mapping}: its function has two");
    }
    for (name, properties) in template.resources("AWS::Serverless::Function") {
        let members = properties.members();
        if members.iter().any(|(member, ..)| member == "Events") {
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
    let template = Mapping::template();
    let deployed = template.resources("AWS::Serverless::Function");
    assert_eq!(deployed.len(), expected.len());
    for (name, properties) in deployed {
        let state = name.strip_suffix("Function").unwrap();
        assert!(
            callers.contains(state),
            "{name} is deployed and never called"
        );
        let folder = folder_of(state);
        assert_eq!(properties.value("CodeUri"), format!("functions/{folder}"));
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
    let template = Mapping::template();
    let mut deployed = BTreeSet::new();
    for (_, resource) in template.resources("AWS::Serverless::StateMachine") {
        let definition = resource.value("DefinitionUri");
        let mut substitutions = BTreeMap::new();
        for (placeholder, value, _) in resource.nested("DefinitionSubstitutions").members() {
            let function = placeholder.strip_suffix("Arn").unwrap().to_owned();
            assert_eq!(value, format!("!GetAtt {function}.Arn"));
            substitutions.insert(placeholder, function);
        }
        let text = checkout::text(&definition).unwrap();
        let parsed = StateMachine::parse(&text, &substitutions).unwrap();
        let functions: BTreeSet<&str> = substitutions.values().map(String::as_str).collect();
        assert_eq!(parsed.functions(), functions, "{definition}");
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
    for (name, properties) in Mapping::template().resources("AWS::Serverless::Function") {
        let state = name.strip_suffix("Function").unwrap();
        if triggered().contains(state) {
            continue;
        }
        let timeout: u64 = properties.value("Timeout").parse().unwrap();
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

//! A state, its function, its folder and its events share one name.

use std::collections::{BTreeMap, BTreeSet};

use highwater_asl::StateMachine;
use highwater_tests::checkout;

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

/// `PlanBackupFunctionArn` of the definition, as `PlanBackup`.
fn called() -> BTreeSet<String> {
    let text = checkout::text("statemachine/backup.asl.json").unwrap();
    let machine = StateMachine::parse(&text, &BTreeMap::new()).unwrap();
    let names = machine.functions().into_iter().map(|placeholder| {
        let name = placeholder.strip_suffix("FunctionArn");
        name.unwrap_or_else(|| panic!("{placeholder}: no …FunctionArn"))
            .to_owned()
    });
    names.collect()
}

#[test]
fn states_functions_folders_and_events_agree_one_to_one() {
    let expected: BTreeSet<String> = called().iter().map(|state| folder_of(state)).collect();
    assert_eq!(folders("functions"), expected);
    assert_eq!(folders("events"), expected);
    let template = Mapping::template();
    let deployed = template.resources("AWS::Serverless::Function");
    assert_eq!(deployed.len(), expected.len());
    for (name, properties) in deployed {
        let state = name.strip_suffix("Function").unwrap();
        assert!(
            called().contains(state),
            "{name} is deployed and never called"
        );
        let folder = folder_of(state);
        assert_eq!(properties.value("CodeUri"), format!("functions/{folder}"));
    }
}

#[test]
fn a_state_is_named_like_the_function_that_it_calls() {
    let text = checkout::text("statemachine/backup.asl.json").unwrap();
    let machine = StateMachine::parse(&text, &BTreeMap::new()).unwrap();
    let states: BTreeSet<&str> = machine
        .all_states()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for function in called() {
        assert!(states.contains(function.as_str()), "{function}");
    }
}

#[test]
fn the_template_fills_exactly_the_placeholders_of_the_definition() {
    let template = Mapping::template();
    let [(_, machine)] = &template.resources("AWS::Serverless::StateMachine")[..] else {
        panic!("one state machine");
    };
    let definition = machine.value("DefinitionUri");
    assert_eq!(definition, "statemachine/backup.asl.json");
    let mut substitutions = BTreeMap::new();
    for (placeholder, value, _) in machine.nested("DefinitionSubstitutions").members() {
        let resource = placeholder.strip_suffix("Arn").unwrap().to_owned();
        assert_eq!(value, format!("!GetAtt {resource}.Arn"));
        substitutions.insert(placeholder, resource);
    }
    let text = checkout::text(&definition).unwrap();
    let parsed = StateMachine::parse(&text, &substitutions).unwrap();
    let resources: BTreeSet<&str> = substitutions.values().map(String::as_str).collect();
    assert_eq!(parsed.functions(), resources);
}

#[test]
fn a_state_waits_longer_than_its_function_may_run() {
    let definition = checkout::json("statemachine/backup.asl.json").unwrap();
    let seconds = |state: &str| {
        let inner = &definition["States"]["ScanSegments"]["ItemProcessor"]["States"];
        let states = [&definition["States"], inner].into_iter();
        let mut found = states.filter_map(|states| states[state]["TimeoutSeconds"].as_u64());
        found
            .next()
            .unwrap_or_else(|| panic!("{state} has no TimeoutSeconds"))
    };
    for (name, properties) in Mapping::template().resources("AWS::Serverless::Function") {
        let state = name.strip_suffix("Function").unwrap();
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
        let step = folder.replace('-', "_");
        assert!(
            main.contains(&format!("{step}::run(")),
            "{folder} runs the step of its name"
        );
    }
}

//! Every error has its fate in the state machine, and the state machine names no error that nobody raises.

use std::collections::{BTreeMap, BTreeSet};

use highwater_asl::StateMachine;
use highwater_steps::ErrorName;
use highwater_tests::checkout;
use highwater_tests::error_docs::{Branch, documented_errors};
use serde_json::Value;

/// The definitions that call functions, and how many Tasks they have: the backup's three steps, the restore's five, and
/// two each that mark failures; and in child executions one step of the backup and three of the restore, each with a
/// Task that marks its failure.
const MACHINES: [&str; 2] = [
    "statemachine/backup.asl.json",
    "statemachine/restore.asl.json",
];
const TASKS: usize = 20;

/// The states that plan, and so may refuse a request.
const BOTH: &[&str] = &["PlanBackup", "PlanRestore"];

/// What becomes of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Another attempt may do better: named in every Retry.
    Retried,
    /// The request itself is at fault: these planning states catch it by name, and nothing was begun. From any
    /// other state it is fatal.
    Refused(&'static [&'static str]),
    /// Falls to `States.ALL`: the job is marked failed and can be resumed by a person.
    Fatal,
}

/// A new name does not compile until somebody has decided here.
#[expect(
    clippy::match_same_arms,
    reason = "the same fate for different reasons"
)]
fn fate(name: ErrorName) -> Fate {
    match name {
        // Time heals it, or a fresh process does.
        ErrorName::Throttled | ErrorName::TransientAws | ErrorName::Internal => Fate::Retried,
        ErrorName::InvalidInput | ErrorName::SnapshotNotFound => Fate::Refused(BOTH),
        // A stream that is not what it would have to be for the base of a restore to a second; a restore reads none.
        ErrorName::SnapshotExists | ErrorName::StoreUnsuitable | ErrorName::StreamUnsuitable => {
            Fate::Refused(&["PlanBackup"])
        }
        // No restore to this second.
        ErrorName::NotRestorable => Fate::Refused(&["PlanRestore"]),
        ErrorName::BackupIncomplete
        | ErrorName::TableExists
        | ErrorName::RestoreExists
        | ErrorName::RestoreNotFound => Fate::Refused(&["PlanRestore"]),
        // Nobody but a person can mend an item, or say what is to become of a half-imported table.
        ErrorName::ItemRejected | ErrorName::ImportFailed => Fate::Fatal,
        // A person must change something: a policy, a bucket, a table, the deployment.
        ErrorName::AccessDenied
        | ErrorName::TableNotFound
        | ErrorName::StoreNotFound
        | ErrorName::StoreNotWritable
        | ErrorName::Config => Fate::Fatal,
        // Another attempt would find the same: another backup must be begun.
        ErrorName::TableChanged
        | ErrorName::HandoffExpired
        | ErrorName::StreamChanged
        | ErrorName::PartCorrupt
        | ErrorName::PartMissing => Fate::Fatal,
        // Somebody wanted it to end, or somebody else has it: an attempt would work against them.
        ErrorName::Interrupted | ErrorName::LeaseLost => Fate::Fatal,
    }
}

fn with_fate(wanted: impl Fn(Fate) -> bool) -> BTreeSet<&'static str> {
    let names = ErrorName::ALL
        .into_iter()
        .filter(|name| wanted(fate(*name)));
    names.map(ErrorName::as_str).collect()
}

/// A Task, with what its own Retry and the Catch that its errors reach name, in order.
struct Task {
    retried: Vec<String>,
    caught: Vec<String>,
}

/// Every Task of the definitions, as the files have them; inside a Map without its own Catch, the Map's counts.
fn tasks() -> BTreeMap<String, Task> {
    let mut tasks = BTreeMap::new();
    for machine in MACHINES {
        collect(&checkout::json(machine).unwrap(), &[], &mut tasks);
    }
    // AbandonPlan is in both, and the same in both as far as these tests look.
    assert_eq!(tasks.len(), TASKS - 1, "{:?}", tasks.keys());
    tasks
}

fn collect(machine: &Value, outer: &[String], tasks: &mut BTreeMap<String, Task>) {
    for (name, state) in machine["States"].as_object().unwrap() {
        let mut caught = named(&state["Catch"]);
        // What is caught here reaches no Catch around it.
        if !caught.contains(&"States.ALL".to_owned()) {
            caught.extend_from_slice(outer);
        }
        match state["Type"].as_str() {
            Some("Task") => {
                let retried = named(&state["Retry"]);
                tasks.insert(name.clone(), Task { retried, caught });
            }
            Some("Map") => {
                assert!(
                    state["Retry"].is_null(),
                    "{name}: a Map that is retried scans everything again"
                );
                collect(&state["ItemProcessor"], &caught, tasks);
            }
            _ => {}
        }
    }
}

fn named(clauses: &Value) -> Vec<String> {
    let clauses = clauses.as_array().map_or(&[][..], Vec::as_slice).iter();
    let names = clauses.flat_map(|clause| clause["ErrorEquals"].as_array().unwrap());
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_state_machine_names_errors_that_exist() {
    let parse =
        |file| StateMachine::parse(&checkout::text(file).unwrap(), &BTreeMap::new()).unwrap();
    let machines = MACHINES.map(parse);
    let names = machines.iter().flat_map(StateMachine::error_names);
    for name in names {
        let of_aws = name.starts_with("Lambda.")
            || [
                "States.ALL",
                "States.Timeout",
                "Sandbox.Timedout",
                "Runtime.ExitError",
            ]
            .contains(&name);
        assert!(
            of_aws || ErrorName::parse(name).is_some(),
            "{name}: no function fails with this name"
        );
    }
}

#[test]
fn every_error_that_another_attempt_may_mend_is_retried_and_no_other() {
    let ours = with_fate(|fate| fate == Fate::Retried);
    for (state, task) in tasks() {
        assert!(
            !task
                .retried
                .iter()
                .any(|name| name == "States.ALL" || name == "States.TaskFailed"),
            "{state}: a wildcard would retry what must not be"
        );
        let retried: BTreeSet<&str> = task.retried.iter().map(String::as_str).collect();
        assert_eq!(
            retried.len(),
            task.retried.len(),
            "{state}: the second naming never counts"
        );
        let ours_retried: BTreeSet<&str> = retried
            .iter()
            .copied()
            .filter(|name| ErrorName::parse(name).is_some())
            .collect();
        assert_eq!(ours_retried, ours, "{state}");
        // A process that dies or overruns its time raises none of ours.
        for death in [
            "Lambda.Unknown",
            "States.Timeout",
            "Sandbox.Timedout",
            "Runtime.ExitError",
        ] {
            assert!(retried.contains(death), "{state}: {death}");
        }
    }
}

#[test]
fn what_was_interrupted_is_never_retried() {
    for (state, task) in tasks() {
        assert!(
            !task.retried.iter().any(|name| name == "Interrupted"),
            "{state}"
        );
    }
}

#[test]
fn every_other_error_is_refused_by_name_or_falls_to_the_catch_of_all() {
    for (state, task) in tasks() {
        let (last, named) = task.caught.split_last().expect("a Catch");
        assert_eq!(last, "States.ALL", "{state}");
        let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        let refused_here = |fate| matches!(fate, Fate::Refused(by) if by.contains(&state.as_str()));
        let expected = with_fate(refused_here);
        assert_eq!(named, expected, "{state}");
    }
}

/// The handbook's table has every error, in the enum's order, with the way that the definitions give it.
#[test]
fn the_handbook_says_what_the_definitions_do() {
    let documented = documented_errors().unwrap();
    assert_eq!(documented.names, ErrorName::ALL.map(ErrorName::as_str));
    for name in ErrorName::ALL {
        let expected = match fate(name) {
            Fate::Fatal => Branch::Failed,
            Fate::Refused(states) => {
                Branch::RefusedBy(states.iter().map(|it| (*it).to_owned()).collect())
            }
            Fate::Retried => {
                let mut times = BTreeSet::new();
                for machine in MACHINES {
                    retries(&checkout::json(machine).unwrap(), name.as_str(), &mut times);
                }
                assert_eq!(
                    times.len(),
                    1,
                    "{name:?} is retried as often everywhere: {times:?}"
                );
                Branch::Retried(times.pop_first().unwrap())
            }
        };
        assert_eq!(documented.branches[name.as_str()], expected, "{name:?}");
    }
}

/// How often an error is retried, by each clause that names it.
fn retries(value: &Value, name: &str, times: &mut BTreeSet<u64>) {
    for (member, value) in value.as_object().into_iter().flatten() {
        if member == "Retry" {
            let clauses = value.as_array().unwrap().iter();
            let of_name =
                clauses.filter(|it| it["ErrorEquals"].as_array().unwrap().contains(&name.into()));
            times.extend(of_name.map(|it| it["MaxAttempts"].as_u64().unwrap()));
        } else {
            retries(value, name, times);
        }
    }
}

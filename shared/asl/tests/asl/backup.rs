//! The deployed definition itself, `statemachine/backup.asl.json`, walked with scripted functions.

#![allow(
    clippy::unnecessary_wraps,
    reason = "a script answers as a function does: with a result"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::scripted::{Answer, Notes, Scripted, execution, failed, observed};
use highwater_asl::definition::Kind;
use highwater_asl::{ExecutionFailed, Pause, StateMachine, walk};
use serde_json::{Value, json};

const BACKUP: &str = include_str!("../../../../statemachine/backup.asl.json");
const SNAPSHOT: &str = "01768385930622-efd1a093";
const PLAN: &str = "PlanBackupFunctionArn";
const SCAN: &str = "ScanSegmentFunctionArn";
const FINALIZE: &str = "FinalizeBackupFunctionArn";

fn definition() -> StateMachine {
    StateMachine::parse(BACKUP, &BTreeMap::new()).unwrap()
}

fn request() -> Value {
    json!({"table": "orders", "to": "s3://bucket/prefix", "concurrency": 3})
}

fn plan(segments: u32) -> Answer {
    planned(segments, false)
}

fn planned(segments: u32, distributed: bool) -> Answer {
    let segments: Vec<u32> = (0..segments).collect();
    Ok(json!({
        "snapshot_id": SNAPSHOT, "segments": segments, "concurrency": 3, "distributed": distributed
    }))
}

fn scanned(payload: &Value, done: bool) -> Answer {
    Ok(json!({"snapshot_id": SNAPSHOT, "segment": payload["segment"], "done": done}))
}

fn finalized(done: bool) -> Answer {
    let status = if done { "completed" } else { "running" };
    Ok(json!({"snapshot_id": SNAPSHOT, "done": done, "status": status}))
}

fn marked() -> Answer {
    Ok(json!({"snapshot_id": SNAPSHOT, "done": true, "status": "failed"}))
}

/// What the functions do when all goes well.
fn well(function: &str, payload: &Value) -> Answer {
    match function {
        PLAN => plan(8),
        SCAN => scanned(payload, true),
        _ if payload.get("failure").is_some() => marked(),
        _ => finalized(true),
    }
}

struct Run {
    result: Result<Value, ExecutionFailed>,
    events: Vec<String>,
    clock: Arc<Notes>,
}

async fn run(tasks: &Scripted) -> Run {
    run_with(request(), tasks).await
}

async fn run_with(input: Value, tasks: &Scripted) -> Run {
    let clock = Arc::new(Notes::default());
    let (options, events) = observed(&clock);
    let result = walk(&definition(), input, &execution(), tasks, &options).await;
    let events = events.lock().unwrap().clone();
    Run {
        result,
        events,
        clock,
    }
}

#[tokio::test]
async fn a_backup_plans_scans_every_segment_and_seals() {
    let tasks = Scripted::new(|function, payload, _| Some(well(function, payload)));
    let run = run(&tasks).await;
    assert_eq!(
        run.result,
        Ok(json!({"snapshot_id": SNAPSHOT, "done": true, "status": "completed"}))
    );
    let started = execution();
    assert_eq!(
        tasks.payloads(PLAN),
        [
            json!({"request": request(), "execution_id": started.id, "started_at": started.start_time})
        ]
    );
    let mut segments: Vec<u64> = tasks
        .payloads(SCAN)
        .iter()
        .map(|payload| {
            assert_eq!(payload["snapshot_id"], SNAPSHOT);
            assert_eq!(payload.as_object().unwrap().len(), 2, "{payload}");
            payload["segment"].as_u64().unwrap()
        })
        .collect();
    segments.sort_unstable();
    assert_eq!(segments, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        tasks.payloads(FINALIZE),
        [json!({"snapshot_id": SNAPSHOT, "execution_id": started.id})]
    );
    assert_eq!(tasks.most(), 3, "the plan's concurrency is used and kept");
    assert!(run.clock.of(Pause::Retry).is_empty());
}

#[tokio::test]
async fn the_state_between_the_steps_is_the_plan_and_the_executions_id() {
    let tasks = Scripted::new(|function, payload, _| Some(well(function, payload)));
    let clock = Arc::new(Notes::default());
    let (mut options, _) = observed(&clock);
    let seen: Arc<std::sync::Mutex<Vec<Value>>> = Arc::default();
    let sink = Arc::clone(&seen);
    options.observer = Some(Arc::new(move |event| {
        if let highwater_asl::Event::Entered {
            state: "ScanSegments" | "FinalizeBackup",
            input,
            ..
        } = event
        {
            sink.lock().unwrap().push((*input).clone());
        }
    }));
    walk(&definition(), request(), &execution(), &tasks, &options)
        .await
        .unwrap();
    let state = json!({
        "snapshot_id": SNAPSHOT, "segments": [0, 1, 2, 3, 4, 5, 6, 7], "concurrency": 3,
        "distributed": false, "execution_id": execution().id
    });
    assert_eq!(*seen.lock().unwrap(), [state.clone(), state]);
}

#[tokio::test]
async fn a_snapshot_without_segments_left_goes_straight_to_the_seal() {
    let tasks = Scripted::new(|function, payload, _| {
        Some(if function == PLAN {
            plan(0)
        } else {
            well(function, payload)
        })
    });
    assert!(run(&tasks).await.result.is_ok());
    assert!(tasks.payloads(SCAN).is_empty());
}

#[tokio::test]
async fn a_segment_is_scanned_in_as_many_rounds_as_it_takes_and_leads_to_the_next() {
    // Segment 0 takes three rounds, then its branch goes on with segment 1.
    let tasks = Scripted::new(|function, payload, call| {
        Some(match (function, call) {
            (PLAN, _) => plan(1),
            (SCAN, 1 | 2) => scanned(payload, false),
            (SCAN, 3) => Ok(json!({"snapshot_id": SNAPSHOT, "segment": 1, "done": false})),
            _ => well(function, payload),
        })
    });
    assert!(run(&tasks).await.result.is_ok());
    let segments: Vec<Value> = tasks
        .payloads(SCAN)
        .iter()
        .map(|payload| payload["segment"].clone())
        .collect();
    assert_eq!(segments, [0, 0, 0, 1]);
}

#[tokio::test]
async fn finalizing_takes_rounds_too() {
    let tasks = Scripted::new(|function, payload, call| {
        Some(match function {
            PLAN => plan(1),
            FINALIZE => finalized(call >= 5),
            _ => well(function, payload),
        })
    });
    assert!(run(&tasks).await.result.is_ok());
    let payloads = tasks.payloads(FINALIZE);
    assert_eq!(payloads.len(), 4);
    assert!(
        payloads.iter().all(|payload| *payload == payloads[0]),
        "{payloads:?}"
    );
}

#[tokio::test]
async fn passing_troubles_are_retried_in_every_task() {
    for (function, fail_at) in [(PLAN, 0), (SCAN, 1), (FINALIZE, 2)] {
        for (error, retries) in [
            ("Throttled", 8),
            ("TransientAws", 6),
            ("Lambda.TooManyRequestsException", 6),
            ("States.Timeout", 3),
            ("Sandbox.Timedout", 3),
            ("Runtime.ExitError", 3),
            ("Internal", 1),
        ] {
            let tasks = Scripted::new(move |called, payload, call| {
                Some(match called {
                    _ if called == function && (fail_at..fail_at + retries).contains(&call) => {
                        failed(error)
                    }
                    PLAN => plan(1),
                    _ => well(called, payload),
                })
            });
            let run = run(&tasks).await;
            assert!(run.result.is_ok(), "{function} {error}: {:?}", run.result);
            let pauses = run.clock.of(Pause::Retry);
            assert_eq!(pauses.len(), retries, "{function} {error}");
            assert!(pauses.iter().all(|pause| pause.as_secs() <= 60));
        }
    }
}

#[tokio::test]
async fn what_trying_again_cannot_mend_is_tried_once() {
    let errors = "AccessDenied TableNotFound StoreNotFound StoreUnsuitable StoreNotWritable SnapshotExists SnapshotNotFound \
        TableChanged PartCorrupt PartMissing InvalidInput Config Interrupted";
    for error in errors.split(' ') {
        let tasks = Scripted::new(move |function, payload, _| {
            Some(match function {
                PLAN => plan(1),
                SCAN => failed(error),
                _ => well(function, payload),
            })
        });
        let run = run(&tasks).await;
        assert_eq!(run.result.unwrap_err().error, error);
        assert_eq!(tasks.payloads(SCAN).len(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_failed_scan_marks_the_snapshot_and_keeps_its_own_error() {
    let tasks = Scripted::new(|function, payload, _| {
        Some(match function {
            SCAN if payload["segment"] == 2 => failed("PartCorrupt"),
            _ => well(function, payload),
        })
    });
    let run = run(&tasks).await;
    assert_eq!(
        run.result,
        Err(ExecutionFailed {
            state: "BackupFailed".into(),
            error: "PartCorrupt".into(),
            cause: "the story of PartCorrupt".into()
        })
    );
    assert_eq!(
        tasks.payloads(FINALIZE),
        [json!({
            "snapshot_id": SNAPSHOT, "execution_id": execution().id,
            "failure": {"Error": "PartCorrupt", "Cause": "the story of PartCorrupt"}
        })],
        "it is marked, and never sealed"
    );
    assert!(
        run.events
            .contains(&"! ScanSegments PartCorrupt -> MarkFailed".to_owned())
    );
}

#[tokio::test]
async fn a_failed_check_marks_the_snapshot_too() {
    let tasks = Scripted::new(|function, payload, _| {
        Some(match function {
            FINALIZE if payload.get("failure").is_none() => failed("PartMissing"),
            _ => well(function, payload),
        })
    });
    let run = run(&tasks).await;
    assert_eq!(run.result.unwrap_err().error, "PartMissing");
    assert_eq!(tasks.payloads(FINALIZE).len(), 2);
    assert!(
        run.events
            .contains(&"! FinalizeBackup PartMissing -> MarkFailed".to_owned())
    );
}

#[tokio::test]
async fn a_failure_to_mark_does_not_hide_the_first_one() {
    for first in [PLAN, SCAN] {
        let tasks = Scripted::new(move |function, payload, _| {
            Some(match function {
                _ if function == first => failed("StoreNotWritable"),
                FINALIZE => failed("AccessDenied"),
                _ => well(function, payload),
            })
        });
        let failure = run(&tasks).await.result.unwrap_err();
        assert_eq!(
            (failure.state.as_str(), failure.error.as_str()),
            ("BackupFailed", "StoreNotWritable")
        );
        assert_eq!(failure.cause, "the story of StoreNotWritable");
    }
}

#[tokio::test]
async fn a_refused_request_ends_at_once_whatever_the_input_was() {
    for error in [
        "InvalidInput",
        "SnapshotExists",
        "SnapshotNotFound",
        "StoreUnsuitable",
    ] {
        for input in [request(), json!("not even an object"), json!(null)] {
            let tasks = Scripted::new(move |_, _, _| Some(failed(error)));
            let run = run_with(input, &tasks).await;
            assert_eq!(
                run.result,
                Err(ExecutionFailed {
                    state: "BackupRefused".into(),
                    error: error.into(),
                    cause: format!("the story of {error}")
                })
            );
            assert_eq!(tasks.calls().len(), 1, "nothing else is called");
        }
    }
}

#[tokio::test]
async fn a_plan_that_broke_off_is_abandoned_by_execution_and_request() {
    let tasks = Scripted::new(|function, payload, _| {
        Some(if function == PLAN {
            failed("Interrupted")
        } else {
            well(function, payload)
        })
    });
    let run = run(&tasks).await;
    let failure = run.result.unwrap_err();
    assert_eq!(
        (failure.state.as_str(), failure.error.as_str()),
        ("BackupFailed", "Interrupted")
    );
    let started = execution();
    assert_eq!(
        tasks.payloads(FINALIZE),
        [json!({
            "execution_id": started.id, "started_at": started.start_time, "request": request(),
            "failure": {"Error": "Interrupted", "Cause": "the story of Interrupted"}
        })]
    );
}

/// A plan that one history would not hold.
fn apart(function: &str, payload: &Value) -> Answer {
    match function {
        PLAN => planned(8, true),
        _ => well(function, payload),
    }
}

#[tokio::test]
async fn a_wide_backup_scans_in_children_and_seals() {
    // Segment 2 takes two rounds: its child goes on from its answer.
    let tasks = Scripted::new(|function, payload, call| {
        Some(match (function, call) {
            (SCAN, 3) => scanned(payload, false),
            _ => apart(function, payload),
        })
    });
    let run = run(&tasks).await;
    assert_eq!(run.result.unwrap()["status"], "completed");
    let mut scans = tasks.payloads(SCAN);
    assert_eq!(scans.len(), 9);
    scans.dedup();
    assert!(
        scans.iter().all(|it| it.as_object().unwrap().len() == 2),
        "a child's input and a round's answer ask for the same: {scans:?}"
    );
    assert_eq!(tasks.most(), 3, "the plan's concurrency is used and kept");
    assert!(run.events.contains(&"> ScanSegmentInChild[7]".to_owned()));
    assert!(!run.events.iter().any(|event| event == "> ScanSegments"));
}

#[tokio::test]
async fn a_failed_child_tells_the_reason_before_its_map_loses_it() {
    let tasks = Scripted::new(|function, payload, _| {
        Some(match function {
            SCAN if payload["segment"] == 2 => failed("PartCorrupt"),
            _ => apart(function, payload),
        })
    });
    let run = run(&tasks).await;
    let failure = run.result.unwrap_err();
    let lost = "States.ExceedToleratedFailureThreshold";
    assert_eq!(
        (failure.state.as_str(), failure.error.as_str()),
        ("BackupFailed", lost)
    );
    let marks = tasks.payloads(FINALIZE);
    assert_eq!(
        marks[0],
        json!({
            "snapshot_id": SNAPSHOT, "execution_id": execution().id,
            "failure": {"Error": "PartCorrupt", "Cause": "the story of PartCorrupt"}
        }),
        "the child names its parent's execution"
    );
    let errors: Vec<&Value> = marks.iter().map(|mark| &mark["failure"]["Error"]).collect();
    assert_eq!(errors, ["PartCorrupt", lost], "and it is never sealed");
}

/// The branches do the same in children as inline, but for what only a child can do: say why it failed.
#[test]
fn a_child_does_what_an_inline_branch_does() {
    for definition in [
        include_str!("../../../../statemachine/backup.asl.json"),
        include_str!("../../../../statemachine/restore.asl.json"),
    ] {
        let definition: Value = serde_json::from_str(definition).unwrap();
        let states = definition["States"].as_object().unwrap();
        let inline = states
            .iter()
            .filter(|(_, state)| state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "INLINE");
        let mut pairs = 0;
        for (name, map) in inline {
            let twin = &states[&format!("{name}InChildren")];
            let of_twin = twin["ItemProcessor"]["States"].as_object().unwrap();
            let branch = map["ItemProcessor"]["States"].as_object().unwrap();
            assert_eq!(of_twin.len(), branch.len() + 2, "a mark and a failure more");
            for (state, body) in branch {
                let renamed = branch.keys().fold(body.to_string(), |text, name| {
                    text.replace(&format!("{name:?}"), &format!("{:?}", in_child(name)))
                });
                let mut expected: Value = serde_json::from_str(&renamed).unwrap();
                let mut own = of_twin[&in_child(state)].clone();
                for member in ["Comment", "Catch"] {
                    expected.as_object_mut().unwrap().remove(member);
                    own.as_object_mut().unwrap().remove(member);
                }
                if body["Type"] == "Succeed" {
                    expected["OutputPath"] = Value::Null;
                }
                assert_eq!(own, expected, "{state}");
            }
            for member in ["ItemsPath", "MaxConcurrencyPath", "ResultPath", "Catch"] {
                assert_eq!(map[member], twin[member], "{name}: {member}");
            }
            pairs += 1;
        }
        assert!(pairs > 0);
    }
}

/// `SegmentDone?` as `SegmentDoneInChild?`.
fn in_child(state: &str) -> String {
    match state.strip_suffix('?') {
        Some(asked) => format!("{asked}InChild?"),
        None => format!("{state}InChild"),
    }
}

#[test]
fn every_state_says_what_it_is_for_and_every_task_has_its_time() {
    let definition = definition();
    for (name, state) in definition.all_states() {
        assert!(
            state.comment.as_ref().is_some_and(|text| text.len() > 20),
            "{name}"
        );
        if let Kind::Task(task) = &state.kind {
            assert!(task.timeout.is_some(), "{name}");
            assert_eq!(task.outcome.retry.len(), 5, "{name}");
        }
    }
    assert_eq!(
        definition.functions(),
        BTreeSet::from([PLAN, SCAN, FINALIZE])
    );
}

#[test]
fn nothing_retries_everything() {
    for (name, state) in definition().all_states() {
        for retrier in state.outcome().map_or(&[][..], |outcome| &outcome.retry) {
            for error in &retrier.errors {
                assert!(
                    !matches!(
                        error.as_str(),
                        "States.ALL" | "States.TaskFailed" | "Interrupted"
                    ),
                    "{name}"
                );
            }
        }
    }
}

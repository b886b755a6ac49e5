//! The sample events are what they seem: each is its step's input, whole, and together they tell one story.

use highwater_steps::audit_tables::AuditEvent;
use highwater_steps::consume_stream::{ConsumeInput, StreamBatch};
use highwater_steps::finalize_backup::FinalizeInput;
use highwater_steps::finalize_restore::FinalizeRestoreInput;
use highwater_steps::fold_log::FoldInput;
use highwater_steps::load_part::LoadInput;
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::plan_restore::PlanRestoreInput;
use highwater_steps::scan_segment::ScanInput;
use highwater_steps::scatter_log::ScatterInput;
use highwater_tests::checkout;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn samples(function: &str) -> Vec<(String, Value)> {
    let names = checkout::entries(&format!("events/{function}")).unwrap();
    assert!(names.contains(&"first.json".to_owned()), "{function}");
    let read = |name: String| {
        let file = format!("events/{function}/{name}");
        let event = checkout::json(&file).unwrap();
        (file, event)
    };
    names.into_iter().map(read).collect()
}

/// Reads a sample as its step does; a member that the step would overlook is a mistake in the sample.
fn read<T: DeserializeOwned + Serialize>(file: &str, sample: &Value) -> T {
    let input: T =
        serde_json::from_value(sample.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    let understood = serde_json::to_value(&input).unwrap();
    assert!(
        contains(&understood, sample),
        "{file}: of {sample} the step sees {understood}"
    );
    input
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|found| contains(found, value))),
        (Value::Number(whole), Value::Number(part)) => whole.as_f64() == part.as_f64(),
        _ => whole == part,
    }
}

#[test]
fn every_sample_is_its_steps_input() {
    for (file, sample) in samples("plan-backup") {
        let input: PlanInput = read(&file, &sample);
        input
            .request
            .check()
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    for (file, sample) in samples("scan-segment") {
        read::<ScanInput>(&file, &sample);
    }
    for (file, sample) in samples("finalize-backup") {
        read::<FinalizeInput>(&file, &sample);
    }
    for (file, sample) in samples("plan-restore") {
        let input: PlanRestoreInput = read(&file, &sample);
        input
            .request
            .check()
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    for (file, sample) in samples("load-part") {
        read::<LoadInput>(&file, &sample);
    }
    for (file, sample) in samples("scatter-log") {
        read::<ScatterInput>(&file, &sample);
    }
    for (file, sample) in samples("fold-log") {
        read::<FoldInput>(&file, &sample);
    }
    for (file, sample) in samples("finalize-restore") {
        read::<FinalizeRestoreInput>(&file, &sample);
    }
}

#[test]
fn the_samples_of_a_restore_are_about_the_one_that_the_first_of_them_plans() {
    let first = checkout::json("events/plan-restore/first.json").unwrap();
    let plan: PlanRestoreInput = read("first.json", &first);
    let id = plan.restore_id().unwrap();
    for (file, sample) in samples("plan-restore") {
        let input: PlanRestoreInput = read(&file, &sample);
        assert_eq!(input.restore_id().unwrap(), id, "{file}");
    }
    for (file, sample) in samples("load-part") {
        let input: LoadInput = read(&file, &sample);
        assert_eq!(input.restore_id, id, "{file}");
    }
    for (file, sample) in samples("scatter-log") {
        let input: ScatterInput = read(&file, &sample);
        assert_eq!(input.restore_id, id, "{file}");
    }
    for (file, sample) in samples("fold-log") {
        let input: FoldInput = read(&file, &sample);
        assert_eq!(input.restore_id, id, "{file}");
    }
    for (file, sample) in samples("finalize-restore") {
        let input: FinalizeRestoreInput = read(&file, &sample);
        // Where the plan broke off, the execution and its request tell the id.
        let named = input.restore_id.unwrap_or_else(|| {
            let plan = PlanRestoreInput {
                request: input.request.unwrap(),
                execution_id: input.execution_id.unwrap(),
                started_at: input.started_at.unwrap(),
            };
            plan.restore_id().unwrap()
        });
        assert_eq!(named, id, "{file}");
    }
}

#[test]
fn the_samples_are_about_the_snapshot_that_the_first_of_them_plans() {
    let plans: Vec<(String, PlanInput)> = samples("plan-backup")
        .into_iter()
        .map(|(file, sample)| {
            let input = read(&file, &sample);
            (file, input)
        })
        .collect();
    let first = plans.iter().find(|(file, _)| file.ends_with("/first.json"));
    let id = first.unwrap().1.snapshot_id().unwrap();
    for (file, input) in &plans {
        assert_eq!(input.snapshot_id().unwrap(), id, "{file}");
    }
    for (file, sample) in samples("scan-segment") {
        let input: ScanInput = read(&file, &sample);
        assert_eq!(input.snapshot_id, id, "{file}");
    }
    for (file, sample) in samples("finalize-backup") {
        let input: FinalizeInput = read(&file, &sample);
        // Where the plan broke off, the execution and its request tell the id.
        let named = input.snapshot_id.unwrap_or_else(|| {
            let plan = PlanInput {
                request: input.request.unwrap(),
                execution_id: input.execution_id.unwrap(),
                started_at: input.started_at.unwrap(),
            };
            plan.snapshot_id().unwrap()
        });
        assert_eq!(named, id, "{file}");
    }
}

/// A batch, read by the step as it comes; the one stream's part of it.
fn batch(name: &str) -> (ConsumeInput, StreamBatch) {
    let text = checkout::text(&format!("events/consume-stream/{name}")).unwrap();
    let mut input: ConsumeInput =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let streams = input
        .by_stream()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut streams = streams.into_iter();
    let only = streams.next();
    assert!(streams.next().is_none(), "{name}: one stream");
    let batch = only.map_or_else(StreamBatch::default, |(stream, batch)| {
        assert_eq!(
            (stream.table(), stream.label()),
            ("orders", "2026-01-14T10:02:11.204")
        );
        batch
    });
    (input, batch)
}

/// The members that AWS documents for a window's event:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-windows.html>.
const WINDOW: [&str; 7] = [
    "Records",
    "window",
    "state",
    "shardId",
    "eventSourceARN",
    "isFinalInvokeForWindow",
    "isWindowTerminatedEarly",
];

#[test]
fn the_samples_of_a_stream_are_what_they_say() {
    let names: Vec<String> = samples("consume-stream")
        .into_iter()
        .map(|(file, _)| file)
        .collect();
    assert_eq!(names.len(), 5);
    for (name, records, unread) in [
        ("first.json", 3, 0),
        ("window.json", 2, 0),
        ("expired.json", 1, 0),
        ("unreadable.json", 2, 1),
        ("final.json", 0, 0),
    ] {
        let (input, batch) = batch(name);
        assert_eq!(
            (batch.records.len(), batch.unread.len()),
            (records, unread),
            "{name}"
        );
        let sample = checkout::json(&format!("events/consume-stream/{name}")).unwrap();
        let mut members: Vec<&str> = sample
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = if input.window.is_some() {
            WINDOW.to_vec()
        } else {
            vec!["Records"]
        };
        members.sort_unstable();
        expected.sort_unstable();
        assert_eq!(members, expected, "{name}");
        assert_eq!(input.window.is_none(), name == "first.json");
        assert_eq!(input.is_final_invoke_for_window, name == "final.json");
    }
    let (_, expired) = batch("expired.json");
    assert!(expired.records[0].is_expiry);
    let (_, unreadable) = batch("unreadable.json");
    assert!(unreadable.unread[0].sequence_number.is_some());
}

#[test]
fn the_samples_of_an_audit_name_a_table_or_none() {
    for (file, sample) in samples("audit-stream") {
        let event: AuditEvent = serde_json::from_value(sample).unwrap();
        let named = event.table.map(|table| table.to_string());
        let expected = file.ends_with("/first.json").then(|| "orders".to_owned());
        assert_eq!(named, expected, "{file}");
    }
}

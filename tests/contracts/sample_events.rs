//! The sample events are what they seem: each is its step's input, whole, and together they tell one story.

use highwater_steps::StepError;
use highwater_steps::apply_log::ApplyEvent;
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

/// The samples of what a function is called with; those that it refuses are others.
fn samples(function: &str) -> Vec<(String, Value)> {
    let (_, samples) = all(function);
    assert!(
        samples
            .iter()
            .any(|(file, _)| file.ends_with("/first.json")),
        "{function}"
    );
    samples
}

/// The samples of what is no input of the function: at least one.
fn refused(function: &str) -> Vec<(String, Value)> {
    let (refused, _) = all(function);
    assert!(!refused.is_empty(), "{function}");
    refused
}

type Samples = Vec<(String, Value)>;

fn all(function: &str) -> (Samples, Samples) {
    let names = checkout::entries(&format!("events/{function}")).unwrap();
    let read = |name: String| {
        let file = format!("events/{function}/{name}");
        let event = checkout::json(&file).unwrap();
        (file, event)
    };
    let samples = names.into_iter().map(read);
    samples.partition(|(file, _)| file.contains("/refused-"))
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

/// Why an event is refused before anything is read or written: it is no input, or its own check finds it wrong.
fn refusal<T: DeserializeOwned>(
    sample: &Value,
    check: impl FnOnce(T) -> Result<(), StepError>,
) -> Option<String> {
    match serde_json::from_value::<T>(sample.clone()) {
        Ok(input) => check(input).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// The refusal of a sample by the step of its function.
fn refusal_of(function: &str, sample: &Value) -> Option<String> {
    match function {
        "plan-backup" => refusal(sample, |input: PlanInput| {
            input.request.check()?;
            input.snapshot_id().map(drop)
        }),
        "scan-segment" => refusal(sample, |_: ScanInput| Ok(())),
        "finalize-backup" => refusal(sample, |input: FinalizeInput| input.snapshot_id().map(drop)),
        "plan-restore" => refusal(sample, |input: PlanRestoreInput| input.request.check()),
        "scatter-log" => refusal(sample, |_: ScatterInput| Ok(())),
        "fold-log" => refusal(sample, |_: FoldInput| Ok(())),
        "load-part" => refusal(sample, |_: LoadInput| Ok(())),
        "finalize-restore" => refusal(sample, |input: FinalizeRestoreInput| {
            input.restore_id().map(drop)
        }),
        // Records are raw text, which only a text can be read into.
        "consume-stream" => {
            let input = ConsumeInput::read(&sample.to_string().into());
            let streams = input.unwrap().by_stream();
            streams.err().map(|error| error.to_string())
        }
        "audit-stream" => refusal(sample, |_: AuditEvent| Ok(())),
        "apply-log" => refusal(sample, |_: ApplyEvent| Ok(())),
        other => panic!("{other}: nobody knows its input"),
    }
}

#[test]
fn every_refused_sample_is_wrong_in_the_way_its_name_says() {
    for function in checkout::entries("functions").unwrap() {
        for (file, sample) in refused(&function) {
            let reason =
                refusal_of(&function, &sample).unwrap_or_else(|| panic!("{file} is an input"));
            let (_, name) = file.split_once("refused-").unwrap();
            let says = match name {
                "misspelt.json" => "unknown field",
                "no-destination.json" => "`to` is missing",
                "no-time.json" => "started_at",
                "no-segment.json" => "`segment`",
                "odd-id.json" => "another-bucket",
                "nothing-named.json" => "must say which",
                "odd-second.json" => "`at`",
                "no-shard.json" => "`shard`",
                "negative-bucket.json" => "-1",
                "file-by-name.json" => "s00000-p000000",
                "queue.json" => "sqs",
                "odd-table.json" => "orders; customers",
                "odd-replica.json" => "orders-replica",
                other => panic!("{other}: what is wrong with it?"),
            };
            assert!(reason.contains(says), "{file}: {reason}");
        }
    }
}

#[test]
fn the_readme_tells_of_every_sample() {
    let text = checkout::text("events/README.md").unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut told: Vec<&str> = rows
        .filter_map(|row| row.split_once('`'))
        .map(|(file, _)| file)
        .collect();
    let folders = checkout::entries("events").unwrap().into_iter();
    let mut there = Vec::new();
    for folder in folders.filter(|name| name != "README.md") {
        for name in checkout::entries(&format!("events/{folder}")).unwrap() {
            there.push(format!("{folder}/{name}"));
        }
    }
    told.sort_unstable();
    there.sort_unstable();
    assert_eq!(told, there);
    let invoked = text.lines().filter_map(|line| {
        let line = line.strip_prefix("cargo lambda invoke ")?;
        line.split_once(" --data-file events/")
    });
    let invoked: Vec<(&str, &str)> = invoked.collect();
    assert!(invoked.len() >= 8, "{invoked:?}");
    for (function, file) in invoked {
        assert!(there.contains(&file.to_owned()), "{file}");
        assert!(
            file.starts_with(&format!("{function}/")),
            "{function} {file}"
        );
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
    let mut input =
        ConsumeInput::read(&text.into()).unwrap_or_else(|error| panic!("{name}: {error}"));
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
    assert_eq!(names.len(), 6);
    for (name, records, unread) in [
        ("first.json", 3, 0),
        ("window.json", 2, 0),
        ("again.json", 1, 0),
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
    let (again, window) = (batch("again.json").1, batch("window.json").1);
    assert_eq!(again.records[0].raw, window.records[1].raw);
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

#[test]
fn the_samples_of_an_application_name_a_table_a_replica_or_none() {
    for (file, sample) in samples("apply-log") {
        let event: ApplyEvent = serde_json::from_value(sample).unwrap();
        let named = event.table.map(|table| table.to_string());
        let is_scheduled = file.ends_with("/scheduled.json");
        assert_eq!(
            named,
            (!is_scheduled).then(|| "orders".to_owned()),
            "{file}"
        );
        assert_eq!(
            event.replica.is_some(),
            file.ends_with("/one-replica.json"),
            "{file}"
        );
    }
}

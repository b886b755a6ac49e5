//! The sample events are what they seem: each is its step's input, whole, and together they tell one story.

use highwater_steps::finalize_backup::FinalizeInput;
use highwater_steps::finalize_restore::FinalizeRestoreInput;
use highwater_steps::load_part::LoadInput;
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::plan_restore::PlanRestoreInput;
use highwater_steps::scan_segment::ScanInput;
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

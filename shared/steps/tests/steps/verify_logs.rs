//! A change log is read again, and each record held against the one before it of its key.

use std::sync::Arc;

use highwater_domain::change_log::{LogName, log_object, read_log_object};
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_steps::record_breaks::record_breaks;
use highwater_steps::verify_log::{LogReport, verify};
use highwater_steps::{ErrorName, StepError};
use highwater_testkit::fake_table::string_key;

use crate::second_stage::SecondStage;

fn place() -> LogPlace {
    LogPlace::new("backups", "orders")
}

async fn report(stage: &SecondStage) -> Result<LogReport, StepError> {
    let store: Arc<dyn ObjectStore> = stage.store.clone();
    let folder = tempfile::tempdir().unwrap();
    let (place, schema) = (place(), string_key("id"));
    let mut reports = verify(&store, &place, &schema, folder.path(), |_| ()).await?;
    assert_eq!(reports.len(), 1);
    Ok(reports.remove(0))
}

/// Takes one record out of every object that has it, so that the objects' own names say nothing of it.
async fn lose(stage: &SecondStage, wanted: impl Fn(&str) -> bool) {
    let folder = place().stream(&stage.table.stream_label().unwrap());
    for key in stage.store.keys() {
        let Some(name) = LogName::parse(&folder, &key) else {
            continue;
        };
        let body = stage.store.read(&key).await.unwrap().unwrap();
        let mut records = read_log_object(&key, &name, &body).unwrap();
        let before = records.len();
        records.retain(|record| !wanted(record.sequence_number.as_str()));
        if records.len() == before {
            continue;
        }
        assert!(stage.store.lose(&key));
        if records.is_empty() {
            continue;
        }
        let (name, body) = log_object(&name.shard, &records).unwrap();
        let object = NewObject {
            key: name.key(&folder),
            body,
            content_type: "application/zstd",
            ..NewObject::default()
        };
        stage.store.create(object).await.unwrap();
    }
}

/// A record whose key has an earlier and a later one.
fn inner(stage: &SecondStage) -> Arc<highwater_testkit::simulation::SimRecord> {
    let records = stage.table.all_records();
    let of_key = |key: &str| records.iter().filter(|it| it.key == key).count();
    let busiest = records.iter().max_by_key(|it| of_key(&it.key)).unwrap();
    let of_busiest: Vec<_> = records.iter().filter(|it| it.key == busiest.key).collect();
    assert!(of_busiest.len() > 4);
    of_busiest[2].clone()
}

#[tokio::test(start_paused = true)]
async fn a_whole_log_holds_together_and_each_record_counts_once() {
    let stage = SecondStage::with_history().await;
    let report = report(&stage).await.unwrap();
    assert_eq!((report.breaks, report.explained), (0, 0), "{report:?}");
    assert_eq!(report.checked, stage.table.all_records().len() as u64);
    assert!(
        report.totals.records > report.checked,
        "some lie in two objects"
    );
    assert_eq!(report.keys, stage.table.histories().len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_is_told_by_its_neighbours_unless_an_incident_explains_it() {
    let stage = SecondStage::with_history().await;
    let lost = inner(&stage);
    lose(&stage, |number| number == lost.sequence_number.as_str()).await;
    let found = report(&stage).await.unwrap();
    assert_eq!(found.breaks, 1, "{found:?}");
    let broken = &found.broken[0];
    assert!(
        broken.key.contains(&format!("\"{}\"", lost.key)),
        "{broken:?}"
    );
    assert!(broken.between.0 <= lost.stamp && lost.stamp <= broken.between.1);

    let label = stage.table.stream_label().unwrap();
    let incident = Incident {
        version: INCIDENT_VERSION,
        id: "gap-1".into(),
        kind: IncidentKind::Gap,
        stream_label: label.clone(),
        shard: Some(lost.shard.clone()),
        from: lost.stamp,
        until: lost.stamp,
        seen_at: stage.table.time().now(),
        detail: "lost in a test".into(),
    };
    stage
        .put_new(place().incident(&label, "gap-1"), &incident)
        .await;
    let explained = report(&stage).await.unwrap();
    assert_eq!((explained.breaks, explained.explained), (0, 1));
}

/// Breaks that are put on record are losses like any other, and are put there once.
#[tokio::test(start_paused = true)]
async fn a_break_that_is_put_on_record_is_a_loss_between_its_two_records() {
    let stage = SecondStage::with_history().await;
    let lost = inner(&stage);
    lose(&stage, |number| number == lost.sequence_number.as_str()).await;
    let found = report(&stage).await.unwrap();
    let store: Arc<dyn ObjectStore> = stage.store.clone();
    for new in [1, 0] {
        let seen_at = stage.table.time().now();
        let recorded = record_breaks(&store, &place(), &found, seen_at).await;
        assert_eq!(recorded.unwrap(), new);
    }
    let explained = report(&stage).await.unwrap();
    assert_eq!((explained.breaks, explained.explained), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_lies_beyond_the_mark_is_not_judged() {
    let stage = SecondStage::with_history().await;
    let lost = inner(&stage);
    lose(&stage, |number| number == lost.sequence_number.as_str()).await;
    stage.publish(UnixSeconds(lost.stamp.0 - 1)).await;
    let report = report(&stage).await.unwrap();
    assert_eq!(report.breaks, 0, "{report:?}");
    assert!(report.checked < stage.table.all_records().len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_torn_object_is_named() {
    let stage = SecondStage::with_history().await;
    let folder = place().stream(&stage.table.stream_label().unwrap());
    let keys = stage.store.keys();
    let object = keys
        .iter()
        .find(|key| LogName::parse(&folder, key).is_some())
        .unwrap();
    assert!(
        stage
            .store
            .tamper(object, |body| body.truncate(body.len() / 2))
    );
    let error = report(&stage).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::PartCorrupt);
    assert!(error.to_string().contains(object), "{error}");
}

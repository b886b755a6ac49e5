//! The auditor behind a writer that proves nothing; what heals a loss; how it all looks from outside.

use std::sync::Arc;

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::handoff::{Handoff, HandoffOf, KeptHandoff};
use highwater_domain::ids::SnapshotId;
use highwater_domain::incident::IncidentKind;
use highwater_domain::layout::Layout;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::sequence_number::Generation;
use highwater_domain::shard::StreamView;
use highwater_domain::snapshot::Status;
use highwater_domain::stream_record::StreamRecord;
use highwater_steps::audit_stream::{self, AuditInput};
use highwater_steps::live_status::{self, LiveStatus};
use highwater_steps::status::json_object;
use highwater_steps::write_log::LogWriter;
use highwater_testkit::failing::Moment;
use highwater_testkit::simulation::SimRecord;

use crate::live_mortal::Life;
use crate::live_world::{HOUR, SECOND, TO, World};

/// Writes these records as a mapping would: what it was given, under the shard's name.
async fn mapped(world: &World, records: &[Arc<SimRecord>]) {
    let store: Arc<dyn ObjectStore> = world.store.clone();
    let writer = LogWriter::new(store, World::place(), world.label());
    let read: Vec<StreamRecord> = records
        .iter()
        .map(|record| StreamRecord::read(&record.raw).unwrap())
        .collect();
    for batch in read.chunks(3) {
        writer.write(&records[0].shard, batch).await.unwrap();
    }
}

async fn status(world: &World) -> LiveStatus {
    let store: Arc<dyn ObjectStore> = world.store.clone();
    live_status::run(&world.deps(), &store, &World::place())
        .await
        .unwrap()
}

/// Case 28: batches overlap, nothing is missing, and the auditor finds nothing.
#[tokio::test(start_paused = true)]
async fn case_28_an_auditor_finds_nothing_where_nothing_is_missing() {
    let world = World::new().await;
    world.put_many("a", 10);
    let records = world.table.all_records();
    mapped(&world, &records[..7]).await;
    mapped(&world, &records[4..]).await;
    let before = world.store.keys();
    tokio::time::sleep(600 * SECOND).await;
    let report = world.audit().await;
    assert_eq!((report.shards, report.records), (1, 10));
    assert_eq!(
        (report.missing, report.back_filled, report.incidents),
        (0, 0, 0)
    );
    assert!(report.done);
    let zst = |keys: &[String]| keys.iter().filter(|key| key.contains(".jsonl.zst")).count();
    assert_eq!(
        zst(&world.store.keys()),
        zst(&before),
        "nothing was written"
    );
    // One run, and an idle stream: all grades are there.
    let mark = report.mark.unwrap().mark;
    assert_eq!(mark.proven.unwrap().0, records[0].stamp.0 - 1);
    assert!(world.now().0 - mark.assumed.unwrap().0 < 130);
    assert_eq!(world.audit().await.records, 0, "the positions were kept");
}

/// Case 29: records that the mapping was not given are filled in while the stream still has them.
#[tokio::test(start_paused = true)]
async fn case_29_what_is_missing_is_filled_in() {
    let world = World::new().await;
    world.put_many("a", 12);
    let records = world.table.all_records();
    mapped(&world, &records[..2]).await;
    mapped(&world, &records[5..9]).await;
    tokio::time::sleep(600 * SECOND).await;
    let shard = world.only_shard();
    world.table.roll(&shard);
    world.put_many("b", 4);
    let report = world.audit().await;
    assert_eq!(report.back_filled, 12 - 6 + 4);
    assert_eq!(report.missing, 6, "the last four were merely not there yet");
    assert_eq!((report.shards, report.records), (2, 16));
    world.assert_all_logged();
    assert_eq!(world.doubled(), 0);
    world.assert_no_incidents();
    world.assert_rows_are_sound();
    let again = world.audit().await;
    assert_eq!((again.back_filled, again.missing), (0, 0));
}

/// The place that batches without a shard go to counts for nothing: their records are filled in where they belong.
#[tokio::test(start_paused = true)]
async fn batches_without_a_place_are_filled_in() {
    let world = World::new().await;
    world.put_many("a", 6);
    let store: Arc<dyn ObjectStore> = world.store.clone();
    let writer = LogWriter::new(store, World::place(), world.label());
    let read: Vec<StreamRecord> = world
        .table
        .all_records()
        .iter()
        .map(|record| StreamRecord::read(&record.raw).unwrap())
        .collect();
    writer
        .write(&"unplaced".parse().unwrap(), &read)
        .await
        .unwrap();
    assert_eq!(world.audit().await.back_filled, 6);
    world.assert_all_logged();
}

/// A damaged object counts for nothing; one that contradicts the stream is an error, and nothing is overwritten.
#[tokio::test(start_paused = true)]
async fn the_auditor_believes_no_damaged_object() {
    for is_torn in [true, false] {
        let world = World::new().await;
        world.put_many("a", 6);
        let records = world.table.all_records();
        mapped(&world, &records).await;
        let keys = world.store.keys();
        let key = keys
            .iter()
            .find(|key| key.ends_with("-3.jsonl.zst"))
            .unwrap();
        if is_torn {
            world.store.tamper(key, |body| body.truncate(20));
            assert_eq!(world.audit().await.back_filled, 3);
            world.assert_all_logged();
            continue;
        }
        let other: Vec<StreamRecord> = records[..3]
            .iter()
            .map(|record| {
                let text = String::from_utf8(record.raw.to_vec()).unwrap();
                let event = StreamRecord::read(&record.raw)
                    .unwrap()
                    .event_id()
                    .into_owned();
                let text = text.replace(&event, "another");
                StreamRecord::read(&text.into()).unwrap()
            })
            .collect();
        let body = highwater_domain::change_log::log_object(&records[0].shard, &other);
        world
            .store
            .tamper(key, |bytes| *bytes = body.unwrap().1.to_vec());
        let before = world.store.objects();
        let input = AuditInput::new("orders".parse().unwrap(), TO);
        let deps = world.deps();
        let audit = audit_stream::run(&deps, &input, Budget::UNLIMITED).await;
        let error = audit.unwrap_err();
        assert!(error.to_string().contains("another"), "{error}");
        assert_eq!(world.store.objects()[key], before[key]);
        assert_eq!(world.row(&world.only_shard()).owner, None);
    }
}

/// A slice ends with its budget, and the next one goes on.
#[tokio::test(start_paused = true)]
async fn an_audit_in_slices_comes_to_its_end() {
    let world = World::new().await;
    for round in 0..4 {
        world.put_many(&format!("{round}-"), 5);
        tokio::time::sleep(60 * SECOND).await;
        world.table.roll(&world.only_shard());
    }
    let mut slices = 0;
    loop {
        let deps = world.deps();
        let input = AuditInput::new("orders".parse().unwrap(), TO);
        let now = world.table.time().clock().now();
        let deadline = highwater_domain::ids::UnixMillis(now.0 + 24_000);
        let budget = Budget::until(deadline, now);
        let report = audit_stream::run(&deps, &input, budget).await.unwrap();
        let took = world.table.time().clock().now().since(now);
        assert!(took < 24_000, "{took} ms");
        slices += 1;
        if report.done {
            break;
        }
        assert!(slices < 20);
    }
    assert!(slices > 1);
    world.assert_all_logged();
    world.assert_no_incidents();
}

/// A crash at any call of an auditor: the next one finishes its work.
#[tokio::test(start_paused = true)]
async fn an_audit_survives_a_crash_at_any_call() {
    for moment in [Moment::Before, Moment::After] {
        for nth in 1.. {
            let world = World::new().await;
            world.put_many("a", 6);
            mapped(&world, &world.table.all_records()[1..3]).await;
            world.table.roll(&world.only_shard());
            world.put_many("b", 3);
            let life = Life::until(nth, moment);
            let deps = world.mortal(&life, 3);
            let input = AuditInput::new("orders".parse().unwrap(), TO);
            let ended = tokio::select! {
                biased;
                () = life.death() => None,
                report = audit_stream::run(&deps, &input, Budget::UNLIMITED) => Some(report),
            };
            let is_through = ended.map(|report| report.unwrap()).is_some();
            assert!(world.audit().await.done, "{moment:?} call {nth}");
            let missing = world.missing();
            assert!(missing.is_empty(), "{moment:?} call {nth}: {missing:?}");
            world.assert_no_incidents();
            world.assert_rows_are_sound();
            if is_through {
                break;
            }
        }
    }
}

/// Where somebody follows, an audit has nothing to do.
#[tokio::test(start_paused = true)]
async fn an_audit_leaves_live_leases_alone() {
    let world = World::new().await;
    world.put_many("a", 6);
    let (followed, audited) = tokio::join!(world.follow(200 * SECOND), async {
        tokio::time::sleep(20 * SECOND).await;
        world.audit().await
    });
    assert_eq!((followed.records, audited.records), (6, 0));
    assert!(audited.done);
    assert_eq!(world.doubled(), 0);
}

fn plant_snapshot(world: &World) {
    let now = world.table.time().clock().now();
    let of = HandoffOf {
        table_arn: world.table.arn(),
        table_id: Some(world.table.table_id()),
        generation: Generation(1),
        consistent: true,
    };
    let handoff = Handoff::of(of, &world.table.true_listing(), Vec::new(), now);
    let id = SnapshotId::new(now, 7);
    let metadata = Metadata {
        status: Status::Completed,
        snapshot_id: Some(id.clone()),
        handoff: Some(KeptHandoff::Read(Box::new(handoff))),
        ..Metadata::default()
    };
    let key = Layout::new("daily", "orders", &id).metadata();
    world.store.plant(json_object(key, &metadata).unwrap());
}

/// Case 27, and what the whole is for: nobody reads for a day; the loss is known, stops the mark, is shown, and a
/// snapshot heals it.
#[tokio::test(start_paused = true)]
async fn case_27_a_gap_stops_the_mark_until_a_snapshot_heals_it() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(60 * SECOND).await;
    plant_snapshot(&world);
    let fine = status(&world).await;
    assert!(!fine.needs_a_person, "{:?}", fine.why);
    for round in 0..8 {
        world.put_many(&format!("{round}-"), 2);
        tokio::time::sleep(4 * HOUR).await;
        world.table.roll(&world.only_shard());
    }
    let before = status(&world).await;
    assert!(before.needs_a_person && before.why[0].contains("nobody has published"));
    world.follow(600 * SECOND).await;
    assert!(!world.missing().is_empty());
    let held = world.mark();
    assert!(held.held_back);
    world.assert_mark_is_true(&held);
    let shown = status(&world).await;
    assert!(
        shown.needs_a_person && shown.why[0].contains("take a snapshot"),
        "{:?}",
        shown.why
    );
    let stream = &shown.generations[0];
    assert!(stream.incidents.iter().all(|it| it.open));
    assert_eq!((stream.open_shards, stream.shards.len()), (1, 1));
    plant_snapshot(&world);
    world.put_many("c", 3);
    world.follow(200 * SECOND).await;
    let healed = world.mark();
    assert!(!healed.held_back);
    assert!(world.now().0 - healed.mark.assumed.unwrap().0 < 140);
    assert_eq!(
        world.incidents_of(IncidentKind::Gap).len(),
        stream.incidents.len()
    );
    let shown = status(&world).await;
    assert!(!shown.needs_a_person, "{:?}", shown.why);
    assert!(shown.generations[0].incidents.iter().all(|it| !it.open));
    assert_eq!(shown.snapshots.len(), 2);
    assert!(shown.snapshots[1].handoff_at.is_some());
}

/// The stream ends, and nothing takes its place: what is left is read, the log is closed, and a person is told.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_is_read_to_its_end_by_the_auditor() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.audit().await;
    world.put_many("b", 3);
    world.table.disable_stream();
    world.table.put("lost", "1");
    let report = world.audit().await;
    assert!(report.done);
    world.assert_all_logged();
    let ended = world.incidents_of(IncidentKind::StreamEnded);
    assert_eq!(ended.len(), 1);
    assert!(ended[0].until >= world.table.all_records()[5].stamp);
    let shown = status(&world).await;
    assert!(shown.generations[0].closed);
    assert!(shown.why[0].contains("has ended"), "{:?}", shown.why);
    // Another stream: the old one's loss is not its own.
    tokio::time::sleep(60 * SECOND).await;
    world.table.enable_stream(StreamView::NewAndOldImages);
    world.put_many("c", 3);
    tokio::time::sleep(60 * SECOND).await;
    let report = world.audit().await;
    assert_eq!(report.stream_label, world.label());
    world.assert_all_logged();
    let shown = status(&world).await;
    assert_eq!(shown.generations.len(), 2);
    assert!(!shown.needs_a_person, "{:?}", shown.why);
    assert_eq!(world.incidents(), []);
}

/// The table is dropped and made again under its name.
#[tokio::test(start_paused = true)]
async fn a_table_that_was_dropped_ends_its_stream() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.audit().await;
    let old = world.label();
    world.table.drop_and_create();
    world.table.enable_stream(StreamView::NewAndOldImages);
    world.put_many("b", 3);
    tokio::time::sleep(60 * SECOND).await;
    world.audit().await;
    world.assert_all_logged();
    let folder = World::place().incidents(&old);
    let keys = world.store.keys();
    assert!(
        keys.contains(&format!("{folder}stream-ended.json")),
        "{keys:?}"
    );
}

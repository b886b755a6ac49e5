//! Handoffs: captured before the scan, checked during it, judged before the seal.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_domain::handoff::MAX_SHARDS;
use highwater_domain::incident::IncidentKind;
use highwater_domain::lineage::{Oddity, Position};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::Generation;
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamView};
use highwater_domain::snapshot::Status;
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use highwater_steps::capture_handoff::Preview;
use highwater_steps::request::BackupRequest;
use highwater_steps::{Deps, ErrorName, StepError};
use highwater_steps::{plan_backup, plan_handoff};
use highwater_testkit::simulation::{Nastiness, StreamCall};

use crate::handoff_world::{HOUR, World, begins, plan, with_stream};
use crate::stage::{plan_input, request, resume};

const BOTH: Option<StreamView> = Some(StreamView::NewAndOldImages);

fn failed<T>(result: Result<T, StepError>) -> (ErrorName, String) {
    let error = result.err().expect("an error");
    (error.name(), error.to_string())
}

/// A stream that is there is used unasked; what the handoff says is what the stream was.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_there_is_handed_over_from() {
    let world = World::with(BOTH).await;
    let began = world.time.now();
    let record = world.plan(request(2)).await.unwrap();
    let handoff = record.handoff.unwrap();
    assert_eq!(begins(&handoff), world.table.open_shards());
    assert_eq!(handoff.generation, Generation(1));
    assert_eq!(Some(handoff.stream_arn.clone()), world.table.stream_arn());
    assert_eq!(handoff.table_id, Some(world.table.table_id()));
    assert!(
        handoff.captured_at.since(began) >= 5000,
        "two looks, seconds apart"
    );
    assert_eq!(handoff.oddities, []);
    // The log begins with the oldest shard whose start is there for sure, which is younger than 22 hours.
    let registered = world.registered();
    let [root] = &registered[..] else {
        panic!("{registered:?}")
    };
    let age = began.since(root.created_at().unwrap());
    assert!((17 * 3_600_000..22 * 3_600_000).contains(&age), "{age}");
    assert_eq!(handoff.log_from, world.generations()[0].log_from);
    assert_eq!(world.shard_facts()[0].shard.id, *root);
    assert_eq!(
        world.leases()[0].lease.position.to_string(),
        format!("AT:{}", world.shard_facts()[0].shard.start)
    );

    world.scan().await.unwrap();
    world.finalize().await.unwrap();
    let metadata = world.metadata();
    assert_eq!(metadata.status, Status::Completed);
    assert_eq!(metadata.handoff().unwrap(), Some(&handoff));
    assert_eq!(metadata.no_handoff, None);
}

#[tokio::test(start_paused = true)]
async fn a_table_without_a_stream_is_backed_up_plainly_and_says_so() {
    let world = World::with(None).await;
    let record = world.plan(request(2)).await.unwrap();
    assert_eq!(record.handoff, None);
    assert!(record.no_handoff.unwrap().contains("--with-stream"));
    world.scan().await.unwrap();
    world.finalize().await.unwrap();
    assert_eq!(world.metadata().handoff().unwrap(), None);
    assert!(world.store.keys().iter().all(|key| !key.contains("/log/")));
    assert_eq!(world.table.stream_arn(), None, "nobody asked for one");
}

/// A stream is enabled if it was asked for, and given its time.
#[tokio::test(start_paused = true)]
async fn with_stream_enables_one_and_lets_it_settle() {
    let nasty = Nastiness {
        enabling_ms: 7000,
        ..Nastiness::CALM
    };
    let world = World::nasty(None, nasty).await;
    let began = world.time.now();
    let record = world.plan(with_stream()).await.unwrap();
    let handoff = record.handoff.unwrap();
    assert_eq!(handoff.view, StreamView::NewAndOldImages);
    assert_eq!(begins(&handoff), world.table.open_shards());
    let took = handoff.captured_at.since(began);
    assert!((67_000..80_000).contains(&took), "{took}");

    // Nothing to wait for where the engine needs no time.
    let world = World::with(None).await;
    let began = world.time.now();
    let local = BackupRequest {
        settle_seconds: Some(0),
        ..with_stream()
    };
    let record = world.plan(local).await.unwrap();
    let took = record.handoff.unwrap().captured_at.since(began);
    assert!(took < 1000, "{took}");
}

/// Somebody else enabled it just now, or an earlier attempt of ours that died: the label tells how young it is.
#[tokio::test(start_paused = true)]
async fn a_young_stream_settles_whoever_enabled_it() {
    let world = World::with(None).await;
    world.table.enable_stream(StreamView::NewAndOldImages);
    let enabled = world.time.now();
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    let record = world.plan(request(2)).await.unwrap();
    let age = record.handoff.unwrap().captured_at.since(enabled);
    assert!((60_000..61_000).contains(&age), "{age}");
}

/// Case 3: disabled and enabled anew between the capture and the first page.
#[tokio::test(start_paused = true)]
async fn case_03_a_stream_exchanged_before_the_first_page_aborts_the_scan() {
    let world = World::with(BOTH).await;
    world.plan(request(2)).await.unwrap();
    world.table.disable_stream();
    let (name, text) = failed(world.scan().await);
    assert_eq!(name, ErrorName::StreamChanged);
    assert!(text.contains("was disabled"), "{text}");
    let new = world.table.enable_stream(StreamView::NewAndOldImages);
    let (name, text) = failed(world.scan().await);
    assert_eq!(name, ErrorName::StreamChanged);
    assert!(text.contains(&new), "{text}");
    assert!(
        world
            .store
            .keys()
            .iter()
            .all(|key| !key.contains("/data/s"))
    );
}

/// Case 4: the same between the last page and the seal.
#[tokio::test(start_paused = true)]
async fn case_04_a_stream_exchanged_before_the_seal_is_refused() {
    let world = World::with(BOTH).await;
    world.plan(request(2)).await.unwrap();
    world.scan().await.unwrap();
    world.table.disable_stream();
    world.table.enable_stream(StreamView::NewAndOldImages);
    assert_eq!(failed(world.finalize().await).0, ErrorName::StreamChanged);
    assert_eq!(world.metadata().status, Status::Running);
    // A resume does not help either: what changed in between has no records.
    let again = plan_backup::PlanInput {
        execution_id: "execution-2".into(),
        ..plan_input(resume())
    };
    plan_backup::run(&world.deps(), &again).await.unwrap();
    assert_eq!(failed(world.scan().await).0, ErrorName::StreamChanged);
}

/// Case 5: the table dropped and created again during the scan.
#[tokio::test(start_paused = true)]
async fn case_05_another_table_of_the_same_name_aborts_scan_and_seal() {
    let world = World::with(BOTH).await;
    world.plan(request(2)).await.unwrap();
    world.table.drop_and_create();
    world.table.enable_stream(StreamView::NewAndOldImages);
    assert_eq!(failed(world.scan().await).0, ErrorName::TableChanged);
    let world = World::with(BOTH).await;
    world.plan(request(2)).await.unwrap();
    world.scan().await.unwrap();
    world.table.drop_and_create();
    assert_eq!(failed(world.finalize().await).0, ErrorName::TableChanged);
}

/// Case 16: a scan that goes on after thirty hours. Whether somebody has read the stream decides.
#[tokio::test(start_paused = true)]
async fn mu_17_case_16_a_resume_after_thirty_hours_needs_somebody_who_has_read_the_stream() {
    for (asked, followed) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::with(BOTH).await;
        let request = BackupRequest {
            with_stream: asked,
            ..request(2)
        };
        world.plan(request).await.unwrap();
        let captured = world.record().await.handoff.unwrap();
        for _ in 0..7 {
            if followed {
                world.follow().await;
            }
            tokio::time::sleep(4 * HOUR).await;
            world.table.put("later", &world.time.now().0.to_string());
            world.table.roll(&world.table.open_shards()[0]);
        }
        tokio::time::sleep(2 * HOUR).await;
        world.scan().await.unwrap();
        let sealed = world.finalize().await;
        if asked && !followed {
            let (name, text) = failed(sealed);
            assert_eq!(name, ErrorName::HandoffExpired);
            let shard = begins(&captured)[0].to_string();
            assert!(text.contains(&shard) && text.contains("24 hours"), "{text}");
            assert_eq!(world.metadata().status, Status::Running);
            continue;
        }
        sealed.unwrap();
        let metadata = world.metadata();
        assert_eq!(metadata.status, Status::Completed);
        let handoff = metadata.handoff().unwrap().unwrap();
        assert_eq!(handoff.expired, !followed, "asked {asked}");
        assert_eq!(
            handoff.shards, captured.shards,
            "what was meant is still told"
        );
    }
}

/// Case 37: a child without its parent is no root: the listing is asked for again.
#[tokio::test(start_paused = true)]
async fn case_37_a_child_that_is_listed_without_its_parent_is_not_taken_for_a_root() {
    let world = World::with(BOTH).await;
    let parent = world.table.open_shards()[0].clone();
    let child = world.table.roll(&parent);
    let partial = StreamListing {
        shards: vec![world.table.listed(&child)],
        ..world.table.true_listing()
    };
    let began = world.time.now();
    world.table.script_listings(vec![partial; 4]);
    let record = world.plan(request(2)).await.unwrap();
    let handoff = record.handoff.unwrap();
    assert_eq!(handoff.oddities, []);
    let listed = world.table.listing(&handoff.stream_arn).await.unwrap();
    assert_eq!(handoff.shards.len(), listed.shards.len());
    assert_eq!(begins(&handoff), std::slice::from_ref(&child));
    assert!(
        !world.registered().contains(&child),
        "it comes after its parents"
    );
    assert!(handoff.captured_at.since(began) >= 25_000, "six looks");
}

/// Case 38: a parent that is really gone. The child is a root, placed by its own id.
#[tokio::test(start_paused = true)]
async fn case_38_a_child_whose_parent_is_trimmed_is_a_root() {
    let world = World::with(BOTH).await;
    let record = world.plan(request(2)).await.unwrap();
    let handoff = record.handoff.unwrap();
    let oldest = &handoff.shards[0];
    let parent = oldest.shard.parent.clone().unwrap();
    assert!(handoff.shards.iter().all(|shard| shard.shard.id != parent));
    assert_eq!(
        handoff.oddities,
        [],
        "it is older than a day, so its parent may be gone"
    );
    let made = oldest.shard.id.created_at().unwrap();
    assert_eq!(oldest.ordinal.0, made.0);
    for facts in world.shard_facts() {
        assert_eq!(facts.ordinal.0, facts.shard.id.created_at().unwrap().0);
    }
}

/// Case 38, the other half: what was lost of the handoff's own shards makes it expire, however far its row is.
#[tokio::test(start_paused = true)]
async fn case_38_a_loss_in_a_shard_of_the_handoff_expires_it() {
    let world = World::with(BOTH).await;
    world.plan(with_stream()).await.unwrap();
    world.scan().await.unwrap();
    world.follow().await;
    let open = world.table.open_shards()[0].to_string();
    let log = world.rows.groups().pop_first().unwrap();
    let deps = world.deps();
    let leases = deps.live.leases.group(&log, "w").unwrap();
    leases
        .note(&open.parse().unwrap(), "lost", "gap-1")
        .await
        .unwrap();
    let (name, text) = failed(world.finalize().await);
    assert_eq!(name, ErrorName::HandoffExpired);
    assert!(text.contains(&open), "{text}");
}

/// Root shards of one listing, one millisecond apart.
fn many(world: &World, count: usize) -> StreamListing {
    let listing = world.table.true_listing();
    let now = world.time.now().0;
    let shard = |n: usize| Shard {
        id: format!("shardId-{:020}-{n:08x}", now - 3_600_000 + n as u64)
            .parse()
            .unwrap(),
        parent: None,
        start: "1234500000000000000001".parse().unwrap(),
        end: None,
    };
    StreamListing {
        shards: (0..count).map(shard).collect(),
        ..listing
    }
}

/// Case 44: more shards than a page of anything.
#[tokio::test(start_paused = true)]
async fn case_44_every_shard_of_a_long_listing_is_registered() {
    for count in [101, 1001, MAX_SHARDS + 1] {
        let world = World::with(BOTH).await;
        let listing = many(&world, count);
        world.table.script_listings(vec![listing.clone(); 2]);
        let record = world.plan(request(2)).await.unwrap();
        let expected: Vec<ShardId> = listing
            .shards
            .iter()
            .map(|shard| shard.id.clone())
            .collect();
        assert_eq!(world.registered(), expected, "{count}");
        assert_eq!(world.shard_facts().len(), count);
        if let Some(handoff) = record.handoff {
            assert_eq!(begins(&handoff), expected);
            continue;
        }
        assert!(count > MAX_SHARDS);
        assert!(record.no_handoff.unwrap().contains(&count.to_string()));
        let world = World::with(BOTH).await;
        world.table.script_listings(vec![many(&world, count); 2]);
        let refused = failed(world.plan(with_stream()).await);
        assert_eq!(refused.0, ErrorName::StreamUnsuitable);
    }
}

/// Case 49: a view that is of no use is explained, and never changed.
#[tokio::test(start_paused = true)]
async fn case_49_a_view_without_new_images_is_refused_and_left_alone() {
    for view in [StreamView::KeysOnly, StreamView::OldImage] {
        let world = World::with(Some(view)).await;
        let arn = world.table.stream_arn();
        let record = world.plan(request(2)).await.unwrap();
        assert_eq!(record.handoff, None);
        assert!(record.no_handoff.unwrap().contains(view.as_str()));
        let world = World::with(Some(view)).await;
        let (name, text) = failed(world.plan(with_stream()).await);
        assert_eq!(name, ErrorName::StreamUnsuitable);
        assert!(
            text.contains(view.as_str()) && text.contains("NEW_AND_OLD_IMAGES"),
            "{text}"
        );
        assert_eq!(world.table.stream_arn().is_some(), arn.is_some());
        assert!(world.table.stream_is_on());
        assert!(
            world.store.keys().is_empty(),
            "nothing was begun: {:?}",
            world.store.keys()
        );
    }
    let world = World::with(Some(StreamView::NewImage)).await;
    let handoff = world.plan(with_stream()).await.unwrap().handoff.unwrap();
    assert_eq!(handoff.view, StreamView::NewImage);
}

/// Case 66: a parent stays open although its child is listed. It may receive records still.
#[tokio::test(start_paused = true)]
async fn case_66_an_open_parent_is_where_reading_begins_and_the_doubt_is_told() {
    let world = World::with(BOTH).await;
    let parent = world.table.open_shards()[0].clone();
    let child = world.table.begin_roll(&parent);
    let began = world.time.now();
    let record = world.plan(request(2)).await.unwrap();
    let handoff = record.handoff.unwrap();
    let patience = handoff.captured_at.since(began);
    assert!((300_000..310_000).contains(&patience), "{patience}");
    let open = Oddity::OpenParent {
        parent: parent.clone(),
        child,
    };
    assert!(handoff.oddities.contains(&open), "{:?}", handoff.oddities);
    // Further back than needed, so that the parent is below.
    let first = begins(&handoff);
    assert_eq!(first, world.registered());
    assert!(first[0] < parent, "{first:?}");
    let incidents = world.incidents();
    let [(_, doubt)] = &incidents.iter().collect::<Vec<_>>()[..] else {
        panic!("{incidents:?}")
    };
    assert_eq!(doubt.kind, IncidentKind::DoubtfulListing);
    assert!(doubt.detail.contains(parent.as_str()));
}

/// What any look has shown counts, where no two agree.
#[tokio::test(start_paused = true)]
async fn listings_that_never_agree_are_taken_together() {
    let world = World::with(BOTH).await;
    let (left, right) = world.table.split(&world.table.open_shards()[0]);
    let whole = world.table.true_listing();
    let without = |gone: &ShardId| StreamListing {
        shards: whole
            .shards
            .iter()
            .filter(|shard| shard.id != *gone)
            .cloned()
            .collect(),
        ..whole.clone()
    };
    let turns = [without(&left), without(&right)];
    world
        .table
        .script_listings(turns.iter().cycle().take(80).cloned());
    let handoff = world.plan(request(2)).await.unwrap().handoff.unwrap();
    assert_eq!(handoff.shards.len(), whole.shards.len());
    assert_eq!(handoff.oddities, [Oddity::Unsettled]);
}

/// An eventually consistent scan begins further back: what it reads may be old.
#[tokio::test(start_paused = true)]
async fn an_eventual_scan_begins_with_what_was_open_a_quarter_of_an_hour_ago() {
    let world = World::with(BOTH).await;
    let parent = world.table.open_shards()[0].clone();
    world.table.roll(&parent);
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let eventual = BackupRequest {
        consistent: Some(false),
        ..request(2)
    };
    let handoff = world.plan(eventual).await.unwrap().handoff.unwrap();
    assert_eq!(begins(&handoff), [parent]);
}

/// The table's second stream: the first log is told that it has ended, once, and from when.
#[tokio::test(start_paused = true)]
async fn a_stream_in_place_of_another_is_the_next_generation_and_the_loss_between_is_on_record() {
    let world = World::with(BOTH).await;
    world.plan(request(2)).await.unwrap();
    let first = world.generations().remove(0);
    let written = world.table.put("last", "1").unwrap().record.unwrap();
    let open = world.registered()[0].to_string();
    let log = world.rows.groups().pop_first().unwrap();
    let deps = world.deps();
    let leases = deps.live.leases.group(&log, "w").unwrap();
    let seconds = written.event_time.0.to_string();
    leases
        .note(&open.parse().unwrap(), "event_time", &seconds)
        .await
        .unwrap();
    world.table.disable_stream();
    tokio::time::sleep(HOUR).await;
    world.table.enable_stream(StreamView::NewAndOldImages);
    let mut incidents = None;
    for n in 0..2_u64 {
        let again = BackupRequest {
            snapshot_id: Some(
                format!("{:014}-efd1a093", 1_768_385_930_700 + n)
                    .parse()
                    .unwrap(),
            ),
            ..request(2)
        };
        plan(&world.deps(), again).await.unwrap();
        let now = world.incidents();
        assert_eq!(*incidents.get_or_insert(now.clone()), now, "told once");
        tokio::time::sleep(HOUR).await;
    }
    let generations = world.generations();
    assert_eq!(
        generations
            .iter()
            .map(|it| it.generation.0)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let incidents = incidents.unwrap();
    let [(key, ended)] = &incidents.iter().collect::<Vec<_>>()[..] else {
        panic!("{incidents:?}")
    };
    assert!(
        key.contains(&format!(
            "/log/{}/incidents/stream-ended.json",
            first.stream_label
        )),
        "{key}"
    );
    assert_eq!(ended.kind, IncidentKind::StreamEnded);
    assert_eq!(ended.from, written.event_time);
    assert_eq!(
        ended.until,
        UnixSeconds(UnixSeconds::of(generations[1].met_at).0 + 60)
    );
}

/// A log that has begun is not begun again: shards below a registered one are left to it.
#[tokio::test(start_paused = true)]
async fn a_second_backup_registers_nothing_that_the_first_will_lead_to() {
    let world = World::with(BOTH).await;
    world.plan(request(2)).await.unwrap();
    let before = world.registered();
    for n in 0..2_u64 {
        tokio::time::sleep(4 * HOUR).await;
        world.table.roll(&world.table.open_shards()[0]);
        let again = BackupRequest {
            snapshot_id: Some(
                format!("{:014}-efd1a093", 1_768_385_930_700 + n)
                    .parse()
                    .unwrap(),
            ),
            ..request(2)
        };
        plan(&world.deps(), again).await.unwrap();
        assert_eq!(world.registered(), before, "after {n} rolls");
    }
    assert_eq!(world.generations().len(), 1);
}

/// What leaves something out is no base for a restore to a second.
#[tokio::test(start_paused = true)]
async fn a_query_has_no_handoff() {
    let world = World::with(BOTH).await;
    let some = |with_stream| BackupRequest {
        max_items: Some(3),
        with_stream,
        ..request(2)
    };
    let record = world.plan(some(false)).await.unwrap();
    assert_eq!(record.handoff, None);
    assert!(record.no_handoff.unwrap().contains("limit"));
    assert_eq!(
        failed(world.plan(some(true)).await).0,
        ErrorName::InvalidInput
    );
}

/// A stream that cannot be asked is a reason to go without, unless a handoff was asked for.
#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_used_costs_an_unasked_handoff_and_no_backup() {
    let gone = || StreamError::Gone("the stream".into());
    let world = World::with(BOTH).await;
    world.table.fail_next(StreamCall::Listing, gone());
    let record = world.plan(request(2)).await.unwrap();
    assert!(
        record
            .no_handoff
            .unwrap()
            .contains("the stream is not there")
    );
    let world = World::with(BOTH).await;
    world.table.fail_next(StreamCall::Listing, gone());
    let (name, _) = failed(world.plan(with_stream()).await);
    assert_eq!(name, ErrorName::StreamUnsuitable);
    // What only fails in passing is asked again.
    let world = World::with(BOTH).await;
    let busy = highwater_domain::failure::Failure::new(
        highwater_domain::failure::FailureKind::Throttled,
        "DescribeStream",
        "orders",
        "busy",
    );
    world
        .table
        .fail_next(StreamCall::Listing, StreamError::Failed(busy));
    assert!(world.plan(request(2)).await.unwrap().handoff.is_some());
}

/// Calls something when the stream was listed so many times.
struct Meddled {
    inner: Arc<dyn StreamSource>,
    after: std::sync::Mutex<(u32, Box<dyn Fn() + Send>)>,
}

impl std::fmt::Debug for Meddled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddled")
    }
}

#[async_trait]
impl StreamSource for Meddled {
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError> {
        let listing = self.inner.listing(stream_arn).await;
        let mut after = self.after.lock().unwrap();
        after.0 -= 1;
        if after.0 == 0 {
            (after.1)();
            after.0 = u32::MAX;
        }
        listing
    }

    async fn children(&self, arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        self.inner.children(arn, shard).await
    }

    async fn iterator(
        &self,
        arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        self.inner.iterator(arn, shard, from).await
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        self.inner.records(iterator, limit).await
    }
}

fn meddled(world: &World, after: u32, act: impl Fn() + Send + 'static) -> Deps {
    let mut deps = world.deps();
    deps.live.streams = Arc::new(Meddled {
        inner: deps.live.streams,
        after: std::sync::Mutex::new((after, Box::new(act))),
    });
    deps
}

/// The table is described once more after the listing: what was listed must still be its stream.
#[tokio::test(start_paused = true)]
async fn a_stream_exchanged_while_it_is_listed_is_seen() {
    let exchanged = |world: &World| {
        let table = world.table.clone();
        meddled(world, 2, move || {
            table.disable_stream();
            table.enable_stream(StreamView::NewAndOldImages);
        })
    };
    let world = World::with(BOTH).await;
    let (name, _) = failed(plan(&exchanged(&world), with_stream()).await);
    assert_eq!(name, ErrorName::StreamChanged);
    assert!(world.generations().is_empty());
    plan(&exchanged(&World::with(BOTH).await), request(2))
        .await
        .unwrap();
    let world = World::with(BOTH).await;
    let table = world.table.clone();
    let dropped = meddled(&world, 2, move || table.drop_and_create());
    assert_eq!(
        failed(plan(&dropped, request(2)).await).0,
        ErrorName::TableChanged
    );
}

/// A signal is heard while a stream settles.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_a_stream() {
    let world = World::with(None).await;
    let deps = world.deps();
    let stop = deps.live.stop.clone();
    let stopped = async {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        stop.set();
        world.time.now()
    };
    let (planned, stopped) = tokio::join!(plan(&deps, with_stream()), stopped);
    assert_eq!(failed(planned).0, ErrorName::Interrupted);
    assert!(world.time.now().since(stopped) <= 500);
}

#[tokio::test(start_paused = true)]
async fn a_preview_tells_and_changes_nothing() {
    let look = async |world: &World, request: BackupRequest| {
        let deps = world.deps();
        let record = plan_backup::preview(&deps, &plan_input(request.clone())).await?;
        plan_handoff::preview(&deps, &request, &record).await
    };
    let world = World::with(BOTH).await;
    let looked = look(&world, request(2)).await.unwrap();
    let Preview::Handoff(handoff) = looked else {
        panic!("{looked:?}")
    };
    assert_eq!(begins(&handoff), world.table.open_shards());
    let without = World::with(None).await;
    assert_eq!(
        look(&without, with_stream()).await.unwrap(),
        Preview::Enable
    );
    assert!(matches!(
        look(&without, request(2)).await.unwrap(),
        Preview::Without(_)
    ));
    let keys = World::with(Some(StreamView::KeysOnly)).await;
    assert_eq!(
        failed(look(&keys, with_stream()).await).0,
        ErrorName::StreamUnsuitable
    );
    for world in [&world, &without, &keys] {
        assert!(world.store.keys().is_empty() && world.leases().is_empty());
    }
    assert_eq!(without.table.stream_arn(), None);
}

#[tokio::test(start_paused = true)]
async fn positions_are_at_the_start_of_shards() {
    let world = World::with(BOTH).await;
    let handoff = world.plan(request(2)).await.unwrap().handoff.unwrap();
    for shard in handoff.beginnings() {
        assert_eq!(shard.resume, Some(Position::At(shard.shard.start.clone())));
    }
}

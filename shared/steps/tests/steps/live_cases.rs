//! The poller's part of the acceptance cases: what streams do, and what the log and the mark say of it.

use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::incident::{IncidentKind, WITHOUT_END};
use highwater_domain::log_facts::{Ending, Origin};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::shard::StreamView;
use highwater_domain::stream_source::StreamError;
use highwater_lease::Position;
use highwater_testkit::simulation::StreamCall;

use crate::live_world::{HOUR, MINUTE, SECOND, World, follow_for};

#[tokio::test(start_paused = true)]
async fn a_follower_logs_every_record_and_the_mark_follows() {
    let world = World::new().await;
    world.put_many("a", 2500);
    let report = world.follow(120 * SECOND).await;
    assert_eq!((report.records, report.incidents), (2500, 0));
    world.assert_all_logged();
    assert_eq!(world.doubled(), 0);
    world.assert_no_incidents();
    world.assert_rows_are_sound();
    let mark = world.mark();
    assert_eq!(report.mark, Some(mark.clone()));
    let stamp = world.table.all_records()[0].stamp;
    assert_eq!(mark.mark.proven, Some(UnixSeconds(stamp.0 - 1)));
    let lag = world.now().0 - mark.mark.assumed.unwrap().0;
    assert!((120..140).contains(&lag), "assumed is {lag} s behind");
    assert_eq!((mark.open_shards, mark.held_back), (1, false));
    let row = world.row(&world.only_shard());
    assert_eq!(row.owner, None, "the lease was given back");
}

/// Case 57: an idle table: proven stands still, rolled follows the shards, assumed follows the time.
#[tokio::test(start_paused = true)]
async fn case_57_an_idle_table_has_three_grades() {
    let world = World::new().await;
    world.table.put("a", "1");
    let written = world.now();
    world.follow(MINUTE).await;
    for _ in 0..2 {
        tokio::time::sleep(4 * HOUR).await;
        world.table.roll(&world.only_shard());
        world.follow(120 * SECOND).await;
    }
    let mark = world.mark().mark;
    let made = world.only_shard().created_at().unwrap().0 / 1000;
    assert_eq!(mark.proven, Some(UnixSeconds(written.0 - 1)));
    assert_eq!(mark.rolled, Some(UnixSeconds(made - 60)));
    assert!(world.now().0 - mark.assumed.unwrap().0 < 140);
}

/// Case 30: empty answers are not the tip.
#[tokio::test(start_paused = true)]
async fn case_30_twenty_empty_answers_and_then_data() {
    let world = World::new().await;
    world.table.put("a", "1");
    world.table.empty_pages_next(2);
    world.follow(12 * SECOND).await;
    world.assert_all_logged();
    world.table.put("b", "1");
    world.table.empty_pages_next(20);
    world.follow(120 * SECOND).await;
    world.assert_all_logged();
    world.assert_mark_is_true(&world.mark());
    world.assert_no_incidents();
}

/// Case 31: an iterator that has expired is made anew behind the last record.
#[tokio::test(start_paused = true)]
async fn case_31_an_expired_iterator_loses_and_doubles_nothing() {
    let world = World::new().await;
    world.put_many("a", 10);
    let expired = || StreamError::IteratorExpired("a shard".into());
    world.table.fail_next(StreamCall::Records, expired());
    let (report, ()) = tokio::join!(world.follow(MINUTE), async {
        tokio::time::sleep(10 * SECOND).await;
        world.put_many("b", 10);
        world.table.fail_next(StreamCall::Records, expired());
    });
    assert_eq!((report.records, report.repeated), (20, 0));
    world.assert_all_logged();
    assert_eq!(world.doubled(), 0);
    world.assert_no_incidents();
}

/// Requests fail in passing: all is read nevertheless, in order.
#[tokio::test(start_paused = true)]
async fn throttles_and_failures_are_waited_out() {
    let world = World::new().await;
    world.put_many("a", 10);
    for call in [StreamCall::Iterator, StreamCall::Records] {
        for kind in [
            FailureKind::Throttled,
            FailureKind::Transient,
            FailureKind::Corrupt,
            FailureKind::Unreachable,
        ] {
            let failure = Failure::new(kind, "GetRecords", "orders", "no");
            world.table.fail_next(call, failure.into());
        }
    }
    world.follow(MINUTE).await;
    world.assert_all_logged();
    world.assert_no_incidents();
}

/// What cannot pass ends the follower with that error, and its leases are given back.
#[tokio::test(start_paused = true)]
async fn a_permission_that_is_missing_is_an_error() {
    let world = World::new().await;
    let denied = Failure::new(FailureKind::Denied, "GetRecords", "orders", "not allowed");
    world.table.fail_next(StreamCall::Records, denied.into());
    let error = world.try_follow(60 * SECOND).await.unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
    assert_eq!(world.row(&world.only_shard()).owner, None);
}

/// Case 32: records are gone between the position and the resume: a gap on record, and what is left is read.
#[tokio::test(start_paused = true)]
async fn case_32_trimmed_records_are_a_gap_and_never_skipped_in_silence() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(30 * SECOND).await;
    let read = world.now();
    tokio::time::sleep(25 * HOUR).await;
    world.put_many("b", 5);
    let shard = world.only_shard();
    world.table.trim(&shard, 5);
    let (_, ()) = tokio::join!(world.follow(300 * SECOND), async {
        tokio::time::sleep(200 * SECOND).await;
        world.put_many("c", 1);
    });
    let gaps = world.incidents_of(IncidentKind::Gap);
    let gap = &gaps[0];
    assert_eq!((gaps.len(), gap.shard.as_ref()), (1, Some(&shard)));
    let lost = world.missing();
    assert_eq!(lost.len(), 2, "{lost:?}");
    for record in world.table.records_of(&shard).iter().skip(3).take(2) {
        assert!(gap.touches(record.event_time, record.event_time), "I15");
    }
    assert!(gap.from <= read && gap.until > read);
    let mark = world.mark();
    world.assert_mark_is_true(&mark);
    assert!(mark.held_back);
    for at in [mark.mark.proven, mark.mark.rolled, mark.mark.assumed] {
        assert_eq!(at, Some(UnixSeconds(gap.from.0 - 1)), "the mark stops");
    }
}

/// Case 33: a shard that is not there any more is a gap and not an end; its children go on.
#[tokio::test(start_paused = true)]
async fn case_33_a_shard_that_vanished_unread_is_a_gap() {
    for is_listed in [true, false] {
        let world = World::new().await;
        world.put_many("a", 3);
        world.follow(30 * SECOND).await;
        let shard = world.only_shard();
        world.put_many("b", 3);
        let child = world.table.roll(&shard);
        world.put_many("c", 3);
        let lost = world.table.records_of(&shard).split_off(3);
        if is_listed {
            world.table.forget(&shard);
        } else {
            world.table.unlist(&shard);
        }
        world.follow(300 * SECOND).await;
        let gaps = world.incidents_of(IncidentKind::Gap);
        assert_eq!((gaps.len(), lost.len()), (1, 3));
        for record in lost {
            let second = record.event_time;
            assert!(gaps[0].touches(second, second), "I15");
            assert!(world.mark().mark.best() < Some(second));
        }
        assert_eq!(world.logged()[&shard].len(), 3);
        assert_eq!(world.logged()[&child].len(), 3, "its child goes on");
        let end = world.shard_end(&shard).unwrap();
        assert_eq!(
            (end.ending, end.children),
            (Ending::Lost, vec![child.clone()])
        );
        assert!(world.row(&shard).lost);
        let facts = world.shard_facts(&child).unwrap();
        assert_eq!(facts.origin, Origin::AfterGap);
        assert!(facts.ordinal > world.row(&shard).ordinal);
        world.assert_mark_is_true(&world.mark());
        world.assert_rows_are_sound();
    }
}

/// A shard that is not known everywhere yet is no gap.
#[tokio::test(start_paused = true)]
async fn a_shard_that_is_not_there_for_a_moment_is_waited_for() {
    let world = World::new().await;
    world.put_many("a", 3);
    for _ in 0..2 {
        let gone = StreamError::Gone("the shard".into());
        world.table.fail_next(StreamCall::Iterator, gone);
    }
    world.follow(120 * SECOND).await;
    world.assert_all_logged();
    world.assert_no_incidents();
}

/// Case 34: children that are not told of for a while, and then one after the other.
#[tokio::test(start_paused = true)]
async fn case_34_both_children_are_registered_and_the_mark_waits() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(30 * SECOND).await;
    let parent = world.only_shard();
    let before = world.table.true_listing();
    let (low, high) = world.table.split(&parent);
    world.put_many("b", 20);
    let mut closed = before.clone();
    closed.shards = vec![world.table.listed(&parent)];
    let mut one = closed.clone();
    one.shards.push(world.table.listed(&low));
    world.table.script_listings(vec![closed; 20]);
    let none = vec![Vec::new(); 8];
    let first = vec![vec![world.table.listed(&low)]];
    world
        .table
        .script_children(&parent, none.into_iter().chain(first));
    let (_, ()) = tokio::join!(world.follow(40 * SECOND), async {
        tokio::time::sleep(35 * SECOND).await;
        assert!(!world.row(&parent).ended, "nobody has told of children");
        world.assert_mark_is_true(&world.mark());
    });
    world.follow(200 * SECOND).await;
    let end = world.shard_end(&parent).unwrap();
    let mut both = vec![low, high];
    both.sort();
    assert_eq!(end.children, both);
    assert_eq!(world.row(&parent).children, both);
    world.assert_all_logged();
    world.assert_no_incidents();
    world.assert_rows_are_sound();
}

/// Case 35: a second child appears after the children were taken for complete.
#[tokio::test(start_paused = true)]
async fn case_35_a_late_child_is_on_record_and_read_from_its_start() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(30 * SECOND).await;
    let parent = world.only_shard();
    let (low, high) = world.table.split(&parent);
    world.put_many("b", 20);
    let mut listing = world.table.true_listing();
    listing.shards.retain(|shard| shard.id != high);
    world.table.script_listings(vec![listing; 6]);
    let one = vec![world.table.listed(&low)];
    world.table.script_children(&parent, vec![one; 4]);
    world.follow(30 * SECOND).await;
    let end = world.shard_end(&parent).unwrap();
    assert_eq!(end.children, std::slice::from_ref(&low));
    world.follow(200 * SECOND).await;
    let late = world.incidents_of(IncidentKind::LateChild);
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].shard, Some(high.clone()));
    assert_eq!(world.shard_facts(&high).unwrap().origin, Origin::LateChild);
    assert!(world.row(&parent).children.contains(&high));
    world.assert_all_logged();
    world.assert_mark_is_true(&world.mark());
    world.assert_rows_are_sound();
}

/// Cases 36 and 66: a parent that is open although its child is listed is read first, to its end.
#[tokio::test(start_paused = true)]
async fn case_36_an_open_parent_is_drained_before_its_child() {
    let world = World::new().await;
    world.put_many("a", 3);
    let parent = world.only_shard();
    let child = world.table.begin_roll(&parent);
    world.put_many("b", 3);
    assert_eq!(
        world.table.records_of(&parent).len(),
        6,
        "it takes records still"
    );
    // The listing is odd, and stays so: patience ends after five minutes.
    world.follow(400 * SECOND).await;
    assert_eq!(world.logged()[&parent].len(), 6);
    assert!(!world.shard_rows().contains_key(&child), "it waits");
    world.table.end_roll(&parent);
    world.put_many("c", 3);
    world.follow(120 * SECOND).await;
    world.assert_all_logged();
    assert!(world.row(&parent).ended && !world.row(&child).ended);
    world.assert_rows_are_sound();
}

/// Case 37: a child that is listed without its parent is not taken for a root.
#[tokio::test(start_paused = true)]
async fn case_37_a_child_without_its_parent_is_waited_with() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(30 * SECOND).await;
    let shard = world.only_shard();
    let child = world.table.roll(&shard);
    let grandchild = world.table.roll(&child);
    world.put_many("b", 3);
    // The listing hides the child in between, so that the grandchild seems to come from nowhere.
    let mut listing = world.table.true_listing();
    listing.shards.retain(|it| it.id != child);
    let deps = world.deps();
    let log = world.log(&deps).await;
    let mut surveyor = highwater_steps::survey_shards::Surveyor::default();
    for _ in 0..3 {
        world.table.script_listings([listing.clone()]);
        let found = surveyor.run(&deps, &log).await.unwrap();
        assert_eq!(found.registered, []);
        tokio::time::sleep(MINUTE).await;
    }
    world.follow(200 * SECOND).await;
    assert_eq!(
        world.shard_facts(&grandchild).unwrap().origin,
        Origin::Child
    );
    world.assert_all_logged();
    world.assert_no_incidents();
    // One that stays hidden is a root after five minutes, and on record.
    let lone = world.table.roll(&world.table.roll(&grandchild));
    let mut listing = world.table.true_listing();
    listing.shards.retain(|it| it.id == lone);
    for _ in 0..6 {
        world.table.script_listings([listing.clone()]);
        surveyor.run(&deps, &log).await.unwrap();
        tokio::time::sleep(MINUTE).await;
    }
    let roots = world.incidents_of(IncidentKind::LateRoot);
    assert_eq!(
        (roots.len(), roots[0].shard.clone()),
        (1, Some(lone.clone()))
    );
    assert_eq!(world.shard_facts(&lone).unwrap().origin, Origin::LateRoot);
}

/// A shard without a parent that nobody knew of: a root, late.
#[tokio::test(start_paused = true)]
async fn an_unknown_root_is_registered_and_on_record() {
    let world = World::new().await;
    world.table.split(&world.only_shard());
    let (low, high) = (
        world.table.open_shards()[0].clone(),
        world.table.open_shards()[1].clone(),
    );
    world.put_many("a", 20);
    let mut young = world.table.true_listing();
    young.shards.retain(|it| it.id == low);
    for shard in &mut young.shards {
        shard.parent = None;
    }
    world.table.script_listings(vec![young.clone(); 3]);
    let mut all = world.table.true_listing();
    all.shards.retain(|it| it.id == low || it.id == high);
    for shard in &mut all.shards {
        shard.parent = None;
    }
    world.table.script_listings(vec![all; 10]);
    world.follow(100 * SECOND).await;
    let roots = world.incidents_of(IncidentKind::LateRoot);
    assert_eq!(
        (roots.len(), roots[0].shard.clone()),
        (1, Some(high.clone()))
    );
    assert_eq!(world.logged().len(), 2);
    assert_eq!(world.shard_facts(&high).unwrap().origin, Origin::LateRoot);
}

/// Cases 45 and 46: what counts is the place in the lineage, not what the numbers look like.
#[tokio::test(start_paused = true)]
async fn case_46_ordinals_grow_along_the_lineage() {
    let world = World::new().await;
    let mut path = vec![world.only_shard()];
    for round in 0..4 {
        world.put_many(&format!("{round}-"), 2);
        tokio::time::sleep(HOUR).await;
        let last = path.last().unwrap().clone();
        path.push(world.table.roll(&last));
        world.table.put("0-0", &round.to_string());
    }
    world.follow(300 * SECOND).await;
    let ordinals: Vec<_> = path.iter().map(|id| world.row(id).ordinal).collect();
    assert!(ordinals.is_sorted_by(|a, b| a < b), "{ordinals:?}");
    for id in &path {
        assert_eq!(
            world.shard_facts(id).unwrap().ordinal,
            world.row(id).ordinal
        );
    }
    world.assert_all_logged();
}

/// Case 47: stamps that go back do not take the event time back, not even over the border of a shard.
#[tokio::test(start_paused = true)]
async fn case_47_event_times_do_not_go_back() {
    let world = World::new().await;
    world.table.put("a", "1");
    let top = world.now();
    world.table.skew_stamps(-2);
    world.table.put("a", "2");
    let shard = world.only_shard();
    let child = world.table.roll(&shard);
    world.table.put("a", "3");
    world.follow(MINUTE).await;
    assert_eq!(world.row(&shard).event_time, Some(top));
    assert_eq!(world.row(&child).event_time_base, Some(top));
    assert_eq!(world.row(&child).event_time, Some(top));
    assert_eq!(world.shard_end(&shard).unwrap().event_time, Some(top));
    assert_eq!(world.shard_facts(&child).unwrap().event_time, Some(top));
    for record in world.table.all_records() {
        assert_eq!(record.event_time, top);
    }
}

/// Case 59: a record that is published after the mark of the grade `assumed` has passed its stamp.
#[tokio::test(start_paused = true)]
async fn case_59_a_late_record_is_logged_and_on_record() {
    let world = World::new().await;
    world.table.put("a", "1");
    world.follow(MINUTE).await;
    world.table.hold_publication();
    world.table.put("b", "1");
    let stamp = world.now();
    let before = tokio::join!(world.follow(400 * SECOND), async {
        tokio::time::sleep(350 * SECOND).await;
        world.mark()
    });
    let before = before.1;
    assert!(before.mark.assumed.unwrap() >= stamp, "L was too short");
    assert!(before.mark.rolled.unwrap() < stamp);
    world.table.publish_all();
    world.follow(20 * SECOND).await;
    world.assert_all_logged();
    let late = world.incidents_of(IncidentKind::LateRecord);
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].from, stamp);
    assert!(late[0].until >= stamp);
    world.follow(200 * SECOND).await;
    assert!(world.mark().mark.assumed.unwrap() > before.mark.assumed.unwrap());
    assert_eq!(world.incidents().len(), 1, "nothing new is late");
}

/// Case 59 over the border of a shard: a closed parent is silent for a while, and its child has had records for minutes.
#[tokio::test(start_paused = true)]
async fn case_59_records_behind_a_silent_parent_are_late_in_its_child() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(MINUTE).await;
    let parent = world.only_shard();
    let child = world.table.roll(&parent);
    tokio::time::sleep(5 * SECOND).await;
    world.put_many("b", 3);
    let stamp = world.now();
    tokio::time::sleep(10 * MINUTE).await;
    world.table.empty_pages_next(5);
    let stale = world.table.true_listing();
    let mut open = stale.clone();
    open.shards.retain(|shard| shard.id == parent);
    open.shards[0].end = None;
    world.table.script_listings(vec![open; 3]);
    let mut request = World::request("a");
    request.publish_every_ms = 500;
    follow_for(&world.deps(), &request, 90 * SECOND)
        .await
        .unwrap();
    world.assert_all_logged();
    let history = world.live.history();
    let passed = history
        .iter()
        .any(|(_, _, mark)| mark.mark.assumed >= Some(stamp));
    assert!(passed);
    let late = world.incidents_of(IncidentKind::LateRecord);
    assert_eq!((late.len(), late[0].shard.clone()), (1, Some(child)));
    assert!(late[0].from <= stamp && stamp <= late[0].until);
}

/// A shard that a listing shows as closed is not taken for silent.
#[tokio::test(start_paused = true)]
async fn the_silence_of_a_closed_shard_says_nothing() {
    let world = World::new().await;
    world.put_many("a", 3);
    world.follow(MINUTE).await;
    let parent = world.only_shard();
    assert!(world.row(&parent).progress().silence.is_some());
    world.table.roll(&parent);
    let deps = world.deps();
    let log = world.log(&deps).await;
    let mut surveyor = highwater_steps::survey_shards::Surveyor::default();
    surveyor.run(&deps, &log).await.unwrap();
    assert_eq!(world.row(&parent).progress().silence, None);
}

/// Case 65: a shard that was read whole, but whose end was not recorded before its records were gone.
#[tokio::test(start_paused = true)]
async fn case_65_a_shard_that_was_read_whole_is_no_gap() {
    for is_whole in [true, false] {
        let world = World::new().await;
        world.put_many("a", 3);
        let shard = world.only_shard();
        let deps = world.deps();
        world.follow(30 * SECOND).await;
        if !is_whole {
            world.put_many("b", 1);
        }
        let child = world.table.roll(&shard);
        // The last thing that anybody does for 25 hours: the survey notes where the shard ends.
        let log = world.log(&deps).await;
        let mut surveyor = highwater_steps::survey_shards::Surveyor::default();
        surveyor.run(&deps, &log).await.unwrap();
        assert!(world.row(&shard).end.is_some());
        tokio::time::sleep(25 * HOUR).await;
        world.put_many("c", 1);
        world.follow(300 * SECOND).await;
        assert!(world.row(&shard).ended);
        let gaps = world.incidents_of(IncidentKind::Gap);
        assert_eq!(gaps.len(), usize::from(!is_whole), "{gaps:?}");
        let facts = world.shard_facts(&child).unwrap();
        let origin = if is_whole {
            Origin::Child
        } else {
            Origin::AfterGap
        };
        assert_eq!(facts.origin, origin);
        world.assert_mark_is_true(&world.mark());
    }
}

/// Case 26: what cannot be understood is kept as it came and on record, and reading goes on.
#[tokio::test(start_paused = true)]
async fn case_26_a_record_that_cannot_be_understood_is_kept() {
    let world = World::new().await;
    world.put_many("a", 3);
    let deps = crate::live_odd_records::with_odd_record(&world, 1);
    follow_for(&deps, &World::request("a"), 60 * SECOND)
        .await
        .unwrap();
    let unread = world.incidents_of(IncidentKind::UnreadRecord);
    assert_eq!(unread.len(), 1);
    let records = world.table.all_records();
    assert!(unread[0].touches(records[1].event_time, records[1].event_time));
    let folder = format!("{}unread/", World::place().stream(&world.label()));
    let objects = world.store.objects();
    let kept: Vec<&Bytes> = objects
        .iter()
        .filter(|(key, _)| key.starts_with(&folder))
        .map(|(_, object)| &object.body)
        .collect();
    assert_eq!(kept, [&crate::live_odd_records::odd(&records[1].raw)]);
    let shard = world.only_shard();
    assert_eq!(world.logged()[&shard].len(), 2, "the others are in the log");
    let last = records[2].sequence_number.clone();
    assert_eq!(world.row(&shard).position, Position::after(last));
    let mark = world.mark();
    assert!(mark.held_back && mark.mark.best() < Some(unread[0].from));
}

/// A page in any order, with doubles: each record once, in order.
#[tokio::test(start_paused = true)]
async fn records_out_of_order_and_doubled_are_put_in_order() {
    let world = World::new().await;
    world.put_many("a", 12);
    let deps = crate::live_odd_records::with_shuffled_pages(&world);
    let report = follow_for(&deps, &World::request("a"), 60 * SECOND)
        .await
        .unwrap();
    world.assert_all_logged();
    assert_eq!((report.records, world.doubled()), (12, 0));
    assert!(report.repeated > 0);
    world.assert_no_incidents();
}

/// The stream is disabled while it is followed: it is read to its end, its log is closed, and the follower has nothing left
/// to do.
#[tokio::test(start_paused = true)]
async fn a_disabled_stream_is_drained_and_its_log_is_closed() {
    let world = World::new().await;
    world.put_many("a", 5);
    let (report, last) = tokio::join!(world.follow(900 * SECOND), async {
        tokio::time::sleep(MINUTE).await;
        world.put_many("b", 5);
        let last = world.now();
        world.table.disable_stream();
        world.table.put("lost", "1");
        last
    });
    assert!(report.closed, "{report:?}");
    world.assert_all_logged();
    let ended = world.incidents_of(IncidentKind::StreamEnded);
    assert_eq!(ended.len(), 1);
    assert!(ended[0].from <= UnixSeconds(last.0 + 1) && ended[0].until > last);
    assert!(world.mark().mark.best() < Some(ended[0].from));
}

/// The stream is disabled and another one enabled while it is followed: both are read, and the loss in between is on record.
#[tokio::test(start_paused = true)]
async fn another_stream_is_followed_beside_the_old_one() {
    let world = World::new().await;
    world.put_many("a", 5);
    let old = world.label();
    let (report, last) = tokio::join!(world.follow(900 * SECOND), async {
        tokio::time::sleep(MINUTE).await;
        world.put_many("b", 5);
        let last = world.now();
        world.table.disable_stream();
        world.table.put("lost", "1");
        tokio::time::sleep(30 * SECOND).await;
        world.table.enable_stream(StreamView::NewAndOldImages);
        world.put_many("c", 5);
        last
    });
    assert_ne!(report.stream_label, old, "{report:?}");
    world.assert_all_logged();
    let folder = World::place().incidents(&old);
    let ended: highwater_domain::incident::Incident =
        world.object(&format!("{folder}stream-ended.json")).unwrap();
    assert!(ended.from <= UnixSeconds(last.0 + 1), "{ended:?}");
    assert!(ended.until > last, "{ended:?}");
    let mark: highwater_domain::live_control::PublishedMark =
        world.object(&World::place().mark(&old)).unwrap();
    assert_eq!((mark.open_shards, mark.held_back), (0, true));
    assert!(mark.mark.best() < Some(ended.from));
    assert!(world.mark().mark.assumed.is_some());
}

/// What is left of a stream that was disabled is read by whoever starts next, whatever the last one left undone.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_disabled_stream_is_read_by_the_next_follower() {
    for is_claimed_only in [false, true] {
        let world = World::new().await;
        world.put_many("a", 5);
        let old = world.label();
        world.follow(30 * SECOND).await;
        if is_claimed_only {
            // As after a crash right behind the claim to the generation.
            let group = world.rows.groups().into_iter().next().unwrap();
            world.forget_leases(&group).await;
        }
        world.put_many("b", 5);
        world.table.disable_stream();
        world.table.put("lost", "1");
        let report = world.follow(120 * SECOND).await;
        assert!(report.closed, "{report:?}");
        world.assert_all_logged();
        let ended = world.incidents_of(IncidentKind::StreamEnded);
        assert_eq!((ended.len(), ended[0].until), (1, WITHOUT_END));
        world.table.enable_stream(StreamView::NewAndOldImages);
        world.put_many("c", 5);
        world.follow(120 * SECOND).await;
        world.assert_all_logged();
        assert_ne!(world.label(), old);
    }
}

/// A generation that was claimed and never read, and whose stream is gone: that is on record, and nobody waits for it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_gone_before_it_was_read_is_on_record() {
    let world = World::new().await;
    world.put_many("a", 5);
    let deps = world.deps();
    world.log(&deps).await;
    world.table.disable_stream();
    tokio::time::sleep(30 * HOUR).await;
    let error = world.try_follow(200 * SECOND).await;
    let report = error.unwrap();
    assert!(report.closed);
    let gap = &world.incidents_of(IncidentKind::Gap)[0];
    for record in world.table.all_records() {
        assert!(gap.touches(record.event_time, record.event_time), "I15");
    }
    assert_eq!(world.incidents_of(IncidentKind::StreamEnded).len(), 1);
}

/// A log that is begun on a stream that was disabled an hour before, as by a follower that stood still between looking at
/// the table and at the stream: what it missed begins with the stream's end, not with the log.
#[tokio::test(start_paused = true)]
async fn what_a_stream_missed_before_its_log_was_begun_is_on_record() {
    let world = World::new().await;
    world.put_many("a", 5);
    world.table.disable_stream();
    tokio::time::sleep(MINUTE).await;
    world.table.put("lost", "1");
    let lost = world.now();
    tokio::time::sleep(HOUR).await;
    let deps = world.deps();
    world.log(&deps).await;
    let report = world.follow(200 * SECOND).await;
    assert!(report.closed, "{report:?}");
    world.assert_all_logged();
    let ended = world.incidents_of(IncidentKind::StreamEnded);
    assert_eq!(ended.len(), 1);
    assert!(ended[0].touches(lost, lost), "I15: {ended:?}");
}

/// Case 42: a worker whose clock is an hour off publishes the same mark.
#[tokio::test(start_paused = true)]
async fn case_42_a_wrong_clock_does_not_move_the_mark() {
    for skew_ms in [-3_600_000, 3_600_000] {
        let mut world = World::new().await;
        world.skew_ms = skew_ms;
        world.put_many("a", 3);
        world.follow(120 * SECOND).await;
        let lag = world.now().0 - world.mark().mark.assumed.unwrap().0;
        assert!((120..140).contains(&lag), "{skew_ms}: {lag} s behind");
        world.assert_all_logged();
    }
}

/// Case 44: more shards than fit on a page of anything.
#[tokio::test(start_paused = true)]
async fn case_44_all_of_many_shards_are_read() {
    let world = World::new().await;
    for _ in 0..7 {
        for shard in world.table.open_shards() {
            world.table.split(&shard);
        }
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(world.table.open_shards().len(), 128);
    world.put_many("a", 500);
    world.follow(400 * SECOND).await;
    world.assert_all_logged();
    world.assert_rows_are_sound();
    world.assert_no_incidents();
    assert_eq!(world.mark().open_shards, 128);
}

/// `until_idle` ends by itself once everything is read.
#[tokio::test(start_paused = true)]
async fn a_follower_may_end_when_nothing_comes_any_more() {
    let world = World::new().await;
    world.put_many("a", 30);
    world.table.roll(&world.only_shard());
    world.put_many("b", 30);
    let mut request = World::request("a").on_local_engine();
    request.until_idle = true;
    request.publish_every_ms = 500;
    let deps = world.deps();
    let run =
        highwater_steps::follow::run(&deps, &request, highwater_domain::budget::Budget::UNLIMITED);
    let report = tokio::time::timeout(MINUTE, run).await.unwrap().unwrap();
    assert_eq!((report.records, report.shards_ended), (60, 1));
    world.assert_all_logged();
    // Nothing new: it ends again.
    let deps = world.deps();
    let run =
        highwater_steps::follow::run(&deps, &request, highwater_domain::budget::Budget::UNLIMITED);
    let report = tokio::time::timeout(MINUTE, run);
    assert_eq!(report.await.unwrap().unwrap().records, 0);
}

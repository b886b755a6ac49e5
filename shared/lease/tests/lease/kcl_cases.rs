//! KCL's acceptance cases, in this crate's terms. KC-08, KC-11 and KC-12 are with the balance, the read budget and the renewals.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_kv::{Table, TableSpec};
use highwater_lease::{
    Change, Claimed, Error, HeldLease, KvRows, LeaseId, Leases, NewLease, Outcome, Position, Rows,
    Settings, Standing, State,
};

use crate::engine::*;

/// A worker that looks every `seconds` until it has seen the owner silent for the lease time.
async fn acquire_after_silence(engine: &Engine, worker: &Leases, shard: &str) -> HeldLease {
    assert!(worker.acquire(&id(shard)).await.is_err());
    engine.forward(30);
    worker.acquire(&id(shard)).await.unwrap()
}

#[tokio::test]
async fn kc_01_a_lease_that_is_held_is_refused() {
    let engine = Engine::start().await;
    let (a, b) = (engine.worker("a"), engine.worker("b"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    let refused = b.acquire(&id("0001")).await;
    assert!(
        matches!(&refused, Err(Error::NotAcquired { held_by, epoch, .. }) if held_by == "a" && *epoch == held.epoch()),
        "{refused:?}"
    );
    // Not even by a second process of the same name.
    assert!(engine.worker("a").acquire(&id("0001")).await.is_err());
}

#[tokio::test]
async fn kc_02_a_dead_owners_lease_is_taken_with_its_checkpoint_and_a_release_keeps_both() {
    let engine = Engine::start().await;
    let (a, b) = (engine.worker("a"), engine.worker("b"));
    a.register(&root("parent")).await.unwrap();
    let parent = a.acquire(&id("parent")).await.unwrap();
    let child = root("0001").parent(id("parent"));
    parent
        .shard_end(std::slice::from_ref(&child))
        .await
        .unwrap();
    let dead = a.acquire(&id("0001")).await.unwrap();
    dead.checkpoint(&number("3735928559")).await.unwrap();

    let held = acquire_after_silence(&engine, &b, "0001").await;
    assert_eq!(held.position(), "AFTER:3735928559".parse().unwrap());
    assert_eq!(held.epoch().get(), dead.epoch().get() + 1);
    let before = b.fetch(&id("0001")).await.unwrap().lease;
    held.release().await.unwrap();
    let mut expected = before;
    expected.owner = None;
    assert_eq!(b.fetch(&id("0001")).await.unwrap().lease, expected);
    assert_eq!(expected.parents, [id("parent")]);
}

#[tokio::test]
async fn kc_03_a_claimant_succeeds_a_silent_owner_and_the_owner_learns_of_it() {
    let engine = Engine::start().await;
    let (a, i) = (engine.worker("a"), engine.worker("i"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    let mut claim = i.claim(&id("0001")).await.unwrap();
    // The owner is told of the claim, and is not refused its renewal: until it hands over, it owns the lease.
    assert!(matches!(claim.poll().await.unwrap(), Claimed::Waiting));
    held.renewal().renew().await.unwrap();
    engine.forward(10);
    assert!(matches!(claim.poll().await.unwrap(), Claimed::Waiting));
    let standing = held.renewal().renew().await.unwrap();
    assert_eq!(standing, Standing::Claimed { by: "i".into() });
    // It does nothing about it, and falls silent.
    assert!(matches!(claim.poll().await.unwrap(), Claimed::Waiting));
    engine.forward(30);
    let Claimed::Won(won) = claim.poll().await.unwrap() else {
        panic!("the claimant waits for a dead owner");
    };
    assert_eq!(won.epoch().get(), held.epoch().get() + 1);
    assert!(matches!(
        held.renewal().renew().await,
        Err(Error::Lost { .. })
    ));
}

#[tokio::test]
async fn kc_04_a_claim_stands_as_long_as_its_claimant_lives() {
    let engine = Engine::start().await;
    let (a, i) = (engine.worker("a"), engine.worker("i"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    let mut claim = i.claim(&id("0001")).await.unwrap();
    // 200 seconds: no window of 120 seconds, or of any other fixed length, ends it.
    for _ in 0..20 {
        held.renewal().renew().await.unwrap();
        engine.forward(10);
        assert!(matches!(claim.poll().await.unwrap(), Claimed::Waiting));
    }
    let standing = held.renewal().renew().await.unwrap();
    assert_eq!(standing, Standing::Claimed { by: "i".into() });
    assert!(
        matches!(a.claim(&id("0001")).await, Err(Error::AlreadyClaimed { by, .. }) if by == "i")
    );

    held.hand_over().await.unwrap();
    let Claimed::Won(won) = claim.poll().await.unwrap() else {
        panic!("handed over, but not won");
    };
    assert_eq!(won.epoch().get(), held.epoch().get() + 1);
    assert!(matches!(
        held.checkpoint(&number("200")).await,
        Err(Error::Lost { .. })
    ));
}

#[tokio::test]
async fn kc_05_a_claim_gives_no_right_before_the_owner_gives_way() {
    let engine = Engine::start().await;
    let (a, i) = (engine.worker("a"), engine.worker("i"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    let mut claim = i.claim(&id("0001")).await.unwrap();
    engine.forward(29);
    assert!(matches!(
        i.acquire(&id("0001")).await,
        Err(Error::NotAcquired { .. })
    ));
    assert!(matches!(claim.poll().await.unwrap(), Claimed::Waiting));
    held.renewal().renew().await.unwrap();
    engine.forward(29);
    assert!(matches!(
        i.acquire(&id("0001")).await,
        Err(Error::NotAcquired { .. })
    ));
}

#[tokio::test]
async fn kc_06_a_takeover_names_the_whole_row_that_it_saw_the_claim_included() {
    let engine = Engine::start().await;
    let (a, i, d) = (engine.worker("a"), engine.worker("i"), engine.worker("d"));
    a.register(&root("0001")).await.unwrap();
    a.acquire(&id("0001")).await.unwrap();
    let _claim = i.claim(&id("0001")).await.unwrap();
    for worker in [&i, &d] {
        assert!(worker.acquire(&id("0001")).await.is_err());
    }
    engine.forward(30);
    // Both have seen the silence, both are right, one gets it.
    let shard = id("0001");
    let (first, second) = tokio::join!(i.acquire(&shard), d.acquire(&shard));
    assert_eq!(
        [&first, &second]
            .iter()
            .filter(|result| result.is_ok())
            .count(),
        1,
        "{first:?} {second:?}"
    );
    let row = a.fetch(&shard).await.unwrap();
    assert_eq!((row.lease.epoch.get(), row.lease.claim), (2, None));
}

#[tokio::test]
async fn kc_07_a_fetch_shows_the_table_and_refreshes_what_is_known_of_the_owner() {
    let engine = Engine::start().await;
    let (a, b) = (engine.worker("a"), engine.worker("b"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    assert!(b.acquire(&id("0001")).await.is_err());
    engine.forward(20);
    held.checkpoint(&number("150")).await.unwrap();
    let row = b.fetch(&id("0001")).await.unwrap();
    assert_eq!(row.lease.position, "AFTER:150".parse().unwrap());
    engine.forward(29);
    assert!(
        b.acquire(&id("0001")).await.is_err(),
        "49 s after the first sight, 29 s after the fetch"
    );
    engine.forward(1);
    b.acquire(&id("0001")).await.unwrap();
    assert!(matches!(
        b.fetch(&id("none")).await,
        Err(Error::Unknown { .. })
    ));
}

#[tokio::test]
async fn kc_09_a_claim_leaves_owner_checkpoint_and_parents_unchanged() {
    let engine = Engine::start().await;
    let (a, i) = (engine.worker("a"), engine.worker("i"));
    a.register(&root("0001").detail("ord", "7")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    held.checkpoint(&number("150")).await.unwrap();
    let before = a.fetch(&id("0001")).await.unwrap().lease;
    let claim = i.claim(&id("0001")).await.unwrap();
    let mut after = a.fetch(&id("0001")).await.unwrap().lease;
    assert_eq!(after.claim.take().unwrap().by.worker, "i");
    assert_eq!(after, before);
    claim.withdraw().await.unwrap();
    assert_eq!(a.fetch(&id("0001")).await.unwrap().lease, before);
}

/// Lets workers live: rounds, renewals, claims, hand-overs, every ten seconds.
struct Group<'a> {
    engine: &'a Engine,
    workers: Vec<(Leases, Vec<HeldLease>, Vec<highwater_lease::PendingClaim>)>,
}

impl Group<'_> {
    fn join(&mut self, name: &str, max_leases: usize) {
        let worker = self
            .engine
            .worker_with(name, self.engine.time.clock(), max_leases);
        self.workers.push((worker, Vec::new(), Vec::new()));
    }

    async fn live(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for (worker, held, claims) in &mut self.workers {
                let mut pending = Vec::new();
                for mut claim in claims.drain(..) {
                    match claim.poll().await.unwrap() {
                        Claimed::Won(lease) => held.push(lease),
                        Claimed::Waiting => pending.push(claim),
                        Claimed::Gone => {}
                    }
                }
                let round = worker.round().await.unwrap();
                assert!(round.failure.is_none(), "{:?}", round.failure);
                held.extend(round.acquired);
                *claims = pending;
                claims.extend(round.claim);
                assert!(claims.len() <= 1, "one claim at a time");
                for lease in held.iter() {
                    let standing = lease.renewal().renew().await.unwrap();
                    if matches!(standing, Standing::Claimed { .. }) {
                        lease.hand_over().await.unwrap();
                    }
                }
                held.retain(|lease| !lease.standing().borrow().is_over());
                assert_eq!(worker.holding(), held.len());
            }
            self.engine.forward(10);
        }
    }

    fn shares(&self) -> Vec<usize> {
        self.workers.iter().map(|(_, held, _)| held.len()).collect()
    }
}

#[tokio::test]
async fn kc_10_four_shards_are_shared_as_workers_come() {
    for (max_leases, alone) in [(usize::MAX, 4), (3, 3)] {
        let engine = Engine::start().await;
        let mut group = Group {
            engine: &engine,
            workers: Vec::new(),
        };
        for shard in ["0001", "0002", "0003", "0004"] {
            engine.worker("setup").register(&root(shard)).await.unwrap();
        }
        group.join("1", max_leases);
        group.live(2).await;
        assert_eq!(group.shares(), [alone]);
        group.join("2", max_leases);
        group.live(12).await;
        assert_eq!(group.shares(), [2, 2]);
        let load = engine.worker("setup").active_workers().await.unwrap();
        assert!(load.is_all_assigned() && load.claims.is_empty());
        assert_eq!(load.workers.len(), 2);
    }
}

#[tokio::test]
async fn k5_a_round_takes_every_free_lease_and_never_a_finished_one() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    for n in 0..12 {
        a.register(&root(&format!("shard-{n:02}"))).await.unwrap();
    }
    let ended = a.acquire(&id("shard-00")).await.unwrap();
    ended.shard_end(&[]).await.unwrap();
    let round = a.round().await.unwrap();
    assert_eq!(round.acquired.len(), 11);
    assert_eq!(round.workload.ended.len(), 1);
    assert!(a.round().await.unwrap().acquired.is_empty());
    // The worker dies. Another one takes all of it, in the round that sees the silence.
    drop(round);
    let b = engine.worker("b");
    assert!(b.round().await.unwrap().acquired.is_empty());
    engine.forward(30);
    assert_eq!(b.round().await.unwrap().acquired.len(), 11);
}

#[tokio::test]
async fn a_worker_that_comes_back_under_its_old_name_gets_its_full_share_again() {
    let engine = Engine::start().await;
    for shard in ["0001", "0002"] {
        engine.worker("setup").register(&root(shard)).await.unwrap();
    }
    let dead = engine
        .worker_with("a", engine.time.clock(), 2)
        .round()
        .await
        .unwrap();
    assert_eq!(dead.acquired.len(), 2);
    let reborn = engine.worker_with("a", engine.time.clock(), 2);
    assert!(reborn.round().await.unwrap().acquired.is_empty());
    engine.forward(30);
    assert_eq!(reborn.round().await.unwrap().acquired.len(), 2);
}

#[tokio::test]
async fn kc_13_after_a_graceful_shutdown_the_checkpoint_is_there_and_the_owner_is_not() {
    let engine = Engine::start().await;
    let (a, b) = (engine.worker("a"), engine.worker("b"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    held.checkpoint(&number("150")).await.unwrap();
    held.release().await.unwrap();
    held.release().await.unwrap();
    assert!(!held.is_valid_now());
    assert_eq!(*held.standing().borrow(), Standing::GivenUp);
    let row = a.fetch(&id("0001")).await.unwrap().lease;
    assert_eq!(
        (row.owner, row.position),
        (None, "AFTER:150".parse().unwrap())
    );
    // K10: nobody has to wait for anything.
    b.acquire(&id("0001")).await.unwrap();
}

#[tokio::test]
async fn kc_14_a_former_owner_changes_nothing() {
    let engine = Engine::start().await;
    let (a, b) = (engine.worker("a"), engine.worker("b"));
    a.register(&root("0001")).await.unwrap();
    let former = a.acquire(&id("0001")).await.unwrap();
    former.checkpoint(&number("150")).await.unwrap();
    let held = acquire_after_silence(&engine, &b, "0001").await;
    let before = b.fetch(&id("0001")).await.unwrap();

    // It knows itself that it is late, and is refused even if it did not.
    assert!(!former.is_valid_now());
    assert!(matches!(
        former.checkpoint(&number("999")).await,
        Err(Error::Fenced { .. })
    ));
    let renewed = former.renewal().renew().await;
    assert!(
        matches!(&renewed, Err(Error::Lost { owner: Some(owner), .. }) if owner == "b"),
        "{renewed:?}"
    );
    assert!(matches!(
        former.checkpoint(&number("999")).await,
        Err(Error::Lost { .. })
    ));
    assert!(matches!(former.release().await, Err(Error::Lost { .. })));
    assert!(matches!(former.hand_over().await, Err(Error::Lost { .. })));
    assert!(matches!(
        former.shard_end(&[]).await,
        Err(Error::Lost { .. })
    ));
    assert_eq!(b.fetch(&id("0001")).await.unwrap(), before);
    held.checkpoint(&number("151")).await.unwrap();
}

#[tokio::test]
async fn case_41_a_paused_owner_with_a_clock_that_stood_still_is_refused_by_the_table() {
    let engine = Engine::start().await;
    // This worker's clock hardly moves: it believes in its lease for an hour.
    let frozen = engine.time.skewed(Duration::ZERO, 1);
    let (a, b) = (engine.worker_with("a", frozen, 9), engine.worker("b"));
    a.register(&root("0001")).await.unwrap();
    let former = a.acquire(&id("0001")).await.unwrap();
    let _held = acquire_after_silence(&engine, &b, "0001").await;
    let before = b.fetch(&id("0001")).await.unwrap();
    assert!(former.is_valid_now());
    assert!(matches!(
        former.checkpoint(&number("999")).await,
        Err(Error::Lost { .. })
    ));
    assert!(!former.is_valid_now());
    assert_eq!(b.fetch(&id("0001")).await.unwrap(), before);
}

#[tokio::test]
async fn kc_15_a_lower_checkpoint_is_refused() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    held.checkpoint(&number("1000")).await.unwrap();
    for lower in ["999", "0999", "1"] {
        let refused = held.checkpoint(&number(lower)).await;
        assert!(
            matches!(&refused, Err(Error::NotForward { current, .. }) if current.to_string() == "AFTER:1000"),
            "{refused:?}"
        );
    }
    assert!(matches!(
        held.checkpoint_with(&Position::End, &BTreeMap::new()).await,
        Err(Error::Invalid { .. })
    ));
    held.checkpoint(&number("1000")).await.unwrap();
    held.checkpoint(&number("1001")).await.unwrap();
    assert_eq!(
        a.fetch(&id("0001"))
            .await
            .unwrap()
            .lease
            .position
            .to_string(),
        "AFTER:1001"
    );
}

#[tokio::test]
async fn kc_16_clocks_that_disagree_do_not_make_two_owners() {
    let engine = Engine::start().await;
    for (offset, percent) in [(30, 100), (3_600, 103), (0, 97)] {
        let shard = format!("shard-{offset}-{percent}");
        let ahead = engine.time.skewed(Duration::from_secs(offset), percent);
        let (a, b) = (engine.worker("a"), engine.worker_with("b", ahead, 9));
        a.register(&root(&shard)).await.unwrap();
        let held = a.acquire(&id(&shard)).await.unwrap();
        for second in 0..20 {
            assert!(b.acquire(&id(&shard)).await.is_err());
            engine.forward(10);
            held.renewal().renew().await.unwrap();
            held.checkpoint(&number(&format!("2{second:02}")))
                .await
                .unwrap();
        }
        // Now a stops. It stops to trust the lease before b may take it.
        let mut taken_after = 0;
        while b.acquire(&id(&shard)).await.is_err() {
            engine.forward(1);
            taken_after += 1;
        }
        assert!((28..=32).contains(&taken_after), "{taken_after}");
        assert!(!held.is_valid_now());
        assert!(held.checkpoint(&number("999")).await.is_err());
    }
}

#[tokio::test]
async fn kc_17_a_child_waits_for_a_parent_that_is_not_even_registered() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    let child = root("child").parent(id("parent"));
    let registered = a.register(&child).await.unwrap();
    assert!(registered.created && registered.waiting);
    let refused = a.acquire(&id("child")).await;
    assert!(
        matches!(&refused, Err(Error::ParentUnfinished { parent, .. }) if *parent == id("parent")),
        "{refused:?}"
    );
    assert!(a.round().await.unwrap().acquired.is_empty());

    a.register(&root("parent")).await.unwrap();
    assert!(a.acquire(&id("child")).await.is_err());
    let parent = a.acquire(&id("parent")).await.unwrap();
    assert!(a.acquire(&id("child")).await.is_err());
    parent
        .shard_end(std::slice::from_ref(&child))
        .await
        .unwrap();
    a.acquire(&id("child")).await.unwrap();
}

#[tokio::test]
async fn kc_18_a_group_of_more_than_a_megabyte_is_seen_whole() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    let padding = "x".repeat(20_000);
    for n in 0..70 {
        let shard = root(&format!("shard-{n:04}")).detail("padding", padding.clone());
        a.register(&shard).await.unwrap();
    }
    let load = a.active_workers().await.unwrap();
    assert_eq!(load.unassigned.len(), 70);
    assert_eq!(a.round().await.unwrap().acquired.len(), 70);
    let load = engine.worker("b").active_workers().await.unwrap();
    assert_eq!(load.workers["a"].len(), 70);
}

#[tokio::test]
async fn case_44_more_leases_than_a_page_holds_are_all_seen() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("pattern")).await.unwrap();
    let pattern = a.fetch(&id("pattern")).await.unwrap().lease;
    let rows = KvRows::new(&engine.table(), GROUP);
    let names: Vec<_> = (0..1_003).map(|n| id(&format!("shard-{n:05}"))).collect();
    for names in names.chunks(100) {
        let create = |name: &LeaseId| Change::Create(name.clone(), pattern.clone());
        let written = rows
            .write(names.iter().map(create).collect())
            .await
            .unwrap();
        assert!(matches!(written, Outcome::Written(_)));
    }
    let load = a.active_workers().await.unwrap();
    assert_eq!(load.unassigned.len(), 1_004);
}

#[tokio::test]
async fn kc_19_two_creations_of_the_table_at_once_both_succeed() {
    let engine = Engine::start().await;
    let table = || -> Table { engine.table().store().table("another-table") };
    let (one, two, spec) = (table(), table(), TableSpec::new());
    let (first, second) = tokio::join!(one.create(&spec), two.create(&spec));
    let made = [first.unwrap(), second.unwrap()];
    assert!(made.iter().any(|made| *made));
    let leases = Leases::new(&two, "group", "a", Settings::default()).unwrap();
    leases.register(&root("0001")).await.unwrap();
    leases.acquire(&id("0001")).await.unwrap();
}

#[tokio::test]
async fn kc_20_a_checkpoint_during_a_claim_does_not_erase_it() {
    let engine = Engine::start().await;
    let (a, i) = (engine.worker("a"), engine.worker("i"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    let _claim = i.claim(&id("0001")).await.unwrap();
    // The owner has not seen the claim: the row in its hand is older.
    held.checkpoint(&number("150")).await.unwrap();
    let row = a.fetch(&id("0001")).await.unwrap().lease;
    assert_eq!(row.position.to_string(), "AFTER:150");
    assert_eq!(row.current_claim().unwrap().by.worker, "i");
    assert_eq!(row.state, State::Ready);
}

#[tokio::test]
async fn case_43_a_claim_of_a_dead_claimant_is_dropped_and_the_owner_keeps_the_lease() {
    let engine = Engine::start().await;
    let (a, i) = (engine.worker("a"), engine.worker("i"));
    a.register(&root("0001")).await.unwrap();
    let held = a.acquire(&id("0001")).await.unwrap();
    drop(i.claim(&id("0001")).await.unwrap());
    for _ in 0..5 {
        assert_eq!(held.renewal().renew().await.unwrap(), Standing::Held);
        engine.forward(10);
    }
    let row = a.fetch(&id("0001")).await.unwrap().lease;
    assert_eq!((row.claim, row.owner.unwrap().worker.as_str()), (None, "a"));
    assert!(matches!(
        held.hand_over().await,
        Err(Error::Unclaimed { .. })
    ));
    assert!(held.is_valid_now());
    // A claim is possible again.
    let _claim = i.claim(&id("0001")).await.unwrap();
}

#[tokio::test]
async fn names_and_settings_that_cannot_work_are_errors() {
    let engine = Engine::start().await;
    let bad = Settings {
        renew_every: Duration::ZERO,
        ..Settings::default()
    };
    assert!(matches!(
        Leases::new(&engine.table(), "g", "a", bad),
        Err(Error::Settings { .. })
    ));
    let a = engine.worker("a");
    let at_its_end = NewLease::root(id("0001"), Position::End);
    assert!(matches!(
        a.register(&at_its_end).await,
        Err(Error::Invalid { .. })
    ));
    let missing = engine.table().store().table("missing");
    let leases = Leases::new(&missing, "g", "a", Settings::default()).unwrap();
    assert!(matches!(leases.round().await, Err(Error::Store(_))));
    assert!(matches!(
        leases.acquire(&id("0001")).await,
        Err(Error::Store(_))
    ));
}

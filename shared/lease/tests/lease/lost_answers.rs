//! Writes that happened although nobody said so.

use highwater_lease::{Claimed, Error, State};

use crate::engine::*;

/// With one try the crate sees the failure itself; with more, the SDK's second try meets the work of its first.
const TRIES: [u32; 2] = [1, 3];

#[tokio::test]
async fn an_acquisition_whose_answer_got_lost_is_recognised() {
    for tries in TRIES {
        let engine = Engine::start().await;
        let (a, lossy) = engine.lossy_worker("a", tries);
        a.register(&root("s")).await.unwrap();
        // The reading answer arrives, the writing one does not.
        let shard = id("s");
        lossy.lose(0);
        let row = a.fetch(&shard).await.unwrap();
        assert_eq!(row.lease.owner, None);
        let held = lose_second(&lossy, a.acquire(&shard)).await.unwrap();
        assert_eq!(held.epoch().get(), 1);
        assert!(held.is_valid_now());
        assert_eq!(a.fetch(&shard).await.unwrap().lease.epoch.get(), 1);
    }
}

/// Loses the answer of the second request from now.
async fn lose_second<T>(lossy: &LossyClient, call: impl Future<Output = T>) -> T {
    lossy.lose_after(1, 1);
    call.await
}

#[tokio::test]
async fn checkpoints_renewals_and_releases_whose_answers_got_lost_are_done_once() {
    for tries in TRIES {
        let engine = Engine::start().await;
        let (a, lossy) = engine.lossy_worker("a", tries);
        a.register(&root("s")).await.unwrap();
        let held = a.acquire(&id("s")).await.unwrap();
        lossy.lose(1);
        held.checkpoint(&number("150")).await.unwrap();
        lossy.lose(1);
        held.renewal().renew().await.unwrap();
        assert_eq!(held.position().to_string(), "AFTER:150");
        lossy.lose(1);
        held.release().await.unwrap();
        let row = a.fetch(&id("s")).await.unwrap().lease;
        assert_eq!(
            (row.owner, row.position.to_string()),
            (None, "AFTER:150".into())
        );
        assert_eq!(row.epoch.get(), 1);
    }
}

#[tokio::test]
async fn case_40_an_end_whose_answer_got_lost_is_done_once_with_one_set_of_children() {
    for tries in TRIES {
        let engine = Engine::start().await;
        let (a, lossy) = engine.lossy_worker("a", tries);
        a.register(&root("p")).await.unwrap();
        let held = a.acquire(&id("p")).await.unwrap();
        // One reading of the child, then the transaction.
        lossy.lose_after(1, 1);
        held.shard_end(&[root("c")]).await.unwrap();
        let row = a.fetch(&id("p")).await.unwrap().lease;
        assert_eq!((row.state, row.children), (State::End, vec![id("c")]));
        assert_eq!(a.page(None).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_registration_whose_answer_got_lost_is_reported_as_made() {
    for tries in TRIES {
        let engine = Engine::start().await;
        let (a, lossy) = engine.lossy_worker("a", tries);
        lossy.lose_after(1, 1);
        let registered = a.register(&root("s")).await.unwrap();
        assert!(registered.created, "with {tries} tries");
        assert!(!a.register(&root("s")).await.unwrap().created);
    }
}

#[tokio::test]
async fn a_hand_over_whose_answer_got_lost_is_done_once() {
    for tries in TRIES {
        let engine = Engine::start().await;
        let (a, lossy) = engine.lossy_worker("a", tries);
        let b = engine.worker("b");
        a.register(&root("s")).await.unwrap();
        let held = a.acquire(&id("s")).await.unwrap();
        let mut claim = b.claim(&id("s")).await.unwrap();
        held.renewal().renew().await.unwrap();
        lossy.lose(1);
        held.hand_over().await.unwrap();
        let Claimed::Won(won) = claim.poll().await.unwrap() else {
            panic!("handed over, but not won");
        };
        assert_eq!(won.epoch().get(), 2);
    }
}

#[tokio::test]
async fn an_outage_fences_and_what_it_swallowed_is_found_afterwards() {
    let engine = Engine::start().await;
    let (a, lossy) = engine.lossy_worker("a", 1);
    a.register(&root("s")).await.unwrap();
    let held = a.acquire(&id("s")).await.unwrap();
    lossy.lose(i64::MAX);
    // It is stored, and nobody says so.
    assert!(matches!(
        held.checkpoint(&number("150")).await,
        Err(Error::Store(_))
    ));
    assert_eq!(held.position().to_string(), "AT:100");
    engine.forward(26);
    assert!(held.renewal().renew().await.is_err());
    assert!(matches!(
        held.checkpoint(&number("160")).await,
        Err(Error::Fenced { .. })
    ));
    lossy.lose(0);
    // Nobody took it: one renewal, and it goes on where it was.
    held.renewal().renew().await.unwrap();
    let behind = held.checkpoint(&number("140")).await;
    assert!(
        matches!(&behind, Err(Error::NotForward { current, .. }) if current.to_string() == "AFTER:150"),
        "{behind:?}"
    );
    assert_eq!(held.position().to_string(), "AFTER:150");
    held.checkpoint(&number("160")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_workers_that_want_one_lease_one_gets_it() {
    let engine = Engine::start().await;
    engine.worker("setup").register(&root("s")).await.unwrap();
    for epoch in 1..=4 {
        let attempts: Vec<_> = (0..8)
            .map(|n| {
                let worker = engine.worker(&format!("w{n}"));
                tokio::spawn(async move { worker.acquire(&id("s")).await })
            })
            .collect();
        let mut held = Vec::new();
        for attempt in attempts {
            match attempt.await.unwrap() {
                Ok(lease) => held.push(lease),
                Err(Error::NotAcquired { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].epoch().get(), epoch);
        held[0].release().await.unwrap();
    }
}

//! Parents, children, ends and removals.

use highwater_lease::{Error, Position, Registered, State};

use crate::engine::*;

#[tokio::test]
async fn an_end_and_its_children_come_together() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("p")).await.unwrap();
    let held = a.acquire(&id("p")).await.unwrap();
    held.checkpoint(&number("170")).await.unwrap();
    let left = root("c1").detail("ord", "2");
    held.shard_end(&[left, root("c2")]).await.unwrap();
    assert_eq!(held.position(), Position::End);
    let parent = a.fetch(&id("p")).await.unwrap().lease;
    assert_eq!((parent.state, parent.owner), (State::End, None));
    assert_eq!(parent.children, [id("c1"), id("c2")]);
    let child = a.fetch(&id("c1")).await.unwrap().lease;
    assert_eq!(
        (child.state, child.position.to_string()),
        (State::Ready, "AT:100".into())
    );
    assert_eq!(
        (child.parents, &*child.details["ord"]),
        (vec![id("p")], "2")
    );
    assert!(matches!(
        a.acquire(&id("p")).await,
        Err(Error::Ended { .. })
    ));
    // Said twice, done once.
    held.shard_end(&[root("c1"), root("c2")]).await.unwrap();
}

#[tokio::test]
async fn case_40_of_two_ends_by_two_owners_only_the_present_ones_counts() {
    let engine = Engine::start().await;
    let frozen = engine.time.skewed(std::time::Duration::ZERO, 1);
    let (a, b) = (engine.worker_with("a", frozen, 9), engine.worker("b"));
    a.register(&root("p")).await.unwrap();
    let zombie = a.acquire(&id("p")).await.unwrap();
    assert!(b.acquire(&id("p")).await.is_err());
    engine.forward(30);
    let held = b.acquire(&id("p")).await.unwrap();
    let refused = zombie.shard_end(&[root("wrong")]).await;
    assert!(matches!(refused, Err(Error::Lost { .. })), "{refused:?}");
    assert!(matches!(
        b.fetch(&id("wrong")).await,
        Err(Error::Unknown { .. })
    ));
    held.shard_end(&[root("right")]).await.unwrap();
    assert_eq!(
        b.fetch(&id("p")).await.unwrap().lease.children,
        [id("right")]
    );
}

#[tokio::test]
async fn case_36_a_child_that_is_listed_beside_its_open_parent_waits() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    let child = root("c").parent(id("p"));
    a.register(&root("p")).await.unwrap();
    assert!(a.register(&child).await.unwrap().waiting);
    let round = a.round().await.unwrap();
    let held = &round.acquired[0];
    assert_eq!((round.acquired.len(), held.id()), (1, &id("p")));
    held.shard_end(&[child]).await.unwrap();
    assert_eq!(a.fetch(&id("c")).await.unwrap().lease.state, State::Ready);
    assert_eq!(a.round().await.unwrap().acquired.len(), 1);
}

#[tokio::test]
async fn a_waiting_child_that_its_parent_did_not_name_begins_all_the_same() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("p")).await.unwrap();
    a.register(&root("c").parent(id("p"))).await.unwrap();
    let held = a.acquire(&id("p")).await.unwrap();
    held.shard_end(&[]).await.unwrap();
    // It still waits as far as its row knows, so its parent must not go away.
    let kept = a.remove(&id("p")).await;
    assert!(
        matches!(&kept, Err(Error::StillNeeded { child, .. }) if *child == id("c")),
        "{kept:?}"
    );
    assert_eq!(a.round().await.unwrap().acquired.len(), 1);
    a.remove(&id("p")).await.unwrap();
}

#[tokio::test]
async fn a_merged_child_begins_after_both_parents() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    let merged = root("m").parent(id("p")).parent(id("q"));
    for parent in ["p", "q"] {
        a.register(&root(parent)).await.unwrap();
    }
    let (p, q) = (
        a.acquire(&id("p")).await.unwrap(),
        a.acquire(&id("q")).await.unwrap(),
    );
    p.shard_end(std::slice::from_ref(&merged)).await.unwrap();
    assert!(
        matches!(a.acquire(&id("m")).await, Err(Error::ParentUnfinished { parent, .. }) if parent == id("q"))
    );
    q.shard_end(&[merged]).await.unwrap();
    a.acquire(&id("m")).await.unwrap();
}

#[tokio::test]
async fn an_end_with_children_that_are_none_is_refused() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("p")).await.unwrap();
    let held = a.acquire(&id("p")).await.unwrap();
    for children in [
        vec![root("c"), root("c")],
        vec![root("c").parent(id("other"))],
        vec![root("p")],
    ] {
        let refused = held.shard_end(&children).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(a.fetch(&id("p")).await.unwrap().lease.state, State::Ready);
}

#[tokio::test]
async fn case_35_a_late_child_is_read_and_the_mark_stays() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("p")).await.unwrap();
    a.acquire(&id("p"))
        .await
        .unwrap()
        .shard_end(&[root("c1")])
        .await
        .unwrap();
    let late = root("c2").parent(id("p"));
    let registered = a.register(&late).await.unwrap();
    assert_eq!(
        registered,
        Registered {
            created: true,
            waiting: false,
            late: true
        }
    );
    let again = a.register(&late).await.unwrap();
    assert_eq!(
        again,
        Registered {
            created: false,
            waiting: false,
            late: true
        }
    );
    assert_eq!(
        a.fetch(&id("p")).await.unwrap().lease.children,
        [id("c1"), id("c2")]
    );
    assert_eq!(a.round().await.unwrap().acquired.len(), 2);
}

#[tokio::test]
async fn case_38_a_trimmed_parent_is_forgotten_by_decision_only() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("c").parent(id("trimmed"))).await.unwrap();
    assert!(a.round().await.unwrap().acquired.is_empty());
    a.forget_parent(&id("c"), &id("trimmed")).await.unwrap();
    a.acquire(&id("c")).await.unwrap();
    // One that is there is to be read.
    a.register(&root("p")).await.unwrap();
    a.register(&root("d").parent(id("p"))).await.unwrap();
    let refused = a.forget_parent(&id("d"), &id("p")).await;
    assert!(matches!(refused, Err(Error::ParentUnfinished { .. })));
}

#[tokio::test]
async fn k17_progress_is_never_removed_and_a_finished_lease_only_when_nobody_needs_it() {
    let engine = Engine::start().await;
    let a = engine.worker("a");
    a.register(&root("p")).await.unwrap();
    assert!(matches!(
        a.remove(&id("p")).await,
        Err(Error::Unfinished { .. })
    ));
    let held = a.acquire(&id("p")).await.unwrap();
    assert!(matches!(
        a.remove(&id("p")).await,
        Err(Error::Unfinished { .. })
    ));
    held.shard_end(&[root("c")]).await.unwrap();
    a.remove(&id("p")).await.unwrap();
    a.remove(&id("p")).await.unwrap();
    assert!(matches!(
        a.fetch(&id("p")).await,
        Err(Error::Unknown { .. })
    ));
    // The child was free before its parent went.
    a.acquire(&id("c")).await.unwrap();
}

#[tokio::test]
async fn notes_of_others_and_checkpoints_of_the_owner_do_not_erase_each_other() {
    let engine = Engine::start().await;
    let (a, auditor) = (engine.worker("a"), engine.worker("auditor"));
    a.register(&root("s").detail("ord", "1")).await.unwrap();
    let held = a.acquire(&id("s")).await.unwrap();
    auditor.note(&id("s"), "end_seq", "900").await.unwrap();
    let facts = [("et_last".to_owned(), "1700000000".to_owned())].into();
    held.checkpoint_with(&Position::after(number("200")), &facts)
        .await
        .unwrap();
    auditor.note(&id("s"), "end_seq", "901").await.unwrap();
    held.checkpoint(&number("201")).await.unwrap();
    let details = a.fetch(&id("s")).await.unwrap().lease.details;
    let expected = [("end_seq", "901"), ("et_last", "1700000000"), ("ord", "1")];
    assert!(
        details
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .eq(expected),
        "{details:?}"
    );
}

//! Renewal: when it is sent, what it proves, and how an owner learns that it is none.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use highwater_lease::{Claimed, Error, HeldLease, Leases, MonotonicClock, Settings, Standing};

use crate::engine::{id, number, root};
use crate::hand_clock::TrueTime;
use crate::memory::Memory;
use crate::wire::{Fault, Wire};

struct World {
    memory: Memory,
    time: TrueTime,
}

impl World {
    fn new() -> Self {
        Self {
            memory: Memory::default(),
            time: TrueTime::default(),
        }
    }

    fn worker(&self, name: &str, settings: Settings) -> (Leases, Wire) {
        let wire = Wire::new(&self.memory);
        let clock = Arc::new(self.time.clock());
        (
            Leases::over(Arc::new(wire.clone()), clock, name, settings).unwrap(),
            wire,
        )
    }

    /// Polls for so long, a millisecond at a time.
    fn run<T>(&self, future: &mut Pin<Box<dyn Future<Output = T> + '_>>, millis: u64) -> Option<T> {
        for _ in 0..millis {
            for _ in 0..4 {
                if let Poll::Ready(done) = future
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                {
                    return Some(done);
                }
            }
            self.time.forward(Duration::from_millis(1));
        }
        None
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    for _ in 0..100 {
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(done) = polled {
            return done;
        }
    }
    panic!("no answer");
}

fn held(leases: &Leases) -> HeldLease {
    now(leases.register(&root("s"))).unwrap();
    now(leases.acquire(&id("s"))).unwrap()
}

fn every(millis: u64) -> Settings {
    Settings {
        lease: Duration::from_millis(millis * 3),
        renew_every: Duration::from_millis(millis),
        margin: Duration::from_millis(millis / 2),
        max_leases: 9,
    }
}

#[test]
fn kc_12_renewals_come_at_their_interval() {
    for (interval, span, expected) in [(10, 15, 1), (50, 260, 5)] {
        let world = World::new();
        let (leases, wire) = world.worker("a", every(interval));
        let held = held(&leases);
        let before = wire.writes();
        let mut renewal: Pin<Box<dyn Future<Output = _>>> = Box::pin(held.renewal().run());
        assert!(world.run(&mut renewal, span).is_none());
        assert_eq!(
            wire.writes() - before,
            expected,
            "every {interval} ms for {span} ms"
        );
        assert!(held.is_valid_now());
    }
}

#[test]
fn kc_12_a_lost_lease_is_one_call_and_is_told() {
    let world = World::new();
    let (leases, wire) = world.worker("a", every(10));
    let (other, _) = world.worker("b", every(10));
    let held = held(&leases);
    assert!(now(other.acquire(&id("s"))).is_err());
    world.time.forward(Duration::from_millis(30));
    let successor = now(other.acquire(&id("s"))).unwrap();

    let before = wire.writes();
    let mut renewal: Pin<Box<dyn Future<Output = _>>> = Box::pin(held.renewal().run());
    let ended = world.run(&mut renewal, 100);
    let lost = Standing::Lost {
        owner: Some("b".into()),
        now: successor.epoch(),
    };
    assert_eq!(ended, Some(lost.clone()));
    assert_eq!(wire.writes() - before, 1);
    assert_eq!(*held.standing().borrow(), lost);
    let told = held.check();
    assert!(matches!(told, Err(Error::Lost { owner: Some(owner), .. }) if owner == "b"));
    assert_eq!(leases.holding(), 0);
}

#[test]
fn trust_counts_from_the_sending_and_not_from_the_answer() {
    let world = World::new();
    let (leases, _) = world.worker("a", Settings::default());
    now(leases.register(&root("s"))).unwrap();
    let shard = id("s");
    let mut acquiring: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(leases.acquire(&shard));
    // The answer of the writing request is 9 seconds under way.
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        assert!(acquiring.as_mut().poll(&mut context).is_pending());
    }
    world.time.forward(Duration::from_secs(9));
    let Poll::Ready(held) = acquiring.as_mut().poll(&mut context) else {
        panic!("no answer");
    };
    let held = held.unwrap();
    assert_eq!(held.valid_for(), Duration::from_secs(16));
    world.time.forward(Duration::from_secs(16));
    assert!(held.is_valid_now());
    world.time.forward(Duration::from_millis(1));
    assert!(!held.is_valid_now());
    assert!(matches!(held.check(), Err(Error::Fenced { .. })));
}

#[test]
fn a_late_answer_to_a_renewal_gives_no_more_trust_than_a_quick_one() {
    let world = World::new();
    let (leases, _) = world.worker("a", Settings::default());
    let held = held(&leases);
    world.time.forward(Duration::from_secs(10));
    let mut renewal = held.renewal();
    let mut renewing: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(renewal.renew());
    let mut context = Context::from_waker(Waker::noop());
    assert!(renewing.as_mut().poll(&mut context).is_pending());
    world.time.forward(Duration::from_secs(9));
    assert!(renewing.as_mut().poll(&mut context).is_ready());
    assert_eq!(held.valid_for(), Duration::from_secs(16));
}

#[test]
fn a_lease_that_is_being_handed_over_is_not_trusted_while_the_answer_is_under_way() {
    let world = World::new();
    let (a, wire) = world.worker("a", Settings::default());
    let (b, _) = world.worker("b", Settings::default());
    let held = held(&a);
    let mut claim = now(b.claim(&id("s"))).unwrap();
    now(held.renewal().renew()).unwrap();
    assert!(matches!(now(claim.poll()).unwrap(), Claimed::Waiting));
    let standing = now(held.renewal().renew()).unwrap();
    assert_eq!(standing, Standing::Claimed { by: "b".into() });

    wire.fail_next(Fault::Hang);
    let mut giving: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(held.hand_over());
    assert!(world.run(&mut giving, 5).is_none());
    let Claimed::Won(won) = now(claim.poll()).unwrap() else {
        panic!("handed over, but not won");
    };
    assert!(won.is_valid_now());
    assert!(!held.is_valid_now());
    // The answer never comes; the row tells.
    assert!(matches!(world.run(&mut giving, 11_000), Some(Ok(()))));
    assert_eq!(*held.standing().borrow(), Standing::GivenUp);
}

#[test]
fn a_lease_that_was_handed_over_long_ago_is_taken_up_with_a_sign_of_life() {
    let world = World::new();
    let (a, _) = world.worker("a", Settings::default());
    let (b, _) = world.worker("b", Settings::default());
    let (c, _) = world.worker("c", Settings::default());
    let held = held(&a);
    let mut claim = now(b.claim(&id("s"))).unwrap();
    now(held.hand_over()).unwrap();
    assert!(now(c.acquire(&id("s"))).is_err());
    world.time.forward(Duration::from_secs(29));
    let Claimed::Won(won) = now(claim.poll()).unwrap() else {
        panic!("handed over, but not won");
    };
    // Without it c would take the lease here, and b would trust it for another 24 seconds.
    world.time.forward(Duration::from_secs(1));
    assert!(now(c.acquire(&id("s"))).is_err());
    assert!(won.is_valid_now());
}

#[test]
fn a_hand_over_that_nobody_asked_for_leaves_the_lease_as_it_was() {
    let world = World::new();
    let (leases, _) = world.worker("a", Settings::default());
    let held = held(&leases);
    assert!(matches!(
        now(held.hand_over()),
        Err(Error::Unclaimed { .. })
    ));
    assert!(held.is_valid_now());
}

#[test]
fn case_54_an_owner_that_slept_knows_it_at_once_and_goes_on_only_after_a_renewal() {
    let world = World::new();
    let (leases, wire) = world.worker("a", Settings::default());
    let held = held(&leases);
    world.time.forward(Duration::from_hours(40 * 24));
    assert!(!held.is_valid_now());
    let before = wire.writes();
    assert!(matches!(
        now(held.checkpoint(&number("150"))),
        Err(Error::Fenced { .. })
    ));
    assert!(matches!(
        now(held.shard_end(&[])),
        Err(Error::Fenced { .. })
    ));
    assert_eq!(wire.writes(), before, "nothing was even sent");
    assert_eq!(now(held.renewal().renew()).unwrap(), Standing::Held);
    now(held.checkpoint(&number("150"))).unwrap();
}

#[test]
fn k8_failed_renewals_are_tried_again_soon_and_fencing_is_told() {
    let world = World::new();
    let (leases, wire) = world.worker("a", every(10_000));
    let held = held(&leases);
    let mut renewal: Pin<Box<dyn Future<Output = _>>> = Box::pin(held.renewal().run());
    for _ in 0..1_000 {
        wire.fail_next(Fault::LoseRequest);
    }
    assert!(world.run(&mut renewal, 24_000).is_none());
    assert!(held.is_valid_now());
    assert!(world.run(&mut renewal, 3_000).is_none());
    assert!(!held.is_valid_now());
    assert_eq!(*held.standing().borrow(), Standing::Fenced);
    wire.heal();
    assert!(world.run(&mut renewal, 2_000).is_none());
    assert_eq!(*held.standing().borrow(), Standing::Held);
    assert!(held.is_valid_now());
}

#[test]
fn a_request_that_hangs_does_not_let_a_live_owner_look_dead() {
    let world = World::new();
    let (leases, wire) = world.worker("a", Settings::default());
    let held = held(&leases);
    let mut renewal: Pin<Box<dyn Future<Output = _>>> = Box::pin(held.renewal().run());
    wire.fail_next(Fault::Hang);
    for _ in 0..60 {
        assert!(world.run(&mut renewal, 1_000).is_none());
        assert!(held.is_valid_now());
    }
}

#[test]
fn k9_the_end_of_a_lease_ends_its_renewal() {
    let world = World::new();
    let (leases, _) = world.worker("a", Settings::default());
    let held = held(&leases);
    let mut renewal: Pin<Box<dyn Future<Output = _>>> = Box::pin(held.renewal().run());
    assert!(world.run(&mut renewal, 5).is_none());
    now(held.release()).unwrap();
    assert_eq!(world.run(&mut renewal, 5), Some(Standing::GivenUp));

    // A handle that is dropped without a word is not renewed for ever.
    let held = now(leases.acquire(&id("s"))).unwrap();
    let mut renewal: Pin<Box<dyn Future<Output = _>>> = Box::pin(held.renewal().run());
    assert!(world.run(&mut renewal, 5).is_none());
    drop(held);
    assert_eq!(world.run(&mut renewal, 5), Some(Standing::GivenUp));
    assert_eq!(leases.holding(), 0);
}

#[test]
fn k7_a_lease_that_waits_for_its_parent_has_no_owner_to_run_out() {
    let world = World::new();
    let (leases, _) = world.worker("a", Settings::default());
    now(leases.register(&root("c").parent(id("p")))).unwrap();
    assert!(now(leases.acquire(&id("c"))).is_err());
    assert_eq!(now(leases.fetch(&id("c"))).unwrap().lease.owner, None);
    assert_eq!(world.time.clock().now().elapsed(), Duration::ZERO);
}

#[test]
fn a_lease_that_is_being_released_is_not_trusted_any_more() {
    let world = World::new();
    let (leases, wire) = world.worker("a", Settings::default());
    let held = held(&leases);
    for fault in [Fault::LoseRequest, Fault::LoseRequest] {
        wire.fail_next(fault);
    }
    assert!(now(held.release()).is_err());
    assert!(!held.is_valid_now(), "it may have been released");
    // A renewal shows that it was not.
    assert_eq!(now(held.renewal().renew()).unwrap(), Standing::Held);
    assert!(held.is_valid_now());
}

//! Every interleaving of a check with writes, their application, and the replica's second.

use std::collections::HashSet;

use super::*;

/// What no writer writes.
const PLANTED: u128 = 99;

/// Two values and a delete: what was there before comes again.
const VALUES: [Print; 3] = [Some(1), Some(2), None];

/// How far a check is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Order(Option<String>),
    Item(ReplicaLook),
    Waits(Awaited),
    OrderAgain(Awaited, Option<String>),
    ItemAgain(Awaited, ReplicaLook),
    Over(Option<DifferenceKind>),
}

/// One key of a source and its replica. Time passes with each event, one second each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: u64,
    /// All values of the source, each with its second; the first one is what the scan has seen.
    written: Vec<(u64, Print)>,
    /// How many of them the replica has been given: its fence stands at the last one.
    applied: usize,
    replica: Print,
    /// Whether the replica holds something that no applier wrote.
    is_planted: bool,
    equal_at: u64,
    check: At,
    rounds: usize,
    left: Left,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    writes: u8,
    marks: u8,
    plants: u8,
}

impl World {
    fn new(left: Left) -> Self {
        Self {
            now: 10,
            written: vec![(0, Some(1))],
            applied: 0,
            replica: Some(1),
            is_planted: false,
            equal_at: 0,
            check: At::Begin,
            rounds: 0,
            left,
        }
    }

    /// Where the fence stands: none for what was loaded.
    fn order(&self) -> Option<String> {
        (self.applied > 0).then(|| format!("{:04}", self.applied))
    }

    fn source(&self) -> Print {
        self.written.last().unwrap().1
    }

    /// What the world may do next.
    fn events(&self) -> Vec<Self> {
        let mut next = Vec::new();
        if self.left.writes > 0 {
            for value in VALUES.into_iter().filter(|it| *it != self.source()) {
                let mut world = self.clone();
                world.left.writes -= 1;
                world.written.push((self.now, value));
                next.push(world);
            }
        }
        // Any later change may come next: of a batch only the last of a key is written.
        for applied in self.applied + 1..self.written.len() {
            let mut world = self.clone();
            world.applied = applied;
            world.replica = self.written[applied].1;
            world.is_planted = false;
            next.push(world);
        }
        // Up to the second before the first change that it lacks the replica has everything.
        let lacks = self.written.get(self.applied + 1);
        let equal_at = lacks.map_or(self.now, |(second, _)| second - 1);
        if self.left.marks > 0 && equal_at > self.equal_at {
            let mut world = self.clone();
            world.left.marks -= 1;
            world.equal_at = equal_at;
            next.push(world);
        }
        if self.left.plants > 0 {
            let mut world = self.clone();
            world.left.plants -= 1;
            world.replica = Some(PLANTED);
            world.is_planted = true;
            next.push(world);
        }
        for world in &mut next {
            world.now += 1;
        }
        next
    }

    /// The check's next step; `None` where it waits.
    fn step(&self) -> Option<Self> {
        let mut next = self.clone();
        next.now += 1;
        next.check = match &self.check {
            At::Begin => At::Order(self.order()),
            At::Order(order) => At::Item(ReplicaLook {
                order: order.clone(),
                item: self.replica,
            }),
            At::Item(look) => {
                // The world's own clock, without the grain of an answer's.
                let source = SourceLook {
                    item: self.source(),
                    due: UnixSeconds(self.now),
                };
                match looked(look.clone(), source) {
                    None => At::Over(None),
                    Some(awaited) => At::Waits(awaited),
                }
            }
            At::Waits(awaited) if self.equal_at < awaited.due().0 => return None,
            At::Waits(awaited) => At::OrderAgain(awaited.clone(), self.order()),
            At::OrderAgain(awaited, order) => At::ItemAgain(
                awaited.clone(),
                ReplicaLook {
                    order: order.clone(),
                    item: self.replica,
                },
            ),
            At::ItemAgain(awaited, again) => {
                match awaited.clone().looked_again(again, self.order().as_deref()) {
                    Verdict::Cleared => At::Over(None),
                    Verdict::Diverged(found) => At::Over(Some(found.kind)),
                    Verdict::Moving => {
                        next.rounds += 1;
                        At::Begin
                    }
                }
            }
            At::Over(_) => return None,
        };
        Some(next)
    }
}

/// Walks through everything that can happen, and shows each end to `end`. How many there were.
fn explore(from: World, end: &mut impl FnMut(&World)) -> usize {
    let (mut seen, mut open, mut ends) = (HashSet::new(), vec![from], 0);
    while let Some(world) = open.pop() {
        if world.rounds > 2 || !seen.insert(world.clone()) {
            continue;
        }
        if matches!(world.check, At::Over(_)) {
            ends += 1;
            end(&world);
            continue;
        }
        open.extend(world.step());
        open.extend(world.events());
    }
    ends
}

const BUSY: Left = Left {
    writes: 3,
    marks: 3,
    plants: 0,
};

#[test]
fn a_replica_that_only_appliers_write_never_diverges() {
    let mut cleared = 0;
    let ends = explore(World::new(BUSY), &mut |world| {
        assert_eq!(world.check, At::Over(None), "{world:?}");
        cleared += 1;
    });
    assert!(ends > 1000, "{ends} ends");
    assert_eq!(cleared, ends);
}

/// What was planted before the check and stands at its end is found: it is never cleared, and found where nothing is written.
#[test]
fn what_was_planted_is_found_or_gone() {
    let mut world = World::new(BUSY);
    world.replica = Some(PLANTED);
    world.is_planted = true;
    let mut found = 0;
    explore(world, &mut |world| match world.check {
        At::Over(None) => assert!(!world.is_planted, "{world:?}"),
        At::Over(Some(_)) => {
            found += 1;
            assert!(world.is_planted, "it is right again: {world:?}");
        }
        _ => {}
    });
    assert!(found > 100, "{found}");
}

/// A replica that somebody writes to now and then is told of only where it was written to.
#[test]
fn what_is_planted_meanwhile_is_told_of_only_if_it_was() {
    let left = Left {
        plants: 1,
        writes: 2,
        ..BUSY
    };
    let mut found = 0;
    explore(World::new(left), &mut |world| {
        if let At::Over(Some(_)) = world.check {
            found += 1;
            assert!(world.is_planted, "{world:?}");
        }
    });
    assert!(found > 100, "{found}");
}

/// Without writes the check ends at the first second that covers it.
#[test]
fn a_quiet_divergence_is_found_at_once() {
    for (planted, kind) in [
        (Some(PLANTED), DifferenceKind::Differs),
        (None, DifferenceKind::OnlyInA),
    ] {
        let mut world = World::new(Left {
            writes: 0,
            marks: 0,
            plants: 0,
        });
        world.replica = planted;
        while let Some(next) = world.step() {
            world = next;
        }
        assert!(matches!(world.check, At::Waits(_)), "{world:?}");
        world.equal_at = world.now;
        while let Some(next) = world.step() {
            world = next;
        }
        assert_eq!(world.check, At::Over(Some(kind)));
        assert_eq!(world.rounds, 0);
    }
}

#[test]
fn an_item_that_the_source_does_not_have_is_only_in_the_replica() {
    let look = |item| ReplicaLook { order: None, item };
    let source = SourceLook::at(None, UnixMillis(1_999), 60);
    assert_eq!(source.due, UnixSeconds(63));
    let awaited = looked(look(Some(1)), source).unwrap();
    let Verdict::Diverged(found) = awaited.looked_again(&look(Some(1)), None) else {
        panic!("cleared");
    };
    assert_eq!((found.kind, found.source), (DifferenceKind::OnlyInB, None));
}

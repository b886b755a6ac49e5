//! Whether the other side is still alive, judged by one's own clock alone.

use std::collections::HashMap;
use std::time::Duration;

use crate::lease::{Claim, Epoch, Grant, LeaseId, Row};
use crate::monotonic::Monotonic;

/// Proof that a lease's owner showed no sign of life for the lease time: the epoch and heartbeat that stood still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    lease: LeaseId,
    epoch: Epoch,
    heartbeat: u64,
}

impl Silence {
    /// Whether the proof is about what this row says now.
    #[must_use]
    pub fn is_of(&self, row: &Row) -> bool {
        (&self.lease, self.epoch, self.heartbeat) == (&row.id, row.lease.epoch, row.lease.heartbeat)
    }
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    epoch: Epoch,
    heartbeat: u64,
    since: Monotonic,
}

/// Remembers since when each lease's (epoch, heartbeat) has looked the same to this observer.
///
/// No time is ever read from the table, so the clocks of two machines never meet: a clock that is an hour wrong, or is set
/// back by NTP, changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    sightings: HashMap<LeaseId, Sighting>,
}

impl Observer {
    /// Takes note of a row that was read between `sent` and `received`. Returns the proof once the same epoch and heartbeat
    /// have been there for the lease time.
    ///
    /// The span counts from the answer of the first read to the sending of this one: whatever the two reads took is not
    /// silence.
    pub fn observe(
        &mut self,
        row: &Row,
        sent: Monotonic,
        received: Monotonic,
        lease_time: Duration,
    ) -> Option<Silence> {
        let (epoch, heartbeat) = (row.lease.epoch, row.lease.heartbeat);
        if row.lease.owner.is_none() {
            self.sightings.remove(&row.id);
            return None;
        }
        if let Some(seen) = self.sightings.get(&row.id)
            && (seen.epoch, seen.heartbeat) == (epoch, heartbeat)
        {
            return (sent.since(seen.since) >= lease_time).then(|| Silence {
                lease: row.id.clone(),
                epoch,
                heartbeat,
            });
        }
        let sighting = Sighting {
            epoch,
            heartbeat,
            since: received,
        };
        self.sightings.insert(row.id.clone(), sighting);
        None
    }

    /// Forgets all leases but these.
    pub(crate) fn retain(&mut self, keep: impl Fn(&LeaseId) -> bool) {
        self.sightings.retain(|lease, _| keep(lease));
    }

    /// Forgets a lease that is not there any more.
    pub(crate) fn forget(&mut self, lease: &LeaseId) {
        self.sightings.remove(lease);
    }
}

/// What an owner knows about the life of a claimant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// Nobody asks.
    None,
    /// Somebody asks, and has not been seen alive yet.
    Unconfirmed,
    /// Somebody asks and is alive: drain and hand over.
    Alive(String),
    /// Whoever asked has been silent for the lease time: drop the claim.
    Dead(Grant),
}

/// Watches whether the claimant of one's own lease is alive: a lease handed over to a dead worker would lie idle.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimWatch {
    seen: Option<ClaimSighting>,
}

#[derive(Clone, Debug)]
struct ClaimSighting {
    grant: Grant,
    beat: u64,
    since: Monotonic,
    moved: bool,
}

impl ClaimWatch {
    /// Takes note of the claim that an answer showed. `now`: a moment after the answer.
    pub(crate) fn look(
        &mut self,
        claim: Option<&Claim>,
        now: Monotonic,
        lease_time: Duration,
    ) -> Claimant {
        let Some(claim) = claim else {
            self.seen = None;
            return Claimant::None;
        };
        let seen = match self.seen.take() {
            Some(seen) if seen.grant == claim.by.grant && seen.beat == claim.beat => seen,
            Some(seen) if seen.grant == claim.by.grant => ClaimSighting {
                beat: claim.beat,
                since: now,
                moved: true,
                ..seen
            },
            _ => ClaimSighting {
                grant: claim.by.grant.clone(),
                beat: claim.beat,
                since: now,
                moved: false,
            },
        };
        let silent = now.since(seen.since) >= lease_time;
        let claimant = match (silent, seen.moved) {
            (true, _) => Claimant::Dead(seen.grant.clone()),
            (false, true) => Claimant::Alive(claim.by.worker.clone()),
            (false, false) => Claimant::Unconfirmed,
        };
        self.seen = Some(seen);
        claimant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::samples::{fresh, held, owner};

    const LEASE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::since_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_counts_from_the_first_answer_to_the_sending_of_the_last_read() {
        let row = held("s", "a");
        let mut observer = Observer::default();
        assert_eq!(observer.observe(&row, at(0), at(10), LEASE), None);
        // 40 seconds from send to answer, but only 29 of them are known to be silent.
        assert_eq!(observer.observe(&row, at(39), at(60), LEASE), None);
        let silence = observer.observe(&row, at(40), at(41), LEASE).unwrap();
        assert!(silence.is_of(&row));
    }

    #[test]
    fn k13_any_sign_of_life_starts_the_count_anew() {
        let mut row = held("s", "a");
        let mut observer = Observer::default();
        observer.observe(&row, at(0), at(0), LEASE);
        row.lease.heartbeat += 1;
        assert_eq!(observer.observe(&row, at(100), at(100), LEASE), None);
        assert_eq!(observer.observe(&row, at(129), at(129), LEASE), None);
        assert!(observer.observe(&row, at(130), at(130), LEASE).is_some());
        row.lease.epoch = row.lease.epoch.next();
        assert_eq!(observer.observe(&row, at(131), at(131), LEASE), None);
    }

    #[test]
    fn a_claim_on_a_dead_owner_is_no_sign_of_the_owners_life() {
        let mut row = held("s", "a");
        let mut observer = Observer::default();
        observer.observe(&row, at(0), at(0), LEASE);
        row.lease.claim = Some(Claim {
            by: owner("b"),
            epoch: row.lease.epoch,
            beat: 7,
        });
        assert!(observer.observe(&row, at(30), at(30), LEASE).is_some());
    }

    #[test]
    fn k12_a_row_is_judged_by_what_it_does_and_not_by_a_time_in_it() {
        // There is no time-out in a row that could be missing: two equal sights are enough.
        let mut row = held("s", "a");
        row.lease.heartbeat = 0;
        let mut observer = Observer::default();
        observer.observe(&row, at(5), at(5), LEASE);
        assert!(observer.observe(&row, at(35), at(35), LEASE).is_some());
        assert_eq!(observer.observe(&fresh("s"), at(36), at(36), LEASE), None);
        assert!(observer.sightings.is_empty());
    }

    #[test]
    fn case_43_a_claimant_is_alive_once_it_moved_and_dead_after_a_silent_lease_time() {
        let mut watch = ClaimWatch::default();
        let mut claim = Claim {
            by: owner("b"),
            epoch: Epoch::default(),
            beat: 0,
        };
        assert_eq!(watch.look(None, at(0), LEASE), Claimant::None);
        assert_eq!(
            watch.look(Some(&claim), at(10), LEASE),
            Claimant::Unconfirmed
        );
        assert_eq!(
            watch.look(Some(&claim), at(39), LEASE),
            Claimant::Unconfirmed
        );
        assert_eq!(
            watch.look(Some(&claim), at(40), LEASE),
            Claimant::Dead(owner("b").grant)
        );
        claim.beat = 1;
        assert_eq!(
            watch.look(Some(&claim), at(41), LEASE),
            Claimant::Alive("b".into())
        );
        assert_eq!(
            watch.look(Some(&claim), at(70), LEASE),
            Claimant::Alive("b".into())
        );
        assert_eq!(
            watch.look(Some(&claim), at(71), LEASE),
            Claimant::Dead(owner("b").grant)
        );
        claim.by = owner("c");
        assert_eq!(
            watch.look(Some(&claim), at(72), LEASE),
            Claimant::Unconfirmed
        );
    }
}

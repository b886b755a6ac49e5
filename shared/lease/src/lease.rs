//! A lease as a value: one row of the table.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::position::Position;

/// What is leased: a shard's id, or any other name of up to 1,024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(String);

/// The longest value of a sort key, in bytes.
const LONGEST_NAME: usize = 1024;

impl LeaseId {
    /// A name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is empty or longer than 1,024 bytes.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let reason = match name.len() {
            1..=LONGEST_NAME => return Ok(Self(name)),
            0 => "its name is empty",
            _ => "its name is longer than 1,024 bytes",
        };
        Err(Error::Invalid {
            lease: name,
            reason,
        })
    }

    /// A name that is a record's already.
    pub(crate) fn stored(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LeaseId {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl Borrow<str> for LeaseId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Counts the owners of a lease: the fencing token. It grows by one with each new owner, so a sink that remembers the highest
/// epoch it has seen can refuse whatever an earlier owner still sends.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch as a number, to be stored beside what it fences.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// An epoch that was stored as a number.
    #[must_use]
    pub const fn from_stored(number: u64) -> Self {
        Self(number)
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells one acquisition from every other, also from another one by the same worker: drawn at random for each. Two
/// processes under one name, or one process that was restarted, are never taken for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grant(String);

impl Grant {
    /// A grant from 128 random bits.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

/// Who owns a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The worker's name, for people and for balance.
    pub worker: String,
    /// This acquisition: what decides.
    pub grant: Grant,
}

/// A request to hand a live lease over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who asks.
    pub by: Owner,
    /// The epoch that is asked to end. A claim of an earlier epoch counts for nothing.
    pub epoch: Epoch,
    /// Grows while the claimant lives.
    pub beat: u64,
}

/// Whether a lease can be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// A parent is not finished yet, as far as this row knows.
    Waiting,
    /// It can be acquired, or is.
    Ready,
    /// Everything is done.
    End,
}

/// One lease: the payload of one row.
///
/// A field that this version does not know makes the row unreadable rather than be dropped by the next write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// What must be finished before this may begin. Empty: a root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<LeaseId>,
    /// What follows, written as the lease ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<LeaseId>,
    /// Whether it can be worked on.
    pub state: State,
    /// How far its work has come.
    pub position: Position,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// How many owners it has had.
    pub epoch: Epoch,
    /// Grows with each sign of life of the owner.
    pub heartbeat: u64,
    /// Who asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// It was registered after its parent had ended without naming it: its records may have been read late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// The caller's own facts about it, for example a shard's ordinal or its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Lease {
    /// The claim, unless it is a stale one.
    #[must_use]
    pub fn current_claim(&self) -> Option<&Claim> {
        self.claim
            .as_ref()
            .filter(|claim| claim.epoch == self.epoch)
    }

    /// Whether this very acquisition owns the lease.
    #[must_use]
    pub fn is_owned_under(&self, grant: &Grant) -> bool {
        self.owner
            .as_ref()
            .is_some_and(|owner| owner.grant == *grant)
    }
}

/// A lease as it was read: with its name, and the version that a change of it must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is leased.
    pub id: LeaseId,
    /// The lease.
    pub lease: Lease,
    /// The record's version.
    pub version: i64,
}

/// What to do about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, if the row is still as it was seen.
    Write(Box<Lease>),
    /// The row already says so: an earlier try, whose answer got lost, has done it.
    Done,
}

impl Step {
    pub(crate) fn write(lease: Lease) -> Self {
        Self::Write(Box::new(lease))
    }
}

/// One worker's time as owner of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The acquisition.
    pub grant: Grant,
    /// The epoch that it began.
    pub epoch: Epoch,
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) fn id(name: &str) -> LeaseId {
        LeaseId::new(name).unwrap()
    }

    pub(crate) fn owner(worker: &str) -> Owner {
        Owner {
            worker: worker.into(),
            grant: Grant(format!("grant of {worker}")),
        }
    }

    /// A root at `AT:1` that nobody has owned yet.
    pub(crate) fn fresh(name: &str) -> Row {
        Row {
            id: id(name),
            lease: Lease {
                parents: Vec::new(),
                children: Vec::new(),
                state: State::Ready,
                position: "AT:1".parse().unwrap(),
                owner: None,
                epoch: Epoch::default(),
                heartbeat: 0,
                claim: None,
                late: false,
                details: BTreeMap::new(),
            },
            version: 1,
        }
    }

    /// The same, owned in epoch 5 with heartbeat 3.
    pub(crate) fn held(name: &str, worker: &str) -> Row {
        let mut row = fresh(name);
        row.lease.owner = Some(owner(worker));
        row.lease.epoch = Epoch(5);
        row.lease.heartbeat = 3;
        row
    }

    pub(crate) fn tenure(worker: &str, epoch: u64) -> Tenure {
        Tenure {
            grant: owner(worker).grant,
            epoch: Epoch(epoch),
        }
    }

    pub(crate) fn written(step: Step) -> Lease {
        match step {
            Step::Write(lease) => *lease,
            Step::Done => panic!("nothing to write"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_1024_bytes() {
        assert!(LeaseId::new("x".repeat(1024)).is_ok());
        for name in [String::new(), "x".repeat(1025), "ä".repeat(513)] {
            assert!(matches!(LeaseId::new(name), Err(Error::Invalid { .. })));
        }
    }

    #[test]
    fn a_row_of_a_later_version_is_refused_and_not_stripped() {
        let row = samples::held("s", "a");
        let mut json = serde_json::to_value(&row.lease).unwrap();
        assert_eq!(
            serde_json::from_value::<Lease>(json.clone()).unwrap(),
            row.lease
        );
        json["quota"] = 7.into();
        assert!(serde_json::from_value::<Lease>(json).is_err());
    }

    #[test]
    fn a_claim_of_another_epoch_counts_for_nothing() {
        let mut lease = samples::held("s", "a").lease;
        lease.claim = Some(Claim {
            by: samples::owner("b"),
            epoch: Epoch(4),
            beat: 0,
        });
        assert_eq!(lease.current_claim(), None);
        lease.epoch = Epoch(4);
        assert!(lease.current_claim().is_some());
    }
}

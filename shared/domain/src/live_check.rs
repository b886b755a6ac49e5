//! Whether one key of a live replica has gone wrong, decided while its source is written to.
//!
//! Two strong reads of two tables are two moments, and a replica is behind by nature: that its item is another than the source's says
//! nothing. So the check waits. At first it reads the order of the replica's fence and the replica's item, then the source's item `A`,
//! and the second of that last read. Once the replica is on record as equal to its source as of that second, it reads the replica again,
//! the fence before the item and after it.
//!
//! **Why a difference is then a real one.** Say that the fence is where it was, and the item is not `A`. The change at which the fence
//! stands was made before the first look at the fence, so the source's read of `A` came after it. The change that made `A` what it is
//! was made before that read, so it is stamped no later than the second that was waited for, and the replica has it by its own record:
//! its fence is at that change or behind it. Had the fence been at an earlier change at first, it would have moved; had it been at a
//! later one, the source would have read that one and not `A`. So it stands at the very change that made `A`, and beside it lies something
//! else. No applier wrote that: a write of the replica and its fence are one. The same holds for a key without a fence, which is as the
//! scan has seen it.
//!
//! **Why an item that was changed behind the replica's back is found.** What stands there until the end is not what the source has, and
//! nothing moves the fence. Whatever is applied after all puts it right, and moves the fence.
//!
//! **The limit.** It is as good as the replica's second, and that as the log's mark: where its grade is `assumed`, a record that
//! DynamoDB publishes later than assumed looks like a divergence until it comes.

use serde::Serialize;

use crate::difference::DifferenceKind;
use crate::ids::UnixMillis;
use crate::mark::UnixSeconds;

/// The clock of an answer tells whole seconds, and may tell the one before.
const ANSWER_GRAIN_S: u64 = 2;

/// What stands for an item: equal for equal items, however they are spelled. `None` where there is none.
pub type Print = Option<u128>;

/// A look at one key of the replica: its fence's order was read first, then its item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaLook {
    /// Where the fence stands; `None` if there is none.
    pub order: Option<String>,
    /// The item.
    pub item: Print,
}

/// A read of one key of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceLook {
    /// The item.
    pub item: Print,
    /// From this second on the replica must have it.
    pub due: UnixSeconds,
}

impl SourceLook {
    /// An item of an answer that was given at `answered_at`, by the service's clock. Stamps may be later than the true time by
    /// `stamp_margin_s`.
    #[must_use]
    pub fn at(item: Print, answered_at: UnixMillis, stamp_margin_s: u64) -> Self {
        let second = answered_at.0 / 1000 + ANSWER_GRAIN_S;
        Self {
            item,
            due: UnixSeconds(second.saturating_add(stamp_margin_s)),
        }
    }
}

/// A key whose two items were not the same: what must be true before anything is said of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Awaited {
    order: Option<String>,
    source: SourceLook,
}

impl Awaited {
    /// The second that the replica must have reached before it is looked at again.
    #[must_use]
    pub fn due(&self) -> UnixSeconds {
        self.source.due
    }

    /// What the source had.
    #[must_use]
    pub fn source(&self) -> Print {
        self.source.item
    }

    /// Where the replica's fence stood.
    #[must_use]
    pub fn order(&self) -> Option<&str> {
        self.order.as_deref()
    }

    /// Decides by a second look, which began after the replica had reached [`due`](Self::due); `after` is the fence's order once the
    /// item was read.
    #[must_use]
    pub fn looked_again(self, again: &ReplicaLook, after: Option<&str>) -> Verdict {
        if again.order.as_deref() != after {
            // What was read is of neither order.
            return Verdict::Moving;
        }
        if again.item == self.source.item {
            return Verdict::Cleared;
        }
        if again.order != self.order {
            return Verdict::Moving;
        }
        Verdict::Diverged(Divergent {
            kind: kind(self.source.item, again.item),
            order: self.order,
            source: self.source.item,
        })
    }
}

/// A key in which a replica has gone wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Divergent {
    /// How; the source is the first side.
    pub kind: DifferenceKind,
    /// Where its fence stands, and stood all the while.
    pub order: Option<String>,
    /// What the source had, and the replica should have.
    pub source: Print,
}

/// What a second look says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The replica has what the source had.
    Cleared,
    /// Something was applied meanwhile: the key is to be looked at from the beginning.
    Moving,
    /// The replica has gone wrong.
    Diverged(Divergent),
}

/// Why nothing can be said of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undecided {
    /// It was written to each time that it was looked at.
    WrittenTooOften,
    /// The replica did not come as far as the read of the source in the time that was given.
    OutOfPatience,
}

impl Undecided {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrittenTooOften => "written to each time that it was looked at",
            Self::OutOfPatience => "the replica did not get as far in the time that was given",
        }
    }
}

/// Decides by the first look, the replica's before the source's: `None` if they are the same.
#[must_use]
pub fn looked(replica: ReplicaLook, source: SourceLook) -> Option<Awaited> {
    (replica.item != source.item).then_some(Awaited {
        order: replica.order,
        source,
    })
}

fn kind(source: Print, replica: Print) -> DifferenceKind {
    match (source, replica) {
        (Some(_), None) => DifferenceKind::OnlyInA,
        (None, Some(_)) => DifferenceKind::OnlyInB,
        _ => DifferenceKind::Differs,
    }
}

#[cfg(test)]
mod tests;

//! Where an iterator of a log's stream stands.

use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_source::StreamError;

use super::Known;

/// A place in a shard, as iterators spell it: `<shard>@<number>` or `<shard>><number>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) shard: ShardId,
    number: SequenceNumber,
    after: bool,
}

impl At {
    pub(super) fn new(shard: &ShardId, number: &SequenceNumber, after: bool) -> Self {
        Self {
            shard: shard.clone(),
            number: number.clone(),
            after,
        }
    }

    pub(super) fn number(&self) -> &SequenceNumber {
        &self.number
    }

    pub(super) fn after(&self) -> Option<SequenceNumber> {
        self.after.then(|| self.number.clone())
    }

    /// Whether something that is known to be complete may lie behind this place.
    pub(super) fn is_before(&self, known: &Known) -> bool {
        match known {
            Known::Nothing => false,
            Known::Until(last) if self.after => *last > self.number,
            Known::Until(last) => *last >= self.number,
            Known::Whole => true,
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.after { '>' } else { '@' };
        write!(f, "{}{sign}{}", self.shard, self.number)
    }
}

impl std::str::FromStr for At {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        let place = text.find(['>', '@']);
        let parts = place.and_then(|place| text.split_at_checked(place));
        let read = parts.and_then(|(shard, number)| {
            Some(Self {
                shard: shard.parse().ok()?,
                after: number.starts_with('>'),
                number: number.get(1..)?.parse().ok()?,
            })
        });
        read.ok_or_else(|| StreamError::IteratorExpired(text.to_owned()))
    }
}

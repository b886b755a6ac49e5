//! What it means that records of a shard are gone: nothing, if all of it was read; else a gap, on record before anything else.

use std::time::Duration;

use highwater_domain::incident::IncidentKind;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::stream_source::StreamError;
use highwater_lease::Position;

use crate::error::StepError;
use crate::note_incident::{Sight, first_second, note};
use crate::shard_rows::ShardRow;
use crate::shard_work::{Halt, ShardWork};

/// How long to wait before asking again for a shard that is not there.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// So many times in a row a shard must not be there before it is taken for gone: one that was made this moment may not be
/// known everywhere yet.
const LOOKS: u32 = 3;

/// How often in a row a shard was not there, or could not be asked.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    looks: u32,
    /// Calls that failed in a row.
    pub(crate) failures: u32,
}

impl Gone {
    /// Counts a look, and tells whether it was the last that was needed.
    pub(crate) fn is_certain(&mut self) -> bool {
        self.looks += 1;
        self.looks >= LOOKS
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The shard's last record is in the log: nothing is lost.
    pub(crate) was_read_whole: bool,
    /// This worker was the first to see the gap.
    pub(crate) is_new: bool,
}

/// Decides about records behind `position` that are gone, and puts a gap on record.
pub(crate) async fn look(
    work: &ShardWork,
    row: &ShardRow,
    position: &Position,
    event_time: Option<UnixSeconds>,
    why: &StreamError,
) -> Result<Found, Halt> {
    let end = end_of(work, row).await?;
    if is_read_whole(position, end.as_ref()) {
        return Ok(Found {
            was_read_whole: true,
            is_new: false,
        });
    }
    let log = &work.log;
    let number = match position {
        Position::Open(place) => place.sequence_number.to_string(),
        Position::End => "end".to_owned(),
    };
    let from = event_time.unwrap_or_else(|| first_second(&work.shard));
    let sight = Sight {
        kind: IncidentKind::Gap,
        shard: Some(work.shard.clone()),
        what: format!("{}-{number}", work.shard),
        from,
        until: UnixSeconds::of(log.time.now()).max(from),
        detail: format!(
            "records of shard {} from {position} on were gone before they were read: {why}; take a snapshot to go on from",
            work.shard
        ),
    };
    let mut tries = 0;
    loop {
        work.may_write().await?;
        match note(&work.deps, log, &sight).await {
            Ok(is_new) => {
                return Ok(Found {
                    was_read_whole: false,
                    is_new,
                });
            }
            Err(error) => work.again("a gap", &mut tries, error).await?,
        }
    }
}

/// Case 65: a shard whose known last record is in the log has lost nothing, whatever is gone by now.
fn is_read_whole(position: &Position, end: Option<&SequenceNumber>) -> bool {
    match (position, end) {
        (Position::Open(place), Some(end)) => place.after && place.sequence_number >= *end,
        _ => false,
    }
}

/// The shard's ending sequence number: as a survey has noted it, or as a listing still tells it.
async fn end_of(work: &ShardWork, row: &ShardRow) -> Result<Option<SequenceNumber>, Halt> {
    if row.end.is_some() {
        return Ok(row.end.clone());
    }
    let mut tries = 0;
    let noted = loop {
        match work.log.leases.fetch(work.held.id()).await {
            Ok(row) => break ShardRow::of(&row).map_err(Halt::Failed)?.end,
            Err(error) => work.again("the lease", &mut tries, error.into()).await?,
        }
    };
    if noted.is_some() {
        return Ok(noted);
    }
    let mut tries = 0;
    loop {
        match work.deps.streams.listing(work.log.arn()).await {
            Ok(listing) => {
                let mut shards = listing.shards.into_iter();
                return Ok(shards.find(|it| it.id == work.shard).and_then(|it| it.end));
            }
            Err(StreamError::Gone(_)) => return Ok(None),
            Err(error) => {
                let error = StepError::Stream(error);
                work.again("the listing", &mut tries, error).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_65_only_what_was_read_to_its_known_end_is_whole() {
        let end: SequenceNumber = "1000".parse().unwrap();
        for (position, whole) in [
            ("AT:1000", false),
            ("AFTER:999", false),
            ("AFTER:1000", true),
            ("AFTER:1001", true),
        ] {
            let position: Position = position.parse().unwrap();
            assert_eq!(is_read_whole(&position, Some(&end)), whole, "{position}");
            assert!(!is_read_whole(&position, None));
        }
    }
}

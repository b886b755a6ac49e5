//! What it means that records of a shard are gone: nothing, if all of it was read; else a gap, on record before anything else.

use std::time::Duration;

use highwater_domain::ids::UnixMillis;
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

/// A shard takes no records any more so long after the first shard was made that goes on from it.
const SUCCESSION_MARGIN_MS: u64 = 15 * 60 * 1000;

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
    let known = known(work, row).await?;
    if is_read_whole(position, known.end.as_ref()) {
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
    let until = known.last_second(log.time.now());
    let sight = Sight {
        kind: IncidentKind::Gap,
        shard: Some(work.shard.clone()),
        what: format!("{}-{number}", work.shard),
        from,
        until: until.max(from),
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

/// What is known of a shard whose records are gone.
#[derive(Debug, Default)]
struct Known {
    /// Its ending sequence number: as a survey has noted it, or as a listing still tells it.
    end: Option<SequenceNumber>,
    /// Whether it is listed and open.
    is_open: bool,
    /// When the first shard was made that goes on from it.
    succeeded_at: Option<UnixMillis>,
}

impl Known {
    /// The last second that a record of it may be stamped with: a shard takes none any more when another goes on from it. The
    /// closer this is, the sooner a snapshot heals the gap.
    fn last_second(&self, now: UnixMillis) -> UnixSeconds {
        let succeeded = self.succeeded_at.filter(|_| !self.is_open);
        let last = succeeded.map(|at| UnixMillis(at.0.saturating_add(SUCCESSION_MARGIN_MS)));
        UnixSeconds::of(last.map_or(now, |last| last.min(now)))
    }
}

async fn known(work: &ShardWork, row: &ShardRow) -> Result<Known, Halt> {
    let mut known = Known {
        end: row.end.clone(),
        ..Known::default()
    };
    let mut tries = 0;
    while known.end.is_none() {
        match work.log.leases.fetch(work.held.id()).await {
            Ok(row) => {
                known.end = ShardRow::of(&row).map_err(Halt::Failed)?.end;
                break;
            }
            Err(error) => work.again("the lease", &mut tries, error.into()).await?,
        }
    }
    let mut tries = 0;
    loop {
        match work.deps.streams.listing(work.log.arn()).await {
            Ok(listing) => {
                for shard in listing.shards {
                    if shard.id == work.shard {
                        known.is_open = shard.end.is_none();
                        known.end = known.end.or(shard.end);
                    } else if shard.parent.as_ref() == Some(&work.shard) {
                        let made = shard.id.created_at();
                        let first = [known.succeeded_at, made].into_iter().flatten().min();
                        known.succeeded_at = first;
                    }
                }
                return Ok(known);
            }
            Err(StreamError::Gone(_)) => return Ok(known),
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

    /// A gap of a shard that others went on from long ago ends long ago: a snapshot made meanwhile heals it.
    #[test]
    fn a_gap_ends_with_its_shard() {
        let now = UnixMillis(100_000_000);
        let last = |succeeded_at: Option<u64>, is_open| {
            let known = Known {
                end: None,
                is_open,
                succeeded_at: succeeded_at.map(UnixMillis),
            };
            known.last_second(now).0
        };
        assert_eq!(last(None, false), 100_000);
        assert_eq!(last(Some(10_000_000), false), 10_000 + 900);
        assert_eq!(last(Some(10_000_000), true), 100_000, "it may still grow");
        assert_eq!(last(Some(99_999_000), false), 100_000);
    }
}

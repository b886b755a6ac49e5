//! Whether the stream that is followed is still the table's: it may be disabled, or enabled anew, or the table dropped.

use highwater_domain::failure::FailureKind;
use highwater_domain::incident::{IncidentKind, WITHOUT_END};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::shard::StreamStatus;
use highwater_domain::table_stream::StreamedTable;

use crate::begin_log::STREAM_ENDED;
use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::note_incident::{Sight, note};
use crate::shard_rows;
use crate::stream_log::StreamLog;

/// Changes right after a stream was enabled may have no records, for so long.
const SETTLE_SECONDS: u64 = 60;

/// How the stream of a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// It is the table's, and records come.
    Alive,
    /// It has ended: what is left of it can be read for 24 hours, and what changes now has no record in it.
    Ended {
        /// Whether the table has another stream now.
        replaced: bool,
    },
}

/// Looks at table and stream, and puts the end of the stream on record. `status` is what the last listing said, `None`
/// if the stream is not there. How it stands, and whether the incident is new.
pub async fn run(
    deps: &LiveDeps,
    log: &StreamLog,
    table: &str,
    status: Option<StreamStatus>,
) -> Result<(StreamState, bool), StepError> {
    let described = match deps.describer.description(table).await {
        Ok(described) => Some(StreamedTable::of(&described)),
        Err(failure) if failure.kind == FailureKind::NotFound => None,
        Err(failure) => return Err(StepError::Table(failure)),
    };
    let Some((reason, replaced)) = ending(log, described.as_ref(), status) else {
        return Ok((StreamState::Alive, false));
    };
    let from = last_seen(deps, log).await?;
    // Without another stream the loss goes on; with one, its first minute may not be captured yet.
    let now = UnixSeconds::of(log.time.now());
    let until = if replaced {
        UnixSeconds(now.0 + SETTLE_SECONDS)
    } else {
        WITHOUT_END
    };
    let sight = Sight {
        kind: IncidentKind::StreamEnded,
        shard: None,
        what: String::new(),
        from,
        until: until.max(from),
        detail: format!(
            "{} has ended: {reason}; what is left of it is read, what changes from now on has no record in it; take a snapshot once the table has a stream again",
            log.arn()
        ),
    };
    debug_assert_eq!(sight.id(), STREAM_ENDED, "one per stream, whoever sees it");
    let new = note(deps, log, &sight).await?;
    Ok((StreamState::Ended { replaced }, new))
}

/// Why the stream has ended, and whether another took its place; `None` while it lives.
fn ending(
    log: &StreamLog,
    table: Option<&StreamedTable>,
    status: Option<StreamStatus>,
) -> Option<(&'static str, bool)> {
    let Some(table) = table else {
        return Some(("the table was dropped", false));
    };
    let other = table.stream.as_ref().is_some_and(|it| it.arn != log.arn());
    let known = (&table.table_id, &log.facts.table_id);
    if let (Some(now), Some(then)) = known
        && now != then
    {
        return Some(("the table was dropped and created again", other));
    }
    if other {
        return Some(("another stream was enabled in its place", true));
    }
    match status {
        None | Some(StreamStatus::Disabled | StreamStatus::Disabling) if table.stream.is_none() => {
            Some(("it was disabled", false))
        }
        // The two services need not agree at every moment: both must say so.
        _ => None,
    }
}

/// The last second of which something is known to have come from the stream: it was alive then.
///
/// With nothing to show, that is the second from which the log holds everything. When the log was begun does not count: a
/// stream can be met when it has long been disabled, and what changed since is lost.
async fn last_seen(deps: &LiveDeps, log: &StreamLog) -> Result<UnixSeconds, StepError> {
    let published = deps.live.mark(&log.id).await.map_err(StepError::Control)?;
    // A shard that answered without being at its end was open then.
    let marked = published.and_then(|published| published.value.mark.best());
    let rows = shard_rows::all(&log.leases).await?;
    let stamped = rows.values().filter_map(|row| row.event_time);
    let begins = UnixSeconds::of(log.facts.log_from);
    let now = UnixSeconds::of(log.time.now());
    Ok(stamped
        .chain(marked)
        .fold(begins, UnixSeconds::max)
        .min(now))
}

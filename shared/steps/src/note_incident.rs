//! Puts incidents on record, each once: whoever sees one again finds it there.

use highwater_domain::digest::sha256_hex;
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::lineage::RETENTION_MS;
use highwater_domain::mark::{ROLL_MARGIN_SECONDS, UnixSeconds};
use highwater_domain::object_store::{Creation, NewObject};
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::Unread;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::stream_log::StreamLog;

/// Something seen that should be on record.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What happened.
    pub kind: IncidentKind,
    /// The shard, where it is about one.
    pub shard: Option<ShardId>,
    /// What tells it from other incidents of its kind: a shard, a position, a hash. The same for everybody who sees the
    /// same; empty where there is only one.
    pub what: String,
    /// The first second that may be touched.
    pub from: UnixSeconds,
    /// The last second that may be touched.
    pub until: UnixSeconds,
    /// What happened, in words.
    pub detail: String,
}

impl Sight {
    /// The incident's name.
    #[must_use]
    pub fn id(&self) -> String {
        match self.what.as_str() {
            "" => self.kind.to_string(),
            what => format!("{}-{what}", self.kind),
        }
    }

    pub(crate) fn incident(&self, id: String, label: &str, seen_at: UnixMillis) -> Incident {
        Incident {
            version: INCIDENT_VERSION,
            id,
            kind: self.kind,
            stream_label: label.to_owned(),
            shard: self.shard.clone(),
            from: self.from,
            until: self.until,
            seen_at,
            detail: self.detail.clone(),
        }
    }
}

/// A loss that is seen again within this time has not grown: what DynamoDB drops is older than a day.
const GROWS_AFTER_SECONDS: u64 = RETENTION_MS / 2000;

/// Whether what is on record tells of the sight.
///
/// A worker that dies between a gap's incident and the first record behind it sees the gap again; if that is a day
/// later, more of the shard is gone than was said. A record that cannot be understood may have been seen by somebody who did
/// not know what its shard counts it for.
fn covers(standing: &Incident, sight: &Sight) -> bool {
    let until = standing.until.0.saturating_add(GROWS_AFTER_SECONDS);
    let grows = matches!(sight.kind, IncidentKind::Gap | IncidentKind::UnreadRecord);
    !grows || (standing.from <= sight.from && sight.until.0 <= until)
}

/// Puts a sight on record, unless it is. Tells the observer of a new one. Whether it was new.
pub async fn note(deps: &LiveDeps, log: &StreamLog, sight: &Sight) -> Result<bool, StepError> {
    let base = sight.id();
    for number in 1_u32.. {
        let id = match number {
            1 => base.clone(),
            _ => format!("{base}-{number}"),
        };
        let incident = sight.incident(id, log.label(), log.time.now());
        let key = log.place.incident(log.label(), &incident.id);
        let (standing, creation) = log.settle_fact(key, incident).await?;
        deps.observer.met(&standing);
        if creation == Creation::Created {
            deps.observer.incident(&standing);
            return Ok(true);
        }
        if covers(&standing, sight) {
            return Ok(false);
        }
    }
    Err(StepError::Internal(format!("{base} has too many sequels")))
}

/// Keeps a record that cannot be understood, as it came, and puts that on record.
///
/// `since` is the greatest stamp on the path before it: its own counts as no earlier.
pub async fn note_unread(
    deps: &LiveDeps,
    log: &StreamLog,
    shard: &ShardId,
    unread: &Unread,
    since: Option<UnixSeconds>,
) -> Result<bool, StepError> {
    let sha256 = sha256_hex(&unread.raw);
    let object = NewObject {
        key: log.place.unread(log.label(), &sha256),
        body: unread.raw.clone(),
        content_type: "application/json",
        ..NewObject::default()
    };
    let url = log.store.url(&object.key);
    log.store.create(object).await.map_err(StepError::Store)?;
    let sight = unread_sight(shard, unread, since, log.time.now(), &url);
    note(deps, log, &sight).await
}

/// What there is to put on record about a record that is kept at `url`; `now` is DynamoDB's time, or the nearest there is.
pub(crate) fn unread_sight(
    shard: &ShardId,
    unread: &Unread,
    since: Option<UnixSeconds>,
    now: UnixMillis,
    url: &str,
) -> Sight {
    let number = unread.sequence_number.as_ref();
    let (from, until) = unread_seconds(shard, unread, since, now);
    Sight {
        kind: IncidentKind::UnreadRecord,
        shard: Some(shard.clone()),
        // A record with a number is one, in whatever dress it comes.
        what: number.map_or_else(
            || sha256_hex(&unread.raw),
            |number| format!("{shard}-{}", number.padded()),
        ),
        from,
        until,
        detail: format!(
            "{} of shard {shard} cannot be understood: {}; it is kept as it came in {url}",
            number.map_or("a record".to_owned(), |number| format!("record {number}")),
            unread.reason
        ),
    }
}

/// The seconds that a record may count for which cannot be understood.
fn unread_seconds(
    shard: &ShardId,
    unread: &Unread,
    since: Option<UnixSeconds>,
    now: UnixMillis,
) -> (UnixSeconds, UnixSeconds) {
    if let Some(stamp) = unread.created_at.map(UnixSeconds) {
        let counts_for = since.map_or(stamp, |since| since.max(stamp));
        let until = counts_for.0.saturating_add(ROLL_MARGIN_SECONDS);
        return (stamp, UnixSeconds(until));
    }
    let from = since.unwrap_or_else(|| first_second(shard));
    (from, UnixSeconds::of(now).max(from))
}

/// The first second that a record of this shard may be stamped with, as far as its id tells; 0 if it does not.
#[must_use]
pub fn first_second(shard: &ShardId) -> UnixSeconds {
    let made = shard.created_at().map(UnixSeconds::of).unwrap_or_default();
    UnixSeconds(made.0.saturating_sub(ROLL_MARGIN_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(kind: IncidentKind, from: u64, until: u64) -> Sight {
        Sight {
            kind,
            shard: Some("shardId-00000001768385930622-efd1a093".parse().unwrap()),
            what: "shard-17".into(),
            from: UnixSeconds(from),
            until: UnixSeconds(until),
            detail: String::new(),
        }
    }

    #[test]
    fn ids_say_what_and_where() {
        let gap = sight(IncidentKind::Gap, 1, 2);
        assert_eq!(gap.id(), "gap-shard-17");
        let ended = Sight {
            kind: IncidentKind::StreamEnded,
            what: String::new(),
            ..gap
        };
        assert_eq!(ended.id(), crate::begin_log::STREAM_ENDED);
    }

    /// A gap that is met again a day later has grown; one that is met again at once has not.
    #[test]
    fn a_gap_that_has_grown_is_another_incident() {
        let hour = 3600;
        let standing =
            sight(IncidentKind::Gap, 100, 200).incident(String::new(), "l", UnixMillis(0));
        for (from, until, covered) in [
            (100, 200, true),
            (100, 200 + 12 * hour, true),
            (100, 201 + 12 * hour, false),
            (99, 200, false),
        ] {
            let again = sight(IncidentKind::Gap, from, until);
            assert_eq!(covers(&standing, &again), covered, "{from} {until}");
        }
        let late = sight(IncidentKind::LateChild, 0, 99 * hour);
        assert!(covers(&standing, &late));
    }
}

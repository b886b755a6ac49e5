//! Incidents: what was lost, or may have been, and when. Facts in the bucket; the mark does not pass one that no newer
//! snapshot has healed, and no restore goes into one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::UnixMillis;
use crate::mark::UnixSeconds;
use crate::shard::ShardId;

/// The version of an incident's layout that this build writes.
pub const INCIDENT_VERSION: u32 = 1;

/// The last second of what has no end yet: of the year 9999, so that everything that writes dates can write it.
pub const WITHOUT_END: UnixSeconds = UnixSeconds(253_402_300_799);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// Records were gone before they were read.
    Gap,
    /// The stream was disabled, enabled anew, or its table dropped: changes in between have no records.
    StreamEnded,
    /// A record cannot be understood. It is kept raw.
    UnreadRecord,
    /// A shard was found after its parent's children had been taken for complete. Nothing is lost, but a mark published
    /// before may have been too high.
    LateChild,
    /// A shard without a parent was found after the log had begun; the same.
    LateRoot,
    /// A record came that is stamped before a mark of the grade `assumed`. It is in the log; restores made in between
    /// did not have it.
    LateRecord,
    /// A listing stayed contradictory; reading began further back than needed.
    DoubtfulListing,
    /// The change log breaks: an item's old image is not the image before.
    ChainBreak,
}

impl IncidentKind {
    /// Whether records are missing for good: a restore into its interval is refused, and a new snapshot is needed.
    #[must_use]
    pub fn loses_records(self) -> bool {
        matches!(
            self,
            Self::Gap | Self::StreamEnded | Self::UnreadRecord | Self::ChainBreak
        )
    }

    /// The word in JSON and in names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::StreamEnded => "stream-ended",
            Self::UnreadRecord => "unread-record",
            Self::LateChild => "late-child",
            Self::LateRoot => "late-root",
            Self::LateRecord => "late-record",
            Self::DoubtfulListing => "doubtful-listing",
            Self::ChainBreak => "chain-break",
        }
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One incident: `incidents/<id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The layout's version.
    pub version: u32,
    /// Its name: a function of what happened and where, so that whoever sees it again finds it on record.
    pub id: String,
    /// What happened.
    pub kind: IncidentKind,
    /// The stream.
    pub stream_label: String,
    /// The shard, where it is about one.
    pub shard: Option<ShardId>,
    /// The first second that may be touched; 0 where nothing bounds it.
    pub from: UnixSeconds,
    /// The last second that may be touched.
    pub until: UnixSeconds,
    /// When it was seen, by DynamoDB's clock.
    pub seen_at: UnixMillis,
    /// What happened, in words for a person, with positions.
    pub detail: String,
}

impl Incident {
    /// Whether something of the seconds `from` to `until`, both included, may be missing.
    #[must_use]
    pub fn touches(&self, from: UnixSeconds, until: UnixSeconds) -> bool {
        self.kind.loses_records() && self.from <= until && from <= self.until
    }

    /// Whether a snapshot whose handoff was captured at `captured_at` makes what was lost irrelevant for everything
    /// from then on: the scan has seen the effect of what no record tells.
    #[must_use]
    pub fn is_healed_by(&self, captured_at: UnixMillis) -> bool {
        UnixSeconds::of(captured_at) > self.until
    }
}

/// The seconds from which on the mark is held back: the beginnings of losses that no sealed snapshot has healed.
///
/// `handoffs` are the times at which the handoffs of sealed snapshots were captured.
#[must_use]
pub fn unhealed(incidents: &[Incident], handoffs: &[UnixMillis]) -> Vec<UnixSeconds> {
    let is_open = |incident: &&Incident| {
        incident.kind.loses_records() && !handoffs.iter().any(|at| incident.is_healed_by(*at))
    };
    incidents
        .iter()
        .filter(is_open)
        .map(|incident| incident.from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: u64, until: u64) -> Incident {
        Incident {
            version: INCIDENT_VERSION,
            id: "gap-1".into(),
            kind: IncidentKind::Gap,
            stream_label: "l".into(),
            shard: None,
            from: UnixSeconds(from),
            until: UnixSeconds(until),
            seen_at: UnixMillis(until * 1000),
            detail: String::new(),
        }
    }

    #[test]
    fn a_loss_touches_every_interval_that_shares_a_second_with_it() {
        let loss = gap(100, 200);
        for (from, until, touches) in [
            (0, 99, false),
            (0, 100, true),
            (150, 160, true),
            (200, 300, true),
            (201, 300, false),
        ] {
            let found = loss.touches(UnixSeconds(from), UnixSeconds(until));
            assert_eq!(found, touches, "{from}..{until}");
        }
        let late = Incident {
            kind: IncidentKind::LateChild,
            ..loss
        };
        assert!(!late.touches(UnixSeconds(0), UnixSeconds(300)));
    }

    #[test]
    fn only_a_handoff_captured_after_the_loss_heals_it() {
        let losses = [gap(100, 200), gap(300, 400)];
        let held = |handoffs: &[u64]| {
            let at: Vec<UnixMillis> = handoffs.iter().map(|at| UnixMillis(at * 1000)).collect();
            unhealed(&losses, &at)
        };
        assert_eq!(held(&[]), [UnixSeconds(100), UnixSeconds(300)]);
        assert_eq!(held(&[150, 200]), [UnixSeconds(100), UnixSeconds(300)]);
        assert_eq!(held(&[201]), [UnixSeconds(300)]);
        assert_eq!(held(&[401]), []);
    }
}

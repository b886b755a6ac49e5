//! Why a snapshot and the log do not make a second, in words, with the way out.

use thiserror::Error;

use crate::ids::SnapshotId;
use crate::incident::IncidentKind;
use crate::mark::{Grade, UnixSeconds};
use crate::shard::{ShardId, StreamView};

/// No snapshot and log make the second. The reason is that of the snapshot that comes nearest to making it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.words())]
pub struct Refusal {
    /// The second; `None` where the latest was asked for and there is none.
    pub at: Option<UnixSeconds>,
    /// The snapshot that the reason is about; `None` if there is no snapshot at all.
    pub snapshot: Option<SnapshotId>,
    /// The reason.
    pub forbidden: Forbidden,
}

impl Refusal {
    fn words(&self) -> String {
        match &self.snapshot {
            Some(snapshot) => format!("from snapshot {snapshot}: {}", self.forbidden),
            None => self.forbidden.to_string(),
        }
    }
}

/// What forbids a restore from one snapshot.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Forbidden {
    /// There is nothing to lay the log over.
    #[error("there is no completed snapshot; make one with `highwater backup --with-stream`")]
    NoSnapshot,
    /// It is still being made, or was given up.
    #[error("it is not completed; resume its backup, or make another snapshot")]
    NotSealed,
    /// A filter, a projection or a limit left something out.
    #[error(
        "it holds a part of the table only (a filter, a projection or --max-items); make a full snapshot"
    )]
    Partial,
    /// It was not made by a scan.
    #[error(
        "it was made from another snapshot and the log, so that no changes take over from it; restore from that one"
    )]
    Materialized,
    /// Its metadata cannot be used.
    #[error("{0}")]
    Unreadable(String),
    /// Records from its handoff on were gone before anybody read them.
    #[error(
        "its handoff has expired: records from it on were gone, unread, before it was completed; make another snapshot \
         while the log runs"
    )]
    Expired,
    /// It was made without a stream.
    #[error(
        "it has no handoff ({why}), so that nothing tells where the log takes over; make a snapshot with `highwater \
         backup --with-stream`"
    )]
    NoHandoff {
        /// Why it has none.
        why: String,
    },
    /// No log of its stream is beside it.
    #[error(
        "there is no change log of its stream ({label}) beside it; start `highwater follow`, or deploy the stream \
         function, and make another snapshot"
    )]
    NoLog {
        /// The stream's label.
        label: String,
    },
    /// Another table had the name.
    #[error("the log is of another table of the same name (table id {log}, not {snapshot})")]
    OtherTable {
        /// The table id in the snapshot's handoff.
        snapshot: String,
        /// The table id in the log.
        log: String,
    },
    /// The stream carries too little.
    #[error(
        "its stream carries {}; a restore to a second needs new images, better new and old ones: enable the \
         stream anew with NEW_AND_OLD_IMAGES and make another snapshot", view_words(*view)
    )]
    View {
        /// What it carries.
        view: StreamView,
    },
    /// A second before the scan's end, and no old images.
    #[error(
        "its scan ended at {scan_ended}, and a second before {first} needs changes to be undone by their old images, \
         which its stream does not carry (NEW_IMAGE); restore to {first} or later, or from an earlier snapshot"
    )]
    NeedsOldImages {
        /// When the scan ended.
        scan_ended: UnixSeconds,
        /// The first second that needs no undoing.
        first: UnixSeconds,
    },
    /// The log began later.
    #[error(
        "the log begins at {log_from}: what happened before cannot be undone; restore to {log_from} or later, or from a \
         snapshot that was made before the wanted second"
    )]
    BeforeLog {
        /// The first second that it holds whole.
        log_from: UnixSeconds,
    },
    /// Something was lost in the interval.
    #[error(
        "records of the seconds {from} to {until} may be missing ({kind}: {detail}), and the restore needs the log \
         from {needs_from} to {needs_until}; restore to a second before {from}, or from a snapshot that was begun more \
         than {settle_s} s after {until}"
    )]
    Lost {
        /// What happened.
        kind: IncidentKind,
        /// The first second that may be touched.
        from: UnixSeconds,
        /// The last one.
        until: UnixSeconds,
        /// Its words.
        detail: String,
        /// The first second that is needed.
        needs_from: UnixSeconds,
        /// The last one.
        needs_until: UnixSeconds,
        /// How long after a loss a snapshot must begin to be clear of it, in seconds.
        settle_s: u64,
    },
    /// A shard's rest is gone, and no incident says when.
    #[error(
        "the rest of shard {shard} was lost and no incident tells which seconds that touches; run `highwater audit`, or \
         make another snapshot"
    )]
    UntoldLoss {
        /// The shard.
        shard: ShardId,
    },
    /// The handoff begins where the log has nothing.
    #[error(
        "the log does not reach back to its handoff ({captured_at}): shard {shard} is not in it; make another snapshot, \
         now that the log runs"
    )]
    DoesNotReachBack {
        /// A shard that the handoff begins with.
        shard: ShardId,
        /// When the handoff was captured.
        captured_at: String,
    },
    /// A shard follows another and is not known.
    #[error(
        "shard {child} follows {parent} and the log does not know it; run `highwater audit` while the stream still has \
         it (24 hours)"
    )]
    ChildUnknown {
        /// The shard that has ended.
        parent: ShardId,
        /// The one that follows it.
        child: ShardId,
    },
    /// Nobody has said yet how far the log is complete.
    #[error(
        "nothing is known yet of how far the log is complete ({}); run `highwater audit`, or wait for the follower", grade_words(*.grade)
    )]
    NoMark {
        /// The grade that was asked for.
        grade: Grade,
    },
    /// The log is complete, but not so far.
    #[error(
        "the log is complete up to {mark} ({}), and this needs it up to {needed}{}; wait, run `highwater audit`, or \
         restore to an earlier second", grade_words(*.grade), grade_way_out(*.grade)
    )]
    MarkTooLow {
        /// Up to where it is.
        mark: UnixSeconds,
        /// By which grade.
        grade: Grade,
        /// Up to where it would have to be.
        needed: UnixSeconds,
    },
    /// The second has not come yet.
    #[error("{at} is in the future (it is {now})")]
    Future {
        /// The second.
        at: UnixSeconds,
        /// Now.
        now: UnixSeconds,
    },
}

impl Forbidden {
    /// Whether another second would not help: the snapshot itself will not do.
    #[must_use]
    pub fn is_about_the_snapshot(&self) -> bool {
        matches!(
            self,
            Self::NotSealed
                | Self::Partial
                | Self::Materialized
                | Self::Unreadable(_)
                | Self::Expired
                | Self::NoHandoff { .. }
                | Self::NoLog { .. }
                | Self::OtherTable { .. }
                | Self::View { .. }
        )
    }
}

fn grade_words(grade: Grade) -> &'static str {
    match grade {
        Grade::Proven => "proven",
        Grade::Rolled => "rolled",
        Grade::Assumed => "assumed",
    }
}

fn grade_way_out(grade: Grade) -> &'static str {
    match grade {
        Grade::Proven => " (a lesser grade, rolled or assumed, may reach further)",
        Grade::Rolled => " (a lesser grade, assumed, may reach further)",
        Grade::Assumed => "",
    }
}

fn view_words(view: StreamView) -> &'static str {
    match view {
        StreamView::NewAndOldImages => "new and old images",
        StreamView::NewImage => "new images only",
        StreamView::OldImage => "old images only",
        StreamView::KeysOnly => "keys only",
    }
}

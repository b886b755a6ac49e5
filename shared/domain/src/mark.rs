//! The mark: up to which second a table's change log is complete, and how well that is known.
//!
//! A log is complete up to a second if every record stamped before it is in the log. What is known of each shard
//! that may still receive records bounds it; the least of these bounds is the mark. It comes in three grades, because
//! an idle shard says nothing: no record is no proof that none was published.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::UnixMillis;
use crate::incident::Incident;
use crate::shard::ShardId;

/// Whole seconds since 1970: the grain of DynamoDB's own stamps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The second that a moment lies in.
    #[must_use]
    pub fn of(at: UnixMillis) -> Self {
        Self(at.0 / 1000)
    }
}

/// How a mark is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// By a later record of each shard.
    Proven,
    /// Also by the time at which a shard was made: its parent can hold nothing later.
    Rolled,
    /// Also by shards that were asked and had nothing: if publication is not later than assumed.
    Assumed,
}

/// A shard's id tells when it was made; its records are stamped no more than this before.
pub const ROLL_MARGIN_SECONDS: u64 = 60;

/// So many empty answers in a row, over so long, make an idle shard.
const IDLE_POLLS: u32 = 3;
const IDLE_MS: u64 = 2_000;

/// How late DynamoDB publishes a record at most, unless somebody measured better.
pub const DEFAULT_PUBLICATION_MS: u64 = 120_000;

/// Empty answers of a shard since its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// When the first of them came, by DynamoDB's clock.
    pub since: UnixMillis,
    /// When the last of them came, by DynamoDB's clock.
    pub last: UnixMillis,
    /// How many.
    pub polls: u32,
}

impl Silence {
    /// What is known after one more empty answer, given at `at`. Answers come from many hosts: their clocks may differ.
    #[must_use]
    pub fn after(before: Option<Self>, at: UnixMillis) -> Self {
        match before {
            None => Self {
                since: at,
                last: at,
                polls: 1,
            },
            Some(before) => Self {
                since: before.since,
                last: before.last.max(at),
                polls: before.polls.saturating_add(1),
            },
        }
    }

    /// Whether the shard can be taken for idle. One empty answer says nothing: it may take several calls to get to where
    /// the records are.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.polls >= IDLE_POLLS && self.last.since(self.since) >= IDLE_MS
    }

    /// Whether it can be taken for idle by what came after `before` was known. A silence that goes on begins no second time,
    /// and one that begins anew may do so in the second in which the old one ended: DynamoDB's clock tells seconds only.
    #[must_use]
    pub fn is_idle_after(&self, before: Option<&Self>) -> bool {
        let heard = match before {
            Some(before) if before.since == self.since => {
                self.polls >= before.polls.saturating_add(IDLE_POLLS)
                    && self.last.since(before.last) >= IDLE_MS
            }
            _ => true,
        };
        heard && self.is_idle()
    }
}

/// What the log holds of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardProgress {
    /// The shard.
    pub shard: ShardId,
    /// The greatest stamp on the path from its root to its last logged record; `None` if that path has no record yet.
    pub event_time: Option<UnixSeconds>,
    /// Its children, once it was read to its end and they were registered.
    pub children: Option<Vec<ShardId>>,
    /// Empty answers since its last record.
    pub silence: Option<Silence>,
}

/// The mark of one table, each grade for itself; `None` where nothing is known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Everything stamped up to this second, and it included, is in the log.
    pub proven: Option<UnixSeconds>,
    /// The same, if shards are stamped with the time at which they were made.
    pub rolled: Option<UnixSeconds>,
    /// The same, if DynamoDB publishes within the time assumed.
    pub assumed: Option<UnixSeconds>,
}

impl Mark {
    /// The mark of this grade.
    #[must_use]
    pub fn of(&self, grade: Grade) -> Option<UnixSeconds> {
        match grade {
            Grade::Proven => self.proven,
            Grade::Rolled => self.rolled,
            Grade::Assumed => self.assumed,
        }
    }

    /// The greatest second of any grade.
    #[must_use]
    pub fn best(&self) -> Option<UnixSeconds> {
        self.proven.max(self.rolled).max(self.assumed)
    }

    /// The best grade in which the log is known to be complete up to `at`.
    #[must_use]
    pub fn grade_at(&self, at: UnixSeconds) -> Option<Grade> {
        let grades = [Grade::Proven, Grade::Rolled, Grade::Assumed];
        let reaches = |grade: &Grade| self.of(*grade).is_some_and(|until| until >= at);
        grades.into_iter().find(reaches)
    }

    /// What is published after `published`: this, but no second is taken back that no incident touches.
    ///
    /// Two workers may look at the rows at different moments, and an assumption may be made anew with less courage; neither
    /// makes untrue what was published. An incident may: it withdraws the seconds it touches.
    #[must_use]
    pub fn following(self, published: Self, incidents: &[Incident]) -> Self {
        let next = |old: Option<UnixSeconds>, new: Option<UnixSeconds>| match old {
            Some(at) if new < old => {
                // Seconds after `new` up to `at`; from the first one if nothing is known now.
                let first = new.map_or(0, |new| new.0.saturating_add(1));
                let is_touched =
                    |incident: &Incident| incident.from <= at && first <= incident.until.0;
                if incidents.iter().any(is_touched) {
                    new
                } else {
                    old
                }
            }
            _ => new,
        };
        let proven = next(published.proven, self.proven);
        let rolled = next(published.rolled, self.rolled).max(proven);
        Self {
            proven,
            rolled,
            assumed: next(published.assumed, self.assumed).max(rolled),
        }
    }
}

/// Rows that were not read at one moment: read them again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("shard {child} follows {parent} and is not among the shards that were read")]
pub struct ChildNotRead {
    /// The shard that has ended.
    pub parent: ShardId,
    /// Its child.
    pub child: ShardId,
}

/// The mark, from all registered shards of a stream that is alive.
///
/// `incidents` are the first seconds of intervals in which records were lost: the mark does not pass them.
///
/// # Errors
/// If a shard has ended and a child of it is not among `shards`: a listing of rows is not atomic with the transaction
/// that registers children, and a missing leaf would raise the mark.
pub fn mark(
    shards: &[ShardProgress],
    incidents: &[UnixSeconds],
    publication_ms: u64,
) -> Result<Mark, ChildNotRead> {
    for parent in shards {
        let children = parent.children.iter().flatten();
        if let Some(child) = children
            .into_iter()
            .find(|child| shards.iter().all(|it| it.shard != **child))
        {
            return Err(ChildNotRead {
                parent: parent.shard.clone(),
                child: child.clone(),
            });
        }
    }
    let least = |bound: &dyn Fn(&ShardProgress) -> Option<UnixSeconds>| {
        let leaves = shards.iter().filter(|shard| shard.children.is_none());
        // One shard of which nothing is known leaves nothing known of the whole.
        let known: Option<Vec<UnixSeconds>> = leaves.map(bound).collect();
        let lost = incidents
            .iter()
            .map(|at| UnixSeconds(at.0.saturating_sub(1)));
        known?.into_iter().chain(lost).min()
    };
    Ok(Mark {
        proven: least(&proven),
        rolled: least(&rolled),
        assumed: least(&|shard| assumed(shard, publication_ms)),
    })
}

/// The shard that holds the mark of the grade `assumed` back the most, and so all others; `None` if no shard is read.
#[must_use]
pub fn bounding(shards: &[ShardProgress], publication_ms: u64) -> Option<&ShardId> {
    let leaves = shards.iter().filter(|shard| shard.children.is_none());
    let least = leaves.min_by_key(|shard| (assumed(shard, publication_ms), &shard.shard));
    least.map(|shard| &shard.shard)
}

/// A record's own second may still grow; everything before it is there.
fn proven(shard: &ShardProgress) -> Option<UnixSeconds> {
    shard
        .event_time
        .map(|at| UnixSeconds(at.0.saturating_sub(1)))
}

fn rolled(shard: &ShardProgress) -> Option<UnixSeconds> {
    let made = shard.shard.created_at().map(UnixSeconds::of);
    let made = made.map(|at| UnixSeconds(at.0.saturating_sub(ROLL_MARGIN_SECONDS)));
    proven(shard).max(made)
}

fn assumed(shard: &ShardProgress, publication_ms: u64) -> Option<UnixSeconds> {
    let idle = shard.silence.filter(Silence::is_idle);
    let asked = idle
        .map(|silence| UnixSeconds::of(UnixMillis(silence.last.0.saturating_sub(publication_ms))));
    // The second in which it was asked may still grow.
    let asked = asked.map(|at| UnixSeconds(at.0.saturating_sub(1)));
    rolled(shard).max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_768_385_930;

    fn id(seconds_ago: u64, name: &str) -> ShardId {
        format!("shardId-{:020}-{name}", (NOW - seconds_ago) * 1000)
            .parse()
            .unwrap()
    }

    fn leaf(made_ago: u64, name: &str, event_time: Option<u64>) -> ShardProgress {
        ShardProgress {
            shard: id(made_ago, name),
            event_time: event_time.map(UnixSeconds),
            children: None,
            silence: None,
        }
    }

    #[test]
    fn a_silence_counts_for_whoever_has_heard_it() {
        let silence = |since: u64, last: u64, polls| Silence {
            since: UnixMillis(since),
            last: UnixMillis(last),
            polls,
        };
        let old = silence(1_000, 1_000 + IDLE_MS, IDLE_POLLS);
        // It goes on, and was not asked about often enough.
        assert!(!old.is_idle_after(Some(&old)));
        let more = silence(1_000, old.last.0 + IDLE_MS, 2 * IDLE_POLLS - 1);
        assert!(!more.is_idle_after(Some(&old)));
        let more = silence(1_000, old.last.0 + IDLE_MS, 2 * IDLE_POLLS);
        assert!(more.is_idle_after(Some(&old)));
        // It began in the second in which the old one ended.
        let anew = silence(old.last.0, old.last.0 + IDLE_MS, IDLE_POLLS);
        assert!(anew.is_idle_after(Some(&old)) && anew.is_idle_after(None));
        assert!(!silence(5_000, 5_000, IDLE_POLLS).is_idle_after(None));
    }

    fn silent(mut shard: ShardProgress, polls: u32, ms: u64) -> ShardProgress {
        shard.silence = Some(Silence {
            since: UnixMillis(NOW * 1000 - ms),
            last: UnixMillis(NOW * 1000),
            polls,
        });
        shard
    }

    fn at(shards: &[ShardProgress]) -> [Option<u64>; 3] {
        let mark = mark(shards, &[], DEFAULT_PUBLICATION_MS).unwrap();
        [mark.proven, mark.rolled, mark.assumed].map(|it| it.map(|it| it.0))
    }

    /// Case 57: an idle table is proven to its last write, rolled to when its shards were made, assumed to now.
    #[test]
    fn an_idle_table_has_three_grades() {
        let busy_once = leaf(7200, "a", Some(NOW - 9000));
        assert_eq!(
            at(std::slice::from_ref(&busy_once)),
            [Some(NOW - 9001), Some(NOW - 7260), Some(NOW - 7260)]
        );
        assert_eq!(at(&[silent(busy_once, 3, 2000)])[2], Some(NOW - 121));
    }

    #[test]
    fn the_least_shard_is_the_mark() {
        let shards = [leaf(9000, "a", Some(NOW)), leaf(9000, "b", Some(NOW - 50))];
        assert_eq!(
            at(&shards),
            [Some(NOW - 51), Some(NOW - 51), Some(NOW - 51)]
        );
        let unknown = [leaf(9000, "a", Some(NOW)), leaf(9000, "b", None)];
        assert_eq!(at(&unknown), [None, Some(NOW - 9060), Some(NOW - 9060)]);
    }

    /// Case 30: an empty answer is not the tip.
    #[test]
    fn a_few_empty_answers_are_no_silence() {
        let shard = leaf(9000, "a", Some(NOW - 500));
        assert_eq!(at(&[silent(shard.clone(), 2, 9000)])[2], Some(NOW - 501));
        assert_eq!(at(&[silent(shard.clone(), 9, 1999)])[2], Some(NOW - 501));
        assert_eq!(at(&[silent(shard, 3, 2000)])[2], Some(NOW - 121));
    }

    /// Case 58: a parent that has ended, its child not read yet.
    #[test]
    fn a_missing_child_is_told_and_not_passed_over() {
        let mut parent = leaf(9000, "a", Some(NOW - 500));
        parent.children = Some(vec![id(400, "b"), id(400, "c")]);
        let children = [leaf(400, "b", Some(NOW)), leaf(400, "c", Some(NOW - 480))];
        let missing = mark(&[parent.clone(), children[0].clone()], &[], 0).unwrap_err();
        assert_eq!(missing.child, id(400, "c"));
        let all = [parent, children[0].clone(), children[1].clone()];
        assert_eq!(at(&all)[0], Some(NOW - 481), "the parent counts no more");
    }

    #[test]
    fn the_mark_does_not_pass_what_was_lost() {
        let shards = [leaf(9000, "a", Some(NOW))];
        let mark = mark(&shards, &[UnixSeconds(NOW - 30), UnixSeconds(NOW - 700)], 0).unwrap();
        for grade in [Grade::Proven, Grade::Rolled, Grade::Assumed] {
            assert_eq!(mark.of(grade), Some(UnixSeconds(NOW - 701)));
        }
    }

    fn incident(from: u64, until: u64) -> Incident {
        Incident {
            version: 1,
            id: "late-child-1".into(),
            kind: crate::incident::IncidentKind::LateChild,
            stream_label: "l".into(),
            shard: None,
            from: UnixSeconds(from),
            until: UnixSeconds(until),
            seen_at: UnixMillis(until * 1000),
            detail: String::new(),
        }
    }

    fn all(seconds: Option<u64>) -> Mark {
        let at = seconds.map(UnixSeconds);
        Mark {
            proven: at,
            rolled: at,
            assumed: at,
        }
    }

    /// I9: a published second is taken back only by an incident that touches it.
    #[test]
    fn i9_a_mark_goes_back_only_where_an_incident_says_why() {
        let published = all(Some(200));
        for (new, incidents, expected) in [
            (Some(300), vec![], Some(300)),
            (Some(100), vec![], Some(200)),
            (None, vec![], Some(200)),
            (Some(100), vec![incident(150, 160)], Some(100)),
            (Some(100), vec![incident(50, 100)], Some(200)),
            (Some(100), vec![incident(50, 101)], Some(100)),
            (Some(100), vec![incident(201, 300)], Some(200)),
            (Some(100), vec![incident(200, 300)], Some(100)),
            (None, vec![incident(0, 10)], None),
        ] {
            let next = all(new).following(published, &incidents);
            assert_eq!(next, all(expected), "{new:?} {incidents:?}");
        }
        assert_eq!(all(Some(1)).following(Mark::default(), &[]), all(Some(1)));
    }

    #[test]
    fn grades_stay_in_order_when_one_is_kept() {
        let published = Mark {
            proven: Some(UnixSeconds(100)),
            rolled: Some(UnixSeconds(150)),
            assumed: Some(UnixSeconds(200)),
        };
        let next = all(Some(90)).following(published, &[incident(120, 130)]);
        assert_eq!(
            [next.proven, next.rolled, next.assumed],
            [Some(UnixSeconds(100)); 3]
        );
    }

    #[test]
    fn silence_begins_with_the_first_empty_answer() {
        let mut silence = None;
        let idle: Vec<bool> = [9_000, 10_000, 8_000, 11_000, 11_001]
            .map(|at| {
                silence = Some(Silence::after(silence, UnixMillis(at)));
                silence.unwrap().is_idle()
            })
            .into();
        assert_eq!(idle, [false, false, false, true, true]);
        let silence = silence.unwrap();
        assert_eq!(
            (silence.since.0, silence.last.0, silence.polls),
            (9_000, 11_001, 5)
        );
    }

    #[test]
    fn the_bounding_shard_is_the_least() {
        let shards = [leaf(9000, "a", Some(NOW)), leaf(9000, "b", Some(NOW - 50))];
        assert_eq!(bounding(&shards, 0), Some(&id(9000, "b")));
        assert_eq!(bounding(&[], 0), None);
    }

    #[test]
    fn a_better_grade_is_never_behind_a_lesser_one() {
        let shards = [
            silent(leaf(300, "a", Some(NOW - 10)), 5, 5000),
            leaf(10, "b", Some(NOW - 100)),
        ];
        let [proven, rolled, assumed] = at(&shards);
        assert!(proven <= rolled && rolled <= assumed);
    }
}

//! Which snapshot and which part of the log make a second, or why none do.
//!
//! A strongly consistent scan has seen every write that was done before it began. So of each key only the records from
//! the handoff on matter, and records that are stamped clearly before it (by more than the stamps may be off) are left
//! out: what may have been lost among them is of no consequence.

use std::collections::BTreeMap;

use crate::handoff::{EVENTUAL_MARGIN_MS, Handoff};
use crate::ids::{SnapshotId, UnixMillis};
use crate::incident::Incident;
use crate::live_control::PublishedMark;
use crate::log_facts::{ShardEnd, ShardFacts, StreamFacts};
use crate::mark::{Grade, UnixSeconds};
use crate::restore_point::coverage::check_coverage;
use crate::restore_point::{Candidate, Forbidden, Needs, Refusal, Side, Wanted};
use crate::sequence_number::Generation;
use crate::shard::{ShardId, StreamView};

/// By how much DynamoDB's stamps are taken to be off at most.
pub const DEFAULT_STAMP_MARGIN_SECONDS: u64 = 60;

/// What is known of the log of one of the table's streams.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFacts {
    /// The stream.
    pub stream: StreamFacts,
    /// Up to where it is complete, as was published last.
    pub mark: Option<PublishedMark>,
    /// What was lost.
    pub incidents: Vec<Incident>,
    /// Its shards.
    pub shards: BTreeMap<ShardId, LogShard>,
}

impl LogFacts {
    /// Finds a loss that touches what a restore needs.
    pub fn check_losses(&self, needs: Needs, stamp_margin_s: u64) -> Result<(), Forbidden> {
        // A loss ends when it was seen, by a clock; what was lost may be stamped a little later.
        let from = UnixSeconds(needs.from.0.saturating_sub(stamp_margin_s));
        let lost = self
            .incidents
            .iter()
            .filter(|incident| incident.touches(from, needs.until))
            .min_by_key(|incident| incident.from);
        lost.map_or(Ok(()), |incident| {
            Err(Forbidden::Lost {
                kind: incident.kind,
                from: incident.from,
                until: incident.until,
                detail: incident.detail.clone(),
                needs_from: from,
                needs_until: needs.until,
                settle_s: 2 * stamp_margin_s,
            })
        })
    }
}

/// One shard of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogShard {
    /// How it came to be known.
    pub facts: ShardFacts,
    /// Its end, once it was read so far.
    pub end: Option<ShardEnd>,
}

/// What a restore is willing to rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// By how much DynamoDB's stamps may be off, in seconds: assumption A7. A local engine needs 0.
    pub stamp_margin_s: u64,
    /// The weakest grade that will do. The best that reaches far enough is used.
    pub grade: Grade,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            stamp_margin_s: DEFAULT_STAMP_MARGIN_SECONDS,
            grade: Grade::Assumed,
        }
    }
}

/// A snapshot and the part of the log that is laid over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The second.
    pub at: UnixSeconds,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Which of the table's streams.
    pub generation: Generation,
    /// What that carries.
    pub view: StreamView,
    /// How it is known that the log is complete.
    pub grade: Grade,
    /// Up to which second it is, by that grade.
    pub mark: UnixSeconds,
    /// The part of the log.
    pub needs: Needs,
    /// How it is used.
    pub side: Side,
    /// What the result is, exactly, in words.
    pub bound: Vec<String>,
}

/// The snapshot that makes the second with the least of the log, on either side of it.
///
/// `candidates` may be any selection of the table's snapshots, `logs` are all its logs; for the latest second, all logs
/// are needed. `now` is when the wish was made.
///
/// # Errors
/// The reason why the nearest of the snapshots does not make it.
pub fn choose(
    wanted: Wanted,
    candidates: &[Candidate],
    logs: &[LogFacts],
    rules: Rules,
    now: UnixMillis,
) -> Result<Choice, Refusal> {
    let at = second(wanted, logs, rules)?;
    let refusal = |snapshot: Option<&Candidate>, forbidden| Refusal {
        at: Some(at),
        snapshot: snapshot.map(|it| it.snapshot_id.clone()),
        forbidden,
    };
    if at > UnixSeconds::of(now) {
        return Err(refusal(
            None,
            Forbidden::Future {
                at,
                now: UnixSeconds::of(now),
            },
        ));
    }
    let mut nearest: Vec<&Candidate> = candidates.iter().collect();
    nearest.sort_by_key(|candidate| {
        let newest_first = std::cmp::Reverse(candidate.snapshot_id.clone());
        (distance(at, candidate), newest_first)
    });
    let mut refused: Option<Refusal> = None;
    for candidate in nearest {
        match judge(at, candidate, logs, rules) {
            Ok(choice) => return Ok(choice),
            Err(forbidden) => {
                // A snapshot that would do at another second says more than one that would never do.
                let says_more = refused.as_ref().is_none_or(|known| {
                    known.forbidden.is_about_the_snapshot() && !forbidden.is_about_the_snapshot()
                });
                if says_more {
                    refused = Some(refusal(Some(candidate), forbidden));
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| refusal(None, Forbidden::NoSnapshot)))
}

/// The latest second is the furthest mark's.
fn second(wanted: Wanted, logs: &[LogFacts], rules: Rules) -> Result<UnixSeconds, Refusal> {
    let marks = logs.iter().filter_map(|log| mark_of(log, rules.grade));
    match wanted {
        Wanted::Second(at) => Ok(at),
        Wanted::Latest => marks.max().ok_or(Refusal {
            at: None,
            snapshot: None,
            forbidden: Forbidden::NoMark { grade: rules.grade },
        }),
    }
}

fn mark_of(log: &LogFacts, grade: Grade) -> Option<UnixSeconds> {
    log.mark.as_ref()?.mark.of(grade)
}

/// The seconds of the log between a snapshot and the wanted one.
fn distance(at: UnixSeconds, candidate: &Candidate) -> u64 {
    let Ok(handoff) = &candidate.handoff else {
        return u64::MAX;
    };
    let begun = UnixSeconds::of(handoff.captured_at);
    let ended = UnixSeconds::of(candidate.scan_ended);
    if at >= ended {
        at.0 - begun.0.min(at.0)
    } else {
        ended.0 - at.0.min(begun.0)
    }
}

/// Whether one snapshot makes the second, and how.
fn judge(
    at: UnixSeconds,
    candidate: &Candidate,
    logs: &[LogFacts],
    rules: Rules,
) -> Result<Choice, Forbidden> {
    let handoff = candidate.handoff.as_ref().map_err(Clone::clone)?;
    if handoff.expired {
        return Err(Forbidden::Expired);
    }
    let log = log_of(handoff, logs)?;
    let (side, needs) = needs(at, candidate, handoff, rules);
    check_view(at, handoff.view, side, candidate, rules)?;
    check_reach_back(at, log, handoff, rules)?;
    log.check_losses(needs, rules.stamp_margin_s)?;
    check_coverage(handoff, log, needs)?;
    let (grade, mark) = check_mark(log, needs, rules)?;
    Ok(Choice {
        at,
        snapshot_id: candidate.snapshot_id.clone(),
        generation: log.stream.generation,
        view: handoff.view,
        grade,
        mark,
        needs,
        side,
        bound: bound(at, candidate, log, grade, mark, rules),
    })
}

/// The log of the handoff's stream.
fn log_of<'a>(handoff: &Handoff, logs: &'a [LogFacts]) -> Result<&'a LogFacts, Forbidden> {
    let log = logs
        .iter()
        .find(|log| log.stream.stream_arn == handoff.stream_arn)
        .ok_or_else(|| Forbidden::NoLog {
            label: handoff.stream_label.clone(),
        })?;
    match (&handoff.table_id, &log.stream.table_id) {
        (Some(snapshot), Some(of_log)) if snapshot != of_log => Err(Forbidden::OtherTable {
            snapshot: snapshot.clone(),
            log: of_log.clone(),
        }),
        _ => Ok(log),
    }
}

/// How the log is used, and which part of it.
fn needs(at: UnixSeconds, candidate: &Candidate, handoff: &Handoff, rules: Rules) -> (Side, Needs) {
    let scan_ended = UnixSeconds::of(candidate.scan_ended);
    let settled = UnixSeconds(scan_ended.0 + rules.stamp_margin_s);
    // What is stamped before this was done before the scan began, and the scan has seen it.
    let staleness = if candidate.consistent {
        0
    } else {
        EVENTUAL_MARGIN_MS / 1000
    };
    let captured = UnixSeconds::of(handoff.captured_at);
    let unseen = captured.0.saturating_sub(rules.stamp_margin_s + staleness);
    let side = if at >= settled {
        Side::Forward
    } else {
        Side::Undo
    };
    let needs = Needs {
        from: UnixSeconds(unseen.min(at.0 + 1)),
        until: at.max(settled),
    };
    (side, needs)
}

fn check_view(
    at: UnixSeconds,
    view: StreamView,
    side: Side,
    candidate: &Candidate,
    rules: Rules,
) -> Result<(), Forbidden> {
    match (view, side) {
        (StreamView::NewAndOldImages, _) | (StreamView::NewImage, Side::Forward) => Ok(()),
        (StreamView::NewImage, Side::Undo) => {
            let scan_ended = UnixSeconds::of(candidate.scan_ended);
            let first = UnixSeconds(scan_ended.0 + rules.stamp_margin_s);
            debug_assert!(at < first, "a later second is reached forward");
            Err(Forbidden::NeedsOldImages { scan_ended, first })
        }
        _ => Err(Forbidden::View { view }),
    }
}

/// What was done after `at` and before the handoff can be undone only if the log has it. From the handoff on, it has.
fn check_reach_back(
    at: UnixSeconds,
    log: &LogFacts,
    handoff: &Handoff,
    rules: Rules,
) -> Result<(), Forbidden> {
    let captured = UnixSeconds::of(handoff.captured_at);
    let log_from = UnixSeconds(log.stream.log_from.0.div_ceil(1000));
    if at.0 < captured.0 + rules.stamp_margin_s && at < log_from {
        return Err(Forbidden::BeforeLog { log_from });
    }
    Ok(())
}

/// The best grade by which the log is complete so far.
fn check_mark(
    log: &LogFacts,
    needs: Needs,
    rules: Rules,
) -> Result<(Grade, UnixSeconds), Forbidden> {
    let grades = [Grade::Proven, Grade::Rolled, Grade::Assumed];
    let marks: Vec<(Grade, UnixSeconds)> = grades
        .into_iter()
        .filter(|grade| *grade <= rules.grade)
        .filter_map(|grade| Some((grade, mark_of(log, grade)?)))
        .collect();
    if let Some(reached) = marks.iter().find(|(_, mark)| *mark >= needs.until) {
        return Ok(*reached);
    }
    let furthest = marks
        .into_iter()
        .max_by_key(|(grade, mark)| (*mark, *grade));
    Err(
        furthest.map_or(Forbidden::NoMark { grade: rules.grade }, |(grade, mark)| {
            Forbidden::MarkTooLow {
                mark,
                grade,
                needed: needs.until,
            }
        }),
    )
}

/// What the result is, exactly.
fn bound(
    at: UnixSeconds,
    candidate: &Candidate,
    log: &LogFacts,
    grade: Grade,
    mark: UnixSeconds,
    rules: Rules,
) -> Vec<String> {
    let publication_ms = log.mark.as_ref().map_or(0, |mark| mark.publication_ms);
    let (at, mark) = (at.to_rfc3339(), mark.to_rfc3339());
    let mut bound = vec![
        format!(
            "each item is what it was after all changes that DynamoDB stamped up to {at}, this second included whole, and \
             before any later one: exact per item, by DynamoDB's own stamps, which have whole seconds"
        ),
        "between items the cut is as sharp as these stamps: a transaction over several items may be there in part"
            .to_owned(),
        match grade {
            Grade::Proven => {
                format!("the log is complete up to {mark}, proven by a later record of every shard")
            }
            Grade::Rolled => format!(
                "the log is complete up to {mark}, if a shard's records are stamped no more than 60 s before the shard \
                 was made (grade rolled)"
            ),
            Grade::Assumed => format!(
                "the log is complete up to {mark}, if DynamoDB publishes each change within {} s (grade assumed)",
                publication_ms.div_ceil(1000)
            ),
        },
        format!(
            "where the log meets the scan, DynamoDB's stamps are taken to be within {} s of the true time",
            rules.stamp_margin_s
        ),
    ];
    if !candidate.consistent {
        bound.push(format!(
            "the snapshot was read eventually consistently: exact if no replica of DynamoDB's was more than {} minutes \
             behind",
            EVENTUAL_MARGIN_MS / 60_000
        ));
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::HandoffOf;
    use crate::incident::{INCIDENT_VERSION, Incident, IncidentKind};
    use crate::live_control::PUBLISHED_MARK_VERSION;
    use crate::log_facts::{Ending, LOG_FACTS_VERSION, Origin, ShardEnd, ShardFacts, StreamFacts};
    use crate::mark::Mark;
    use crate::sequence_number::ordinal;
    use crate::shard::{Shard, ShardId, StreamListing, StreamStatus};

    const BEGIN: u64 = 1_768_300_000;

    fn at(second: u64) -> UnixSeconds {
        UnixSeconds(BEGIN + second)
    }

    fn ms(second: u64) -> UnixMillis {
        UnixMillis((BEGIN + second) * 1000)
    }

    fn id(second: u64, name: &str) -> ShardId {
        format!("shardId-{:020}-{name}", ms(second).0)
            .parse()
            .unwrap()
    }

    fn shard(id: &ShardId, parent: Option<&ShardId>, open: bool) -> Shard {
        Shard {
            id: id.clone(),
            parent: parent.cloned(),
            start: "100".parse().unwrap(),
            end: (!open).then(|| "900".parse().unwrap()),
        }
    }

    /// A snapshot of a stream with these shards, captured at `captured` and done ten seconds later.
    fn candidate(captured: u64, shards: Vec<Shard>) -> Candidate {
        let of = HandoffOf {
            table_arn: "arn:table".into(),
            table_id: Some("uuid".into()),
            generation: Generation(1),
            consistent: true,
        };
        let listing = StreamListing {
            stream_arn: "arn:stream".into(),
            label: "label".into(),
            view: StreamView::NewAndOldImages,
            status: StreamStatus::Enabled,
            shards,
        };
        Candidate {
            snapshot_id: SnapshotId::new(ms(captured), 7),
            handoff: Ok(Handoff::of(of, &listing, Vec::new(), ms(captured))),
            consistent: true,
            scan_ended: ms(captured + 10),
        }
    }

    fn log_shard(shard: &Shard, seed: Option<u64>) -> LogShard {
        LogShard {
            facts: ShardFacts {
                version: LOG_FACTS_VERSION,
                ordinal: ordinal(&shard.id, None, 0),
                shard: shard.clone(),
                event_time: seed.map(at),
                origin: Origin::Listed,
                registered_at: ms(0),
            },
            end: None,
        }
    }

    fn ended(mut shard: LogShard, event_time: Option<u64>, children: &[&ShardId]) -> LogShard {
        shard.end = Some(ShardEnd {
            version: LOG_FACTS_VERSION,
            shard: shard.facts.shard.id.clone(),
            last: None,
            event_time: event_time.map(at),
            children: children.iter().map(|child| (*child).clone()).collect(),
            ending: Ending::Read,
        });
        shard
    }

    fn log(shards: Vec<LogShard>) -> LogFacts {
        let mark = Mark {
            proven: Some(at(5_000)),
            rolled: Some(at(6_000)),
            assumed: Some(at(7_000)),
        };
        LogFacts {
            stream: StreamFacts {
                version: LOG_FACTS_VERSION,
                generation: Generation(1),
                stream_arn: "arn:stream".into(),
                stream_label: "label".into(),
                view: StreamView::NewAndOldImages,
                table_arn: "arn:table".into(),
                table_id: Some("uuid".into()),
                met_at: ms(0),
                log_from: ms(100),
            },
            mark: Some(PublishedMark {
                version: PUBLISHED_MARK_VERSION,
                stream_arn: "arn:stream".into(),
                stream_label: "label".into(),
                generation: Generation(1),
                mark,
                publication_ms: 120_000,
                computed_at: ms(8_000),
                bounded_by: None,
                open_shards: 1,
                held_back: false,
            }),
            incidents: Vec::new(),
            shards: shards
                .into_iter()
                .map(|shard| (shard.facts.shard.id.clone(), shard))
                .collect(),
        }
    }

    /// One open shard, and a snapshot of 1000 to 1010.
    fn simple() -> (Candidate, LogFacts) {
        let root = shard(&id(0, "a"), None, true);
        (
            candidate(1_000, vec![root.clone()]),
            log(vec![log_shard(&root, None)]),
        )
    }

    fn decide(second: u64, candidate: &Candidate, log: &LogFacts) -> Result<Choice, Forbidden> {
        let chosen = choose(
            Wanted::Second(at(second)),
            std::slice::from_ref(candidate),
            std::slice::from_ref(log),
            Rules::default(),
            ms(90_000),
        );
        chosen.map_err(|refusal| refusal.forbidden)
    }

    fn gap(shard: Option<ShardId>, from: u64, until: u64) -> Incident {
        Incident {
            version: INCIDENT_VERSION,
            id: format!("gap-{from}"),
            kind: IncidentKind::Gap,
            stream_label: "label".into(),
            shard,
            from: at(from),
            until: at(until),
            seen_at: ms(until),
            detail: "in a test".into(),
        }
    }

    #[test]
    fn the_needed_part_of_the_log_depends_on_the_side() {
        let (candidate, log) = simple();
        for (second, side, from, until) in [
            (100, Side::Undo, 101, 1_070),
            (938, Side::Undo, 939, 1_070),
            (939, Side::Undo, 940, 1_070),
            (940, Side::Undo, 940, 1_070),
            (1_005, Side::Undo, 940, 1_070),
            (1_069, Side::Undo, 940, 1_070),
            (1_070, Side::Forward, 940, 1_070),
            (4_000, Side::Forward, 940, 4_000),
        ] {
            let choice = decide(second, &candidate, &log).unwrap();
            assert_eq!(choice.side, side, "{second}");
            assert_eq!(
                (choice.needs.from, choice.needs.until),
                (at(from), at(until)),
                "{second}"
            );
        }
    }

    #[test]
    fn the_best_grade_that_reaches_is_used() {
        let (candidate, log) = simple();
        let grade = |second| decide(second, &candidate, &log).map(|it| (it.grade, it.mark));
        assert_eq!(grade(5_000), Ok((Grade::Proven, at(5_000))));
        assert_eq!(grade(5_001), Ok((Grade::Rolled, at(6_000))));
        assert_eq!(grade(7_000), Ok((Grade::Assumed, at(7_000))));
        let too_low = Forbidden::MarkTooLow {
            mark: at(7_000),
            grade: Grade::Assumed,
            needed: at(7_001),
        };
        assert_eq!(grade(7_001), Err(too_low));
    }

    #[test]
    fn a_refusal_says_how_far_the_log_is_complete_and_what_to_do() {
        let (candidate, mut log) = simple();
        let words = decide(7_001, &candidate, &log).unwrap_err().to_string();
        let (mark, needed) = (at(7_000), at(7_001));
        let expected = format!(
            "the log is complete up to {mark} (assumed), and this needs it up to {needed}; wait, run `highwater audit`, or \
         restore to an earlier second"
        );
        assert_eq!(words, expected);
        log.mark = None;
        assert!(matches!(
            decide(4_000, &candidate, &log),
            Err(Forbidden::NoMark { .. })
        ));
    }

    #[test]
    fn a_loss_in_the_interval_forbids_and_one_outside_does_not() {
        let (candidate, mut log) = simple();
        let mut is_allowed = |second, from, until| {
            log.incidents = vec![gap(None, from, until)];
            decide(second, &candidate, &log).is_ok()
        };
        assert!(!is_allowed(4_000, 2_000, 2_001));
        assert!(is_allowed(1_999, 2_000, 2_001), "before the loss");
        assert!(!is_allowed(2_000, 2_000, 2_001));
        assert!(
            is_allowed(4_000, 10, 879),
            "healed by the scan, two margins before it"
        );
        assert!(!is_allowed(4_000, 10, 880));
        assert!(
            !is_allowed(500, 700, 701),
            "undoing needs everything in between"
        );
        assert!(is_allowed(500, 1_071, 1_100), "but nothing behind the scan");
        assert!(!is_allowed(500, 1_070, 1_100));
    }

    #[test]
    fn shards_from_before_and_from_behind_are_not_read() {
        let (old, young, late) = (id(0, "a"), id(500, "b"), id(5_000, "c"));
        let [old_shard, young_shard, late_shard] = [
            shard(&old, None, false),
            shard(&young, Some(&old), true),
            shard(&late, Some(&young), true),
        ];
        let log = log(vec![
            ended(log_shard(&old_shard, None), Some(499), &[&young]),
            ended(log_shard(&young_shard, Some(499)), Some(4_990), &[&late]),
            log_shard(&late_shard, Some(4_990)),
        ]);
        let read = |from, until| -> Vec<ShardId> {
            let needs = Needs {
                from: at(from),
                until: at(until),
            };
            let shards = log.shards_between(needs);
            shards.iter().map(|it| it.facts.shard.id.clone()).collect()
        };
        assert_eq!(read(940, 4_000), std::slice::from_ref(&young));
        assert_eq!(read(499, 4_989), [old.clone(), young.clone()]);
        assert_eq!(read(500, 4_990), [young.clone(), late.clone()]);
        assert_eq!(read(0, 9_999), [old, young, late]);
    }

    #[test]
    fn the_log_must_reach_back_to_the_handoff() {
        let (old, young) = (id(0, "a"), id(500, "b"));
        let listed = vec![shard(&old, None, false), shard(&young, Some(&old), true)];
        let candidate = candidate(1_000, listed.clone());
        let reach = |shards: Vec<LogShard>| decide(4_000, &candidate, &log(shards)).map(|_| ());
        let refused = Err(Forbidden::DoesNotReachBack {
            shard: young.clone(),
            captured_at: ms(1_000).to_rfc3339(),
        });
        let (old_log, young_log) = (log_shard(&listed[0], None), log_shard(&listed[1], None));
        assert_eq!(reach(vec![young_log.clone()]), Ok(()));
        assert_eq!(
            reach(vec![old_log.clone()]),
            Ok(()),
            "it is still reading the parent"
        );
        assert_eq!(reach(Vec::new()), refused);
        let mut late = young_log.clone();
        late.facts.shard.start = "101".parse().unwrap();
        assert_eq!(
            reach(vec![late]),
            refused,
            "records before its start are not there"
        );
        // The parent is read to its end, and its child is not known.
        let closed = ended(old_log, Some(600), &[&young]);
        assert_eq!(reach(vec![closed.clone()]), refused);
        assert_eq!(reach(vec![closed, young_log]), Ok(()));
    }

    #[test]
    fn a_child_that_is_not_known_is_a_hole_unless_it_is_behind() {
        let (candidate, _) = simple();
        let (root, child) = (shard(&id(0, "a"), None, true), id(2_000, "b"));
        let hole = Err(Forbidden::ChildUnknown {
            parent: root.id.clone(),
            child: child.clone(),
        });
        let decided = |event_time| {
            let log = log(vec![ended(log_shard(&root, None), event_time, &[&child])]);
            decide(3_000, &candidate, &log).map(|_| ())
        };
        assert_eq!(decided(Some(2_000)), hole);
        assert_eq!(decided(None), hole);
        assert_eq!(decided(Some(3_000)), hole);
        assert_eq!(decided(Some(3_001)), Ok(()));
    }

    #[test]
    fn a_lost_rest_needs_an_incident() {
        let (candidate, _) = simple();
        let root = shard(&id(0, "a"), None, true);
        let mut lost = ended(log_shard(&root, None), Some(2_000), &[]);
        lost.end.as_mut().unwrap().ending = Ending::Lost;
        let mut log = log(vec![lost]);
        let untold = Err(Forbidden::UntoldLoss {
            shard: root.id.clone(),
        });
        let decided = |log: &LogFacts, second| decide(second, &candidate, log).map(|_| ());
        assert_eq!(decided(&log, 3_000), untold);
        log.incidents = vec![gap(None, 9_000, 9_001)];
        assert_eq!(decided(&log, 3_000), untold, "it is about something else");
        log.incidents = vec![gap(Some(root.id.clone()), 2_000, 9_001)];
        assert!(matches!(decided(&log, 3_000), Err(Forbidden::Lost { .. })));
        assert_eq!(decided(&log, 1_999), Ok(()), "before the loss all is there");
    }

    #[test]
    fn an_expired_handoff_and_another_tables_log_will_not_do() {
        let (mut candidate, mut log) = simple();
        log.stream.table_id = Some("another".into());
        assert!(matches!(
            decide(4_000, &candidate, &log),
            Err(Forbidden::OtherTable { .. })
        ));
        log.stream.stream_arn = "arn:stream:2".into();
        assert!(matches!(
            decide(4_000, &candidate, &log),
            Err(Forbidden::NoLog { .. })
        ));
        candidate.handoff.as_mut().unwrap().expired = true;
        assert_eq!(decide(4_000, &candidate, &log), Err(Forbidden::Expired));
    }

    #[test]
    fn views_that_carry_too_little_are_refused() {
        let (mut candidate, log) = simple();
        let mut with = |view, second| {
            candidate.handoff.as_mut().unwrap().view = view;
            decide(second, &candidate, &log).map(|_| ())
        };
        for view in [StreamView::KeysOnly, StreamView::OldImage] {
            assert_eq!(with(view, 4_000), Err(Forbidden::View { view }));
        }
        assert_eq!(with(StreamView::NewImage, 1_070), Ok(()));
        let needs_old = Forbidden::NeedsOldImages {
            scan_ended: at(1_010),
            first: at(1_070),
        };
        assert_eq!(with(StreamView::NewImage, 1_069), Err(needs_old));
    }

    #[test]
    fn the_bound_names_the_grade_and_what_it_rests_on() {
        let (mut candidate, log) = simple();
        let bound = |candidate: &Candidate, second| {
            decide(second, candidate, &log).unwrap().bound.join("\n")
        };
        assert!(bound(&candidate, 4_000).contains("proven by a later record of every shard"));
        assert!(bound(&candidate, 5_500).contains("no more than 60 s before the shard"));
        assert!(bound(&candidate, 6_500).contains("publishes each change within 120 s"));
        assert!(bound(&candidate, 4_000).contains("within 60 s of the true time"));
        assert!(!bound(&candidate, 4_000).contains("eventually"));
        candidate.consistent = false;
        let words = bound(&candidate, 4_000);
        assert!(words.contains("no replica of DynamoDB's was more than 15 minutes behind"));
    }

    #[test]
    fn of_two_snapshots_that_will_do_the_nearer_one_is_taken() {
        let root = shard(&id(0, "a"), None, true);
        let candidates = [1_000, 3_000].map(|captured| candidate(captured, vec![root.clone()]));
        let log = log(vec![log_shard(&root, None)]);
        let chosen = |second| {
            let wanted = Wanted::Second(at(second));
            let logs = std::slice::from_ref(&log);
            let choice = choose(wanted, &candidates, logs, Rules::default(), ms(90_000)).unwrap();
            candidates
                .iter()
                .position(|it| it.snapshot_id == choice.snapshot_id)
        };
        for (second, nearer) in [
            (200, 0),
            (1_500, 0),
            (2_000, 0),
            (2_100, 1),
            (3_005, 1),
            (4_000, 1),
        ] {
            assert_eq!(chosen(second), Some(nearer), "{second}");
        }
        let latest = choose(
            Wanted::Latest,
            &candidates,
            std::slice::from_ref(&log),
            Rules::default(),
            ms(90_000),
        );
        assert_eq!(latest.unwrap().at, at(7_000));
    }
}

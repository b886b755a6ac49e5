//! The invariants of the log, the shards and the mark.

use std::collections::{BTreeMap, BTreeSet};

use highwater_domain::incident::IncidentKind;
use highwater_domain::log_facts::Ending;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::{ShardId, StreamView};
use highwater_domain::stream_record::{Change, StreamRecord};
use highwater_lease::{LeaseId, Place, Position, Row, State};
use highwater_testkit::simulation::SimRecord;

use super::bucket_reader::StreamLog;
use super::evidence::{Evidence, key_json};

type Checked = Result<(), String>;

/// Whether a record of the log tells what is true, as far as the stream's view shows it.
fn is_true(record: &StreamRecord, truth: &SimRecord, view: StreamView) -> bool {
    let shown = match view {
        StreamView::NewAndOldImages => truth.old_image.as_ref(),
        _ => None,
    };
    let change = match (&truth.old_image, &truth.new_image) {
        (None, _) => Change::Insert,
        (_, None) => Change::Remove,
        _ => Change::Modify,
    };
    record.keys == key_json(&truth.key)
        && record.change == change
        && record.created_at == truth.stamp.0
        && record.new_image == truth.new_image
        && record.old_image.as_ref() == shown
}

/// I3: the log holds nothing but true records, each in its own shard's folder.
pub fn i3_the_log_holds_facts_only(evidence: &Evidence) -> Checked {
    let view = evidence.plan.view;
    for log in &evidence.logs {
        let label = &log.facts.stream_label;
        for (id, shard) in &log.shards {
            for (number, copies) in &shard.records {
                let place = (label.clone(), id.clone(), number.clone());
                let truth = evidence.records.get(&place);
                let truth = truth.ok_or_else(|| format!("I3: {id} {number} was never written"))?;
                if let Some((key, _)) = copies
                    .iter()
                    .find(|(_, record)| !is_true(record, truth, view))
                {
                    return Err(format!("I3: {number} in {key} is not what was written"));
                }
            }
        }
        for (key, record) in &log.unplaced {
            let mut of_stream = evidence.records_of(log);
            if !of_stream.any(|truth| {
                truth.sequence_number == record.sequence_number && is_true(record, truth, view)
            }) {
                let number = &record.sequence_number;
                return Err(format!("I3: {number} in {key} was never written"));
            }
        }
    }
    Ok(())
}

/// I4: one shard and sequence number, one record, under whatever names it lies.
pub fn i4_copies_are_equal(evidence: &Evidence) -> Checked {
    for log in &evidence.logs {
        for (id, shard) in &log.shards {
            for (number, copies) in &shard.records {
                let (first, rest) = copies.split_first().unwrap();
                let differs = |record: &StreamRecord| {
                    (
                        record.event_id(),
                        &record.keys,
                        &record.new_image,
                        &record.old_image,
                    ) != (
                        first.1.event_id(),
                        &first.1.keys,
                        &first.1.new_image,
                        &first.1.old_image,
                    )
                };
                if let Some((key, _)) = rest.iter().find(|(_, record)| differs(record)) {
                    return Err(format!(
                        "I4: {id} {number} differs in {} and {key}",
                        first.0
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The leases of a stream's log.
fn leases(evidence: &Evidence, log: &StreamLog) -> Vec<Row> {
    let named = |group: &&String| group.contains(&log.facts.stream_arn);
    let groups = evidence.world.rows.groups();
    let group = groups.iter().find(named);
    group.map_or_else(Vec::new, |group| evidence.world.rows.rows(group))
}

/// Whether a loss on record covers a second.
fn is_lost(log: &StreamLog, at: UnixSeconds) -> bool {
    !log.losses(at, at).is_empty()
}

/// Whether the log must hold a record: it is younger than the log's beginning.
fn is_due(log: &StreamLog, record: &SimRecord) -> bool {
    record.event_time >= UnixSeconds::of(log.facts.log_from)
}

/// I5, I6, I7, I17 as far as rows show them: every write was checked when it was made.
pub fn i5_i6_i7_i17_rows_only_move_forward(evidence: &Evidence) -> Checked {
    match evidence.world.rows.violations().into_iter().next() {
        Some(violation) => Err(violation),
        None => Ok(()),
    }
}

/// I5: every record up to a shard's position is in the log.
pub fn i5_what_is_behind_a_position_is_logged(evidence: &Evidence) -> Checked {
    for log in &evidence.logs {
        for row in leases(evidence, log) {
            let (until, start) = match &row.lease.position {
                Position::Open(Place {
                    sequence_number,
                    after: true,
                }) => (sequence_number.clone(), row.id.as_str()),
                _ => continue,
            };
            let behind = evidence
                .records_of(log)
                .filter(|it| it.shard.as_str() == start && it.sequence_number <= until);
            for record in behind {
                if evidence.logged_at(log, record).is_none() && !is_lost(log, record.event_time) {
                    let number = &record.sequence_number;
                    return Err(format!(
                        "I5: {start} is read up to {until}, and {number} is not logged"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// I6: a shard that was read to its end has all its records in the log, and its children registered.
pub fn i6_an_end_is_an_end(evidence: &Evidence) -> Checked {
    for log in &evidence.logs {
        let rows = leases(evidence, log);
        let ended: BTreeSet<&LeaseId> = rows
            .iter()
            .filter(|row| row.lease.state == State::End)
            .map(|row| &row.id)
            .collect();
        let registered: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        for (id, shard) in &log.shards {
            let Some(end) = &shard.end else {
                let is_ended = ended.iter().any(|it| it.as_str() == id.as_str());
                if is_ended {
                    return Err(format!("I6: the row of {id} has ended without an end.json"));
                }
                continue;
            };
            if !evidence.world.table.is_closed(id) {
                return Err(format!("I6: {id} has an end.json and is open"));
            }
            let mut of_shard = evidence.records_of(log).filter(|it| it.shard == *id);
            let missing = of_shard.find(|record| {
                evidence.logged_at(log, record).is_none() && !is_lost(log, record.event_time)
            });
            if let Some(record) = missing {
                let number = &record.sequence_number;
                return Err(format!("I6: {id} has ended and {number} is not logged"));
            }
            let told: BTreeSet<&ShardId> = end.children.iter().collect();
            let children = evidence.world.table.children_of(id);
            let all: BTreeSet<&ShardId> = children.iter().collect();
            if end.ending == Ending::Read && told != all {
                return Err(format!(
                    "I6: the children of {id} are {all:?}, not {told:?}"
                ));
            }
            let is_row_ended = ended.iter().any(|it| it.as_str() == id.as_str());
            let lost = told
                .iter()
                .find(|child| !registered.contains(child.as_str()));
            if let Some(child) = lost.filter(|_| is_row_ended) {
                return Err(format!("I6: {child} of {id} is no row"));
            }
        }
    }
    Ok(())
}

/// I8: when a mark was published, everything up to it was in the log.
pub fn i8_nothing_below_a_mark_is_missing(evidence: &Evidence) -> Checked {
    let mut logged: BTreeMap<(&str, &ShardId, &SequenceNumber), u64> = BTreeMap::new();
    for log in &evidence.logs {
        for record in evidence.records_of(log) {
            if let Some(at) = evidence.logged_at(log, record) {
                let label = log.facts.stream_label.as_str();
                logged.insert((label, &record.shard, &record.sequence_number), at.0);
            }
        }
    }
    for (published_at, _, mark) in evidence.world.marks.history() {
        let Some(log) = evidence.log(&mark.stream_label) else {
            return Err(format!(
                "I8: a mark of {}, which is no log",
                mark.stream_label
            ));
        };
        let late_is_told = log.incidents.iter().any(|(_, incident)| {
            matches!(
                incident.kind,
                IncidentKind::LateRecord | IncidentKind::LateChild | IncidentKind::LateRoot
            )
        });
        for grade in [Grade::Proven, Grade::Rolled, Grade::Assumed] {
            let Some(bound) = mark.mark.of(grade) else {
                continue;
            };
            // An empty page is no tip: that grade may be wrong if it says so afterwards.
            let is_doubtful = evidence.plan.nasty.empty_percent > 0;
            if grade == Grade::Assumed && is_doubtful && late_is_told {
                continue;
            }
            for record in evidence.records_of(log) {
                let place = (
                    mark.stream_label.as_str(),
                    &record.shard,
                    &record.sequence_number,
                );
                let was_there = logged.get(&place).is_some_and(|at| *at <= published_at.0);
                let matters = record.event_time <= bound && is_due(log, record);
                // What is committed only afterwards cannot be missing; its stamp may lie before all the same.
                let was_written = record.committed_at <= published_at;
                if matters && was_written && !was_there && !is_lost(log, record.event_time) {
                    let (shard, number) = (&record.shard, &record.sequence_number);
                    let at = record.event_time.0;
                    return Err(format!(
                        "I8: the mark ({grade:?}) was {} at {} and {shard} {number} of {at} was not in the log",
                        bound.0, published_at.0
                    ));
                }
            }
        }
    }
    Ok(())
}

/// I9: a mark does not go back, unless an incident says why.
pub fn i9_marks_do_not_go_back(evidence: &Evidence) -> Checked {
    let history = evidence.world.marks.history();
    for (index, (at, log, mark)) in history.iter().enumerate() {
        let next = history[index + 1..].iter().find(|(_, of, _)| of == log);
        let Some((next_at, _, next)) = next else {
            continue;
        };
        let known = evidence.log(&mark.stream_label);
        let incidents = known.into_iter().flat_map(|log| &log.incidents);
        let mut new = incidents.filter(|(key, _)| {
            let created = evidence.world.bucket.created_at(key);
            created <= *next_at && created.0 + 120_000 >= at.0
        });
        let goes_back = [Grade::Proven, Grade::Rolled, Grade::Assumed]
            .into_iter()
            .find(|grade| next.mark.of(*grade) < mark.mark.of(*grade));
        if let Some(grade) = goes_back
            && new.next().is_none()
        {
            let (from, to) = (mark.mark.of(grade), next.mark.of(grade));
            return Err(format!(
                "I9: the mark ({grade:?}) went back from {from:?} to {to:?}"
            ));
        }
    }
    Ok(())
}

/// I15: whatever is missing in the end is covered by an incident.
pub fn i15_no_gap_without_an_incident(evidence: &Evidence) -> Checked {
    for log in &evidence.logs {
        for record in evidence.records_of(log).filter(|it| is_due(log, it)) {
            if evidence.logged_at(log, record).is_none() && !is_lost(log, record.event_time) {
                let (shard, number, at) =
                    (&record.shard, &record.sequence_number, record.event_time.0);
                return Err(format!(
                    "I15: {shard} {number} of {at} is lost, and nothing says so"
                ));
            }
        }
    }
    // Changes that no stream saw, between two of them.
    let Some(first) = evidence.logs.first() else {
        return Ok(());
    };
    let begins = UnixSeconds::of(first.facts.log_from);
    for versions in evidence.histories.values() {
        for version in versions.iter().filter(|it| it.record.is_none()) {
            let at = UnixSeconds::of(version.at);
            let is_between = evidence
                .logs
                .last()
                .is_some_and(|last| at < UnixSeconds::of(last.facts.met_at));
            let told = evidence.logs.iter().any(|log| is_lost(log, at));
            if at >= begins && is_between && !told {
                return Err(format!(
                    "I15: a change at {} has no record, and nothing says so",
                    at.0
                ));
            }
        }
    }
    Ok(())
}

/// I16: a record that is left out, and whose key has a later one, breaks the chain of images.
///
/// Without old images there is no chain.
pub fn i16_a_lost_record_breaks_the_chain(evidence: &Evidence) -> Checked {
    if evidence.plan.view != StreamView::NewAndOldImages {
        return Ok(());
    }
    for log in &evidence.logs {
        let lossless = log.incidents.iter().all(|(_, it)| !it.kind.loses_records());
        for changes in log.changes(evidence.plan.mutation).values() {
            let mut ordered = changes.clone();
            ordered.sort_by(|a, b| a.token.cmp(&b.token));
            let links = |chain: &[&highwater_domain::key_history::ItemChange]| {
                chain
                    .windows(2)
                    .all(|pair| pair[0].new_image == pair[1].old_image)
            };
            let whole: Vec<_> = ordered.iter().collect();
            if lossless && !links(&whole) {
                let token = &whole[0].token;
                return Err(format!(
                    "I16: the chain of images breaks at or behind {token}"
                ));
            }
            for lost in 1..whole.len().saturating_sub(1) {
                let (before, after) = (whole[lost - 1], whole[lost + 1]);
                // A, B, A: a pair of changes that cancel each other leaves no trace.
                let is_blind = before.new_image == after.old_image;
                let rest: Vec<_> = whole
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index != lost)
                    .map(|(_, change)| *change)
                    .collect();
                if lossless && !is_blind && links(&rest) {
                    return Err(format!(
                        "I16: without {} the chain is whole",
                        whole[lost].token
                    ));
                }
            }
        }
    }
    Ok(())
}

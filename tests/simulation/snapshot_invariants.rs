//! The invariants of snapshots and restores, and that everything comes to an end.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_domain::digest::sha256_hex;
use highwater_domain::key::Key;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::shard::StreamView;
use highwater_domain::snapshot::{PartRow, Status};
use highwater_testkit::simulation::Version;

use super::bucket_reader::{STAMP_MARGIN, Sealed, StreamLog};
use super::evidence::{Evidence, Snapshot};

type Checked = Result<(), String>;

/// I1: parts chain without holes; a sealed snapshot has what was there all the time, and nothing that never was.
pub fn i1_parts_cover_what_was_scanned(evidence: &Evidence) -> Checked {
    for snapshot in &evidence.snapshots {
        let id = &snapshot.record.id;
        let mut next: BTreeMap<u32, (u32, Option<Key>)> = BTreeMap::new();
        for part in &snapshot.parts {
            let PartRow { id: place, .. } = part;
            let (number, _) = next.entry(place.segment).or_default();
            if place.number != *number {
                return Err(format!(
                    "I1: {id} has no part {number} of segment {}",
                    place.segment
                ));
            }
            next.insert(place.segment, (place.number + 1, part.last_key.clone()));
        }
        if snapshot.record.status == Status::Completed {
            check_scanned(evidence, snapshot)?;
        }
    }
    Ok(())
}

fn check_scanned(evidence: &Evidence, snapshot: &Snapshot) -> Checked {
    let id = &snapshot.record.id;
    // The capture is before the first page, and the seal behind the last one; a worker's clock is a little off.
    let from = snapshot.record.started_at.0.saturating_sub(5_000);
    let until = snapshot.record.ended_at.unwrap().0 + 5_000;
    let mut scanned: BTreeMap<&Bytes, &Bytes> = BTreeMap::new();
    for (key, item) in &snapshot.items {
        if scanned.insert(key, item).is_some() {
            return Err(format!("I1: {id} holds {key:?} twice"));
        }
    }
    for (key, versions) in &evidence.histories {
        let states = states_between(versions, from, until);
        let found = scanned.remove(key).cloned();
        if !states.contains(&found) {
            return Err(format!(
                "I1: {id} holds {found:?} for {key:?}, which was {states:?} meanwhile"
            ));
        }
    }
    match scanned.into_keys().next() {
        Some(key) => Err(format!("I1: {id} holds {key:?}, which never was")),
        None => Ok(()),
    }
}

/// What an item was at some moment of an interval.
fn states_between(versions: &[Version], from: u64, until: u64) -> Vec<Option<Bytes>> {
    let before = versions.iter().rev().find(|it| it.at.0 < from);
    let mut states = vec![before.and_then(|it| it.item.clone())];
    let within = versions
        .iter()
        .filter(|it| (from..=until).contains(&it.at.0));
    states.extend(within.map(|it| it.item.clone()));
    states
}

/// I2: a committed object is what its row says.
pub fn i2_objects_are_what_their_rows_say(evidence: &Evidence) -> Checked {
    for snapshot in &evidence.snapshots {
        for (part, body) in snapshot.parts.iter().zip(&snapshot.bodies) {
            let key = &part.object;
            let body = body
                .as_ref()
                .ok_or_else(|| format!("I2: {key} is not there"))?;
            if sha256_hex(body) != part.sha256 {
                return Err(format!("I2: {key} is not what its row says"));
            }
        }
    }
    Ok(())
}

/// Every base that restores can begin with, with its log.
pub fn bases(evidence: &Evidence) -> Vec<(Sealed, &StreamLog)> {
    let snapshots = evidence.snapshots.iter();
    let sealed = snapshots.filter_map(Snapshot::sealed);
    sealed
        .filter_map(|sealed| {
            let log = evidence.log(&sealed.handoff.stream_label)?;
            Some((sealed, log))
        })
        .collect()
}

/// The last published mark of a log, the best of its grades.
fn mark_of(evidence: &Evidence, log: &StreamLog) -> Option<UnixSeconds> {
    let history = evidence.world.marks.history();
    let of_log = history
        .iter()
        .rev()
        .find(|(_, _, mark)| mark.stream_label == log.facts.stream_label);
    of_log.and_then(|(_, _, mark)| mark.mark.of(Grade::Assumed))
}

/// The seconds to which a base promises a restore, out of some that are worth a look.
pub fn promised(evidence: &Evidence, sealed: &Sealed, log: &StreamLog) -> Vec<UnixSeconds> {
    let Some(mark) = mark_of(evidence, log) else {
        return Vec::new();
    };
    let captured = UnixSeconds::of(sealed.handoff.captured_at).0;
    let ended = sealed.ended_at.0;
    let log_from = UnixSeconds::of(log.facts.log_from).0;
    let mut seconds = vec![
        log_from,
        log_from + 1,
        captured - 1,
        captured,
        captured + 1,
        ended - 1,
        ended,
        ended + 1,
        ended + STAMP_MARGIN - 1,
        ended + STAMP_MARGIN,
        mark.0.saturating_sub(1),
        mark.0,
    ];
    let mut random = fastrand::Rng::with_seed(evidence.plan.seed ^ captured);
    let records: Vec<_> = evidence.records_of(log).collect();
    for _ in 0..8 {
        if !records.is_empty() {
            let near = records[random.usize(..records.len())].event_time.0;
            seconds.push(near - 1 + random.u64(..3));
        }
    }
    seconds.sort_unstable();
    seconds.dedup();
    let holds = |at: &u64| {
        let at = UnixSeconds(*at);
        let (from, until) = sealed.needed(at);
        let reaches = if sealed.is_forward(at) {
            mark >= at
        } else {
            // Without old images there is no way back.
            evidence.plan.view == StreamView::NewAndOldImages && mark >= until && at.0 >= log_from
        };
        reaches && log.losses(from, until).is_empty()
    };
    seconds.into_iter().filter(holds).map(UnixSeconds).collect()
}

/// I14: every promised restore is the truth. I19: and does not depend on the order in which the log is read.
pub fn i14_restores_are_the_truth(evidence: &Evidence) -> Result<u32, String> {
    let mut compared = 0;
    for (sealed, log) in bases(evidence) {
        let changes = log.changes(evidence.plan.mutation);
        let mut reversed = changes.clone();
        for of_key in reversed.values_mut() {
            of_key.reverse();
        }
        let generation = generation_of(evidence, log);
        for at in promised(evidence, &sealed, log) {
            let restored = sealed.restored(at, &changes)?;
            if sealed.restored(at, &reversed)? != restored {
                return Err(format!(
                    "I19: the restore to {} depends on the order of the log",
                    at.0
                ));
            }
            let truth = evidence.truth_at(generation, at);
            if restored != truth {
                return Err(different(&sealed, at, &restored, &truth));
            }
            compared += 1;
        }
    }
    Ok(compared)
}

/// The table's own count of its streams, whatever number the log gave it.
pub fn generation_of(evidence: &Evidence, log: &StreamLog) -> u16 {
    let labels = evidence.world.table.stream_labels();
    let place = labels.iter().position(|it| *it == log.facts.stream_label);
    u16::try_from(place.expect("a stream of this table") + 1).unwrap()
}

/// How a restored table differs from the truth.
pub fn different(
    sealed: &Sealed,
    at: UnixSeconds,
    restored: &BTreeMap<Bytes, Bytes>,
    truth: &BTreeMap<Bytes, Bytes>,
) -> String {
    let keys = restored.keys().chain(truth.keys());
    let mut odd = keys.filter(|key| restored.get(*key) != truth.get(*key));
    let key = odd.next();
    let (is, was) = (
        key.and_then(|key| restored.get(key)),
        key.and_then(|key| truth.get(key)),
    );
    format!(
        "I14: restored to {}, {key:?} is {is:?} and was {was:?} (captured {}, ended {})",
        at.0, sealed.handoff.captured_at.0, sealed.ended_at.0
    )
}

/// I20: with trouble over, every snapshot is sealed or has failed for a reason, and the mark comes to now.
pub fn i20_everything_comes_to_an_end(evidence: &Evidence) -> Checked {
    if let Err(reason) = &evidence.caught_up {
        return Err(format!("I20: {reason}"));
    }
    for outcome in &evidence.outcomes {
        let is_over = matches!(outcome.status, Some(Status::Completed | Status::Failed))
            || outcome.error.is_some();
        if !is_over {
            return Err(format!("I20: {} is {:?}", outcome.id, outcome.status));
        }
        let calm = evidence.plan.disaster.is_none();
        if calm && outcome.status != Some(Status::Completed) {
            return Err(format!("I20: {} failed: {:?}", outcome.id, outcome.error));
        }
    }
    Ok(())
}

//! Records that came later than DynamoDB was trusted to publish them: behind a mark that says that all of their time is there.

use highwater_domain::incident::IncidentKind;
use highwater_domain::mark::UnixSeconds;
use highwater_lease::Position;

use crate::error::StepError;
use crate::note_incident::Sight;
use crate::shard_rows::ShardRow;
use crate::shard_work::ShardWork;

/// Looks whether a batch whose first record counts for `first` comes behind the published mark. The batch is in the log
/// already: what is late is complete again, but restores made in between did not have it.
///
/// What is found is true only if the lease still stands afterwards: a worker that was suspended has a batch in hand that another one
/// has logged, and the mark is past it by right.
pub(crate) async fn look(
    work: &ShardWork,
    row: &ShardRow,
    first: UnixSeconds,
) -> Result<Option<Sight>, StepError> {
    if !may_be_late(row, first) {
        return Ok(None);
    }
    let (deps, log) = (&work.deps, &work.log);
    let published = deps.live.mark(&log.id).await.map_err(StepError::Control)?;
    let Some(published) = published.map(|published| published.value) else {
        return Ok(None);
    };
    let Some(at) = published.mark.best().filter(|at| first <= *at) else {
        return Ok(None);
    };
    Ok(Some(Sight {
        kind: IncidentKind::LateRecord,
        shard: Some(row.shard.clone()),
        what: format!("{}-{}", row.shard, at.0),
        from: first,
        until: at,
        detail: format!(
            "shard {} published a record of second {} after the mark {} had been published at {}, with {} ms taken for the longest delay of publication; the record is in the log, restores made in between do not have it: take a longer delay",
            row.shard,
            first.0,
            at.0,
            published.computed_at.to_rfc3339(),
            published.publication_ms
        ),
    }))
}

/// Only what was said of this shard without a record can have carried the mark past its next one: that it was silent, or
/// when it was made; or before its first record, that its parent was silent.
fn may_be_late(row: &ShardRow, first: UnixSeconds) -> bool {
    let is_at_start = matches!(&row.position, Position::Open(place) if !place.after);
    if is_at_start && !row.parents.is_empty() {
        return true;
    }
    let silent = row.silence.map(|silence| UnixSeconds::of(silence.last));
    let made = row.shard.created_at().map(UnixSeconds::of);
    Some(first) <= silent.max(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_domain::ids::UnixMillis;
    use highwater_domain::mark::Silence;
    use highwater_domain::sequence_number::ShardOrdinal;

    #[test]
    fn most_records_cannot_be_late() {
        let mut row = ShardRow {
            shard: "shardId-00000001768385930622-efd1a093".parse().unwrap(),
            parents: Vec::new(),
            children: Vec::new(),
            ended: false,
            position: "AT:1".parse().unwrap(),
            ordinal: ShardOrdinal(1),
            event_time: None,
            event_time_base: None,
            end: None,
            silence: None,
            lost: false,
            owner: None,
        };
        let made = 1_768_385_930;
        assert!(may_be_late(&row, UnixSeconds(made)));
        assert!(!may_be_late(&row, UnixSeconds(made + 1)));
        row.silence = Some(Silence {
            since: UnixMillis(made * 1000),
            last: UnixMillis((made + 60) * 1000),
            polls: 9,
        });
        assert!(may_be_late(&row, UnixSeconds(made + 60)));
        assert!(!may_be_late(&row, UnixSeconds(made + 61)));
        row.parents = vec![row.shard.clone()];
        assert!(may_be_late(&row, UnixSeconds(made + 61)));
        row.position = "AFTER:1".parse().unwrap();
        assert!(!may_be_late(&row, UnixSeconds(made + 61)));
    }
}

//! Two records under one sequence number: DynamoDB gives each number once, so one of them is not what it says.

use highwater_domain::stream_record::StreamRecord;

use crate::error::StepError;

/// DynamoDB's id of an event is the same however often and by whatever way it comes.
pub(super) fn contradict(a: &StreamRecord, b: &StreamRecord) -> bool {
    a.sequence_number == b.sequence_number && a.event_id() != b.event_id()
}

pub(super) fn two_records(place: &str, a: &StreamRecord, b: &StreamRecord) -> StepError {
    StepError::LogCorrupt(format!(
        "{place}: two records have the sequence number {}: the events {} and {}; nothing was overwritten",
        a.sequence_number,
        a.event_id(),
        b.event_id()
    ))
}

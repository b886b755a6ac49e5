//! Records of one shard that were read and are not durable yet: each once, in order, with the times they count for.

use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::stream_record::StreamRecord;
use highwater_lease::{Place, Position};
use tokio::time::Instant;

/// The records between the stored position and what was read last.
#[derive(Debug)]
pub(crate) struct ShardBatch {
    /// What is durable.
    done: Position,
    /// The greatest stamp on the path up to there.
    done_time: Option<UnixSeconds>,
    records: Vec<StreamRecord>,
    bytes: usize,
    /// The greatest number seen, of a record that could not be understood included.
    seen: Option<SequenceNumber>,
    began: Option<Instant>,
    /// Records that came again.
    pub(crate) repeated: u64,
}

/// An answer that cannot be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Disorder {
    /// One number, two records.
    #[error("record {number} came as event {first} and as event {second}")]
    TwoRecords {
        number: SequenceNumber,
        first: String,
        second: String,
    },
    /// A shard holds nothing before its start.
    #[error("record {number} came, and the shard begins with {start}")]
    BeforeStart {
        number: SequenceNumber,
        start: SequenceNumber,
    },
}

impl ShardBatch {
    pub(crate) fn new(done: Position, done_time: Option<UnixSeconds>) -> Self {
        Self {
            done,
            done_time,
            records: Vec::new(),
            bytes: 0,
            seen: None,
            began: None,
            repeated: 0,
        }
    }

    /// Takes a record up, unless it is durable or here already. Pages should come in order; where they do not, nothing is lost.
    pub(crate) fn take(&mut self, record: StreamRecord) -> Result<(), Disorder> {
        let number = &record.sequence_number;
        if let Position::Open(Place {
            sequence_number: done,
            after,
        }) = &self.done
        {
            if number < done && !after {
                return Err(Disorder::BeforeStart {
                    number: number.clone(),
                    start: done.clone(),
                });
            }
            if number <= done && *after {
                self.repeated += 1;
                return Ok(());
            }
        }
        let place = self
            .records
            .binary_search_by(|held| held.sequence_number.cmp(number));
        match place.map(|index| self.records.get(index)) {
            Ok(Some(held)) if held.event_id() != record.event_id() => Err(Disorder::TwoRecords {
                number: number.clone(),
                first: held.event_id().into_owned(),
                second: record.event_id().into_owned(),
            }),
            Ok(_) => {
                self.repeated += 1;
                Ok(())
            }
            Err(index) => {
                self.saw(number.clone());
                self.bytes += record.raw.len() + 1;
                self.records.insert(index, record);
                Ok(())
            }
        }
    }

    /// Takes note of a record that was kept elsewhere: reading goes on behind it.
    pub(crate) fn saw(&mut self, number: SequenceNumber) {
        self.began.get_or_insert_with(Instant::now);
        self.seen = self.seen.take().max(Some(number));
    }

    /// Whether a record was taken up that is not durable.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_none()
    }

    pub(crate) fn records(&self) -> &[StreamRecord] {
        &self.records
    }

    /// Bytes of the records as they came.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when a record waits.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Where reading goes on.
    pub(crate) fn position(&self) -> Position {
        let seen = self.seen.clone().filter(|seen| match &self.done {
            Position::Open(done) => *seen >= done.sequence_number,
            Position::End => false,
        });
        seen.map_or_else(|| self.done.clone(), Position::after)
    }

    /// The greatest stamp on the path up to and including this batch.
    pub(crate) fn event_time(&self) -> Option<UnixSeconds> {
        let stamps = self.records.iter().map(|record| record.created_at);
        self.done_time.max(stamps.max().map(UnixSeconds))
    }

    /// What the first record counts for: no other counts for less, because event times never go back.
    pub(crate) fn first_event_time(&self) -> Option<UnixSeconds> {
        let first = self.records.first()?;
        self.done_time.max(Some(UnixSeconds(first.created_at)))
    }

    /// Everything in it is durable.
    pub(crate) fn settle(&mut self) {
        let (done, time) = (self.position(), self.event_time());
        *self = Self {
            repeated: self.repeated,
            ..Self::new(done, time)
        };
    }

    /// Forgets what is not durable: it will be read again.
    pub(crate) fn drop_unsettled(&mut self) {
        *self = Self {
            repeated: self.repeated,
            ..Self::new(self.done.clone(), self.done_time)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(number: u64, at: u64, event: &str) -> StreamRecord {
        let raw = format!(
            r#"{{"eventID":"{event}","eventName":"INSERT","dynamodb":{{"ApproximateCreationDateTime":{at},"Keys":{{"id":{{"S":"a"}}}},"SequenceNumber":"{number}"}}}}"#
        );
        StreamRecord::read(&Bytes::from(raw)).unwrap()
    }

    fn batch(done: &str) -> ShardBatch {
        ShardBatch::new(done.parse().unwrap(), Some(UnixSeconds(100)))
    }

    fn numbers(batch: &ShardBatch) -> Vec<&str> {
        let records = batch.records().iter();
        records.map(|it| it.sequence_number.as_str()).collect()
    }

    /// Case 45: 9 comes before 10, also where a page has them the other way round.
    #[tokio::test]
    async fn case_45_records_are_held_once_and_in_order() {
        let mut batch = batch("AFTER:7");
        for number in [9, 10, 8, 10, 7, 3, 100] {
            let taken = batch.take(record(number, 100 + number, &format!("e{number}")));
            taken.unwrap();
        }
        assert_eq!(numbers(&batch), ["8", "9", "10", "100"]);
        assert_eq!(batch.repeated, 3, "one doubled, two durable");
        assert_eq!(batch.position().to_string(), "AFTER:100");
        batch.settle();
        assert!(batch.is_empty() && batch.records().is_empty());
        assert_eq!(batch.position().to_string(), "AFTER:100");
        assert_eq!(batch.event_time(), Some(UnixSeconds(200)));
    }

    /// Case 47: stamps that go back do not take the event time with them.
    #[tokio::test]
    async fn case_47_event_times_never_go_back() {
        let mut batch = batch("AT:7");
        batch.take(record(7, 98, "a")).unwrap();
        assert_eq!(batch.first_event_time(), Some(UnixSeconds(100)));
        batch.take(record(8, 120, "b")).unwrap();
        batch.take(record(9, 118, "c")).unwrap();
        assert_eq!(batch.event_time(), Some(UnixSeconds(120)));
        batch.settle();
        batch.take(record(10, 119, "d")).unwrap();
        assert_eq!(batch.first_event_time(), Some(UnixSeconds(120)));
    }

    #[tokio::test]
    async fn what_cannot_be_is_an_error() {
        let mut batch = batch("AT:7");
        assert!(matches!(
            batch.take(record(6, 1, "a")),
            Err(Disorder::BeforeStart { .. })
        ));
        batch.take(record(7, 1, "a")).unwrap();
        assert!(matches!(
            batch.take(record(7, 1, "b")),
            Err(Disorder::TwoRecords { .. })
        ));
        assert_eq!(numbers(&batch), ["7"]);
    }

    #[tokio::test]
    async fn what_is_not_durable_can_be_forgotten() {
        let mut batch = batch("AFTER:7");
        batch.take(record(9, 300, "a")).unwrap();
        batch.drop_unsettled();
        assert_eq!(batch.position().to_string(), "AFTER:7");
        assert_eq!(batch.event_time(), Some(UnixSeconds(100)));
        batch.saw("12".parse().unwrap());
        assert!(!batch.is_empty() && batch.records().is_empty());
        assert_eq!(batch.position().to_string(), "AFTER:12");
    }
}

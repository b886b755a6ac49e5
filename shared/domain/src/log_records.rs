//! Reads a log object, record by record: it is never held whole without its compression.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::backup_source::Packing;
use crate::change_log::LogName;
use crate::packing::{UnpackError, Unpacked};
use crate::sequence_number::SequenceNumber;
use crate::stream_record::{RecordError, StreamRecord};

/// Decompressed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// No record is as long: its two images have 400 KB each in DynamoDB's own count, and JSON takes a few times that.
const LONGEST_LINE: usize = 64 << 20;

/// A log object that is not what its name says.
#[derive(Debug, Error)]
pub enum LogObjectError {
    /// It cannot be decompressed.
    #[error("{key} cannot be decompressed: {source}")]
    Torn {
        /// The object.
        key: String,
        /// What the decoder says.
        source: UnpackError,
    },
    /// A line is no record.
    #[error("{key} line {line}: {source}")]
    Record {
        /// The object.
        key: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// It holds other records than its name says.
    #[error("{key} holds {found}, which its name does not say")]
    Other {
        /// The object.
        key: String,
        /// What it holds.
        found: String,
    },
}

/// The records of a log object, checked against its name.
pub fn read_log_object(
    key: &str,
    name: &LogName,
    body: &[u8],
) -> Result<Vec<StreamRecord>, LogObjectError> {
    LogRecords::new(key, name, body).collect()
}

/// The records of a log object in their order, as they are decompressed. Ends after the first error.
///
/// That the object holds what its name says is known only at its end: whoever stops before has not checked it.
/// Memory: one record, and what the caller keeps.
#[derive(Debug)]
pub struct LogRecords<'a, R> {
    key: &'a str,
    name: &'a LogName,
    unpacked: Unpacked<R>,
    buffer: BytesMut,
    chunk: Vec<u8>,
    /// Bytes of the buffer in which there is no line's end.
    searched: usize,
    first: Option<SequenceNumber>,
    last: Option<SequenceNumber>,
    count: u64,
    ended: bool,
}

impl<'a, R: Read> LogRecords<'a, R> {
    /// The records of the object `key`, whose name is `name` and whose stored bytes `body` gives.
    #[must_use]
    pub fn new(key: &'a str, name: &'a LogName, body: R) -> Self {
        Self {
            key,
            name,
            unpacked: Unpacked::new(body, Packing::Zstd),
            buffer: BytesMut::new(),
            chunk: vec![0; CHUNK_BYTES],
            searched: 0,
            first: None,
            last: None,
            count: 0,
            ended: false,
        }
    }

    /// The next line that is not empty, without its end; `None` behind the last.
    fn line(&mut self) -> Result<Option<Bytes>, LogObjectError> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + found + 1).freeze();
                self.searched = 0;
                if line.len() > 1 {
                    return Ok(Some(line.slice(..line.len() - 1)));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST_LINE {
                return Err(self.other(format!("a line of more than {LONGEST_LINE} bytes")));
            }
            let read = self.unpacked.read(&mut self.chunk);
            let read = read.map_err(|source| LogObjectError::Torn {
                key: self.key.to_owned(),
                source,
            })?;
            if read == 0 {
                self.searched = 0;
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let more = self.chunk.get(..read).unwrap_or_default();
            self.buffer.extend_from_slice(more);
        }
    }

    fn record(&mut self) -> Result<Option<StreamRecord>, LogObjectError> {
        let Some(line) = self.line()? else {
            return self.check_end().map(|()| None);
        };
        self.count += 1;
        let record = StreamRecord::read(&line).map_err(|source| LogObjectError::Record {
            key: self.key.to_owned(),
            line: self.count,
            source,
        })?;
        let number = record.sequence_number.clone();
        if let Some(last) = self.last.take().filter(|last| *last >= number) {
            return Err(self.other(format!("record {number} behind {last}")));
        }
        self.first.get_or_insert_with(|| number.clone());
        self.last = Some(number);
        Ok(Some(record))
    }

    fn check_end(&self) -> Result<(), LogObjectError> {
        let is_named = self.first.as_ref() == Some(&self.name.first)
            && self.last.as_ref() == Some(&self.name.last)
            && self.count == self.name.count;
        if is_named {
            return Ok(());
        }
        let number = |number: &Option<SequenceNumber>| {
            let number = number.as_ref();
            number.map_or("nothing".to_owned(), ToString::to_string)
        };
        let (first, last) = (number(&self.first), number(&self.last));
        Err(self.other(format!("{} records from {first} to {last}", self.count)))
    }

    fn other(&self, found: String) -> LogObjectError {
        LogObjectError::Other {
            key: self.key.to_owned(),
            found,
        }
    }
}

impl<R: Read> Iterator for LogRecords<'_, R> {
    type Item = Result<StreamRecord, LogObjectError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.record().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change_log::log_object;

    fn record(number: u64, filling: usize) -> StreamRecord {
        let filling = "x".repeat(filling);
        let raw = format!(
            r#"{{"eventID":"e{number}","eventName":"INSERT","dynamodb":{{"ApproximateCreationDateTime":1768385930,"Keys":{{"id":{{"S":"a"}}}},"NewImage":{{"id":{{"S":"a"}},"f":{{"S":"{filling}"}}}},"SequenceNumber":"{number}"}}}}"#
        );
        StreamRecord::read(&Bytes::from(raw)).unwrap()
    }

    fn packed(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 1).unwrap()
    }

    #[test]
    fn lines_of_any_length_come_out_whole_however_they_are_chunked() {
        let shard = "shardId-1".parse().unwrap();
        let records: Vec<_> = [1, 70_000, 3, 64 << 10, 200_000, 0]
            .into_iter()
            .zip(1..)
            .map(|(filling, number)| record(number, filling))
            .collect();
        let (name, body) = log_object(&shard, &records).unwrap();
        let read: Result<Vec<_>, _> = LogRecords::new("k", &name, &body[..]).collect();
        assert_eq!(read.unwrap(), records);
    }

    #[test]
    fn records_come_before_the_object_is_read_to_its_end() {
        let shard = "shardId-1".parse().unwrap();
        let records: Vec<_> = (1..=500).map(|number| record(number, 1000)).collect();
        let (name, body) = log_object(&shard, &records).unwrap();
        let torn = &body[..body.len() - 1];
        let mut reading = LogRecords::new("k", &name, torn);
        assert_eq!(reading.next().unwrap().unwrap(), records[0]);
        let rest: Vec<_> = reading.by_ref().collect();
        let (last, before) = rest.split_last().unwrap();
        assert!(matches!(last, Err(LogObjectError::Torn { .. })), "{last:?}");
        assert!(before.iter().all(Result::is_ok));
        assert!(reading.next().is_none(), "an error is the end");
    }

    #[test]
    fn an_object_that_its_name_does_not_fit_is_told() {
        let shard = "shardId-1".parse().unwrap();
        let three = [record(7, 0), record(8, 0), record(9, 0)];
        let (name, _) = log_object(&shard, &three).unwrap();
        let of = |records: &[&StreamRecord]| {
            let lines = records
                .iter()
                .map(|record| [&record.raw[..], b"\n"].concat());
            let body = packed(&lines.collect::<Vec<_>>().concat());
            read_log_object("k", &name, &body)
        };
        let [a, b, c] = &three;
        assert_eq!(of(&[a, b, c]).unwrap(), three);
        for wrong in [
            &[a, c][..],
            &[],
            &[a, b, b, c],
            &[b, a, c],
            &[a, b],
            &[c, b, a],
        ] {
            let error = of(wrong).unwrap_err();
            assert!(matches!(error, LogObjectError::Other { .. }), "{error}");
        }
        let lines = [&a.raw[..], b"\n{}\n"].concat();
        let error = read_log_object("k", &name, &packed(&lines)).unwrap_err();
        assert!(
            matches!(error, LogObjectError::Record { line: 2, .. }),
            "{error}"
        );
    }
}

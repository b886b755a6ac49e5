//! The change log's objects: stream records as they came, one per line, under names that say what is inside.
//!
//! `<prefix>/<table>/log/<stream label>/<shard id>/<first>-<last>-<count>.jsonl.zst`, sequence numbers with 40 digits.
//! The body is a function of the records alone, so that a batch that is written twice is written to one name
//! with the same bytes. A batch that is cut anew makes an object that overlaps with another; readers take each record
//! of a shard once.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use bytes::Bytes;
use thiserror::Error;

use crate::backup_source::Packing;
use crate::layout::Layout;
use crate::packing::{UnpackError, Unpacked};
use crate::sequence_number::SequenceNumber;
use crate::shard::ShardId;
use crate::stream_record::{RecordError, StreamRecord};

/// zstd's level 1: the log is written by the record, all day.
const LEVEL: i32 = 1;

/// The end of a log object's name.
const SUFFIX: &str = ".jsonl.zst";

/// The name of one log object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// The shard that its records come from.
    pub shard: ShardId,
    /// The first record's sequence number.
    pub first: SequenceNumber,
    /// The last record's.
    pub last: SequenceNumber,
    /// How many records it holds.
    pub count: u64,
}

/// The folder of one stream's log, ending in `/`.
#[must_use]
pub fn log_folder(prefix: &str, table: &str, stream_label: &str) -> String {
    format!("{}{table}/log/{stream_label}/", Layout::folder(prefix))
}

impl LogName {
    /// The key of the object in its stream's folder.
    #[must_use]
    pub fn key(&self, folder: &str) -> String {
        let Self {
            shard,
            first,
            last,
            count,
        } = self;
        format!(
            "{folder}{shard}/{}-{}-{count}{SUFFIX}",
            first.padded(),
            last.padded()
        )
    }

    /// Reads a key below a stream's folder; `None` if it is no log object's.
    #[must_use]
    pub fn parse(folder: &str, key: &str) -> Option<Self> {
        let (shard, name) = key.strip_prefix(folder)?.split_once('/')?;
        let mut parts = name.strip_suffix(SUFFIX)?.split('-');
        let number = |text: &str| {
            let digits = text.trim_start_matches('0');
            let digits = if digits.is_empty() { "0" } else { digits };
            digits.parse::<SequenceNumber>().ok()
        };
        let parsed = Self {
            shard: shard.parse().ok()?,
            first: number(parts.next()?)?,
            last: number(parts.next()?)?,
            count: parts.next()?.parse().ok()?,
        };
        // Only the one spelling: two names for one object would be two objects.
        (parts.next().is_none() && parsed.key(folder) == key).then_some(parsed)
    }
}

/// Why records make no log object.
#[derive(Debug, Error)]
pub enum LogError {
    /// There is none.
    #[error("a log object needs at least one record")]
    Empty,
    /// They do not come in the order of their shard.
    #[error("record {later} follows {earlier} in one batch of a shard")]
    Disorder {
        /// The greater one, which came first.
        earlier: SequenceNumber,
        /// The lesser one, which came behind it.
        later: SequenceNumber,
    },
    /// They cannot be compressed.
    #[error("the records cannot be compressed: {0}")]
    Compress(#[from] io::Error),
}

/// The name and the bytes of the object that holds `records` of one shard, in the order in which they came.
pub fn log_object(shard: &ShardId, records: &[StreamRecord]) -> Result<(LogName, Bytes), LogError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(LogError::Empty);
    };
    let pairs = records.iter().zip(records.iter().skip(1));
    for (earlier, later) in pairs {
        if later.sequence_number <= earlier.sequence_number {
            return Err(LogError::Disorder {
                earlier: earlier.sequence_number.clone(),
                later: later.sequence_number.clone(),
            });
        }
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    for record in records {
        encoder.write_all(&one_line(&record.raw))?;
        encoder.write_all(b"\n")?;
    }
    let name = LogName {
        shard: shard.clone(),
        first: first.sequence_number.clone(),
        last: last.sequence_number.clone(),
        count: records.len() as u64,
    };
    Ok((name, encoder.finish()?.into()))
}

/// A line break cannot stand inside a JSON string: where there is one, it is layout.
fn one_line(raw: &Bytes) -> Bytes {
    if raw.contains(&b'\n') || raw.contains(&b'\r') {
        let line = raw
            .iter()
            .copied()
            .filter(|byte| !matches!(byte, b'\n' | b'\r'));
        return line.collect::<Vec<u8>>().into();
    }
    raw.clone()
}

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
    let mut plain = Vec::new();
    let mut unpacked = Unpacked::new(body, Packing::Zstd);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = unpacked
            .read(&mut buffer)
            .map_err(|source| LogObjectError::Torn {
                key: key.to_owned(),
                source,
            })?;
        if read == 0 {
            break;
        }
        plain.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    let plain = Bytes::from(plain);
    let mut records = Vec::new();
    for line in plain
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let record = StreamRecord::read(&plain.slice_ref(line));
        records.push(record.map_err(|source| LogObjectError::Record {
            key: key.to_owned(),
            line: records.len() as u64 + 1,
            source,
        })?);
    }
    let ends = (records.first(), records.last());
    let is_named = matches!(ends, (Some(first), Some(last))
        if first.sequence_number.padded() == name.first.padded()
            && last.sequence_number.padded() == name.last.padded()
            && records.len() as u64 == name.count);
    if is_named {
        return Ok(records);
    }
    Err(LogObjectError::Other {
        key: key.to_owned(),
        found: format!("{} records", records.len()),
    })
}

/// Records of one shard from any number of overlapping objects: each once, in order.
#[must_use]
pub fn once_in_order(records: impl IntoIterator<Item = StreamRecord>) -> Vec<StreamRecord> {
    let mut by_number = BTreeMap::new();
    for record in records {
        by_number
            .entry(record.sequence_number.padded())
            .or_insert(record);
    }
    by_number.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "daily/orders/log/2026-01-14T10:18:50.622/";

    fn record(number: u64) -> StreamRecord {
        let raw = format!(
            r#"{{"eventID":"e{number}","eventName":"INSERT","dynamodb":{{"ApproximateCreationDateTime":1768385930,"Keys":{{"id":{{"S":"a"}}}},"NewImage":{{"id":{{"S":"a"}}}},"SequenceNumber":"{number}","StreamViewType":"NEW_AND_OLD_IMAGES"}}}}"#
        );
        StreamRecord::read(&Bytes::from(raw)).unwrap()
    }

    fn shard() -> ShardId {
        "shardId-00000001768385930622-efd1a093".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_under_its_name() {
        let records = [record(9), record(10), record(500)];
        let (name, body) = log_object(&shard(), &records).unwrap();
        let key = name.key(FOLDER);
        assert!(
            key.ends_with("0000000009-0000000000000000000000000000000000000500-3.jsonl.zst"),
            "{key}"
        );
        assert_eq!(LogName::parse(FOLDER, &key), Some(name.clone()));
        assert_eq!(read_log_object(&key, &name, &body).unwrap(), records);
        let again = log_object(&shard(), &records).unwrap().1;
        assert_eq!(again, body, "the same batch makes the same bytes");
    }

    #[test]
    fn other_names_are_no_log_objects() {
        let (name, _) = log_object(&shard(), &[record(9)]).unwrap();
        let key = name.key(FOLDER);
        for other in [
            key.replace(".zst", ".gz"),
            key.replace("-1.jsonl", "-01.jsonl"),
            key.replace("-1.jsonl", ".jsonl"),
            key.replacen("/00", "/0", 1),
            format!("other/{key}"),
        ] {
            assert_eq!(LogName::parse(FOLDER, &other), None, "{other}");
        }
    }

    #[test]
    fn a_damaged_object_is_told() {
        let (name, body) = log_object(&shard(), &[record(9), record(10)]).unwrap();
        let mut flipped = body.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        assert!(read_log_object("k", &name, &flipped).is_err());
        assert!(read_log_object("k", &name, &body[..body.len() - 3]).is_err());
        let other = LogName { count: 3, ..name };
        assert!(matches!(
            read_log_object("k", &other, &body),
            Err(LogObjectError::Other { .. })
        ));
    }

    #[test]
    fn batches_out_of_order_are_refused() {
        assert!(matches!(log_object(&shard(), &[]), Err(LogError::Empty)));
        let disorder = log_object(&shard(), &[record(10), record(9)]);
        assert!(matches!(disorder, Err(LogError::Disorder { .. })));
    }

    /// Case 23: overlapping objects hold each record of a shard once, however they were cut.
    #[test]
    fn overlapping_batches_are_one_log() {
        let batches = [
            vec![record(9), record(10), record(11)],
            vec![record(10), record(11)],
            vec![record(12)],
            vec![record(9)],
        ];
        let numbers: Vec<String> = once_in_order(batches.into_iter().flatten())
            .iter()
            .map(|record| record.sequence_number.to_string())
            .collect();
        assert_eq!(numbers, ["9", "10", "11", "12"]);
    }
}

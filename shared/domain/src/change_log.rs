//! The change log's objects: stream records as they came, one per line, under names that say what is inside.
//!
//! `<prefix>/<table>/log/<stream label>/<shard id>/<first>-<last>-<count>.jsonl.zst`, sequence numbers with 40 digits.
//! The body is a function of the records alone, so that a batch that is written twice is written to one name
//! with the same bytes. A batch that is cut anew makes an object that overlaps with another; readers take each record
//! of a shard once.

use std::fmt;
use std::io;

use bytes::Bytes;
use thiserror::Error;
use zstd::bulk::Compressor;

use crate::layout::Layout;
use crate::sequence_number::SequenceNumber;
use crate::shard::ShardId;
use crate::stream_record::StreamRecord;

pub use crate::log_records::{LogObjectError, LogRecords, read_log_object};

/// zstd's level 1: the log is written by the record, all day.
const LEVEL: i32 = 1;

/// Bytes of records, before compression, after which a log object is full. A record that is larger by itself has an
/// object of its own.
pub const LOG_OBJECT_BYTES: usize = 8 << 20;

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
    /// The name of the object that holds `records` of `shard`: one or more, in ascending order.
    pub fn of(shard: &ShardId, records: &[StreamRecord]) -> Result<Self, LogError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Err(LogError::Empty);
        };
        let mut pairs = records.iter().zip(records.iter().skip(1));
        let disorder =
            pairs.find(|(earlier, later)| later.sequence_number <= earlier.sequence_number);
        if let Some((earlier, later)) = disorder {
            return Err(LogError::Disorder {
                earlier: earlier.sequence_number.clone(),
                later: later.sequence_number.clone(),
            });
        }
        Ok(Self {
            shard: shard.clone(),
            first: first.sequence_number.clone(),
            last: last.sequence_number.clone(),
            count: records.len() as u64,
        })
    }

    /// The key of the object in its stream's folder.
    #[must_use]
    pub fn key(&self, folder: &str) -> String {
        format!("{folder}{self}")
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

impl fmt::Display for LogName {
    /// As it stands below its stream's folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shard,
            first,
            last,
            count,
        } = self;
        let (first, last) = (first.padded(), last.padded());
        write!(f, "{shard}/{first}-{last}-{count}{SUFFIX}")
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
///
/// Whoever writes more than one keeps a [`LogPacker`].
pub fn log_object(shard: &ShardId, records: &[StreamRecord]) -> Result<(LogName, Bytes), LogError> {
    LogPacker::new()?.object(shard, records)
}

/// Makes log objects, one after the other, with one compressor and one buffer for all of them.
///
/// What an object's bytes are does not depend on those before it.
pub struct LogPacker {
    compressor: Compressor<'static>,
    plain: Vec<u8>,
}

impl fmt::Debug for LogPacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogPacker").finish_non_exhaustive()
    }
}

impl LogPacker {
    /// A packer that has packed nothing yet.
    pub fn new() -> Result<Self, LogError> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self {
            compressor,
            plain: Vec::new(),
        })
    }

    /// The name and the bytes of the object that holds `records` of one shard: one or more, in ascending order.
    pub fn object(
        &mut self,
        shard: &ShardId,
        records: &[StreamRecord],
    ) -> Result<(LogName, Bytes), LogError> {
        let name = LogName::of(shard, records)?;
        self.plain.clear();
        for record in records {
            push_line(&mut self.plain, &record.raw);
        }
        let mut packed = self.compressor.compress(&self.plain)?;
        // One huge record must not keep its room for the rest of the writer's life.
        self.plain.shrink_to(2 * LOG_OBJECT_BYTES);
        packed.shrink_to_fit();
        Ok((name, packed.into()))
    }
}

/// A line break cannot stand inside a JSON string: where there is one, it is layout.
fn push_line(plain: &mut Vec<u8>, raw: &[u8]) {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if raw.contains(&b'\n') || raw.contains(&b'\r') {
        plain.extend(raw.iter().copied().filter(|byte| !is_break(byte)));
    } else {
        plain.extend_from_slice(raw);
    }
    plain.push(b'\n');
}

/// Cuts records into pieces that make objects of at most `plain_bytes` before compression, each as long as it can be.
///
/// The cuts depend on the records alone, so that the same records make the same objects.
pub fn pieces(
    records: &[StreamRecord],
    plain_bytes: usize,
) -> impl Iterator<Item = &[StreamRecord]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let fits = rest.iter().take_while(|record| {
            bytes = bytes.saturating_add(record.raw.len() + 1);
            bytes <= plain_bytes
        });
        let length = fits.count().max(1);
        let (piece, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(piece)
    })
}

/// Records of one shard from any number of overlapping objects: each once, in order.
#[must_use]
pub fn once_in_order(records: impl IntoIterator<Item = StreamRecord>) -> Vec<StreamRecord> {
    let mut records: Vec<StreamRecord> = records.into_iter().collect();
    // Stable: of two copies the one that came first is kept.
    records.sort_by(|a, b| a.sequence_number.cmp(&b.sequence_number));
    records.dedup_by(|later, earlier| later.sequence_number == earlier.sequence_number);
    records
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

    /// A retry comes from another packer, or from one that has packed other things since.
    #[test]
    fn bytes_do_not_depend_on_what_was_packed_before() {
        let batches: Vec<Vec<StreamRecord>> = (0..40)
            .map(|batch| (batch * 7..=batch * 9).map(record).collect())
            .collect();
        let mut packer = LogPacker::new().unwrap();
        for batch in batches.iter().chain(batches.iter().rev()) {
            let fresh = log_object(&shard(), batch).unwrap();
            assert_eq!(packer.object(&shard(), batch).unwrap(), fresh);
        }
    }

    #[test]
    fn pieces_are_as_long_as_they_can_be_and_never_empty() {
        let records: Vec<_> = (10..20).map(record).collect();
        let line = records[0].raw.len() + 1;
        let lengths = |bytes| {
            let lengths = pieces(&records, bytes).map(<[_]>::len);
            lengths.collect::<Vec<_>>()
        };
        assert_eq!(lengths(3 * line), [3, 3, 3, 1]);
        assert_eq!(lengths(3 * line - 1), [2; 5]);
        assert_eq!(
            lengths(1),
            [1; 10],
            "a record that is too large stands alone"
        );
        assert_eq!(lengths(usize::MAX), [10]);
        assert_eq!(pieces(&[], 100).count(), 0);
    }

    #[test]
    fn layout_inside_a_record_does_not_break_its_line() {
        let spaced = record(9).raw.to_vec();
        let spaced = String::from_utf8(spaced)
            .unwrap()
            .replace(",\"", ",\r\n\t\"");
        let spaced = StreamRecord::read(&Bytes::from(spaced)).unwrap();
        let (name, body) = log_object(&shard(), &[spaced, record(10)]).unwrap();
        let read = read_log_object("k", &name, &body).unwrap();
        assert_eq!(read[0].sequence_number.as_str(), "9");
        assert_eq!(read[0].new_image, record(9).new_image);
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

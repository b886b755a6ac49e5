//! Runs: changes on their way from the log to a restore, sorted by key and reduced to what one second needs.
//!
//! ```text
//! "HWRUN001"  length of the header (4 bytes, little-endian)  header (JSON)  one zstd frame per bucket that has changes
//! ```
//!
//! A bucket is the first bits of a key's print, so that a bucket's changes are found without reading those of others,
//! and buckets one behind the other are in the order of prints.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key_history::{Around, ItemChange};
use crate::key_print::KeyPrint;
use crate::mark::UnixSeconds;
use crate::sequence_number::{Generation, MAX_DIGITS, OrderToken, SequenceNumber, ShardOrdinal};
use crate::stream_record::Change;

const MAGIC: [u8; 8] = *b"HWRUN001";

/// Magic and length.
const PREAMBLE: usize = 12;

/// No header is longer: it has some twenty bytes for each bucket.
const LONGEST_HEADER: usize = 1 << 20;

/// No image is longer: 400 KB in DynamoDB's own count, a few times that as JSON.
const LONGEST_IMAGE: u64 = 64 << 20;

/// Runs are read once or twice and thrown away.
const LEVEL: i32 = 1;

/// What a run is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Which of the restore's shards.
    pub shard: u32,
    /// Which of the shard's runs, from 0 without holes.
    pub chunk: u32,
    /// The last record of the shard that was taken into account.
    pub last: SequenceNumber,
    /// The greatest stamp up to it.
    pub event_time: UnixSeconds,
    /// Records of the shard that were read so far, this run's and those of the runs before it.
    pub records: u64,
    /// By how many seconds a stamp went back at most, so far.
    pub disorder_s: u64,
    /// The frames, in order.
    pub frames: Vec<Frame>,
}

/// One bucket's changes in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The bucket.
    pub bucket: u32,
    /// Bytes of the frame.
    pub bytes: u64,
}

/// A run that is not one.
#[derive(Debug, Error)]
pub enum RunError {
    /// It does not begin as runs do.
    #[error("it does not begin as a run does: {0}")]
    Header(String),
    /// It begins as a run does, and more of it is needed to see the header's end.
    #[error("its header has {0} bytes")]
    Longer(u64),
    /// A frame is damaged.
    #[error("a frame of it is damaged: {0}")]
    Frame(#[from] io::Error),
}

/// The bucket, of `buckets` (a power of two), that a key with this print is in.
#[must_use]
pub fn bucket_of(print: &KeyPrint, buckets: u32) -> u32 {
    let [a, b, c, d, ..] = print.0;
    let first = u64::from(u32::from_be_bytes([a, b, c, d]));
    u32::try_from((first * u64::from(buckets)) >> 32).unwrap_or_default()
}

/// A run that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its header, with its frames.
    pub header: RunHeader,
    /// Where the first of its frames begins.
    pub first: u64,
    /// The whole of it.
    pub body: Bytes,
}

/// A run of `header`, whose frames are filled in, and the changes of `keys`.
pub fn run(
    mut header: RunHeader,
    keys: &BTreeMap<KeyPrint, Around>,
    buckets: u32,
) -> io::Result<Run> {
    let mut frames = Vec::new();
    let mut keys = keys.iter().peekable();
    while let Some((first, _)) = keys.peek() {
        let bucket = bucket_of(first, buckets);
        let start = frames.len();
        let mut encoder = zstd::Encoder::new(frames, LEVEL)?;
        encoder.include_checksum(true)?;
        let mut encoder = io::BufWriter::with_capacity(64 << 10, encoder);
        while let Some((print, around)) = keys.next_if(|it| bucket_of(it.0, buckets) == bucket) {
            for change in around.changes() {
                write_change(&mut encoder, print, change)?;
            }
        }
        let encoder = encoder
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        frames = encoder.finish()?;
        header.frames.push(Frame {
            bucket,
            bytes: (frames.len() - start) as u64,
        });
    }
    let text = serde_json::to_vec(&header)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut body = Vec::with_capacity(PREAMBLE + text.len() + frames.len());
    body.extend_from_slice(&MAGIC);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&text);
    body.extend_from_slice(&frames);
    Ok(Run {
        header,
        first: (PREAMBLE + text.len()) as u64,
        body: body.into(),
    })
}

/// The header of a run that begins with `start`, and where its frames begin.
///
/// # Errors
/// [`RunError::Longer`] if `start` is too short, with the length that is needed.
pub fn read_header(start: &[u8]) -> Result<(RunHeader, u64), RunError> {
    let wrong = |what: &str| RunError::Header(what.to_owned());
    let (preamble, rest) = start
        .split_at_checked(PREAMBLE)
        .ok_or_else(|| wrong("it is too short"))?;
    let (magic, length) = preamble.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(wrong("its first bytes are others"));
    }
    let length: [u8; 4] = length.try_into().map_err(|_| wrong("it is too short"))?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST_HEADER {
        return Err(wrong("its header is too long"));
    }
    let end = (PREAMBLE + length) as u64;
    let text = rest.get(..length).ok_or(RunError::Longer(end))?;
    let header =
        serde_json::from_slice(text).map_err(|error| RunError::Header(error.to_string()))?;
    Ok((header, end))
}

/// Where the frames of one run lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFrames {
    /// Where the first of them begins.
    pub first: u64,
    /// The frames, in order.
    pub frames: Vec<Frame>,
}

impl RunFrames {
    /// Where the frame of `bucket` lies in its run; `None` if the run has nothing of it.
    #[must_use]
    pub fn of_bucket(&self, bucket: u32) -> Option<Range<u64>> {
        let mut start = self.first;
        for frame in &self.frames {
            let end = start + frame.bytes;
            if frame.bucket == bucket {
                return Some(start..end);
            }
            start = end;
        }
        None
    }
}

/// The changes of one frame.
pub struct FrameChanges<'a>(BufReader<zstd::Decoder<'static, BufReader<&'a [u8]>>>);

impl<'a> FrameChanges<'a> {
    /// The changes in `frame`, the stored bytes.
    pub fn new(frame: &'a [u8]) -> Result<Self, RunError> {
        let decoder = zstd::Decoder::new(frame)?;
        Ok(Self(BufReader::with_capacity(64 << 10, decoder)))
    }

    fn change(&mut self) -> io::Result<Option<(KeyPrint, ItemChange)>> {
        use io::BufRead as _;
        if self.0.fill_buf()?.is_empty() {
            return Ok(None);
        }
        read_change(&mut self.0).map(Some)
    }
}

impl Iterator for FrameChanges<'_> {
    type Item = Result<(KeyPrint, ItemChange), RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.change().map_err(RunError::from).transpose()
    }
}

impl std::fmt::Debug for FrameChanges<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameChanges").finish_non_exhaustive()
    }
}

const NO_IMAGE: u8 = 0;
const NEW_IMAGE: u8 = 1;
const OLD_IMAGE: u8 = 2;

fn write_change(to: &mut impl io::Write, print: &KeyPrint, change: &ItemChange) -> io::Result<()> {
    let kind = match change.change {
        Change::Insert => 0,
        Change::Modify => 1,
        Change::Remove => 2,
    };
    let (which, image) = match (&change.new_image, &change.old_image) {
        (Some(image), _) => (NEW_IMAGE, Some(image)),
        (None, Some(image)) => (OLD_IMAGE, Some(image)),
        (None, None) => (NO_IMAGE, None),
    };
    let number = change.token.sequence_number.as_str();
    let digits = u8::try_from(number.len()).map_err(io::Error::other)?;
    to.write_all(&print.0)?;
    to.write_all(&[kind, which, digits])?;
    to.write_all(&change.token.generation.0.to_le_bytes())?;
    to.write_all(&change.token.shard.0.to_le_bytes())?;
    to.write_all(&change.event_time.0.to_le_bytes())?;
    to.write_all(number.as_bytes())?;
    if let Some(image) = image {
        to.write_all(&(image.len() as u64).to_le_bytes())?;
        to.write_all(image)?;
    }
    Ok(())
}

fn read_change(from: &mut impl Read) -> io::Result<(KeyPrint, ItemChange)> {
    let print = KeyPrint(array(from)?);
    let [kind, which, digits] = array(from)?;
    let change = match kind {
        0 => Change::Insert,
        1 => Change::Modify,
        2 => Change::Remove,
        _ => return Err(io::Error::other("a change is of no known kind")),
    };
    let generation = Generation(u16::from_le_bytes(array(from)?));
    let shard = ShardOrdinal(u64::from_le_bytes(array(from)?));
    let event_time = UnixSeconds(u64::from_le_bytes(array(from)?));
    if usize::from(digits) > MAX_DIGITS {
        return Err(io::Error::other("a sequence number is too long"));
    }
    let number = exactly(from, u64::from(digits))?;
    let number = String::from_utf8(number).map_err(io::Error::other)?;
    let sequence_number = number.parse().map_err(io::Error::other)?;
    let image = if which == NO_IMAGE {
        None
    } else {
        let length = u64::from_le_bytes(array(from)?);
        Some(Bytes::from(exactly(from, length)?))
    };
    let (new_image, old_image) = match which {
        NEW_IMAGE => (image, None),
        OLD_IMAGE => (None, image),
        NO_IMAGE => (None, None),
        _ => return Err(io::Error::other("an image is of no known kind")),
    };
    let change = ItemChange {
        token: OrderToken {
            generation,
            shard,
            sequence_number,
        },
        event_time,
        change,
        new_image,
        old_image,
    };
    Ok((print, change))
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads so many bytes; room is made for what comes, not for what is claimed.
fn exactly(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    if length > LONGEST_IMAGE {
        return Err(io::Error::other("an image is too long"));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        return Ok(bytes);
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> RunHeader {
        RunHeader {
            shard: 3,
            chunk: 7,
            last: "9".repeat(40).parse().unwrap(),
            event_time: UnixSeconds(1_768_385_930),
            records: 12,
            disorder_s: 2,
            frames: Vec::new(),
        }
    }

    fn change(second: u64, number: &str, kind: Change, image: Option<&[u8]>) -> ItemChange {
        let image = image.map(Bytes::copy_from_slice);
        ItemChange {
            token: OrderToken {
                generation: Generation(2),
                shard: ShardOrdinal(1_768_385_930_622),
                sequence_number: number.parse().unwrap(),
            },
            event_time: UnixSeconds(second),
            change: kind,
            new_image: image.clone(),
            old_image: image,
        }
    }

    fn within(range: &Range<u64>) -> Range<usize> {
        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
    }

    fn changes_of(body: &Bytes, bucket: u32) -> Vec<(KeyPrint, ItemChange)> {
        let (header, first) = read_header(body).unwrap();
        let frames = header.frames;
        let Some(range) = (RunFrames { first, frames }).of_bucket(bucket) else {
            return Vec::new();
        };
        let changes = FrameChanges::new(&body[within(&range)]).unwrap();
        changes.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn buckets_are_in_the_order_of_prints_and_even() {
        let print = |first: u8| KeyPrint([first; 16]);
        for buckets in [1, 2, 64, 1024] {
            assert_eq!(bucket_of(&print(0), buckets), 0);
            assert_eq!(bucket_of(&print(255), buckets), buckets - 1);
            let mut middle = [255; 16];
            middle[0] = 127;
            assert_eq!(bucket_of(&KeyPrint(middle), buckets), (buckets - 1) / 2);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            changes in prop::collection::vec(
                (any::<[u8; 16]>(), 0_u64..20, "[1-9][0-9]{0,39}", 0_u8..3, prop::option::of(prop::collection::vec(any::<u8>(), 0..50))),
                0..40,
            ),
            buckets in 0_u32..6,
        ) {
            let (at, buckets) = (UnixSeconds(10), 1 << buckets);
            let mut keys: BTreeMap<KeyPrint, Around> = BTreeMap::new();
            for (print, second, number, kind, image) in &changes {
                let kind = [Change::Insert, Change::Modify, Change::Remove][usize::from(*kind)];
                let change = change(*second, number, kind, image.as_deref());
                keys.entry(KeyPrint(*print)).or_default().add(at, &change);
            }
            let Run { header: written, first, body } = run(header(), &keys, buckets).unwrap();
            prop_assert_eq!(read_header(&body).unwrap(), (written, first));
            let again: Vec<_> = (0..buckets).flat_map(|bucket| changes_of(&body, bucket)).collect();
            let expected: Vec<_> = keys
                .iter()
                .flat_map(|(print, around)| around.changes().map(|it| (*print, it.clone())))
                .collect();
            prop_assert_eq!(again, expected);
            prop_assert_eq!(run(header(), &keys, buckets).unwrap().body, body, "the same bytes again");
        }
    }

    #[test]
    fn a_damaged_run_is_told() {
        let mut keys = BTreeMap::new();
        for first in 0..8_u8 {
            let mut around = Around::default();
            around.add(
                UnixSeconds(5),
                &change(5, "10", Change::Modify, Some(&[first; 300])),
            );
            keys.insert(KeyPrint([first * 32; 16]), around);
        }
        let Run { header, body, .. } = run(header(), &keys, 4).unwrap();
        let (_, first) = read_header(&body).unwrap();
        assert_eq!(header.frames.len(), 4);
        assert!(matches!(read_header(&body[..20]), Err(RunError::Longer(end)) if end == first));
        assert!(read_header(&body[..5]).is_err());
        assert!(read_header(&body[1..]).is_err());
        let frames = header.frames;
        let range = RunFrames { first, frames }.of_bucket(2).unwrap();
        let frame = &body[within(&range)];
        let all =
            |frame: &[u8]| -> Result<Vec<_>, RunError> { FrameChanges::new(frame)?.collect() };
        assert_eq!(all(frame).unwrap().len(), 2);
        assert!(all(&frame[..frame.len() - 1]).is_err());
        for at in 0..frame.len() {
            let mut flipped = frame.to_vec();
            flipped[at] ^= 1;
            let found = all(&flipped);
            // A bit that the frame's own checksum does not cover may be without meaning.
            assert!(found.is_err() || found.unwrap().len() == 2, "byte {at}");
        }
    }
}

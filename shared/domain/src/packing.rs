//! Takes the compression off a file, member by member, and tells the ways in which one can be damaged apart.
//!
//! A gzip file may be several members after one another (RFC 1952 §2.2) and may end in a run of zeros, as tapes
//! and `dd` leave one; a zstd file may be several frames (RFC 8878 §3). Anything else behind them is not passed
//! over in silence: it may be what is left of a member.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use thiserror::Error;
use zstd::stream::raw::{Decoder as FrameDecoder, InBuffer, Operation, OutBuffer};

use crate::backup_source::Packing;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes 1 to 3 of a frame that holds no data (RFC 8878 §3.1.2); byte 0 is 0x50 to 0x5f.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

impl Packing {
    /// How a file of this name is compressed: `.gz`, `.zst`, or neither.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::None,
        }
    }

    /// How a file that begins with these bytes (4 are enough) is compressed. No text begins so.
    #[must_use]
    pub fn of_magic(first: &[u8]) -> Self {
        let skippable = |first: &[u8]| {
            first.first().is_some_and(|byte| byte >> 4 == 5)
                && first.get(1..4) == Some(&ZSTD_SKIPPABLE)
        };
        if first.starts_with(&GZIP_MAGIC) {
            Self::Gzip
        } else if first.starts_with(&ZSTD_MAGIC) || skippable(first) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "uncompressed",
        }
    }
}

/// Why a file cannot be decompressed. Positions count stored bytes from 0.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UnpackError {
    /// The bytes could not be had.
    #[error("it cannot be read: {0}")]
    Input(String),
    /// The name says one thing and the first bytes another.
    #[error("by its name it is {named}, but {found}")]
    OtherPacking {
        /// What the name says.
        named: &'static str,
        /// What the first bytes are.
        found: String,
    },
    /// It ends inside a member.
    #[error("it ends in the middle of {packing} member {member}, after {at} bytes")]
    Truncated {
        /// `gzip` or `zstd`.
        packing: &'static str,
        /// The member, from 1.
        member: u64,
        /// How many bytes there are.
        at: u64,
    },
    /// A member is not what was compressed: bad codes, or a checksum that does not match.
    #[error("{packing} member {member} is damaged before byte {at}: {reason}")]
    Damaged {
        /// `gzip` or `zstd`.
        packing: &'static str,
        /// The member, from 1.
        member: u64,
        /// How far it was read.
        at: u64,
        /// The decoder's words.
        reason: String,
    },
    /// Something that is no member follows the last one.
    #[error("something that is not {packing} follows member {members}, from byte {at} on")]
    Trailing {
        /// `gzip` or `zstd`.
        packing: &'static str,
        /// How many whole members there are.
        members: u64,
        /// Where the rest begins.
        at: u64,
    },
}

/// A buffer that can look ahead and knows where it is.
#[derive(Debug)]
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    /// Bytes handed on.
    consumed: u64,
    ended: bool,
    failure: Option<String>,
}

impl<R: Read> Input<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::with_capacity(INPUT_BYTES),
            start: 0,
            consumed: 0,
            ended: false,
            failure: None,
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The next bytes, at least `wanted` of them unless the end is nearer.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.rest().len() < wanted && !self.ended {
            self.buffer.drain(..self.start);
            self.start = 0;
            let kept = self.buffer.len();
            self.buffer.resize(INPUT_BYTES.max(wanted), 0);
            let room = self.buffer.get_mut(kept..).unwrap_or_default();
            let read = self.reader.read(room);
            let added = match &read {
                Ok(added) => *added,
                Err(_) => 0,
            };
            self.buffer.truncate(kept + added);
            match read {
                Ok(added) => self.ended = added == 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error.to_string());
                    return Err(error);
                }
            }
        }
        Ok(self.rest())
    }
}

/// Read at a time.
const INPUT_BYTES: usize = 64 << 10;

impl<R: Read> Read for Input<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let taken = available.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..taken), available.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, amount: usize) {
        self.start += amount;
        self.consumed += amount as u64;
    }
}

/// What the next piece of the file is read by.
enum State<R> {
    /// Nothing was read yet, or a member has just ended.
    Between(Input<R>),
    Plain(Input<R>),
    Gzip(Box<GzDecoder<Input<R>>>),
    Zstd(Input<R>, FrameDecoder<'static>),
    Done,
}

/// The bytes of a file without its compression.
pub struct Unpacked<R> {
    packing: Packing,
    state: State<R>,
    /// Whole members so far.
    members: u64,
    failed: Option<UnpackError>,
}

impl<R> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked")
            .field("packing", &self.packing)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Unpacked<R> {
    /// Takes `packing` off what `reader` gives.
    #[must_use]
    pub fn new(reader: R, packing: Packing) -> Self {
        Self {
            packing,
            state: State::Between(Input::new(reader)),
            members: 0,
            failed: None,
        }
    }

    /// The next bytes, 0 at the file's end only (or if `out` has no room). After an error every call gives that
    /// error.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, UnpackError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let step = match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(0),
                State::Between(input) => self.begin(input).map(|()| None),
                State::Plain(input) => self.plain(input, out),
                State::Gzip(decoder) => self.gzip(decoder, out),
                State::Zstd(input, decoder) => self.zstd(input, decoder, out),
            };
            match step {
                Ok(None) => {}
                Ok(Some(read)) => return Ok(read),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// Finds out what comes next: a member, padding, or the end.
    fn begin(&mut self, mut input: Input<R>) -> Result<(), UnpackError> {
        let first = match input.peek(4) {
            Ok(bytes) => bytes.get(..4).unwrap_or(bytes).to_vec(),
            Err(error) => return Err(UnpackError::Input(error.to_string())),
        };
        let found = Packing::of_magic(&first);
        self.state = match (self.packing, self.members) {
            (named, 0) if found != named => return Err(other_packing(named, found, &first)),
            (Packing::None, _) => State::Plain(input),
            (_, 1..) if first.is_empty() => State::Done,
            (Packing::Gzip, _) if found == Packing::Gzip => {
                State::Gzip(Box::new(GzDecoder::new(input)))
            }
            (Packing::Zstd, _) if found == Packing::Zstd => {
                let decoder =
                    FrameDecoder::new().map_err(|error| UnpackError::Input(error.to_string()))?;
                State::Zstd(input, decoder)
            }
            _ => return self.after_the_last(input),
        };
        Ok(())
    }

    /// Zeros behind the last gzip member are padding; anything else is told.
    fn after_the_last(&mut self, mut input: Input<R>) -> Result<(), UnpackError> {
        let at = input.consumed;
        loop {
            let rest = input
                .fill_buf()
                .map_err(|error| UnpackError::Input(error.to_string()))?;
            if rest.is_empty() {
                self.state = State::Done;
                return Ok(());
            }
            if self.packing != Packing::Gzip || rest.iter().any(|byte| *byte != 0) {
                return Err(UnpackError::Trailing {
                    packing: self.packing.as_str(),
                    members: self.members,
                    at,
                });
            }
            let zeros = rest.len();
            input.consume(zeros);
        }
    }

    fn plain(&mut self, mut input: Input<R>, out: &mut [u8]) -> Result<Option<usize>, UnpackError> {
        let read = input.read(out);
        let read = read.map_err(|error| UnpackError::Input(error.to_string()))?;
        self.state = State::Plain(input);
        Ok(Some(read))
    }

    fn gzip(
        &mut self,
        mut decoder: Box<GzDecoder<Input<R>>>,
        out: &mut [u8],
    ) -> Result<Option<usize>, UnpackError> {
        match decoder.read(out) {
            Ok(0) => {
                self.members += 1;
                self.state = State::Between(decoder.into_inner());
                Ok(None)
            }
            Ok(read) => {
                self.state = State::Gzip(decoder);
                Ok(Some(read))
            }
            Err(error) => Err(self.broken(decoder.get_ref(), &error)),
        }
    }

    fn zstd(
        &mut self,
        mut input: Input<R>,
        mut decoder: FrameDecoder<'static>,
        out: &mut [u8],
    ) -> Result<Option<usize>, UnpackError> {
        loop {
            let available = input
                .fill_buf()
                .map_err(|error| UnpackError::Input(error.to_string()))?;
            let at_end = available.is_empty();
            let mut from = InBuffer::around(available);
            let mut to = OutBuffer::around(&mut *out);
            let hint = decoder.run(&mut from, &mut to);
            let (taken, written) = (from.pos(), to.pos());
            input.consume(taken);
            match hint {
                Ok(0) => {
                    self.members += 1;
                    self.state = State::Between(input);
                    return Ok(Some(written).filter(|written| *written > 0));
                }
                Ok(_) if written > 0 => {
                    self.state = State::Zstd(input, decoder);
                    return Ok(Some(written));
                }
                Ok(_) if at_end => return Err(self.broken(&input, &ended())),
                Ok(_) => {}
                Err(error) => return Err(self.broken(&input, &error)),
            }
        }
    }

    fn broken(&self, input: &Input<R>, error: &io::Error) -> UnpackError {
        let (packing, member) = (self.packing.as_str(), self.members + 1);
        let at = input.consumed;
        if let Some(failure) = &input.failure {
            UnpackError::Input(failure.clone())
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            UnpackError::Truncated {
                packing,
                member,
                at,
            }
        } else {
            UnpackError::Damaged {
                packing,
                member,
                at,
                reason: error.to_string(),
            }
        }
    }
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn other_packing(named: Packing, found: Packing, first: &[u8]) -> UnpackError {
    let found = match found {
        Packing::None if first.is_empty() => "it is empty".to_owned(),
        Packing::None => format!("it begins with the bytes {}", hex::encode(first)),
        packed => format!("its first bytes are those of {}", packed.as_str()),
    };
    UnpackError::OtherPacking {
        named: named.as_str(),
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 1).unwrap()
    }

    /// Gives a byte at a time, so that every boundary is met.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let one = self.0.len().min(1).min(out.len());
            self.0.read(out.get_mut(..one).unwrap())
        }
    }

    fn unpack(stored: &[u8], packing: Packing) -> Result<Vec<u8>, UnpackError> {
        let all = drain(Unpacked::new(stored, packing));
        assert_eq!(drain(Unpacked::new(Drip(stored), packing)), all);
        all
    }

    fn drain<R: Read>(mut unpacked: Unpacked<R>) -> Result<Vec<u8>, UnpackError> {
        let mut all = Vec::new();
        let mut out = [0; 100];
        loop {
            match unpacked.read(&mut out) {
                Ok(0) => return Ok(all),
                Ok(read) => all.extend_from_slice(&out[..read]),
                Err(error) => {
                    // The error stays: nobody takes a broken file's silence for its end.
                    assert_eq!(unpacked.read(&mut out), Err(error.clone()));
                    return Err(error);
                }
            }
        }
    }

    fn text() -> Vec<u8> {
        (0..400_u32)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect()
    }

    #[test]
    fn members_and_frames_are_read_one_after_another() {
        let text = text();
        for (packing, pack) in [
            (Packing::Gzip, gzip as fn(&[u8]) -> Vec<u8>),
            (Packing::Zstd, zstd),
        ] {
            let many = [pack(&text), pack(b""), pack(b"tail")].concat();
            let expected = [text.clone(), b"tail".to_vec()].concat();
            assert_eq!(unpack(&many, packing).unwrap(), expected, "{packing:?}");
            assert_eq!(unpack(&pack(b""), packing).unwrap(), b"");
        }
        assert_eq!(unpack(&text, Packing::None).unwrap(), text);
        assert_eq!(unpack(b"", Packing::None).unwrap(), b"");
        let skipped = [b"\x53\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(b"x")].concat();
        assert_eq!(unpack(&skipped, Packing::Zstd).unwrap(), b"x");
    }

    #[test]
    fn padding_is_told_from_garbage() {
        let two = [gzip(b"a"), gzip(b"b")].concat();
        let padded = [two.clone(), vec![0; 70_000]].concat();
        assert_eq!(unpack(&padded, Packing::Gzip).unwrap(), b"ab");
        let trailing = |packing, members, at: usize| UnpackError::Trailing {
            packing,
            members,
            at: at as u64,
        };
        for rest in [&b"garbage"[..], b"\0\0\0x", b"\x1f", b"{"] {
            assert_eq!(
                unpack(&[&two[..], rest].concat(), Packing::Gzip).unwrap_err(),
                trailing("gzip", 2, two.len())
            );
        }
        let frame = zstd(b"a");
        assert_eq!(
            unpack(&[&frame[..], b"\0\0"].concat(), Packing::Zstd).unwrap_err(),
            trailing("zstd", 1, frame.len())
        );
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_not_whole() {
        let text = text();
        for (packing, stored) in [(Packing::Gzip, gzip(&text)), (Packing::Zstd, zstd(&text))] {
            for length in 4..stored.len() {
                let error = unpack_once(&stored[..length], packing).unwrap_err();
                let UnpackError::Truncated { member, at, .. } = error else {
                    panic!("cut at {length}: {error}");
                };
                assert_eq!((member, at), (1, length as u64));
            }
        }
    }

    fn unpack_once(stored: &[u8], packing: Packing) -> Result<Vec<u8>, UnpackError> {
        drain(Unpacked::new(stored, packing))
    }

    #[test]
    fn a_flipped_checksum_is_damage() {
        let mut stored = gzip(&text());
        let crc = stored.len() - 8;
        stored[crc] ^= 1;
        assert!(matches!(
            unpack(&stored, Packing::Gzip),
            Err(UnpackError::Damaged { member: 1, .. })
        ));
    }

    #[test]
    fn a_name_that_does_not_fit_is_told() {
        for (stored, packing, says) in [
            (
                &b"{\"a\":1}"[..],
                Packing::Gzip,
                "by its name it is gzip, but it begins with the bytes 7b226122",
            ),
            (
                b"",
                Packing::Gzip,
                "by its name it is gzip, but it is empty",
            ),
            (
                &gzip(b"x"),
                Packing::None,
                "by its name it is uncompressed, but its first bytes are those of gzip",
            ),
            (
                &zstd(b"x"),
                Packing::Gzip,
                "by its name it is gzip, but its first bytes are those of zstd",
            ),
        ] {
            assert_eq!(unpack(stored, packing).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_reader_that_fails_is_told_from_a_damaged_file() {
        struct Fails<'a>(&'a [u8]);
        impl Read for Fails<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                match self.0.read(out)? {
                    0 => Err(io::Error::other("the line went dead")),
                    read => Ok(read),
                }
            }
        }
        let stored = gzip(&text());
        let half = Fails(&stored[..stored.len() / 2]);
        assert_eq!(
            drain(Unpacked::new(half, Packing::Gzip)).unwrap_err(),
            UnpackError::Input("the line went dead".into())
        );
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, flips: Vec<(usize, u8)>) {
            for packing in [Packing::Gzip, Packing::Zstd, Packing::None] {
                let _ = unpack_once(&bytes, packing);
            }
            for (packing, mut stored) in [(Packing::Gzip, gzip(&bytes)), (Packing::Zstd, zstd(&bytes))] {
                let length = stored.len();
                for (at, mask) in &flips {
                    stored[at % length] ^= mask;
                }
                let _ = unpack_once(&stored, packing);
            }
        }
    }
}

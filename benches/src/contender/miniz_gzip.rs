//! gzip as `flate2` makes it in a project that chooses no backend: by `miniz_oxide`.
//!
//! Features of a dependency add up over a workspace, and this one's `flate2` compresses by zlib-rs. So the other
//! backend stands here by itself, fed through a buffer as long as the one that `flate2` has.

use std::io::{self, Write};

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{MZFlush, MZStatus};

/// The level that `gzip` and `flate2` take unless told otherwise.
const LEVEL: i32 = 6;
/// Raw deflate with the largest window: gzip's header and trailer are written here.
const WINDOW_BITS: i32 = -15;
/// As long as the buffer of `flate2`'s writers.
const BUFFER_BYTES: usize = 32 << 10;
/// No flags, no name, no time, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it.
pub struct MinizGzip<W> {
    to: W,
    state: Box<CompressorOxide>,
    buffer: Vec<u8>,
    crc32: crc32fast::Hasher,
    length: u32,
}

impl<W: Write> MinizGzip<W> {
    /// Begins a member.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&HEADER)?;
        let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, 0);
        Ok(Self {
            to,
            state: Box::new(CompressorOxide::new(flags)),
            buffer: vec![0; BUFFER_BYTES],
            crc32: crc32fast::Hasher::new(),
            length: 0,
        })
    }

    fn deflate(&mut self, bytes: &[u8], flush: MZFlush) -> io::Result<(usize, MZStatus)> {
        let done = deflate(&mut self.state, bytes, &mut self.buffer, flush);
        let made = self.buffer.get(..done.bytes_written).unwrap_or_default();
        self.to.write_all(made)?;
        match done.status {
            Ok(status) => Ok((done.bytes_consumed, status)),
            // Nothing to do: everything that was given before is taken.
            Err(miniz_oxide::MZError::Buf) => Ok((done.bytes_consumed, MZStatus::Ok)),
            Err(error) => Err(io::Error::other(format!("deflate: {error:?}"))),
        }
    }

    /// Ends the member.
    pub fn finish(mut self) -> io::Result<W> {
        while self.deflate(&[], MZFlush::Finish)?.1 != MZStatus::StreamEnd {}
        let crc32 = std::mem::take(&mut self.crc32).finalize();
        self.to.write_all(&crc32.to_le_bytes())?;
        self.to.write_all(&self.length.to_le_bytes())?;
        Ok(self.to)
    }
}

impl<W: Write> Write for MinizGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A call may do nothing but give out what an earlier one had no room for.
        let taken = loop {
            let (taken, _) = self.deflate(bytes, MZFlush::None)?;
            if taken > 0 || bytes.is_empty() {
                break taken;
            }
        };
        let taken_bytes = bytes.get(..taken).unwrap_or_default();
        self.crc32.update(taken_bytes);
        // The length is told modulo 2^32.
        self.length = self.length.wrapping_add(u32::try_from(taken).unwrap_or(0));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_was_written_comes_back() {
        let text: Vec<u8> = (0..400_000_u32)
            .flat_map(|number| (number % 977).to_string().into_bytes())
            .collect();
        for length in [0, 1, 100, text.len()] {
            let mut gzip = MinizGzip::new(Vec::new()).unwrap();
            for piece in text[..length].chunks(70_001) {
                gzip.write_all(piece).unwrap();
            }
            let packed = gzip.finish().unwrap();
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut back)
                .unwrap();
            assert!(back == text[..length], "{length}");
            assert!(length < 1000 || packed.len() < length / 2);
        }
    }
}

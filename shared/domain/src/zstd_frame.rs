//! One zstd frame that is compressed straight into the buffer that it will be read from.
//!
//! `zstd::Encoder` compresses into a buffer of zstd's, copies that into one of its own, and that into ours. Given room for a
//! whole block zstd writes into that, and both copies are left out.

use std::io::{self, Write};

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// zstd's level 1, on DynamoDB's JSON as small as gzip's level 6 at a fifth of its price.
const LEVEL: i32 = 1;

/// More than a block of 128 KiB can become: zstd's own bound is 128 KiB and 519 bytes.
const BLOCK_ROOM: usize = 132 << 10;

/// A frame in the making, with a checksum of its content (RFC 8878 §3.1.1).
pub struct ZstdFrame {
    encoder: Encoder<'static>,
    written: Vec<u8>,
}

impl ZstdFrame {
    /// A frame that is written behind what `written` holds.
    pub fn into(written: Vec<u8>) -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { encoder, written })
    }

    /// What was written so far. It may be taken away: nothing of it is looked at again.
    pub fn written(&mut self) -> &mut Vec<u8> {
        &mut self.written
    }

    /// Bytes written so far. What zstd holds back comes with a flush.
    #[must_use]
    pub fn len(&self) -> usize {
        self.written.len()
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Ends the frame.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        while self.step(|encoder, out| encoder.finish(out, true))? > 0 {}
        Ok(self.written)
    }

    /// Lets the encoder write, with room for a block at least; gives what it answers.
    fn step(
        &mut self,
        run: impl FnOnce(&mut Encoder<'static>, &mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.written.reserve(BLOCK_ROOM);
        let behind = self.written.len();
        let mut out = OutBuffer::around_pos(&mut self.written, behind);
        run(&mut self.encoder, &mut out)
    }
}

impl Write for ZstdFrame {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut from = InBuffer::around(bytes);
        while from.pos() < bytes.len() {
            self.step(|encoder, out| encoder.run(&mut from, out))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.step(Operation::flush)? > 0 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;

    /// Text that compresses, and noise that does not.
    fn plain(bytes: usize) -> Vec<u8> {
        let mut plain: Vec<u8> = (0..bytes / 64)
            .flat_map(|n| sha256(&n.to_be_bytes()))
            .collect();
        plain.resize(bytes, b'a');
        plain
    }

    #[test]
    fn a_frame_is_what_was_written_however_it_was_cut() {
        for (bytes, cut) in [
            (0, 1),
            (1, 1),
            (5000, 7),
            (700_000, 300_000),
            (3 << 20, 64 << 10),
        ] {
            let plain = plain(bytes);
            let mut frame = ZstdFrame::into(b"before".to_vec()).unwrap();
            for piece in plain.chunks(cut) {
                frame.write_all(piece).unwrap();
            }
            let stored = frame.finish().unwrap();
            assert_eq!(stored[..6], *b"before");
            assert_eq!(zstd::decode_all(&stored[6..]).unwrap(), plain, "{bytes}");
            assert_eq!(stored[6 + 4] & 0b100, 0b100, "it has a checksum");
        }
    }

    #[test]
    fn a_flush_shows_all_and_what_is_shown_may_be_taken_away() {
        let plain = plain(400_000);
        let mut frame = ZstdFrame::into(Vec::new()).unwrap();
        let mut stored = Vec::new();
        for piece in plain.chunks(100_000) {
            frame.write_all(piece).unwrap();
            frame.flush().unwrap();
            assert!(!frame.is_empty());
            stored.append(frame.written());
            assert_eq!(frame.len(), 0);
            let mut shown = Vec::new();
            let mut decoder = zstd::Decoder::new(&stored[..]).unwrap();
            // The frame has no end yet.
            let _ = io::copy(&mut decoder, &mut shown);
            assert_eq!(shown, plain[..shown.len()]);
            assert_eq!(shown.len() % 100_000, 0, "all of it");
        }
        stored.extend(frame.finish().unwrap());
        assert_eq!(zstd::decode_all(&stored[..]).unwrap(), plain);
    }
}

//! JSON in blocks of 64 bytes, a bit for each byte, the lowest for the first: which of them are in strings.
//!
//! Langdale and Lemire, "Parsing Gigabytes of JSON per Second", §3.1, <https://arxiv.org/abs/1902.08318>.

use wide::u8x16;

/// Whether a string that runs through a block does not end in it: no quote, nothing escaped, no control character.
#[must_use]
pub(crate) fn is_text(block: &[u8; 64]) -> bool {
    let (quarters, _) = block.as_chunks::<16>();
    let mut other = u8x16::splat(0);
    for quarter in quarters {
        let lane = u8x16::new(*quarter);
        other |= lane.simd_eq(u8x16::splat(b'"')) | lane.simd_eq(u8x16::splat(b'\\'));
        other |= lane.min(u8x16::splat(0x1f)).simd_eq(lane);
    }
    other.to_bitmask() == 0
}

/// What one block leaves to the next.
#[derive(Default)]
pub(crate) struct Strings {
    /// All ones while a string runs into the next block, else 0.
    in_string: u64,
    /// 1 if the first byte of the next block is escaped.
    escaped: u64,
}

impl Strings {
    /// Which bytes of the next block are in a string: each opening quote is, the closing one is not.
    pub(crate) fn next(&mut self, quotes: u64, backslashes: u64) -> u64 {
        self.next_with_escaped(quotes, backslashes).0
    }

    /// The same, and which bytes are escaped by a backslash before them.
    pub(crate) fn next_with_escaped(&mut self, quotes: u64, backslashes: u64) -> (u64, u64) {
        let escaped = self.escaped_bytes(backslashes);
        let quotes = quotes & !escaped;
        let in_string = xor_up_to(quotes) ^ self.in_string;
        // All ones if the last byte is inside: the sign bit, spread.
        self.in_string = (in_string.cast_signed() >> 63).cast_unsigned();
        (in_string, escaped)
    }

    /// Which bytes of a block are escaped by the backslash before them.
    ///
    /// Taken one by one, since most blocks have none: the first backslash of a run escapes the byte
    /// behind it, and if that is a backslash too, it escapes nothing any more.
    fn escaped_bytes(&mut self, backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.escaped);
        let mut left = backslashes & !escaped;
        while left != 0 {
            let bit = left & left.wrapping_neg();
            escaped |= bit << 1;
            left &= !(bit | bit << 1);
            self.escaped = bit >> 63;
        }
        escaped
    }

    /// How many bytes from the next block's start on belong to an escape, where a string runs into it.
    pub(crate) fn open_string(&self) -> Option<usize> {
        (self.in_string != 0).then_some(usize::from(self.escaped != 0))
    }
}

/// Bit n is the parity of the bits up to n: turns quotes into the stretches between them.
fn xor_up_to(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

//! The inside of the array, in blocks of 64 bytes.

use wide::u8x16;

use super::{FoundItems, ItemFinderError, is_space, offset};
use crate::json_blocks::{Strings, is_text};

/// The bytes of one block, bit 0 for the first: which of them are what.
struct Block {
    quotes: u64,
    backslashes: u64,
    opens: u64,
    closes: u64,
    /// Below 0x20: never legal inside a string, and outside it only as white space.
    controls: u64,
    spaces: u64,
}

impl Block {
    fn new(bytes: &[u8; 64]) -> Self {
        let mut block = Self {
            quotes: 0,
            backslashes: 0,
            opens: 0,
            closes: 0,
            controls: 0,
            spaces: 0,
        };
        for (index, lane) in bytes.as_chunks::<16>().0.iter().enumerate() {
            let lane = u8x16::new(*lane);
            // `[` and `{`, and `]` and `}`, differ in this one bit.
            let folded = lane | u8x16::splat(0x20);
            let mask = |matches: u8x16| u64::from(matches.to_bitmask()) << (16 * index);
            block.quotes |= mask(lane.simd_eq(u8x16::splat(b'"')));
            block.backslashes |= mask(lane.simd_eq(u8x16::splat(b'\\')));
            block.opens |= mask(folded.simd_eq(u8x16::splat(b'{')));
            block.closes |= mask(folded.simd_eq(u8x16::splat(b'}')));
            block.controls |= mask(lane.min(u8x16::splat(0x1f)).simd_eq(lane));
            block.spaces |= mask(lane.simd_eq(u8x16::splat(b' ')));
        }
        block
    }
}

/// One pass over the inside of the array.
pub(super) struct ArrayScan<'a> {
    document: &'a [u8],
    /// Where the current block begins.
    base: usize,
    strings: Strings,
    /// Brackets open below the array.
    depth: u32,
    /// Where the current item began; only meaningful at a depth above 0.
    item_start: usize,
    /// Where the last item, or the array's `[`, ended.
    item_end: usize,
}

impl<'a> ArrayScan<'a> {
    /// A scan from behind the `[` of the array.
    pub(super) fn new(document: &'a [u8], start: usize) -> Self {
        Self {
            document,
            base: start,
            strings: Strings::default(),
            depth: 0,
            item_start: start,
            item_end: start,
        }
    }

    /// Collects the items and returns the offset after the closing `]`.
    pub(super) fn run(mut self, found: &mut FoundItems) -> Result<usize, ItemFinderError> {
        let inside = self.document.get(self.base..).unwrap_or_default();
        let (blocks, tail) = inside.as_chunks::<64>();
        let mut is_long = false;
        for block in blocks {
            // Most of a large item is in a few long strings: of them, less needs to be known.
            if is_long && is_text(block) {
                self.base += 64;
                continue;
            }
            let block = Block::new(block);
            if let Some(end) = self.block(&block, u64::MAX, found)? {
                return Ok(end);
            }
            self.base += 64;
            is_long = block.quotes == 0 && self.strings.open_string() == Some(0);
        }
        let mut last = [0_u8; 64];
        last[..tail.len()].copy_from_slice(tail);
        let present = (1_u64 << tail.len()) - 1;
        self.block(&Block::new(&last), present, found)?
            .ok_or(ItemFinderError::Truncated {
                bytes: self.document.len(),
            })
    }

    /// Takes one block; `present` masks the bytes that belong to the document.
    fn block(
        &mut self,
        block: &Block,
        present: u64,
        found: &mut FoundItems,
    ) -> Result<Option<usize>, ItemFinderError> {
        let in_string = self.strings.next(block.quotes, block.backslashes);
        let outside = !in_string & present;
        let opens = block.opens & outside;
        let closes = block.closes & outside;
        let end = if closes.count_ones() < self.depth {
            // The item cannot end in here: no need to look where the brackets are.
            self.depth = self.depth + opens.count_ones() - closes.count_ones();
            None
        } else {
            self.brackets(opens, closes, found)?
        };
        // Bytes behind the array's end are the cursor's business.
        let ours = end.map_or(present, |end| {
            let count = end - self.base;
            if count < 64 {
                (1 << count) - 1
            } else {
                u64::MAX
            }
        });
        let controls = block.controls & ours & present;
        if controls != 0 {
            self.refuse_controls(controls, in_string)?;
        }
        found.spaced |= (block.spaces | block.controls) & outside & ours != 0;
        Ok(end)
    }

    /// Walks the brackets of a block one by one. Returns the offset after the array's `]`.
    fn brackets(
        &mut self,
        opens: u64,
        closes: u64,
        found: &mut FoundItems,
    ) -> Result<Option<usize>, ItemFinderError> {
        let mut left = opens | closes;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let at = self.base + bit as usize;
            if opens >> bit & 1 == 1 {
                if self.depth == 0 {
                    self.begin_item(at, found)?;
                }
                self.depth += 1;
            } else if self.depth == 0 {
                self.byte_is(at, b']', "the `]` of the array")?;
                self.gap_is(at, 0)?;
                return Ok(Some(at + 1));
            } else {
                self.depth -= 1;
                if self.depth == 0 {
                    self.byte_is(at, b'}', "the `}` of an item")?;
                    self.item_end = at + 1;
                    found.spans.push((offset(self.item_start), offset(at + 1)));
                }
            }
        }
        Ok(None)
    }

    fn begin_item(&mut self, at: usize, found: &FoundItems) -> Result<(), ItemFinderError> {
        self.byte_is(at, b'{', "the `{` of an item")?;
        self.gap_is(at, usize::from(!found.spans.is_empty()))?;
        self.item_start = at;
        Ok(())
    }

    fn byte_is(&self, at: usize, byte: u8, expected: &'static str) -> Result<(), ItemFinderError> {
        if self.document.get(at) == Some(&byte) {
            Ok(())
        } else {
            Err(ItemFinderError::Unexpected {
                offset: at,
                expected,
            })
        }
    }

    /// Between the last item and `at` there are this many commas, and otherwise only white space.
    fn gap_is(&self, at: usize, commas: usize) -> Result<(), ItemFinderError> {
        let gap = self.document.get(self.item_end..at).unwrap_or_default();
        if gap == b"," && commas == 1 {
            return Ok(());
        }
        let tokens = || gap.iter().filter(|byte| !is_space(**byte));
        if tokens().count() == commas && tokens().all(|byte| *byte == b',') {
            return Ok(());
        }
        Err(ItemFinderError::Unexpected {
            offset: self.item_end,
            expected: "one `,` between two items, or `]`",
        })
    }

    #[cold]
    fn refuse_controls(&self, controls: u64, in_string: u64) -> Result<(), ItemFinderError> {
        let mut left = controls;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let offset = self.base + bit as usize;
            let space = self
                .document
                .get(offset)
                .is_some_and(|byte| is_space(*byte));
            if in_string >> bit & 1 == 1 || !space {
                return Err(ItemFinderError::ControlCharacter { offset });
            }
        }
        Ok(())
    }
}

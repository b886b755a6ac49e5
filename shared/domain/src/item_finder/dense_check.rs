//! Finds the elements of an array in a document that is checked to be JSON on the way, 64 bytes at a time.
//!
//! Where nothing but strings has white space, tokens are neighbours when their bytes are. So nearly all of the grammar
//! can be said of a byte and the one before it, and be asked of 64 bytes at once. Three things cannot: what a bracket
//! closes, whether a comma stands in an object or in a list, and whether a string is a name. Brackets are
//! counted, and looked at one by one where a list begins or ends; names are told apart by an addition, whose
//! carry runs from a name's first byte to its last.
//!
//! It only ever says yes. Whatever it cannot prove to be JSON is left to a parser, which says what is wrong, if
//! anything is.

use wide::u8x16;

use super::FoundItems;
use crate::json_blocks::Strings;

mod nest;
mod words;

use nest::Nest;
use words::{is_escape, scalar_end};

/// Finds the elements of the array `member` as [`find_elements`](super::find_elements) does, in a document that need not be
/// JSON: here that is proved.
///
/// `None` where it takes a parser to tell: white space between tokens, elements that are no objects, another array at the
/// top, anything that is not JSON in UTF-8.
#[must_use]
pub fn find_checked_elements(document: &[u8], member: &str) -> Option<FoundItems> {
    u32::try_from(document.len() + 1).ok()?;
    if document.first() != Some(&b'{') {
        return None;
    }
    let mut check = Check::new(document);
    let (blocks, tail) = document.as_chunks::<64>();
    let mut last = [b' '; 64];
    last[..tail.len()].copy_from_slice(tail);
    // One place that calls: the lanes stay where they were loaded.
    for (index, block) in blocks.iter().chain([&last]).enumerate() {
        let present = if index < blocks.len() {
            u64::MAX
        } else {
            (1 << tail.len()) - 1
        };
        check.block(index * 64, &Lanes::new(block), present)?;
    }
    if check.lowest.reduce_min() < 0x20 {
        return None;
    }
    if check.highest.reduce_max() >= 0x80 {
        std::str::from_utf8(document).ok()?;
    }
    let found = check.nest.found(document.len())?;
    let (start, _) = found.array?;
    is_named(document, start as usize, member).then_some(found)
}

/// Whether what begins at `at` is the value of `member`, whose name is spelled without an escape.
fn is_named(document: &[u8], at: usize, member: &str) -> bool {
    let before = document.get(..at).unwrap_or_default();
    let before = before
        .strip_suffix(b"\":")
        .and_then(|before| before.strip_suffix(member.as_bytes()))
        .and_then(|before| before.strip_suffix(b"\""));
    // Behind a backslash it would be the end of a longer name.
    before.is_some_and(|before| matches!(before.last(), Some(b'{' | b',')))
}

/// The bytes of a block.
struct Lanes([u8x16; 4]);

impl Lanes {
    fn new(block: &[u8; 64]) -> Self {
        let (quarters, _) = block.as_chunks::<16>();
        Self(std::array::from_fn(|index| u8x16::new(quarters[index])))
    }

    /// A bit for each byte that is `byte`, the lowest for the first.
    fn marks(&self, byte: u8) -> u64 {
        let wanted = u8x16::splat(byte);
        let mut marks = 0;
        for (index, lane) in self.0.iter().enumerate() {
            marks |= u64::from(lane.simd_eq(wanted).to_bitmask()) << (16 * index);
        }
        marks
    }

    /// What `with` makes of each byte.
    fn map(&self, with: impl Fn(u8x16) -> u8x16) -> Self {
        Self(self.0.map(with))
    }

    fn fold(&self, from: u8x16, with: impl Fn(u8x16, u8x16) -> u8x16) -> u8x16 {
        self.0.iter().fold(from, |all, lane| with(all, *lane))
    }
}

/// What one block leaves to the next: its masks, of which the highest bit is read.
#[derive(Default)]
struct Before {
    inside: u64,
    scalars: u64,
    opens: u64,
    firsts: u64,
    colons: u64,
    values: u64,
    name_ends: u64,
    /// 1 while a name runs on.
    name: u64,
}

/// Bits for the bytes behind those of `mask`.
fn behind(mask: u64, before: u64) -> u64 {
    mask << 1 | before >> 63
}

/// One pass over a document.
struct Check<'a> {
    document: &'a [u8],
    strings: Strings,
    before: Before,
    nest: Nest,
    /// The lowest bytes so far: no control character may be among them.
    lowest: u8x16,
    /// The highest: where they are all ASCII, they are UTF-8.
    highest: u8x16,
}

impl<'a> Check<'a> {
    fn new(document: &'a [u8]) -> Self {
        let before = Before {
            // A document begins as any value does.
            colons: 1 << 63,
            ..Before::default()
        };
        Self {
            document,
            strings: Strings::default(),
            before,
            nest: Nest::default(),
            lowest: u8x16::splat(u8::MAX),
            highest: u8x16::splat(0),
        }
    }

    /// Takes the block that begins at `at`; `present` masks the bytes that belong to the document.
    fn block(&mut self, at: usize, block: &Lanes, present: u64) -> Option<()> {
        self.lowest = block.fold(self.lowest, u8x16::min);
        self.highest = block.fold(self.highest, u8x16::max);
        let (quotes, backslashes) = (block.marks(b'"'), block.marks(b'\\'));
        if quotes | backslashes == 0 && self.strings.open_string() == Some(0) {
            return Some(());
        }
        let (inside, escaped) = self.strings.next_with_escaped(quotes, backslashes);
        self.each(at, escaped & present, is_escape)?;
        self.tokens(at, block, inside, !inside & present)
    }

    /// Asks every token of a block whether it may stand behind the one before it.
    fn tokens(&mut self, at: usize, block: &Lanes, inside: u64, outside: u64) -> Option<()> {
        let was = &self.before;
        let was_inside = behind(inside, was.inside);
        let (begins, ends) = (inside & !was_inside, outside & was_inside);
        // `[` and `{`, and `]` and `}`, differ in this one bit.
        let bit = u8x16::splat(0x20);
        let folded = block.map(|lane| lane | bit);
        let (opens, closes) = (folded.marks(b'{') & outside, folded.marks(b'}') & outside);
        let squares = (opens | closes) & block.map(|lane| lane & bit).marks(0);
        let (commas, colons) = (block.marks(b',') & outside, block.marks(b':') & outside);
        let scalars = outside & !(ends | opens | closes | commas | colons);
        let words = scalars & !behind(scalars, was.scalars);
        let values = ends | closes | scalars;

        let in_list = self.nest.block(self.document, at, opens, closes, squares)?;
        let first = behind(opens | commas, was.firsts);
        let after_value = behind(values, was.values);
        let names = begins & first & !in_list;
        let (sum, over) = inside.overflowing_add(names);
        let (sum, over_again) = sum.overflowing_add(was.name);
        let name_ends = sum & ends;

        let wrong = (begins | opens | words) & !(first | behind(colons, was.colons))
            | (opens | words) & first & !in_list
            | commas & !after_value
            | closes & !(after_value | behind(opens, was.opens))
            | colons ^ behind(name_ends, was.name_ends);
        if wrong != 0 {
            return None;
        }
        self.before = Before {
            inside,
            scalars,
            opens,
            firsts: opens | commas,
            colons,
            values,
            name_ends,
            name: u64::from(over | over_again),
        };
        self.each(at, words, |rest| {
            let end = scalar_end(rest)?;
            matches!(rest.get(end), Some(b',' | b'}' | b']')).then_some(())
        })
    }

    /// Asks what begins at each of a block's marked bytes.
    fn each(
        &self,
        at: usize,
        mut marks: u64,
        is_right: impl Fn(&[u8]) -> Option<()>,
    ) -> Option<()> {
        while marks != 0 {
            let place = at + marks.trailing_zeros() as usize;
            is_right(self.document.get(place..)?)?;
            marks &= marks - 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;

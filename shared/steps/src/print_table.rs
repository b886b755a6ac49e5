//! Whether a key is among any number of keys, in bounded memory: sorted prints in a temporary file.
//!
//! A Bloom filter says of most keys that they are not there; for the others a sparse index finds the one block of the
//! file that can hold them. The file has no name: whatever ends the process frees it.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use highwater_domain::key_print::KeyPrint;

const PRINT: usize = size_of::<KeyPrint>();

/// The filter has so many bits for each key, unless that is more than it may take.
const BITS_PER_KEY: u64 = 10;

/// 16 MiB.
const MOST_BITS: u64 = 16 << 23;

/// Prints in a block, unless the index would grow too long.
const LEAST_BLOCK: u64 = 256;

/// 8 MiB of them.
const MOST_ENTRIES: u64 = 512 << 10;

/// Takes prints in ascending order.
#[derive(Debug)]
pub(crate) struct PrintTableWriter {
    file: BufWriter<File>,
    table: PrintTable,
    last: Option<KeyPrint>,
}

/// Sorted prints that can be looked up.
#[derive(Debug)]
pub(crate) struct PrintTable {
    file: Mutex<Option<File>>,
    count: u64,
    /// Prints in each block but the last.
    block: u64,
    /// The first print of each block.
    index: Vec<KeyPrint>,
    filter: Vec<u64>,
    /// Bits that a print sets in the filter.
    probes: u64,
}

impl PrintTableWriter {
    /// A table for `expected` prints, about, with its file in `folder`.
    pub(crate) fn new(expected: u64, folder: &Path) -> io::Result<Self> {
        let bits = expected.saturating_mul(BITS_PER_KEY).clamp(64, MOST_BITS);
        // ln 2 bits of each key's share are best: 7 of 10, and 1 where a key has less than a bit and a half.
        let probes = (bits * 7 / (expected.max(1) * 10)).clamp(1, 7);
        let words = usize::try_from(bits.div_ceil(64)).unwrap_or(1);
        Ok(Self {
            file: BufWriter::with_capacity(64 << 10, tempfile::tempfile_in(folder)?),
            table: PrintTable {
                file: Mutex::new(None),
                count: 0,
                block: expected.div_ceil(MOST_ENTRIES).max(LEAST_BLOCK),
                index: Vec::new(),
                filter: vec![0; words],
                probes,
            },
            last: None,
        })
    }

    /// Adds a print. `false`, and nothing is added, if it is not above the one before.
    pub(crate) fn push(&mut self, print: KeyPrint) -> io::Result<bool> {
        if self.last.is_some_and(|last| last >= print) {
            return Ok(false);
        }
        self.last = Some(print);
        let table = &mut self.table;
        if table.count.is_multiple_of(table.block) {
            table.index.push(print);
        }
        table.count += 1;
        for bit in bits_of(&print, table.probes, table.filter.len()) {
            if let Some(word) = table.filter.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        self.file.write_all(&print.0)?;
        Ok(true)
    }

    pub(crate) fn finish(self) -> io::Result<PrintTable> {
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(PrintTable {
            file: Mutex::new(Some(file)),
            ..self.table
        })
    }
}

impl PrintTable {
    /// Whether the print is there.
    pub(crate) fn contains(&self, print: &KeyPrint) -> io::Result<bool> {
        let mut bits = bits_of(print, self.probes, self.filter.len());
        let is_set = |bit: usize| {
            let word = self.filter.get(bit / 64).copied().unwrap_or_default();
            word >> (bit % 64) & 1 == 1
        };
        if self.count == 0 || !bits.all(is_set) {
            return Ok(false);
        }
        let behind = self.index.partition_point(|first| first <= print) as u64;
        let Some(block) = behind.checked_sub(1) else {
            return Ok(false);
        };
        let prints = self.read_block(block)?;
        let (prints, _) = prints.as_chunks::<PRINT>();
        Ok(prints.binary_search(&print.0).is_ok())
    }

    fn read_block(&self, block: u64) -> io::Result<Vec<u8>> {
        let first = block * self.block;
        let length = self.block.min(self.count - first);
        let bytes = usize::try_from(length).map_err(io::Error::other)? * PRINT;
        let mut prints = vec![0; bytes];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = file
            .as_mut()
            .ok_or_else(|| io::Error::other("the table of prints was not finished"))?;
        file.seek(SeekFrom::Start(first * PRINT as u64))?;
        file.read_exact(&mut prints)?;
        Ok(prints)
    }
}

/// The bits of the filter that a print sets. It is a hash already, so that its halves are as good as two hashes.
fn bits_of(print: &KeyPrint, probes: u64, words: usize) -> impl Iterator<Item = usize> + use<> {
    let number = u128::from_be_bytes(print.0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of the print"
    )]
    let (one, other) = (number as u64, (number >> 64) as u64 | 1);
    let bits = (words as u64 * 64).max(1);
    (0..probes).map(move |probe| {
        let bit = one.wrapping_add(probe.wrapping_mul(other)) % bits;
        usize::try_from(bit).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn table(prints: &BTreeSet<KeyPrint>, expected: u64) -> PrintTable {
        let mut writer = PrintTableWriter::new(expected, &std::env::temp_dir()).unwrap();
        for print in prints {
            assert!(writer.push(*print).unwrap());
        }
        writer.finish().unwrap()
    }

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let mut random = fastrand::Rng::with_seed(7);
        for count in [0, 1, 2, 255, 256, 257, 5000] {
            let mut print = || KeyPrint(random.u128(..).to_be_bytes());
            let prints: BTreeSet<KeyPrint> = (0..count).map(|_| print()).collect();
            // Also with a filter that is far too small.
            for expected in [count, 1] {
                let table = table(&prints, expected);
                assert_eq!(table.count, count);
                for print in &prints {
                    assert!(table.contains(print).unwrap());
                }
                for _ in 0..1000 {
                    assert!(!table.contains(&print()).unwrap());
                }
                for edge in [KeyPrint([0; 16]), KeyPrint([255; 16])] {
                    assert!(!table.contains(&edge).unwrap());
                }
            }
        }
    }

    #[test]
    fn most_questions_need_no_file() {
        let mut random = fastrand::Rng::with_seed(8);
        let prints: BTreeSet<KeyPrint> = (0..20_000)
            .map(|_| KeyPrint(random.u128(..).to_be_bytes()))
            .collect();
        let table = table(&prints, 20_000);
        *table.file.lock().unwrap() = None;
        let asked = (0..10_000).map(|_| table.contains(&KeyPrint(random.u128(..).to_be_bytes())));
        let read = asked.filter(Result::is_err).count();
        assert!(read < 300, "{read} of 10000 passed the filter");
    }

    #[test]
    fn memory_is_bounded_whatever_the_number_of_keys() {
        for expected in [1, 1_000_000, 1_000_000_000, u64::MAX / 100] {
            let writer = PrintTableWriter::new(expected, &std::env::temp_dir()).unwrap();
            assert!(writer.table.filter.len() * 8 <= 16 << 20);
            assert!(expected / writer.table.block <= MOST_ENTRIES);
            assert!((1..=7).contains(&writer.table.probes));
        }
    }

    #[test]
    fn disorder_is_told() {
        let mut writer = PrintTableWriter::new(10, &std::env::temp_dir()).unwrap();
        assert!(writer.push(KeyPrint([5; 16])).unwrap());
        assert!(!writer.push(KeyPrint([5; 16])).unwrap());
        assert!(!writer.push(KeyPrint([4; 16])).unwrap());
        assert!(writer.push(KeyPrint([6; 16])).unwrap());
        assert_eq!(writer.finish().unwrap().count, 2);
    }
}

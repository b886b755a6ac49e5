//! Sorts more than fits in memory: the items that have to be looked at twice, by their digests.
//!
//! Items are gathered up to a fixed size, sorted and written to a temporary file, a *run*. As soon as there are too
//! many runs to be read at once they are merged into one. At the end all runs are read side by side. Memory is one
//! run in the making and one buffer per open file. The files have no names: whatever ends the process frees them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write};
use std::path::PathBuf;

use highwater_domain::difference::Side;
use highwater_domain::item_digest::ItemDigest;

/// How much memory sorting takes, and where the rest goes.
#[derive(Clone, Debug)]
pub struct SpillLimits {
    /// The folder for temporary files.
    pub folder: PathBuf,
    /// Bytes that are sorted in memory, about.
    pub run_bytes: usize,
    /// Runs that are merged at once, at least 2.
    pub fan_in: usize,
}

impl SpillLimits {
    /// 32 MiB at a time, 64 files at once.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self {
            folder,
            run_bytes: 32 << 20,
            fan_in: 64,
        }
    }
}

/// The order of items: all of one key come together, and of those all that are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    key: u128,
    item: u128,
    side: Side,
}

/// One item, with its key as DynamoDB JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpilledItem {
    pub(crate) digest: ItemDigest,
    pub(crate) side: Side,
    pub(crate) key: Vec<u8>,
}

impl SpilledItem {
    fn order(&self) -> Order {
        Order {
            key: self.digest.key,
            item: self.digest.item,
            side: self.side,
        }
    }

    /// What it takes in memory.
    fn size(&self) -> usize {
        size_of::<Self>() + self.key.capacity()
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.digest.key.to_be_bytes())?;
        to.write_all(&self.digest.item.to_be_bytes())?;
        to.write_all(&[u8::from(self.side == Side::B)])?;
        let length = u32::try_from(self.key.len()).map_err(io::Error::other)?;
        to.write_all(&length.to_be_bytes())?;
        to.write_all(&self.key)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut digest = [0; 16];
        from.read_exact(&mut digest)?;
        let key_digest = u128::from_be_bytes(digest);
        from.read_exact(&mut digest)?;
        let mut rest = [0; 5];
        from.read_exact(&mut rest)?;
        let [side, length @ ..] = rest;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        let mut key = vec![0; length];
        from.read_exact(&mut key)?;
        Ok(Self {
            digest: ItemDigest {
                key: key_digest,
                item: u128::from_be_bytes(digest),
            },
            side: if side == 1 { Side::B } else { Side::A },
            key,
        })
    }
}

/// Takes items in any order.
#[derive(Debug)]
pub(crate) struct Spill {
    limits: SpillLimits,
    gathered: Vec<SpilledItem>,
    gathered_bytes: usize,
    /// Runs of gathered items, runs of merged runs, and so on.
    levels: Vec<Vec<Run>>,
}

impl Spill {
    pub(crate) fn new(limits: SpillLimits) -> Self {
        Self {
            limits,
            gathered: Vec::new(),
            gathered_bytes: 0,
            levels: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, item: SpilledItem) -> io::Result<()> {
        self.gathered_bytes += item.size();
        self.gathered.push(item);
        if self.gathered_bytes < self.limits.run_bytes {
            return Ok(());
        }
        self.gathered.sort_unstable_by_key(SpilledItem::order);
        self.gathered_bytes = 0;
        let mut file = self.new_file()?;
        for item in self.gathered.drain(..) {
            item.write(&mut file)?;
        }
        self.keep(0, file)
    }

    /// All items in order.
    pub(crate) fn sorted(mut self) -> io::Result<Merge> {
        self.gathered.sort_unstable_by_key(SpilledItem::order);
        let rest = Source::Memory(self.gathered.into_iter());
        let runs = self.levels.into_iter().flatten().map(Source::Run);
        Merge::of(std::iter::once(rest).chain(runs).collect())
    }

    fn new_file(&self) -> io::Result<BufWriter<File>> {
        let file = tempfile::tempfile_in(&self.limits.folder)?;
        Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
    }

    /// Keeps a finished run. So many of one level make one of the next.
    fn keep(&mut self, level: usize, file: BufWriter<File>) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let fan_in = self.limits.fan_in.max(2);
        let Some(runs) = self.levels.get_mut(level) else {
            return Err(io::Error::other("a level of runs is missing"));
        };
        runs.push(Run::of(file)?);
        if runs.len() < fan_in {
            return Ok(());
        }
        let full = std::mem::take(runs);
        let mut merged = self.new_file()?;
        let mut merge = Merge::of(full.into_iter().map(Source::Run).collect())?;
        while let Some(item) = merge.next()? {
            item.write(&mut merged)?;
        }
        self.keep(level + 1, merged)
    }
}

/// Read or written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A file of sorted items.
#[derive(Debug)]
struct Run(BufReader<File>);

impl Run {
    fn of(written: BufWriter<File>) -> io::Result<Self> {
        let mut file = written
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Self(BufReader::with_capacity(BUFFER_BYTES, file)))
    }

    fn next(&mut self) -> io::Result<Option<SpilledItem>> {
        use io::BufRead as _;
        if self.0.fill_buf()?.is_empty() {
            return Ok(None);
        }
        SpilledItem::read(&mut self.0).map(Some)
    }
}

/// Where sorted items come from.
#[derive(Debug)]
enum Source {
    Memory(std::vec::IntoIter<SpilledItem>),
    Run(Run),
}

impl Source {
    fn next(&mut self) -> io::Result<Option<SpilledItem>> {
        match self {
            Self::Memory(items) => Ok(items.next()),
            Self::Run(run) => run.next(),
        }
    }
}

/// Several sorted sources as one.
#[derive(Debug)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// The next item of each source that has one.
    heads: Vec<Option<SpilledItem>>,
    heap: BinaryHeap<Reverse<(Order, usize)>>,
}

impl Merge {
    fn of(sources: Vec<Source>) -> io::Result<Self> {
        let mut merge = Self {
            heads: sources.iter().map(|_| None).collect(),
            heap: BinaryHeap::with_capacity(sources.len()),
            sources,
        };
        for index in 0..merge.sources.len() {
            merge.advance(index)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, index: usize) -> io::Result<()> {
        let (Some(source), Some(head)) = (self.sources.get_mut(index), self.heads.get_mut(index))
        else {
            return Ok(());
        };
        *head = source.next()?;
        if let Some(item) = head {
            self.heap.push(Reverse((item.order(), index)));
        }
        Ok(())
    }

    /// The next item, or `None` after the last.
    pub(crate) fn next(&mut self) -> io::Result<Option<SpilledItem>> {
        let Some(Reverse((_, index))) = self.heap.pop() else {
            return Ok(None);
        };
        let item = self.heads.get_mut(index).and_then(Option::take);
        self.advance(index)?;
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(random: &mut fastrand::Rng) -> SpilledItem {
        SpilledItem {
            digest: ItemDigest {
                // Few, so that keys and items repeat.
                key: random.u128(0..50) << 100,
                item: random.u128(0..3),
            },
            side: if random.bool() { Side::A } else { Side::B },
            key: vec![b'k'; random.usize(0..40)],
        }
    }

    fn limits(run_bytes: usize, fan_in: usize) -> SpillLimits {
        SpillLimits {
            run_bytes,
            fan_in,
            ..SpillLimits::in_folder(std::env::temp_dir())
        }
    }

    /// However little fits in memory, the same items come out in the same order, none lost and none invented.
    #[test]
    fn what_was_pushed_comes_out_in_order() {
        for count in [0, 1, 2, 100, 1000] {
            for (run_bytes, fan_in) in [(1, 2), (1, 3), (500, 2), (3000, 5), (1 << 30, 64)] {
                let mut random = fastrand::Rng::with_seed(count);
                let mut expected: Vec<SpilledItem> =
                    (0..count).map(|_| item(&mut random)).collect();
                let mut spill = Spill::new(limits(run_bytes, fan_in));
                for item in &expected {
                    spill.push(item.clone()).unwrap();
                    assert!(spill.gathered_bytes < run_bytes, "memory is bounded");
                    assert!(spill.levels.iter().all(|runs| runs.len() < fan_in));
                    assert!(spill.levels.len() < 12, "and so are open files");
                }
                let mut merge = spill.sorted().unwrap();
                let mut found = Vec::new();
                while let Some(item) = merge.next().unwrap() {
                    let place = |item: &SpilledItem| (item.digest.key, item.digest.item, item.side);
                    assert!(found.last().is_none_or(|last| place(last) <= place(&item)));
                    found.push(item);
                }
                let whole = |item: &SpilledItem| (item.order(), item.key.clone());
                expected.sort_by_key(whole);
                found.sort_by_key(whole);
                assert_eq!(found, expected, "{count} {run_bytes} {fan_in}");
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let mut spill = Spill::new(SpillLimits {
            folder: PathBuf::from("/no/such/folder"),
            ..limits(1, 2)
        });
        let item = item(&mut fastrand::Rng::with_seed(1));
        let error = spill.push(item).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }
}

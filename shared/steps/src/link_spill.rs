//! Sorts the links of a log's records by key in one temporary file, so that memory does not grow with the log.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use highwater_domain::image_chain::{Follows, ImageChain, LINK_BYTES, Link};

/// Buckets that links are sorted into, by the first bits of their keys' prints.
const BUCKETS: usize = 1024;

/// Links that a bucket gathers before they go to the file.
const GATHERED: usize = 100;

/// Links on their way to an order: gathered by bucket, and kept in one file without a name.
pub(crate) struct LinkSpill {
    file: File,
    end: u64,
    gathered: Vec<Vec<u8>>,
    /// Of each bucket, where its pieces lie in the file and how long they are.
    pieces: Vec<Vec<(u64, usize)>>,
}

/// What the chains say.
pub(crate) struct Found {
    pub(crate) checked: u64,
    pub(crate) keys: u64,
    pub(crate) breaks: Vec<(Link, Link)>,
}

impl LinkSpill {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            end: 0,
            gathered: vec![Vec::new(); BUCKETS],
            pieces: vec![Vec::new(); BUCKETS],
        })
    }

    pub(crate) fn push(&mut self, link: &Link) -> io::Result<()> {
        let [first, second, ..] = link.key.0;
        let bucket = usize::from(u16::from_be_bytes([first, second])) * BUCKETS / (1 << 16);
        let Some(gathered) = self.gathered.get_mut(bucket) else {
            return Err(io::Error::other("a bucket beyond the last"));
        };
        gathered.extend_from_slice(&link.to_bytes());
        if gathered.len() < GATHERED * LINK_BYTES {
            return Ok(());
        }
        let piece = std::mem::take(gathered);
        self.file.write_all(&piece)?;
        if let Some(pieces) = self.pieces.get_mut(bucket) {
            pieces.push((self.end, piece.len()));
        }
        self.end += piece.len() as u64;
        Ok(())
    }

    /// Follows the chains of all keys, bucket by bucket.
    pub(crate) fn breaks(mut self) -> io::Result<Found> {
        let mut found = Found {
            checked: 0,
            keys: 0,
            breaks: Vec::new(),
        };
        let gathered = std::mem::take(&mut self.gathered);
        let pieces = std::mem::take(&mut self.pieces);
        for (mut bytes, pieces) in gathered.into_iter().zip(pieces) {
            for (at, length) in pieces {
                self.file.seek(SeekFrom::Start(at))?;
                let begin = bytes.len();
                bytes.resize(begin + length, 0);
                self.file
                    .read_exact(bytes.get_mut(begin..).unwrap_or_default())?;
            }
            let (links, _) = bytes.as_chunks::<LINK_BYTES>();
            let mut links: Vec<Link> = links.iter().map(Link::from_bytes).collect();
            links.sort_unstable();
            let mut chain = ImageChain::default();
            for link in links {
                match chain.follow(link) {
                    Follows::Again => continue,
                    Follows::First => found.keys += 1,
                    Follows::Holds => {}
                    Follows::Breaks(before) => found.breaks.push((before, link)),
                }
                found.checked += 1;
            }
        }
        Ok(found)
    }
}

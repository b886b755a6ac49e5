//! Byte strings, each with how often it came: by their MD5, so that a large table's fit into memory.

use md5::{Digest as _, Md5};

/// A multiset of byte strings. Two are equal if they hold the same strings equally often.
#[derive(Debug, Default)]
pub struct Multiset {
    digests: Vec<[u8; 16]>,
    bytes: u64,
}

impl Multiset {
    pub fn add(&mut self, bytes: &[u8]) {
        self.digests.push(Md5::digest(bytes).into());
        self.bytes += bytes.len() as u64;
    }

    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// The sum of all lengths.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fails unless both are equal; tells how many strings are in one only.
    #[track_caller]
    pub fn assert_equals(&mut self, other: &mut Self, what: &str) {
        self.digests.sort_unstable();
        other.digests.sort_unstable();
        if self.digests == other.digests {
            return;
        }
        let lacking = |from: &[[u8; 16]], other: &[[u8; 16]]| {
            let absent = from
                .iter()
                .filter(|digest| other.binary_search(digest).is_err());
            absent.count()
        };
        panic!(
            "{what}: {} and {} strings, of which {} and {} are not in the other",
            self.len(),
            other.len(),
            lacking(&self.digests, &other.digests),
            lacking(&other.digests, &self.digests),
        );
    }
}

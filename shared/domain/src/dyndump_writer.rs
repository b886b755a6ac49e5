//! Writes dyndump's layout: its parts, and the account of them that the metadata keeps.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compression as GzipLevel, GzBuilder};
use sha2::{Digest, Sha256};

use crate::dyndump::{
    DyndumpKeys, DyndumpMetadata, HashChain, LAST_PART, PART_ITEM_COUNT, PART_NUMBER, PART_SHA256,
};
use crate::object_store::NewObject;
use crate::snapshot::Status;

/// The user metadata by which a writer knows its own objects again when the answer to a create was lost.
pub const CLAIM: &str = "highwater-claim";

/// As in a snapshot's parts: level 1 leaves base64 as it is, higher ones cost more than they save.
const GZIP_LEVEL: u32 = 2;

/// How often in a part the compressor is made to show what it holds back, as dyndump does.
const FLUSHES_PER_PART: u64 = 10;

/// A part in the making: whole lines, compressed, and the hash of what was compressed.
pub struct DyndumpPart {
    encoder: GzEncoder<Vec<u8>>,
    hash: Sha256,
    part_bytes: u64,
    plain_bytes: u64,
    flushed_at: u64,
    items: u64,
}

impl DyndumpPart {
    /// An empty part that is full at about `part_bytes` stored bytes.
    #[must_use]
    pub fn new(part_bytes: u64) -> Self {
        Self {
            encoder: GzBuilder::new()
                .mtime(0)
                .operating_system(255)
                .write(Vec::new(), GzipLevel::new(GZIP_LEVEL)),
            hash: Sha256::new(),
            part_bytes,
            plain_bytes: 0,
            flushed_at: 0,
            items: 0,
        }
    }

    /// Adds lines until they or the part come to an end, and gives what remains of them.
    ///
    /// `lines` end in a line feed. A part that takes lines takes at least one.
    pub fn push<'a>(&mut self, mut lines: &'a [u8]) -> io::Result<&'a [u8]> {
        while !lines.is_empty() && !self.is_full() {
            let room = (self.flushed_at + self.flush_interval()).saturating_sub(self.plain_bytes);
            let (taken, rest) = lines.split_at(end_of_line_at(lines, room));
            self.encoder.write_all(taken)?;
            self.hash.update(taken);
            self.items += taken
                .iter()
                .map(|byte| u64::from(*byte == b'\n'))
                .sum::<u64>();
            self.plain_bytes += taken.len() as u64;
            if self.plain_bytes - self.flushed_at >= self.flush_interval() {
                self.encoder.flush()?;
                self.flushed_at = self.plain_bytes;
            }
            lines = rest;
        }
        Ok(lines)
    }

    fn flush_interval(&self) -> u64 {
        (self.part_bytes / FLUSHES_PER_PART).max(1)
    }

    /// Whether the part has reached its size.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.encoder.get_ref().len() as u64 >= self.part_bytes
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Ends the part.
    pub fn finish(self) -> io::Result<FinishedDyndumpPart> {
        Ok(FinishedDyndumpPart {
            body: self.encoder.finish()?.into(),
            items: self.items,
            plain_bytes: self.plain_bytes,
            sha256: hex::encode(self.hash.finalize()),
        })
    }
}

/// The end of the line that crosses `room`, or of the last line before it that ends there.
fn end_of_line_at(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
    let Some(tail) = lines.get(room - 1..) else {
        return lines.len();
    };
    match tail.iter().position(|byte| *byte == b'\n') {
        Some(at) => room + at,
        None => lines.len(),
    }
}

/// A part's bytes and what is said of them.
#[derive(Clone, Debug)]
pub struct FinishedDyndumpPart {
    /// The object's bytes.
    pub body: Bytes,
    /// Items inside.
    pub items: u64,
    /// Bytes of the lines.
    pub plain_bytes: u64,
    /// SHA-256 of the lines, hex.
    pub sha256: String,
}

impl FinishedDyndumpPart {
    /// The object that is part `number` of the backup with these keys.
    #[must_use]
    pub fn object(&self, keys: &DyndumpKeys, number: u32, claim: &str) -> NewObject {
        let user_metadata = [
            (PART_SHA256, self.sha256.clone()),
            (PART_ITEM_COUNT, self.items.to_string()),
            (PART_NUMBER, number.to_string()),
            (CLAIM, claim.to_owned()),
        ];
        NewObject {
            key: keys.part(number),
            body: self.body.clone(),
            content_type: "application/json",
            content_encoding: Some("gzip"),
            user_metadata: owned(user_metadata),
            ..NewObject::default()
        }
    }
}

fn owned<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The account of a backup in the making: parts may be done in any order, the metadata is right after each.
#[derive(Clone, Debug)]
pub struct DyndumpLedger {
    metadata: DyndumpMetadata,
    chain: HashChain,
    hashed: u32,
    given: u32,
    /// Hashes of parts that were done before one with a lower number.
    waiting: BTreeMap<u32, String>,
}

impl DyndumpLedger {
    /// The account of a backup that begins: `running`, and nothing in it.
    #[must_use]
    pub fn new(begun: DyndumpMetadata) -> Self {
        let mut ledger = Self {
            metadata: DyndumpMetadata {
                status: Status::Running,
                ..begun
            },
            chain: HashChain::default(),
            hashed: 0,
            given: 0,
            waiting: BTreeMap::new(),
        };
        ledger.show_hash();
        ledger
    }

    /// The number of the next part; `None` if nine digits are used up.
    pub fn next_number(&mut self) -> Option<u32> {
        let next = self.given + 1;
        (next <= LAST_PART).then(|| {
            self.given = next;
            next
        })
    }

    /// Part `number` is stored.
    pub fn stored(&mut self, number: u32, part: &FinishedDyndumpPart) {
        self.metadata.part_count += 1;
        self.metadata.item_count += part.items;
        self.metadata.uncompressed_bytes += part.plain_bytes;
        self.metadata.compressed_bytes += part.body.len() as u64;
        self.waiting.insert(number, part.sha256.clone());
        while let Some(sha256) = self.waiting.remove(&(self.hashed + 1)) {
            self.chain.push(&sha256);
            self.hashed += 1;
        }
        self.show_hash();
    }

    /// The backup is over.
    pub fn end(&mut self, status: Status, at: String) {
        self.metadata.status = status;
        self.metadata.backup_end_time = Some(at);
    }

    fn show_hash(&mut self) {
        self.metadata.hash_sha256 = Some(self.chain.hex());
        self.metadata.last_hashed = Some(u64::from(self.hashed));
    }

    /// What there is to say now.
    #[must_use]
    pub fn metadata(&self) -> &DyndumpMetadata {
        &self.metadata
    }

    /// The same as the object that says it.
    #[must_use]
    pub fn object(&self, keys: &DyndumpKeys, claim: &str) -> NewObject {
        NewObject {
            key: keys.metadata(),
            body: self.metadata.to_json().into(),
            content_type: "application/json",
            user_metadata: owned([(CLAIM, claim.to_owned())]),
            ..NewObject::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes)
            .read_to_end(&mut plain)
            .unwrap();
        plain
    }

    /// A line that does not compress.
    fn noise(seed: u32, length: usize) -> Vec<u8> {
        let mut line = String::new();
        let mut hash = Sha256::digest(seed.to_be_bytes());
        while line.len() < length {
            line.push_str(&hex::encode(hash));
            hash = Sha256::digest(hash);
        }
        line.truncate(length - 1);
        line.push('\n');
        line.into_bytes()
    }

    #[test]
    fn a_part_takes_whole_lines_until_it_is_full() {
        let lines: Vec<u8> = (0..400).flat_map(|seed| noise(seed, 101)).collect();
        let mut rest = lines.as_slice();
        let (mut plain, mut parts) = (Vec::new(), 0);
        while !rest.is_empty() {
            let mut part = DyndumpPart::new(1000);
            rest = part.push(rest).unwrap();
            assert!(part.is_full() || rest.is_empty());
            let part = part.finish().unwrap();
            let text = gunzip(&part.body);
            assert!(text.ends_with(b"\n") && text.len().is_multiple_of(101));
            assert_eq!(part.items, text.len() as u64 / 101);
            assert_eq!(part.plain_bytes, text.len() as u64);
            assert_eq!(part.sha256, hex::encode(Sha256::digest(&text)));
            assert!(part.body.len() < 1300, "{}", part.body.len());
            assert!(rest.is_empty() || part.body.len() >= 1000);
            plain.extend_from_slice(&text);
            parts += 1;
        }
        assert_eq!(plain, lines);
        assert!(parts > 10, "{parts}");
    }

    #[test]
    fn a_line_larger_than_a_part_is_a_part() {
        let lines = [noise(1, 5000), noise(2, 5000)].concat();
        let mut part = DyndumpPart::new(1000);
        assert!(part.is_empty());
        assert_eq!(part.push(&lines).unwrap().len(), 5000);
        assert!(!part.is_empty());
        assert_eq!(
            part.push(b"x\n").unwrap(),
            b"x\n",
            "a full part takes no more"
        );
    }

    #[test]
    fn parts_done_out_of_order_are_hashed_in_order() {
        let part = |text: &str| {
            let mut part = DyndumpPart::new(1 << 20);
            part.push(text.as_bytes()).unwrap();
            part.finish().unwrap()
        };
        let mut ledger = DyndumpLedger::new(DyndumpMetadata::default());
        assert_eq!(ledger.metadata().last_hashed, Some(0));
        let numbers: Vec<u32> = (0..4).filter_map(|_| ledger.next_number()).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        let mut hashed = Vec::new();
        for number in [2, 4, 1, 3] {
            ledger.stored(number, &part(&format!("data{}\n", number - 1)));
            hashed.push(ledger.metadata().last_hashed.unwrap());
        }
        assert_eq!(hashed, [0, 0, 2, 4]);
        ledger.end(Status::Completed, "2026-01-14T10:18:50.622Z".into());
        let metadata = ledger.metadata();
        assert_eq!(
            metadata.hash_sha256.as_deref(),
            Some("129ecb1dee54af9a9cded49636ee2701f871ed3afccb3d3fd9753e8d6f6cccf2")
        );
        assert_eq!(
            (
                metadata.part_count,
                metadata.item_count,
                metadata.uncompressed_bytes
            ),
            (4, 4, 24)
        );
    }
}

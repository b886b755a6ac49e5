//! Holds a whole file of a backup against what the backup says of it, before any of it is used.

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::backup_source::SourceFile;
use crate::item_lines::ItemLines;
use crate::packing::Unpacked;
use crate::part_reader::PartError;

/// Read at a time.
const CHUNK: usize = 64 << 10;

/// Reads `stored`, the file's bytes, to their end.
///
/// Every hash that the backup gives is compared. Where it gives none, nothing but the file itself can vouch for
/// it: it is decompressed, every record is taken apart, and the count is compared if there is one.
pub fn check<R: Read>(stored: R, file: &SourceFile) -> Result<(), PartError> {
    let claims = &file.claims;
    let mut stored = Hashed {
        reader: stored,
        md5: claims.md5.is_some().then(Md5::new),
        sha256: claims.sha256.is_some().then(Sha256::new),
    };
    if let Some(expected) = &claims.plain_sha256 {
        let found = plain_sha256(&mut stored, file)?;
        if !found.eq_ignore_ascii_case(expected) {
            return Err(PartError::PlainHash {
                object: file.object.clone(),
                expected: expected.clone(),
                found,
            });
        }
    } else if claims.has_no_hash() {
        let mut lines = ItemLines::new(stored, file.object.clone(), file.packing, file.shape);
        while lines.next()?.is_some() {}
        return check_count(file, lines.records());
    } else {
        io::copy(&mut stored, &mut io::sink()).map_err(|error| unread(file, &error.to_string()))?;
    }
    stored.compare(file)
}

/// Compares the number of records in a file with what the backup says, if it does.
pub fn check_count(file: &SourceFile, found: u64) -> Result<(), PartError> {
    match file.claims.items {
        Some(expected) if expected != found => Err(PartError::Count {
            object: file.object.clone(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

/// SHA-256 of the file's bytes before compression, hex.
fn plain_sha256<R: Read>(stored: R, file: &SourceFile) -> Result<String, PartError> {
    let mut unpacked = Unpacked::new(stored, file.packing);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = unpacked
            .read(&mut chunk)
            .map_err(|error| unread(file, &error.to_string()))?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(chunk.get(..read).unwrap_or_default());
    }
}

fn unread(file: &SourceFile, reason: &str) -> PartError {
    PartError::Torn {
        object: file.object.clone(),
        line: 0,
        reason: reason.to_owned(),
    }
}

/// A reader that hashes what it gives.
struct Hashed<R> {
    reader: R,
    md5: Option<Md5>,
    sha256: Option<Sha256>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        let bytes = out.get(..read).unwrap_or_default();
        if let Some(hash) = &mut self.md5 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha256 {
            hash.update(bytes);
        }
        Ok(read)
    }
}

impl<R> Hashed<R> {
    fn compare(self, file: &SourceFile) -> Result<(), PartError> {
        let object = || file.object.clone();
        if let (Some(hash), Some(expected)) = (self.md5, &file.claims.md5) {
            let found = BASE64.encode(hash.finalize());
            if found != *expected {
                return Err(PartError::Md5 {
                    object: object(),
                    expected: expected.clone(),
                    found,
                });
            }
        }
        if let (Some(hash), Some(expected)) = (self.sha256, &file.claims.sha256) {
            let found = hex::encode(hash.finalize());
            if !found.eq_ignore_ascii_case(expected) {
                return Err(PartError::Hash {
                    object: object(),
                    expected: expected.clone(),
                    found,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup_source::{FileClaims, LineShape, Packing};
    use crate::digest::{md5_base64, sha256_hex};

    const TEXT: &[u8] = b"{\"a\":{\"S\":\"1\"}}\n{\"a\":{\"S\":\"2\"}}\n";

    fn file(claims: FileClaims) -> SourceFile {
        SourceFile {
            object: "x.json".into(),
            stored_bytes: TEXT.len() as u64,
            packing: Packing::None,
            shape: LineShape::Bare,
            claims,
        }
    }

    #[test]
    fn every_claim_is_compared() {
        let md5 = Some(md5_base64(TEXT));
        let sha256 = Some(sha256_hex(TEXT).to_uppercase());
        let plain_sha256 = sha256.clone();
        let wrong = || Some("wrong".to_owned());
        let whole = FileClaims {
            items: Some(2),
            md5,
            sha256,
            plain_sha256,
        };
        for (claims, outcome) in [
            (whole.clone(), ""),
            (FileClaims::default(), ""),
            (
                FileClaims {
                    md5: wrong(),
                    ..whole.clone()
                },
                "its MD5 is",
            ),
            (
                FileClaims {
                    sha256: wrong(),
                    ..whole.clone()
                },
                "its SHA-256 is",
            ),
            (
                FileClaims {
                    plain_sha256: wrong(),
                    ..whole
                },
                "the lines of x.json",
            ),
            (
                FileClaims {
                    items: Some(3),
                    ..FileClaims::default()
                },
                "x.json holds 2 items where 3",
            ),
        ] {
            let file = file(claims);
            match check(TEXT, &file) {
                Ok(()) => assert_eq!(outcome, "", "{file:?}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!outcome.is_empty() && error.contains(outcome), "{error}");
                }
            }
        }
    }

    #[test]
    fn without_a_hash_every_line_is_read() {
        let torn = [TEXT, b"{\"a\":"].concat();
        let error = check(&torn[..], &file(FileClaims::default())).unwrap_err();
        assert!(matches!(error, PartError::Line { line: 3, .. }), "{error}");
    }
}

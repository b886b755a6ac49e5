//! Reads a part back: checks that it is what its row says, and gives its lines.
//!
//! Objects are untrusted input. Whatever is wrong with one is told with the object and the line.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::digest::sha256_hex;
use crate::snapshot::{Compression, PartRow};

/// What is wrong with an object that should be a part, or another file of a backup.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PartError {
    /// Its size is not the recorded one.
    #[error("{object} has {found} bytes where {expected} were written")]
    Size {
        /// The object.
        object: String,
        /// Bytes by the record.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// Its SHA-256 is not the recorded one.
    #[error("{object} is not what was written: its SHA-256 is {found}, recorded was {expected}")]
    Hash {
        /// The object.
        object: String,
        /// The recorded hash, hex.
        expected: String,
        /// The hash of what is there, hex.
        found: String,
    },
    /// Its MD5 is not the one that the manifest lists.
    #[error("{object} is not what was written: its MD5 is {found}, the manifest says {expected}")]
    Md5 {
        /// The object.
        object: String,
        /// The listed hash, base64.
        expected: String,
        /// The hash of what is there, base64.
        found: String,
    },
    /// The SHA-256 of its lines is not the recorded one.
    #[error(
        "the lines of {object} are not what was written: their SHA-256 is {found}, recorded was {expected}"
    )]
    PlainHash {
        /// The object.
        object: String,
        /// The recorded hash, hex.
        expected: String,
        /// The hash of what is there, hex.
        found: String,
    },
    /// It changed while it was read.
    #[error("{object} was changed by somebody while it was read, near byte {at}")]
    Changed {
        /// The object.
        object: String,
        /// Where the change was noticed, in stored bytes from 0.
        at: u64,
    },
    /// A line, or an object that spans lines, is longer than any item can be.
    #[error("{object} line {line} has more than {limit} bytes, which no item has")]
    TooLong {
        /// The object.
        object: String,
        /// The line, from 1.
        line: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The compressed stream is damaged or ends early.
    #[error("{object} cannot be decompressed after line {line}: {reason}")]
    Torn {
        /// The object.
        object: String,
        /// The last whole line, from 1.
        line: u64,
        /// The decoder's words.
        reason: String,
    },
    /// A line is not `{"Item":{…}}`.
    #[error("{object} line {line} is not an item: {reason}")]
    Line {
        /// The object.
        object: String,
        /// The line, from 1.
        line: u64,
        /// The parser's words.
        reason: String,
    },
    /// It holds another number of items.
    #[error("{object} holds {found} items where {expected} were written")]
    Count {
        /// The object.
        object: String,
        /// Items by the record.
        expected: u64,
        /// Items there.
        found: u64,
    },
}

/// A line of a full export.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(rename = "Item", borrow)]
    item: &'a RawValue,
}

/// What reading a part to its end has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartContents {
    /// Items inside.
    pub items: u64,
    /// Bytes of the lines.
    pub plain_bytes: u64,
    /// The first item's bytes.
    pub first_item: Option<Vec<u8>>,
    /// The last item's bytes.
    pub last_item: Option<Vec<u8>>,
}

/// Checks size and hash of `body` against its row.
pub fn check_body(body: &[u8], row: &PartRow) -> Result<(), PartError> {
    let (object, expected) = (row.object.clone(), row.stored_bytes);
    let found = body.len() as u64;
    if found != expected {
        return Err(PartError::Size {
            object,
            expected,
            found,
        });
    }
    let found = sha256_hex(body);
    if found == row.sha256 {
        Ok(())
    } else {
        Err(PartError::Hash {
            object,
            expected: row.sha256.clone(),
            found,
        })
    }
}

/// Reads every item of a part, in order, as the bytes that DynamoDB sent. Memory is one line.
///
/// The last line may lack its line break. A blank line, or anything that is not an item, is an error.
pub fn read_items(
    body: &[u8],
    object: &str,
    compression: Compression,
    mut each: impl FnMut(&[u8]),
) -> Result<PartContents, PartError> {
    let mut contents = PartContents::default();
    let torn = |line: u64, error: &std::io::Error| PartError::Torn {
        object: object.to_owned(),
        line,
        reason: error.to_string(),
    };
    let mut lines = BufReader::new(decoder(body, compression).map_err(|error| torn(0, &error))?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines
            .read_until(b'\n', &mut line)
            .map_err(|error| torn(contents.items, &error))?;
        if read == 0 {
            return Ok(contents);
        }
        let parsed: Line<'_> = serde_json::from_slice(&line).map_err(|error| PartError::Line {
            object: object.to_owned(),
            line: contents.items + 1,
            reason: error.to_string(),
        })?;
        let item = parsed.item.get().as_bytes();
        each(item);
        contents.items += 1;
        contents.plain_bytes += read as u64;
        contents.first_item.get_or_insert_with(|| item.to_vec());
        let last = contents.last_item.get_or_insert_default();
        last.clear();
        last.extend_from_slice(item);
    }
}

/// Reads every item of a part whose row is known, after checking size and hash, and checks the count at the end.
pub fn read_part(
    body: &[u8],
    row: &PartRow,
    compression: Compression,
    each: impl FnMut(&[u8]),
) -> Result<PartContents, PartError> {
    check_body(body, row)?;
    let contents = read_items(body, &row.object, compression, each)?;
    if contents.items == row.items {
        Ok(contents)
    } else {
        Err(PartError::Count {
            object: row.object.clone(),
            expected: row.items,
            found: contents.items,
        })
    }
}

fn decoder(body: &[u8], compression: Compression) -> std::io::Result<Box<dyn Read + '_>> {
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(body)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::PartWriter;
    use crate::snapshot::PartId;
    use std::io::Write;

    const PLACE: PartId = PartId {
        segment: 0,
        number: 0,
    };

    fn part(compression: Compression) -> (Vec<u8>, PartRow) {
        let mut writer = PartWriter::new(compression, 1 << 20).unwrap();
        for n in 0..100 {
            writer
                .push(format!(r#"{{"id":{{"N":"{n}"}}}}"#).as_bytes())
                .unwrap();
        }
        let body = writer.finish().unwrap();
        (body.body.to_vec(), body.row(PLACE, "data/x".into(), None))
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (body, row) = part(compression);
            let mut items = Vec::new();
            let contents =
                read_part(&body, &row, compression, |item| items.push(item.to_vec())).unwrap();
            assert_eq!(items.len(), 100);
            assert_eq!(
                contents.first_item.as_deref(),
                Some(&br#"{"id":{"N":"0"}}"#[..])
            );
            assert_eq!(contents.last_item, items.last().cloned());
            assert_eq!(
                (contents.items, contents.plain_bytes),
                (row.items, row.plain_bytes)
            );
        }
    }

    #[test]
    fn dd_03_a_last_line_without_a_break_is_one_item_and_a_clean_end() {
        let body = gzip(r#"{"Item":{"k":{"S":"foo"}}}"#);
        let mut items = Vec::new();
        let contents = read_items(&body, "x", Compression::Gzip, |item| {
            items.push(item.to_vec());
        })
        .unwrap();
        assert_eq!(items, [br#"{"k":{"S":"foo"}}"#]);
        assert_eq!(contents.items, 1);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (body, row) = part(Compression::Gzip);
        for index in (0..body.len()).step_by(7) {
            let mut torn = body.clone();
            torn[index] ^= 0x10;
            assert!(matches!(
                read_part(&torn, &row, Compression::Gzip, |_| ()),
                Err(PartError::Hash { .. })
            ));
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (body, row) = part(compression);
            for length in 0..body.len() {
                let cut = &body[..length];
                assert!(matches!(
                    read_part(cut, &row, compression, |_| ()),
                    Err(PartError::Size { .. })
                ));
                let read = read_items(cut, "x", compression, |_| ());
                assert!(
                    read.is_err() || length == 0,
                    "{compression:?} cut at {length} looked whole"
                );
            }
        }
    }

    #[test]
    fn lines_that_are_no_items_are_refused_with_their_number() {
        for (text, line) in [
            ("{\"Item\":{}}\n\n", 2),
            ("{\"Item\":{}}\n{\"item\":{}}\n", 2),
            ("[]", 1),
            ("{\"Item\":{}}\n{\"Item\":{}} x\n", 2),
            ("{\"Item\":{},\"Keys\":{}}\n", 1),
        ] {
            match read_items(&gzip(text), "x", Compression::Gzip, |_| ()) {
                Err(PartError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_wrong_count_is_refused() {
        let (body, row) = part(Compression::Gzip);
        let row = PartRow { items: 99, ..row };
        let error = read_part(&body, &row, Compression::Gzip, |_| ()).unwrap_err();
        assert_eq!(
            error,
            PartError::Count {
                object: "data/x".into(),
                expected: 99,
                found: 100
            }
        );
    }
}

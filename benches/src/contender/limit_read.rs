//! The limit of reading a backup again: received, decompressed, its lines counted.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use highwater_domain::snapshot::Compression;

use super::Sums;
use super::limit::LimitError;
use super::wire::Wire;

/// What a line has beside its item: `{"Item":`, `}` and its end.
const LINE_BYTES: u64 = 10;

/// Reads these objects of a bucket. The sums are of the items in their lines.
pub fn read(endpoint_url: &str, bucket: &str, prefix: &str) -> Result<Sums, LimitError> {
    let mut wire = Wire::connect(endpoint_url)?;
    let (mut sums, mut body) = (Sums::default(), Vec::new());
    wire.get(&format!("/{bucket}?list-type=2&prefix={prefix}"), &mut body)?;
    let listing = String::from_utf8_lossy(&body).into_owned();
    if listing.contains("<IsTruncated>true") {
        return Err(LimitError::Compress(std::io::Error::other(
            "more parts than one listing has",
        )));
    }
    let keys = listing.split("<Key>").skip(1);
    let keys = keys.filter_map(|text| text.split_once("</Key>"));
    for (key, _) in keys {
        wire.get(&format!("/{bucket}/{key}"), &mut body)?;
        sums.stored_bytes += body.len() as u64;
        let (lines, bytes) = if key.ends_with(Compression::Zstd.suffix()) {
            count(zstd::Decoder::with_buffer(&body[..])?)?
        } else {
            count(GzDecoder::new(&body[..]))?
        };
        sums.items += lines;
        sums.bytes += bytes.saturating_sub(LINE_BYTES * lines);
    }
    Ok(sums)
}

/// Lines, and bytes.
fn count(plain: impl Read) -> std::io::Result<(u64, u64)> {
    let mut plain = BufReader::with_capacity(128 << 10, plain);
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let chunk = plain.fill_buf()?;
        if chunk.is_empty() {
            return Ok((lines, bytes));
        }
        let length = chunk.len();
        lines += line_ends(chunk);
        bytes += length as u64;
        plain.consume(length);
    }
}

/// In pieces short enough that the compiler counts them many at a time, in bytes.
fn line_ends(bytes: &[u8]) -> u64 {
    let in_piece = |piece: &[u8]| {
        let ends = piece.iter().map(|byte| u8::from(*byte == b'\n'));
        u64::from(ends.sum::<u8>())
    };
    bytes.chunks(255).map(in_piece).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_counted() {
        let text = "a\n".repeat(1000) + &"\n".repeat(1000) + &"b".repeat(700);
        assert_eq!(line_ends(text.as_bytes()), 2000);
        assert_eq!(count(text.as_bytes()).unwrap(), (2000, 3700));
        assert_eq!(count(&b""[..]).unwrap(), (0, 0));
    }
}

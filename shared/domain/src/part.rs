//! A part: whole items, one per line, compressed into one object.

use std::io::{self, BufWriter, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compression as GzipLevel, GzBuilder};
use md5::{Digest as _, Md5};

use crate::digest::{self, sha256};
use crate::large_buffer::large_buffer;
use crate::snapshot::{Compression, PartId, PartRow};
use crate::zstd_frame::ZstdFrame;

/// What stands before and after the item's own bytes in a line.
const LINE_START: &[u8] = b"{\"Item\":";
const LINE_END: &[u8] = b"}\n";

/// gzip's level 2: level 1 of this encoder leaves base64 as it is, higher ones cost more than they save.
const GZIP_LEVEL: u32 = 2;

/// Small items are gathered before they are compressed: a call of the compressor costs more than one. Larger ones are not
/// copied for that.
const GATHERED: usize = 16 << 10;

/// What a part may exceed its size by: an item and what the compressor held back.
const OVERRUN: u64 = 1 << 20;

/// Collects items into the body of one part.
///
/// One compressed member per part, because ImportTable is not known to take more.
pub struct PartWriter {
    encoder: BufWriter<Encoder>,
    part_bytes: u64,
    plain_bytes: u64,
    flushed_at: u64,
    items: u64,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdFrame),
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(frame) => frame.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(frame) => frame.flush(),
        }
    }
}

impl Encoder {
    fn stored(&self) -> u64 {
        let stored = match self {
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Zstd(frame) => frame.len(),
        };
        stored as u64
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(frame) => frame.finish(),
        }
    }
}

impl PartWriter {
    /// An empty part that is full at about `part_bytes` stored bytes.
    pub fn new(compression: Compression, part_bytes: u64) -> io::Result<Self> {
        Self::within(Vec::new(), compression, part_bytes)
    }

    /// The same, in the room that an earlier part had, if it is enough: its memory is there already.
    pub fn within(
        mut room: Vec<u8>,
        compression: Compression,
        part_bytes: u64,
    ) -> io::Result<Self> {
        let wanted = part_bytes + OVERRUN;
        room.clear();
        let body = if (room.capacity() as u64) < wanted {
            large_buffer(wanted)
        } else {
            room
        };
        let encoder = match compression {
            // The header AWS writes: no name, no time, unknown operating system.
            Compression::Gzip => Encoder::Gzip(
                GzBuilder::new()
                    .mtime(0)
                    .operating_system(255)
                    .write(body, GzipLevel::new(GZIP_LEVEL)),
            ),
            Compression::Zstd => Encoder::Zstd(ZstdFrame::into(body)?),
        };
        let gathered = usize::try_from(part_bytes)
            .unwrap_or(GATHERED)
            .min(GATHERED);
        Ok(Self {
            encoder: BufWriter::with_capacity(gathered, encoder),
            part_bytes,
            plain_bytes: 0,
            flushed_at: 0,
            items: 0,
        })
    }

    /// Adds one item, given as the bytes that DynamoDB sent, and nothing else: no byte of it is re-encoded.
    pub fn push(&mut self, item: &[u8]) -> io::Result<()> {
        self.encoder.write_all(LINE_START)?;
        self.encoder.write_all(item)?;
        self.encoder.write_all(LINE_END)?;
        self.items += 1;
        self.plain_bytes += (LINE_START.len() + item.len() + LINE_END.len()) as u64;
        // A compressor holds back what it has not yet written. Once per part's worth of plain bytes it is
        // made to show it, so that even the smallest parts end where they should.
        if self.plain_bytes - self.flushed_at >= self.part_bytes {
            self.encoder.flush()?;
            self.flushed_at = self.plain_bytes;
        }
        Ok(())
    }

    /// Whether the part has reached its size.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.encoder.get_ref().stored() >= self.part_bytes
    }

    /// Items so far.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Ends the part.
    pub fn finish(self) -> io::Result<PartBody> {
        let (items, plain_bytes) = (self.items, self.plain_bytes);
        let encoder = self
            .encoder
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let body = Bytes::from(encoder.finish()?);
        Ok(PartBody {
            sha256: sha256(&body),
            body,
            items,
            plain_bytes,
        })
    }
}

/// The finished object of a part.
#[derive(Clone, Debug)]
pub struct PartBody {
    /// The object's bytes.
    pub body: Bytes,
    /// Items inside.
    pub items: u64,
    /// Bytes of the lines before compression.
    pub plain_bytes: u64,
    /// SHA-256 of the object's bytes.
    pub sha256: [u8; 32],
}

/// The room of a body that nobody reads any more, empty, for [`PartWriter::within`]. If somebody still does, it has none.
#[must_use]
pub fn room_of(mut body: Bytes) -> Vec<u8> {
    if !body.is_unique() {
        return Vec::new();
    }
    // Or all of it would be moved to where it is.
    body.clear();
    body.into()
}

impl PartBody {
    /// The row that commits this body as part `id` under the name `object`. `md5` is what the store says that the
    /// object's MD5 is; where it says nothing, it is computed.
    #[must_use]
    pub fn row(&self, id: PartId, object: String, md5: Option<[u8; 16]>) -> PartRow {
        PartRow {
            id,
            object,
            items: self.items,
            stored_bytes: self.body.len() as u64,
            plain_bytes: self.plain_bytes,
            md5: BASE64.encode(md5.unwrap_or_else(|| digest::md5(&self.body))),
            sha256: hex::encode(self.sha256),
            first_key: None,
            last_key: None,
        }
    }
}

/// The `etag` that AWS's manifest shows for a file: the hex MD5 of its MD5, and `-1`, as if uploaded in one part.
///
/// `None` if `md5_base64` is not base64.
#[must_use]
pub fn export_etag(md5_base64: &str) -> Option<String> {
    let md5 = BASE64.decode(md5_base64).ok()?;
    Some(format!("{}-1", hex::encode(Md5::digest(md5))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn gunzip(bytes: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn written(compression: Compression, items: &[&str]) -> PartBody {
        let mut part = PartWriter::new(compression, 1 << 20).unwrap();
        for item in items {
            part.push(item.as_bytes()).unwrap();
        }
        part.finish().unwrap()
    }

    /// dyndump's encoder table. Our lines hold DynamoDB's own bytes inside AWS's `{"Item":…}`, so that every
    /// value comes out as it came in; the empty list, map and binary that dyndump lost (its issue 3) do too.
    #[test]
    fn dd_02_every_type_passes_through_byte_for_byte() {
        let items = [
            r#"{"k":{"B":"Zm9v"}}"#,
            r#"{"k":{"BOOL":true}}"#,
            r#"{"k":{"BS":["Zm9v","YmFy"]}}"#,
            r#"{"k":{"L":[{"S":"str"},{"BS":["Zm9v","YmFy"]}]}}"#,
            r#"{"k":{"M":{"key1":{"S":"str"},"key2":{"BS":["Zm9v","YmFy"]}}}}"#,
            r#"{"k":{"N":"123.456"}}"#,
            r#"{"k":{"NS":["123","456"]}}"#,
            r#"{"k":{"NULL":true}}"#,
            r#"{"k":{"S":"foo"}}"#,
            r#"{"k":{"SS":["foo","bar"]}}"#,
            r#"{"k":{"L":[]}}"#,
            r#"{"k":{"M":{}}}"#,
            r#"{"k":{"B":""}}"#,
            r#"{"k":{"S":"<&>\u2028\\"}}"#,
        ];
        let lines: Vec<String> = items
            .iter()
            .map(|item| format!("{{\"Item\":{item}}}\n"))
            .collect();
        let expected = lines.concat();
        assert_eq!(gunzip(&written(Compression::Gzip, &items).body), expected);
        let zstd = written(Compression::Zstd, &items);
        assert_eq!(
            zstd::decode_all(&zstd.body[..]).unwrap(),
            expected.as_bytes()
        );
        assert_eq!((zstd.items, zstd.plain_bytes), (14, expected.len() as u64));
    }

    #[test]
    fn the_gzip_header_is_the_one_aws_writes() {
        let body = written(Compression::Gzip, &["{}"]).body;
        assert_eq!(body[..4], [0x1f, 0x8b, 8, 0]);
        assert_eq!(
            body[4..8],
            [0; 4],
            "no time: the same items make the same bytes"
        );
        assert_eq!(body[9], 0xff);
    }

    #[test]
    fn the_etag_is_that_of_a_one_part_upload() {
        // The file of an empty partition in a real export.
        assert_eq!(
            export_etag("FjvgqIxwymKf1RbbqtrZag==").as_deref(),
            Some("7deb4078f238dd87d6af0538152c04e9-1")
        );
        assert_eq!(
            export_etag("y+zg5fVeudb3R3DOQ+RKgA==").as_deref(),
            Some("b5443265c5e545b6c8d8275e0b6f8c15-1")
        );
    }

    #[test]
    fn a_part_in_the_room_of_another_is_the_same_part() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let fill = |room: Vec<u8>, items: &[&str]| {
                let mut part = PartWriter::within(room, compression, 1 << 20).unwrap();
                for item in items {
                    part.push(item.as_bytes()).unwrap();
                }
                part.finish().unwrap().body
            };
            let first = fill(Vec::new(), &["{\"an\":{\"S\":\"older one\"}}"; 9]);
            let at = first.as_ptr();
            let second = fill(room_of(first), &["{}"]);
            assert_eq!(second.as_ptr(), at, "no other memory");
            assert_eq!(second, fill(Vec::new(), &["{}"]));
            let reader = second.clone();
            assert_eq!(room_of(second).capacity(), 0, "somebody reads it");
            assert_eq!(reader, fill(vec![1; 5], &["{}"]), "too small a room");
        }
    }

    #[test]
    fn small_parts_end_where_they_should() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut part = PartWriter::new(compression, 1000).unwrap();
            let mut pushed = 0_u32;
            while !part.is_full() {
                part.push(
                    format!(
                        r#"{{"id":{{"S":"{}"}}}}"#,
                        digest::sha256_hex(&pushed.to_be_bytes())
                    )
                    .as_bytes(),
                )
                .unwrap();
                pushed += 1;
            }
            let body = part.finish().unwrap();
            assert!(
                (1000..2200).contains(&body.body.len()),
                "{compression:?}: {}",
                body.body.len()
            );
        }
    }
}

//! The limit: what the bytes themselves cost. Received by blocking calls, searched by the product's own item finder,
//! copied into lines, compressed by the product's own compressor; no SDK, no checksum, no upload, no bookkeeping.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use highwater_domain::item_finder::{ItemFinderError, find_items};
use highwater_domain::snapshot::Compression;
use highwater_domain::zstd_frame::ZstdFrame;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::Sums;
use super::wire::{Wire, WireError};

/// The product's own level; a test holds the two together.
const GZIP_LEVEL: u32 = 2;

/// The limit could not be measured.
#[derive(Debug, Error)]
pub enum LimitError {
    /// A request.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A page that is none.
    #[error("a page: {0}")]
    Page(#[from] ItemFinderError),
    /// What stands around a page's items.
    #[error("a page without its items: {0}")]
    Frame(#[from] serde_json::Error),
    /// The compressor.
    #[error("the compressor: {0}")]
    Compress(#[from] io::Error),
}

/// Counts what is written to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter(pub u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses as a part is compressed.
pub enum LineSink<W: Write> {
    /// Not at all.
    Plain(W),
    /// As `--compression gzip`.
    Gzip(GzEncoder<W>),
    /// As `--compression zstd`.
    Zstd(ZstdFrame, W),
}

impl<W: Write> LineSink<W> {
    /// A sink of compressed lines; without a compression the lines themselves.
    pub fn new(compression: Option<Compression>, to: W) -> io::Result<Self> {
        Ok(match compression {
            None => Self::Plain(to),
            Some(Compression::Gzip) => {
                let builder = GzBuilder::new().mtime(0).operating_system(255);
                Self::Gzip(builder.write(to, flate2::Compression::new(GZIP_LEVEL)))
            }
            Some(Compression::Zstd) => Self::Zstd(ZstdFrame::into(Vec::new())?, to),
        })
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(to) => to.write_all(lines),
            Self::Gzip(encoder) => encoder.write_all(lines),
            Self::Zstd(frame, to) => {
                frame.write_all(lines)?;
                to.write_all(frame.written())?;
                frame.written().clear();
                Ok(())
            }
        }
    }

    /// Ends it.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(to) => Ok(to),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(frame, mut to) => {
                to.write_all(&frame.finish()?)?;
                Ok(to)
            }
        }
    }
}

/// Pages of one table, in one segment.
struct Pages<'a> {
    wire: Wire,
    table: &'a str,
    /// The key after which the next page begins, as JSON; `None` behind the last one.
    next: Option<String>,
}

impl<'a> Pages<'a> {
    fn of(endpoint_url: &str, table: &'a str) -> Result<Self, WireError> {
        Ok(Self {
            wire: Wire::connect(endpoint_url)?,
            table,
            next: Some("null".to_owned()),
        })
    }

    /// Reads the next page into `page`; false if there is none.
    fn read(&mut self, page: &mut Vec<u8>) -> Result<bool, WireError> {
        let Some(start) = self.next.take() else {
            return Ok(false);
        };
        let table = self.table;
        let body = format!(r#"{{"TableName":"{table}","ExclusiveStartKey":{start}}}"#);
        self.wire.call("Scan", &body, page)?;
        Ok(true)
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "LastEvaluatedKey")]
    last: Option<Value>,
}

/// Receives a table, and does nothing with it: what the connection costs, and how fast the server is.
pub fn receive(endpoint_url: &str, table: &str) -> Result<Sums, LimitError> {
    const NAME: &[u8] = br#""LastEvaluatedKey":"#;
    // The key stands behind the items, with little after it.
    const TAIL_BYTES: usize = 600;
    let mut pages = Pages::of(endpoint_url, table)?;
    let (mut sums, mut page) = (Sums::default(), Vec::new());
    while pages.read(&mut page)? {
        sums.bytes += page.len() as u64;
        let tail = page.get(page.len().saturating_sub(TAIL_BYTES)..);
        let tail = tail.unwrap_or(&page);
        let at = tail.windows(NAME.len()).rposition(|bytes| bytes == NAME);
        let key = at.and_then(|at| tail.get(at + NAME.len()..));
        let mut key = serde_json::Deserializer::from_slice(key.unwrap_or_default()).into_iter();
        pages.next = key.next().transpose()?.map(|key: Value| key.to_string());
    }
    Ok(sums)
}

/// Exports a table into `sink`. The sums are of the items; the stored bytes are the sink's to tell.
pub fn export<W: Write>(
    endpoint_url: &str,
    table: &str,
    sink: &mut LineSink<W>,
) -> Result<Sums, LimitError> {
    let mut pages = Pages::of(endpoint_url, table)?;
    let (mut sums, mut page, mut lines) = (Sums::default(), Vec::new(), Vec::new());
    while pages.read(&mut page)? {
        let found = find_items(&page)?;
        let frame: Frame = serde_json::from_slice(&found.document_without_items(&page))?;
        pages.next = frame.last.map(|key| key.to_string());
        let mut document = Bytes::from(page);
        let items = found.into_raw_items(document.clone());
        lines.clear();
        for item in items.iter() {
            lines.extend_from_slice(b"{\"Item\":");
            lines.extend_from_slice(item);
            lines.extend_from_slice(b"}\n");
            sums.bytes += item.len() as u64;
        }
        sums.items += items.len() as u64;
        sink.write_all(&lines)?;
        // The page's own room again for the next page, and not a byte copied.
        drop(items);
        document.clear();
        page = document.into();
    }
    Ok(sums)
}

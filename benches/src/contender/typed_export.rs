//! The usual way to export a table: the SDK's paginator, its types, `serde_json`, gzip. What it makes is discarded.

use std::io::{self, Write};

use aws_sdk_dynamodb::Client;
use flate2::write::GzEncoder;
use thiserror::Error;

use super::Sums;
use super::limit::Counter;
use super::miniz_gzip::MinizGzip;
use super::typed_item::{TypedItemError, to_json};

/// Which gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GzipBy {
    /// `miniz_oxide` at level 6: what `flate2` has unless a project chooses.
    Miniz,
    /// zlib-rs at level 6.
    ZlibRs,
}

/// An export by types failed.
#[derive(Debug, Error)]
pub enum TypedExportError {
    /// A page did not come.
    #[error("a scan failed: {0}")]
    Scan(Box<dyn std::error::Error + Send + Sync>),
    /// An item has a value that is not known.
    #[error(transparent)]
    Item(#[from] TypedItemError),
    /// An item makes no JSON.
    #[error("an item: {0}")]
    Json(#[from] serde_json::Error),
    /// The compressor.
    #[error("the compressor: {0}")]
    Compress(#[from] io::Error),
}

/// Exports a table, and tells what it came to.
pub async fn export(client: &Client, table: &str, by: GzipBy) -> Result<Sums, TypedExportError> {
    match by {
        GzipBy::Miniz => {
            let mut gzip = MinizGzip::new(Counter::default())?;
            let sums = scan(client, table, &mut gzip).await?;
            let stored_bytes = gzip.finish()?.0;
            Ok(Sums {
                stored_bytes,
                ..sums
            })
        }
        GzipBy::ZlibRs => {
            let mut gzip = GzEncoder::new(Counter::default(), flate2::Compression::new(6));
            let sums = scan(client, table, &mut gzip).await?;
            let stored_bytes = gzip.finish()?.0;
            Ok(Sums {
                stored_bytes,
                ..sums
            })
        }
    }
}

async fn scan(client: &Client, table: &str, to: &mut impl Write) -> Result<Sums, TypedExportError> {
    let mut pages = client.scan().table_name(table).into_paginator().send();
    let (mut sums, mut lines) = (Sums::default(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| TypedExportError::Scan(error.into()))?;
        lines.clear();
        for item in page.items() {
            let start = lines.len();
            serde_json::to_writer(&mut lines, &to_json(item)?)?;
            sums.bytes += (lines.len() - start) as u64;
            lines.push(b'\n');
            sums.items += 1;
        }
        to.write_all(&lines)?;
    }
    Ok(sums)
}

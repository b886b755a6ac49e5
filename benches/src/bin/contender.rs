//! One contender, as a process that does nothing else: the program `compare` runs and measures it.
//!
//! On success it prints what it has come to, as one line of JSON.

use std::error::Error;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use highwater_aws::{Clients, ConnectionSettings};
use highwater_benches::consume;
use highwater_benches::contender::limit::{self, Counter, LineSink};
use highwater_benches::contender::record_log::{self, Made};
use highwater_benches::contender::typed_export::{self, GzipBy};
use highwater_benches::contender::{Sums, event_log, limit_read, typed_restore};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::snapshot::Compression;

type Failed = Box<dyn Error>;

/// Runs one contender against a replay server.
#[derive(Debug, Parser)]
struct Args {
    /// The server, `http://127.0.0.1:PORT`.
    endpoint_url: String,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Receives all pages of a table and does nothing with them.
    Receive { table: String },
    /// The limit of an export: receive, find, copy, compress.
    Limit {
        table: String,
        /// gzip, zstd or none.
        compression: String,
    },
    /// The limit of reading a backup: receive, decompress, count lines.
    LimitRead { bucket: String, prefix: String },
    /// An export by the SDK's types, `serde_json` and gzip at level 6.
    TypedExport {
        table: String,
        /// gzip by zlib-rs instead of `miniz_oxide`.
        #[arg(long)]
        zlib_rs: bool,
    },
    /// A restore of parts by `serde_json` and the SDK's types.
    TypedRestore {
        bucket: String,
        prefix: String,
        table: String,
    },
    /// The first events of a folder into lines, as the product does it.
    EventLines { folder: PathBuf, count: usize },
    /// The same by typed events.
    TypedEventLines { folder: PathBuf, count: usize },
    /// Compresses the first events of a folder.
    PackEvents { folder: PathBuf, count: usize },
    /// The first events of a folder into a bucket, by the product's step.
    EventLog {
        folder: PathBuf,
        count: usize,
        bucket: String,
    },
    /// The same by typed events.
    TypedEventLog {
        folder: PathBuf,
        count: usize,
        bucket: String,
    },
    /// A stream's records into lines, as the product does it.
    Records {
        stream_arn: String,
        /// Compress the lines.
        #[arg(long)]
        bodies: bool,
        /// By the SDK's types.
        #[arg(long)]
        typed: bool,
    },
}

fn main() -> Result<(), Failed> {
    let Args { endpoint_url, kind } = Args::parse();
    let sums = match blocking(&endpoint_url, &kind)? {
        Some(sums) => sums,
        // What needs no SDK needs no runtime, either.
        None => tokio::runtime::Runtime::new()?.block_on(run(&endpoint_url, kind))?,
    };
    writeln!(stdout(), "{}", serde_json::to_string(&sums)?)?;
    Ok(())
}

/// Runs what is done by blocking calls; `None` for everything else.
fn blocking(endpoint_url: &str, kind: &Kind) -> Result<Option<Sums>, Failed> {
    let events = |folder, count: &usize| consume::events(folder, *count);
    let kept = |folder| event_log::kept(&consume::events(folder, usize::MAX)?);
    Ok(Some(match kind {
        Kind::Receive { table } => limit::receive(endpoint_url, table)?,
        Kind::Limit { table, compression } => {
            let compression = self::compression(compression)?;
            let mut sink = LineSink::new(compression, Counter::default())?;
            let sums = limit::export(endpoint_url, table, &mut sink)?;
            let stored_bytes = sink.finish()?.0;
            Sums {
                stored_bytes,
                ..sums
            }
        }
        Kind::LimitRead { bucket, prefix } => limit_read::read(endpoint_url, bucket, prefix)?,
        Kind::EventLines { folder, count } => event_log::own_lines(&kept(folder)?, *count, |_| ())?,
        Kind::TypedEventLines { folder, count } => {
            event_log::typed_lines(&kept(folder)?, *count, |_| ())?
        }
        Kind::PackEvents { folder, count } => consume::pack_events(&events(folder, count)?)?,
        _ => return Ok(None),
    }))
}

async fn run(endpoint_url: &str, kind: Kind) -> Result<Sums, Failed> {
    let clients = connect(endpoint_url).await?;
    Ok(match kind {
        Kind::TypedExport { table, zlib_rs } => {
            let by = if zlib_rs {
                GzipBy::ZlibRs
            } else {
                GzipBy::Miniz
            };
            typed_export::export(&clients.dynamodb(), &table, by).await?
        }
        Kind::TypedRestore {
            bucket,
            prefix,
            table,
        } => {
            let store: Arc<dyn ObjectStore> = Arc::new(clients.s3_store(bucket));
            typed_restore::restore(&clients.dynamodb(), &store, &prefix, &table).await?
        }
        Kind::EventLog {
            folder,
            count,
            bucket,
        } => {
            let events = consume::events(&folder, count)?;
            consume::consume_events(&events, endpoint_url, &format!("s3://{bucket}")).await?
        }
        Kind::TypedEventLog {
            folder,
            count,
            bucket,
        } => {
            let events = consume::events(&folder, count)?;
            event_log::typed_log(&events, &clients.s3_store(bucket), "log/").await?
        }
        Kind::Records {
            stream_arn,
            bodies,
            typed,
        } => {
            let made = if bodies { Made::Bodies } else { Made::Lines };
            if typed {
                let client = record_log::typed_client(&clients, endpoint_url);
                record_log::typed(&client, &stream_arn, made, |_| ()).await?
            } else {
                // A task, as every step of a function is.
                let source = clients.stream_source();
                let own = async move { record_log::own(&source, &stream_arn, made, |_| ()).await };
                tokio::spawn(own).await??
            }
        }
        other => return Err(format!("{other:?} needs no runtime").into()),
    })
}

fn compression(text: &str) -> Result<Option<Compression>, String> {
    match text {
        "none" => Ok(None),
        "gzip" => Ok(Some(Compression::Gzip)),
        "zstd" => Ok(Some(Compression::Zstd)),
        other => Err(format!("{other:?} is no compression: gzip, zstd or none")),
    }
}

/// The SDK's clients for this server: the same connections and time-outs that the product has.
async fn connect(endpoint_url: &str) -> Result<Clients, Failed> {
    let settings = ConnectionSettings {
        region: Some("us-east-1".into()),
        endpoint_url: Some(endpoint_url.to_owned()),
        ..ConnectionSettings::default()
    };
    Ok(Clients::connect(&settings).await?)
}

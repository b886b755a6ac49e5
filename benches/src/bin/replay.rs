//! Serves the replayed tables until it is stopped: `small`, `medium` and `large`.

use std::error::Error;
use std::io::{Write as _, stdout};

use clap::Parser;
use highwater_benches::data_set::DataSet;
use highwater_benches::dynamodb::Tables;
use highwater_benches::s3::Sink;
use highwater_benches::server::ReplayServer;
use highwater_benches::size;
use highwater_benches::table::ReplayTable;

/// A DynamoDB and an S3 on one loopback port, never the bottleneck: tables small, medium and large, any bucket.
#[derive(Debug, Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8600)]
    port: u16,
    /// Bytes of items on the wire, for each table: 200MB, 2GB.
    #[arg(long, default_value = "2GB", value_parser = size::parse)]
    size: u64,
    /// Keep uploads in memory, so that backups can be read again.
    #[arg(long)]
    keep: bool,
    /// So many percent of the writes in batches come back unprocessed.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=90))]
    unprocessed: u8,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut tables = Vec::new();
    for set in DataSet::ALL {
        let table = ReplayTable::new(set, args.size)?;
        let (items, pages) = (table.items(), table.pages());
        writeln!(stdout(), "{set}: {items} items on {pages} pages")?;
        tables.push(table);
    }
    let sink = if args.keep {
        Sink::keeping()
    } else {
        Sink::dropping()
    };
    let tables = Tables::new(tables).with_unprocessed(args.unprocessed);
    let server = ReplayServer::over(args.port, tables, sink).await?;
    writeln!(stdout(), "{}", server.endpoint_url())?;
    tokio::signal::ctrl_c().await?;
    let (sent, taken) = (server.served(), server.stored_below("", ""));
    writeln!(
        stdout(),
        "served {} items on {} pages, {} bytes; stored {} objects, {} bytes",
        sent.items,
        sent.pages,
        sent.wire_bytes,
        taken.objects,
        taken.bytes,
    )?;
    Ok(())
}

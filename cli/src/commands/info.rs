//! `highwater info`.

use highwater_domain::dyndump::DyndumpMetadata;
use highwater_domain::ids::SnapshotId;
use highwater_domain::metadata::Metadata;
use highwater_domain::snapshot::Status;
use highwater_steps::{dyndump_info, snapshot_info};

use crate::args::{Global, Info};
use crate::connect::{self, Absent};
use crate::console::Console;
use crate::dyndump_store;
use crate::error::CliError;
use crate::handoff_line;

/// Shows one backup; one that is being made with its counts of this moment, where the control table is at hand.
pub async fn run(args: &Info, global: &Global, console: Console) -> Result<(), CliError> {
    if let Some((store, keys)) = dyndump_store::of(args, global).await? {
        let metadata = dyndump_info::run(store.as_ref(), &keys).await?;
        console.result(&dyndump_lines(&metadata), &metadata);
        return Ok(());
    }
    let (id, from) = args.of_highwater()?;
    let store = connect::store(global, from).await?;
    let table = args
        .table
        .as_ref()
        .map(highwater_domain::ids::TableRef::name);
    let layout = snapshot_info::find(store.as_ref(), from.prefix(), table, id).await?;
    let mut metadata = snapshot_info::metadata(store.as_ref(), &layout, id).await?;
    if metadata.status == Status::Running {
        match live(id, global, console, store.as_ref(), &layout).await {
            Ok(live) => metadata = live,
            Err(error) => console.say(&format!(
                "counts as of the start, the checkpoints cannot be read: {error}"
            )),
        }
    }
    console.result(&lines(&metadata), &metadata);
    Ok(())
}

async fn live(
    id: &SnapshotId,
    global: &Global,
    console: Console,
    store: &dyn highwater_domain::object_store::ObjectStore,
    layout: &highwater_domain::layout::Layout,
) -> Result<Metadata, CliError> {
    let control = connect::control(global, console, Absent::Leave).await?;
    Ok(snapshot_info::run(store, layout, id, Some(control.table.as_ref())).await?)
}

/// What dyndump's `info` printed, and the hash that its last generation kept. Values stand as they are: dyndump
/// escaped them for HTML.
fn dyndump_lines(metadata: &DyndumpMetadata) -> String {
    let mut lines = vec![
        format!("Table Name...........: {}", metadata.table_name),
        format!("Table ARN............: {}", metadata.table_arn),
        format!("Status ..............: {}", metadata.status.as_str()),
        format!("Backup Type .........: {}", metadata.backup_type),
        format!("Backup Start Time ...: {}", metadata.backup_start_time),
        format!(
            "Backup End Time .....: {}",
            metadata.backup_end_time.as_deref().unwrap_or("-")
        ),
        format!("Compressed (bytes) ..: {}", metadata.compressed_bytes),
        format!("Uncompressed (bytes) : {}", metadata.uncompressed_bytes),
        format!("Item Count ..........: {}", metadata.item_count),
        format!("Part Count ..........: {}", metadata.part_count),
    ];
    if let Some(hash) = &metadata.hash_sha256 {
        lines.push(format!("Hash (SHA-256) ......: {hash}"));
    }
    lines.join("\n")
}

/// dyndump's ten lines under its names, and ours after them.
fn lines(metadata: &Metadata) -> String {
    let mut lines = vec![
        format!("Table Name...........: {}", metadata.table_name),
        format!("Table ARN............: {}", metadata.table_arn),
        format!("Status ..............: {}", metadata.status.as_str()),
        format!("Backup Type .........: {}", metadata.backup_type),
        format!("Backup Start Time ...: {}", metadata.backup_start_time),
        format!(
            "Backup End Time .....: {}",
            metadata.backup_end_time.as_deref().unwrap_or("-")
        ),
        format!("Compressed (bytes) ..: {}", metadata.compressed_bytes),
        format!("Uncompressed (bytes) : {}", metadata.uncompressed_bytes),
        format!("Item Count ..........: {}", metadata.item_count),
        format!("Part Count ..........: {}", metadata.part_count),
        format!("Segments ............: {}", metadata.total_segments),
        format!(
            "Read Consistency ....: {}",
            if metadata.consistent {
                "strong"
            } else {
                "eventual"
            }
        ),
        format!(
            "Read Units Consumed .: {:.1}",
            metadata.scan.consumed_capacity
        ),
        format!("Throttled Requests ..: {}", metadata.scan.throttles),
    ];
    lines.push(handoff_line::of(metadata));
    if let Some(filter) = &metadata.selection.filter {
        lines.push(format!("Filter ..............: {filter}"));
    }
    if let Some(projection) = &metadata.selection.projection {
        lines.push(format!("Projection ..........: {projection}"));
    }
    if let Some(error) = &metadata.error {
        lines.push(format!("Error ...............: {error}"));
    }
    lines.join("\n")
}

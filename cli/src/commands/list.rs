//! `highwater list`.

use highwater_steps::list_snapshots::{self, Listed};

use crate::args::{Global, List};
use crate::connect;
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count};

/// Lists the backups at a place.
pub async fn run(args: &List, global: &Global, console: Console) -> Result<(), CliError> {
    let store = connect::store(global, &args.from).await?;
    let table = args
        .table
        .as_ref()
        .map(highwater_domain::ids::TableRef::name);
    let listed = list_snapshots::run(store.as_ref(), args.from.prefix(), table).await?;
    if listed.is_empty() {
        console.say(&format!("no backups at {}", args.from));
    }
    console.result(&table_of(&listed), &listed);
    Ok(())
}

fn table_of(listed: &[Listed]) -> String {
    let header = ["ID", "TABLE", "STATUS", "STARTED", "ITEMS", "SIZE"].map(str::to_owned);
    let rows = listed.iter().map(row);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

fn row(one: &Listed) -> [String; 6] {
    let (id, table) = (one.snapshot_id.to_string(), one.table.clone());
    let Some(metadata) = &one.metadata else {
        let [unknown, none] = ["no metadata", "-"].map(str::to_owned);
        return [id, table, unknown, none.clone(), none.clone(), none];
    };
    [
        id,
        table,
        metadata.status.as_str().to_owned(),
        metadata.backup_start_time.clone(),
        count(metadata.item_count),
        bytes(metadata.compressed_bytes),
    ]
}

//! `highwater delete`.

mod dyndump;

use highwater_domain::budget::Clock as _;
use highwater_domain::ids::SnapshotId;
use highwater_lambda::SystemClock;
use highwater_steps::delete_snapshot::{self, Deletion};
use highwater_steps::snapshot_info;
use serde_json::json;

use crate::args::{Delete, Global};
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::dyndump_store;
use crate::error::CliError;
use crate::format::{bytes, count};
use crate::job_log::JobLog;

/// Deletes a backup, after asking.
pub async fn run(args: &Delete, global: &Global, console: Console) -> Result<(), CliError> {
    let console = if args.talk.silent {
        console.silenced()
    } else {
        console
    };
    let which = &args.which;
    if let Some((store, keys)) = dyndump_store::of(which, global).await? {
        return dyndump::run(args, store.as_ref(), &keys, console).await;
    }
    let log = JobLog::open(args.talk.log_to.as_deref(), &args.talk.log_timestamp)?;
    let outcome = snapshot(args, global, console, &log).await;
    match &outcome {
        Ok(()) => log.line("Delete completed OK"),
        Err(error) => log.line(&format!("Delete failed error={error}")),
    }
    outcome
}

/// Deletes one of Highwater's own backups.
async fn snapshot(
    args: &Delete,
    global: &Global,
    console: Console,
    log: &JobLog,
) -> Result<(), CliError> {
    let which = &args.which;
    let (id, from) = which.of_highwater()?;
    let store = connect::store(global, from).await?;
    let table = which
        .table
        .as_ref()
        .map(highwater_domain::ids::TableRef::name);
    let layout = snapshot_info::find(store.as_ref(), from.prefix(), table, id).await?;
    let deletion =
        delete_snapshot::plan(store.as_ref(), &layout, id, args.force || args.dry_run).await?;
    let place = store.url(layout.root());
    let question = describe(&deletion, &place);
    if args.dry_run {
        let value = json!({"dry_run": true, "url": place, "parts": deletion.parts, "left_alone": deletion.left_alone});
        console.result(
            &format!("{question}\nnothing was deleted (--dry-run)"),
            &value,
        );
        return Ok(());
    }
    if !args.force {
        confirm(console, &question)?;
    }
    log.line(&format!(
        "Beginning delete prefix={place} parts={}",
        deletion.parts.len()
    ));
    for stray in &deletion.left_alone {
        console.say(&format!(
            "{} is no part of the backup and stays",
            store.url(stray)
        ));
    }
    let control = rows(id, global, console).await;
    let control = control.as_ref().map(|control| control.table.as_ref());
    let parts = count(deletion.parts.len() as u64);
    let progress = |gone: usize| {
        if !args.talk.no_progress {
            console.say(&format!("{} of {parts} parts deleted", count(gone as u64)));
        }
    };
    let now = SystemClock.now();
    delete_snapshot::run(store.as_ref(), &layout, control, &deletion, now, progress).await?;
    let value = json!({"deleted": id, "url": place, "parts": deletion.parts.len()});
    console.result(
        &format!("Deleted {} parts from {place}", deletion.parts.len()),
        &value,
    );
    Ok(())
}

fn describe(deletion: &Deletion, place: &str) -> String {
    let metadata = &deletion.metadata;
    format!(
        "Delete backup of table {} from {place}\n  {}, {} items, {} parts, {}",
        metadata.table_name,
        metadata.status.as_str(),
        count(metadata.item_count),
        count(deletion.parts.len() as u64),
        bytes(metadata.compressed_bytes),
    )
}

fn confirm(console: Console, question: &str) -> Result<(), CliError> {
    match console.confirm(&format!(
        "{question}\nAre you sure you wish to delete the above backup?"
    )) {
        Some(true) => Ok(()),
        Some(false) => Err(CliError::NotConfirmed("nothing was deleted")),
        None => Err(CliError::NotConfirmed(
            "nothing was deleted: there is no terminal to ask on",
        )),
    }
}

/// The backup's checkpoints, where they are within reach. Whoever deletes may have the bucket only; rows
/// that stay behind cost little and harm nobody.
async fn rows(id: &SnapshotId, global: &Global, console: Console) -> Option<Control> {
    let leftover = |reason: String| {
        console.say(&format!("its checkpoints, if any, stay: {reason}"));
    };
    match connect::control(global, console, Absent::Leave).await {
        Err(error) => {
            leftover(error.to_string());
            None
        }
        Ok(control) => match control.table.snapshot(id).await {
            Ok(_) => Some(control),
            Err(failure) => {
                leftover(failure.to_string());
                None
            }
        },
    }
}

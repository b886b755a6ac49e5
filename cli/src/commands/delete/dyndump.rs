//! The deletion of a dyndump backup.

use highwater_domain::dyndump::DyndumpKeys;
use highwater_domain::object_store::ObjectStore;
use highwater_steps::StopFlag;
use highwater_steps::delete_dyndump::{self, DeleteOptions, DyndumpDeletion};
use serde_json::json;

use super::confirm;
use crate::args::Delete;
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count};
use crate::job_log::JobLog;
use crate::signals::{Received, Signals};

/// Deletes a dyndump backup, after asking.
pub async fn run(
    args: &Delete,
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
    console: Console,
) -> Result<(), CliError> {
    let place = store.url(keys.prefix());
    let options = DeleteOptions {
        force: args.force || args.dry_run,
        force_orphans: args.force_orphans,
    };
    let deletion = delete_dyndump::plan(store, keys, options).await?;
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
    for stray in &deletion.left_alone {
        console.say(&format!(
            "{} is no part of the backup and stays",
            store.url(stray)
        ));
    }
    let log = JobLog::open(args.talk.log_to.as_deref(), &args.talk.log_timestamp)?;
    let begin = format!(
        "Beginning s3 delete prefix={place} parts={}",
        deletion.parts
    );
    console.say(&begin);
    log.line(&begin);
    let outcome = delete(args, store, keys, deletion.parts, &log, console).await;
    match &outcome {
        Ok(()) => log.line(&format!("Delete completed OK prefix={place}")),
        Err(CliError::Signal { .. }) => log.line("Aborted"),
        Err(error) => log.line(&format!("Delete failed prefix={place} error={error}")),
    }
    outcome?;
    let value = json!({"deleted": place, "parts": deletion.parts});
    console.result(
        &format!("Deleted {} parts from {place}", deletion.parts),
        &value,
    );
    Ok(())
}

async fn delete(
    args: &Delete,
    store: &dyn ObjectStore,
    keys: &DyndumpKeys,
    parts: u64,
    log: &JobLog,
    console: Console,
) -> Result<(), CliError> {
    // From now on a signal stops it between two requests, and the metadata stays.
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let progress = |gone: u64| {
        if !args.talk.no_progress {
            console.say(&format!(
                "{} of {} parts deleted",
                count(gone),
                count(parts)
            ));
        }
    };
    let mut deleting = Box::pin(delete_dyndump::run(store, keys, &stop, progress));
    let whole = loop {
        tokio::select! {
            whole = &mut deleting => break whole?,
            signal = signals.next() => match signal {
                None => log.line("Abort request received"),
                Some(again) => return Err(stopped_by(again)),
            },
        }
    };
    if !whole {
        let first = signals.received();
        return Err(stopped_by(first.unwrap_or(Received {
            name: "a signal",
            code: 1,
        })));
    }
    Ok(())
}

fn stopped_by(signal: Received) -> CliError {
    CliError::Signal {
        name: signal.name,
        code: signal.code,
        job: None,
    }
}

fn describe(deletion: &DyndumpDeletion, place: &str) -> String {
    match &deletion.metadata {
        Some(metadata) => format!(
            "Delete backup of table {} from {place}\n  {}, {} items, {} parts, {}",
            metadata.table_name,
            metadata.status.as_str(),
            count(metadata.item_count),
            count(deletion.parts),
            bytes(metadata.compressed_bytes),
        ),
        None => format!(
            "Delete {} parts of a backup without readable metadata from {place}",
            count(deletion.parts)
        ),
    }
}

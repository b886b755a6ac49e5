//! `highwater verify`.

mod log;

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use highwater_steps::verify_backup::{self, VerifyReport, VerifyTotals};
use highwater_steps::{StepError, StopFlag};
use serde_json::json;

use crate::args::Global;
use crate::args::verify::Verify;
use crate::comparison::{self, Named, OpenBackup, SideArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, per_second, seconds};
use crate::progress::{Display, Progress};
use crate::signals::Signals;

/// Files that are read at once unless somebody says otherwise.
const CONCURRENCY: u32 = 4;

/// Checks a backup against itself, or against a table.
pub async fn run(args: &Verify, global: &Global, console: Console) -> Result<(), CliError> {
    let backup = SideArgs {
        named: Named::Backup(args.backup.clone()),
        from: args.from.clone(),
        global: global.clone(),
    };
    let mut signals = Signals::listen(StopFlag::default())?;
    if let Some(table) = &args.table {
        let table = SideArgs {
            named: Named::Table(table.clone()),
            from: None,
            global: global.clone(),
        };
        let compared = comparison::run(&backup, &table, &args.reading, &args.result, console);
        return signals.unless_received(Box::pin(compared)).await;
    }
    signals
        .unless_received(Box::pin(verify(args, global, &backup, console)))
        .await
}

async fn verify(
    args: &Verify,
    global: &Global,
    backup: &SideArgs,
    console: Console,
) -> Result<(), CliError> {
    if args.reading.skip_checks {
        return Err(CliError::Usage(
            "--skip-checks leaves nothing to verify; it is for comparing with --table".into(),
        ));
    }
    let (backup, faults) = comparison::survey_backup(backup, &args.reading).await?;
    let OpenBackup {
        store,
        mut catalog,
        // Until the end: it may be a folder that stands for standard input.
        place,
    } = backup;
    if let Some(given) = comparison::given_key(&args.reading)? {
        let known = catalog.key_schema.get_or_insert_with(|| given.clone());
        if *known != given {
            return Err(CliError::Usage(format!(
                "--key is {given}, but the backup says that its key is {known}"
            )));
        }
    }
    let started = Instant::now();
    let counters = Arc::new(VerifyCounters::default());
    let display = Display::start(counters.clone(), catalog.items.unwrap_or(0), console);
    let concurrency = args.reading.concurrency.unwrap_or(CONCURRENCY) as usize;
    let observe = |totals| counters.set(totals);
    let verified = verify_backup::verify(&store, &catalog, concurrency, observe).await;
    drop(display);
    let report = verified?.with_faults(faults);
    let elapsed = started.elapsed().as_secs_f64();
    let logs = if args.change_log {
        log::verify(args, global, &place.location, &catalog, console).await?
    } else {
        Vec::new()
    };
    let breaks = log::breaks(&logs);
    let mut value = json!({
        "backup": catalog.url,
        "kind": catalog.kind,
        "good": report.is_good() && breaks == 0,
        "report": report,
        "seconds": elapsed,
    });
    let title = format!("{} at {}", catalog.kind.as_str(), catalog.url);
    let mut story = text(&title, &report, elapsed);
    if !logs.is_empty() {
        story = format!("{story}\n{}", log::text(&logs));
        value["logs"] = json!(logs);
    }
    console.result(&story, &value);
    judge(&title, &report, breaks)
}

/// The error of a backup or a log that is not what it should be.
fn judge(title: &str, report: &VerifyReport, breaks: u64) -> Result<(), CliError> {
    if !report.is_good() {
        let wrong = wrong(report).join(", ");
        return Err(StepError::PartCorrupt(format!("{title} is damaged: {wrong}")).into());
    }
    if breaks > 0 {
        return Err(CliError::Different(format!(
            "the change log is broken: {} records do not follow from the one before",
            count(breaks)
        )));
    }
    Ok(())
}

/// What is wrong with the backup, in numbers.
fn wrong(report: &VerifyReport) -> Vec<String> {
    let mut wrong = Vec::new();
    if report.bad_files > 0 {
        let (bad, all) = (count(report.bad_files), count(report.listed_files));
        wrong.push(format!("{bad} of {all} files are bad"));
    }
    if report.bad_items > 0 {
        wrong.push(format!("{} items are bad", count(report.bad_items)));
    }
    if !report.mismatches.is_empty() {
        let sums = count(report.mismatches.len() as u64);
        wrong.push(format!("{sums} sums are not those it gives"));
    }
    wrong
}

fn text(title: &str, report: &VerifyReport, elapsed: f64) -> String {
    let totals = &report.totals;
    let mut lines = vec![format!(
        "{title}\n  {} of {} files read and good: {} items, {} ({} as stored), {} ({:.0} items/s)",
        count(totals.files),
        count(report.listed_files),
        count(totals.items),
        bytes(totals.plain_bytes),
        bytes(totals.stored_bytes),
        seconds(elapsed),
        per_second(totals.items as f64, elapsed),
    )];
    let more = |listed: usize, all: u64, what: &str| -> Option<String> {
        let left = all.saturating_sub(listed as u64);
        (left > 0).then(|| format!("  and {} more bad {what}", count(left)))
    };
    for file in &report.bad {
        lines.push(format!("  bad file {}: {}", file.url, file.reason));
    }
    lines.extend(more(report.bad.len(), report.bad_files, "files"));
    for item in &report.bad_item_list {
        lines.push(format!(
            "  bad item {} line {}: {}",
            item.url, item.line, item.reason
        ));
    }
    lines.extend(more(report.bad_item_list.len(), report.bad_items, "items"));
    for mismatch in &report.mismatches {
        lines.push(format!("  {mismatch}"));
    }
    for unchecked in &report.unchecked {
        lines.push(format!("  not checked: {unchecked}"));
    }
    lines.push(if report.is_good() {
        "verified: it is what it says".to_owned()
    } else {
        format!("damaged: {}", wrong(report).join(", "))
    });
    lines.join("\n")
}

/// The sums so far, for the display.
#[derive(Debug, Default)]
struct VerifyCounters(Mutex<VerifyTotals>);

impl VerifyCounters {
    fn set(&self, totals: VerifyTotals) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    fn get(&self) -> VerifyTotals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for VerifyCounters {
    fn items(&self) -> u64 {
        self.get().items
    }

    fn line(&self, started: Instant, _expected_items: u64, _began_with: u64) -> String {
        let totals = self.get();
        let elapsed = started.elapsed().as_secs_f64();
        format!(
            "{} items checked ({:.0}/s), {}, {} files done",
            count(totals.items),
            per_second(totals.items as f64, elapsed),
            bytes(totals.plain_bytes),
            count(totals.files),
        )
    }
}

#[cfg(test)]
mod tests {
    use highwater_steps::verify_backup::{BadFile, BadItem};

    use super::*;

    #[test]
    fn a_report_tells_all_that_is_wrong_and_all_that_nobody_checked() {
        let good = VerifyReport {
            listed_files: 2,
            unchecked: vec!["no .md5 beside the manifest".to_owned()],
            ..VerifyReport::default()
        };
        let story = text("a backup", &good, 1.0);
        assert!(story.contains("not checked: no .md5"), "{story}");
        assert!(story.ends_with("verified: it is what it says"), "{story}");
        let url = || "s3://b/k".to_owned();
        let bad = VerifyReport {
            bad_files: 3,
            bad: vec![BadFile {
                url: url(),
                reason: "its hash is another".to_owned(),
            }],
            bad_items: 1,
            bad_item_list: vec![BadItem {
                url: url(),
                line: 7,
                reason: "no key".to_owned(),
            }],
            mismatches: vec!["5 items instead of 6".to_owned()],
            ..good
        };
        let story = text("a backup", &bad, 1.0);
        for told in [
            "bad file s3://b/k: its hash is another",
            "and 2 more bad files",
            "bad item s3://b/k line 7: no key",
            "5 items instead of 6",
            "damaged: 3 of 2 files are bad, 1 items are bad, 1 sums are not those it gives",
        ] {
            assert!(story.contains(told), "{told}: {story}");
        }
    }
}

//! Re-reads a whole backup and holds it against everything that it says of itself. No table is needed.
//!
//! Unlike a restore it does not stop at the first bad file: whoever has a damaged backup wants to know how much of
//! it is left.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use highwater_domain::backup_source::{Catalog, SourceFile};
use highwater_domain::failure::FailureKind;
use highwater_domain::file_check;
use highwater_domain::item_lines::Record;
use highwater_domain::key::KeySchema;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::table_writer::WriteOp;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::error::StepError;
use crate::source_file::open_file_in;

/// Bad files, and bad items, that a report names; the rest are counted.
const NAMED: usize = 100;

/// Sums over what was read, of good files; while a file is being read its items count, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyTotals {
    /// Files that were read to their end and found good.
    pub files: u64,
    /// Items, and deletes of an incremental export.
    pub items: u64,
    /// How many of them are deletes.
    pub deletes: u64,
    /// Bytes before compression.
    pub plain_bytes: u64,
    /// Bytes of the good files as stored.
    pub stored_bytes: u64,
}

impl VerifyTotals {
    fn add(&mut self, more: &Self) {
        self.items += more.items;
        self.deletes += more.deletes;
        self.plain_bytes += more.plain_bytes;
    }

    fn take_back(&mut self, less: &Self) {
        self.items -= less.items;
        self.deletes -= less.deletes;
        self.plain_bytes -= less.plain_bytes;
    }
}

/// A file that is not what the backup says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadFile {
    /// Where it is, or should be.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

/// An item that is not one of the table's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadItem {
    /// The file that it is in.
    pub url: String,
    /// Its number in the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What re-reading a backup has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Sums over the good files.
    pub totals: VerifyTotals,
    /// Files that the backup has.
    pub listed_files: u64,
    /// How many of them are bad.
    pub bad_files: u64,
    /// The first hundred of the bad files, in the backup's order.
    pub bad: Vec<BadFile>,
    /// Items whose key is not one that the table can have.
    pub bad_items: u64,
    /// A hundred of the bad items.
    pub bad_item_list: Vec<BadItem>,
    /// Sums that are not those of the backup's metadata.
    pub mismatches: Vec<String>,
    /// What the backup does not say and nobody can check.
    pub unchecked: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong with the backup. What could not be checked does not count.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bad_files == 0 && self.bad_items == 0 && self.mismatches.is_empty()
    }

    /// The same with what a survey of the backup found wrong ([`survey`](crate::source::survey)).
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<String>) -> Self {
        self.mismatches.splice(..0, faults);
        self
    }
}

/// Reads every file of a backup with all checks, `concurrency` files at a time.
///
/// `observe` is told the sums so far, after every few hundred kilobytes. Fails only where a file could neither be
/// read nor be found bad: the store cannot be reached, say.
pub async fn verify(
    store: &Arc<dyn ObjectStore>,
    catalog: &Catalog,
    concurrency: usize,
    observe: impl Fn(VerifyTotals) + Send + Sync,
) -> Result<VerifyReport, StepError> {
    let reading = Reading {
        store,
        schema: catalog.key_schema.clone().map(Arc::new),
        findings: Mutex::default(),
        buffers: ReusedBuffers::default(),
        observe,
    };
    let reading = &reading;
    let files = catalog.files.iter().map(|file| reading.file(file));
    let mut read = futures::stream::iter(files).buffered(concurrency.max(1));
    let mut report = VerifyReport {
        listed_files: catalog.files.len() as u64,
        unchecked: catalog.unchecked.clone(),
        ..VerifyReport::default()
    };
    while let Some(bad) = read.try_next().await? {
        report.bad_files += u64::from(bad.is_some());
        report.bad.extend(bad.filter(|_| report.bad.len() < NAMED));
    }
    drop(read);
    let findings = reading.findings();
    report.totals = findings.totals;
    report.bad_items = findings.bad_items;
    report.bad_item_list.clone_from(&findings.bad_item_list);
    if report.bad_files == 0 {
        report.mismatches = mismatches(catalog, &findings.totals);
    }
    if catalog.key_schema.is_none() {
        let line = "the backup does not name the table's key: the items' keys are not checked";
        report.unchecked.push(line.into());
    }
    Ok(report)
}

/// Compares sums with what the backup says. Without a bad file they can only differ if its metadata does.
fn mismatches(catalog: &Catalog, totals: &VerifyTotals) -> Vec<String> {
    [
        ("items", catalog.items, totals.items),
        (
            "bytes before compression",
            catalog.plain_bytes,
            totals.plain_bytes,
        ),
    ]
    .into_iter()
    .filter_map(|(what, said, found)| {
        let said = said.filter(|said| *said != found)?;
        Some(format!(
            "{}: its metadata says {said} {what}, its files hold {found}",
            catalog.url
        ))
    })
    .collect()
}

#[derive(Debug, Default)]
struct Findings {
    totals: VerifyTotals,
    bad_items: u64,
    bad_item_list: Vec<BadItem>,
}

struct Reading<'a, F> {
    store: &'a Arc<dyn ObjectStore>,
    schema: Option<Arc<KeySchema>>,
    findings: Mutex<Findings>,
    buffers: ReusedBuffers,
    observe: F,
}

impl<F: Fn(VerifyTotals) + Send + Sync> Reading<'_, F> {
    fn findings(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one file; what is wrong with it, if anything is.
    async fn file(&self, file: &SourceFile) -> Result<Option<BadFile>, StepError> {
        let bad = |reason: String| BadFile {
            url: self.store.url(&file.object),
            reason,
        };
        let mut read = VerifyTotals::default();
        let outcome = self.read(file, &mut read).await;
        {
            let mut findings = self.findings();
            if outcome.is_ok() {
                findings.totals.files += 1;
                findings.totals.stored_bytes += file.stored_bytes;
            } else {
                // The sums are of good files only.
                findings.totals.take_back(&read);
            }
        }
        match outcome {
            Ok(()) => Ok(None),
            Err(StepError::PartCorrupt(reason)) => Ok(Some(bad(reason))),
            Err(StepError::PartMissing(_)) => Ok(Some(bad("it is not there".into()))),
            Err(StepError::Store(failure)) if failure.kind == FailureKind::Corrupt => {
                Ok(Some(bad(failure.to_string())))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads one file to its end and keeps count of what was added to the sums.
    async fn read(&self, file: &SourceFile, read: &mut VerifyTotals) -> Result<(), StepError> {
        // Without a hash the first reading would do what this one does: nothing here is used before the end.
        let once = file.claims.has_no_hash();
        let mut records = open_file_in(self.store, file, once, &self.buffers).await?;
        while let Some(batch) = records.next().await? {
            let mut added = VerifyTotals::default();
            for record in &batch {
                added.items += 1;
                added.deletes += u64::from(matches!(record.op, WriteOp::Delete(_)));
                added.plain_bytes += record.plain_bytes;
            }
            let bad = self.bad_items(file, batch).await?;
            read.add(&added);
            let totals = {
                let mut findings = self.findings();
                findings.totals.add(&added);
                findings.bad_items += bad.len() as u64;
                let room = NAMED.saturating_sub(findings.bad_item_list.len());
                findings.bad_item_list.extend(bad.into_iter().take(room));
                findings.totals
            };
            (self.observe)(totals);
        }
        file_check::check_count(file, read.items)?;
        Ok(())
    }

    /// The items of a batch whose keys the table cannot have, found on another thread: it is all parsing.
    async fn bad_items(
        &self,
        file: &SourceFile,
        batch: Vec<Record>,
    ) -> Result<Vec<BadItem>, StepError> {
        let Some(schema) = self.schema.clone() else {
            return Ok(Vec::new());
        };
        let url = self.store.url(&file.object);
        let check = move || {
            let bad = |record: &Record| {
                let error = schema.print_of_checked(record.op.body()).err()?;
                Some(BadItem {
                    url: url.clone(),
                    line: record.line,
                    reason: error.to_string(),
                })
            };
            batch.iter().filter_map(bad).collect()
        };
        spawn_blocking(check)
            .await
            .map_err(|error| StepError::Internal(format!("a checking thread died: {error}")))
    }
}

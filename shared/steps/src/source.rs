//! Looks at a place and finds out what backup is there, without reading an item.
//!
//! Kinds are told by what only they have, in this order: `<key>/manifest-summary.json` (an export; with a
//! `backup.json` beside it a Highwater snapshot), `<key>-meta.json` (dyndump), the object itself, and the objects
//! below `<key>/` (DynamoDB-JSON lines). A backup that is not whole is refused unless the caller takes it as it is.

use std::sync::{Arc, Mutex, PoisonError};

use highwater_domain::backup_source::{
    Catalog, FileClaims, LineShape, Packing, SourceFile, SourceKind, SourceLocation,
};
use highwater_domain::object_store::{ListedObject, ObjectStore};

use crate::error::StepError;
use crate::source_file::open_file;

mod dyndump;
mod export;
mod export_files;
mod lines;

/// Requests at once, where a look needs one for each file.
const REQUESTS: usize = 16;

/// Notes of one sort that a catalog keeps; the rest are counted.
const NOTES: usize = 20;

/// How strictly a backup is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookOptions {
    /// Do not compare hashes and counts with what the backup says.
    pub skip_checks: bool,
    /// Take a backup that was never finished, as far as it goes.
    pub allow_incomplete: bool,
}

/// Finds the backup at `location`, whose store is `store`.
///
/// What can be known without reading an item is checked: manifests against their hashes, counts against each other,
/// and that every file is there, with its size. Hashes of files are compared when they are read
/// ([`open_file`]).
///
/// What the backup does not say cannot be checked, and is listed in [`Catalog::unchecked`]: a missing `.md5` of an
/// AWS export, say, because people copy exports without it. A Highwater snapshot always has its own.
pub async fn look(
    store: &Arc<dyn ObjectStore>,
    location: &SourceLocation,
    options: LookOptions,
) -> Result<Catalog, StepError> {
    find(&Place::new(store, location, options)).await
}

/// A backup that may be damaged, looked at.
#[derive(Debug)]
pub struct Survey {
    /// What there is of it. Files that are missing are in it, too, with no bytes.
    pub catalog: Catalog,
    /// Numbers in it that do not fit, one line each.
    pub faults: Vec<String>,
}

/// Looks as [`look`] does, for those who read every file whatever is wrong, and want to know all that is: a file that
/// is missing and a sum that does not fit refuse nothing. A manifest that cannot be believed still does.
pub async fn survey(
    store: &Arc<dyn ObjectStore>,
    location: &SourceLocation,
    options: LookOptions,
) -> Result<Survey, StepError> {
    let place = Place {
        faults: Some(Mutex::default()),
        ..Place::new(store, location, options)
    };
    let catalog = find(&place).await?;
    let faults = place.faults.map(|faults| {
        let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        faults.into_lines()
    });
    Ok(Survey {
        catalog,
        faults: faults.unwrap_or_default(),
    })
}

async fn find(place: &Place<'_>) -> Result<Catalog, StepError> {
    if let Some(catalog) = export::look(place).await? {
        return Ok(catalog);
    }
    if let Some(catalog) = dyndump::look(place).await? {
        return Ok(catalog);
    }
    if let Some(catalog) = lines::look(place).await? {
        return Ok(catalog);
    }
    if let Some(catalog) = dyndump::look_without_metadata(place).await? {
        return Ok(catalog);
    }
    Err(place.not_found(
        "neither an export (manifest-summary.json in it), nor dyndump's backup (-meta.json after it), nor an object, \
         nor a folder with .json, .jsonl or .ndjson files (.gz, .zst)",
    ))
}

/// The place that is looked at.
struct Place<'a> {
    store: &'a Arc<dyn ObjectStore>,
    location: &'a SourceLocation,
    key: &'a str,
    options: LookOptions,
    /// Of a [`survey`]: what was found wrong so far.
    faults: Option<Mutex<Notes>>,
}

impl<'a> Place<'a> {
    fn new(
        store: &'a Arc<dyn ObjectStore>,
        location: &'a SourceLocation,
        options: LookOptions,
    ) -> Self {
        // Whoever names the manifest means the export.
        let key = match location.key.strip_suffix("manifest-summary.json") {
            Some(folder) if folder.is_empty() || folder.ends_with('/') => {
                folder.trim_end_matches('/')
            }
            _ => &location.key,
        };
        Self {
            store,
            location,
            key,
            options,
            faults: None,
        }
    }

    /// Whether what is wrong is noted, and not refused.
    fn surveys(&self) -> bool {
        self.faults.is_some()
    }

    /// Refuses the backup, or notes why it would be.
    fn refuse(&self, error: StepError) -> Result<(), StepError> {
        let Some(faults) = &self.faults else {
            return Err(error);
        };
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.add(error.to_string());
        Ok(())
    }

    /// Refuses a backup whose files do not add up, with the first of them that is not what it should be: to name it,
    /// they are read until it is found.
    async fn refuse_sums(
        &self,
        key: &str,
        what: String,
        files: &[SourceFile],
    ) -> Result<(), StepError> {
        if self.surveys() {
            return self.refuse(self.corrupt(key, what));
        }
        for file in files {
            if let Err(error @ (StepError::PartCorrupt(_) | StepError::PartMissing(_))) =
                open_file(self.store, file, false).await
            {
                return Err(self.corrupt(key, format!("{what}; {error}")));
            }
        }
        Err(self.corrupt(key, what))
    }

    /// The key as a folder: ending in `/`, or empty for the store's root.
    fn folder(&self) -> String {
        if self.key.is_empty() || self.key.ends_with('/') {
            self.key.to_owned()
        } else {
            format!("{}/", self.key)
        }
    }

    fn url(&self) -> String {
        self.location.to_string()
    }

    /// Another place in the same store, as a person would name it.
    fn named(&self, key: &str) -> String {
        SourceLocation {
            store: self.location.store.clone(),
            key: key.to_owned(),
        }
        .to_string()
    }

    async fn read(&self, key: &str) -> Result<Option<bytes::Bytes>, StepError> {
        self.store.read(key).await.map_err(StepError::Store)
    }

    fn corrupt(&self, key: &str, what: impl std::fmt::Display) -> StepError {
        StepError::PartCorrupt(format!("{}: {what}", self.store.url(key)))
    }

    fn missing(&self, key: &str) -> StepError {
        StepError::PartMissing(self.store.url(key))
    }

    fn not_found(&self, looked_for: impl Into<String>) -> StepError {
        StepError::BackupNotFound {
            url: self.url(),
            looked_for: looked_for.into(),
        }
    }

    fn incomplete(&self, status: impl Into<String>) -> StepError {
        StepError::BackupIncomplete {
            url: self.url(),
            status: status.into(),
        }
    }

    /// Every object whose key begins with `prefix`, in byte order of the keys.
    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StepError> {
        let mut objects = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(prefix, after.as_deref()).await;
            let page = page.map_err(StepError::Store)?;
            objects.extend(page.objects);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(objects),
            }
        }
    }

    /// A catalog of `files` with nothing else known.
    fn catalog(&self, kind: SourceKind, files: Vec<SourceFile>, mut notes: Notes) -> Catalog {
        if self.options.skip_checks {
            notes.add("hashes and counts are not compared with what the backup says, as was asked");
        }
        Catalog {
            url: self.url(),
            kind,
            table_name: None,
            status: None,
            items: None,
            plain_bytes: None,
            key_schema: None,
            settings: None,
            files,
            unchecked: notes.into_lines(),
        }
    }
}

/// A file that nothing is claimed of.
fn unclaimed(object: ListedObject, shape: LineShape) -> SourceFile {
    SourceFile {
        packing: Packing::of_name(&object.key),
        object: object.key,
        stored_bytes: object.bytes,
        shape,
        claims: FileClaims::default(),
    }
}

/// What cannot be checked: a bounded list, whatever the backup is like.
#[derive(Debug, Default)]
struct Notes {
    lines: Vec<String>,
    more: u64,
}

impl Notes {
    fn add(&mut self, line: impl Into<String>) {
        if self.lines.len() < NOTES {
            self.lines.push(line.into());
        } else {
            self.more += 1;
        }
    }

    fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}

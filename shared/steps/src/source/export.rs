//! Exports: DynamoDB's own, full or incremental, and Highwater's snapshots, which have the same form and more.

use highwater_domain::backup_source::{Catalog, LineShape, SourceFile, SourceKind};
use highwater_domain::export_manifest::{
    ExportFile, ExportSummary, ManifestError, parse_files, sum_of_items,
};
use highwater_domain::manifest::md5_file;
use highwater_domain::metadata::{BACKUP_JSON_VERSION, Metadata};
use highwater_domain::part::export_etag;
use highwater_domain::snapshot::Status;
use highwater_domain::table::{TABLE_JSON_VERSION, TableSettings};

use super::{Notes, Place, export_files, unclaimed};
use crate::error::StepError;

const SUMMARY: &str = "manifest-summary";
const FILES: &str = "manifest-files";

/// The export in the folder, if there is one.
pub(super) async fn look(place: &Place<'_>) -> Result<Option<Catalog>, StepError> {
    if place.key.ends_with('/') {
        // dyndump's prefix "/": no folder of ours has such a name.
        return Ok(None);
    }
    let metadata = metadata(place).await?;
    let unsealed = metadata
        .as_ref()
        .map(|metadata| metadata.status)
        .filter(|status| *status != Status::Completed);
    if let Some(status) = unsealed.filter(|_| !place.options.allow_incomplete) {
        return Err(place.incomplete(status.as_str()));
    }
    let key = format!("{}{SUMMARY}.json", place.folder());
    let Some(summary) = place.read(&key).await? else {
        return match metadata {
            Some(metadata) => without_manifests(place, &metadata).await.map(Some),
            None => Ok(None),
        };
    };
    let mut export = Export {
        place,
        metadata,
        notes: Notes::default(),
    };
    export.check_md5(SUMMARY, &summary).await?;
    let summary =
        ExportSummary::parse(&summary).map_err(|error| of_manifest(place, &key, error))?;
    export.catalog(&key, &summary).await.map(Some)
}

fn of_manifest(place: &Place<'_>, key: &str, error: ManifestError) -> StepError {
    match error {
        ManifestError::Unsupported(what) => {
            StepError::InvalidInput(format!("{}: {what}", place.store.url(key)))
        }
        damaged => place.corrupt(key, damaged),
    }
}

/// `backup.json`, which only Highwater's snapshots have.
async fn metadata(place: &Place<'_>) -> Result<Option<Metadata>, StepError> {
    let key = format!("{}backup.json", place.folder());
    let Some(body) = place.read(&key).await? else {
        return Ok(None);
    };
    let metadata: Metadata = serde_json::from_slice(&body)
        .map_err(|error| place.corrupt(&key, format_args!("it is not a backup.json: {error}")))?;
    check_version(place, &key, metadata.version, BACKUP_JSON_VERSION)?;
    Ok(Some(metadata))
}

fn check_version(place: &Place<'_>, key: &str, found: u32, known: u32) -> Result<(), StepError> {
    if found <= known {
        return Ok(());
    }
    Err(StepError::InvalidInput(format!(
        "{}: it is of version {found}, this program knows up to {known}; use a newer one",
        place.store.url(key)
    )))
}

/// `table.json`, which only Highwater's snapshots have.
async fn settings(
    place: &Place<'_>,
    notes: &mut Notes,
) -> Result<Option<TableSettings>, StepError> {
    let key = format!("{}table.json", place.folder());
    let Some(body) = place.read(&key).await? else {
        notes.add("table.json is not there: the table's settings are not known");
        return Ok(None);
    };
    let settings: TableSettings = serde_json::from_slice(&body)
        .map_err(|error| place.corrupt(&key, format_args!("it is not a table.json: {error}")))?;
    check_version(place, &key, settings.version, TABLE_JSON_VERSION)?;
    Ok(Some(settings))
}

/// The catalog of a snapshot that was not sealed, which the caller has allowed: whatever parts are there.
async fn without_manifests(place: &Place<'_>, metadata: &Metadata) -> Result<Catalog, StepError> {
    if metadata.status == Status::Completed {
        return Err(place.missing(&format!("{}{SUMMARY}.json", place.folder())));
    }
    let mut notes = Notes::default();
    notes.add(format!(
        "the snapshot is {}: it has no manifests, and what it holds is not all of the table",
        metadata.status.as_str()
    ));
    let settings = settings(place, &mut notes).await?;
    let files = parts_without_manifest(place).await?;
    let mut catalog = place.catalog(SourceKind::Highwater, files, notes);
    describe(&mut catalog, metadata, settings);
    Ok(catalog)
}

/// The parts in the data folder of an export that has no manifests.
pub(super) async fn parts_without_manifest(
    place: &Place<'_>,
) -> Result<Vec<SourceFile>, StepError> {
    let data = format!("{}data/", place.folder());
    let listed = place.list(&data).await?;
    Ok(listed
        .into_iter()
        .filter(|object| is_data(&object.key))
        .map(|object| unclaimed(object, LineShape::Item))
        .collect())
}

fn is_data(key: &str) -> bool {
    [".json", ".json.gz", ".json.zst"]
        .iter()
        .any(|suffix| key.ends_with(suffix))
}

/// Fills in what Highwater's own metadata says.
fn describe(catalog: &mut Catalog, metadata: &Metadata, settings: Option<TableSettings>) {
    let of_settings = || {
        settings
            .as_ref()
            .and_then(|settings| settings.key_schema().ok())
    };
    catalog.table_name = Some(metadata.table_name.clone()).filter(|name| !name.is_empty());
    catalog.status = Some(metadata.status);
    catalog.key_schema = metadata.key_schema.clone().or_else(of_settings);
    catalog.settings = settings;
    if metadata.status == Status::Completed {
        catalog.plain_bytes = Some(metadata.uncompressed_bytes);
    }
}

/// An export that is being looked at.
struct Export<'a> {
    place: &'a Place<'a>,
    metadata: Option<Metadata>,
    notes: Notes,
}

impl Export<'_> {
    /// Checks a manifest against its hash file. AWS documents `.checksum` and writes `.md5`.
    async fn check_md5(&mut self, manifest: &str, body: &[u8]) -> Result<(), StepError> {
        if self.place.options.skip_checks {
            return Ok(());
        }
        let folder = self.place.folder();
        let key = format!("{folder}{manifest}.json");
        for suffix in ["md5", "checksum"] {
            let hash_key = format!("{folder}{manifest}.{suffix}");
            let Some(hash) = self.place.read(&hash_key).await? else {
                continue;
            };
            if hash.trim_ascii() == md5_file(body).as_bytes() {
                return Ok(());
            }
            let url = self.place.store.url(&hash_key);
            let what = format!("it does not have the MD5 that {url} says");
            return Err(self.place.corrupt(&key, what));
        }
        if self.metadata.is_some() {
            return Err(self.place.missing(&format!("{folder}{manifest}.md5")));
        }
        self.notes.add(format!(
            "{manifest}.json has neither .md5 nor .checksum beside it"
        ));
        Ok(())
    }

    /// `manifest-files.json`: beside the summary, or where the summary says.
    async fn files(
        &mut self,
        summary_key: &str,
        summary: &ExportSummary,
    ) -> Result<(String, Vec<ExportFile>), StepError> {
        let beside = format!("{}{FILES}.json", self.place.folder());
        let mut found = self
            .place
            .read(&beside)
            .await?
            .map(|body| (beside.clone(), body));
        if let (None, Some(key)) = (&found, &summary.manifest_files_s3_key) {
            let plain = key.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !plain || key.contains(['\\', '\0']) || key.len() > 1024 {
                let what = format!("manifestFilesS3Key is {key:?}, which is no key of an export");
                return Err(self.place.corrupt(summary_key, what));
            }
            found = self.place.read(key).await?.map(|body| (key.clone(), body));
        }
        let (key, body) = found.ok_or_else(|| self.place.missing(&beside))?;
        self.check_md5(FILES, &body).await?;
        let files = parse_files(&body).map_err(|error| of_manifest(self.place, &key, error))?;
        Ok((key, files))
    }

    async fn catalog(
        mut self,
        summary_key: &str,
        summary: &ExportSummary,
    ) -> Result<Catalog, StepError> {
        let place = self.place;
        let of_aws = summary
            .kind()
            .map_err(|error| of_manifest(place, summary_key, error))?;
        let (files_key, listed) = self.files(summary_key, summary).await?;
        self.check_counts(summary_key, &files_key, summary, &listed)?;
        let unhashed = listed
            .iter()
            .filter(|file| file.md5_checksum.is_none())
            .count();
        if unhashed > 0 {
            self.notes
                .add(format!("{unhashed} files have no MD5 in the manifest"));
        }
        let items = sum_of_items(&listed);
        let kind = self
            .metadata
            .as_ref()
            .map_or(of_aws, |_| SourceKind::Highwater);
        let files = export_files::find(place, kind, &files_key, listed).await?;
        let Some(metadata) = self.metadata.take() else {
            let mut catalog = place.catalog(kind, files, self.notes);
            catalog.table_name = summary.table_name().map(str::to_owned);
            // AWS writes the manifests when everything else is there.
            catalog.status = Some(Status::Completed);
            catalog.items = items.or(summary.item_count);
            return Ok(catalog);
        };
        let settings = settings(place, &mut self.notes).await?;
        let mut catalog = place.catalog(kind, files, self.notes);
        describe(&mut catalog, &metadata, settings);
        catalog.items = items;
        let stored = catalog.stored_bytes();
        if metadata.status == Status::Completed && !place.options.skip_checks {
            let listed = (catalog.files.len() as u64, items, stored);
            let said = (
                metadata.part_count,
                Some(metadata.item_count),
                metadata.compressed_bytes,
            );
            if listed != said {
                let what = format!(
                    "it says {} parts, {} items and {} bytes; the manifest and the parts come to {}, {} and {stored}",
                    said.0,
                    metadata.item_count,
                    said.2,
                    listed.0,
                    items.unwrap_or(0),
                );
                let key = format!("{}backup.json", place.folder());
                place.refuse_sums(&key, what, &catalog.files).await?;
            }
        }
        Ok(catalog)
    }

    /// Checks the manifests against each other.
    fn check_counts(
        &mut self,
        summary_key: &str,
        files_key: &str,
        summary: &ExportSummary,
        listed: &[ExportFile],
    ) -> Result<(), StepError> {
        if self.place.options.skip_checks {
            return Ok(());
        }
        match (summary.item_count, sum_of_items(listed)) {
            (Some(expected), Some(found)) if expected != found => {
                let url = self.place.store.url(files_key);
                let what = format!("it says {expected} items, the files in {url} come to {found}");
                self.place.refuse(self.place.corrupt(summary_key, what))?;
            }
            (Some(_), Some(_)) => {}
            _ => self
                .notes
                .add("the manifests do not give the items of every file"),
        }
        if self.metadata.is_none() {
            return Ok(());
        }
        for (index, file) in listed.iter().enumerate() {
            let etag = file.md5_checksum.as_deref().and_then(export_etag);
            if etag.is_none() || etag != file.etag {
                let what = format!("line {}: MD5 and ETag are not of the same file", index + 1);
                self.place.refuse(self.place.corrupt(files_key, what))?;
            }
        }
        Ok(())
    }
}

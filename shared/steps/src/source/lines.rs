//! DynamoDB-JSON lines: one object, or all objects of a folder that are called so.

use highwater_domain::backup_source::{Catalog, LineShape, Packing, SourceFile, SourceKind};
use highwater_domain::dyndump::DyndumpKeys;
use highwater_domain::object_store::ListedObject;

use super::{Notes, Place, export, unclaimed};
use crate::error::StepError;

/// The folder that exports are made in.
const EXPORTS: &str = "AWSDynamoDB";

/// Exports that an error names.
const NAMED: usize = 20;

/// The object itself, or what is below it.
pub(super) async fn look(place: &Place<'_>) -> Result<Option<Catalog>, StepError> {
    let Some(file) = one_file(place).await? else {
        refuse_folder_of_exports(place).await?;
        return folder(place).await;
    };
    let mut notes = Notes::default();
    note_what_lines_lack(&mut notes);
    Ok(Some(place.catalog(SourceKind::Lines, vec![file], notes)))
}

fn note_what_lines_lack(notes: &mut Notes) {
    notes.add("lines have neither hash nor count: only their form is checked");
}

async fn one_file(place: &Place<'_>) -> Result<Option<SourceFile>, StepError> {
    if place.key.is_empty() || place.key.ends_with('/') {
        return Ok(None);
    }
    let facts = place
        .store
        .facts(place.key)
        .await
        .map_err(StepError::Store)?;
    let Some(facts) = facts else {
        return Ok(None);
    };
    let object = ListedObject {
        key: place.key.to_owned(),
        bytes: facts.bytes,
    };
    let mut file = unclaimed(object, LineShape::Any);
    if file.packing == Packing::None {
        // One file may be called anything; its first bytes tell.
        let first = place.store.read_range(place.key, 0..4).await;
        let first = first.map_err(StepError::Store)?.unwrap_or_default();
        file.packing = Packing::of_magic(&first);
    }
    Ok(Some(file))
}

/// A folder that holds exports is none itself, and its files are not for one table.
async fn refuse_folder_of_exports(place: &Place<'_>) -> Result<(), StepError> {
    if place.key.ends_with('/') {
        return Ok(());
    }
    let folder = place.folder();
    let is_theirs = folder.ends_with(&format!("{EXPORTS}/"));
    let exports = if is_theirs {
        folder
    } else {
        format!("{folder}{EXPORTS}/")
    };
    let mut ids = Vec::new();
    let mut more = false;
    let mut after: Option<String> = None;
    loop {
        let page = place.store.list_folders(&exports, after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        for folder in page.folders {
            let id = folder
                .strip_prefix(&exports)
                .unwrap_or(&folder)
                .trim_end_matches('/');
            // The data of incremental exports.
            if id != "data" {
                ids.push(id.to_owned());
            }
        }
        more = more || ids.len() > NAMED;
        match page.next {
            Some(next) if !more => after = Some(next),
            _ => break,
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    ids.truncate(NAMED);
    let rest = if more { ", and more" } else { "" };
    Err(place.not_found(format!(
        "it holds exports; name one of them, as {}: {}{rest}",
        place.named(&format!(
            "{exports}{}",
            ids.first().map_or("", String::as_str)
        )),
        ids.join(", ")
    )))
}

/// All objects below the folder that are called like lines.
async fn folder(place: &Place<'_>) -> Result<Option<Catalog>, StepError> {
    let folder = place.folder();
    if folder.ends_with("//") || folder == "/" {
        return Ok(None);
    }
    let mut notes = Notes::default();
    note_what_lines_lack(&mut notes);
    let mut files = Vec::new();
    let mut after: Option<String> = None;
    // Of the last object called `…-meta.json`: its parts, if it has any, come next.
    let mut dump: Option<DyndumpKeys> = None;
    loop {
        let page = place.store.list(&folder, after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        for object in page.objects {
            let name = object.key.strip_prefix(&folder).unwrap_or(&object.key);
            if name == "_started" {
                return unfinished_export(place).await.map(Some);
            }
            refuse_backup_below(place, &object.key, name, dump.as_ref())?;
            if let Some(prefix) = object.key.strip_suffix("-meta.json") {
                dump = Some(DyndumpKeys::new(prefix));
            }
            if name.split('/').any(|part| part.starts_with(['_', '.'])) {
                continue;
            }
            if is_lines(name) {
                files.push(unclaimed(object, LineShape::Any));
            } else {
                let url = place.store.url(&object.key);
                notes.add(format!("{url} is left out: by its name it holds no lines"));
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    Ok(Some(place.catalog(SourceKind::Lines, files, notes)))
}

/// `_started` without manifests: AWS has begun an export here, and has not ended it.
async fn unfinished_export(place: &Place<'_>) -> Result<Catalog, StepError> {
    if !place.options.allow_incomplete {
        return Err(place.incomplete("an export that is running or has failed: it has no manifest"));
    }
    let mut notes = Notes::default();
    notes.add("the export has no manifests: nothing says which files or items there should be");
    let files = export::parts_without_manifest(place).await?;
    Ok(place.catalog(SourceKind::FullExport, files, notes))
}

fn refuse_backup_below(
    place: &Place<'_>,
    key: &str,
    name: &str,
    dump: Option<&DyndumpKeys>,
) -> Result<(), StepError> {
    if let Some(keys) = dump.filter(|keys| keys.part_number(key).is_some()) {
        let url = place.named(keys.prefix());
        return Err(place.not_found(format!("it holds dyndump's backup {url}; name that")));
    }
    let (export, last) = name.rsplit_once('/').unwrap_or(("", name));
    let is_export = matches!(
        last,
        "manifest-summary.json" | "manifest-files.json" | "backup.json"
    );
    if is_export || name.split('/').any(|part| part == EXPORTS) {
        let export = export.trim_end_matches("/data");
        let url = place.named(&format!("{}{export}", place.folder()));
        return Err(place.not_found(format!("it holds exports, such as {url}; name one of them")));
    }
    Ok(())
}

fn is_lines(name: &str) -> bool {
    let name = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(name);
    [".json", ".jsonl", ".ndjson"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

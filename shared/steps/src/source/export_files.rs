//! Finds the files that a manifest lists, in few requests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};
use highwater_domain::backup_source::{FileClaims, Packing, SourceFile, SourceKind};
use highwater_domain::export_manifest::{ExportFile, places_beside, shape_of};
use highwater_domain::failure::FailureKind;

use super::{Place, REQUESTS};
use crate::error::StepError;

/// Up to here files of one folder are asked for one by one; beyond it the folder is listed.
const FEW: usize = 32;

/// The listed files where they are: at their keys as written, or beside the manifest if the export was copied.
pub(super) async fn find(
    place: &Place<'_>,
    kind: SourceKind,
    manifest: &str,
    listed: Vec<ExportFile>,
) -> Result<Vec<SourceFile>, StepError> {
    let mut found: Vec<Option<(String, u64)>> = vec![None; listed.len()];
    let as_written = listed.iter().map(|file| file.key.clone()).collect();
    fill(place, &mut found, as_written).await?;
    let folder = place.folder();
    for attempt in 0..places_beside(&folder, kind, "").len() {
        let beside = |file: &ExportFile| {
            let places = places_beside(&folder, kind, &file.key);
            places.into_iter().nth(attempt).unwrap_or_default()
        };
        if found.iter().any(Option::is_none) {
            fill(place, &mut found, listed.iter().map(beside).collect()).await?;
        }
    }
    let mut files = Vec::with_capacity(listed.len());
    let mut objects = HashSet::with_capacity(listed.len());
    for (index, (file, found)) in listed.into_iter().zip(found).enumerate() {
        let (object, stored_bytes) = match found {
            Some(found) => found,
            // Whoever reads it will see.
            None if place.surveys() => (file.key.clone(), 0),
            None => return Err(place.missing(&file.key)),
        };
        if !objects.insert(object.clone()) {
            let url = place.store.url(&object);
            let what = format!("line {}: another line names {url}, too", index + 1);
            return Err(place.corrupt(manifest, what));
        }
        files.push(SourceFile {
            packing: Packing::of_name(&object),
            object,
            stored_bytes,
            shape: shape_of(kind),
            claims: FileClaims {
                items: file.item_count,
                md5: file.md5_checksum,
                ..FileClaims::default()
            },
        });
    }
    Ok(files)
}

/// Looks for what is not found yet at these keys, one for each file.
async fn fill(
    place: &Place<'_>,
    found: &mut [Option<(String, u64)>],
    keys: Vec<String>,
) -> Result<(), StepError> {
    let wanted = keys
        .iter()
        .zip(found.iter())
        .filter(|(_, found)| found.is_none());
    let sizes = sizes(place, wanted.map(|(key, _)| key.clone()).collect()).await?;
    for (slot, key) in found.iter_mut().zip(keys) {
        if let (None, Some(bytes)) = (&slot, sizes.get(&key)) {
            *slot = Some((key, *bytes));
        }
    }
    Ok(())
}

/// The sizes of those of these objects that are there.
async fn sizes(
    place: &Place<'_>,
    keys: BTreeSet<String>,
) -> Result<HashMap<String, u64>, StepError> {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for key in keys {
        let folder = key
            .rfind('/')
            .map_or("", |end| key.get(..=end).unwrap_or_default());
        folders.entry(folder.to_owned()).or_default().insert(key);
    }
    let mut sizes = HashMap::new();
    for (folder, mut keys) in folders {
        if keys.len() > FEW {
            take_listed(place, &folder, &mut keys, &mut sizes).await?;
        }
        let mut asked = futures::stream::iter(keys.into_iter().map(|key| size(place, key)))
            .buffer_unordered(REQUESTS);
        while let Some(answer) = asked.try_next().await? {
            sizes.extend(answer);
        }
    }
    Ok(sizes)
}

/// Moves what a listing of the folder shows from `keys` to `sizes`. Where many exports share a folder the listing
/// could be far longer than the manifest: it ends with as many pages as there were keys.
async fn take_listed(
    place: &Place<'_>,
    folder: &str,
    keys: &mut BTreeSet<String>,
    sizes: &mut HashMap<String, u64>,
) -> Result<(), StepError> {
    let mut after: Option<String> = None;
    for _ in 0..keys.len() {
        let page = place.store.list(folder, after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        for object in page.objects {
            if let Some(key) = keys.take(&object.key) {
                sizes.insert(key, object.bytes);
            }
        }
        match page.next {
            Some(next) if !keys.is_empty() => after = Some(next),
            Some(_) => return Ok(()),
            None => {
                // The listing was whole: what it did not show is not there.
                keys.clear();
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn size(place: &Place<'_>, key: String) -> Result<Option<(String, u64)>, StepError> {
    match place.store.facts(&key).await {
        Ok(facts) => Ok(facts.map(|facts| (key, facts.bytes))),
        // A key that this store cannot have, such as a name too long for a directory: nothing is there.
        Err(failure) if failure.kind == FailureKind::Invalid => Ok(None),
        Err(failure) => Err(StepError::Store(failure)),
    }
}

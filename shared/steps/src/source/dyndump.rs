//! dyndump's backups, of either generation: with hashes and without.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use highwater_domain::backup_source::{Catalog, FileClaims, LineShape, SourceFile, SourceKind};
use highwater_domain::dyndump::{
    DyndumpKeys, DyndumpMetadata, HashChain, PART_ITEM_COUNT, PART_NUMBER, PART_SHA256,
};
use highwater_domain::object_store::ListedObject;
use highwater_domain::snapshot::Status;

use super::{Notes, Place, REQUESTS, unclaimed};
use crate::error::StepError;

/// Missing parts that a survey names; metadata may claim any number of them.
const MISSING_PARTS: usize = 1000;

/// The backup that has its metadata right after the key.
pub(super) async fn look(place: &Place<'_>) -> Result<Option<Catalog>, StepError> {
    let Some((keys, body)) = read_metadata(place).await? else {
        return Ok(None);
    };
    let key = keys.metadata();
    let metadata: DyndumpMetadata = serde_json::from_slice(&body).map_err(|error| {
        place.corrupt(&key, format_args!("it is not dyndump's metadata: {error}"))
    })?;
    if metadata.status != Status::Completed && !place.options.allow_incomplete {
        return Err(place.incomplete(metadata.status.as_str()));
    }
    let mut dump = Dump {
        place,
        keys,
        metadata,
        whole: true,
        notes: Notes::default(),
    };
    let parts = dump.parts().await?;
    let files = dump.claimed(parts).await?;
    if !place.options.skip_checks {
        dump.check(&files).await?;
    }
    Ok(Some(dump.catalog(files)))
}

/// Parts whose metadata is gone, or was never written: what an interrupted deletion leaves.
pub(super) async fn look_without_metadata(place: &Place<'_>) -> Result<Option<Catalog>, StepError> {
    let keys = DyndumpKeys::new(place.key);
    let listed = place.list(&keys.parts()).await?;
    let parts: Vec<ListedObject> = listed
        .into_iter()
        .filter(|object| keys.part_number(&object.key).is_some())
        .collect();
    if parts.is_empty() {
        return Ok(None);
    }
    if !place.options.allow_incomplete {
        return Err(
            place.incomplete("without its -meta.json: it is being deleted, or was never finished")
        );
    }
    let mut notes = Notes::default();
    notes.add("there is no -meta.json: nothing says how many parts or items there should be");
    let bare = |part| unclaimed(part, LineShape::Bare);
    let files = parts.into_iter().map(bare).collect();
    Ok(Some(place.catalog(SourceKind::Dyndump, files, notes)))
}

/// The metadata and the prefix that it was found with. dyndump adds nothing between prefix and name; a prefix that
/// ends in `/` has lost that on its way here.
async fn read_metadata(
    place: &Place<'_>,
) -> Result<Option<(DyndumpKeys, bytes::Bytes)>, StepError> {
    let folder = place.folder();
    for prefix in [place.key, folder.as_str()] {
        let keys = DyndumpKeys::new(prefix);
        if let Some(body) = place.read(&keys.metadata()).await? {
            return Ok(Some((keys, body)));
        }
    }
    Ok(None)
}

/// A backup that is being looked at.
struct Dump<'a> {
    place: &'a Place<'a>,
    keys: DyndumpKeys,
    metadata: DyndumpMetadata,
    /// Whether every part is there.
    whole: bool,
    notes: Notes,
}

impl Dump<'_> {
    /// The parts in the order of their numbers, none missing and none too many.
    async fn parts(&mut self) -> Result<Vec<(u32, ListedObject)>, StepError> {
        let mut parts = Vec::new();
        for object in self.place.list(&self.keys.parts()).await? {
            match self.keys.part_number(&object.key) {
                Some(number) => parts.push((number, object)),
                None => self.notes.add(format!(
                    "{} is not a part of this backup by its name",
                    self.place.store.url(&object.key)
                )),
            }
        }
        // Numbers have nine digits: the order of the listing is theirs.
        let last = parts.last().map_or(0, |(number, _)| u64::from(*number));
        let said = self.metadata.part_count;
        let gap = (1_u32..)
            .zip(&parts)
            .find(|(expected, (number, _))| expected != number);
        let missing = match gap {
            Some((expected, _)) => Some(expected),
            None if last < said => u32::try_from(last + 1).ok(),
            None => None,
        };
        if let Some(number) = missing {
            let key = self.keys.part(number);
            if self.place.surveys() {
                return self.with_missing(parts, last.max(said));
            }
            if !self.place.options.allow_incomplete {
                return Err(self.place.missing(&key));
            }
            self.whole = false;
            let missing = last.max(said).saturating_sub(parts.len() as u64);
            let url = self.place.store.url(&key);
            self.notes
                .add(format!("{missing} parts are missing; the first is {url}"));
        } else if last > said && !self.place.options.allow_incomplete {
            let what = format!("it says {said} parts, and there are {last}");
            self.place
                .refuse(self.place.corrupt(&self.keys.metadata(), what))?;
        }
        Ok(parts)
    }

    /// The parts and, as files of no bytes, those that should be there: whoever reads them will see.
    fn with_missing(
        &self,
        mut parts: Vec<(u32, ListedObject)>,
        last: u64,
    ) -> Result<Vec<(u32, ListedObject)>, StepError> {
        let there: BTreeSet<u32> = parts.iter().map(|(number, _)| *number).collect();
        let absent = (1..=u32::try_from(last).unwrap_or(u32::MAX))
            .filter(|number| !there.contains(number))
            .take(MISSING_PARTS);
        parts.extend(absent.map(|number| {
            let key = self.keys.part(number);
            (number, ListedObject { key, bytes: 0 })
        }));
        parts.sort_by_key(|(number, _)| *number);
        let more = last.saturating_sub(parts.len() as u64);
        if more > 0 {
            let what = format!("{more} more parts are missing");
            self.place
                .refuse(self.place.corrupt(&self.keys.metadata(), what))?;
        }
        Ok(parts)
    }

    /// The parts with what their user metadata says of them.
    async fn claimed(
        &mut self,
        parts: Vec<(u32, ListedObject)>,
    ) -> Result<Vec<SourceFile>, StepError> {
        let mut files: Vec<SourceFile> = Vec::with_capacity(parts.len());
        let place = self.place;
        // One request for each part is spent only on a generation that keeps something there.
        let hashed = self.hash().is_some()
            || match parts.first() {
                Some((number, object)) => {
                    claims(place, *number, object).await?.plain_sha256.is_some()
                }
                None => false,
            };
        if !hashed {
            if !parts.is_empty() {
                self.notes
                    .add("the parts have no hashes: the older dyndump wrote none");
            }
            let bare = |(_, part)| unclaimed(part, LineShape::Bare);
            return Ok(parts.into_iter().map(bare).collect());
        }
        let asked = parts.into_iter().map(async |(number, object)| {
            let claims = claims(place, number, &object).await?;
            Ok::<_, StepError>(SourceFile {
                claims,
                ..unclaimed(object, LineShape::Bare)
            })
        });
        let mut asked = futures::stream::iter(asked).buffered(REQUESTS);
        while let Some(file) = asked.try_next().await? {
            files.push(file);
        }
        let unhashed = files
            .iter()
            .filter(|file| file.claims.plain_sha256.is_none())
            .count();
        if unhashed > 0 {
            self.notes.add(format!(
                "{unhashed} parts have no hash in their user metadata: the hash over all parts cannot be checked"
            ));
        }
        Ok(files)
    }

    fn hash(&self) -> Option<&str> {
        self.metadata
            .hash_sha256
            .as_deref()
            .filter(|hash| !hash.is_empty())
    }

    /// Checks what can be checked without reading a part.
    async fn check(&mut self, files: &[SourceFile]) -> Result<(), StepError> {
        if self.metadata.status != Status::Completed || !self.whole {
            self.notes
                .add("the backup is not whole: its counts are not those of its parts");
            return Ok(());
        }
        let (place, key) = (self.place, self.keys.metadata());
        let stored: u64 = files.iter().map(|file| file.stored_bytes).sum();
        let said = self.metadata.compressed_bytes;
        if stored != said {
            let what = format!("it says {said} bytes, the parts have {stored}");
            place.refuse_sums(&key, what, files).await?;
        }
        let items = files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.claims.items?));
        let said = self.metadata.item_count;
        if let Some(items) = items.filter(|items| *items != said) {
            let what = format!("it says {said} items, the parts have {items}");
            place.refuse_sums(&key, what, files).await?;
        }
        self.check_chain(files)
    }

    /// Checks the hash over the parts' hashes.
    fn check_chain(&mut self, files: &[SourceFile]) -> Result<(), StepError> {
        let Some(expected) = self.hash() else {
            return Ok(());
        };
        let all = files.len() as u64;
        let last = self.metadata.last_hashed.unwrap_or(all);
        let mut chain = HashChain::default();
        let mut chained = 0;
        for hash in files
            .iter()
            .map_while(|file| file.claims.plain_sha256.as_ref())
        {
            if chained < last {
                chain.push(hash);
                chained += 1;
            }
        }
        if chained < last {
            return Ok(());
        }
        let found = chain.hex();
        if !found.eq_ignore_ascii_case(expected) {
            let what = format!(
                "it says that all parts together have the hash {expected}; they have {found}"
            );
            self.place
                .refuse(self.place.corrupt(&self.keys.metadata(), what))?;
        }
        if last < all {
            self.notes.add(format!(
                "the hash over all parts is of the first {last} only"
            ));
        }
        Ok(())
    }

    fn catalog(self, files: Vec<SourceFile>) -> Catalog {
        let Self {
            place,
            metadata,
            whole,
            notes,
            ..
        } = self;
        let mut catalog = place.catalog(SourceKind::Dyndump, files, notes);
        catalog.table_name = Some(metadata.table_name).filter(|name| !name.is_empty());
        catalog.status = Some(metadata.status);
        if metadata.status == Status::Completed && whole {
            catalog.items = Some(metadata.item_count);
            catalog.plain_bytes = Some(metadata.uncompressed_bytes);
        }
        catalog
    }
}

/// What a part's user metadata says of it; of a survey's missing or mislabelled part nothing.
async fn claims(
    place: &Place<'_>,
    number: u32,
    part: &ListedObject,
) -> Result<FileClaims, StepError> {
    match claims_of(place, number, part).await {
        Err(StepError::PartMissing(_)) if place.surveys() => Ok(FileClaims::default()),
        Err(error @ StepError::PartCorrupt(_)) => {
            place.refuse(error).map(|()| FileClaims::default())
        }
        claims => claims,
    }
}

async fn claims_of(
    place: &Place<'_>,
    number: u32,
    part: &ListedObject,
) -> Result<FileClaims, StepError> {
    let facts = place
        .store
        .facts(&part.key)
        .await
        .map_err(StepError::Store)?;
    let said = facts.ok_or_else(|| place.missing(&part.key))?.user_metadata;
    let decimal = |name: &str| {
        let text = said.get(name);
        let number = text.map(|text| text.parse::<u64>());
        let wrong = |_| {
            let text = text.map_or("", String::as_str);
            place.corrupt(
                &part.key,
                format_args!("its user metadata {name} is {text:?}"),
            )
        };
        number.transpose().map_err(wrong)
    };
    let items = decimal(PART_ITEM_COUNT)?;
    if let Some(said) = decimal(PART_NUMBER)?.filter(|said| *said != u64::from(number)) {
        let what = format!("by its user metadata it is part {said}");
        return Err(place.corrupt(&part.key, what));
    }
    Ok(FileClaims {
        items,
        plain_sha256: said.get(PART_SHA256).cloned(),
        ..FileClaims::default()
    })
}

//! What a change log knows of itself: its streams, shards, ends, incidents, mark, and which objects hold the records.
//!
//! Everything is read from the bucket alone. Objects that a log does not have are left alone and counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater_domain::change_log::LogName;
use highwater_domain::incident::{INCIDENT_VERSION, Incident};
use highwater_domain::live_control::{PUBLISHED_MARK_VERSION, PublishedMark};
use highwater_domain::log_facts::{LOG_FACTS_VERSION, ShardEnd, ShardFacts, StreamFacts};
use highwater_domain::log_place::{LogPlace, UNPLACED};
use highwater_domain::object_store::{ListPage, ListedObject, ObjectStore};
use highwater_domain::restore_point::{LogFacts, LogShard};
use highwater_domain::shard::ShardId;
use serde::de::DeserializeOwned;

use crate::begin_log::generations;
use crate::error::StepError;

/// Facts that are read at once.
const AT_ONCE: usize = 32;

/// Folders of a stream's log that are no shards'.
const OTHER_FOLDERS: [&str; 3] = ["incidents", "unread", UNPLACED];

/// One stream's log, as it is this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LogIndex {
    /// Every stream of the table that has a log, in order.
    pub streams: Vec<StreamFacts>,
    /// What is known of this one.
    pub facts: LogFacts,
    /// Shards that have records and are not registered: a function wrote them before an auditor saw the shard. No mark
    /// has passed them.
    pub unregistered: Vec<ShardId>,
    /// Objects and folders that a log does not have.
    pub ignored: u64,
}

impl LogIndex {
    /// Reads the log of the stream called `label`. Memory: a few hundred bytes for each shard of it.
    ///
    /// # Errors
    /// [`StepError::LogCorrupt`] names an object that is not what a log keeps there, or that a later version wrote.
    /// Where there is no log of this stream, [`StepError::InvalidInput`] says so.
    pub async fn read(
        store: &Arc<dyn ObjectStore>,
        place: &LogPlace,
        label: &str,
    ) -> Result<Self, StepError> {
        Self::read_again(store, place, label, &BTreeMap::new()).await
    }

    /// The same for somebody who has read it before: what he knows, and what does not change any more, is not read again.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub async fn read_again(
        store: &Arc<dyn ObjectStore>,
        place: &LogPlace,
        label: &str,
        known: &BTreeMap<ShardId, LogShard>,
    ) -> Result<Self, StepError> {
        let streams = generations(&**store, place).await?;
        let stream = streams.iter().find(|known| known.stream_label == label);
        let stream = stream.cloned().ok_or_else(|| {
            let folder = store.url(&place.stream(label));
            StepError::InvalidInput(format!("there is no change log at {folder}"))
        })?;
        check_version(store, &place.generation(stream.generation), stream.version)?;
        // The mark first: what it has passed was on record before it was published.
        let mark: Option<PublishedMark> = fact(store, &place.mark(label)).await?;
        if let Some(mark) = &mark
            && mark.version > PUBLISHED_MARK_VERSION
        {
            return Err(later(store, &place.mark(label), mark.version));
        }
        let folders = shard_folders(&**store, &place.stream(label)).await?;
        // Collected first: a stream over a closure that borrows is not `Send` for every lifetime.
        let read = folders.shards.iter();
        let read: Vec<_> = read
            .map(|id| shard(store, place, label, id, known.get(id)))
            .collect();
        let read: Vec<Option<LogShard>> =
            stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        let mut shards = BTreeMap::new();
        let mut unregistered = Vec::new();
        for (id, shard) in folders.shards.into_iter().zip(read) {
            match shard {
                Some(shard) => drop(shards.insert(id, shard)),
                None => unregistered.push(id),
            }
        }
        let (incidents, others) = incidents(store, place, label).await?;
        Ok(Self {
            streams,
            facts: LogFacts {
                stream,
                mark,
                incidents,
                shards,
            },
            unregistered,
            ignored: folders.ignored + others,
        })
    }
}

/// The folders of one stream's log.
struct Folders {
    shards: Vec<ShardId>,
    ignored: u64,
}

async fn shard_folders(store: &dyn ObjectStore, stream: &str) -> Result<Folders, StepError> {
    let mut folders = Folders {
        shards: Vec::new(),
        ignored: 0,
    };
    let mut after: Option<String> = None;
    loop {
        let page = store.list_folders(stream, after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        for folder in &page.folders {
            let name = folder
                .strip_prefix(stream)
                .and_then(|name| name.strip_suffix('/'));
            match name.map(|name| (name, name.parse::<ShardId>())) {
                Some((name, _)) if OTHER_FOLDERS.contains(&name) => {}
                Some((_, Ok(id))) => folders.shards.push(id),
                _ => folders.ignored += 1,
            }
        }
        let mark = format!("{stream}mark.json");
        let others = page.objects.iter().filter(|object| object.key != mark);
        folders.ignored += others.count() as u64;
        after = page.next;
        if after.is_none() {
            return Ok(folders);
        }
    }
}

async fn shard(
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
    label: &str,
    id: &ShardId,
    known: Option<&LogShard>,
) -> Result<Option<LogShard>, StepError> {
    if let Some(whole) = known.filter(|known| known.end.is_some()) {
        return Ok(Some(whole.clone()));
    }
    let (facts_key, end_key) = (place.shard_facts(label, id), place.shard_end(label, id));
    let facts = match known {
        Some(known) => Some(known.facts.clone()),
        None => fact::<ShardFacts>(store, &facts_key).await?,
    };
    let Some(facts) = facts else {
        return Ok(None);
    };
    check_version(store, &facts_key, facts.version)?;
    check_shard(store, &facts_key, id, &facts.shard.id)?;
    let end: Option<ShardEnd> = fact(store, &end_key).await?;
    if let Some(end) = &end {
        check_version(store, &end_key, end.version)?;
        check_shard(store, &end_key, id, &end.shard)?;
    }
    Ok(Some(LogShard { facts, end }))
}

/// A fact that was copied into another shard's folder would be a lie.
fn check_shard(
    store: &Arc<dyn ObjectStore>,
    key: &str,
    folder: &ShardId,
    found: &ShardId,
) -> Result<(), StepError> {
    if folder == found {
        return Ok(());
    }
    let url = store.url(key);
    Err(StepError::LogCorrupt(format!(
        "{url} is about shard {found}, not the one whose folder it is in"
    )))
}

fn check_version(store: &Arc<dyn ObjectStore>, key: &str, found: u32) -> Result<(), StepError> {
    if found <= LOG_FACTS_VERSION {
        return Ok(());
    }
    Err(later(store, key, found))
}

fn later(store: &Arc<dyn ObjectStore>, key: &str, version: u32) -> StepError {
    let url = store.url(key);
    StepError::LogCorrupt(format!(
        "{url} was written by a later version of Highwater (layout {version}); use that one"
    ))
}

/// All incidents, and how many other objects lie among them.
async fn incidents(
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
    label: &str,
) -> Result<(Vec<Incident>, u64), StepError> {
    let folder = place.incidents(label);
    let mut found = Vec::new();
    let mut ignored = 0;
    let mut pages = Pages::of(&**store, &folder);
    while let Some(page) = pages.next().await? {
        let (keys, others): (Vec<String>, Vec<String>) = page
            .objects
            .into_iter()
            .map(|object| object.key)
            .partition(|key| is_incident(&folder, key));
        ignored += others.len() as u64;
        let read: Vec<_> = keys
            .iter()
            .map(|key| fact::<Incident>(store, key))
            .collect();
        let read: Vec<Option<Incident>> =
            stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        for (key, incident) in keys.iter().zip(read) {
            let Some(incident) = incident else { continue };
            if incident.version > INCIDENT_VERSION {
                return Err(later(store, key, incident.version));
            }
            found.push(incident);
        }
    }
    Ok((found, ignored))
}

fn is_incident(folder: &str, key: &str) -> bool {
    let name = key.strip_prefix(folder).unwrap_or_default();
    name.strip_suffix(".json")
        .is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// A fact of the log, or `None` if there is none of this key.
async fn fact<T: DeserializeOwned>(
    store: &Arc<dyn ObjectStore>,
    key: &str,
) -> Result<Option<T>, StepError> {
    let Some(body) = store.read(key).await.map_err(StepError::Store)? else {
        return Ok(None);
    };
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        let url = store.url(key);
        StepError::LogCorrupt(format!(
            "{url} is not what a change log keeps there: {error}"
        ))
    })
}

/// The pages of a listing.
struct Pages<'a> {
    store: &'a dyn ObjectStore,
    prefix: &'a str,
    after: Option<String>,
    ended: bool,
}

impl<'a> Pages<'a> {
    fn of(store: &'a dyn ObjectStore, prefix: &'a str) -> Self {
        Self {
            store,
            prefix,
            after: None,
            ended: false,
        }
    }

    async fn next(&mut self) -> Result<Option<ListPage>, StepError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.list(self.prefix, self.after.as_deref()).await;
        let page = page.map_err(StepError::Store)?;
        self.after.clone_from(&page.next);
        self.ended = page.next.is_none();
        Ok(Some(page))
    }
}

/// Shows `visit` the log objects of one shard, in the order of their first records, page by page, and says how many other
/// objects lie among them.
///
/// `stream` is the folder of the stream's log, ending in `/` or empty.
pub async fn visit_objects(
    store: &dyn ObjectStore,
    stream: &str,
    shard: &ShardId,
    mut visit: impl FnMut(LogName, ListedObject),
) -> Result<u64, StepError> {
    let folder = format!("{stream}{shard}/");
    let facts = [format!("{folder}shard.json"), format!("{folder}end.json")];
    let mut ignored = 0;
    let mut pages = Pages::of(store, &folder);
    while let Some(page) = pages.next().await? {
        for object in page.objects {
            match LogName::parse(stream, &object.key) {
                Some(name) => visit(name, object),
                None if facts.contains(&object.key) => {}
                None => ignored += 1,
            }
        }
    }
    Ok(ignored)
}

//! Reads backups back and compares them with their tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use highwater_aws::DynamoScanner;
use highwater_domain::ids::SnapshotId;
use highwater_domain::key::{Key, KeySchema};
use highwater_domain::layout::Layout;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore;
use highwater_local::DirectoryStore;
use highwater_steps::read_snapshot::SealedSnapshot;
use highwater_testkit::fake_table::{scan_request, scan_segment};
use highwater_testkit::generate::canonical;
use serde_json::Value;

use super::stage::{Stage, keys_below};

/// Items by key. Values, not bytes: the engine shuffles the attributes of an item anew in every answer.
pub type Items = BTreeMap<Key, Value>;

/// Nothing is missing, nothing is new and nothing is changed; tells the first difference.
#[track_caller]
pub fn assert_same(found: &Items, expected: &Items) {
    let missing = expected.keys().find(|key| !found.contains_key(key));
    assert_eq!(
        missing,
        None,
        "missing; {} of {} items are there",
        found.len(),
        expected.len()
    );
    for (key, item) in found {
        assert_eq!(Some(item), expected.get(key), "{key:?}");
    }
}

/// Every item of a table, straight from the engine.
pub async fn table_items(stage: &Stage, table: &str, schema: &KeySchema) -> Items {
    let scanner = DynamoScanner::new(stage.direct.clone());
    let items = scan_segment(&scanner, scan_request(table, 0, 1))
        .await
        .unwrap();
    by_key(items.iter().map(Vec::as_slice), schema)
}

fn by_key<'a>(items: impl Iterator<Item = &'a [u8]>, schema: &KeySchema) -> Items {
    let mut found = Items::new();
    for item in items {
        let key = schema.key_of(item).unwrap();
        let before = found.insert(key.clone(), canonical(item));
        assert_eq!(before, None, "an item came twice: {key:?}");
    }
    found
}

/// A place of backups: the store and the prefix in it.
pub struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Place {
    /// A prefix of the stage's bucket.
    pub fn bucket(stage: &Stage, prefix: &str) -> Self {
        Self {
            store: stage.bucket(),
            prefix: prefix.to_owned(),
        }
    }

    /// A folder.
    pub fn folder(path: &Path) -> Self {
        Self {
            store: Arc::new(DirectoryStore::new(path)),
            prefix: String::new(),
        }
    }

    /// A prefix in this place.
    pub fn below(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Reads a sealed backup; every item's key must be there once, and `data/` holds what the manifest names.
    pub async fn read(&self, table: &str, id: &SnapshotId) -> (Items, Metadata) {
        let layout = Layout::new(&self.prefix, table, id);
        let sealed = SealedSnapshot::open(self.store.clone(), &layout, id)
            .await
            .unwrap();
        let parent = layout
            .root()
            .split_once(&format!("/AWSDynamoDB/{id}/"))
            .unwrap()
            .0;
        assert_eq!(
            sealed.summary.s3_prefix.as_deref(),
            Some(parent),
            "everything before AWSDynamoDB/"
        );
        let schema = sealed.metadata.key_schema.clone().unwrap();
        let mut items = Vec::new();
        let totals = sealed.read(|item| items.push(item.to_vec())).await.unwrap();
        assert_eq!(totals.items, items.len() as u64);
        let named: BTreeSet<String> = sealed
            .files
            .iter()
            .map(|file| file.data_file_s3_key.clone())
            .collect();
        assert_eq!(named.len(), sealed.files.len(), "a part is named twice");
        assert_eq!(
            self.data(table, id).await,
            named,
            "data/ holds the manifest's parts"
        );
        let items = by_key(items.iter().map(Vec::as_slice), &schema);
        (items, sealed.metadata)
    }

    /// The keys in a backup's `data/`.
    pub async fn data(&self, table: &str, id: &SnapshotId) -> BTreeSet<String> {
        let layout = Layout::new(&self.prefix, table, id);
        let keys = keys_below(self.store.as_ref(), &layout.data()).await;
        keys.into_iter().collect()
    }

    /// `backup.json`, if it is there.
    pub async fn metadata(&self, table: &str, id: &SnapshotId) -> Option<Metadata> {
        let layout = Layout::new(&self.prefix, table, id);
        let body = self.store.read(&layout.metadata()).await.unwrap()?;
        Some(serde_json::from_slice(&body).unwrap())
    }
}

/// The id in a result.
pub fn id_of(result: &Value) -> SnapshotId {
    result["snapshot_id"].as_str().unwrap().parse().unwrap()
}

/// The `number`th id of a test.
pub fn id(number: u32) -> SnapshotId {
    SnapshotId::new(highwater_domain::ids::UnixMillis(1_768_385_930_622), number)
}

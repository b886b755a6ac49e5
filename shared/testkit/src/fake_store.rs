//! An object store in memory, stricter than S3 where S3 forgives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::{
    Creation, ListPage, ListedObject, NewObject, ObjectFacts, ObjectStore,
};
use sha2::{Digest, Sha256};

/// A bucket in memory. Listings come three keys to a page, unless told otherwise.
#[derive(Debug)]
pub struct FakeStore {
    objects: Mutex<BTreeMap<String, NewObject>>,
    page: usize,
    keeps_conditions: bool,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self::new()
    }
}

/// An object for tests, of JSON type and without an item count.
#[must_use]
pub fn object(key: &str, body: &str) -> NewObject {
    NewObject {
        key: key.to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        content_type: "application/json",
        item_count: None,
        ..NewObject::default()
    }
}

impl FakeStore {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        Self {
            objects: Mutex::new(BTreeMap::new()),
            page: 3,
            keeps_conditions: true,
        }
    }

    /// A store that ignores `If-None-Match`, as some that call themselves S3-compatible do:
    /// every create overwrites and says that it created.
    #[must_use]
    pub fn ignoring_conditions() -> Self {
        Self {
            keeps_conditions: false,
            ..Self::new()
        }
    }

    /// Keys and folders on one page of a listing, at least 1.
    #[must_use]
    pub fn with_page(mut self, page: usize) -> Self {
        assert!(page > 0, "a page holds something");
        self.page = page;
        self
    }

    /// All keys, in byte order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.locked().keys().cloned().collect()
    }

    /// All objects, by key.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, NewObject> {
        self.locked().clone()
    }

    /// Changes an object's bytes behind everybody's back, as a rotten disk would. False if it is not there.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut objects = self.locked();
        let Some(object) = objects.get_mut(key) else {
            return false;
        };
        let mut body = object.body.to_vec();
        change(&mut body);
        object.body = body.into();
        true
    }

    /// Puts an object behind everybody's back.
    pub fn plant(&self, object: NewObject) {
        self.locked().insert(object.key.clone(), object);
    }

    /// Takes an object away behind everybody's back. False if it was not there.
    pub fn lose(&self, key: &str) -> bool {
        self.locked().remove(key).is_some()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, NewObject>> {
        self.objects.lock().unwrap()
    }

    /// S3 takes keys of 1 to 1024 bytes; a leading `/` is a mistake in a program that builds keys.
    fn check(&self, operation: &'static str, key: &str) -> Result<(), Failure> {
        if key.is_empty() || key.len() > 1024 || key.starts_with('/') {
            return Err(self.invalid(operation, key, "not a usable key"));
        }
        Ok(())
    }

    fn invalid(&self, operation: &'static str, key: &str, message: &str) -> Failure {
        Failure::new(FailureKind::Invalid, operation, self.url(key), message)
    }

    fn page_of(&self, prefix: &str, after: Option<&str>, folders: bool) -> ListPage {
        let mut page = ListPage::default();
        let mut rolled_up = BTreeSet::new();
        let mut last = None;
        for (key, object) in self.locked().iter() {
            let Some(rest) = key.strip_prefix(prefix) else {
                continue;
            };
            let folder = rest
                .find('/')
                .filter(|_| folders)
                .map(|end| format!("{prefix}{}", &rest[..=end]));
            let name = folder.clone().unwrap_or_else(|| key.clone());
            if after.is_some_and(|after| name.as_str() <= after) || rolled_up.contains(&name) {
                continue;
            }
            if page.objects.len() + rolled_up.len() == self.page {
                page.next = last;
                break;
            }
            last = Some(name.clone());
            match folder {
                Some(_) => drop(rolled_up.insert(name)),
                None => page.objects.push(ListedObject {
                    key: name,
                    bytes: object.body.len() as u64,
                }),
            }
        }
        page.folders = rolled_up.into_iter().collect();
        page
    }
}

#[async_trait]
impl ObjectStore for FakeStore {
    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket())
    }

    fn bucket(&self) -> &'static str {
        "fake-bucket"
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        self.check("create", &object.key)?;
        let mut objects = self.locked();
        if self.keeps_conditions && objects.contains_key(&object.key) {
            return Ok(Creation::Exists);
        }
        objects.insert(object.key.clone(), object);
        Ok(Creation::Created)
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.check("replace", &object.key)?;
        self.locked().insert(object.key.clone(), object);
        Ok(())
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.check("read", key)?;
        Ok(self.locked().get(key).map(|object| object.body.clone()))
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        let body = self.read(key).await?;
        Ok(body.map(|body| {
            let within = |at: u64| usize::try_from(at).unwrap().min(body.len());
            body.slice(within(range.start)..within(range.end).max(within(range.start)))
        }))
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.check("facts", key)?;
        Ok(self.locked().get(key).map(|object| ObjectFacts {
            bytes: object.body.len() as u64,
            sha256: Some(Sha256::digest(&object.body).into()),
            item_count: object.item_count,
            user_metadata: object.user_metadata.clone(),
        }))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        Ok(self.page_of(prefix, after, false))
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        if !prefix.is_empty() && !prefix.ends_with('/') {
            let message = "the prefix of a folder listing is empty or ends in `/`";
            return Err(self.invalid("list_folders", prefix, message));
        }
        Ok(self.page_of(prefix, after, true))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        if keys.len() > 1000 {
            return Err(self.invalid("delete", "", "more than 1000 keys in one call"));
        }
        for key in keys {
            self.check("delete", key)?;
        }
        let mut objects = self.locked();
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }
}

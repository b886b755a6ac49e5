//! The handles: a store has tables, a table has partitions, a partition has records.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::clock::{Clock, Now, SystemClock};
use crate::error::Error;
use crate::field::{ID, NAME};
use crate::hook::{Call, Hook, Operation};
use crate::record::{Item, Record, RecordKey, Standing};
use crate::request::Request;
use crate::version::Versions;

/// Where the records are: a DynamoDB client, with a clock and hooks. Cheap to clone.
///
/// Retries, time-outs and credentials are the client's; see [`aws_sdk_dynamodb::Config`].
///
/// ```no_run
/// # async fn example(config: aws_sdk_dynamodb::Config) -> Result<(), highwater_kv::Error> {
/// use highwater_kv::Store;
///
/// let store = Store::new(aws_sdk_dynamodb::Client::from_conf(config));
/// let jobs = store.table("my-table").partition("jobs");
/// let job = jobs.get("2020/0001").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Store {
    client: Client,
    clock: Arc<dyn Clock>,
    hooks: Vec<Arc<dyn Hook>>,
    versions: Arc<Versions>,
}

impl Store {
    /// A store on this client, with the system's clock and no hooks.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            clock: Arc::new(SystemClock),
            hooks: Vec::new(),
            versions: Arc::default(),
        }
    }

    /// Tells the time by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Adds a hook; hooks are called in the order in which they were added.
    #[must_use]
    pub fn with_hook(mut self, hook: impl Hook + 'static) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// The client underneath, for what this crate does not do.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A table by its name or ARN. Nothing is sent.
    #[must_use]
    pub fn table(&self, name: impl Into<String>) -> Table {
        Table {
            store: Arc::new(self.clone()),
            name: name.into().into(),
        }
    }

    pub(crate) fn hooks(&self) -> &[Arc<dyn Hook>] {
        &self.hooks
    }

    pub(crate) fn versions(&self) -> &Versions {
        &self.versions
    }

    pub(crate) fn now(&self) -> Now {
        Now::read(self.clock.as_ref())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("hooks", &self.hooks.len())
            .finish_non_exhaustive()
    }
}

/// One table of records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Table {
    store: Arc<Store>,
    name: Arc<str>,
}

impl Table {
    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store that the table is in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A partition of the table. Nothing is sent: a partition exists as soon as it has a record.
    #[must_use]
    pub fn partition(&self, id: impl Into<String>) -> Partition {
        Partition {
            table: self.clone(),
            id: id.into().into(),
            consistent: true,
        }
    }

    pub(crate) fn request<'a>(
        &'a self,
        operation: Operation,
        request: &'static str,
        partition: Option<&'a str>,
        name: Option<&'a str>,
    ) -> Request<'a> {
        let call = Call {
            operation,
            request,
            table: &self.name,
            partition,
            name,
        };
        Request::new(&self.store, call)
    }

    /// Reads an item, and keeps its version in mind so that no record starts below it.
    pub(crate) fn record(&self, item: Item) -> Result<Record, Error> {
        let record = Record::from_item(&self.name, item)?;
        self.store.versions.saw(record.version());
        Ok(record)
    }

    /// As [`Self::record`], for an item of which only the standing matters.
    pub(crate) fn standing(&self, item: &Item, key: &RecordKey) -> Result<Standing, Error> {
        let standing = Standing::of(item, key)?;
        if let Some(version) = standing.version {
            self.store.versions.saw(version);
        }
        Ok(standing)
    }
}

/// One partition of a table: its records have names, and are sorted by them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Partition {
    table: Table,
    id: Arc<str>,
    consistent: bool,
}

impl Partition {
    /// The partition's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The table that the partition is in.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The same partition with eventually consistent reads, at half the price: a read may miss the
    /// writes of the last moments. Reads are strongly consistent otherwise.
    #[must_use]
    pub fn eventually_consistent(mut self) -> Self {
        self.consistent = false;
        self
    }

    pub(crate) fn is_consistent(&self) -> bool {
        self.consistent
    }

    pub(crate) fn request<'a>(
        &'a self,
        operation: Operation,
        request: &'static str,
        name: &'a str,
    ) -> Request<'a> {
        self.table
            .request(operation, request, Some(&self.id), Some(name))
    }

    pub(crate) fn record_key(&self, name: &str) -> RecordKey {
        RecordKey::new(&self.table.name, &self.id, name)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.table.store.client
    }

    pub(crate) fn now(&self) -> Now {
        self.table.store.now()
    }
}

/// The key attributes of one record.
pub(crate) fn key_item(partition: &str, name: &str) -> Item {
    Item::from([
        (ID.to_owned(), AttributeValue::S(partition.to_owned())),
        (NAME.to_owned(), AttributeValue::S(name.to_owned())),
    ])
}

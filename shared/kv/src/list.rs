//! Reading many records in order, page by page, from the table itself or from one of its indexes.

use crate::error::Error;
use crate::field::Field;
use crate::query::Query;
use crate::record::Record;
use crate::store::{Partition, Table};
use crate::token::PageToken;

/// Which records to list, and how. Without anything set: the whole partition, by name, in pages of up to 1 MB.
///
/// ```
/// use highwater_kv::List;
/// let newest_first = List::new().prefix("2020/").descending().limit(20);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct List {
    pub(crate) prefix: String,
    pub(crate) after: Option<String>,
    pub(crate) token: Option<PageToken>,
    pub(crate) limit: Option<u32>,
    pub(crate) descending: bool,
    pub(crate) eventually_consistent: bool,
    pub(crate) index: Option<Index>,
}

impl List {
    /// All records of the partition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only names that begin so; with an index, only values of its sort attribute that begin so.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Starts behind this name, in the list's order, whether or not a record has it. Not with an index.
    ///
    /// Once the list has a [`token`](Self::token), that says where to start instead.
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.after = Some(name.into());
        self
    }

    /// Continues where a page of the same list ended.
    pub fn token(mut self, token: PageToken) -> Self {
        self.token = Some(token);
        self
    }

    /// At most so many records a page, at least 1. A page has fewer only where the list ends.
    pub fn limit(mut self, records: u32) -> Self {
        self.limit = Some(records);
        self
    }

    /// From the last name to the first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// May miss the writes of the last moments, at half the price. Lists by a global index always may:
    /// DynamoDB offers nothing else there.
    pub fn eventually_consistent(mut self) -> Self {
        self.eventually_consistent = true;
        self
    }

    /// Lists by an index, in the order of its sort attribute.
    pub fn index(mut self, index: Index) -> Self {
        self.index = Some(index);
        self
    }

    pub(crate) fn require_global_index(&self) -> Result<(), Error> {
        match &self.index {
            Some(index) if index.partition.is_some() => Ok(()),
            index => Err(Error::Index {
                index: index.as_ref().map(|i| i.name.clone()).unwrap_or_default(),
                reason: "a list by key needs a global index",
            }),
        }
    }
}

/// An index of the table to list by.
///
/// The index must project `version` and `expires` (best: everything, as [`TableSpec`](crate::TableSpec)
/// makes it). A record without version is refused as malformed, because without `expires` nobody could
/// tell whether it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub(crate) name: String,
    /// The partition attribute of a global index.
    pub(crate) partition: Option<String>,
    pub(crate) sort: Option<String>,
}

impl Index {
    /// A local index: the partition's records, sorted by another attribute.
    pub fn local(name: impl Into<String>, sort_attribute: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partition: None,
            sort: Some(sort_attribute.into()),
        }
    }

    /// A global index, without sort attribute so far. [`Partition::list`] lists the records whose attribute
    /// `partition_attribute` is the partition's id; [`Table::list_by`] takes any other value.
    pub fn global(name: impl Into<String>, partition_attribute: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partition: Some(partition_attribute.into()),
            sort: None,
        }
    }

    /// Names the sort attribute of a global index that has one.
    #[must_use]
    pub fn sort(mut self, sort_attribute: impl Into<String>) -> Self {
        self.sort = Some(sort_attribute.into());
        self
    }
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The records; none of them had expired when the page was read.
    pub records: Vec<Record>,
    /// Where the next page begins; `None`: the list ends here. A page behind a token may be empty.
    pub next: Option<PageToken>,
}

impl Partition {
    /// Reads one page of the partition's records, or of a global index under the partition's id.
    ///
    /// Expired records never come out: a page that has lost some to expiry is filled up from what follows.
    ///
    /// # Errors
    /// [`Error::BadToken`] for a token of another list; [`Error::Index`] for `after` with an index.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let files = table.partition("files");
    /// for name in ["a/1", "a/2", "a/3", "b/1"] {
    ///     files.put(name, Write::text(name)).await?;
    /// }
    /// let list = List::new().prefix("a/").limit(2);
    /// let page = files.list(&list).await?;
    /// assert_eq!(page.records.len(), 2);
    ///
    /// // The token survives a trip through other hands, such as a web page's.
    /// let token = page.next.expect("a/3 is still to come").to_string();
    /// let page = files.list(&list.token(token.parse()?)).await?;
    /// assert_eq!(page.records[0].name(), "a/3");
    /// # Ok(()) }
    /// ```
    pub async fn list(&self, list: &List) -> Result<Page, Error> {
        let mut list = list.clone();
        list.eventually_consistent |= !self.is_consistent();
        let query = Query::new(self.table(), Field::from(self.id()), &list);
        query.page(list.token.as_ref()).await
    }
}

impl Table {
    /// Reads one page of the records under any value of a global index's partition attribute.
    ///
    /// # Errors
    /// [`Error::Index`] if `list` names no global index; [`Error::BadToken`] for a token of another list.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// // A table with a global index over the number `priority`, sorted by the text `created`.
    /// # let table = table.store().table("indexed");
    /// let spec = TableSpec::new().global_index(
    ///     "by_priority",
    ///     ("priority", FieldType::N),
    ///     Some(("created", FieldType::S)),
    /// );
    /// table.create(&spec).await?;
    /// let jobs = table.partition("jobs");
    /// jobs.put("j1", Write::text("one").field("priority", 7).field("created", "2020")).await?;
    ///
    /// let urgent = List::new().index(Index::global("by_priority", "priority").sort("created"));
    /// let page = table.list_by(7, &urgent).await?;
    /// assert_eq!(page.records[0].name(), "j1");
    /// # Ok(()) }
    /// ```
    pub async fn list_by(&self, key: impl Into<Field>, list: &List) -> Result<Page, Error> {
        list.require_global_index()?;
        let query = Query::new(self, key.into(), list);
        query.page(list.token.as_ref()).await
    }
}

//! Walking through all records of a list, one after the other, with one page in memory.

use crate::error::Error;
use crate::field::Field;
use crate::list::List;
use crate::query::Query;
use crate::record::Record;
use crate::store::{Partition, Table};
use crate::token::PageToken;

/// All records of a list in order, read page by page as they are needed.
///
/// Memory holds one page. Records that others write meanwhile come out or not, depending on
/// whether their place is still ahead. After an error the next call tries the same page again.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before the first `next`"]
pub struct Records {
    table: Table,
    key: Field,
    list: List,
    /// Records of the current page that have not been given out.
    page: std::vec::IntoIter<Record>,
    next: NextPage,
}

#[derive(Clone, Debug)]
enum NextPage {
    First,
    Behind(PageToken),
    None,
}

impl Records {
    fn new(table: Table, key: Field, list: List) -> Self {
        let next = list.token.clone();
        Self {
            table,
            key,
            list,
            page: Vec::new().into_iter(),
            next: next.map_or(NextPage::First, NextPage::Behind),
        }
    }

    /// The next record; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(record) = self.page.next() {
                return Ok(Some(record));
            }
            let token = match &self.next {
                NextPage::First => None,
                NextPage::Behind(token) => Some(token),
                NextPage::None => return Ok(None),
            };
            let query = Query::new(&self.table, self.key.clone(), &self.list);
            let page = query.page(token).await?;
            self.page = page.records.into_iter();
            self.next = page.next.map_or(NextPage::None, NextPage::Behind);
        }
    }
}

impl Partition {
    /// Walks through all records of a list, over page borders. The list's limit is the size of a page.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kv/engine.rs"));
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_engine, table) = fresh_table().await;
    /// let files = table.partition("files");
    /// for name in ["a/1", "a/2", "a/3"] {
    ///     files.put(name, Write::text(name)).await?;
    /// }
    /// let mut names = Vec::new();
    /// let mut records = files.records(List::new().prefix("a/").limit(2));
    /// while let Some(record) = records.next().await? {
    ///     names.push(record.name().to_owned());
    /// }
    /// assert_eq!(names, ["a/1", "a/2", "a/3"]);
    /// # Ok(()) }
    /// ```
    pub fn records(&self, mut list: List) -> Records {
        list.eventually_consistent |= !self.is_consistent();
        Records::new(self.table().clone(), Field::from(self.id()), list)
    }
}

impl Table {
    /// Walks through all records under a value of a global index's partition attribute.
    pub fn records_by(&self, key: impl Into<Field>, list: List) -> Result<Records, Error> {
        list.require_global_index()?;
        Ok(Records::new(self.clone(), key.into(), list))
    }
}

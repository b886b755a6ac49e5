//! One list as DynamoDB sees it: queries for its pages, filled up past expired records.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use crate::clock::Now;
use crate::error::{Error, FailureClass};
use crate::expression::Expression;
use crate::field::{Field, ID, NAME};
use crate::hook::Operation;
use crate::list::{Index, List, Page};
use crate::record::Item;
use crate::store::{Table, key_item};
use crate::token::{PageToken, as_text, bad};

/// Fewest and most items that a request for the rest of a page asks for.
const REFILL: RangeInclusive<u32> = 100..=1000;

/// One partition of the table or of an index, ready to be read page by page.
pub(crate) struct Query<'a> {
    table: &'a Table,
    list: &'a List,
    index: Option<&'a Index>,
    hash: (&'a str, Field),
    sort: Option<&'a str>,
    consistent: bool,
}

impl<'a> Query<'a> {
    pub(crate) fn new(table: &'a Table, key: Field, list: &'a List) -> Self {
        let index = list.index.as_ref();
        let global = index.and_then(|index| index.partition.as_deref());
        Self {
            table,
            list,
            index,
            hash: (global.unwrap_or(ID), key),
            sort: match index {
                Some(index) => index.sort.as_deref(),
                None => Some(NAME),
            },
            consistent: !list.eventually_consistent && global.is_none(),
        }
    }

    /// Sends requests until the page is full or the list ends.
    pub(crate) async fn page(&self, token: Option<&PageToken>) -> Result<Page, Error> {
        let now = self.table.store().now();
        let mut start = match self.start(token)? {
            Start::Beginning => None,
            Start::After(key) => Some(key),
            Start::Nowhere => return Ok(Page::default()),
        };
        let mut from_token = token.is_some();
        let full = self.list.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut ask = self.list.limit;
        let mut page = Page::default();
        loop {
            let answer = self.request(ask, start, from_token).await?;
            let items = answer.items.unwrap_or_default();
            let expected = page.records.len() + items.len();
            let cut = self.take_live(items, now, full, &mut page)?;
            start = answer.last_evaluated_key;
            // Without a limit a page is done when it has anything at all.
            let done =
                page.records.len() >= full || (full == usize::MAX && !page.records.is_empty());
            if done || start.is_none() {
                page.next = match (cut, start) {
                    (Some(cut), _) => Some(cut),
                    (None, Some(key)) => Some(token_of(&key)?),
                    (None, None) => None,
                };
                return Ok(page);
            }
            ask = ask.map(|asked| {
                if page.records.len() == expected {
                    // Cut short by size alone: the rest is as dense.
                    u32::try_from(full - page.records.len()).unwrap_or(u32::MAX)
                } else {
                    // Some had expired, and more may have: ask for many, not for one at a time.
                    let wider = asked.saturating_mul(2);
                    wider.clamp(*REFILL.start(), *REFILL.end())
                }
            });
            from_token = false;
        }
    }

    /// Moves live records into the page. If it is full before all items are seen, returns the token
    /// behind its last record.
    fn take_live(
        &self,
        items: Vec<Item>,
        now: Now,
        full: usize,
        page: &mut Page,
    ) -> Result<Option<PageToken>, Error> {
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            let last_place = page.records.len() + 1 == full && items.len() > 0;
            let cut = last_place.then(|| self.key_of(&item));
            let record = self.table.record(item)?;
            if record.is_expired(now) {
                continue;
            }
            page.records.push(record);
            if let Some(cut) = cut {
                return cut.map(Some);
            }
        }
        Ok(None)
    }

    async fn request(
        &self,
        limit: Option<u32>,
        start: Option<Item>,
        from_token: bool,
    ) -> Result<QueryOutput, Error> {
        let mut expression = Expression::default();
        let condition = self.key_condition(&mut expression)?;
        let partition = as_text(Some(&self.hash.1));
        let request = self
            .table
            .request(Operation::List, "Query", partition, None);
        let client = self.table.store().client();
        let answer = request
            .send(
                client
                    .query()
                    .table_name(self.table.name())
                    .set_index_name(self.index.map(|index| index.name.clone()))
                    .key_condition_expression(condition)
                    .set_expression_attribute_names(expression.names())
                    .set_expression_attribute_values(expression.values())
                    .set_limit(limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
                    .scan_index_forward(!self.list.descending)
                    .consistent_read(self.consistent)
                    .set_exclusive_start_key(start)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .customize()
                    .interceptor(request.attempts())
                    .send(),
            )
            .await;
        answer.map_err(|error| match request.failed(error) {
            // The same list gave a first page: what is new in this request is the token.
            Error::Aws(refusal) if from_token && refusal.class == FailureClass::Invalid => {
                bad(format!("DynamoDB refuses it: {}", refusal.message))
            }
            other => other,
        })
    }

    fn key_condition(&self, expression: &mut Expression) -> Result<String, Error> {
        let (attribute, key) = (self.hash.0, self.hash.1.clone());
        let condition = expression.assign(attribute, key.into_attribute());
        if self.list.prefix.is_empty() {
            return Ok(condition);
        }
        let sort = expression.name(self.sort_attribute()?);
        let prefix = expression.value(Field::from(self.list.prefix.as_str()).into_attribute());
        Ok(format!("{condition} AND begins_with({sort}, {prefix})"))
    }

    fn sort_attribute(&self) -> Result<&str, Error> {
        self.sort.ok_or_else(|| Error::Index {
            index: self
                .index
                .map(|index| index.name.clone())
                .unwrap_or_default(),
            reason: "a prefix needs a sort attribute",
        })
    }

    fn start(&self, token: Option<&PageToken>) -> Result<Start, Error> {
        if let Some(token) = token {
            self.check_token(token.key())?;
            return Ok(Start::After(token.to_start_key()));
        }
        match (&self.list.after, self.index) {
            (None, _) => Ok(Start::Beginning),
            (Some(_), Some(index)) => Err(Error::Index {
                index: index.name.clone(),
                reason: "a list by an index cannot start after a name",
            }),
            (Some(after), None) => Ok(self.start_after(after)),
        }
    }

    /// DynamoDB takes any name to start behind, but only one that the list's condition covers.
    fn start_after(&self, after: &str) -> Start {
        let covered = !after.is_empty() && after.starts_with(&self.list.prefix);
        // Strings compare by their UTF-8 bytes, in Rust as in DynamoDB.
        let before_all = after <= self.list.prefix.as_str();
        if covered {
            let partition = as_text(Some(&self.hash.1)).unwrap_or_default();
            Start::After(key_item(partition, after))
        } else if before_all != self.list.descending {
            Start::Beginning
        } else {
            Start::Nowhere
        }
    }

    fn key_attributes(&self) -> BTreeSet<&str> {
        [ID, NAME, self.hash.0]
            .into_iter()
            .chain(self.sort)
            .collect()
    }

    fn check_token(&self, key: &BTreeMap<String, Field>) -> Result<(), Error> {
        let named: BTreeSet<&str> = key.keys().map(String::as_str).collect();
        if named != self.key_attributes() || key.get(self.hash.0) != Some(&self.hash.1) {
            return Err(bad("it belongs to another list"));
        }
        if as_text(key.get(ID)).is_none() || as_text(key.get(NAME)).is_none() {
            return Err(bad("its key is not one of this table"));
        }
        let sort = self.sort.and_then(|sort| key.get(sort));
        let covered = self.list.prefix.is_empty()
            || as_text(sort).is_some_and(|text| text.starts_with(&self.list.prefix));
        if covered {
            Ok(())
        } else {
            Err(bad("it belongs to a list of another prefix"))
        }
    }

    fn key_of(&self, item: &Item) -> Result<PageToken, Error> {
        let attributes = self.key_attributes();
        let key = item
            .iter()
            .filter(|(name, _)| attributes.contains(name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        token_of(&key)
    }
}

enum Start {
    Beginning,
    After(Item),
    /// Behind the end: there is nothing to ask DynamoDB for.
    Nowhere,
}

/// Key attributes are S, N or B, so this fails on nothing that DynamoDB sends.
fn token_of(key: &Item) -> Result<PageToken, Error> {
    PageToken::from_last_key(key).ok_or_else(|| bad("a key attribute is not a scalar"))
}

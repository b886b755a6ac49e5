//! The records of one shard, each once and in order, from objects that overlap.
//!
//! Objects overlap because a batch may be cut anew, and one may be a back-fill: records that others lack, with gaps
//! between. So objects are merged by sequence number. Memory: of each object that is open its stored bytes and one
//! record; as many are open as overlap in one place, and a few are fetched at once. Nothing is in flight while the caller
//! does something else with a record.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use highwater_domain::change_log::{LogName, LogObjectError, LogRecords};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::stream_record::StreamRecord;

use crate::error::StepError;

/// Objects that are fetched at once.
const AT_ONCE: usize = 4;

/// One object of a shard's log.
#[derive(Clone, Debug)]
pub(crate) struct ShardObject {
    pub(crate) name: LogName,
    pub(crate) key: String,
    /// Its URL, for messages.
    pub(crate) url: String,
}

/// An object that was fetched.
type Fetched<'a> = (&'a ShardObject, Bytes);

/// An object that is being read.
struct Open<'a> {
    object: &'a ShardObject,
    records: LogRecords<'a, Cursor<Bytes>>,
    head: StreamRecord,
}

/// The records of one shard.
pub(crate) struct ShardRecords<'a> {
    store: Arc<dyn ObjectStore>,
    /// Objects that are to be fetched yet.
    left: &'a [ShardObject],
    fetched: VecDeque<Fetched<'a>>,
    open: Vec<Open<'a>>,
    after: Option<SequenceNumber>,
    /// The last record that was given out, and the object that it came from.
    given: Option<(StreamRecord, &'a ShardObject)>,
}

impl<'a> ShardRecords<'a> {
    /// The records behind `after` of these objects, which come in the order of their first records.
    pub(crate) fn new(
        store: &Arc<dyn ObjectStore>,
        objects: &'a [ShardObject],
        after: Option<SequenceNumber>,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            left: objects,
            fetched: VecDeque::new(),
            open: Vec::new(),
            after,
            given: None,
        }
    }

    /// Fetches the next few objects that have something behind the beginning.
    async fn fetch(&mut self) -> Result<(), StepError> {
        let mut wanted = Vec::new();
        while let Some((object, left)) = self.left.split_first()
            && wanted.len() < AT_ONCE
        {
            self.left = left;
            let is_behind = |after: &SequenceNumber| object.name.last > *after;
            if self.after.as_ref().is_none_or(is_behind) {
                wanted.push(fetch(&*self.store, object));
            }
        }
        self.fetched.extend(try_join_all(wanted).await?);
        Ok(())
    }

    /// The next record, or `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<StreamRecord>, StepError> {
        loop {
            self.open_due().await?;
            let Some(least) = self.least() else {
                return Ok(None);
            };
            let (record, object) = self.take(least)?;
            if self.is_new(&record, object)? {
                self.given = Some((record.clone(), object));
                return Ok(Some(record));
            }
        }
    }

    /// Opens every object that may have a record before those that are at hand.
    async fn open_due(&mut self) -> Result<(), StepError> {
        loop {
            if self.fetched.is_empty() {
                self.fetch().await?;
            }
            let least = self.least().and_then(|least| self.open.get(least));
            let is_due = |(object, _): &mut Fetched<'a>| {
                least.is_none_or(|open| object.name.first <= open.head.sequence_number)
            };
            let Some((object, body)) = self.fetched.pop_front_if(is_due) else {
                return Ok(());
            };
            let mut records = LogRecords::new(&object.url, &object.name, Cursor::new(body));
            if let Some(head) = next_behind(&mut records, self.after.as_ref())? {
                self.open.push(Open {
                    object,
                    records,
                    head,
                });
            }
        }
    }

    /// Which of the open objects has the least record.
    fn least(&self) -> Option<usize> {
        let heads = self.open.iter().enumerate();
        heads
            .min_by(|(_, a), (_, b)| a.head.sequence_number.cmp(&b.head.sequence_number))
            .map(|(index, _)| index)
    }

    /// The record at the head of an open object, which goes on or is closed.
    fn take(&mut self, index: usize) -> Result<(StreamRecord, &'a ShardObject), StepError> {
        let Some(open) = self.open.get_mut(index) else {
            return Err(StepError::Internal("an open log object is gone".into()));
        };
        let object = open.object;
        Ok(match next_behind(&mut open.records, None)? {
            Some(next) => (std::mem::replace(&mut open.head, next), object),
            None => (self.open.swap_remove(index).head, object),
        })
    }

    /// Whether this record was not given out yet. Two records of one number must be one.
    fn is_new(&self, record: &StreamRecord, object: &ShardObject) -> Result<bool, StepError> {
        let Some((given, from)) = &self.given else {
            return Ok(true);
        };
        if given.sequence_number != record.sequence_number {
            return Ok(true);
        }
        if given.event_id() == record.event_id() {
            return Ok(false);
        }
        Err(StepError::LogCorrupt(format!(
            "record {} is {} in {} and {} in {}: one of them is not of this shard",
            record.sequence_number,
            given.event_id(),
            from.url,
            record.event_id(),
            object.url
        )))
    }
}

async fn fetch<'a>(
    store: &dyn ObjectStore,
    object: &'a ShardObject,
) -> Result<Fetched<'a>, StepError> {
    let body = store.read(&object.key).await.map_err(StepError::Store)?;
    let body = body.ok_or_else(|| {
        StepError::LogCorrupt(format!(
            "{} was there when the restore was planned and is gone",
            object.url
        ))
    })?;
    Ok((object, body))
}

/// The next record behind `after`.
fn next_behind(
    records: &mut LogRecords<'_, Cursor<Bytes>>,
    after: Option<&SequenceNumber>,
) -> Result<Option<StreamRecord>, StepError> {
    loop {
        let record = records.next().transpose();
        let record =
            record.map_err(|error: LogObjectError| StepError::LogCorrupt(error.to_string()))?;
        match record {
            Some(record) if after.is_some_and(|after| record.sequence_number <= *after) => {}
            other => return Ok(other),
        }
    }
}

//! Stream records as typed changes.

use std::sync::Arc;

use highwater_domain::ids::UnixMillis;
use highwater_domain::sequence_number::{OrderToken, ShardOrdinal};
use highwater_domain::stream_record::{Change as Verb, StreamRecord};

use crate::ack::Ack;
use crate::core::{Core, Outcome};
use crate::dead_letters::DeadLetter;
use crate::error::SourceError;
use crate::plan::GENERATION;
use crate::record::{About, Change, Place, Raw, RawChange, Record};

/// What became of reading a change.
pub(crate) enum ChangeRead<T> {
    Record(Box<Record<Change<T>>>),
    /// The decoder passed it over.
    Skipped,
    /// It is with the dead letters.
    Buried,
}

/// Reads changes of one source.
pub(crate) struct ChangeReader<T> {
    pub(crate) core: Arc<Core<T>>,
    pub(crate) about: Arc<About>,
}

impl<T> Clone for ChangeReader<T> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            about: Arc::clone(&self.about),
        }
    }
}

impl<T: Send + Sync + 'static> ChangeReader<T> {
    /// Decodes what a record says. Whether it is passed over is decided by the item as it is after the change, or was before a
    /// delete; an old image that the decoder passes over counts as unknown.
    pub(crate) async fn read(
        &self,
        record: &StreamRecord,
        place: &Place,
        ordinal: ShardOrdinal,
    ) -> Result<ChangeRead<T>, SourceError> {
        let order = OrderToken {
            generation: GENERATION,
            shard: ordinal,
            sequence_number: record.sequence_number.clone(),
        };
        let change = match self.change(record, place, &order).await? {
            Outcome::Value(change) => change,
            Outcome::Skipped => return Ok(ChangeRead::Skipped),
            Outcome::Buried => return Ok(ChangeRead::Buried),
        };
        Ok(ChangeRead::Record(Box::new(Record {
            value: change,
            event_time: UnixMillis(record.created_at.saturating_mul(1000)),
            place: place.clone(),
            ack: Ack::nobody(),
            raw: Raw::Change(Box::new(RawChange {
                order,
                event_id: record.event_id().into_owned(),
                key: record.keys.clone(),
                new: record.new_image.clone(),
                old: record.old_image.clone(),
            })),
            about: Arc::clone(&self.about),
        })))
    }

    async fn change(
        &self,
        record: &StreamRecord,
        place: &Place,
        order: &OrderToken,
    ) -> Result<Outcome<Change<T>>, SourceError> {
        let letter = || self.letter(record, place, order);
        let decode = async |image: &bytes::Bytes| self.core.decode(image, place, letter).await;
        let new = match (&record.new_image, record.change) {
            (_, Verb::Remove) => None,
            (Some(new), _) => match decode(new).await? {
                Outcome::Value(value) => Some(value),
                Outcome::Skipped => return Ok(Outcome::Skipped),
                Outcome::Buried => return Ok(Outcome::Buried),
            },
            (None, _) => {
                return Err(SourceError::NoStream {
                    table: self.about.table.clone(),
                    reason: format!(
                        "record {} of {place} does not say what the item became; the stream must carry NEW_AND_OLD_IMAGES",
                        record.sequence_number
                    ),
                });
            }
        };
        let old = match &record.old_image {
            None => None,
            Some(old) => match decode(old).await? {
                Outcome::Value(value) => Some(value),
                Outcome::Skipped if new.is_none() => return Ok(Outcome::Skipped),
                Outcome::Skipped => None,
                Outcome::Buried => return Ok(Outcome::Buried),
            },
        };
        Ok(Outcome::Value(match (new, record.change) {
            (Some(new), Verb::Insert) => Change::Insert { new },
            (Some(new), _) => Change::Modify { new, old },
            (None, _) => Change::Remove {
                old,
                is_ttl_delete: record.is_expiry,
            },
        }))
    }

    fn letter(&self, record: &StreamRecord, place: &Place, order: &OrderToken) -> DeadLetter {
        DeadLetter {
            event_id: record.event_id().into_owned(),
            table: self.about.table.clone(),
            place: place.to_string(),
            key: self.about.key_json(&record.keys),
            order: order.to_string(),
            reason: String::new(),
            attempts: 0,
            new: record.new_image.clone(),
            old: record.old_image.clone(),
        }
    }
}

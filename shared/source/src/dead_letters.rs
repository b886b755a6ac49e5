//! Records that could not be dealt with: kept whole, so that somebody can.

use std::error::Error;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

/// A record that could not be decoded, or that the sink did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's name.
    pub event_id: String,
    /// The table.
    pub table: String,
    /// The segment or the shard, in words.
    pub place: String,
    /// The key, DynamoDB JSON.
    pub key: String,
    /// Its order among the records of its key.
    pub order: String,
    /// Why it is here.
    pub reason: String,
    /// How often it was tried; 0 for one that could not be decoded.
    pub attempts: u32,
    /// The item, or the item after the change, whole.
    pub new: Option<Bytes>,
    /// The item before the change.
    pub old: Option<Bytes>,
}

impl DeadLetter {
    /// The letter as one line of JSON. The images are the bytes that DynamoDB sent.
    ///
    /// # Errors
    /// If an image is no JSON, which DynamoDB does not send.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            event_id: &'a str,
            table: &'a str,
            place: &'a str,
            key: &'a str,
            order: &'a str,
            reason: &'a str,
            attempts: u32,
            new: Option<&'a RawValue>,
            old: Option<&'a RawValue>,
        }
        let image = |bytes: &'_ Option<Bytes>| -> Result<Option<Box<RawValue>>, serde_json::Error> {
            bytes
                .as_ref()
                .map(|bytes| serde_json::from_slice(bytes))
                .transpose()
        };
        let (new, old) = (image(&self.new)?, image(&self.old)?);
        serde_json::to_string(&Line {
            event_id: &self.event_id,
            table: &self.table,
            place: &self.place,
            key: &self.key,
            order: &self.order,
            reason: &self.reason,
            attempts: self.attempts,
            new: new.as_deref(),
            old: old.as_deref(),
        })
    }
}

/// Keeps dead letters: a file, a queue, a bucket, a table.
///
/// When [`bury`](Self::bury) returns well the letter is durable and the record counts as dealt with; when it fails the source
/// stops, and the record comes again.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps one letter. The same letter may come again after a crash.
    async fn bury(&self, letter: &DeadLetter) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Dead letters in memory: for tests, and for programs that look at them when they are done.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters(Mutex<Vec<DeadLetter>>);

impl MemoryDeadLetters {
    /// The letters so far.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetter> {
        let letters = self.0.lock();
        letters.map_or_else(
            |poisoned| poisoned.into_inner().clone(),
            |letters| letters.clone(),
        )
    }
}

#[async_trait]
impl DeadLetters for MemoryDeadLetters {
    async fn bury(&self, letter: &DeadLetter) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self.0.lock() {
            Ok(mut letters) => letters.push(letter.clone()),
            Err(poisoned) => poisoned.into_inner().push(letter.clone()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_keeps_the_item_as_it_came() {
        let letter = DeadLetter {
            event_id: "e".into(),
            table: "orders".into(),
            place: "segment 3".into(),
            key: r#"{"id":{"S":"a"}}"#.into(),
            order: "0".into(),
            reason: "no \"total\"".into(),
            attempts: 0,
            new: Some(Bytes::from_static(br#"{"id":{"S":"a"},"n":{"N":"1.50"}}"#)),
            old: None,
        };
        let line = letter.to_json().unwrap();
        assert!(
            line.contains(r#""new":{"id":{"S":"a"},"n":{"N":"1.50"}},"old":null"#),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }
}

//! A source's checkpoints as values: read and saved with patience, lost answers settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::backoff::Backoff;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoints::Checkpoints;
use crate::error::SourceError;

/// A checkpoint is worth waiting for: about a minute and a half.
const RETRIES: Backoff = Backoff {
    base_ms: 50,
    max_ms: 10_000,
    attempts: 16,
};

/// The checkpoints of one source.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) source: String,
    pub(crate) place: Arc<dyn Checkpoints>,
}

impl Ledger {
    /// The record of this name.
    pub(crate) async fn load<R: DeserializeOwned>(
        &self,
        record: &str,
    ) -> Result<Option<Versioned<R>>, SourceError> {
        let Some(found) = self.read(record).await? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&found.value).map_err(|error| {
            SourceError::CheckpointUnreadable {
                name: self.source.clone(),
                record: record.to_owned(),
                reason: error.to_string(),
            }
        })?;
        Ok(Some(Versioned {
            value,
            version: found.version,
        }))
    }

    /// Saves a record over the version that was seen. `None` if somebody else's stands there.
    pub(crate) async fn save<R: Serialize + Sync>(
        &self,
        record: &str,
        seen: Option<i64>,
        value: &R,
    ) -> Result<Option<i64>, SourceError> {
        let body = serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| SourceError::CheckpointUnreadable {
                name: self.source.clone(),
                record: record.to_owned(),
                reason: error.to_string(),
            })?;
        let mut tries = 0;
        loop {
            match self.place.save(record, seen, body.clone()).await {
                Ok(Cas::Applied(version)) => return Ok(Some(version)),
                Ok(Cas::Lost) => break,
                Err(failure) => self.wait(record, &mut tries, failure).await?,
            }
        }
        // Perhaps this very write, whose answer got lost.
        let stands = self.read(record).await?;
        let is_ours = |stands: &Versioned<Bytes>| stands.value == body;
        Ok(stands.filter(is_ours).map(|stands| stands.version))
    }

    async fn read(&self, record: &str) -> Result<Option<Versioned<Bytes>>, SourceError> {
        let mut tries = 0;
        loop {
            match self.place.load(record).await {
                Ok(found) => return Ok(found),
                Err(failure) => self.wait(record, &mut tries, failure).await?,
            }
        }
    }

    async fn wait(
        &self,
        record: &str,
        tries: &mut u32,
        failure: Failure,
    ) -> Result<(), SourceError> {
        let passes = failure.kind.is_retryable() || failure.kind == FailureKind::Unreachable;
        let wait_ms = RETRIES.wait_ms(*tries, fastrand::f64()).filter(|_| passes);
        let Some(wait_ms) = wait_ms else {
            return Err(SourceError::Checkpoint {
                name: self.source.clone(),
                record: record.to_owned(),
                failure: Box::new(failure),
            });
        };
        *tries += 1;
        tokio::time::sleep(Duration::from_millis(wait_ms.max(1))).await;
        Ok(())
    }
}

//! Keeps what was applied out of a sink that cannot tell by itself.
//!
//! A claim says that a key was brought up to a record. It is made after the effect is durable and never before: whoever dies
//! between the two applies the record once more, where a claim made first would have lost it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::key_print::KeyPrint;
use highwater_domain::sequence_number::OrderToken;

use super::{Applied, Sink, SinkError};
use crate::checkpoints::Checkpoints;
use crate::metrics::Metrics;
use crate::record::{Change, Place, Record};

/// Attempts at a claim that somebody else changes at the same time.
const TRIES: u32 = 8;

/// Up to which record each key was applied: one small record per key that ever had a change.
#[derive(Clone, Debug)]
pub struct Claims {
    place: Arc<dyn Checkpoints>,
}

impl Claims {
    /// Claims kept in `place`, which belongs to one target.
    #[must_use]
    pub fn new(place: Arc<dyn Checkpoints>) -> Self {
        Self { place }
    }

    fn name(key: &KeyPrint) -> String {
        format!("claim/{}", hex::encode(key.0))
    }

    async fn standing(&self, key: &KeyPrint) -> Result<Option<Versioned<Bytes>>, Failure> {
        self.place.load(&Self::name(key)).await
    }

    /// Whether the record of this order, or a later one of its key, was claimed.
    pub async fn is_claimed(&self, key: &KeyPrint, order: &OrderToken) -> Result<bool, Failure> {
        let standing = self.standing(key).await?;
        Ok(standing.is_some_and(|standing| *standing.value >= *order.to_string().as_bytes()))
    }

    /// Claims a record whose effect is durable. Of any number of callers with one record exactly one is told that it was
    /// first; of two records of a key the later one stays.
    pub async fn claim(&self, key: &KeyPrint, order: &OrderToken) -> Result<bool, Failure> {
        let (name, order) = (Self::name(key), order.to_string());
        let mut last = None;
        for _ in 0..TRIES {
            let standing = self.place.load(&name).await?;
            if standing
                .as_ref()
                .is_some_and(|it| *it.value >= *order.as_bytes())
            {
                return Ok(false);
            }
            let seen = standing.map(|standing| standing.version);
            match self
                .place
                .save(&name, seen, Bytes::from(order.clone()))
                .await?
            {
                Cas::Applied(_) => return Ok(true),
                Cas::Lost => last = seen,
            }
        }
        let message = format!("the claim changes faster than it can be read, last from {last:?}");
        let kind = highwater_domain::failure::FailureKind::Transient;
        Err(Failure::new(kind, "claim", name, message))
    }
}

/// A sink that is given each record once, as far as that can be known: a record comes twice only if the process died, or the
/// claims could not be reached, between its effect and its claim.
pub struct Deduplicated<S> {
    sink: S,
    claims: Claims,
    metrics: Arc<dyn Metrics>,
    /// Applied and not flushed yet.
    pending: Mutex<BTreeMap<KeyPrint, (OrderToken, Place)>>,
}

impl<S> fmt::Debug for Deduplicated<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicated")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl<S> Deduplicated<S> {
    /// Gives `sink` what `claims` does not have.
    pub fn new(sink: S, claims: Claims, metrics: Arc<dyn Metrics>) -> Self {
        Self {
            sink,
            claims,
            metrics,
            pending: Mutex::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<KeyPrint, (OrderToken, Place)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the claims cannot be asked, the record is applied: rather twice than never.
    async fn is_duplicate(&self, key: &KeyPrint, order: &OrderToken, place: &Place) -> bool {
        let held = self.pending().get(key).map(|(held, _)| held.clone());
        if held.is_some_and(|held| held >= *order) {
            return true;
        }
        match self.claims.is_claimed(key, order).await {
            Ok(is_claimed) => is_claimed,
            Err(failure) => {
                tracing::warn!(%failure, "claims cannot be read; the record is applied");
                self.metrics.claim_failed(place);
                false
            }
        }
    }
}

#[async_trait]
impl<T, S> Sink<T> for Deduplicated<S>
where
    T: Send + Sync,
    S: Sink<T>,
{
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError> {
        let key = record.key_print().map_err(SinkError::refused)?;
        if self.is_duplicate(&key, record.order(), &record.place).await {
            return Ok(Applied::Duplicate);
        }
        let applied = self.sink.apply(record).await?;
        let claim = (record.order().clone(), record.place.clone());
        self.pending().insert(key, claim);
        Ok(applied)
    }

    async fn flush(&self) -> Result<(), SinkError> {
        let effects = std::mem::take(&mut *self.pending());
        if let Err(error) = self.sink.flush().await {
            // Nothing newer is overwritten by what was there before.
            let mut pending = self.pending();
            for (key, claim) in effects {
                pending.entry(key).or_insert(claim);
            }
            return Err(error);
        }
        for (key, (order, place)) in &effects {
            if let Err(failure) = self.claims.claim(key, order).await {
                tracing::warn!(%failure, "a claim cannot be made; the record may be applied once more");
                self.metrics.claim_failed(place);
            }
        }
        Ok(())
    }
}

//! Gives records to a sink, with patience: again after what passes, to the dead letters after what does not.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_steps::StopFlag;
use tokio::time::Instant;

use crate::core::Core;
use crate::dead_letters::DeadLetter;
use crate::error::SourceError;
use crate::record::{Change, Place, Record};
use crate::sink::{Applied, Sink, SinkError};

/// A signal is heard after at most this long.
const NAP: Duration = Duration::from_millis(100);

/// Applies records to one sink.
pub(crate) struct Applier<T, S> {
    pub(crate) core: Arc<Core<T>>,
    pub(crate) sink: Arc<S>,
    /// What time there is: the source's, or one invocation's.
    pub(crate) budget: Budget,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Applied,
    Duplicate,
    Buried,
}

/// What became of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that had their effect.
    pub applied: u64,
    /// Records that had had their effect before.
    pub duplicates: u64,
    /// Records that are with the dead letters.
    pub dead_letters: u64,
}

impl Counts {
    pub(crate) fn note(&mut self, fate: Fate) {
        match fate {
            Fate::Applied => self.applied += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::Buried => self.dead_letters += 1,
        }
    }

    /// Adds another's.
    pub fn add(&mut self, more: Self) {
        self.applied += more.applied;
        self.duplicates += more.duplicates;
        self.dead_letters += more.dead_letters;
    }
}

impl<T: Send + Sync + 'static, S: Sink<T>> Applier<T, S> {
    /// Whether no record should be begun any more.
    pub(crate) fn should_stop(&self) -> bool {
        let core = &self.core;
        core.stop.is_set() || self.budget.is_spent(core.ports.clock.now())
    }

    /// Applies one record, however often it takes. `halt` ends the waiting, besides the source's own stop and budget.
    pub(crate) async fn apply(
        &self,
        record: &Record<Change<T>>,
        halt: &StopFlag,
    ) -> Result<Fate, SourceError> {
        let (metrics, place) = (&self.core.metrics, &record.place);
        let mut attempt = 1;
        let (attempts, error) = loop {
            let error = match self.sink.apply(record).await {
                Ok(Applied::Done) => {
                    metrics.applied(place, record.event_time);
                    return Ok(Fate::Applied);
                }
                Ok(Applied::Duplicate) => {
                    metrics.duplicate(place);
                    return Ok(Fate::Duplicate);
                }
                Err(SinkError::Refused(error)) => break (attempt, error),
                Err(SinkError::Passing(error)) => error,
            };
            let Some(wait) = self.core.retry.wait(attempt, fastrand::f64()) else {
                break (attempt, error);
            };
            self.wait(place, attempt, wait, halt).await?;
            attempt += 1;
        };
        let Some(kept) = &self.core.dead_letters else {
            return Err(SourceError::Sink {
                event_id: record.event_id(),
                key: record.key(),
                attempts,
                source: error,
            });
        };
        let letter = letter(record, attempts, error.to_string());
        self.core.bury(kept, &letter, place).await?;
        Ok(Fate::Buried)
    }

    /// Makes what was applied durable.
    pub(crate) async fn flush(
        &self,
        place: &Place,
        records: u64,
        halt: &StopFlag,
    ) -> Result<(), SourceError> {
        let mut attempt = 1;
        loop {
            let error = match self.sink.flush().await {
                Ok(()) => break,
                Err(SinkError::Refused(error)) => Err(error),
                Err(SinkError::Passing(error)) => Ok(error),
            };
            let waits = self.core.retry.wait(attempt, fastrand::f64());
            match (error, waits) {
                (Ok(_), Some(wait)) => self.wait(place, attempt, wait, halt).await?,
                (Ok(source) | Err(source), _) => {
                    return Err(SourceError::Flush {
                        attempts: attempt,
                        source,
                    });
                }
            }
            attempt += 1;
        }
        self.core.metrics.batch(place, records);
        Ok(())
    }

    /// Waits before another attempt, unless there is no time for it.
    async fn wait(
        &self,
        place: &Place,
        attempt: u32,
        wait: Duration,
        halt: &StopFlag,
    ) -> Result<(), SourceError> {
        let core = &self.core;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if !self.budget.allows_wait(core.ports.clock.now(), wait_ms) {
            return Err(core.stopped());
        }
        core.metrics.retrying(place, attempt, wait_ms);
        let until = Instant::now() + wait;
        loop {
            if self.should_stop() || halt.is_set() {
                return Err(core.stopped());
            }
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            tokio::time::sleep_until(until.min(now + NAP)).await;
        }
    }
}

fn letter<T>(record: &Record<Change<T>>, attempts: u32, reason: String) -> DeadLetter {
    let raw = record.raw();
    let bytes = |image: Option<&[u8]>| image.map(bytes::Bytes::copy_from_slice);
    DeadLetter {
        event_id: record.event_id(),
        table: raw.table.to_owned(),
        place: record.place.to_string(),
        key: record.key(),
        order: record.order().to_string(),
        reason,
        attempts,
        new: bytes(raw.new),
        old: bytes(raw.old),
    }
}

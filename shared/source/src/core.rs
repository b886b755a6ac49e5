//! What the snapshot, the live side and the handler of one source have in common: its definition, as the builder left it.

use std::fmt;
use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::selection::Selection;
use highwater_steps::StopFlag;
use highwater_steps::capture_handoff::CapturePace;

use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::decode::{Decoded, Decoder};
use crate::error::SourceError;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::record::{EventId, Place};
use crate::retry::Retry;

/// One source.
pub(crate) struct Core<T> {
    pub(crate) name: String,
    pub(crate) table: TableRef,
    pub(crate) ports: Ports,
    pub(crate) ledger: Ledger,
    pub(crate) decoder: Decoder<T>,
    pub(crate) event_id: Option<EventId>,
    pub(crate) decode_errors: Option<Arc<dyn DeadLetters>>,
    pub(crate) dead_letters: Option<Arc<dyn DeadLetters>>,
    pub(crate) metrics: Arc<dyn Metrics>,
    pub(crate) scan: ScanSettings,
    pub(crate) live: LiveSettings,
    pub(crate) retry: Retry,
    pub(crate) stop: StopFlag,
    pub(crate) budget: Budget,
}

/// How the snapshot is scanned.
#[derive(Clone, Debug)]
pub(crate) struct ScanSettings {
    pub(crate) segments: u32,
    pub(crate) concurrency: u32,
    pub(crate) page_size: Option<u32>,
    pub(crate) consistent: bool,
    pub(crate) selection: Selection,
    pub(crate) read_capacity: f64,
    pub(crate) with_stream: bool,
    pub(crate) pace: CapturePace,
}

/// How the stream is followed.
#[derive(Clone, Debug)]
pub(crate) struct LiveSettings {
    pub(crate) worker: String,
    pub(crate) until_idle: bool,
    pub(crate) settle_ms: u64,
    pub(crate) survey_every_ms: u64,
    pub(crate) seed: u64,
}

impl<T> fmt::Debug for Core<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl<T> Core<T> {
    pub(crate) fn stopped(&self) -> SourceError {
        SourceError::Stopped {
            name: self.name.clone(),
        }
    }

    pub(crate) fn should_stop(&self) -> bool {
        self.stop.is_set() || self.budget.is_spent(self.ports.clock.now())
    }

    pub(crate) fn table_failed(&self, failure: highwater_domain::failure::Failure) -> SourceError {
        SourceError::Table {
            table: self.table.to_string(),
            failure: Box::new(failure),
        }
    }

    /// Decodes an item. `None` for one that is passed over, or went to the dead letters; an error where those are strict.
    pub(crate) async fn decode(
        &self,
        item: &[u8],
        place: &Place,
        letter: impl FnOnce() -> DeadLetter,
    ) -> Result<Outcome<T>, SourceError> {
        let error = match self.decoder.decode(item) {
            Ok(Decoded::Value(value)) => return Ok(Outcome::Value(value)),
            Ok(Decoded::Skip) => {
                self.metrics.skipped(place);
                return Ok(Outcome::Skipped);
            }
            Err(error) => error,
        };
        let letter = letter();
        let Some(kept) = &self.decode_errors else {
            return Err(SourceError::Decode {
                table: letter.table,
                place: letter.place,
                key: letter.key,
                reason: error.to_string(),
            });
        };
        let letter = DeadLetter {
            reason: error.to_string(),
            ..letter
        };
        self.bury(kept, &letter, place).await?;
        Ok(Outcome::Buried)
    }

    pub(crate) async fn bury(
        &self,
        kept: &Arc<dyn DeadLetters>,
        letter: &DeadLetter,
        place: &Place,
    ) -> Result<(), SourceError> {
        let buried = kept.bury(letter).await;
        buried.map_err(|source| SourceError::DeadLetter {
            event_id: letter.event_id.clone(),
            source,
        })?;
        self.metrics.dead_letter(place);
        Ok(())
    }
}

/// What decoding came to.
pub(crate) enum Outcome<T> {
    Value(T),
    Skipped,
    Buried,
}

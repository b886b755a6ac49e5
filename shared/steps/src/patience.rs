//! How often and how long it is worth waiting for a write that is not done.

use highwater_domain::backoff::Backoff;
use highwater_domain::failure::{Failure, FailureKind};

use crate::error::StepError;

/// Throttled writes are tried as long as there is time: the table will take them. Other passing faults are not
/// put up with for ever.
const FAULTS: Backoff = Backoff::SCAN;

/// The waits before unprocessed or throttled writes are sent again.
const BUSY: Backoff = Backoff {
    base_ms: 25,
    max_ms: 5_000,
    attempts: u32::MAX,
};

/// Milliseconds to wait before the next attempt.
pub(crate) struct Wait(pub(crate) u64);

/// How often a batch was sent without anything coming of it.
#[derive(Debug)]
pub(crate) struct Patience {
    busy: u32,
    faults: u32,
    max_retries: Option<u32>,
    table: String,
}

impl Patience {
    /// For one batch of a table. `max_retries` is how often it may be sent again, if that is limited.
    pub(crate) fn new(max_retries: Option<u32>, table: &str) -> Self {
        Self {
            busy: 0,
            faults: 0,
            max_retries,
            table: table.to_owned(),
        }
    }

    /// Some of the batch was done, or none.
    pub(crate) fn progress(&mut self, made: bool) {
        if made {
            self.busy = 0;
            self.faults = 0;
        }
    }

    /// The wait before the next attempt, or the failure if that is no use. Without a failure the service has merely
    /// not done all of it yet.
    pub(crate) fn next(&mut self, failure: Option<Failure>) -> Result<Wait, StepError> {
        let random = fastrand::f64();
        let retries = self.busy.saturating_add(self.faults);
        let given_up = self.max_retries.is_some_and(|most| retries >= most);
        let failure = match failure {
            Some(failure) => failure,
            None if given_up => unprocessed(&self.table),
            None => return Ok(self.wait_while_busy(random)),
        };
        if given_up {
            return Err(StepError::Table(failure));
        }
        match failure.kind {
            FailureKind::Throttled => Ok(self.wait_while_busy(random)),
            // Damaged in transit is as good as lost: the write is repeated.
            FailureKind::Transient | FailureKind::Corrupt => {
                let faults = Backoff {
                    attempts: self.max_retries.unwrap_or(FAULTS.attempts),
                    ..FAULTS
                };
                let wait_ms = faults.wait_ms(self.faults, random);
                self.faults = self.faults.saturating_add(1);
                wait_ms.map(Wait).ok_or(StepError::Table(failure))
            }
            _ => Err(StepError::Table(failure)),
        }
    }

    fn wait_while_busy(&mut self, random: f64) -> Wait {
        let wait_ms = BUSY.wait_ms(self.busy, random).unwrap_or(BUSY.max_ms);
        self.busy = self.busy.saturating_add(1);
        Wait(wait_ms)
    }
}

/// The failure of a batch that came back undone as often as was to be tried.
fn unprocessed(table: &str) -> Failure {
    Failure::new(
        FailureKind::Throttled,
        "BatchWriteItem",
        table,
        "writes came back unprocessed each time",
    )
}

//! Waiting for a table: DynamoDB makes and changes tables in its own time.

use std::time::Duration;

use highwater_domain::backoff::Backoff;
use highwater_domain::budget::Budget;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::restore::RestoreRecord;
use highwater_domain::table::{SettingsError, TableSettings};
use serde_json::Value;

use crate::error::StepError;
use crate::restore_deps::RestoreDeps;

/// For calls about tables: gives up after about five minutes of refusals in passing.
pub(crate) const TABLE_CALLS: Backoff = Backoff {
    base_ms: 250,
    max_ms: 20_000,
    attempts: 30,
};

/// How long until a table is looked at again.
const LOOK_EVERY_MS: u64 = 2_000;

/// A signal is heard after at most this long.
const NAP_MS: u64 = 500;

/// Whether a table can be worked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It and its indexes are active.
    Settled,
    /// It or an index is being made or changed.
    Busy,
    /// It will not become active by itself; its status.
    Unusable(String),
}

/// What the description says of the table's condition.
pub(crate) fn condition(settings: &TableSettings) -> Result<Condition, SettingsError> {
    let indexes = ["GlobalSecondaryIndexes", "VectorIndexes"];
    let index_busy = indexes
        .iter()
        .filter_map(|kind| settings.table[*kind].as_array())
        .flatten()
        .filter_map(|index| index.get("IndexStatus").and_then(Value::as_str))
        .any(|status| status != "ACTIVE");
    Ok(match settings.status()? {
        "ACTIVE" if !index_busy => Condition::Settled,
        "ACTIVE" | "CREATING" | "UPDATING" => Condition::Busy,
        other => Condition::Unusable(other.to_owned()),
    })
}

/// Whether there was time for a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Pause {
    /// It is over.
    Over,
    /// It would have ended behind the budget.
    OutOfTime,
}

/// One step's waits for the target of one restore.
pub(crate) struct TableWait<'a> {
    pub(crate) deps: &'a RestoreDeps,
    pub(crate) record: &'a RestoreRecord,
    pub(crate) budget: Budget,
}

impl TableWait<'_> {
    /// Waits until the table may look different.
    pub(crate) async fn pause(&self) -> Result<Pause, StepError> {
        self.pause_ms(LOOK_EVERY_MS).await
    }

    /// Waits before a call is tried again. Gives the failure back when it is time to give up.
    pub(crate) async fn pause_before_retry(
        &self,
        failure: Failure,
        retry: u32,
    ) -> Result<Pause, StepError> {
        if !failure.kind.is_retryable() {
            return Err(StepError::Table(failure));
        }
        match TABLE_CALLS.wait_ms(retry, fastrand::f64()) {
            Some(ms) => self.pause_ms(ms).await,
            None => Err(StepError::Table(failure)),
        }
    }

    async fn pause_ms(&self, ms: u64) -> Result<Pause, StepError> {
        if !self.budget.allows_wait(self.deps.clock.now(), ms) {
            return Ok(Pause::OutOfTime);
        }
        let mut left = ms;
        while left > 0 {
            self.heed_stop()?;
            let nap = left.min(NAP_MS);
            tokio::time::sleep(Duration::from_millis(nap)).await;
            left -= nap;
        }
        self.heed_stop()?;
        Ok(Pause::Over)
    }

    fn heed_stop(&self) -> Result<(), StepError> {
        if self.deps.stop.is_set() {
            return Err(StepError::RestoreInterrupted {
                id: self.record.id.clone(),
                reason: "a stop was asked for".into(),
            });
        }
        Ok(())
    }

    /// The table as it is, with all settings; `None` if there is none (yet).
    pub(crate) async fn look(&self) -> Result<Option<TableSettings>, StepError> {
        self.until_told(|| self.deps.describer.describe(self.table()))
            .await
    }

    /// What `DescribeTable` alone says of it, which takes no other permission; `None` if there is none (yet).
    pub(crate) async fn glance(&self) -> Result<Option<Value>, StepError> {
        self.until_told(|| self.deps.describer.description(self.table()))
            .await
    }

    async fn until_told<T, F>(&self, ask: impl Fn() -> F) -> Result<Option<T>, StepError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut retry = 0;
        loop {
            let failure = match ask().await {
                Ok(told) => return Ok(Some(told)),
                Err(failure) if failure.kind == FailureKind::NotFound => return Ok(None),
                Err(failure) => failure,
            };
            if self.pause_before_retry(failure, retry).await? == Pause::OutOfTime {
                return Err(self.out_of_time("described"));
            }
            retry += 1;
        }
    }

    /// The table's name or ARN.
    pub(crate) fn table(&self) -> &str {
        self.record.target.as_str()
    }

    /// The failure of a step that has no way to say "again": the workflow tries it again.
    pub(crate) fn out_of_time(&self, what: &str) -> StepError {
        StepError::Table(Failure::new(
            FailureKind::Transient,
            "DescribeTable",
            self.table(),
            format!("the table could not be {what} in the time there was"),
        ))
    }

    /// The table that the restore fills is gone, or another one has its name.
    pub(crate) fn changed(&self) -> StepError {
        StepError::TargetChanged {
            table: self.table().to_owned(),
            id: self.record.id.clone(),
        }
    }

    /// A description that cannot be worked with.
    pub(crate) fn garbled(&self, source: SettingsError) -> StepError {
        StepError::Settings {
            table: self.table().to_owned(),
            source,
        }
    }
}

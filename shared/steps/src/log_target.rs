//! The table whose log is read, and the logs of its streams: the present one's, and those of earlier ones that are not read to
//! their end.

use std::sync::Arc;

use highwater_domain::ids::TableRef;
use highwater_domain::layout::Destination;
use highwater_domain::log_facts::StreamFacts;
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::stream_source::StreamError;
use highwater_domain::table_stream::{StreamedTable, TableStream};
use tracing::Instrument as _;

use crate::begin_log::{self, LogBegun, LoggedTable, generations, log_id};
use crate::error::StepError;
use crate::follow_stream::Beginning;
use crate::live_deps::LiveDeps;
use crate::shard_rows;
use crate::stable_listing::{Patience, stable_listing};
use crate::stream_log::StreamLog;
use crate::watch_table;

/// The table, and where its log is.
#[derive(Clone, Debug)]
pub(crate) struct LogTarget {
    pub(crate) table: TableRef,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) place: LogPlace,
}

impl LogTarget {
    pub(crate) fn open(deps: &LiveDeps, table: &TableRef, to: &str) -> Result<Self, StepError> {
        let destination: Destination = to.parse()?;
        Ok(Self {
            table: table.clone(),
            store: deps.stores.open(&destination).map_err(StepError::Store)?,
            place: LogPlace::new(destination.prefix(), table.name()),
        })
    }

    /// The table's stream.
    pub(crate) async fn stream(
        &self,
        deps: &LiveDeps,
    ) -> Result<(LoggedTable, TableStream), StepError> {
        let described = deps.describer.description(self.table.as_str()).await;
        let described = described.map_err(StepError::Table)?;
        let streamed = StreamedTable::of(&described);
        let arn = described["TableArn"].as_str();
        let table = LoggedTable {
            arn: arn.unwrap_or(self.table.as_str()).to_owned(),
            id: streamed.table_id.clone(),
        };
        match StreamedTable::of(&described).stream {
            Some(stream) => Ok((table, stream)),
            None => Err(StepError::StreamUnsuitable {
                table: self.table.to_string(),
                reason: "no stream is enabled; enable one with NEW_AND_OLD_IMAGES, or let `highwater backup --with-stream` do it"
                    .into(),
            }),
        }
    }

    /// The log of the stream, begun.
    ///
    /// One that others have begun can be read at once: a listing that will not make sense must not keep its records waiting until
    /// they are gone. What the listing may add is then left to the task.
    pub(crate) async fn begin(
        &self,
        deps: &LiveDeps,
        table: &LoggedTable,
        stream: &TableStream,
        of: &LogOf,
    ) -> Result<(StreamLog, Beginning), StepError> {
        check_view(&self.table, stream)?;
        let mut beginning = Beginning::new();
        let known = generations(self.store.as_ref(), &self.place).await?;
        let known = known
            .into_iter()
            .find(|facts| facts.stream_arn == stream.arn);
        if let Some(facts) = known {
            let log = self.known(deps, facts, of)?;
            if !log.leases.page(None).await?.is_empty() {
                let (target, deps, of) = (self.clone(), deps.clone(), of.clone());
                let (table, arn) = (table.clone(), stream.arn.clone());
                let whole = async move {
                    target
                        .begin_whole(&deps, &table, &arn, &of)
                        .await
                        .map(|_| ())
                };
                beginning.spawn(whole.in_current_span());
                return Ok((log, beginning));
            }
        }
        let log = self.begin_whole(deps, table, &stream.arn, of).await?;
        Ok((log, beginning))
    }

    async fn begin_whole(
        &self,
        deps: &LiveDeps,
        table: &LoggedTable,
        arn: &str,
        of: &LogOf,
    ) -> Result<StreamLog, StepError> {
        let listing = stable_listing(deps, arn, of.patience).await?;
        let begun = begin_log::begin(deps, &self.store, &self.place, table, &listing).await?;
        let (store, place) = (&self.store, &self.place);
        StreamLog::of(deps, store, place, &begun, &of.worker, of.publication_ms)
    }

    /// The logs of earlier streams that are not read to their end: what is left of a stream can be read for 24 hours after its
    /// end, and what is gone by then must be on record.
    pub(crate) async fn unfinished(
        &self,
        deps: &LiveDeps,
        current: Option<&str>,
        of: &LogOf,
    ) -> Result<Vec<StreamLog>, StepError> {
        let mut logs = Vec::new();
        for facts in generations(self.store.as_ref(), &self.place).await? {
            if current == Some(facts.stream_arn.as_str()) {
                continue;
            }
            let log = self.known(deps, facts, of)?;
            let rows = shard_rows::all(&log.leases).await?;
            let is_begun = !rows.is_empty() || self.begin_late(deps, &log, of).await?;
            if is_begun && (rows.is_empty() || rows.values().any(|row| !row.ended)) {
                logs.push(log);
            }
        }
        Ok(logs)
    }

    /// Whoever claimed the stream's number died before it registered a shard. `false` if there is nothing left to register.
    async fn begin_late(
        &self,
        deps: &LiveDeps,
        log: &StreamLog,
        of: &LogOf,
    ) -> Result<bool, StepError> {
        let table = LoggedTable {
            arn: log.facts.table_arn.clone(),
            id: log.facts.table_id.clone(),
        };
        match self.begin_whole(deps, &table, log.arn(), of).await {
            Ok(_) => Ok(true),
            Err(StepError::Stream(StreamError::Gone(_)) | StepError::StreamUnsuitable { .. }) => {
                watch_table::run(deps, log, self.table.as_str(), None).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The log of a stream that is known by its facts.
    pub(crate) fn known(
        &self,
        deps: &LiveDeps,
        facts: StreamFacts,
        of: &LogOf,
    ) -> Result<StreamLog, StepError> {
        let begun = LogBegun {
            log: log_id(self.store.as_ref(), &self.place, &facts),
            facts,
            registered: Vec::new(),
        };
        let (store, place) = (&self.store, &self.place);
        StreamLog::of(deps, store, place, &begun, &of.worker, of.publication_ms)
    }
}

/// How a log is begun.
#[derive(Clone, Debug)]
pub(crate) struct LogOf {
    pub(crate) worker: String,
    pub(crate) publication_ms: u64,
    pub(crate) patience: Patience,
}

/// A log of records that do not say what an item became is of no use to anybody.
fn check_view(table: &TableRef, stream: &TableStream) -> Result<(), StepError> {
    if matches!(stream.view.as_str(), "NEW_AND_OLD_IMAGES" | "NEW_IMAGE") {
        return Ok(());
    }
    Err(StepError::StreamUnsuitable {
        table: table.to_string(),
        reason: format!(
            "its stream carries {}, and a record must say what an item became: NEW_AND_OLD_IMAGES",
            stream.view
        ),
    })
}

pub(crate) fn patience(local: bool) -> Patience {
    if local {
        Patience::LOCAL
    } else {
        Patience::default()
    }
}

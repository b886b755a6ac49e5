//! How a source is described: one builder for its snapshot, its live side and both together.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::selection::Selection;
use highwater_steps::StopFlag;
use highwater_steps::capture_handoff::CapturePace;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::{Core, LiveSettings, ScanSettings};
use crate::dead_letters::DeadLetters;
use crate::decode::{DecodeError, Decoded, Decoder};
use crate::error::SourceError;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, NoMetrics};
use crate::ports::Ports;
use crate::record::{EventId, RawRecord};
use crate::retry::Retry;

/// The most segments that a parallel scan can have:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html>.
const MOST_SEGMENTS: u32 = 1_000_000;

/// Workers of a snapshot in one process, unless it is said otherwise.
const CONCURRENCY: u32 = 16;

/// The longest name of a source: names become partition keys with something before them.
const LONGEST_NAME: usize = 200;

/// Describes a source. Get one from [`builder`].
#[derive(Debug)]
#[must_use]
pub struct SourceBuilder<T> {
    name: Option<String>,
    table: Option<String>,
    ports: Option<Ports>,
    decoder: Option<Decoder<T>>,
    event_id: Option<NamedBy>,
    decode_errors: Option<Kept>,
    dead_letters: Option<Kept>,
    metrics: Arc<dyn Metrics>,
    segments: u32,
    concurrency: Option<u32>,
    page_size: Option<u32>,
    consistent: bool,
    selection: Selection,
    read_capacity: f64,
    with_stream: bool,
    pace: CapturePace,
    settle_ms: u64,
    survey_every_ms: u64,
    worker: Option<String>,
    until_idle: bool,
    retry: Retry,
    stop: StopFlag,
    budget: Budget,
    seed: Option<u64>,
}

struct NamedBy(EventId);
struct Kept(Arc<dyn DeadLetters>);

impl std::fmt::Debug for NamedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a function")
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a dead-letter sink")
    }
}

/// A source of `T`s, decoded by serde. A table and ports must be given, everything else has defaults.
pub fn builder<T: DeserializeOwned>() -> SourceBuilder<T> {
    SourceBuilder {
        decoder: Some(Decoder::serde()),
        ..SourceBuilder::without_decoder()
    }
}

impl<T> SourceBuilder<T> {
    /// A source of `T`s that serde need not know; [`decode`](Self::decode) must be given.
    pub fn without_decoder() -> Self {
        Self {
            name: None,
            table: None,
            ports: None,
            decoder: None,
            event_id: None,
            decode_errors: None,
            dead_letters: None,
            metrics: Arc::new(NoMetrics),
            segments: 1,
            concurrency: None,
            page_size: None,
            consistent: true,
            selection: Selection::default(),
            read_capacity: 0.0,
            with_stream: true,
            pace: CapturePace::default(),
            settle_ms: 10_000,
            survey_every_ms: 60_000,
            worker: None,
            until_idle: false,
            retry: Retry::default(),
            stop: StopFlag::default(),
            budget: Budget::UNLIMITED,
            seed: None,
        }
    }

    /// The table, by name or ARN.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// What to reach it by: [`Ports::of`] for AWS.
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = Some(ports);
        self
    }

    /// The source's name, under which its progress is kept; `snapshot:<table>` unless one is given.
    ///
    /// A name stands for one bootstrap into one target. To begin again, as after
    /// [`HandoffExpired`](SourceError::HandoffExpired), take another name and an empty target.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Scans the table in so many segments, 1 to 1,000,000; 0 counts as 1. Fixed once the snapshot has begun.
    pub fn segments(mut self, segments: u32) -> Self {
        self.segments = segments.max(1);
        self
    }

    /// Scans so many segments at once in this process; 16, or all if there are fewer.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = Some(workers.max(1));
        self
    }

    /// Evaluates at most so many items per request. 0, and the default, leave it to DynamoDB's page of 1 MB, which is cheapest.
    pub fn page_size(mut self, items: u32) -> Self {
        self.page_size = (items > 0).then_some(items);
        self
    }

    /// Takes only items that a `FilterExpression` lets through. DynamoDB reads, and bills, all of them. Changes of the stream are
    /// not filtered: let the decoder answer [`Decoded::Skip`].
    pub fn filter(mut self, expression: impl Into<String>) -> Self {
        self.selection.filter = Some(expression.into());
        self
    }

    /// A name of the filter, `#n` for an attribute.
    pub fn filter_name(mut self, placeholder: impl Into<String>, name: impl Into<String>) -> Self {
        self.selection.names.insert(placeholder.into(), name.into());
        self
    }

    /// A value of the filter, `:v` for a value in DynamoDB JSON, `json!({"S": "open"})`.
    pub fn filter_value(mut self, placeholder: impl Into<String>, value: Value) -> Self {
        self.selection.values.insert(placeholder.into(), value);
        self
    }

    /// Reads at half the price, up to some seconds behind. Right before a handoff only as long as no read is more than a
    /// quarter of an hour behind.
    pub fn eventually_consistent(mut self) -> Self {
        self.consistent = false;
        self
    }

    /// Takes so many read capacity units per second at most, in this process; 0, the default, is no limit.
    pub fn read_capacity(mut self, units_per_second: f64) -> Self {
        self.read_capacity = units_per_second;
        self
    }

    /// Takes a snapshot of a table that has no stream, or none that is cared for: there is no handoff and no live side.
    pub fn without_stream(mut self) -> Self {
        self.with_stream = false;
        self
    }

    /// Decodes by a function of the item's bytes, DynamoDB JSON, instead of serde.
    pub fn decode(
        mut self,
        decode: impl Fn(&[u8]) -> Result<Decoded<T>, DecodeError> + Send + Sync + 'static,
    ) -> Self {
        self.decoder = Some(Decoder::with(decode));
        self
    }

    /// Names records by a function, see [`Record::event_id`](crate::Record::event_id).
    pub fn event_id(
        mut self,
        name: impl Fn(&RawRecord<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        self.event_id = Some(NamedBy(Arc::new(name)));
        self
    }

    /// Keeps what cannot be decoded here and goes on, instead of stopping at it.
    pub fn on_decode_error(mut self, letters: Arc<dyn DeadLetters>) -> Self {
        self.decode_errors = Some(Kept(letters));
        self
    }

    /// Keeps what the sink does not take here and goes on, instead of stopping at it.
    pub fn dead_letters(mut self, letters: Arc<dyn DeadLetters>) -> Self {
        self.dead_letters = Some(Kept(letters));
        self
    }

    /// How often the sink is tried.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Who hears of progress.
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Ends everything in good order once this is set.
    pub fn stop(mut self, stop: StopFlag) -> Self {
        self.stop = stop;
        self
    }

    /// Ends everything in good order before this is spent: the time of a Lambda invocation.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// This worker's name among those that share the stream's shards; a random one unless it is given.
    pub fn worker(mut self, name: impl Into<String>) -> Self {
        self.worker = Some(name.into());
        self
    }

    /// Ends the live side once every shard is read and idle, instead of following for ever.
    pub fn until_idle(mut self) -> Self {
        self.until_idle = true;
        self
    }

    /// Follows for ever: the default.
    pub fn following(mut self) -> Self {
        self.until_idle = false;
        self
    }

    /// For a local engine, whose streams see everything at once and whose listings are true.
    pub fn on_local_engine(self) -> Self {
        let waits = CapturePace::settling_in(Duration::ZERO);
        self.paced(waits, Duration::ZERO, Duration::from_secs(5))
    }

    /// How long a capture waits for the stream, how far apart two answers about a shard's children lie, and how often its
    /// shards are listed.
    pub fn paced(mut self, capture: CapturePace, settle: Duration, survey_every: Duration) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.pace = capture;
        (self.settle_ms, self.survey_every_ms) = (ms(settle), ms(survey_every));
        self
    }

    /// Draws the live side's waits from this seed, so that a simulation can be repeated.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(crate) fn core(self) -> Result<Arc<Core<T>>, SourceError> {
        let shown = self.name.clone().or_else(|| self.table.clone());
        let shown = shown.unwrap_or_else(|| "(without a name)".into());
        let invalid = |setting, reason: String| SourceError::Invalid {
            name: shown.clone(),
            setting,
            reason,
        };
        let missing = |setting| move || (setting, "it must be given".to_owned());
        let told = |(setting, reason)| invalid(setting, reason);
        let table = self.table.as_deref().ok_or_else(missing("table"));
        let table = table.map_err(told)?.parse::<TableRef>();
        let table = table.map_err(|error| invalid("table", error.to_string()))?;
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| format!("snapshot:{}", table.name()));
        self.check(&name).map_err(told)?;
        let ports = self.ports.ok_or_else(missing("ports")).map_err(told)?;
        let decoder = self.decoder.ok_or_else(missing("decode")).map_err(told)?;
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        Ok(Arc::new(Core {
            ledger: Ledger {
                place: ports.checkpoints.open(&name),
                source: name.clone(),
            },
            name,
            table,
            ports,
            decoder,
            event_id: self.event_id.map(|named| named.0),
            decode_errors: self.decode_errors.map(|kept| kept.0),
            dead_letters: self.dead_letters.map(|kept| kept.0),
            metrics: self.metrics,
            scan: ScanSettings {
                concurrency: self.concurrency.unwrap_or(CONCURRENCY).min(self.segments),
                segments: self.segments,
                page_size: self.page_size,
                consistent: self.consistent,
                selection: self.selection,
                read_capacity: self.read_capacity,
                with_stream: self.with_stream,
                pace: self.pace,
            },
            live: LiveSettings {
                worker: self.worker.unwrap_or_else(|| format!("worker-{seed:016x}")),
                until_idle: self.until_idle,
                settle_ms: self.settle_ms,
                survey_every_ms: self.survey_every_ms,
                seed,
            },
            retry: self.retry,
            stop: self.stop,
            budget: self.budget,
        }))
    }

    /// What can be known to be wrong: the setting, and how.
    fn check(&self, name: &str) -> Result<(), (&'static str, String)> {
        if self.segments > MOST_SEGMENTS {
            let segments = self.segments;
            let reason = format!("{segments} are more than the {MOST_SEGMENTS} of a parallel scan");
            return Err(("segments", reason));
        }
        let selection = self.selection.check();
        selection.map_err(|error| ("filter", error.to_string()))?;
        let plain = |byte: u8| byte.is_ascii_graphic();
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            let reason = format!("1 to {LONGEST_NAME} printable ASCII characters without spaces");
            return Err(("name", reason));
        }
        Ok(())
    }
}

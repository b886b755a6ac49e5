//! Who watches an invocation: writes its log lines, and counts what it does.

use std::fmt::Debug;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_domain::budget::Clock;
use highwater_domain::change_log::LogName;
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::{Incident, IncidentKind};
use highwater_domain::live_control::PublishedMark;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica::{ReplicaId, ReplicaRecord};
use highwater_domain::restore::LoadTotals;
use highwater_domain::scan::Page;
use highwater_domain::shard::ShardId;
use highwater_domain::snapshot::PartRow;
use highwater_steps::consume_stream::ConsumeDeps;
use highwater_steps::replica::sink::Applied;
use highwater_steps::replica::{FeedDeps, ReplicaObserver};
use highwater_steps::{
    Deps, JobEnd, LiveDeps, LiveObserver, LogDeps, Observer, RestoreDeps, SnapshotDeps,
};
use serde_json::{Map, Value};
use tracing::Span;

use crate::metrics::{Scope, document};
use crate::ports::LoggingObserver;
use crate::tally::Tally;

/// Numbers are told once a minute, `CloudWatch`'s own grain: what is done at noon counts at noon, and a function that is
/// killed has told everything but its last minute.
const TELL_EVERY_MS: u64 = 60_000;

/// Where documents go, one line each.
pub trait Lines: Debug + Send + Sync {
    /// Writes one line; `text` has no line break.
    fn line(&self, text: &str);
}

/// The function's own log.
#[derive(Clone, Copy, Debug)]
pub struct StandardOutput;

impl Lines for StandardOutput {
    fn line(&self, text: &str) {
        // One write, so that no line of the log comes between; where nobody reads, there is nobody to tell.
        let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
    }
}

/// Watches one invocation. What it counted is told by [`flush`](Self::flush), and before that once a minute.
#[derive(Debug)]
pub struct InvocationObserver {
    log: LoggingObserver,
    span: Span,
    stack: Option<String>,
    properties: Map<String, Value>,
    clock: Arc<dyn Clock>,
    lines: Arc<dyn Lines>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    table: Option<String>,
    tally: Tally,
    since: UnixMillis,
}

impl InvocationObserver {
    /// Watches the invocation of `span`, of a function of `stack`; `properties` stand in every document.
    #[must_use]
    pub fn new(
        span: Span,
        stack: Option<String>,
        properties: Map<String, Value>,
        clock: Arc<dyn Clock>,
        lines: Arc<dyn Lines>,
    ) -> Self {
        Self {
            log: LoggingObserver,
            span,
            stack,
            properties,
            clock,
            lines,
            counted: Mutex::default(),
        }
    }

    /// Tells what was counted and not told yet.
    pub fn flush(&self) {
        self.tell(&mut self.counted());
    }

    /// From here on numbers are the table's of this name; what was counted before is not.
    pub(crate) fn turn_to(&self, table: &str) {
        let mut counted = self.counted();
        if counted.table.as_deref() == Some(table) {
            return;
        }
        self.tell(&mut counted);
        counted.table = Some(table.to_owned());
        self.span.record("table", table);
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        let mut counted = self.counted();
        let now = self.clock.now();
        if counted.tally.is_empty() {
            counted.since = now;
        }
        add(&mut counted.tally);
        if now.since(counted.since) >= TELL_EVERY_MS {
            self.tell(&mut counted);
        }
    }

    fn tell(&self, counted: &mut Counted) {
        let tally = std::mem::take(&mut counted.tally);
        let scope = Scope {
            stack: self.stack.as_deref(),
            table: counted.table.as_deref(),
        };
        let now = self.clock.now();
        if let Some(document) = document(now, scope, tally.values(), &self.properties) {
            self.lines.line(&document.to_string());
        }
    }

    /// A poisoned lock means that somebody panicked between two additions: the numbers are still numbers.
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for InvocationObserver {
    fn page(&self, segment: u32, page: &Page) {
        self.log.page(segment, page);
        self.count(|tally| tally.page(page));
    }

    fn part(&self, row: &PartRow) {
        self.log.part(row);
        self.count(|tally| tally.part(row));
    }

    fn adopted(&self, row: &PartRow) {
        self.log.adopted(row);
        // Whoever wrote it died before it could count it, or failed to commit it.
        self.count(|tally| tally.part(row));
    }

    fn retrying(&self, segment: u32, reason: &str, wait_ms: u64) {
        Observer::retrying(&self.log, segment, reason, wait_ms);
    }

    fn loaded(&self, file: u32, more: &LoadTotals) {
        self.log.loaded(file, more);
        self.count(|tally| tally.loaded(more));
    }

    fn file_loaded(&self, file: u32, totals: &LoadTotals) {
        self.log.file_loaded(file, totals);
    }

    fn segment_done(&self, segment: u32) {
        self.log.segment_done(segment);
    }

    fn about(&self, table: &str) {
        self.turn_to(table);
    }

    fn throttled(&self, segment: u32) {
        self.log.throttled(segment);
        self.count(Tally::throttled);
    }

    fn ended(&self, end: JobEnd) {
        self.log.ended(end);
        self.count(|tally| tally.ended(end));
    }
}

impl LiveObserver for InvocationObserver {
    fn logged(&self, shard: &ShardId, object: &LogName, stored_bytes: u64) {
        self.log.logged(shard, object, stored_bytes);
        self.count(|tally| tally.logged(object, stored_bytes));
    }

    fn advanced(&self, shard: &ShardId, event_time: Option<UnixSeconds>) {
        self.log.advanced(shard, event_time);
    }

    fn shard_ended(&self, shard: &ShardId, children: &[ShardId]) {
        self.log.shard_ended(shard, children);
    }

    fn owns(&self, shard: &ShardId, owned: bool) {
        self.log.owns(shard, owned);
    }

    fn incident(&self, incident: &Incident) {
        self.log.incident(incident);
        if incident.kind == IncidentKind::UnreadRecord {
            self.count(Tally::unread);
        }
    }

    fn marked(&self, mark: &PublishedMark) {
        self.log.marked(mark);
    }

    fn retrying(&self, what: &str, reason: &str, wait_ms: u64) {
        LiveObserver::retrying(&self.log, what, reason, wait_ms);
    }

    fn about(&self, table: &str) {
        self.turn_to(table);
    }

    fn delivered(&self, comes_again: bool) {
        self.log.delivered(comes_again);
        self.count(|tally| tally.delivered(comes_again));
    }

    fn back_filled(&self, records: u64) {
        self.log.back_filled(records);
        self.count(|tally| tally.back_filled(records));
    }

    fn audited(&self, mark: &PublishedMark, unhealed: u64) {
        self.log.audited(mark, unhealed);
        self.count(|tally| tally.audited(mark, unhealed));
    }
}

impl ReplicaObserver for InvocationObserver {
    fn applied(&self, _: &ReplicaId, applied: &Applied) {
        self.count(|tally| tally.applied(applied));
    }

    fn stands(&self, record: &ReplicaRecord) {
        let (replica, phase) = (record.id.as_str(), record.phase.as_str());
        let applied = record.applied.map(|second| second.0);
        tracing::info!(replica, phase, applied, "replica");
    }

    fn deferred(&self, records: u64) {
        self.count(|tally| tally.deferred(records));
    }

    fn stand(&self, records: &[ReplicaRecord], now: UnixMillis) {
        self.count(|tally| tally.replicas(records, now));
    }
}

/// Ports whose steps can be watched.
pub trait Observed: Clone {
    /// The same ports, for one invocation.
    #[must_use]
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self;
}

impl Observed for LiveDeps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            log: self.log.observed_by(observer),
            ..self
        }
    }
}

impl Observed for LogDeps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            observer: observer.clone(),
            ..self
        }
    }
}

impl Observed for ConsumeDeps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            live: self.live.observed_by(observer),
            replicas: self
                .replicas
                .map(|replicas| replicas.observed_by(observer.clone())),
        }
    }
}

impl Observed for FeedDeps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            live: self.live.observed_by(observer),
            observer: observer.clone(),
            ..self
        }
    }
}

impl Observed for Deps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            live: self.live.observed_by(observer),
            snapshots: self.snapshots.observed_by(observer),
            ..self
        }
    }
}

impl Observed for SnapshotDeps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            observer: observer.clone(),
            ..self
        }
    }
}

impl Observed for RestoreDeps {
    fn observed_by(self, observer: &Arc<InvocationObserver>) -> Self {
        Self {
            observer: observer.clone(),
            snapshots: self.snapshots.observed_by(observer),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use highwater_domain::snapshot::PartId;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default)]
    struct Stage {
        now: AtomicU64,
        lines: Mutex<Vec<Value>>,
    }

    impl Clock for Stage {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.now.load(Ordering::SeqCst))
        }
    }

    impl Lines for Stage {
        fn line(&self, text: &str) {
            assert!(!text.contains('\n'));
            let document = serde_json::from_str(text).unwrap();
            self.lines.lock().unwrap().push(document);
        }
    }

    fn observer(stage: &Arc<Stage>) -> InvocationObserver {
        let properties = json!({"request_id": "r-1"});
        let stack = Some("backups".to_owned());
        InvocationObserver::new(
            Span::none(),
            stack,
            properties.as_object().cloned().unwrap(),
            stage.clone(),
            stage.clone(),
        )
    }

    /// Of each document: its time, its table, and this metric.
    fn told(stage: &Stage, metric: &str) -> Vec<Value> {
        let lines = stage.lines.lock().unwrap();
        let told = lines.iter().map(|line| {
            assert_eq!(
                (&line["Stack"], &line["request_id"]),
                (&"backups".into(), &"r-1".into())
            );
            json!([
                line["_aws"]["Timestamp"],
                line.get("Table"),
                line.get(metric)
            ])
        });
        told.collect()
    }

    #[test]
    fn numbers_are_told_at_the_end_and_once() {
        let stage = Arc::new(Stage::default());
        let observer = observer(&stage);
        observer.flush();
        Observer::about(&observer, "orders");
        for _ in 0..3 {
            observer.throttled(0);
        }
        Observer::about(&observer, "orders");
        assert_eq!(told(&stage, "Throttles"), [] as [Value; 0]);
        observer.flush();
        observer.flush();
        assert_eq!(told(&stage, "Throttles"), [json!([0, "orders", 3.0])]);
    }

    #[test]
    fn what_lasts_is_told_once_a_minute() {
        let stage = Arc::new(Stage::default());
        let observer = observer(&stage);
        Observer::about(&observer, "orders");
        for at in [5_000, 64_999, 65_000, 70_000, 129_999, 130_000, 131_000] {
            stage.now.store(at, Ordering::SeqCst);
            observer.throttled(0);
        }
        observer.flush();
        let expected = [
            json!([65_000, "orders", 3.0]),
            json!([130_000, "orders", 3.0]),
            json!([131_000, "orders", 1.0]),
        ];
        assert_eq!(told(&stage, "Throttles"), expected);
    }

    #[test]
    fn each_table_has_its_own_numbers_and_what_belongs_to_none_is_told_too() {
        let stage = Arc::new(Stage::default());
        let observer = observer(&stage);
        observer.delivered(true);
        LiveObserver::about(&observer, "orders");
        observer.back_filled(2);
        LiveObserver::about(&observer, "customers");
        observer.back_filled(5);
        observer.flush();
        let expected = [
            json!([0, null, null]),
            json!([0, "orders", 2.0]),
            json!([0, "customers", 5.0]),
        ];
        assert_eq!(told(&stage, "RecordsBackfilled"), expected);
        let nobodys = &stage.lines.lock().unwrap()[0];
        assert_eq!(nobodys["BatchFailures"], 1.0);
        let dimensions = &nobodys["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
        assert_eq!(*dimensions, json!([["Stack"]]));
    }

    #[test]
    fn only_records_that_cannot_be_understood_count_as_unread() {
        let stage = Arc::new(Stage::default());
        let observer = observer(&stage);
        for kind in [IncidentKind::Gap, IncidentKind::UnreadRecord] {
            observer.incident(&Incident {
                version: 1,
                id: "i".into(),
                kind,
                stream_label: "l".into(),
                shard: None,
                from: UnixSeconds(1),
                until: UnixSeconds(2),
                seen_at: UnixMillis(3),
                detail: String::new(),
            });
        }
        observer.flush();
        assert_eq!(told(&stage, "RecordsUnread"), [json!([0, null, 1.0])]);
    }

    #[test]
    fn an_adopted_part_is_counted_by_who_commits_it() {
        let stage = Arc::new(Stage::default());
        let observer = observer(&stage);
        let row = PartRow {
            id: PartId {
                segment: 0,
                number: 0,
            },
            object: "data/s00000-p000000.json.gz".into(),
            items: 7,
            stored_bytes: 90,
            plain_bytes: 400,
            md5: String::new(),
            sha256: String::new(),
            first_key: None,
            last_key: None,
        };
        observer.part(&row);
        observer.adopted(&row);
        observer.flush();
        assert_eq!(told(&stage, "PartsWritten"), [json!([0, null, 2.0])]);
        assert_eq!(told(&stage, "ItemsWritten"), [json!([0, null, 14.0])]);
        assert_eq!(told(&stage, "BytesWritten"), [json!([0, null, 180.0])]);
    }
}

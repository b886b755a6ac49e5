//! What an invocation has done so far, in numbers: pure sums over what the steps tell.

use std::collections::BTreeMap;

use highwater_domain::change_log::LogName;
use highwater_domain::ids::UnixMillis;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::replica::{Phase, ReplicaRecord};
use highwater_domain::restore::LoadTotals;
use highwater_domain::scan::Page;
use highwater_domain::snapshot::PartRow;
use highwater_steps::JobEnd;
use highwater_steps::replica::sink::Applied;

use crate::metrics::Metric;

/// Sums and gauges since the last time they were told. A metric is there once it is known, be it zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally(BTreeMap<Metric, f64>);

impl Tally {
    /// The numbers.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<Metric, f64> {
        &self.0
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A page arrived. What it cost is known only if DynamoDB said so, and no page is free.
    pub fn page(&mut self, page: &Page) {
        let returned = page.items.len() as u64;
        self.add(Metric::ItemsRead, page.scanned_count);
        self.add(
            Metric::ItemsSkipped,
            page.scanned_count.saturating_sub(returned),
        );
        self.add(Metric::Throttles, 0);
        self.add_units(Metric::ReadCapacity, page.consumed_capacity);
    }

    /// A request of a scan was throttled.
    pub fn throttled(&mut self) {
        self.add(Metric::Throttles, 1);
    }

    /// A part was committed.
    pub fn part(&mut self, row: &PartRow) {
        self.add(Metric::PartsWritten, 1);
        self.add(Metric::ItemsWritten, row.items);
        self.add(Metric::BytesWritten, row.stored_bytes);
    }

    /// Items of a restore were accounted for.
    pub fn loaded(&mut self, more: &LoadTotals) {
        self.add(Metric::RestoreItemsWritten, more.written);
        self.add(Metric::RestoreItemsSkipped, more.skipped());
        self.add(Metric::RestoreItemsRejected, more.rejected);
        self.add(Metric::Throttles, more.throttles);
        self.add_units(Metric::WriteCapacity, more.consumed_capacity);
    }

    /// An execution ended.
    pub fn ended(&mut self, end: JobEnd) {
        let metric = match end {
            JobEnd::BackupCompleted => Metric::BackupsCompleted,
            JobEnd::BackupFailed => Metric::BackupsFailed,
            JobEnd::RestoreCompleted => Metric::RestoresCompleted,
            JobEnd::RestoreFailed => Metric::RestoresFailed,
        };
        self.add(metric, 1);
    }

    /// An object of the log is durable.
    pub fn logged(&mut self, object: &LogName, stored_bytes: u64) {
        self.add(Metric::RecordsLogged, object.count);
        self.add(Metric::LogObjects, 1);
        self.add(Metric::LogBytes, stored_bytes);
    }

    /// A record was kept that cannot be understood.
    pub fn unread(&mut self) {
        self.add(Metric::RecordsUnread, 1);
    }

    /// A batch was answered. What it did not bring is known, too: nothing.
    pub fn delivered(&mut self, comes_again: bool) {
        for metric in [
            Metric::RecordsLogged,
            Metric::LogObjects,
            Metric::LogBytes,
            Metric::RecordsUnread,
        ] {
            self.add(metric, 0);
        }
        self.add(Metric::BatchFailures, u64::from(comes_again));
    }

    /// An audit has written what was missing.
    pub fn back_filled(&mut self, records: u64) {
        self.add(Metric::RecordsBackfilled, records);
    }

    /// An audit has computed the mark. Of a log of which nothing is known yet there is no lag to tell.
    pub fn audited(&mut self, mark: &PublishedMark, unhealed: u64) {
        self.add(Metric::RecordsBackfilled, 0);
        self.set(Metric::UnhealedGaps, unhealed as f64);
        if let Some(best) = mark.mark.best() {
            let lag_ms = mark
                .computed_at
                .0
                .saturating_sub(best.0.saturating_mul(1000));
            self.set(Metric::MarkLag, lag_ms as f64 / 1000.0);
            self.set(Metric::RestorableUntil, best.0 as f64);
        }
    }

    /// Records were dealt with for a replica.
    pub fn applied(&mut self, applied: &Applied) {
        self.add(Metric::ReplicaApplied, applied.written);
        self.add(Metric::ReplicaStale, applied.stale);
        self.add(Metric::ReplicaRefused, applied.refused);
    }

    /// Records were left to the applier.
    pub fn deferred(&mut self, records: u64) {
        self.add(Metric::ReplicaDeferred, records);
    }

    /// All replicas of one table stand so. One that is loaded does not lag: there is nothing yet that could.
    pub fn replicas(&mut self, records: &[ReplicaRecord], now: UnixMillis) {
        let is_failed = |record: &&ReplicaRecord| record.phase == Phase::Failed;
        let failed = records.iter().filter(is_failed).count();
        self.set(Metric::ReplicasFailed, failed as f64);
        let live = records.iter().filter(|it| it.phase == Phase::Live);
        // Of a replica nothing is known before the first look at it: then it holds what the snapshot had.
        let since = live.map(|it| it.applied.map_or(it.captured_at.0, |at| at.0 * 1000));
        if let Some(oldest) = since.min() {
            let lag_ms = now.since(UnixMillis(oldest));
            self.set(Metric::ReplicaLagSeconds, lag_ms as f64 / 1000.0);
        }
    }

    fn add(&mut self, metric: Metric, more: u64) {
        *self.0.entry(metric).or_default() += more as f64;
    }

    fn add_units(&mut self, metric: Metric, units: f64) {
        if units > 0.0 {
            *self.0.entry(metric).or_default() += units;
        }
    }

    fn set(&mut self, metric: Metric, value: f64) {
        self.0.insert(metric, value);
    }
}

#[cfg(test)]
mod tests {
    use highwater_domain::ids::UnixMillis;
    use highwater_domain::live_control::PUBLISHED_MARK_VERSION;
    use highwater_domain::mark::{Mark, UnixSeconds};
    use highwater_domain::scan::RawItems;
    use highwater_domain::sequence_number::Generation;

    use super::*;

    fn told(tally: &Tally) -> Vec<(&'static str, f64)> {
        let values = tally.values().iter();
        values
            .map(|(metric, value)| (metric.name(), *value))
            .collect()
    }

    fn page(items: usize, scanned_count: u64, consumed_capacity: f64) -> Page {
        Page {
            items: RawItems::from_items(vec![b"{}"; items]),
            scanned_count,
            consumed_capacity,
            ..Page::default()
        }
    }

    #[test]
    fn what_a_page_cost_is_told_only_if_it_is_known() {
        let mut tally = Tally::default();
        assert!(tally.is_empty());
        tally.page(&page(2, 5, 0.0));
        let unknown = [
            ("ItemsRead", 5.0),
            ("ItemsSkipped", 3.0),
            ("Throttles", 0.0),
        ];
        assert_eq!(told(&tally), unknown);
        tally.page(&page(4, 4, 2.5));
        tally.throttled();
        let known = [
            ("ItemsRead", 9.0),
            ("ItemsSkipped", 3.0),
            ("ReadCapacity", 2.5),
            ("Throttles", 1.0),
        ];
        assert_eq!(told(&tally), known);
    }

    #[test]
    fn a_restores_items_are_in_one_of_three_counts() {
        let mut tally = Tally::default();
        let totals = LoadTotals {
            read: 21,
            written: 11,
            deleted: 4,
            existing: 1,
            filtered: 2,
            superseded: 3,
            rejected: 4,
            plain_bytes: 99,
            consumed_capacity: 11.5,
            throttles: 7,
        };
        assert!(totals.is_balanced());
        tally.loaded(&totals);
        let expected = [
            ("Throttles", 7.0),
            ("RestoreItemsWritten", 11.0),
            ("RestoreItemsSkipped", 6.0),
            ("RestoreItemsRejected", 4.0),
            ("WriteCapacity", 11.5),
        ];
        assert_eq!(told(&tally), expected);
    }

    fn mark(assumed: Option<u64>) -> PublishedMark {
        PublishedMark {
            version: PUBLISHED_MARK_VERSION,
            stream_arn: "arn".into(),
            stream_label: "label".into(),
            generation: Generation(1),
            mark: Mark {
                proven: None,
                rolled: Some(UnixSeconds(900)),
                assumed: assumed.map(UnixSeconds),
            },
            publication_ms: 0,
            computed_at: UnixMillis(1_010_500),
            bounded_by: None,
            open_shards: 1,
            held_back: true,
        }
    }

    #[test]
    fn a_marks_lag_is_that_of_its_best_grade_and_the_last_one_counts() {
        let mut tally = Tally::default();
        tally.back_filled(3);
        tally.audited(&mark(None), 2);
        tally.audited(&mark(Some(1_000)), 1);
        let expected = [
            ("RecordsBackfilled", 3.0),
            ("MarkLag", 10.5),
            ("RestorableUntil", 1000.0),
            ("UnhealedGaps", 1.0),
        ];
        assert_eq!(told(&tally), expected);
        let mut unknown = mark(None);
        unknown.mark.rolled = None;
        let mut tally = Tally::default();
        tally.audited(&unknown, 0);
        let expected = [("RecordsBackfilled", 0.0), ("UnhealedGaps", 0.0)];
        assert_eq!(told(&tally), expected);
    }

    fn replica(phase: &str, applied: Option<u64>) -> ReplicaRecord {
        let record = serde_json::json!({
            "version": 1, "id": "5d6f1c2b3a495867", "source": "orders", "source_arn": "arn", "source_table_id": null,
            "target": "copy", "target_table_id": null, "fence": "table",
            "key_schema": {"partition": {"name": "id", "scalar_type": "S"}, "sort": null},
            "log": "s3://b/p", "snapshot": "s3://b/p/t/AWSDynamoDB/x",
            "load": "01768385930622-efd1a093", "stream_arn": "arn", "stream_label": "l",
            "generation": 1, "captured_at": 400_000, "scanned_at": 401_000, "phase": phase,
            "began_at": 402_000, "applied": applied,
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn replicas_lag_as_the_slowest_live_one_does_and_failed_ones_are_counted() {
        let now = UnixMillis(1_000_500);
        let told_of = |records: &[ReplicaRecord]| {
            let mut tally = Tally::default();
            tally.replicas(records, now);
            told(&tally)
        };
        let loading = replica("load", None);
        assert_eq!(
            told_of(std::slice::from_ref(&loading)),
            [("ReplicasFailed", 0.0)]
        );
        let live = [
            replica("live", Some(990)),
            replica("live", Some(900)),
            loading,
        ];
        let expected = [("ReplicaLagSeconds", 100.5), ("ReplicasFailed", 0.0)];
        assert_eq!(told_of(&live), expected);
        let new = [replica("live", None), replica("failed", Some(1))];
        let expected = [("ReplicaLagSeconds", 600.5), ("ReplicasFailed", 1.0)];
        assert_eq!(told_of(&new), expected, "it holds what the snapshot had");
    }

    #[test]
    fn what_became_of_a_replicas_records_is_summed() {
        let mut tally = Tally::default();
        let applied = Applied {
            records: 10,
            written: 4,
            stale: 3,
            refused: 1,
            superseded: 2,
            ..Applied::default()
        };
        tally.applied(&applied);
        tally.applied(&applied);
        tally.deferred(7);
        let expected = [
            ("ReplicaApplied", 8.0),
            ("ReplicaStale", 6.0),
            ("ReplicaRefused", 2.0),
            ("ReplicaDeferred", 7.0),
        ];
        assert_eq!(told(&tally), expected);
    }

    #[test]
    fn a_batch_that_brought_nothing_is_told_as_such() {
        let mut tally = Tally::default();
        let object = LogName {
            shard: "shardId-00000001768385931204-61b683f7".parse().unwrap(),
            first: "7".parse().unwrap(),
            last: "9".parse().unwrap(),
            count: 3,
        };
        tally.delivered(true);
        assert!(tally.values().values().sum::<f64>() < 1.5, "{tally:?}");
        tally.logged(&object, 120);
        tally.unread();
        tally.delivered(false);
        let expected = [
            ("RecordsLogged", 3.0),
            ("LogObjects", 1.0),
            ("LogBytes", 120.0),
            ("BatchFailures", 1.0),
            ("RecordsUnread", 1.0),
        ];
        assert_eq!(told(&tally), expected);
    }
}

//! The numbers that the functions give to `CloudWatch`: every name, with unit and meaning, and how they are written.
//!
//! A function writes them to its log as documents of the embedded metric format, one line each, and `CloudWatch` makes
//! metrics of them: no call, no permission, nothing that can be throttled.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//!
//! What is counted is work, where it is done: an invocation that is repeated counts what it does again, and one that is
//! killed has told everything but its last minute. `docs/OPERATIONS.md`, "Metrics", says what that does to each sum.

use std::collections::BTreeMap;

use highwater_domain::ids::UnixMillis;
use serde_json::{Map, Value, json};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "Highwater";

/// The dimension that tells stacks apart: the stack's name, from `HIGHWATER_STACK`.
pub const STACK: &str = "Stack";

/// The dimension that tells tables apart: the table's bare name.
pub const TABLE: &str = "Table";

/// What a metric is counted in, in `CloudWatch`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// The word in a document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Seconds => "Seconds",
        }
    }
}

/// A metric; [`METRICS`] says what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the table has the words, once, for people and tests alike"
)]
pub enum Metric {
    ItemsRead,
    ItemsWritten,
    ItemsSkipped,
    BytesWritten,
    PartsWritten,
    ReadCapacity,
    Throttles,
    BackupsCompleted,
    BackupsFailed,
    RestoreItemsWritten,
    RestoreItemsSkipped,
    RestoreItemsRejected,
    WriteCapacity,
    RestoresCompleted,
    RestoresFailed,
    RecordsLogged,
    LogObjects,
    LogBytes,
    BatchFailures,
    RecordsUnread,
    RecordsBackfilled,
    MarkLag,
    RestorableUntil,
    UnhealedGaps,
    ReplicaLagSeconds,
    ReplicaApplied,
    ReplicaStale,
    ReplicaRefused,
    ReplicaDeferred,
    ReplicasFailed,
}

impl Metric {
    /// The name in `CloudWatch`, in `docs/OPERATIONS.md`, in alarms and on the dashboard.
    #[must_use]
    pub fn name(self) -> &'static str {
        METRICS[self as usize].name
    }

    /// What it is counted in.
    #[must_use]
    pub fn unit(self) -> Unit {
        METRICS[self as usize].unit
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The metric.
    pub metric: Metric,
    /// Its name in `CloudWatch`.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// What it counts.
    pub meaning: &'static str,
}

const fn define(
    metric: Metric,
    name: &'static str,
    unit: Unit,
    meaning: &'static str,
) -> Definition {
    Definition {
        metric,
        name,
        unit,
        meaning,
    }
}

/// Every metric, in the order of [`Metric`].
pub const METRICS: [Definition; 30] = [
    define(
        Metric::ItemsRead,
        "ItemsRead",
        Unit::Count,
        "items that a scan has read, before any filter",
    ),
    define(
        Metric::ItemsWritten,
        "ItemsWritten",
        Unit::Count,
        "items in parts that were committed",
    ),
    define(
        Metric::ItemsSkipped,
        "ItemsSkipped",
        Unit::Count,
        "items that the scan's filter left out",
    ),
    define(
        Metric::BytesWritten,
        "BytesWritten",
        Unit::Bytes,
        "stored size of parts that were committed",
    ),
    define(
        Metric::PartsWritten,
        "PartsWritten",
        Unit::Count,
        "parts that were committed",
    ),
    define(
        Metric::ReadCapacity,
        "ReadCapacity",
        Unit::Count,
        "read capacity units that the scan's pages cost",
    ),
    define(
        Metric::Throttles,
        "Throttles",
        Unit::Count,
        "requests of a scan or a load that came too fast, and writes that came back unprocessed",
    ),
    define(
        Metric::BackupsCompleted,
        "BackupsCompleted",
        Unit::Count,
        "executions that ended with a sealed snapshot",
    ),
    define(
        Metric::BackupsFailed,
        "BackupsFailed",
        Unit::Count,
        "executions that ended as failed after their plan was begun",
    ),
    define(
        Metric::RestoreItemsWritten,
        "RestoreItemsWritten",
        Unit::Count,
        "items written, and deletes done, by a restore",
    ),
    define(
        Metric::RestoreItemsSkipped,
        "RestoreItemsSkipped",
        Unit::Count,
        "items left out by a restore: filtered, there already, or known better by the log",
    ),
    define(
        Metric::RestoreItemsRejected,
        "RestoreItemsRejected",
        Unit::Count,
        "items that the table did not take; each is kept",
    ),
    define(
        Metric::WriteCapacity,
        "WriteCapacity",
        Unit::Count,
        "write capacity units that a restore's writes cost",
    ),
    define(
        Metric::RestoresCompleted,
        "RestoresCompleted",
        Unit::Count,
        "executions that ended with every item in its place",
    ),
    define(
        Metric::RestoresFailed,
        "RestoresFailed",
        Unit::Count,
        "executions that ended as failed after their plan was begun",
    ),
    define(
        Metric::RecordsLogged,
        "RecordsLogged",
        Unit::Count,
        "stream records in objects that were written to the log or found there, back-filled ones included",
    ),
    define(
        Metric::LogObjects,
        "LogObjects",
        Unit::Count,
        "those objects",
    ),
    define(
        Metric::LogBytes,
        "LogBytes",
        Unit::Bytes,
        "their stored size",
    ),
    define(
        Metric::BatchFailures,
        "BatchFailures",
        Unit::Count,
        "batches that were answered with an error or with a record to begin again from",
    ),
    define(
        Metric::RecordsUnread,
        "RecordsUnread",
        Unit::Count,
        "records that could not be understood; each is kept as it came",
    ),
    define(
        Metric::RecordsBackfilled,
        "RecordsBackfilled",
        Unit::Count,
        "records that an audit found missing in the log and wrote",
    ),
    define(
        Metric::MarkLag,
        "MarkLag",
        Unit::Seconds,
        "from the mark's best grade to when it was computed",
    ),
    define(
        Metric::RestorableUntil,
        "RestorableUntil",
        Unit::Seconds,
        "the mark's best grade, in seconds since 1970",
    ),
    define(
        Metric::UnhealedGaps,
        "UnhealedGaps",
        Unit::Count,
        "losses that no sealed snapshot has healed, and that hold the mark back",
    ),
    define(
        Metric::ReplicaLagSeconds,
        "ReplicaLagSeconds",
        Unit::Seconds,
        "from the second up to which a live replica holds everything to now; of several replicas the longest",
    ),
    define(
        Metric::ReplicaApplied,
        "ReplicaApplied",
        Unit::Count,
        "records that were written to replicas",
    ),
    define(
        Metric::ReplicaStale,
        "ReplicaStale",
        Unit::Count,
        "records that a replica had already, or later ones of their keys",
    ),
    define(
        Metric::ReplicaRefused,
        "ReplicaRefused",
        Unit::Count,
        "records that a replica did not take; each is kept whole",
    ),
    define(
        Metric::ReplicaDeferred,
        "ReplicaDeferred",
        Unit::Count,
        "records of batches that were left to be applied from the log",
    ),
    define(
        Metric::ReplicasFailed,
        "ReplicasFailed",
        Unit::Count,
        "replicas that cannot go on and must be rebuilt",
    ),
];

/// What numbers belong to: the values of their dimensions, where they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The stack's name.
    pub stack: Option<&'a str>,
    /// The table's bare name.
    pub table: Option<&'a str>,
}

/// Numbers as a document of the embedded metric format; `None` if there are none.
///
/// `properties` stand beside the numbers for whoever searches the log; they make no metrics, and none may have the name
/// of a metric or a dimension. A value that is no number (`NaN`) is none: it would void the document.
#[must_use]
pub fn document(
    at: UnixMillis,
    scope: Scope<'_>,
    values: &BTreeMap<Metric, f64>,
    properties: &Map<String, Value>,
) -> Option<Value> {
    let known: Vec<(Metric, f64)> = values
        .iter()
        .map(|(metric, value)| (*metric, *value))
        .filter(|(_, value)| value.is_finite())
        .collect();
    if known.is_empty() {
        return None;
    }
    let mut members = properties.clone();
    let mut dimensions = Vec::new();
    for (name, value) in [(STACK, scope.stack), (TABLE, scope.table)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            members.insert(name.into(), value.into());
            dimensions.push(name);
        }
    }
    let mut definitions = Vec::new();
    for (metric, value) in known {
        definitions.push(json!({"Name": metric.name(), "Unit": metric.unit().as_str()}));
        members.insert(metric.name().into(), value.into());
    }
    let directive =
        json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": definitions});
    members.insert(
        "_aws".into(),
        json!({"Timestamp": at.0, "CloudWatchMetrics": [directive]}),
    );
    // Where Lambda filters a function's log by level, it takes a line without these for something else.
    members.insert("level".into(), "INFO".into());
    members.insert("timestamp".into(), at.to_rfc3339().into());
    Some(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const AT: UnixMillis = UnixMillis(1_768_385_930_622);

    #[test]
    fn the_table_has_every_metric_at_its_place_under_its_own_name() {
        let names: BTreeSet<&str> = METRICS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for (place, definition) in METRICS.iter().enumerate() {
            let name = definition.name;
            assert_eq!(definition.metric as usize, place, "{name}");
            assert_eq!(name, format!("{:?}", definition.metric));
            assert!(name.chars().all(|it| it.is_ascii_alphabetic()), "{name}");
            assert!(!definition.meaning.is_empty(), "{name}");
            assert!(![STACK, TABLE].contains(&name));
        }
    }

    #[test]
    fn a_document_says_what_its_members_are() {
        let values = [(Metric::ItemsRead, 3.0), (Metric::BytesWritten, 4.5)].into();
        let mut properties = Map::new();
        properties.insert("request_id".into(), "r".into());
        let scope = Scope {
            stack: Some("highwater"),
            table: Some("orders"),
        };
        let document = document(AT, scope, &values, &properties).unwrap();
        let expected = json!({
            "_aws": {
                "Timestamp": 1_768_385_930_622_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Highwater",
                    "Dimensions": [["Stack", "Table"]],
                    "Metrics": [
                        {"Name": "ItemsRead", "Unit": "Count"},
                        {"Name": "BytesWritten", "Unit": "Bytes"},
                    ],
                }],
            },
            "Stack": "highwater", "Table": "orders", "ItemsRead": 3.0, "BytesWritten": 4.5,
            "request_id": "r", "level": "INFO", "timestamp": "2026-01-14T10:18:50.622Z",
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let none = BTreeMap::new();
        let nobody = Scope::default();
        assert_eq!(document(AT, nobody, &none, &Map::new()), None);
        let broken = [(Metric::MarkLag, f64::NAN)].into();
        assert_eq!(document(AT, nobody, &broken, &Map::new()), None);
        let values = [(Metric::MarkLag, f64::INFINITY), (Metric::LogBytes, 0.0)].into();
        let unnamed = Scope {
            stack: Some(""),
            table: None,
        };
        let document = document(AT, unnamed, &values, &Map::new()).unwrap();
        let directive = &document["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([[]]));
        assert_eq!(
            directive["Metrics"],
            json!([{"Name": "LogBytes", "Unit": "Bytes"}])
        );
        assert_eq!(document.get("MarkLag"), None);
        assert_eq!(document.get("Stack"), None);
    }
}

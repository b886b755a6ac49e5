//! What an invocation is about: the ids that stand on each of its lines.

use highwater_domain::stream_arn::StreamArn;
use highwater_steps::apply_log::ApplyEvent;
use highwater_steps::audit_tables::AuditEvent;
use highwater_steps::consume_stream::ConsumeInput;
use highwater_steps::finalize_backup::FinalizeInput;
use highwater_steps::finalize_restore::FinalizeRestoreInput;
use highwater_steps::fold_log::FoldInput;
use highwater_steps::load_part::LoadInput;
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::plan_restore::PlanRestoreInput;
use highwater_steps::scan_segment::ScanInput;
use highwater_steps::scatter_log::ScatterInput;
use lambda_runtime::Context;
use serde_json::{Map, Value};
use tracing::Span;
use tracing::field::Empty;

/// What an event says of itself: the fields of the log's lines, and the properties of the metrics' documents.
///
/// What it does not say is found out by the step, if at all, and told by
/// [`about`](highwater_steps::Observer::about): the table of a snapshot, for instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The table's bare name.
    pub table: Option<String>,
    /// The snapshot.
    pub snapshot: Option<String>,
    /// The segment of the snapshot.
    pub segment: Option<u32>,
    /// The restore.
    pub restore: Option<String>,
    /// The file that a restore loads.
    pub file: Option<u32>,
    /// The bucket of keys that a restore folds.
    pub bucket: Option<u32>,
    /// The shard of the stream; of a restore, its number in the plan.
    pub shard: Option<String>,
}

/// An event that can say what it is about.
pub trait Subject {
    /// Its ids, as far as it names them.
    fn ids(&self) -> Ids;
}

impl Ids {
    /// The span of the invocation that `context` tells of; its ids are recorded once they are known.
    pub(crate) fn span(context: &Context) -> Span {
        // Of the highest level, so that no filter takes the ids from a line that it lets pass.
        tracing::error_span!(
            "invocation",
            request_id = context.request_id,
            trace_id = context.xray_trace_id,
            table = Empty,
            snapshot = Empty,
            segment = Empty,
            restore = Empty,
            file = Empty,
            bucket = Empty,
            shard = Empty,
        )
    }

    /// Puts the ids on every line of the span from here on.
    pub(crate) fn record(&self, span: &Span) {
        for (name, value) in self.texts() {
            span.record(name, value);
        }
        for (name, value) in self.numbers() {
            span.record(name, value);
        }
    }

    /// The ids as members of a JSON object; the table is not among them.
    pub(crate) fn properties(&self) -> Map<String, Value> {
        let texts = self.texts().filter(|(name, _)| *name != "table");
        let texts = texts.map(|(name, value)| (name.to_owned(), Value::from(value)));
        let numbers = self
            .numbers()
            .map(|(name, value)| (name.to_owned(), Value::from(value)));
        texts.chain(numbers).collect()
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [
            ("table", &self.table),
            ("snapshot", &self.snapshot),
            ("restore", &self.restore),
            ("shard", &self.shard),
        ];
        let known = texts.into_iter();
        known.filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    fn numbers(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let numbers = [
            ("segment", self.segment),
            ("file", self.file),
            ("bucket", self.bucket),
        ];
        let known = numbers.into_iter();
        known.filter_map(|(name, value)| Some((name, value?)))
    }
}

impl Subject for PlanInput {
    fn ids(&self) -> Ids {
        let table = self.request.table.as_ref();
        Ids {
            table: table.map(|table| table.name().to_owned()),
            snapshot: self.snapshot_id().ok().map(|id| id.to_string()),
            ..Ids::default()
        }
    }
}

impl Subject for ScanInput {
    fn ids(&self) -> Ids {
        Ids {
            snapshot: Some(self.snapshot_id.to_string()),
            segment: Some(self.segment),
            ..Ids::default()
        }
    }
}

impl Subject for FinalizeInput {
    fn ids(&self) -> Ids {
        let table = self.request.as_ref().and_then(|it| it.table.as_ref());
        Ids {
            table: table.map(|table| table.name().to_owned()),
            snapshot: self.snapshot_id().ok().map(|id| id.to_string()),
            ..Ids::default()
        }
    }
}

impl Subject for PlanRestoreInput {
    fn ids(&self) -> Ids {
        let table = self.request.to.as_ref();
        Ids {
            table: table.map(|table| table.name().to_owned()),
            restore: self.restore_id().ok().map(|id| id.to_string()),
            ..Ids::default()
        }
    }
}

impl Subject for ScatterInput {
    fn ids(&self) -> Ids {
        Ids {
            restore: Some(self.restore_id.to_string()),
            shard: Some(self.shard.to_string()),
            ..Ids::default()
        }
    }
}

impl Subject for FoldInput {
    fn ids(&self) -> Ids {
        Ids {
            restore: Some(self.restore_id.to_string()),
            bucket: Some(self.bucket),
            ..Ids::default()
        }
    }
}

impl Subject for LoadInput {
    fn ids(&self) -> Ids {
        Ids {
            restore: Some(self.restore_id.to_string()),
            file: Some(self.file),
            ..Ids::default()
        }
    }
}

impl Subject for FinalizeRestoreInput {
    fn ids(&self) -> Ids {
        let table = self.request.as_ref().and_then(|it| it.to.as_ref());
        Ids {
            table: table.map(|table| table.name().to_owned()),
            restore: self.restore_id().ok().map(|id| id.to_string()),
            ..Ids::default()
        }
    }
}

impl Subject for AuditEvent {
    fn ids(&self) -> Ids {
        let table = self.table.as_ref();
        Ids {
            table: table.map(|table| table.name().to_owned()),
            ..Ids::default()
        }
    }
}

impl Subject for ApplyEvent {
    fn ids(&self) -> Ids {
        let table = self.table.as_ref();
        Ids {
            table: table.map(|table| table.name().to_owned()),
            ..Ids::default()
        }
    }
}

impl Subject for ConsumeInput {
    fn ids(&self) -> Ids {
        let stream = self.event_source_arn.as_deref();
        let stream = stream.and_then(|arn| arn.parse::<StreamArn>().ok());
        Ids {
            table: stream.map(|stream| stream.table().to_owned()),
            shard: self.shard_id.clone(),
            ..Ids::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told<I: Subject + serde::de::DeserializeOwned>(event: Value) -> Value {
        let input: I = serde_json::from_value(event).unwrap();
        let ids = input.ids();
        let mut told = ids.properties();
        assert_eq!(told.get("table"), None);
        if let Some(table) = ids.table {
            told.insert("table".into(), table.into());
        }
        Value::Object(told)
    }

    #[test]
    fn every_event_says_what_it_is_about() {
        let (snapshot, restore) = ("01768385930622-61b683f7", "01768467600000-f776b54a");
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
        let begun = json!({"request": {"table": arn, "to": "s3://b/p"}, "execution_id": "e",
            "started_at": "2026-01-14T10:18:50.622Z"});
        assert_eq!(told::<PlanInput>(begun.clone())["table"], "orders");
        assert!(told::<PlanInput>(begun.clone())["snapshot"].is_string());
        assert_eq!(
            told::<FinalizeInput>(begun.clone()),
            told::<PlanInput>(begun)
        );
        let scan = json!({"snapshot_id": snapshot, "segment": 0});
        let expected = json!({"snapshot": snapshot, "segment": 0});
        assert_eq!(told::<ScanInput>(scan), expected);

        let begun = json!({"request": {"backup": "s3://b/p", "to": arn}, "execution_id": "e",
            "started_at": "2026-01-14T10:18:50.622Z"});
        assert_eq!(told::<PlanRestoreInput>(begun.clone())["table"], "orders");
        assert_eq!(
            told::<FinalizeRestoreInput>(begun.clone()),
            told::<PlanRestoreInput>(begun)
        );
        let scatter = json!({"restore_id": restore, "shard": 2});
        let expected = json!({"restore": restore, "shard": "2"});
        assert_eq!(told::<ScatterInput>(scatter), expected);
        let fold = json!({"restore_id": restore, "bucket": 3});
        let expected = json!({"restore": restore, "bucket": 3});
        assert_eq!(told::<FoldInput>(fold), expected);
        let load = json!({"restore_id": restore, "file": 4});
        let expected = json!({"restore": restore, "file": 4});
        assert_eq!(told::<LoadInput>(load), expected);

        let apply = json!({"table": "orders"});
        assert_eq!(told::<ApplyEvent>(apply.clone()), apply);
        let audit = json!({"table": "orders"});
        assert_eq!(told::<AuditEvent>(audit.clone()), audit);
        assert_eq!(
            told::<AuditEvent>(json!({"source": "aws.events"})),
            json!({})
        );
    }

    #[test]
    fn a_batch_says_its_table_and_its_shard_if_it_has_a_window() {
        let text = r#"{"Records": [], "shardId": "shardId-1", "eventSourceARN": "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-14T10:02:11.204"}"#;
        let input = ConsumeInput::read(&text.into()).unwrap();
        let expected = Ids {
            table: Some("orders".into()),
            shard: Some("shardId-1".into()),
            ..Ids::default()
        };
        assert_eq!(input.ids(), expected);
        let input = ConsumeInput::read(&r#"{"Records": []}"#.into()).unwrap();
        assert_eq!(input.ids(), Ids::default());
    }
}

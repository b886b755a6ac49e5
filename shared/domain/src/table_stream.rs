//! A table's stream as `DescribeTable` shows it, and what a backup does about it.

use serde_json::{Value, json};
use thiserror::Error;

use crate::ids::UnixMillis;
use crate::shard::StreamView;
use crate::table_admin::{ChangeCall, TableChange};

/// The stream of a table that has one, enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStream {
    /// Its ARN.
    pub arn: String,
    /// Its label: when it was enabled, in UTC, which names it.
    pub label: String,
    /// What its records carry, in DynamoDB's word.
    pub view: String,
}

/// What of a table's description a handoff depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamedTable {
    /// The table's UUID.
    pub table_id: Option<String>,
    /// Its stream, if one is enabled.
    pub stream: Option<TableStream>,
}

impl StreamedTable {
    /// What the `Table` member of `DescribeTable` says. A stream that was disabled leaves its ARN behind; it counts as none.
    #[must_use]
    pub fn of(table: &Value) -> Self {
        let text = |member: &Value| member.as_str().map(str::to_owned);
        let specification = &table["StreamSpecification"];
        let enabled = specification["StreamEnabled"] == true;
        let arn = text(&table["LatestStreamArn"]).filter(|_| enabled);
        let stream = arn.map(|arn| TableStream {
            label: text(&table["LatestStreamLabel"]).unwrap_or_else(|| label_of(&arn)),
            view: text(&specification["StreamViewType"]).unwrap_or_default(),
            arn,
        });
        Self {
            table_id: text(&table["TableId"]),
            stream,
        }
    }
}

/// The label at the end of a stream's ARN: `…:table/orders/stream/2026-01-14T10:18:50.622`.
fn label_of(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Why a snapshot has no handoff: it cannot be restored to a second.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoHandoff {
    /// The table has no stream, and nobody asked for one.
    #[error("the table has no stream (--with-stream enables one)")]
    NoStream,
    /// Records of the stream do not say what an item became.
    #[error(
        "its stream carries {view}, and what an item became must be in a record: NEW_AND_OLD_IMAGES. A view cannot be \
         changed in place, and a new stream ends this one for all who read it, so that is left to you: disable the stream, \
         then enable it with NEW_AND_OLD_IMAGES"
    )]
    View {
        /// What it carries.
        view: String,
    },
    /// Something was left out of the snapshot on purpose.
    #[error(
        "a snapshot with a filter, a projection or a limit does not hold all that a restore to a second begins with"
    )]
    Query,
    /// More shards are open than a record holds.
    #[error("its stream has {shards} open shards, and a handoff holds {most}")]
    TooManyShards {
        /// How many.
        shards: usize,
        /// The most that a handoff holds.
        most: usize,
    },
    /// The stream cannot be asked, or went away meanwhile; nobody had asked for a handoff.
    #[error("its stream cannot be used: {reason}")]
    Unusable {
        /// Why.
        reason: String,
    },
}

/// What to do about a table's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamChoice {
    /// Use the one that it has.
    Use(TableStream),
    /// Enable one.
    Enable,
    /// Go without.
    Without(NoHandoff),
    /// A handoff was asked for and cannot be had.
    Refuse(NoHandoff),
}

impl StreamChoice {
    /// The choice for this table; `asked` if the snapshot must have a handoff.
    ///
    /// A view that is there is never changed: that would end the stream for everybody who reads it.
    #[must_use]
    pub fn of(table: &StreamedTable, asked: bool) -> Self {
        match &table.stream {
            None if asked => Self::Enable,
            None => Self::Without(NoHandoff::NoStream),
            Some(stream) if stream.is_usable() => Self::Use(stream.clone()),
            Some(stream) => {
                let view = stream.view.clone();
                let reason = NoHandoff::View { view };
                if asked {
                    Self::Refuse(reason)
                } else {
                    Self::Without(reason)
                }
            }
        }
    }
}

impl TableStream {
    /// Whether records say what items became.
    fn is_usable(&self) -> bool {
        [StreamView::NewAndOldImages, StreamView::NewImage]
            .into_iter()
            .any(|view| self.view == view.as_str())
    }

    /// How much longer to wait until a stream surely sees every change, in milliseconds.
    ///
    /// It is not documented that capture is complete the instant the status turns to `ENABLED`. The label tells when a
    /// stream was enabled, also to whoever goes on after the one who enabled it has died.
    #[must_use]
    pub fn settle_left(&self, now: UnixMillis, settle_ms: u64) -> u64 {
        let enabled_at = UnixMillis::from_rfc3339(&format!("{}Z", self.label));
        // A label from the future is another clock's.
        enabled_at.map_or(settle_ms, |at| settle_ms.saturating_sub(now.since(at)))
    }
}

/// The change that enables a stream on a table that has none.
#[must_use]
pub fn enabling(table: &str) -> TableChange {
    let view = StreamView::NewAndOldImages.as_str();
    TableChange {
        what: format!("stream with {view}"),
        call: ChangeCall::UpdateTable,
        request: json!({
            "TableName": table,
            "StreamSpecification": {"StreamEnabled": true, "StreamViewType": view},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:dynamodb:eu-central-1:1:table/orders/stream/2026-01-14T10:18:50.622";

    fn described(view: &str) -> StreamedTable {
        StreamedTable::of(&json!({
            "TableId": "uuid",
            "StreamSpecification": {"StreamEnabled": true, "StreamViewType": view},
            "LatestStreamArn": ARN,
            "LatestStreamLabel": "2026-01-14T10:18:50.622",
        }))
    }

    #[test]
    fn a_disabled_stream_is_none_although_its_arn_stays() {
        for specification in [Value::Null, json!({"StreamEnabled": false})] {
            let table = StreamedTable::of(&json!({
                "TableId": "uuid",
                "StreamSpecification": specification,
                "LatestStreamArn": ARN,
            }));
            assert_eq!(table.stream, None);
            assert_eq!(table.table_id.as_deref(), Some("uuid"));
        }
    }

    #[test]
    fn a_label_that_is_not_told_is_the_arns() {
        let table = StreamedTable::of(&json!({
            "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_IMAGE"},
            "LatestStreamArn": ARN,
        }));
        assert_eq!(table.stream.unwrap().label, "2026-01-14T10:18:50.622");
    }

    /// Case 49: what the views are good for, and that a view is never changed.
    #[test]
    fn case_49_a_stream_is_used_enabled_or_refused_but_never_changed() {
        for view in ["NEW_AND_OLD_IMAGES", "NEW_IMAGE"] {
            for asked in [true, false] {
                let choice = StreamChoice::of(&described(view), asked);
                assert!(matches!(choice, StreamChoice::Use(stream) if stream.view == view));
            }
        }
        for view in ["KEYS_ONLY", "OLD_IMAGE", "SOMETHING_NEW", ""] {
            let reason = NoHandoff::View { view: view.into() };
            let choice = |asked| StreamChoice::of(&described(view), asked);
            assert_eq!(choice(true), StreamChoice::Refuse(reason.clone()));
            assert_eq!(choice(false), StreamChoice::Without(reason));
        }
        let none = StreamedTable::of(&json!({}));
        assert_eq!(StreamChoice::of(&none, true), StreamChoice::Enable);
        assert_eq!(
            StreamChoice::of(&none, false),
            StreamChoice::Without(NoHandoff::NoStream)
        );
    }

    #[test]
    fn a_young_stream_is_waited_for_by_its_label() {
        let stream = described("NEW_IMAGE").stream.unwrap();
        let enabled = 1_768_385_930_622;
        let left = |now| stream.settle_left(UnixMillis(now), 60_000);
        assert_eq!(left(enabled), 60_000);
        assert_eq!(left(enabled + 20_000), 40_000);
        assert_eq!(left(enabled + 60_000), 0);
        assert_eq!(left(enabled - 500_000), 60_000, "never more than asked");
        let odd = TableStream {
            label: "yesterday".into(),
            ..stream
        };
        assert_eq!(odd.settle_left(UnixMillis(enabled), 7), 7);
    }
}

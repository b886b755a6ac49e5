//! The changes that a plan makes to a table after its `CreateTable`.

use serde_json::{Value, json};

use crate::table::{SettingsError, TableSettings};
use crate::table_admin::{ChangeCall, TableChange};
use crate::table_plan::{NotRestored, RESTORE_TAG, TableOverrides};

/// The most tags that a table can have:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>.
const MOST_TAGS: usize = 50;

fn change(call: ChangeCall, what: impl Into<String>, request: Value) -> TableChange {
    TableChange {
        what: what.into(),
        call,
        request,
    }
}

/// The change that takes the restore's marker off the table.
pub(crate) fn take_marker_off() -> TableChange {
    let what = format!("take off the tag {RESTORE_TAG}, which marks the table during the restore");
    change(
        ChangeCall::UntagResource,
        what,
        json!({"TagKeys": [RESTORE_TAG]}),
    )
}

/// Adds tags to the request: as many as leave room for the marker. The rest come when it is gone.
pub(crate) fn add_tags(
    settings: &TableSettings,
    create: &mut Value,
    not_restored: &mut Vec<NotRestored>,
) -> Option<TableChange> {
    let all = settings.tags.as_ref()?.as_array()?;
    let mut tags = Vec::new();
    for tag in all {
        let key = tag["Key"].as_str().unwrap_or_default();
        if key.starts_with("aws:") {
            not_restored.push(NotRestored::new(
                format!("tag {key}"),
                "only AWS services set tags that begin with aws:; the service that made the backed-up table (CloudFormation, say) does not know the new one",
            ));
        } else if key != RESTORE_TAG {
            tags.push(json!({"Key": key, "Value": tag["Value"]}));
        }
    }
    let later = tags.split_off(tags.len().min(MOST_TAGS - 1));
    if !tags.is_empty() {
        create["Tags"] = Value::Array(tags);
    }
    (!later.is_empty()).then(|| tag_change(&later))
}

/// The change that sets these tags.
pub(crate) fn tag_change(tags: &[Value]) -> TableChange {
    let keys: Vec<&str> = tags.iter().filter_map(|tag| tag["Key"].as_str()).collect();
    let what = format!("tags {}", keys.join(", "));
    change(ChangeCall::TagResource, what, json!({"Tags": tags}))
}

/// The change that lets items expire again.
pub(crate) fn ttl(
    settings: &TableSettings,
    name: &str,
    overrides: &TableOverrides,
    not_restored: &mut Vec<NotRestored>,
) -> Option<TableChange> {
    let attribute = settings.ttl_attribute()?;
    if overrides.no_ttl {
        not_restored.push(NotRestored::new(
            format!("TTL on attribute {attribute:?}"),
            "the restore was asked to leave it out",
        ));
        return None;
    }
    Some(change(
        ChangeCall::UpdateTimeToLive,
        format!("TTL on attribute {attribute:?}"),
        json!({
            "TableName": name,
            "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": true}
        }),
    ))
}

/// The stream as a request's member, if there was one.
pub(crate) fn stream_specification(
    settings: &TableSettings,
) -> Result<Option<Value>, SettingsError> {
    let stream = &settings.table["StreamSpecification"];
    if stream["StreamEnabled"] != true {
        return Ok(None);
    }
    let view = stream["StreamViewType"].as_str().ok_or(SettingsError {
        field: "StreamSpecification.StreamViewType",
    })?;
    Ok(Some(json!({"StreamEnabled": true, "StreamViewType": view})))
}

/// The change that opens a stream.
pub(crate) fn stream_change(name: &str, stream: &Value) -> TableChange {
    let view = stream["StreamViewType"].as_str().unwrap_or("its view");
    change(
        ChangeCall::UpdateTable,
        format!("stream of {view}"),
        json!({"TableName": name, "StreamSpecification": stream}),
    )
}

/// The change that has DynamoDB keep its own continuous backup.
pub(crate) fn point_in_time_recovery(settings: &TableSettings, name: &str) -> Option<TableChange> {
    let days = settings.recovery_period()?;
    let mut specification = json!({"PointInTimeRecoveryEnabled": true});
    let mut what = "point-in-time recovery".to_owned();
    if let Some(days) = days {
        specification["RecoveryPeriodInDays"] = json!(days);
        what = format!("{what}, {days} days");
    }
    Some(change(
        ChangeCall::UpdateContinuousBackups,
        what,
        json!({"TableName": name, "PointInTimeRecoverySpecification": specification}),
    ))
}

/// The change that protects the table, if it was protected or is to be.
pub(crate) fn deletion_protection(
    settings: &TableSettings,
    name: &str,
    overrides: &TableOverrides,
) -> Option<TableChange> {
    let was = settings.table["DeletionProtectionEnabled"] == true;
    overrides
        .deletion_protection
        .unwrap_or(was)
        .then(|| protect(name))
}

/// The change that protects the table from `DeleteTable`.
pub(crate) fn protect(name: &str) -> TableChange {
    change(
        ChangeCall::UpdateTable,
        "deletion protection",
        json!({"TableName": name, "DeletionProtectionEnabled": true}),
    )
}

/// What the backup could not read.
pub(crate) fn unavailable(settings: &TableSettings) -> impl Iterator<Item = NotRestored> {
    settings.unavailable.iter().map(|missing| {
        let setting = match missing.call.as_str() {
            "DescribeTimeToLive" => "TTL",
            "ListTagsOfResource" => "tags",
            "DescribeContinuousBackups" => "point-in-time recovery",
            other => other,
        };
        NotRestored::new(
            setting,
            format!(
                "it was not readable when the backup was made ({}: {}); set it by hand if the table had any",
                missing.call, missing.reason
            ),
        )
    })
}

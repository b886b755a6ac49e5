//! The laws of [`TableAdmin`].

use std::time::Duration;

use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::Creation;
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_domain::table_admin::{ChangeCall, TableAdmin, TableChange};
use serde_json::{Value, json};

use crate::conformance::table_writer::{create_request, schema};

/// An account in which the laws may make tables whose names begin with `law-`.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The port under test.
    pub admin: &'a dyn TableAdmin,
    /// Another way to the same tables.
    pub describer: &'a dyn TableDescriber,
}

/// Runs every law.
pub async fn every_law(account: Account<'_>) {
    a_name_is_taken_once(account).await;
    a_request_that_is_wrong_makes_nothing(account).await;
    ttl_is_set_however_often_it_is_asked_for(account).await;
    a_stream_is_opened_once(account).await;
    tags_are_set_and_taken_off(account).await;
    deletion_protection_is_set_twice(account).await;
    an_unknown_table_is_not_found(account).await;
}

impl Account<'_> {
    /// Makes a table and waits until it is there.
    async fn table(&self, name: &str) -> TableSettings {
        let created = self.admin.create_table(&create_request(name)).await;
        assert_eq!(created.unwrap(), Creation::Created);
        self.settled(name).await
    }

    /// The settings once the table is not busy any more.
    async fn settled(&self, name: &str) -> TableSettings {
        for _ in 0..1000 {
            let settings = self.describer.describe(name).await.unwrap();
            if settings.status() == Ok("ACTIVE") {
                return settings;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} never became active");
    }

    /// Makes a change as a caller does: what only has to wait is repeated.
    async fn change(&self, call: ChangeCall, request: &Value) -> Result<(), Failure> {
        let change = TableChange {
            what: "a law".to_owned(),
            call,
            request: request.clone(),
        };
        for _ in 0..1000 {
            match self.admin.change(&change).await {
                Err(failure) if failure.kind.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                done => return done,
            }
        }
        panic!("a change was never made: {change:?}");
    }
}

/// The first call makes the table, every other is told that it exists, whatever it asks for.
pub async fn a_name_is_taken_once(account: Account<'_>) {
    let settings = account.table("law-name").await;
    assert_eq!(settings.name(), Ok("law-name"));
    assert_eq!(settings.key_schema(), Ok(schema()));
    let mut request = create_request("law-name");
    request["BillingMode"] = json!("PROVISIONED");
    request["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 1, "WriteCapacityUnits": 1});
    for request in [create_request("law-name"), request] {
        let again = account.admin.create_table(&request).await;
        assert_eq!(again.unwrap(), Creation::Exists);
    }
    let after = account.settled("law-name").await;
    assert_eq!(after.table_id(), settings.table_id());
    assert_eq!(
        after.table["BillingModeSummary"]["BillingMode"],
        "PAY_PER_REQUEST"
    );
}

/// A request that the service finds wrong fails as invalid, and there is no table.
pub async fn a_request_that_is_wrong_makes_nothing(account: Account<'_>) {
    let with = |member: &str, value: Value| {
        let mut request = create_request("law-wrong");
        request[member] = value;
        request
    };
    for request in [
        with("KeySchema", json!([])),
        with("AttributeDefinitions", json!([])),
        with("BillingMode", json!("PROVISIONED")),
        with("BillingMode", json!("FOR_FREE")),
        json!({"TableName": "law-wrong"}),
        json!({}),
    ] {
        let failure = account.admin.create_table(&request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure}: {request}");
    }
    let failure = account.describer.describe("law-wrong").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
}

/// TTL can be asked for twice; on another attribute it is refused and stays as it is.
pub async fn ttl_is_set_however_often_it_is_asked_for(account: Account<'_>) {
    account.table("law-ttl").await;
    let ttl = |attribute: &str| {
        json!({
            "TableName": "law-ttl",
            "TimeToLiveSpecification": {"Enabled": true, "AttributeName": attribute}
        })
    };
    for _ in 0..2 {
        let done = account
            .change(ChangeCall::UpdateTimeToLive, &ttl("expires"))
            .await;
        done.unwrap();
        let settings = account.settled("law-ttl").await;
        assert_eq!(settings.ttl_attribute(), Some("expires"));
    }
    let failure = account
        .change(ChangeCall::UpdateTimeToLive, &ttl("other"))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    let settings = account.settled("law-ttl").await;
    assert_eq!(settings.ttl_attribute(), Some("expires"));
}

/// The same stream can be asked for twice.
pub async fn a_stream_is_opened_once(account: Account<'_>) {
    account.table("law-stream").await;
    let request = json!({
        "TableName": "law-stream",
        "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_IMAGE"}
    });
    let mut labels = Vec::new();
    for _ in 0..2 {
        let done = account.change(ChangeCall::UpdateTable, &request);
        done.await.unwrap();
        let settings = account.settled("law-stream").await;
        assert_eq!(
            settings.table["StreamSpecification"],
            request["StreamSpecification"]
        );
        labels.push(settings.table["LatestStreamLabel"].clone());
    }
    assert!(labels[0].is_string(), "a stream has a label");
}

/// Tags can be set twice and taken off twice; others stay.
pub async fn tags_are_set_and_taken_off(account: Account<'_>) {
    let arn = account.table("law-tags").await.arn().unwrap().to_owned();
    let set = json!({
        "ResourceArn": arn,
        "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    });
    let take_off = json!({"ResourceArn": arn, "TagKeys": ["a"]});
    let tags = async || {
        let settings = account.settled("law-tags").await;
        let mut tags = settings.tags.unwrap().as_array().unwrap().clone();
        tags.sort_by_key(ToString::to_string);
        Value::Array(tags)
    };
    for _ in 0..2 {
        account.change(ChangeCall::TagResource, &set).await.unwrap();
        assert_eq!(tags().await, set["Tags"]);
    }
    for _ in 0..2 {
        let done = account.change(ChangeCall::UntagResource, &take_off);
        done.await.unwrap();
        assert_eq!(tags().await, json!([{"Key": "b", "Value": ""}]));
    }
}

/// Deletion protection can be asked for twice.
pub async fn deletion_protection_is_set_twice(account: Account<'_>) {
    account.table("law-protected").await;
    let request = json!({"TableName": "law-protected", "DeletionProtectionEnabled": true});
    for _ in 0..2 {
        let done = account.change(ChangeCall::UpdateTable, &request);
        done.await.unwrap();
        let settings = account.settled("law-protected").await;
        assert_eq!(settings.table["DeletionProtectionEnabled"], true);
    }
}

/// A table that is not there is an error of its own kind.
pub async fn an_unknown_table_is_not_found(account: Account<'_>) {
    let ttl = json!({
        "TableName": "law-none",
        "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "expires"}
    });
    let protection = json!({"TableName": "law-none", "DeletionProtectionEnabled": true});
    for (call, request) in [
        (ChangeCall::UpdateTimeToLive, ttl),
        (ChangeCall::UpdateTable, protection),
    ] {
        let failure = account.change(call, &request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
    }
}

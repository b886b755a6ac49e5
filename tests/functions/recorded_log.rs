//! A stream on a bad day, through the mapping's function and the audit, so that each call that they make is made.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use highwater_testkit::clients;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::runtime_api::Function;
use serde_json::Value;

use super::account::{LONG, TABLE, event};
use super::live_account::NASTY;
use super::local_mapping::{LocalMapping, Mischief};
use super::recorded_account::Recorded;
use super::recorded_backups;

/// Changes of items, with records.
const CHANGES: u64 = 300;

/// Writes, delivers with mischief, and audits until everything is in the log.
pub async fn run(recorded: &Recorded) {
    let client = clients::dynamodb(recorded.account.dynamodb.endpoint_url());
    let table = client
        .describe_table()
        .table_name(TABLE)
        .send()
        .await
        .unwrap()
        .table;
    let stream_arn = table.unwrap().latest_stream_arn.unwrap();
    let audit = recorded.function("audit-stream");
    audited(&audit).await;
    let consume = Arc::new(recorded.function("consume-stream"));
    let mischief = Mischief {
        doubled: 40,
        discarded: 20,
        unplaced: 20,
        ..NASTY
    };
    let source = Arc::new(recorded.account.clients().await.stream_source());
    let mut mapping = LocalMapping::new(source, &stream_arn, Arc::clone(&consume), mischief, 77);
    for (fault, share, operation) in [
        (Fault::LoseAnswer, 0.2, "PutObject"),
        (Fault::ServerError, 0.1, "HeadObject"),
    ] {
        recorded
            .account
            .s3
            .inject(Rule::rate(fault, share).on(operation));
    }
    change(recorded).await;
    mapping.run(|| true).await;
    let did = mapping.deliveries;
    assert!(
        did.discarded > 0 && did.unplaced > 0 && did.doubled > 0,
        "{did:?}"
    );
    for _ in 0..120 {
        let report = audited(&audit).await;
        if report["done"] == true && report["tables"][0]["mark"]["assumed"].is_u64() {
            recorded.calm();
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the audit does not come to an end");
}

/// Records that nobody has read in time, and the backup that heals the gap.
pub async fn lose(recorded: &Recorded) {
    let audit = recorded.function("audit-stream");
    change(recorded).await;
    recorded.account.dynamodb.trim_streams();
    let lost = audited(&audit).await;
    assert!(lost["tables"][0]["incidents"].as_u64() > Some(0), "{lost}");
    recorded_backups::sealed(recorded).await;
    audited(&audit).await;
}

async fn change(recorded: &Recorded) {
    let client = clients::dynamodb(recorded.account.dynamodb.endpoint_url());
    for n in 0..CHANGES {
        let key = AttributeValue::S(format!("item-{:05}", n % 50));
        let put = client.put_item().table_name(TABLE).item("pk", key);
        let put = put.item("n", AttributeValue::N(n.to_string()));
        put.send().await.unwrap();
    }
}

async fn audited(audit: &Function) -> Value {
    audit
        .invoke(event("audit-stream/first"), LONG)
        .await
        .unwrap()
}

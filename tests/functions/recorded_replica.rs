//! A replica's life, so that each call that is made for it is made: loaded, fed from the log, fed at once, and given what it does not take.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use highwater_testkit::clients;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::runtime_api::Function;
use highwater_testkit::tables::NewTable;
use serde_json::Value;

use super::account::{LONG, TABLE, event};
use super::local_mapping::{LocalMapping, Mischief};
use super::recorded_account::Recorded;
use super::replica_stage::{REPLICA, back_up, begin, replica_deps};

/// Loads a replica and feeds it, in both ways.
pub async fn run(recorded: &Recorded) {
    let account = &recorded.account;
    let client = clients::dynamodb(account.dynamodb.endpoint_url());
    // With an index that the source has not, so that not every item fits.
    let table = NewTable::new(REPLICA, KeyShape::STRING).with_global_index();
    table.create(&client).await.unwrap();
    let snapshot = back_up(account).await;
    let deps = replica_deps(account).await;
    let stack = recorded.restore();
    begin(&deps, &stack, &snapshot, REPLICA, None).await;

    let described = client.describe_table().table_name(TABLE).send().await;
    let stream_arn = described.unwrap().table.unwrap().latest_stream_arn.unwrap();
    let source = Arc::new(account.clients().await.stream_source());
    let consume = Arc::new(recorded.function("consume-stream"));
    let mut mapping = LocalMapping::new(
        source,
        &stream_arn,
        Arc::clone(&consume),
        Mischief::default(),
        79,
    );
    let (audit, apply) = (
        recorded.function("audit-stream"),
        recorded.function("apply-log"),
    );
    // Nobody knows the shards' places yet: all of this is the applier's.
    change(&client, "late", AttributeValue::N("1".into())).await;
    mapping.run(|| true).await;
    caught_up(&audit, &apply).await;
    // And this the consumer's.
    change(&client, "early", AttributeValue::N("2".into())).await;
    mapping.run(|| true).await;
    caught_up(&audit, &apply).await;
}

/// A new item, one that is gone again, and one that the replica's index does not take.
async fn change(client: &aws_sdk_dynamodb::Client, name: &str, odd: AttributeValue) {
    let key = |text: &str| AttributeValue::S(format!("{name}-{text}"));
    let put = |text: &str| client.put_item().table_name(TABLE).item("pk", key(text));
    put("new").send().await.unwrap();
    put("odd").item("gsi_key", odd).send().await.unwrap();
    let delete = client.delete_item().table_name(TABLE);
    let gone = AttributeValue::S(
        if name == "late" {
            "item-00001"
        } else {
            "item-00002"
        }
        .to_owned(),
    );
    delete.key("pk", gone).send().await.unwrap();
}

async fn caught_up(audit: &Function, apply: &Function) {
    for _ in 0..60 {
        let audited = audit
            .invoke(event("audit-stream/first"), LONG)
            .await
            .unwrap();
        let report: Value = apply.invoke(event("apply-log/first"), LONG).await.unwrap();
        if audited["done"] == true
            && report["done"] == true
            && report["replicas"][0]["records"] == 0
        {
            return;
        }
    }
    panic!("the replica does not catch up");
}

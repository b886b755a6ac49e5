//! DynamoDB's side, through the SDK.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest,
    ReturnConsumedCapacity, ScalarAttributeType, Tag, WriteRequest,
};
use highwater_benches::data_set::DataSet;
use highwater_benches::dynamodb::Tables;
use highwater_benches::item_sum::ItemSum;
use highwater_benches::s3::Sink;
use highwater_benches::server::ReplayServer;
use highwater_testkit::clients;

use crate::server;

#[tokio::test]
async fn a_scan_goes_on_where_it_stopped() {
    let server = server(DataSet::Large, 3_000_000).await;
    let client = clients::dynamodb(server.endpoint_url());
    let described = client.describe_table().table_name("large").send();
    let table = described.await.unwrap().table.unwrap();
    let (mut start, mut items) = (None, 0);
    loop {
        let scan = client.scan().table_name("large").limit(40);
        let page = scan.set_exclusive_start_key(start).send().await.unwrap();
        items += i64::from(page.count());
        let last = page.items().last().unwrap();
        start = page.last_evaluated_key.clone();
        match &start {
            Some(key) => assert_eq!(key["pk"], last["pk"]),
            None => break,
        }
    }
    assert_eq!(Some(items), table.item_count());
}

#[tokio::test]
async fn what_cannot_be_served_is_refused() {
    let server = server(DataSet::Small, 1).await;
    let client = clients::dynamodb(server.endpoint_url());
    let filtered = client.scan().table_name("small").filter_expression("a = b");
    let error = filtered.send().await.unwrap_err().into_service_error();
    assert!(format!("{error:?}").contains("FilterExpression"));
    let foreign = client
        .scan()
        .table_name("small")
        .exclusive_start_key("pk", AttributeValue::S("small-0-000001".into()));
    let error = foreign.send().await.unwrap_err().into_service_error();
    assert!(format!("{error:?}").contains("starting key is invalid"));
    let missing = client.scan().table_name("orders").send();
    let error = missing.await.unwrap_err().into_service_error();
    assert!(error.is_resource_not_found_exception());
}

#[tokio::test]
async fn a_table_is_made_described_untagged_and_never_made_twice() {
    let server = server(DataSet::Small, 1).await;
    let client = clients::dynamodb(server.endpoint_url());
    let create = |name: &str| {
        let key = KeySchemaElement::builder().attribute_name("pk");
        let key = key.key_type(KeyType::Hash).build().unwrap();
        let string = AttributeDefinition::builder().attribute_name("pk");
        let string = string.attribute_type(ScalarAttributeType::S).build();
        let tag = |key: &str| Tag::builder().key(key).value("x").build().unwrap();
        let create = client.create_table().table_name(name).key_schema(key);
        create
            .attribute_definitions(string.unwrap())
            .billing_mode(BillingMode::PayPerRequest)
            .set_tags(Some(vec![tag("keep"), tag("drop")]))
    };
    create("made").send().await.unwrap();
    for taken in ["made", "small"] {
        let error = create(taken).send().await.unwrap_err().into_service_error();
        assert!(error.is_resource_in_use_exception(), "{taken}");
    }
    let with_stream = create("more").deletion_protection_enabled(true);
    let error = with_stream.send().await.unwrap_err().into_service_error();
    assert!(format!("{error:?}").contains("DeletionProtectionEnabled"));
    assert_eq!(server.written("more"), None);

    let described = client.describe_table().table_name("made").send().await;
    let table = described.unwrap().table.unwrap();
    assert_eq!(table.key_schema()[0].attribute_name(), "pk");
    let arn = table.table_arn().unwrap();
    let untag = client.untag_resource().resource_arn(arn).tag_keys("drop");
    untag.send().await.unwrap();
    let tags = client
        .list_tags_of_resource()
        .resource_arn(arn)
        .send()
        .await;
    let tags: Vec<_> = tags
        .unwrap()
        .tags()
        .iter()
        .map(|tag| tag.key().to_owned())
        .collect();
    assert_eq!(tags, ["keep"]);
}

fn put(key: &str) -> WriteRequest {
    let put = PutRequest::builder().item("pk", AttributeValue::S(key.into()));
    WriteRequest::builder()
        .put_request(put.build().unwrap())
        .build()
}

#[tokio::test]
async fn what_is_written_is_counted_and_what_comes_back_is_not() {
    let tables = Tables::default().with_unprocessed(50);
    let server = ReplayServer::over(0, tables, Sink::dropping())
        .await
        .unwrap();
    server.make_table("made");
    let client = clients::dynamodb(server.endpoint_url());
    let mut left: Vec<_> = (0..25).map(|n| put(&format!("{n:02}"))).collect();
    let mut came_back = 0;
    let mut expected = ItemSum::default();
    for n in 0..25 {
        expected.add(format!(r#"{{"pk":{{"S":"{n:02}"}}}}"#).as_bytes());
    }
    while !left.is_empty() {
        let sent = left.len();
        let batch = client.batch_write_item().request_items("made", left);
        let batch = batch.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = batch.send().await.unwrap();
        let mut unprocessed = answer.unprocessed_items.unwrap_or_default();
        left = unprocessed.remove("made").unwrap_or_default();
        came_back += left.len();
        let units = answer.consumed_capacity.unwrap()[0].capacity_units();
        assert_eq!(units, Some((sent - left.len()) as f64));
    }
    assert!(came_back > 0);
    assert_eq!(server.written("made"), Some(expected));

    let item = |condition: &str| {
        let put = client.put_item().table_name("made");
        let put = put.item("pk", AttributeValue::S("x".into()));
        put.condition_expression(condition)
            .expression_attribute_names("#k", "pk")
    };
    item("attribute_not_exists(#k)").send().await.unwrap();
    expected.add(br#"{"pk":{"S":"x"}}"#);
    assert_eq!(server.written("made"), Some(expected));
    let error = item("#k = :x")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(format!("{error:?}").contains("#k = :x"), "{error:?}");
}

#[tokio::test]
async fn writes_that_cannot_be_taken_are_refused() {
    let server = server(DataSet::Small, 1).await;
    server.make_table("made");
    let client = clients::dynamodb(server.endpoint_url());
    let batch = |table: &str, writes: usize| {
        let writes = (0..writes).map(|n| put(&n.to_string())).collect();
        client
            .batch_write_item()
            .request_items(table, writes)
            .send()
    };
    assert!(batch("made", 26).await.is_err());
    for table in ["small", "orders"] {
        let error = batch(table, 1).await.unwrap_err().into_service_error();
        assert!(
            error.is_resource_not_found_exception(),
            "{table}: {error:?}"
        );
    }
    assert_eq!(server.written("made"), Some(ItemSum::default()));
}

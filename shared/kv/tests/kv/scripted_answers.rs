//! What the embedded engine never does: throttles, conflicts between transactions, batches half done, tables that
//! take their time. The answers are written out here as DynamoDB words them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, HttpClient, Region, RuntimeComponents,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use highwater_kv::FailureClass;
use serde_json::{Value, json};

use crate::engine::*;
use crate::probes::Requests;

/// Answers requests from a script, in order.
#[derive(Clone, Debug)]
struct Script(Arc<Mutex<VecDeque<(u16, Value)>>>);

impl HttpClient for Script {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Script {
    fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self
            .0
            .lock()
            .unwrap()
            .pop_front()
            .expect("a scripted answer");
        let status = status.try_into().unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(
            status,
            SdkBody::from(body.to_string()),
        )))
    }
}

/// A table that is answered by the script, and the requests that it makes.
fn scripted(script: Vec<(u16, Value)>) -> (Table, Requests, Script) {
    let (requests, script) = (
        Requests::default(),
        Script(Arc::new(Mutex::new(script.into()))),
    );
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url("http://localhost")
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .http_client(script.clone())
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .interceptor(requests.clone())
        .build();
    let table = Store::new(aws_sdk_dynamodb::Client::from_conf(config)).table("kv-table");
    (table, requests, script)
}

fn refusal(kind: &str) -> (u16, Value) {
    let kind = format!("com.amazonaws.dynamodb.v20120810#{kind}");
    (
        400,
        json!({"__type": kind, "message": "in DynamoDB's words"}),
    )
}

fn canceled(codes: &[&str]) -> (u16, Value) {
    let reasons: Vec<_> = codes
        .iter()
        .map(|code| json!({"Code": code, "Message": "why"}))
        .collect();
    let (status, mut body) = refusal("TransactionCanceledException");
    body["CancellationReasons"] = Value::from(reasons);
    (status, body)
}

fn two_creates() -> Transaction {
    Transaction::new()
        .create("p", "a", Write::new())
        .create("p", "b", Write::new())
}

#[tokio::test]
async fn a_transaction_is_tried_again_after_a_conflict_under_a_new_token() {
    let (table, requests, script) = scripted(vec![
        canceled(&["None", "TransactionConflict"]),
        canceled(&["ThrottlingError", "None"]),
        (200, json!({})),
    ]);
    assert_eq!(table.transact(two_creates()).await.unwrap().len(), 2);
    assert!(script.0.lock().unwrap().is_empty());
    let tokens: std::collections::HashSet<_> = requests
        .take()
        .into_iter()
        .map(|(_, body)| body["ClientRequestToken"].to_string())
        .collect();
    assert_eq!(tokens.len(), 3);
}

#[tokio::test]
async fn the_sdk_sends_a_transaction_again_under_the_same_token() {
    let (table, requests, _script) = scripted(vec![
        (500, refusal("InternalServerError").1),
        refusal("TransactionInProgressException"),
        (200, json!({})),
    ]);
    table.transact(two_creates()).await.unwrap();
    let requests = requests.take();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].1["ClientRequestToken"].is_string());
    assert_eq!(requests[0].1, requests[1].1);
    assert_eq!(requests[0].1, requests[2].1);
}

#[tokio::test]
async fn a_refused_action_ends_the_transaction_at_once() {
    let (table, requests, _script) =
        scripted(vec![canceled(&["ValidationError", "TransactionConflict"])]);
    let error = table.transact(two_creates()).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Invalid);
    assert!(
        error.to_string().contains("ValidationError: why"),
        "{error}"
    );
    assert_eq!(requests.take().len(), 1);
}

#[tokio::test]
async fn conflicts_without_end_are_reported_as_what_they_are() {
    let script = vec![canceled(&["TransactionConflict", "None"]); 8];
    let (table, _requests, script) = scripted(script);
    let error = table.transact(two_creates()).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Transient);
    let Error::TransactionCanceled { reasons, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (&reasons[0].cause, &reasons[1].cause),
        (&Cause::Busy, &Cause::Fine)
    );
    assert!(script.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn throttles_and_denials_have_their_class() {
    let (table, requests, _script) =
        scripted(vec![refusal("ProvisionedThroughputExceededException"); 3]);
    let error = table.partition("p").get("n").await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Throttled);
    assert_eq!(requests.take().len(), 3);

    let (table, ..) = scripted(vec![refusal("AccessDeniedException")]);
    let error = table.state().await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Denied);
    let (table, ..) = scripted(vec![refusal("ResourceNotFoundException")]);
    assert_eq!(table.state().await.unwrap(), TableState::Missing);
}

#[tokio::test]
async fn what_a_batch_left_undone_is_sent_again() {
    let item = |name: &str| json!({"name": {"S": name}, "version": {"N": "1"}});
    let delete =
        |name: &str| json!({"DeleteRequest": {"Key": {"id": {"S": "p"}, "name": {"S": name}}}});
    let (table, requests, _script) = scripted(vec![
        (200, json!({"Items": [item("a"), item("b")]})),
        (
            200,
            json!({"UnprocessedItems": {"kv-table": [delete("b")]}}),
        ),
        (200, json!({"UnprocessedItems": {}})),
    ]);
    assert_eq!(table.partition("p").delete_prefix("").await.unwrap(), 2);
    let requests = requests.take();
    assert_eq!(
        requests[1].1["RequestItems"]["kv-table"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        requests[2].1["RequestItems"]["kv-table"],
        json!([delete("b")])
    );
}

#[tokio::test]
async fn a_new_table_is_awaited_until_it_is_active() {
    let described = |status: &str| {
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let table =
            json!({"TableStatus": status, "KeySchema": [key("id", "HASH"), key("name", "RANGE")]});
        (200, json!({ "Table": table }))
    };
    let ttl = |status: &str| json!({"TimeToLiveDescription": {"TimeToLiveStatus": status, "AttributeName": "expires"}});
    let (table, requests, _script) = scripted(vec![
        refusal("ResourceNotFoundException"),
        (200, json!({})),
        refusal("ResourceNotFoundException"),
        described("CREATING"),
        described("ACTIVE"),
        (200, ttl("DISABLED")),
        // Somebody else turned it on in between.
        refusal("ValidationException"),
        (200, ttl("ENABLING")),
    ]);
    assert!(table.create(&TableSpec::new()).await.unwrap());
    let names: Vec<_> = requests.take().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names[5..],
        [
            "DescribeTimeToLive",
            "UpdateTimeToLive",
            "DescribeTimeToLive"
        ]
    );
}

#[tokio::test]
async fn another_ttl_attribute_is_refused() {
    let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
    let table =
        json!({"TableStatus": "ACTIVE", "KeySchema": [key("id", "HASH"), key("name", "RANGE")]});
    let ttl = json!({"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"});
    let (table, requests, _script) = scripted(vec![
        (200, json!({ "Table": table.clone() })),
        (200, json!({ "Table": table })),
        (200, json!({ "TimeToLiveDescription": ttl })),
    ]);
    let error = table.create(&TableSpec::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "table kv-table cannot be used: its TTL attribute is ttl, not expires"
    );
    // Whoever may use a table need not be allowed to make it.
    let asked = requests.take().into_iter().map(|(name, _)| name);
    assert!(!asked.collect::<Vec<_>>().contains(&"CreateTable".into()));
}

#[tokio::test]
async fn a_failed_condition_without_its_item_is_no_reason_to_guess() {
    let (table, ..) = scripted(vec![refusal("ConditionalCheckFailedException")]);
    let error = table
        .partition("p")
        .create("n", Write::new())
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Corrupt);
    let (table, ..) = scripted(vec![refusal("ConditionalCheckFailedException")]);
    let error = table
        .partition("p")
        .update("n", 1, Write::new())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

//! `DynamoImporter` against a server that answers as the service does: no engine imports.

use highwater_domain::failure::FailureKind;
use highwater_domain::table_admin::{ImportState, ImportStatus, TableImporter};
use serde_json::{Value, json};

use crate::loopback::{Answer, Loopback};

const ARN: &str =
    "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/import/01658528578619-c4d4e311";

fn request() -> Value {
    json!({
        "ClientToken": "restore-1",
        "InputFormat": "DYNAMODB_JSON",
        "InputCompressionType": "GZIP",
        "S3BucketSource": {"S3Bucket": "backups", "S3KeyPrefix": "orders/data/"},
        "TableCreationParameters": {"TableName": "orders", "SettingOfNextYear": [1]}
    })
}

fn description(members: &Value) -> Answer {
    Answer::dynamodb(&json!({"ImportTableDescription": members}).to_string())
}

#[tokio::test]
async fn an_import_is_begun_with_the_request_as_it_is() {
    let server = Loopback::answering([
        Answer::refusal(500, "InternalServerError", "sorry"),
        description(&json!({"ImportArn": ARN, "ImportStatus": "IN_PROGRESS"})),
    ])
    .await;
    let importer = server.clients().await.table_importer();
    assert_eq!(importer.import_table(&request()).await.unwrap(), ARN);
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "the token makes a second attempt safe");
    for asked in asked {
        assert_eq!(asked.operation(), "ImportTable");
        assert_eq!(asked.json(), request());
    }
}

#[tokio::test]
async fn an_import_without_a_token_is_not_begun() {
    let server = Loopback::answering([description(&json!({"ImportArn": ARN}))]).await;
    let importer = server.clients().await.table_importer();
    for token in [json!(null), json!(""), json!(7)] {
        let mut request = request();
        request["ClientToken"] = token;
        let failure = importer.import_table(&request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert_eq!(failure.resource, "orders");
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn refusals_and_empty_answers_are_told_apart() {
    for (answer, kind) in [
        (
            Answer::refusal(400, "ResourceInUseException", "taken"),
            FailureKind::Invalid,
        ),
        (
            Answer::refusal(400, "ImportConflictException", "token"),
            FailureKind::Invalid,
        ),
        (
            Answer::refusal(400, "LimitExceededException", "50"),
            FailureKind::Throttled,
        ),
        (
            Answer::refusal(400, "AccessDeniedException", "no"),
            FailureKind::Denied,
        ),
        (description(&json!({})), FailureKind::Corrupt),
        (Answer::dynamodb("{}"), FailureKind::Corrupt),
    ] {
        let server = Loopback::answering([answer]).await;
        let client = server.clients().await.dynamodb_without_retries();
        let importer = highwater_aws::DynamoImporter::new(client);
        let failure = importer.import_table(&request()).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
    }
}

#[tokio::test]
async fn an_import_tells_its_counts_and_why_it_failed() {
    let server = Loopback::answering([
        description(&json!({"ImportArn": ARN, "ImportStatus": "IN_PROGRESS"})),
        description(&json!({
            "ImportStatus": "FAILED",
            "ImportedItemCount": 7,
            "ProcessedItemCount": 9,
            "ProcessedSizeBytes": 5_000_000_000_u64,
            "ErrorCount": 2,
            "FailureCode": "ItemValidationError",
            "FailureMessage": "Some of the items\nfailed validation checks.",
            "CloudWatchLogGroupArn": "arn:aws:logs:eu-north-1:1:log-group:/aws-dynamodb/imports:*"
        })),
    ])
    .await;
    let importer = server.clients().await.table_importer();
    let nothing_yet = ImportState {
        status: ImportStatus::InProgress,
        imported_items: 0,
        processed_items: 0,
        processed_bytes: 0,
        errors: 0,
        failure: None,
        log_group: None,
    };
    assert_eq!(importer.describe_import(ARN).await.unwrap(), nothing_yet);
    assert_eq!(
        importer.describe_import(ARN).await.unwrap(),
        ImportState {
            status: ImportStatus::Failed,
            imported_items: 7,
            processed_items: 9,
            processed_bytes: 5_000_000_000,
            errors: 2,
            failure: Some(
                "ItemValidationError: Some of the items failed validation checks.".into()
            ),
            log_group: Some("arn:aws:logs:eu-north-1:1:log-group:/aws-dynamodb/imports:*".into()),
        }
    );
    assert_eq!(server.asked()[0].json(), json!({"ImportArn": ARN}));
}

#[tokio::test]
async fn every_status_is_known_and_a_new_one_is_not_guessed() {
    for (name, status) in [
        ("IN_PROGRESS", Some(ImportStatus::InProgress)),
        ("COMPLETED", Some(ImportStatus::Completed)),
        ("CANCELLING", Some(ImportStatus::Cancelling)),
        ("CANCELLED", Some(ImportStatus::Cancelled)),
        ("FAILED", Some(ImportStatus::Failed)),
        ("PAUSED", None),
    ] {
        let server = Loopback::answering([description(&json!({"ImportStatus": name}))]).await;
        let importer = server.clients().await.table_importer();
        match (importer.describe_import(ARN).await, status) {
            (Ok(state), Some(status)) => assert_eq!(state.status, status),
            (Err(failure), None) => {
                assert_eq!(failure.kind, FailureKind::Corrupt);
                assert!(failure.message.contains("PAUSED"), "{failure}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_unknown_import_is_not_found() {
    let answer = Answer::refusal(400, "ImportNotFoundException", "which?");
    let server = Loopback::answering([answer]).await;
    let importer = server.clients().await.table_importer();
    let failure = importer.describe_import(ARN).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert_eq!(failure.resource, ARN);
}

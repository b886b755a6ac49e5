//! No permission: for the table, the control table, the bucket.

use super::denying_proxy::DenyingProxy;
use super::read_back::{Place, id};
use super::stage::{CONTROL, Stage, TABLE, TO, finish};
use super::told::Told;

/// A backup by somebody to whom these operations are forbidden.
async fn backup(stage: &Stage, denied: &'static [&'static str], more: &[&str]) -> Told {
    let dynamodb = DenyingProxy::start(stage.dynamodb.endpoint_url(), denied).await;
    let s3 = DenyingProxy::start(stage.s3.endpoint_url(), denied).await;
    let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
    command
        .args(["backup", TABLE, "--to", TO, "--region", "eu-north-1"])
        .args(["--endpoint-url", dynamodb.endpoint_url()])
        .args(["--s3-endpoint-url", s3.endpoint_url()])
        .args(more);
    finish(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_may_not_be_described() {
    let stage = Stage::with_items(5).await;
    let told = backup(&stage, &["DescribeTable"], &[]).await;
    told.failed(
        1,
        &[
            "DescribeTable",
            TABLE,
            "AccessDeniedException",
            "not authorized",
        ],
    )
    .hinted("aws sts get-caller-identity");
    stage.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_control_table_may_be_made() {
    let stage = Stage::with_items(5).await;
    let told = backup(&stage, &["CreateTable"], &[]).await;
    told.failed(1, &["CreateTable", CONTROL, "AccessDeniedException"])
        .hinted("--control local");
    stage.assert_untouched().await;
    // What the hint says works.
    backup(
        &stage,
        &["CreateTable", "TransactWriteItems", "PutItem"],
        &["--control", "local"],
    )
    .await
    .done();
    assert_eq!(stage.tables().await, [TABLE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_may_not_be_scanned() {
    let stage = Stage::with_items(5).await;
    let id = id(1);
    let told = backup(&stage, &["Scan"], &["--id", id.as_str()]).await;
    let told = told.failed(1, &["Scan", TABLE, "AccessDeniedException", id.as_str()]);
    told.hinted("aws sts get-caller-identity");
    told.hinted(&format!("highwater backup --resume {id}"));
    let place = Place::bucket(&stage, "daily");
    let metadata = place.metadata(TABLE, &id).await.unwrap();
    assert_eq!(metadata.status.as_str(), "failed");
    assert!(metadata.error.unwrap().contains("AccessDenied"));
    assert!(place.data(TABLE, &id).await.is_empty());
    stage.run(&["backup", "--resume", id.as_str()]).await.done();
    assert_eq!(place.read(TABLE, &id).await.0.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_may_not_be_read_or_written() {
    let stage = Stage::with_items(5).await;
    let told = backup(&stage, &["GET", "HEAD"], &[]).await;
    told.failed(
        1,
        &["GetObject", "s3://backups/daily/orders", "AccessDenied"],
    )
    .hinted("aws sts get-caller-identity");
    stage.assert_untouched().await;
    let told = backup(&stage, &["PUT"], &[]).await;
    told.failed(
        1,
        &["PutObject", "s3://backups/daily/orders", "AccessDenied"],
    )
    .hinted("aws sts get-caller-identity");
    assert_eq!(stage.keys().await, [""; 0]);
    assert_eq!(stage.control_rows().await, 0, "nothing was claimed");
}

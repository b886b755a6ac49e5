//! Flags from the environment.

use highwater_domain::snapshot::Compression;

use super::read_back::{Place, id_of};
use super::stage::{Stage, TABLE, TO, finish};

#[tokio::test(flavor = "multi_thread")]
async fn flags_can_be_environment_variables() {
    let stage = Stage::with_items(300).await;
    let connection = [
        (
            "HIGHWATER_ENDPOINT_URL",
            stage.dynamodb_proxy.endpoint_url(),
        ),
        ("HIGHWATER_S3_ENDPOINT_URL", stage.s3_proxy.endpoint_url()),
        ("HIGHWATER_REGION", "eu-north-1"),
        ("HIGHWATER_JSON", "true"),
        ("HIGHWATER_QUIET", "true"),
    ];
    let run = async |arguments: &[&str], more: &[(&str, &str)]| {
        let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
        let variables = connection.iter().chain(more).copied();
        command.args(arguments).envs(variables);
        let told = finish(command).await.done();
        assert_eq!(told.stderr, "", "quiet");
        told.json()
    };
    let plan = [
        ("HIGHWATER_TO", TO),
        ("HIGHWATER_SEGMENTS", "3"),
        ("HIGHWATER_COMPRESSION", "zstd"),
        ("HIGHWATER_PART_SIZE", "2KiB"),
        ("HIGHWATER_MAX_ITEMS", "150"),
        ("HIGHWATER_EVENTUAL", "true"),
        ("HIGHWATER_CONTROL_TABLE", "checkpoints"),
        ("HIGHWATER_FILTER", "paid = :p OR paid = :p"),
        ("HIGHWATER_VALUES", ":p={\"BOOL\":true}"),
    ];
    let result = run(&["backup", TABLE], &plan).await;
    let id = id_of(&result);
    let (items, metadata) = Place::bucket(&stage, "daily").read(TABLE, &id).await;
    assert!(items.len() > 50 && items.len() <= 150, "{}", items.len());
    assert_eq!((metadata.total_segments, metadata.max_items), (3, 150));
    assert!(!metadata.consistent);
    assert_eq!(metadata.compression, Compression::Zstd);
    let record = stage.record("checkpoints", &id).await.unwrap();
    assert_eq!(record.part_bytes, 2048);
    assert_eq!(stage.tables().await, ["checkpoints", TABLE]);

    let from = ("HIGHWATER_FROM", TO);
    let listed = run(&["list"], &[from]).await;
    assert_eq!(listed[0]["snapshot_id"], id.as_str());
    let dry = run(
        &["delete", id.as_str()],
        &[from, ("HIGHWATER_DRY_RUN", "true")],
    )
    .await;
    assert_eq!(dry["dry_run"], true);
    let deleted = run(
        &["delete", id.as_str()],
        &[from, ("HIGHWATER_FORCE", "true")],
    )
    .await;
    assert_eq!(deleted["deleted"], id.as_str());
}

/// A flag wins over its variable, and AWS's own variables are heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_flag_wins_and_aws_variables_count() {
    let stage = Stage::with_items(10).await;
    let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
    command
        .args([
            "backup",
            TABLE,
            "--to",
            TO,
            "--segments",
            "2",
            "--dry-run",
            "--json",
        ])
        .envs([
            ("HIGHWATER_SEGMENTS", "9"),
            ("AWS_REGION", "eu-north-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            (
                "AWS_ENDPOINT_URL_DYNAMODB",
                stage.dynamodb_proxy.endpoint_url(),
            ),
            ("AWS_ENDPOINT_URL_S3", stage.s3_proxy.endpoint_url()),
        ]);
    let plan = finish(command).await.done().json();
    assert_eq!(plan["plan"]["total_segments"], 2);
}

//! Bad input: the right exit code, the culprit's name, a way out, and nothing half-claimed.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::read_back::{Place, id};
use super::stage::{CONTROL, Stage, TABLE, TO, finish};

/// Lines that make no sense, blanks between their words, and what the error must name.
const NONSENSE: [(&str, &[&str]); 18] = [
    (
        "backup orders --to s3://backups --part-size 10",
        &["--part-size", "10"],
    ),
    (
        "backup orders --to s3://backups --segments 0",
        &["--segments", "0"],
    ),
    (
        "backup orders --to s3://backups --concurrency 0",
        &["--concurrency", "0"],
    ),
    (
        "backup orders --to s3://backups --read-capacity=-1",
        &["read_capacity"],
    ),
    (
        "backup orders --to s3://backups --read-capacity NaN",
        &["read_capacity"],
    ),
    (
        "backup orders --to s3://backups --read-percent 0",
        &["read_percent"],
    ),
    (
        "backup orders --to bucket/prefix",
        &["bucket/prefix", "s3://"],
    ),
    ("backup orders --to s3://backups/a/../b", &["a/../b", ".."]),
    (
        "backup orders --to file://relative",
        &["file://relative", "absolute"],
    ),
    ("backup or$ders --to s3://backups", &["or$ders"]),
    ("backup orders --to s3://backups --name #a=b", &["names"]),
    (
        "backup orders --to s3://backups --filter :a --value :a=open",
        &[":a=open", "JSON"],
    ),
    ("backup orders --to s3://backups --id today", &["today"]),
    (
        "backup --resume 01768385930622-efd1a093 --segments 4",
        &["--segments", "--resume"],
    ),
    ("backup orders", &["--to"]),
    ("list ftp://backups", &["ftp://backups"]),
    ("info today --from s3://backups", &["today"]),
    (
        "backup orders --to s3://backups --control here",
        &["here", "local:PATH"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_exits_with_2_and_asks_nobody() {
    let stage = Stage::with_items(1).await;
    let blank = ["backup", TABLE, "--to", TO, "--filter", " "];
    let lines = NONSENSE.map(|(line, words)| (line.split(' ').collect(), words));
    for (arguments, words) in lines.into_iter().chain([(blank.to_vec(), &["filter"][..])]) {
        let told = stage.run(&arguments).await;
        let outcome = (told.code, told.stdout.as_str());
        assert_eq!(outcome, (Some(2), ""), "{arguments:?}: {told:#?}");
        assert!(
            told.stderr.starts_with("error: "),
            "{arguments:?}: {told:#?}"
        );
        for word in words {
            assert!(
                told.stderr.contains(word),
                "{arguments:?}, {word:?}: {told:#?}"
            );
        }
    }
    assert_eq!(stage.requests(), 0);
    stage.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let stage = Stage::with_items(1).await;
    let told = stage.run(&["backup", "missing", "--to", TO]).await;
    told.failed(1, &["missing"]).hinted("list-tables");
    stage.assert_untouched().await;
    let told = stage
        .run(&["backup", TABLE, "--to", "s3://no-such-bucket/x"])
        .await;
    told.failed(1, &["no-such-bucket"])
        .hinted("create the bucket");
    stage.assert_untouched().await;
    let told = stage.run(&["list", "s3://no-such-bucket/x"]).await;
    told.failed(1, &["no-such-bucket"])
        .hinted("create the bucket");

    let unknown = id(77);
    let told = stage.run(&["backup", "--resume", unknown.as_str()]).await;
    told.failed(1, &["no snapshot", unknown.as_str()])
        .hinted("--control-table");
    let told = stage.run(&["info", unknown.as_str(), "--from", TO]).await;
    told.failed(1, &["no snapshot", unknown.as_str(), "s3://backups/daily"])
        .hinted("highwater list");
    let told = stage
        .run(&["delete", unknown.as_str(), "--from", TO, "--force"])
        .await;
    told.failed(1, &["no snapshot", unknown.as_str(), "s3://backups/daily"]);
    assert_eq!(stage.control_rows().await, 0);
    assert_eq!(stage.keys().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_refused_and_the_backup_unharmed() {
    let stage = Stage::with_items(30).await;
    let id = id(5);
    let begin = ["backup", TABLE, "--to", TO, "--id", id.as_str()];
    stage.run(&begin).await.done();
    let place = Place::bucket(&stage, "daily");
    let before = place.metadata(TABLE, &id).await;
    let told = stage
        .run(&begin)
        .await
        .failed(1, &[id.as_str(), "already exists"]);
    told.hinted(&format!("--resume {id}"));
    // Another control table knows nothing of it; the bucket does.
    let told = stage
        .run(&[&begin[..], &["--control-table", "other"]].concat())
        .await;
    told.failed(1, &[id.as_str(), "already exists"])
        .hinted("--id");
    assert!(!stage.tables().await.contains(&"other".to_owned()));
    // The control table knows of it; another place does not.
    let elsewhere = [
        "backup",
        TABLE,
        "--to",
        "s3://backups/weekly",
        "--id",
        id.as_str(),
    ];
    stage
        .run(&elsewhere)
        .await
        .failed(1, &[id.as_str(), "already exists"]);
    assert!(
        !stage
            .keys()
            .await
            .iter()
            .any(|key| key.starts_with("weekly/"))
    );
    assert_eq!(place.metadata(TABLE, &id).await, before);
    assert_eq!(place.read(TABLE, &id).await.0.len(), 30);
    // A resume of what is done does nothing and says so.
    let told = stage.run(&["backup", "--resume", id.as_str()]).await.done();
    assert!(told.stdout.contains("is completed"), "{told:#?}");
    assert_eq!(place.metadata(TABLE, &id).await, before);
}

/// A port where nobody listens.
async fn closed_port() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_endpoint_shows_soon() {
    let stage = Stage::with_items(1).await;
    let nobody = closed_port().await;
    let endpoints = |dynamodb: &str, s3: &str| {
        let flags = [
            "--endpoint-url",
            dynamodb,
            "--s3-endpoint-url",
            s3,
            "--region",
            "eu-north-1",
        ];
        flags.map(str::to_owned)
    };
    let dynamodb = stage.dynamodb.endpoint_url();
    let s3 = stage.s3.endpoint_url();
    for (endpoints, words) in [
        (endpoints(&nobody, s3), [TABLE, "DescribeTable"]),
        (
            endpoints(dynamodb, &nobody),
            ["s3://backups/daily", "GetObject"],
        ),
    ] {
        let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
        command.args(["backup", TABLE, "--to", TO]).args(&endpoints);
        let began = Instant::now();
        let told = finish(command).await.failed(1, &words);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}: {told:#?}",
            began.elapsed()
        );
        told.hinted("--endpoint-url");
        stage.assert_untouched().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_named() {
    let stage = Stage::with_items(5).await;
    for path in ["/dev/null/x", "/proc/highwater"] {
        let told = stage
            .run(&["backup", TABLE, "--to", &format!("file://{path}")])
            .await;
        let told = told.failed(1, &[path]);
        assert!(
            !told.stderr.contains("bucket"),
            "there is no bucket here: {told:#?}"
        );
        assert_eq!(stage.control_rows().await, 0, "nothing was claimed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_dynamodb_refuses_is_told_in_its_words() {
    let stage = Stage::with_items(5).await;
    let id = id(3);
    let filter = [
        "backup",
        TABLE,
        "--to",
        TO,
        "--id",
        id.as_str(),
        "--filter",
        "number ===== 7",
    ];
    let told = stage.run(&filter).await.failed(1, &["FilterExpression"]);
    assert!(told.stderr.contains(id.as_str()), "{told:#?}");
    let record = stage.record(CONTROL, &id).await;
    assert_eq!(record.unwrap().status.as_str(), "failed");
    assert!(
        Place::bucket(&stage, "daily")
            .data(TABLE, &id)
            .await
            .is_empty()
    );
}

//! A place that takes a little and then no more.

use std::path::Path;

use highwater_testkit::generate::{Generator, KeyShape};

use super::read_back::{Place, assert_same, id, table_items};
use super::stage::{CONTROL, Stage, TABLE, finish};
use super::told::Told;

/// The command in a process that may write no file of more than 64 KiB. The signal that goes with it is ignored, so
/// that the write fails as it does on a full disk.
async fn with_small_files(stage: &Stage, arguments: &[&str]) -> Told {
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let mut command = stage.bare("bash".into());
    command
        .args(["-c", limited])
        .arg(highwater_tests::binaries::path("highwater"))
        .args(arguments)
        .args(["--endpoint-url", stage.dynamodb_proxy.endpoint_url()])
        .args(["--region", "eu-north-1"]);
    finish(command).await
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_written_leaves_no_half_of_itself() {
    let stage = Stage::start().await;
    stage
        .fill(TABLE, &Generator::small(3, KeyShape::STRING), 3000)
        .await;
    let folder = stage.folder.path().join("backups");
    let to = format!("file://{}", folder.display());
    let id = id(1);
    let begin = [
        "backup",
        TABLE,
        "--to",
        &to,
        "--id",
        id.as_str(),
        "--segments",
        "2",
        "--part-size",
        "100KiB",
    ];
    let told = with_small_files(&stage, &begin).await;
    let told = told.failed(1, &["create file", "data/s0000", id.as_str()]);
    told.hinted("free some space");
    told.hinted(&format!("highwater backup --resume {id}"));
    let place = Place::folder(&folder);
    let metadata = place.metadata(TABLE, &id).await.unwrap();
    assert_eq!(metadata.status.as_str(), "failed");
    assert!(metadata.error.unwrap().contains("StoreNotWritable"));
    assert_eq!(
        stage.record(CONTROL, &id).await.unwrap().status.as_str(),
        "failed"
    );
    let files = files_below(&folder);
    let half = files
        .iter()
        .find(|file| file.to_string_lossy().contains("/data/"));
    assert_eq!(half, None, "{files:?}");
    let large = files
        .iter()
        .find(|file| file.metadata().unwrap().len() >= 60_000);
    assert_eq!(large, None, "not even a temporary one: {files:?}");

    stage.run(&["backup", "--resume", id.as_str()]).await.done();
    let (items, _) = place.read(TABLE, &id).await;
    assert_same(
        &items,
        &table_items(&stage, TABLE, &KeyShape::STRING.schema()).await,
    );
}

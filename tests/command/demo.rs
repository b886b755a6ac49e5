//! `highwater demo`.

use std::path::Path;

use serde_json::Value;

use super::read_back::{Place, id_of};
use super::stage::{Stage, finish};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_and_leaves_a_sealed_backup() {
    let stage = Stage::start().await;
    let folder = stage.folder.path().join("demo");
    let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
    command
        .args(["demo", "--items", "3000", "--json", "--dir"])
        .arg(&folder);
    let told = finish(command).await.done();
    let result: Value = told.json();
    assert_eq!(result["equal"], true);
    assert_eq!(result["items"], 3000);
    // …/<bucket>/<prefix>/<table>/AWSDynamoDB/<id>
    let root = Path::new(result["folder"].as_str().unwrap());
    assert!(root.starts_with(&folder), "{root:?}");
    let prefix = root.ancestors().nth(3).unwrap();
    let bucket = prefix.parent().unwrap();
    let table = root
        .ancestors()
        .nth(2)
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let (items, metadata) = Place::folder(bucket)
        .below(prefix.file_name().unwrap().to_str().unwrap())
        .read(table, &id_of(&result))
        .await;
    assert_eq!(items.len(), 3000);
    assert_eq!(metadata.status.as_str(), "completed");
}

/// The fewest items that `--items` takes.
#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_demo_succeeds_too() {
    let stage = Stage::start().await;
    let folder = stage.folder.path().join("demo");
    let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
    command
        .args(["demo", "--items", "100", "--json", "--dir"])
        .arg(&folder);
    let told = finish(command).await.done();
    assert_eq!(told.json()["items"], 100);
}

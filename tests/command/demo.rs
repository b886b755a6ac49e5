//! `highwater demo`.

use std::path::Path;

use serde_json::Value;

use super::read_back::{Place, id_of};
use super::stage::{Stage, finish};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_and_leaves_a_sealed_backup() {
    let stage = Stage::start().await;
    let mut tries = 0;
    let (folder, told) = loop {
        tries += 1;
        let folder = stage.folder.path().join(format!("demo-{tries}"));
        let mut command = stage.bare(highwater_tests::binaries::path("highwater"));
        command
            .args(["demo", "--items", "3000", "--json", "--dir"])
            .arg(&folder);
        let told = finish(command).await;
        // The demo must know to which side of a second a change belongs. Beside many other tests it may not, and says so.
        if tries == 4 || !told.stderr.contains("no second's end is sharp") {
            break (folder, told.done());
        }
    };
    let result: Value = told.json();
    assert_eq!(result["equal"], true);
    let restored = result["restored"].as_array().unwrap();
    let seconds: Vec<&str> = restored
        .iter()
        .map(|it| it["at"].as_str().unwrap())
        .collect();
    assert!(seconds.len() == 3 && seconds.is_sorted(), "{result}");
    assert!(
        seconds[0] < seconds[1] && seconds[1] < seconds[2],
        "{result}"
    );
    assert!(restored.iter().all(|it| it["equal"] == true), "{result}");
    // Every change left its record in the stream, the first fill's too.
    let changes = result["changes"].as_u64().unwrap();
    assert!(changes > 50, "the shop was open: {result}");
    assert_eq!(result["logged"], 3000 + changes, "{result}");
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
    assert_eq!(items.len() as u64, result["items"].as_u64().unwrap());
    assert_eq!(metadata.status.as_str(), "completed");
    assert!(metadata.handoff().unwrap().is_some());
    let log = prefix.join(table).join("log/generations/00001.json");
    assert!(log.is_file(), "the log is beside the backup: {log:?}");
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
    let result = told.json();
    assert_eq!(result["equal"], true);
    assert_eq!(result["restored"].as_array().map(Vec::len), Some(3));
}

//! Prefixes and folders of odd characters: they name what they spell.

use highwater_testkit::generate::KeyShape;

use super::read_back::{Place, assert_same, id_of, table_items};
use super::stage::{Stage, TABLE};

const ODD: [&str; 10] = [
    "a+b",
    "with  two spaces",
    "\u{e9}\u{65e5}\u{672c}\u{1f600}",
    "%41",
    "100%",
    "a=b&c;d,e@f:g$h",
    "what?#now",
    "quote'and\"double",
    "AWSDynamoDB",
    "x/AWSDynamoDB/y",
];

/// A backup to `to`, found again by every command.
async fn back_up(stage: &Stage, to: &str, place: &Place) {
    let result = stage
        .run(&["backup", TABLE, "--to", to, "--json"])
        .await
        .done()
        .json();
    let id = id_of(&result);
    let (items, _) = place.read(TABLE, &id).await;
    assert_same(
        &items,
        &table_items(stage, TABLE, &KeyShape::STRING.schema()).await,
    );
    let listed = stage.run(&["list", to, "--json"]).await.done().json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{to}: {listed}");
    assert_eq!(listed[0]["snapshot_id"], id.as_str(), "{to}");
    let info = stage
        .run(&["info", id.as_str(), "--from", to, "--json"])
        .await
        .done()
        .json();
    assert_eq!(info["item_count"], 20, "{to}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_prefixes_work_in_s3() {
    let stage = Stage::with_items(20).await;
    for prefix in ODD {
        let to = format!("s3://backups/{prefix}");
        back_up(&stage, &to, &Place::bucket(&stage, prefix)).await;
        let under = format!("{prefix}/orders/AWSDynamoDB/");
        let keys = stage.keys().await;
        assert!(
            keys.iter().all(|key| key.starts_with(&under)),
            "{prefix}: {keys:?}"
        );
        let listed = stage.run(&["list", &to, "--json"]).await.done().json();
        let id = listed[0]["snapshot_id"].as_str().unwrap();
        stage
            .run(&["delete", id, "--from", &to, "--force"])
            .await
            .done();
        assert_eq!(stage.keys().await, [""; 0], "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_folders_work() {
    let stage = Stage::with_items(20).await;
    for name in ODD {
        let folder = stage.folder.path().join("odd").join(name);
        let to = format!("file://{}", folder.display());
        back_up(&stage, &to, &Place::folder(&folder)).await;
        assert!(folder.join("orders/AWSDynamoDB").is_dir(), "{folder:?}");
    }
    let folders = std::fs::read_dir(stage.folder.path().join("odd")).unwrap();
    assert_eq!(folders.count(), ODD.len(), "each is its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_a_bucket_and_a_slash_at_the_end_work() {
    let stage = Stage::with_items(20).await;
    back_up(&stage, "s3://backups", &Place::bucket(&stage, "")).await;
    back_up(
        &stage,
        "s3://backups/deep/er/",
        &Place::bucket(&stage, "deep/er"),
    )
    .await;
    let folder = stage.folder.path().join("deep/er");
    back_up(
        &stage,
        &format!("file://{}/", folder.display()),
        &Place::folder(&folder),
    )
    .await;
}

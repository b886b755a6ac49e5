//! The handoff from the command line: a stream that is used, enabled, refused, or missing.

use aws_sdk_dynamodb::types::StreamViewType;
use highwater_domain::metadata::Metadata;

use super::live_stage::{LiveStage, ROLLING};
use super::read_back::{Place, id_of};
use super::stage::{TABLE, TO};
use super::told::Told;

async fn backup(live: &LiveStage, flags: &[&str]) -> Told {
    let begin = ["backup", TABLE, "--to", TO];
    live.stage.run(&[&begin[..], flags].concat()).await
}

async fn stage(view: Option<StreamViewType>) -> LiveStage {
    let live = LiveStage::bare(ROLLING, 1).await;
    live.table_with_view(TABLE, view).await;
    live
}

async fn metadata(live: &LiveStage, told: Told) -> (String, Metadata) {
    let id = id_of(&told.done().json());
    let (_, metadata) = Place::bucket(&live.stage, "daily").read(TABLE, &id).await;
    (id.to_string(), metadata)
}

async fn info(live: &LiveStage, id: &str) -> String {
    let info = ["info", id, "--from", TO, "--table", TABLE];
    live.stage.run(&info).await.done().stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn with_stream_enables_one_and_every_place_tells_of_the_handoff() {
    let live = stage(None).await;
    let planned = backup(&live, &["--with-stream", "--dry-run"]).await.done();
    assert!(planned.stdout.contains("enabled first"), "{planned:?}");
    let planned = backup(&live, &["--dry-run"]).await.done();
    assert!(planned.stdout.contains("--with-stream"), "{planned:?}");
    let plain = backup(&live, &[]).await.done();
    assert!(plain.stdout.contains("no restore to a second"), "{plain:?}");

    let told = backup(&live, &["--with-stream", "--json"]).await;
    let (id, metadata) = metadata(&live, told).await;
    let handoff = metadata.handoff().unwrap().unwrap();
    assert_eq!(handoff.stream_arn, live.stream_arn().await);
    assert_eq!(handoff.beginnings().count(), 3, "one per lineage");
    let shown = info(&live, &id).await;
    assert!(
        shown.contains(&handoff.stream_label) && shown.contains("begins with 3"),
        "{shown}"
    );
    // From now on it is used unasked.
    let planned = backup(&live, &["--dry-run"]).await.done();
    assert!(planned.stdout.contains("would be stream"), "{planned:?}");
    let again = backup(&live, &[]).await.done();
    assert!(again.stdout.contains(&handoff.stream_label), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_without_new_images_is_refused_with_the_way_out() {
    let live = stage(Some(StreamViewType::KeysOnly)).await;
    let refused = backup(&live, &["--with-stream"]).await;
    refused.failed(
        1,
        &["KEYS_ONLY", "NEW_AND_OLD_IMAGES", "disable the stream"],
    );
    let told = backup(&live, &["--json"]).await;
    let (id, metadata) = metadata(&live, told).await;
    assert_eq!(metadata.handoff().unwrap(), None);
    assert!(metadata.no_handoff.unwrap().contains("KEYS_ONLY"));
    assert!(info(&live, &id).await.contains("KEYS_ONLY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_images_alone_are_called_degraded_and_eventual_reads_bounded() {
    let live = stage(Some(StreamViewType::NewImage)).await;
    let told = backup(&live, &["--with-stream", "--eventual"]).await.done();
    for words in ["NEW_IMAGE", "degraded", "less than 15 min"] {
        assert!(told.stdout.contains(words), "{words}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_keeps_its_handoff() {
    let live = stage(None).await;
    let id = "01768385930622-efd1a093";
    let refused = live
        .stage
        .run(&["backup", "--resume", id, "--with-stream"])
        .await;
    refused.failed(2, &["--with-stream"]);
    let both = ["--with-stream", "--max-items", "3"];
    backup(&live, &both).await.failed(2, &["with_stream"]);
}

//! `--control local:PATH`: checkpoints in a file, for people who may read a table and create none.

use highwater_domain::ids::SnapshotId;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::KeyShape;

use super::read_back::{Place, assert_same, id, table_items};
use super::stage::{Stage, TABLE, TO, told, until};

/// How many scans were made, every one of which is held up a little.
fn scans(stage: &Stage) -> u64 {
    stage.dynamodb_proxy.count(HELD_UP)
}

const HELD_UP: Fault = Fault::Delay(60);

/// Starts a backup of twelve segments by two workers, and kills it when the first ones are done.
async fn start_and_kill(stage: &Stage, id: &SnapshotId, local: &str) {
    stage
        .dynamodb_proxy
        .inject(Rule::rate(HELD_UP, 1.0).on("Scan"));
    let begin = [
        "backup",
        TABLE,
        "--to",
        TO,
        "--id",
        id.as_str(),
        "--control",
        local,
        "--segments",
        "12",
        "--concurrency",
        "2",
        "--part-size",
        "4000",
    ];
    let mut child = stage.spawn(&begin);
    let place = Place::bucket(stage, "daily");
    until("some segments are done", async || {
        let data = place.data(TABLE, id).await;
        data.iter()
            .any(|key| key.contains("/s00005-"))
            .then_some(())
    })
    .await;
    child.start_kill().unwrap();
    let killed = told(child).await;
    assert_eq!(killed.code, None, "it was killed at work: {killed:#?}");
    assert!(
        killed.stderr.contains("checkpoints are kept in "),
        "{killed:#?}"
    );
    let running = place.metadata(TABLE, id).await.unwrap();
    assert_eq!(running.status.as_str(), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backup_is_resumed_from_the_file() {
    let stage = Stage::with_items(1500).await;
    let id = id(1);
    let file = stage.folder.path().join("check points/control.db");
    let local = format!("local:{}", file.display());
    start_and_kill(&stage, &id, &local).await;

    let elsewhere = format!("local:{}", stage.folder.path().join("other.db").display());
    let resume = ["backup", "--resume", id.as_str(), "--control"];
    let told = stage.run(&[&resume[..], &[&elsewhere]].concat()).await;
    told.failed(1, &["there is no snapshot", id.as_str()])
        .hinted("--control");

    let before = scans(&stage);
    let told = stage.run(&[&resume[..], &[&local]].concat()).await.done();
    assert!(
        told.stderr
            .contains(&format!("Resuming backup {id} of orders: ")),
        "{told:#?}"
    );
    let place = Place::bucket(&stage, "daily");
    let (items, metadata) = place.read(TABLE, &id).await;
    assert_same(
        &items,
        &table_items(&stage, TABLE, &KeyShape::STRING.schema()).await,
    );
    assert!(metadata.part_count > 12);
    // Segments 4 to 11 were not done; two workers may each have left a part that costs a second look.
    let more = scans(&stage) - before;
    assert!(
        more < 12,
        "{more} scans: nothing of what was there was used"
    );
    assert_eq!(stage.tables().await, [TABLE], "no control table was made");

    let delete = [
        "delete",
        id.as_str(),
        "--from",
        TO,
        "--force",
        "--control",
        &local,
    ];
    stage.run(&delete).await.done();
    assert_eq!(stage.keys().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_path_the_file_is_in_the_users_state_folder() {
    let stage = Stage::with_items(20).await;
    stage
        .run(&["backup", TABLE, "--to", TO, "--control", "local"])
        .await
        .done();
    let home = stage.folder.path().join("home");
    assert!(home.join(".local/state/highwater/control.db").is_file());
    let elsewhere = stage.folder.path().join("state");
    let mut command = stage.command(&["backup", TABLE, "--to", TO, "--control", "local"]);
    command.env("XDG_STATE_HOME", &elsewhere);
    super::stage::finish(command).await.done();
    assert!(elsewhere.join("highwater/control.db").is_file());
    assert_eq!(stage.tables().await, [TABLE]);
}

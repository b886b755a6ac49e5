//! SIGINT and SIGTERM in the middle of a scan.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use highwater_domain::ids::SnapshotId;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::KeyShape;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::read_back::{Place, assert_same, id, table_items};
use super::stage::{Stage, TABLE, TO, signal, told, until};

const ITEMS: u64 = 1500;

fn begin(id: &SnapshotId) -> [&str; 12] {
    [
        "backup",
        TABLE,
        "--to",
        TO,
        "--id",
        id.as_str(),
        "--segments",
        "12",
        "--concurrency",
        "2",
        "--part-size",
        "4000",
    ]
}

/// Every status that `backup.json` shows while this is watched.
struct Watch {
    seen: Arc<Mutex<BTreeSet<&'static str>>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(stage: &Stage, id: &SnapshotId) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (place, id, shown) = (Place::bucket(stage, "daily"), id.clone(), seen.clone());
        let watcher = tokio::spawn(async move {
            loop {
                if let Some(metadata) = place.metadata(TABLE, &id).await {
                    shown.lock().unwrap().insert(metadata.status.as_str());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { seen, watcher }
    }

    fn end(self) -> BTreeSet<&'static str> {
        self.watcher.abort();
        self.seen.lock().unwrap().clone()
    }
}

async fn parts_at_least(stage: &Stage, id: &SnapshotId, parts: usize) {
    let place = Place::bucket(stage, "daily");
    until("there are parts", async || {
        (place.data(TABLE, id).await.len() >= parts).then_some(())
    })
    .await;
}

async fn resume_and_check(stage: &Stage, id: &SnapshotId) {
    stage.dynamodb_proxy.clear();
    stage.s3_proxy.clear();
    stage.run(&["backup", "--resume", id.as_str()]).await.done();
    let (items, _) = Place::bucket(stage, "daily").read(TABLE, id).await;
    assert_same(
        &items,
        &table_items(stage, TABLE, &KeyShape::STRING.schema()).await,
    );
}

/// DD-20.
async fn stopped_in_order(name: &str, code: i32) {
    let stage = Stage::with_items(ITEMS).await;
    stage
        .dynamodb_proxy
        .inject(Rule::rate(Fault::Delay(60), 1.0).on("Scan"));
    stage
        .s3_proxy
        .inject(Rule::rate(Fault::Delay(20), 1.0).on("PutObject"));
    let id = id(1);
    let watch = Watch::start(&stage, &id);
    let child = stage.spawn(&begin(&id));
    parts_at_least(&stage, &id, 3).await;
    signal(&child, name).await;
    let told = told(child).await;
    let seen = watch.end();
    let told = told.failed(code, &[&format!("stopped by SIG{name}")]);
    told.hinted(&format!("highwater backup --resume {id}"));
    let place = Place::bucket(&stage, "daily");
    let metadata = place.metadata(TABLE, &id).await.unwrap();
    assert_eq!(metadata.status.as_str(), "failed");
    assert!(metadata.error.is_some(), "{metadata:?}");
    assert!(!seen.contains("completed"), "{seen:?}");
    let parts = place.data(TABLE, &id).await.len();
    assert_eq!(
        metadata.part_count, parts as u64,
        "what was scanned was committed"
    );
    let info = stage.run(&["info", id.as_str(), "--from", TO]).await.done();
    assert!(
        info.stdout.contains("Status ..............: failed"),
        "{info:#?}"
    );
    resume_and_check(&stage, &id).await;
    let metadata = place.metadata(TABLE, &id).await.unwrap();
    assert_eq!(
        (metadata.status.as_str(), metadata.error),
        ("completed", None)
    );
    assert!(
        metadata.part_count > parts as u64,
        "the signal came in the middle"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_stops_a_backup_in_order() {
    stopped_in_order("INT", 130).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dd_20_sigterm_stops_a_backup_in_order() {
    stopped_in_order("TERM", 143).await;
}

/// The orderly end is held up for an hour; the second signal does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let stage = Stage::with_items(ITEMS).await;
    let id = id(1);
    let held_up = Fault::Delay(3_600_000);
    let data = format!("/backups/daily/orders/AWSDynamoDB/{id}/data/");
    stage
        .s3_proxy
        .inject(Rule::rate(held_up, 1.0).on("PutObject").under(&data));
    let mut child = stage.spawn(&begin(&id));
    until("a worker writes a part", async || {
        (stage.s3_proxy.count(held_up) > 0).then_some(())
    })
    .await;
    signal(&child, "INT").await;
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("it says that it stops");
        if line.contains("stopping: ") {
            break;
        }
    }
    assert_eq!(child.try_wait().unwrap(), None, "it waits for its workers");
    let second = Instant::now();
    signal(&child, "TERM").await;
    let status = child.wait().await.unwrap();
    assert!(
        second.elapsed() < Duration::from_secs(5),
        "{:?}",
        second.elapsed()
    );
    assert_eq!(status.code(), Some(143));
    let metadata = Place::bucket(&stage, "daily")
        .metadata(TABLE, &id)
        .await
        .unwrap();
    assert_ne!(metadata.status.as_str(), "completed");
    resume_and_check(&stage, &id).await;
}

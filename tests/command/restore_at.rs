//! `restore --at` and `materialize`: what the table was at a second, held against what the writers know.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use highwater_domain::change_log::LogName;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_local::StreamShape;
use highwater_testkit::faults::{Fault, Rule};
use serde_json::Value;

use super::live_stage::{History, LiveStage, ROLLING, Records, follow};
use super::read_back::id_of;
use super::restoring::{assert_accounted_for, completed, files_below, restore_id};
use super::stage::{CONTROL, TABLE, TO, keys_below, told};

/// A table that was written to before, during and after its backup, and the log of all that.
struct Lived {
    live: LiveStage,
    history: History,
    backup: String,
    /// The seconds in which the positions were captured, the backup had ended, and the last change was made.
    captured: UnixSeconds,
    ended: UnixSeconds,
    last: UnixSeconds,
}

impl Lived {
    async fn start() -> Self {
        Self::through(ROLLING).await
    }

    /// The same, through a stream of this shape.
    async fn through(shape: StreamShape) -> Self {
        let live = LiveStage::start(shape).await;
        let mut writer = live.writer("a", 5);
        writer.write(150).await;
        let slow = Rule::rate(Fault::Delay(900), 1.0).on("Scan");
        live.stage.dynamodb_proxy.inject(slow);
        let backup = [
            &["backup", TABLE, "--to", TO, "--with-stream", "--json"][..],
            &["--settle-seconds", "0", "--segments", "3", "-p", "1"],
        ];
        let child = live.stage.spawn(&backup.concat());
        writer.write_slowly(250, Duration::from_millis(15)).await;
        let id = id_of(&told(child).await.done().json());
        live.stage.dynamodb_proxy.clear();
        let ended = now();
        writer.write_slowly(200, Duration::from_millis(15)).await;
        let last = now();
        // The last second is over, and the mark behind it.
        tokio::time::sleep(Duration::from_secs(3)).await;
        live.stage.run(&follow(&["--until-idle"])).await.done();
        let record = live.stage.record(CONTROL, &id).await.unwrap();
        let captured = record.handoff.unwrap().captured_at;
        Self {
            history: writer.history(),
            backup: id.to_string(),
            captured: UnixSeconds::of(captured),
            ended,
            last,
            live,
        }
    }

    /// Seconds inside and after the backup of which the writer knows what the table was, the first and the last of them
    /// included.
    fn seconds(&self) -> Vec<UnixSeconds> {
        let all = self.captured.0..=self.last.0;
        let known = all
            .map(UnixSeconds)
            .filter(|at| self.history.at(*at).is_some());
        let known: Vec<UnixSeconds> = known.collect();
        assert!(known.len() > 4, "{known:?}");
        known
    }

    /// `restore TABLE --from TO --at … --to TARGET`, and more.
    fn restore(at: UnixSeconds, target: &str, more: &[&str]) -> Vec<String> {
        let at = at.to_rfc3339();
        let begin = [
            "restore",
            TABLE,
            "--from",
            TO,
            "--at",
            &at,
            "--stamp-margin",
            "0s",
            "--to",
            target,
        ];
        let line = begin.iter().chain(more);
        line.map(|word| (*word).to_owned()).collect()
    }

    async fn items(&self, table: &str) -> BTreeMap<String, String> {
        let scan = self.live.stage.direct.scan().table_name(table);
        let page = scan.consistent_read(true).send().await.unwrap();
        assert!(page.last_evaluated_key.is_none());
        let text = |item: &std::collections::HashMap<String, _>, name: &str| {
            let value: &aws_sdk_dynamodb::types::AttributeValue = &item[name];
            value.as_s().unwrap().clone()
        };
        let items = page.items.unwrap_or_default();
        items
            .iter()
            .map(|item| (text(item, "pk"), text(item, "value")))
            .collect()
    }

    async fn assert_was(&self, at: UnixSeconds, table: &str) {
        let truth = self.history.at(at).unwrap();
        assert_eq!(self.items(table).await, truth, "at {at:?}");
    }
}

fn now() -> UnixSeconds {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    UnixSeconds(since.unwrap().as_secs())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_second_inside_and_after_a_backup_is_restored_as_it_was() {
    let lived = Lived::start().await;
    let stage = &lived.live.stage;
    let mut superseded = 0;
    let mut sides = Vec::new();
    for (n, at) in lived.seconds().into_iter().enumerate() {
        let target = format!("at-{n}");
        let restore = Lived::restore(at, &target, &["--json"]);
        let result = completed(&stage.run(&restore).await.done());
        lived.assert_was(at, &target).await;
        assert_eq!(result["at"], at.to_rfc3339());
        superseded += result["totals"]["superseded"].as_u64().unwrap();
        sides.push(result["point"]["side"].clone());
    }
    assert!(superseded > 0);
    assert!(
        sides.contains(&"undo".into()) && sides.contains(&"forward".into()),
        "{sides:?}"
    );
    let work = stage.folder.path().join("highwater-work");
    assert_eq!(
        files_below(&work),
        [""; 0].map(std::path::PathBuf::from),
        "tidied up"
    );

    let latest = [
        "restore",
        TABLE,
        "--from",
        TO,
        "--at",
        "latest",
        "--stamp-margin",
        "0s",
    ];
    let latest = [&latest[..], &["--to", "at-latest", "--json"]].concat();
    completed(&stage.run(&latest).await.done());
    lived.assert_was(lived.last, "at-latest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_which_snapshot_and_log_and_a_refusal_tells_the_way_out() {
    let lived = Lived::start().await;
    let stage = &lived.live.stage;
    let before = (stage.tables().await, stage.keys().await);
    let dry = Lived::restore(lived.last, "never", &["--dry-run"]);
    let told = stage.run(&dry).await.done();
    for part in [
        lived.backup.as_str(),
        &lived.last.to_rfc3339(),
        "objects of",
        "complete up to",
        "assumed",
        "nothing was written",
    ] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
    let late = Lived::restore(UnixSeconds(now().0 + 3600), "never", &[]);
    let refused = stage.run(&late).await;
    assert!(refused.stderr.contains("hint:"), "{refused:#?}");
    refused.failed(1, &["cannot be restored to"]);
    let early = Lived::restore(UnixSeconds(lived.captured.0 - 3600), "never", &[]);
    stage
        .run(&early)
        .await
        .failed(1, &["cannot be restored to"]);
    let import = Lived::restore(lived.last, "never", &["--engine", "import-table"]);
    stage.run(&import).await.failed(2, &["materialize"]);
    let nonsense = [
        "restore",
        TABLE,
        "--from",
        TO,
        "--at",
        "yesterday",
        "--to",
        "never",
    ];
    stage.run(&nonsense).await.failed(2, &["yesterday"]);
    assert_eq!((stage.tables().await, stage.keys().await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_restore_to_a_second_is_resumed_and_exact() {
    let lived = Lived::start().await;
    let stage = &lived.live.stage;
    let at = lived.seconds()[2];
    let id = restore_id(7).to_string();
    let slow = Rule::rate(Fault::Delay(40), 1.0);
    let work = stage.folder.path().join("elsewhere");
    let work = format!("file://{}", work.display());
    let mut line = Lived::restore(at, "killed", &["--id", &id, "--work", &work]);
    for pause in [150, 500, 900, 1300] {
        stage.dynamodb_proxy.clear();
        stage.dynamodb_proxy.inject(slow.clone());
        stage.s3_proxy.clear();
        stage.s3_proxy.inject(slow.clone());
        let mut child = stage.spawn(&line);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        child.kill().await.unwrap();
        let recorded = super::restoring::record(stage, CONTROL, &restore_id(7)).await;
        if recorded.is_some() {
            line = ["restore", "--resume", &id].map(str::to_owned).into();
        }
    }
    stage.dynamodb_proxy.clear();
    stage.s3_proxy.clear();
    line.push("--json".to_owned());
    let result = stage.run(&line).await.done().json();
    assert_eq!(result["status"], "completed");
    assert_accounted_for(&result);
    lived.assert_was(at, "killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_materialized_second_is_verified_listed_and_restored() {
    let lived = Lived::start().await;
    let stage = &lived.live.stage;
    let at = lived.seconds()[3];
    let states = "s3://backups/states";
    let text = at.to_rfc3339();
    let begin = [
        "materialize",
        TABLE,
        "--from",
        TO,
        "--at",
        &text,
        "--stamp-margin",
        "0s",
        "--to",
        states,
    ];
    let planned = stage
        .run(&[&begin[..], &["--dry-run"]].concat())
        .await
        .done();
    assert!(planned.stdout.contains("a new snapshot"), "{planned:#?}");
    assert!(
        keys_below(stage.bucket().as_ref(), "states/")
            .await
            .is_empty()
    );
    let tables = stage.tables().await;
    let told = stage.run(&[&begin[..], &["--json"]].concat()).await.done();
    let made: Value = told.json();
    assert_eq!(
        (&made["status"], &made["at"]),
        (&"completed".into(), &Value::from(text.clone()))
    );
    assert_eq!(stage.tables().await, tables, "no table is touched");
    let id = made["restore_id"].as_str().unwrap();
    stage.run(&["verify", id, "--from", states]).await.done();
    let info = stage
        .run(&["info", id, "--from", states, "--json"])
        .await
        .done();
    assert!(info.stdout.contains(&lived.backup), "{info:#?}");
    let restore = ["restore", id, "--from", states, "--to", "again", "--json"];
    completed(&stage.run(&restore).await.done());
    lived.assert_was(at, "again").await;
    assert!(lived.ended.0 >= lived.captured.0);
}

/// Whether a key of this object is written before and after it, so that without it one image does not follow from the other.
fn is_missed(name: &LogName, records: &Records) -> bool {
    let value = |bytes: &Option<Bytes>| -> Value {
        let bytes = bytes.as_ref();
        bytes.map_or(Value::Null, |it| serde_json::from_slice(it).unwrap())
    };
    let key = |record: &StreamRecord| value(&Some(record.keys.clone())).to_string();
    // A key's records lie on one line of shards, whose ids begin with the time.
    let first = (name.shard.clone(), name.first.clone());
    let last = (name.shard.clone(), name.last.clone());
    records
        .range(first.clone()..=last.clone())
        .any(|(_, lost)| {
            let is_same = |record: &&StreamRecord| key(record) == key(lost);
            let before = records.range(..first.clone()).map(|it| it.1).rfind(is_same);
            let after = (Bound::Excluded(&last), Bound::Unbounded);
            let after = records
                .range::<(ShardId, SequenceNumber), _>(after)
                .map(|it| it.1)
                .find(is_same);
            let (Some(before), Some(after)) = (before, after) else {
                return false;
            };
            value(&before.new_image) != value(&after.old_image)
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_record_that_the_log_lost() {
    // Even where the backup took its positions late, each line has a shard, and so an object, between two others.
    let lived = Lived::through(StreamShape {
        roll_after_records: 25,
        ..ROLLING
    })
    .await;
    let stage = &lived.live.stage;
    let verify = [
        "verify",
        &lived.backup,
        "--from",
        TO,
        "--change-log",
        "--json",
    ];
    let good = stage.run(&verify).await.done().json();
    assert_eq!(good["good"], true, "{good}");
    let checked = good["logs"][0]["checked"].as_u64().unwrap();
    assert!(checked > 300, "{good}");

    let objects = lived.live.log_objects().await;
    let records = lived.live.log_records().await;
    let missed = objects.iter().find(|name| is_missed(name, &records));
    lived.live.delete_object(missed.unwrap()).await;
    let broken = stage.run(&verify).await;
    assert_eq!(broken.code, Some(3), "{broken:#?}");
    assert!(broken.stderr.contains("log is broken"), "{broken:#?}");
    let report: Value = serde_json::from_str(&broken.stdout).unwrap();
    let first = &report["logs"][0]["broken"][0];
    assert!(first["key"].as_str().unwrap().contains("pk"), "{report}");
    assert_ne!(first["after"], first["before"]);

    // On record, it is a loss: told apart here, and in the way of restores that need it.
    let recording = [&verify[..], &["--record-breaks"]].concat();
    let recorded = stage.run(&recording).await;
    assert_eq!(recorded.code, Some(3), "{recorded:#?}");
    assert!(recorded.stderr.contains("on record"), "{recorded:#?}");
    let told = stage.run(&verify).await.done().json();
    assert!(told["logs"][0]["explained"].as_u64() > Some(0), "{told}");
    let at = first["between"][1].as_u64().unwrap();
    let at = UnixSeconds(at).to_rfc3339();
    let restore = ["restore", TABLE, "--from", TO, "--at", &at, "--to", "never"];
    let refused = stage.run(&restore).await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("chain-break"), "{refused:#?}");
}

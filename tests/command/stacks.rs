//! `start`, `watch` and `stop` against a deployed stack, end to end: real definitions, real functions, real rows.

use highwater_domain::executions::{ExecutionStatus, Executions as _};
use highwater_domain::ids::SnapshotId;
use highwater_domain::object_store::NewObject;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::generate::KeyShape;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::deployed::{ABSENT, Deployed, SMALL, STACK_CONTROL};
use super::read_back::{Place, assert_same, id_of, table_items};
use super::restoring::{TARGET, assert_restored, completed, total};
use super::stage::{CONTROL, TABLE, TO, finish, signal, told, until};
use super::told::Told;

const ITEMS: u64 = 1200;

/// The backup in the stack's place holds the table.
async fn assert_backed_up(deployed: &Deployed, id: &SnapshotId) {
    let (items, metadata) = Place::bucket(&deployed.stage, "daily")
        .read(TABLE, id)
        .await;
    let expected = table_items(&deployed.stage, TABLE, &KeyShape::STRING.schema()).await;
    assert_same(&items, &expected);
    assert_eq!(items.len() as u64, ITEMS);
    assert_eq!(metadata.status.as_str(), "completed");
    assert_eq!(metadata.error, None);
}

/// Makes scans slow, so that there is a middle.
fn slow(deployed: &Deployed) {
    let rule = Rule::rate(Fault::Delay(150), 1.0).on("Scan");
    deployed.stage.dynamodb_proxy.inject(rule);
}

async fn in_the_middle(deployed: &Deployed, id: &SnapshotId) {
    let place = Place::bucket(&deployed.stage, "daily");
    until("there are parts", async || {
        (place.data(TABLE, id).await.len() >= 3).then_some(())
    })
    .await;
}

fn only_status(deployed: &Deployed) -> ExecutionStatus {
    let all = deployed.account.all();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].status.clone()
}

async fn ended(deployed: &Deployed) -> ExecutionStatus {
    until("the execution ends", async || {
        Some(only_status(deployed)).filter(ExecutionStatus::has_ended)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_started_and_watched_to_its_end() {
    let deployed = Deployed::with_items(ITEMS).await;
    let start = ["start", "backup", TABLE, "--watch", "--json"];
    let told = deployed.run(&[&start[..], &SMALL].concat()).await.done();
    let result = told.json();
    let id = id_of(&result);
    assert_eq!(result["backup"]["status"], "completed", "{told:#?}");
    assert_eq!(result["backup"]["item_count"], ITEMS);
    assert_eq!(result["backup"]["total_segments"], 12);
    let place = format!("{TO}/{TABLE}/AWSDynamoDB/{id}");
    assert!(
        result["url"].as_str().unwrap().starts_with(&place),
        "{result}"
    );
    // What was said at the start is what came of it.
    for words in [
        "Started execution backup-orders-",
        "Beginning scan: table=\"orders\"",
        id.as_str(),
    ] {
        assert!(told.stderr.contains(words), "{words}: {told:#?}");
    }
    assert_backed_up(&deployed, &id).await;
    assert_eq!(ended(&deployed).await, ExecutionStatus::Succeeded);
    let tables = deployed.stage.tables().await;
    assert!(
        !tables.iter().any(|it| it == CONTROL),
        "no other control table is made"
    );

    // By the id, when it has long ended: the same result.
    let again = deployed.run(&["watch", id.as_str(), "--json"]).await.done();
    assert_eq!(again.json()["backup"], result["backup"]);
    let words = deployed.run(&["watch", id.as_str()]).await.done();
    assert!(
        words
            .stdout
            .contains(&format!("Backup {id} of {TABLE} is completed")),
        "{words:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_tells_what_will_come_of_it() {
    let deployed = Deployed::with_items(20).await;
    let started = deployed.start("tells").await;
    let id = id_of(&started);
    let arn = started["execution_arn"].as_str().unwrap();
    assert!(arn.ends_with(":execution:night-backup:tells"), "{started}");
    let input = json!({
        "table": TABLE,
        "to": TO,
        "segments": 12,
        "concurrency": 2,
        "part_bytes": 4000,
        // From the stage's environment.
        "settle_seconds": 0,
    });
    assert_eq!(started["input"], input);
    assert_eq!(ended(&deployed).await, ExecutionStatus::Succeeded);
    let record = deployed.stage.record(STACK_CONTROL, &id).await.unwrap();
    assert_eq!(
        record.request_id, arn,
        "that very id, by that very execution"
    );
}

async fn stopped_in_the_middle(deployed: &Deployed) -> SnapshotId {
    slow(deployed);
    let id = id_of(&deployed.start("stopped").await);
    in_the_middle(deployed, &id).await;

    let shown = deployed.run(&["stop", TABLE, "--dry-run"]).await.done();
    assert!(shown.stdout.contains("nothing was stopped"), "{shown:#?}");
    assert_eq!(only_status(deployed), ExecutionStatus::Running);

    let told = deployed.run(&["stop", TABLE, "--json"]).await.done();
    let result = told.json();
    assert_eq!(result["stopped"], true, "{told:#?}");
    assert_eq!(result["job_status"], "failed");
    assert_eq!(result["snapshot_id"], id.as_str());
    let resume = format!("highwater start backup --resume {id} --stack night");
    assert!(
        result["resume"].as_str().unwrap().starts_with(&resume),
        "{told:#?}"
    );
    let all = deployed.account.all();
    assert_eq!(all[0].status, ExecutionStatus::Aborted);
    assert_eq!(all[0].error.as_deref(), Some("Interrupted"));
    let metadata = Place::bucket(&deployed.stage, "daily")
        .metadata(TABLE, &id)
        .await
        .unwrap();
    assert_eq!(metadata.status.as_str(), "failed");
    assert!(metadata.error.unwrap().contains("highwater stop"));

    let again = deployed.run(&["stop", "stopped"]).await.done();
    assert!(again.stdout.contains("had ended: ABORTED"), "{again:#?}");
    let watched = deployed.run(&["watch", "stopped"]).await;
    let watched = watched.failed(1, &["was stopped", "Interrupted", "highwater stop"]);
    watched.hinted(&resume);
    deployed.stage.dynamodb_proxy.clear();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_stopped_goes_on_in_the_stack() {
    let deployed = Deployed::with_items(ITEMS).await;
    let id = stopped_in_the_middle(&deployed).await;
    let frozen = [
        "start",
        "backup",
        "--resume",
        id.as_str(),
        "--segments",
        "3",
    ];
    deployed.run(&frozen).await.failed(2, &["--segments"]);
    let resume = [
        "start",
        "backup",
        "--resume",
        id.as_str(),
        "--watch",
        "--json",
    ];
    let result = deployed.run(&resume).await.done().json();
    assert_eq!(id_of(&result), id);
    assert_backed_up(&deployed, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_stopped_goes_on_from_here() {
    let deployed = Deployed::with_items(ITEMS).await;
    let id = stopped_in_the_middle(&deployed).await;
    let resume = [
        "backup",
        "--resume",
        id.as_str(),
        "--control-table",
        STACK_CONTROL,
    ];
    deployed.stage.run(&resume).await.done();
    assert_backed_up(&deployed, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_starts_one_backup() {
    let deployed = Deployed::with_items(ITEMS).await;
    slow(&deployed);
    let first = deployed.start("2026-w47").await;
    let again = deployed.start("2026-w47").await;
    assert_eq!(again["execution_arn"], first["execution_arn"]);
    assert_eq!(again["snapshot_id"], first["snapshot_id"]);
    let other = [
        "start",
        "backup",
        TABLE,
        "--name",
        "2026-w47",
        "--segments",
        "3",
    ];
    let told = deployed
        .run(&other)
        .await
        .failed(1, &["2026-w47", "another input", "RUNNING"]);
    told.hinted("highwater watch 2026-w47 --stack night");
    deployed.stage.dynamodb_proxy.clear();
    assert_eq!(
        ended(&deployed).await,
        ExecutionStatus::Succeeded,
        "there is but one"
    );
    let late = deployed.start("2026-w47").await;
    assert_eq!(late["before"], "SUCCEEDED");
    assert_eq!(only_status(&deployed), ExecutionStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_stack_of_ours_is_told_with_a_way_out() {
    let deployed = Deployed::with_items(10).await;
    for (stack, words, hint) in [
        ("day", &["no stack day", "day-backup"][..], "--region"),
        (
            "old",
            &["old-backup", "highwater:control-table", "highwater:tables"],
            "another version",
        ),
    ] {
        for command in [
            &["watch"][..],
            &["stop", TABLE],
            &["start", "backup", TABLE],
        ] {
            let line = [command, &["--stack", stack]].concat();
            let told = finish(deployed.bare(&line)).await.failed(1, words);
            told.hinted(hint);
        }
    }
    let nameless = finish(deployed.bare(&["watch"])).await.failed(2, &[]);
    assert!(nameless.stderr.contains("--stack <NAME>"), "{nameless:#?}");
    let stranger = deployed.run(&["start", "backup", "invoices"]).await;
    let stranger = stranger.failed(1, &["invoices", "none of stack night's", TABLE, ABSENT]);
    stranger.hinted("TableNames");
    for target in ["invoices", "nothing-like-it"] {
        let told = deployed
            .run(&["stop", target])
            .await
            .failed(1, &["knows no", target]);
        told.hinted("highwater watch --stack night");
    }
    let idle = deployed
        .run(&["watch", TABLE])
        .await
        .failed(1, &["at work on table orders"]);
    idle.hinted("highwater start backup orders --stack night");
    assert!(deployed.account.all().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named() {
    let deployed = Deployed::with_items(10).await;
    let cases: [(&str, &[&str]); 6] = [
        ("ListStateMachines", &["watch"]),
        ("ListTagsForResource", &["watch"]),
        ("StartExecution", &["start", "backup", TABLE]),
        ("ListExecutions", &["watch"]),
        ("DescribeExecution", &["watch", "one"]),
        ("DescribeExecution", &["stop", "one"]),
    ];
    for (operation, line) in cases {
        deployed.account.deny(operation);
        let told = deployed.run(line).await;
        let told = told.failed(1, &["AccessDeniedException", operation]);
        told.hinted(&format!("states:{operation}"));
        deployed.account.allow_all();
    }
    // Not allowed to end it, and yet it ends.
    slow(&deployed);
    let id = id_of(&deployed.start("goes-on").await);
    in_the_middle_or_begun(&deployed, &id).await;
    deployed.account.deny("StopExecution");
    let told = deployed.run(&["stop", "goes-on"]).await;
    told.failed(1, &["could not be stopped", "ends by itself"])
        .hinted("states:StopExecution");
    assert_eq!(ended(&deployed).await, ExecutionStatus::Failed);
    assert_eq!(deployed.record_status(&id).await.as_deref(), Some("failed"));
}

async fn in_the_middle_or_begun(deployed: &Deployed, id: &SnapshotId) {
    until("there is a record", async || {
        deployed.record_status(id).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_fails_tells_why_and_what_to_do() {
    let deployed = Deployed::with_items(10).await;
    let start = ["start", "backup", ABSENT, "--name", "fails", "--watch"];
    let told = deployed.run(&start).await;
    let told = told.failed(1, &["failed: TableNotFound", ABSENT]);
    told.hinted("aws dynamodb list-tables");
    let as_json = [&start[..], &["--json"]].concat();
    let told = deployed.run(&as_json).await;
    let story = told.stderr.lines().last().unwrap();
    let story: Value = serde_json::from_str(story).unwrap();
    assert_eq!(story["error"], "TableNotFound", "{told:#?}");
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));

    // What this machine can tell is told before anything is started.
    let before = deployed.account.calls("StartExecution");
    let refused = ["start", "backup", TABLE, "--read-capacity", "-1"];
    assert_eq!(deployed.run(&refused).await.code, Some(2));
    assert_eq!(deployed.account.calls("StartExecution"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_begins_late_sees_the_rest() {
    let deployed = Deployed::with_items(ITEMS).await;
    slow(&deployed);
    let id = id_of(&deployed.start("late").await);
    in_the_middle(&deployed, &id).await;
    let mut child = deployed.spawn(&["watch", "--json"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("Beginning scan") {
        said.push_str(
            &lines
                .next_line()
                .await
                .unwrap()
                .expect("it says what it watches"),
        );
    }
    assert!(said.contains("execution late: backup "), "{said}");
    deployed.stage.dynamodb_proxy.clear();
    let mut result = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut result)
        .await
        .unwrap();
    assert!(child.wait().await.unwrap().success(), "{said} {result}");
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(id_of(&result), id);
    assert_backed_up(&deployed, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_watching_and_nothing_else() {
    let deployed = Deployed::with_items(ITEMS).await;
    slow(&deployed);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let start = ["start", "backup", TABLE, "--name", "goes-on", "--watch"];
        let mut child = deployed.spawn(&[&start[..], &SMALL].concat());
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("execution goes-on: backup") {
            said.read_line(&mut lines).await.unwrap();
        }
        signal(&child, name).await;
        said.read_to_string(&mut lines).await.unwrap();
        let told = Told {
            stderr: lines,
            ..told(child).await
        };
        let told = told.failed(
            code,
            &["stopped watching", name, "execution goes-on goes on"],
        );
        told.hinted("highwater watch goes-on --stack night");
        told.hinted("highwater stop goes-on --stack night");
        assert_eq!(only_status(&deployed), ExecutionStatus::Running);
    }
    deployed.stage.dynamodb_proxy.clear();
    assert_eq!(ended(&deployed).await, ExecutionStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_it_tells_what_runs() {
    let deployed = Deployed::with_items(ITEMS).await;
    let none = deployed.run(&["watch"]).await.done();
    assert!(
        none.stdout.contains("Nothing runs in stack night"),
        "{none:#?}"
    );
    slow(&deployed);
    let ids = [deployed.start("one").await, deployed.start("two").await].map(|it| id_of(&it));
    let told = deployed.run(&["watch", "--json"]).await.done();
    let listed = told.json();
    let seen: Vec<[&Value; 4]> = listed["executions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            [
                &it["execution"],
                &it["snapshot_id"],
                &it["table"],
                &it["status"],
            ]
        })
        .collect();
    let expected = [
        ["one", ids[0].as_str(), TABLE, "RUNNING"],
        ["two", ids[1].as_str(), TABLE, "RUNNING"],
    ];
    assert_eq!(json!(seen), json!(expected));
    let words = deployed.run(&["watch"]).await.done();
    assert!(
        words
            .stdout
            .contains(&format!("two  backup {} of orders, for", ids[1])),
        "{words:#?}"
    );
    let several = deployed
        .run(&["stop", TABLE])
        .await
        .failed(1, &["2 executions", "one, two"]);
    several.hinted("name one");
    for name in ["one", "two"] {
        deployed.run(&["stop", name]).await.done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_started_and_watched_to_its_end() {
    let deployed = Deployed::with_items(ITEMS).await;
    let backup = ["start", "backup", TABLE, "--watch", "--json"];
    let id = id_of(
        &deployed
            .run(&[&backup[..], &SMALL].concat())
            .await
            .done()
            .json(),
    );
    let start = ["start", "restore", id.as_str(), "--to", TARGET];

    let plan = [&start[..], &["--dry-run", "--json"]].concat();
    let plan = deployed.run(&plan).await.done().json();
    let place = format!("{TO}/{TABLE}/AWSDynamoDB/{id}");
    let input = json!({"backup": place, "to": TARGET, "rejects": format!("{TO}/rejects")});
    assert_eq!(plan["input"], input);
    assert_eq!(deployed.account.all().len(), 1, "nothing was started");

    let told = deployed
        .run(&[&start[..], &["--watch", "--json"]].concat())
        .await
        .done();
    let result = completed(&told);
    assert_eq!(total(&result, "written"), ITEMS);
    assert!(
        told.stderr
            .contains("Beginning restore: table=\"orders-restored\""),
        "{told:#?}"
    );
    assert_restored(&deployed.stage, &KeyShape::STRING.schema()).await;
    let restore = result["restore_id"].as_str().unwrap();
    let again = deployed.run(&["watch", restore, "--json"]).await.done();
    assert_eq!(again.json(), result);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_stopped_goes_on_in_the_stack() {
    let deployed = Deployed::with_items(ITEMS).await;
    let backup = ["start", "backup", TABLE, "--watch", "--json"];
    let id = id_of(
        &deployed
            .run(&[&backup[..], &SMALL].concat())
            .await
            .done()
            .json(),
    );
    let rule = Rule::rate(Fault::Delay(300), 1.0).on("BatchWriteItem");
    deployed.stage.dynamodb_proxy.inject(rule);
    let start = [
        "start",
        "restore",
        id.as_str(),
        "--to",
        TARGET,
        "--name",
        "back",
        "--json",
    ];
    let started = deployed.run(&start).await.done().json();
    let restore = started["restore_id"].as_str().unwrap();
    until("items are written", async || {
        (deployed.stage.dynamodb_proxy.count(Fault::Delay(300)) > 3).then_some(())
    })
    .await;
    let told = deployed.run(&["stop", TARGET, "--json"]).await.done();
    let result = told.json();
    assert_eq!(result["job_status"], "failed", "{told:#?}");
    assert_eq!(result["restore_id"], restore);
    deployed.stage.dynamodb_proxy.clear();
    let resume = ["start", "restore", "--resume", restore, "--watch", "--json"];
    let result = completed(&deployed.run(&resume).await.done());
    assert_eq!(result["restore_id"], restore);
    assert_restored(&deployed.stage, &KeyShape::STRING.schema()).await;
}

/// The same result and the same exit code as of a restore of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn items_that_the_table_does_not_take_are_kept_in_the_stacks_place() {
    let deployed = Deployed::with_items(3).await;
    let line = |size: usize| {
        let item = json!({"pk": {"S": format!("k{size}")}, "x": {"S": "x".repeat(size)}});
        format!("{{\"Item\":{item}}}\n")
    };
    let lines = NewObject {
        key: "daily/lines.json".into(),
        body: [line(7), line(410 << 10)].concat().into(),
        content_type: "application/json",
        ..NewObject::default()
    };
    deployed.stage.bucket().create(lines).await.unwrap();
    let start = [
        "start",
        "restore",
        "s3://backups/daily/lines.json",
        "--to",
        TABLE,
    ];
    let more = ["--into-existing", "--watch"];
    let told = deployed.run(&[&start[..], &more].concat()).await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    let sums = "read 2 = written 1 + skipped 0 + rejected 1";
    assert!(told.stdout.contains(sums), "{told:#?}");
    assert!(told.error().contains("1 items were not taken"), "{told:#?}");
    assert_eq!(only_status(&deployed), ExecutionStatus::Failed);
    let kept = deployed.stage.keys().await;
    let kept: Vec<&String> = kept
        .iter()
        .filter(|key| key.starts_with("daily/rejects/"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

/// Somebody has stopped it in the console: no Catch has run, and nobody has marked anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_elsewhere_is_marked_by_a_stop() {
    let deployed = Deployed::with_items(ITEMS).await;
    slow(&deployed);
    let started = deployed.start("elsewhere").await;
    let id = id_of(&started);
    in_the_middle(&deployed, &id).await;
    let arn = started["execution_arn"].as_str().unwrap();
    deployed.account.stop(arn, "", "").await.unwrap();
    let told = deployed.run(&["watch", "elsewhere"]).await;
    let told = told.failed(1, &[&format!("backup {id} of orders was stopped")]);
    told.hinted("highwater stop elsewhere --stack night");
    assert_eq!(
        deployed.record_status(&id).await.as_deref(),
        Some("running")
    );
    let told = deployed.run(&["stop", id.as_str(), "--json"]).await.done();
    let result = told.json();
    assert_eq!(result["stopped"], false, "{result}");
    assert_eq!(result["status"], "ABORTED");
    assert_eq!(result["job_status"], "failed");
    let metadata = Place::bucket(&deployed.stage, "daily")
        .metadata(TABLE, &id)
        .await;
    assert_eq!(metadata.unwrap().status.as_str(), "failed");
}

/// To a second, from a table by its name; and nothing that a function cannot reach.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_names_nothing_that_is_on_this_machine() {
    let deployed = Deployed::with_items(10).await;
    let at = [
        "start",
        "restore",
        TABLE,
        "--at",
        "-2h",
        "--to",
        TARGET,
        "--dry-run",
        "--json",
    ];
    let input = deployed.run(&at).await.done().json()["input"].clone();
    assert_eq!(
        input,
        json!({"backup": format!("{TO}/{TABLE}"), "at": "-2h", "to": TARGET, "rejects": format!("{TO}/rejects")})
    );
    let restore = ["start", "restore"];
    for more in [
        &["./lines.json", "--to", TARGET][..],
        &["-", "--to", TARGET],
        &["file:///backups/x", "--to", TARGET],
        &[
            "s3://backups/x",
            "--to",
            TARGET,
            "--rejects",
            "file:///tmp/x",
        ],
    ] {
        let told = deployed.run(&[&restore[..], more].concat()).await;
        let told = told.failed(2, &[]);
        assert!(told.error().contains("s3://"), "{told:#?}");
    }
    let words = ["start", "backup", TABLE, "--dry-run"];
    let told = deployed.run(&words).await.done();
    assert!(told.stdout.contains("nothing was started"), "{told:#?}");
    assert!(deployed.account.all().is_empty());
    assert_eq!(deployed.stage.keys().await, [""; 0]);
}

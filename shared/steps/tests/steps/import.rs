//! DynamoDB's own import as the engine: asked once, believed only when the counts agree.

use std::sync::{Arc, Mutex};

use highwater_domain::backup_source::{
    Catalog, FileClaims, LineShape, Packing, SourceFile, SourceKind,
};
use highwater_domain::budget::Budget;
use highwater_domain::control_table::Cas;
use highwater_domain::engine_choice::import_source;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::UnixMillis;
use highwater_domain::import_request::import_request;
use highwater_domain::restore::{Engine, LoadTotals, RestoreRecord, SourceFacts};
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::snapshot::Status;
use highwater_domain::table_plan::TableOverrides;
use highwater_steps::import_table::{self, ImportProgress, foreign_object};
use highwater_steps::load_part::{self, LoadInput};
use highwater_steps::{Observer, RestoreDeps, StepError, apply_settings};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::object;
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::intercepted::Intercepted;
use serde_json::json;

use crate::settings::{Account, on_demand, plan};

const DATA: &str = "backups/orders/AWSDynamoDB/01768385930622-efd1a093/data/";

/// Two files of three items each.
fn catalog(account: &Account) -> Catalog {
    let files = ["a.json", "b.json"].map(|name| {
        let item = |n| format!("{{\"Item\":{{\"id\":{{\"S\":\"{name}{n}\"}}}}}}\n");
        let lines = [item(0), item(1), item(2)].concat();
        account
            .store
            .plant(object(&format!("{DATA}{name}"), &lines));
        SourceFile {
            object: format!("{DATA}{name}"),
            stored_bytes: lines.len() as u64,
            packing: Packing::None,
            shape: LineShape::Item,
            claims: FileClaims::default(),
        }
    });
    Catalog {
        url: "s3://fake-bucket/backups/orders/AWSDynamoDB/01768385930622-efd1a093".into(),
        kind: SourceKind::Highwater,
        table_name: Some("orders".into()),
        status: Some(Status::Completed),
        items: Some(6),
        plain_bytes: None,
        key_schema: None,
        settings: None,
        files: files.to_vec(),
        unchecked: Vec::new(),
    }
}

/// An account with a planned import of `items` items.
async fn planned(items: u64) -> Account {
    let account = on_demand().await;
    let catalog = catalog(&account);
    let source = import_source(&catalog).unwrap();
    let plan = plan(&account.source, TableOverrides::default()).into_import(source);
    let record = account.record(plan).await;
    let id = record.id.clone();
    let known = account.control.restore(&id).await.unwrap().unwrap();
    let record = RestoreRecord {
        engine: Engine::ImportTable,
        source: SourceFacts {
            items: Some(items),
            ..record.source.clone()
        },
        ..record
    };
    account
        .control
        .update_restore(known.version, &record)
        .await
        .unwrap();
    account
}

/// Asks until the import has ended.
async fn import(account: &Account, deps: &RestoreDeps) -> Result<ImportProgress, StepError> {
    loop {
        let progress =
            import_table::run(deps, &account.recorded().await, Budget::UNLIMITED).await?;
        if progress.done {
            return Ok(progress);
        }
        assert!(progress.wait_seconds >= 5);
    }
}

async fn failed(account: &Account) -> String {
    match import(account, &account.deps).await {
        Err(StepError::ImportFailed { table, reason }) => {
            assert_eq!(table, "orders-2");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_makes_fills_and_sets_up_the_table() {
    let account = planned(6).await;
    let progress = import(&account, &account.deps).await.unwrap();
    assert_eq!((progress.totals.read, progress.totals.written), (6, 6));
    assert!(progress.totals.is_balanced() && progress.totals.plain_bytes > 0);
    let record = account.recorded().await;
    assert_eq!(record.totals, progress.totals);
    assert_eq!(
        record.import_arn.as_deref(),
        Some(progress.import_arn.as_str())
    );
    let applied = apply_settings::run(&account.deps, &record, Budget::UNLIMITED)
        .await
        .unwrap();
    assert!(applied.done && applied.refused.is_empty(), "{applied:?}");
    account.assert_restored().await;
    assert_eq!(account.admin.table("orders-2").unwrap().items().len(), 6);
    let requests: Vec<_> = account.importer.requests().into_values().collect();
    let request = import_request(&record).unwrap();
    assert_eq!(requests, std::slice::from_ref(&request));
    assert_eq!(request["ClientToken"], "01768385930622-efd1a093");
    assert_eq!(
        request["S3BucketSource"],
        json!({"S3Bucket": "fake-bucket", "S3KeyPrefix": DATA})
    );
    assert_eq!(
        (&request["InputFormat"], &request["InputCompressionType"]),
        (&json!("DYNAMODB_JSON"), &json!("NONE"))
    );
}

/// What the steps told of items.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<LoadTotals>>);

impl Observer for Heard {
    fn loaded(&self, _file: u32, more: &LoadTotals) {
        self.0.lock().unwrap().push(*more);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_imported_is_told_once_it_is_known() {
    let account = planned(6).await;
    let heard = Arc::new(Heard::default());
    let deps = RestoreDeps {
        observer: heard.clone(),
        ..account.deps.clone()
    };
    let id = account.recorded().await.id;
    let known = account.control.restore(&id).await.unwrap().unwrap();
    let running = RestoreRecord {
        status: Status::Running,
        replica: None,
        ..known.value
    };
    let restores = &account.control;
    let update = restores.update_restore(known.version, &running).await;
    assert!(matches!(update, Ok(Cas::Applied(_))), "{update:?}");
    let input = LoadInput {
        restore_id: id,
        file: 0,
    };
    loop {
        let output = load_part::run(&deps, &input, Budget::UNLIMITED).await;
        if output.unwrap().done {
            break;
        }
        assert_eq!(heard.0.lock().unwrap().len(), 0);
    }
    let told = heard.0.lock().unwrap().clone();
    assert_eq!(told, [account.recorded().await.totals]);
    assert_eq!(told[0].written, 6);
}

#[tokio::test(start_paused = true)]
async fn completed_is_not_believed_when_the_count_differs() {
    let account = planned(7).await;
    let reason = failed(&account).await;
    assert!(
        reason.starts_with("it is completed, with 6 of 7 items imported and 0 errors"),
        "{reason}"
    );
    assert_eq!(account.recorded().await.target_table_id, None);
    assert_eq!(
        failed(&account).await,
        reason,
        "asked again, it says the same"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_prefix_completes_and_is_not_believed() {
    let account = planned(6).await;
    for key in account.store.keys() {
        account.store.lose(&key);
    }
    let reason = failed(&account).await;
    assert!(
        reason.starts_with("it is completed, with 0 of 6 items"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_no_item_fails_the_import_by_name() {
    let account = planned(6).await;
    account
        .store
        .tamper(&format!("{DATA}b.json"), |body| body[0] = b'?');
    let reason = failed(&account).await;
    assert!(
        reason.starts_with(
            "it is failed, with 3 of 6 items imported and 1 errors (ItemValidationError"
        ),
        "{reason}"
    );
    assert!(
        reason.contains("log-group:/aws-dynamodb/imports"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_count_even_where_the_number_of_items_is_right() {
    let account = planned(6).await;
    let more = object(&format!("{DATA}c.json"), "no item\n");
    account.store.plant(more);
    let reason = failed(&account).await;
    assert!(
        reason.contains("6 of 6 items imported and 1 errors"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_there_is_not_imported_into() {
    let account = planned(6).await;
    account
        .admin
        .add(&Arc::new(FakeTable::new("orders-2", string_key("id"), 5)));
    let error = import(&account, &account.deps).await.unwrap_err();
    assert!(matches!(error, StepError::TableExists(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_leaves_one_import_that_the_next_run_finds() {
    for moment in [Moment::Before, Moment::After] {
        for nth in 1.. {
            let account = planned(6).await;
            let crash = Arc::new(Failing::crash(nth, moment));
            let deps = RestoreDeps {
                describer: Arc::new(Intercepted::new(&account.admin, &crash)),
                importer: Arc::new(Intercepted::new(&account.importer, &crash)),
                restores: Arc::new(Intercepted::new(&account.control, &crash)),
                ..account.deps.clone()
            };
            let first = import(&account, &deps).await;
            if !crash.has_struck() {
                assert!(nth > 6, "{nth} calls are too few to be true");
                break;
            }
            assert!(first.is_err(), "call {nth}");
            let progress = import(&account, &account.deps).await;
            let progress =
                progress.unwrap_or_else(|error| panic!("call {nth} {moment:?}: {error}"));
            assert_eq!(progress.totals.written, 6);
            assert_eq!(
                account.importer.requests().len(),
                1,
                "call {nth} {moment:?}"
            );
            assert_eq!(account.recorded().await.totals.written, 6);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_begin_a_second_import() {
    let account = planned(6).await;
    let lost = Arc::new(Failing::once(1, Moment::After, FailureKind::Transient));
    let deps = RestoreDeps {
        importer: Arc::new(Intercepted::new(&account.importer, &lost)),
        ..account.deps.clone()
    };
    import(&account, &deps).await.unwrap();
    assert!(lost.has_struck());
    assert_eq!(account.importer.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_longer_an_import_takes_the_longer_the_waits() {
    let account = planned(6).await;
    let mut record = account.recorded().await;
    let now = account.deps.clock.now();
    for (elapsed_s, wait_s) in [(0, 5), (200, 20), (10_000, 60)] {
        record.started_at = UnixMillis(now.0 - elapsed_s * 1000);
        record.import_arn = None;
        let account = planned(6).await;
        let progress = import_table::run(&account.deps, &record, Budget::UNLIMITED)
            .await
            .unwrap();
        assert_eq!(progress.wait_seconds, wait_s);
    }
}

#[tokio::test]
async fn an_object_that_is_not_the_backups_is_found_on_any_page() {
    let account = on_demand().await;
    let catalog = catalog(&account);
    let source = import_source(&catalog).unwrap();
    let look = async || {
        foreign_object(account.store.as_ref(), &catalog, &source)
            .await
            .unwrap()
    };
    account.store.plant(object(DATA, ""));
    account.store.plant(object(
        "backups/orders/AWSDynamoDB/01768385930622-efd1a093/manifest-files.json",
        "x",
    ));
    assert_eq!(
        look().await,
        None,
        "empty objects and those beside the prefix do no harm"
    );
    for name in ["c.json", "d.json", "z/deep.json"] {
        account.store.plant(object(&format!("{DATA}{name}"), ""));
    }
    assert_eq!(look().await, None);
    account
        .store
        .plant(object(&format!("{DATA}z/deep.json"), "x"));
    assert_eq!(
        look().await,
        Some(format!("s3://fake-bucket/{DATA}z/deep.json"))
    );
}

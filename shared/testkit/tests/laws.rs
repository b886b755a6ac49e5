//! The fakes and the directory store keep the laws of their ports.

use std::sync::Arc;

use highwater_domain::control_table::ControlTable;
use highwater_domain::failure::FailureKind;
use highwater_domain::fence_tables::FenceTables as _;
use highwater_domain::fenced_writer::{Fence, FencedTable};
use highwater_domain::key::ScalarType;
use highwater_domain::live_control::LiveControl;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::table::TableDescriber;
use highwater_domain::table_admin::TableAdmin;
use highwater_domain::table_writer::{TableWriter, WriteOp};
use highwater_local::DirectoryStore;
use highwater_testkit::conformance::{
    control_table, fence_tables, fenced_writer, item_reader, live_control, object_store,
    replica_control, restore_control, table_admin, table_scanner, table_writer,
};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_live_control::FakeLiveControl;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::intercepted::Intercepted;

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_store_keeps_the_laws() {
    for page in [1, 3, 1000] {
        let store: Arc<dyn ObjectStore> = Arc::new(FakeStore::new().with_page(page));
        object_store::every_law(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    // The store makes its folder by itself.
    let root = folder.path().join("back ups/é");
    let store: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::new(&root));
    object_store::every_law(&store).await;
    let leftovers = std::fs::read_dir(root.join(".highwater-tmp")).unwrap();
    assert_eq!(leftovers.count(), 0, "temporary files are gone");
}

#[tokio::test]
#[should_panic(expected = "left: Created")]
async fn a_store_that_ignores_conditions_is_caught() {
    let store = FakeStore::ignoring_conditions();
    object_store::a_create_changes_nothing_that_is_there(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "were all told")]
async fn a_store_with_two_winners_is_caught() {
    let store: Arc<dyn ObjectStore> = Arc::new(FakeStore::ignoring_conditions());
    object_store::of_sixteen_concurrent_creates_one_wins(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_control_table_keeps_the_laws() {
    let table: Arc<dyn ControlTable> = Arc::new(FakeControl::new());
    control_table::every_law(&table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_control_table_keeps_the_laws_of_restores() {
    let fake = Arc::new(FakeControl::new());
    let table: Arc<dyn RestoreControl> = fake.clone();
    restore_control::every_law(&table).await;
    assert!(!fake.is_empty(), "restores are rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_marks_keep_the_laws() {
    let table: Arc<dyn LiveControl> = Arc::new(FakeLiveControl::new());
    live_control::every_law(&table).await;
}

#[tokio::test]
async fn user_metadata_is_kept_by_the_fake_and_not_by_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeStore::new();
    let directory = DirectoryStore::new(folder.path());
    let stores: [(&dyn ObjectStore, usize); 2] = [(&fake, 1), (&directory, 0)];
    for (store, kept) in stores {
        let object = NewObject {
            key: "a".to_owned(),
            user_metadata: [("name".to_owned(), "value".to_owned())].into(),
            ..NewObject::default()
        };
        store.create(object).await.unwrap();
        let found = object_store::user_metadata(store, "a").await;
        assert_eq!(found.len(), kept, "{store:?}");
    }
}

#[tokio::test]
async fn the_fake_table_keeps_the_laws() {
    for seed in 0..20 {
        let table = FakeTable::with_numbered_items("orders", 100, seed);
        let known = table_scanner::KnownTable {
            name: "orders".to_owned(),
            schema: string_key("id"),
            keys: table.items().into_keys().collect(),
        };
        table_scanner::every_law(&table, &known).await;
    }
}

#[tokio::test]
#[should_panic(expected = "1 segments")]
async fn a_scanner_that_loses_an_item_is_caught() {
    let table = FakeTable::with_numbered_items("orders", 100, 1);
    let keys = table.items().into_keys().collect();
    let lost = table.keys_of_segment(0, 1)[57].clone();
    table.delete(&lost);
    let known = table_scanner::KnownTable {
        name: "orders".to_owned(),
        schema: string_key("id"),
        keys,
    };
    table_scanner::every_law(&table, &known).await;
}

#[tokio::test]
async fn the_fake_table_is_written_by_the_laws() {
    for (seed, unprocessed) in [(1, 0), (2, 30), (3, 80)] {
        let table =
            FakeTable::new("orders", table_writer::schema(), seed).with_unprocessed(unprocessed);
        table_writer::every_law(table_writer::WritableTable {
            writer: &table,
            scanner: &table,
            name: "orders",
        })
        .await;
        assert!(table.writes().values().all(|writes| *writes > 0));
    }
}

#[tokio::test]
async fn the_fake_account_keeps_the_laws() {
    let account = FakeAdmin::new();
    table_admin::every_law(table_admin::Account {
        admin: &account,
        describer: &account,
    })
    .await;
}

#[tokio::test]
async fn a_table_takes_items_only_when_it_is_made() {
    let account = FakeAdmin::new();
    let request = table_writer::create_request("orders");
    account.create_table(&request).await.unwrap();
    let table = table_writer::WritableTable {
        writer: &account,
        scanner: &account,
        name: "orders",
    };
    let ops = [WriteOp::Put(
        br#"{"pk":{"B":"AA=="},"sk":{"N":"1"}}"#.as_slice().into(),
    )];
    let early = account.write_batch("orders", &ops).await.unwrap_err();
    assert_eq!(early.kind, FailureKind::NotFound);
    for status in ["CREATING", "CREATING", "ACTIVE"] {
        let settings = account.describe("orders").await.unwrap();
        assert_eq!(settings.status(), Ok(status));
    }
    table_writer::every_law(table).await;
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_what_was_acknowledged() {
    for moment in [Moment::Before, Moment::After] {
        let table = Arc::new(FakeTable::new("orders", string_key("id"), 1));
        let crash = Arc::new(Failing::crash(2, moment));
        let writer = Intercepted::new(&table, &crash);
        let mut acknowledged = 0;
        for n in 0..3 {
            let item = format!(r#"{{"id":{{"S":"{n}"}}}}"#);
            let ops = [WriteOp::Put(item.into())];
            acknowledged += usize::from(writer.write_batch("orders", &ops).await.is_ok());
        }
        assert_eq!(acknowledged, 1);
        let lost_answer = usize::from(moment == Moment::After);
        assert_eq!(table.items().len(), acknowledged + lost_answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_control_table_keeps_the_laws_of_replicas() {
    let fake = Arc::new(FakeControl::new());
    let table: Arc<dyn ReplicaControl> = fake.clone();
    replica_control::every_law(&table).await;
    assert!(!fake.is_empty(), "replicas are rows");
}

/// A table that is written behind fences, with an index of the laws' attribute.
fn fenced_account() -> Arc<FakeAdmin> {
    let table = FakeTable::new("copy", string_key("id"), 1);
    let table = table.with_index_key(fenced_writer::INDEXED, ScalarType::N);
    let account = FakeAdmin::new();
    account.add(&Arc::new(table));
    Arc::new(account)
}

#[tokio::test]
async fn the_fake_account_keeps_the_laws_of_fences() {
    for fence in [Fence::Table("fences"), Fence::Attribute("order")] {
        let account = fenced_account();
        account.claim("fences", "somebody").await.unwrap();
        fenced_writer::every_law(fenced_writer::Fenced {
            writer: &*account,
            scanner: &*account,
            table: FencedTable {
                target: "copy",
                fence,
            },
        })
        .await;
    }
}

#[tokio::test]
#[should_panic(expected = "again")]
async fn an_account_that_ignores_fences_is_caught() {
    let account = Arc::new(
        FakeAdmin::new()
            .making(|name, schema| FakeTable::new(name, schema, 1))
            .ignoring_fences(),
    );
    account.add(&Arc::new(FakeTable::new("copy", string_key("id"), 1)));
    account.claim("fences", "somebody").await.unwrap();
    fenced_writer::the_latest_write_stands(fenced_writer::Fenced {
        writer: &*account,
        scanner: &*account,
        table: FencedTable {
            target: "copy",
            fence: Fence::Table("fences"),
        },
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_account_keeps_the_laws_of_tables_of_fences() {
    let account = fenced_account();
    fence_tables::every_law(&fence_tables::FencedAccount {
        tables: account.clone(),
        writer: account,
        target: "copy".into(),
    })
    .await;
}

#[tokio::test]
async fn the_fake_account_keeps_the_laws_of_single_items() {
    let account = fenced_account();
    item_reader::every_law(item_reader::Readable {
        reader: &*account,
        writer: &*account,
        table: "copy",
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "Moved")]
async fn an_account_that_repairs_at_any_order_is_caught() {
    let account = FakeAdmin::new().ignoring_fences();
    account.add(&Arc::new(FakeTable::new("copy", string_key("id"), 1)));
    account.claim("fences", "somebody").await.unwrap();
    fenced_writer::a_repair_is_done_at_its_order_only(fenced_writer::Fenced {
        writer: &account,
        scanner: &account,
        table: FencedTable {
            target: "copy",
            fence: Fence::Table("fences"),
        },
    })
    .await;
}

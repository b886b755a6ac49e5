//! The fakes and the directory store keep the laws of their ports.

use std::sync::Arc;

use highwater_domain::control_table::ControlTable;
use highwater_domain::object_store::ObjectStore;
use highwater_local::DirectoryStore;
use highwater_testkit::conformance::{control_table, object_store, table_scanner};
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::{FakeTable, string_key};

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

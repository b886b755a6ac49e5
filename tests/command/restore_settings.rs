//! A restored table is set up as the one that was backed up; every setting that differs is told.

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::key::ScalarType;
use highwater_domain::table::{TableDescriber as _, TableSettings};
use highwater_domain::table_settings_diff::settings_differences;
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::tables::NewTable;
use serde_json::Value;

use super::restores::backed_up;
use super::restoring::{TARGET, done, restore, total};
use super::stage::{Stage, TABLE, TO};

const SHAPE: KeyShape = KeyShape {
    partition: ScalarType::B,
    sort: Some(ScalarType::S),
};
const ITEMS: u64 = 80;

/// A table with everything that the engine knows.
fn furnished(name: &str, shape: KeyShape) -> NewTable {
    plain(name, shape)
        .with_global_index()
        .with_local_index()
        .with_stream()
        .with_ttl("expires")
}

fn plain(name: &str, shape: KeyShape) -> NewTable {
    NewTable::new(name, shape)
        .with_tag("team", "orders")
        .with_tag("cost centre", "\u{e9}/42")
        .provisioned(40, 20)
}

async fn stage() -> (Stage, String) {
    let stage = Stage::start().await;
    furnished(TABLE, SHAPE).create(&stage.direct).await.unwrap();
    let items = Generator::new(5, SHAPE).with_big_every(0).items(ITEMS);
    stage
        .dynamodb
        .import(TABLE, items.map(|item| item.json()).collect())
        .await
        .unwrap();
    let backup = backed_up(&stage, TO).await;
    (stage, backup)
}

/// What DynamoDB says of a table, around the proxies.
async fn settings(stage: &Stage, table: &str) -> TableSettings {
    let connection = ConnectionSettings {
        region: Some("eu-north-1".to_owned()),
        endpoint_url: Some(stage.dynamodb.endpoint_url().to_owned()),
        ..ConnectionSettings::default()
    };
    let clients = Clients::connect(&connection).await.unwrap();
    clients.table_describer().describe(table).await.unwrap()
}

async fn differences(stage: &Stage, table: &str) -> Vec<String> {
    let (source, restored) = (settings(stage, TABLE).await, settings(stage, table).await);
    let found = settings_differences(&source, &restored);
    found
        .into_iter()
        .map(|difference| difference.setting)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_table_has_every_setting_of_the_one_that_was_backed_up() {
    let (stage, backup) = stage().await;
    let result = done(&stage, &restore(&backup, &[])).await;
    assert_eq!(total(&result, "written"), ITEMS);
    // What nobody could read is named: the engine has no recovery to describe, and no table tells of auto scaling.
    let left_out = result["not_restored"].as_array().unwrap().iter();
    let left_out: Vec<&Value> = left_out.map(|it| &it["setting"]).collect();
    assert_eq!(left_out, ["auto scaling", "point-in-time recovery"]);
    assert_eq!(differences(&stage, TARGET).await, [""; 0]);
    let restored = settings(&stage, TARGET).await;
    // Not only alike, but there: our own look, without the comparison.
    let table = &restored.table;
    assert_eq!(
        table["GlobalSecondaryIndexes"][0]["IndexName"],
        "by-gsi-key"
    );
    assert_eq!(table["LocalSecondaryIndexes"][0]["IndexName"], "by-lsi-key");
    assert_eq!(table["ProvisionedThroughput"]["ReadCapacityUnits"], 40);
    assert_eq!(table["ProvisionedThroughput"]["WriteCapacityUnits"], 20);
    assert_eq!(
        table["StreamSpecification"]["StreamViewType"],
        "NEW_AND_OLD_IMAGES"
    );
    assert_eq!(restored.time_to_live.unwrap()["AttributeName"], "expires");
    let mut tags = restored.tags.unwrap().as_array().unwrap().clone();
    tags.sort_by_key(|tag| tag["Key"].to_string());
    let tags: Vec<_> = tags
        .iter()
        .map(|tag| (tag["Key"].as_str().unwrap(), tag["Value"].as_str().unwrap()))
        .collect();
    assert_eq!(
        tags,
        [("cost centre", "\u{e9}/42"), ("team", "orders")],
        "and no mark of ours"
    );
}

/// Tables that differ from the furnished one in one setting, and the names under which that must be told.
fn tables_that_differ() -> [(NewTable, &'static [&'static str]); 8] {
    let other_key = KeyShape {
        sort: Some(ScalarType::N),
        ..SHAPE
    };
    let plain = || plain("table-that-differs", SHAPE);
    let furnished = |shape| furnished("table-that-differs", shape);
    let throughput: &[&str] = &[
        "ProvisionedThroughput",
        "GlobalSecondaryIndexes/by-gsi-key/ProvisionedThroughput",
    ];
    [
        (furnished(SHAPE), &[]),
        (
            plain().with_local_index().with_stream().with_ttl("expires"),
            &["GlobalSecondaryIndexes/by-gsi-key"],
        ),
        (
            plain()
                .with_global_index()
                .with_stream()
                .with_ttl("expires"),
            &["LocalSecondaryIndexes/by-lsi-key"],
        ),
        (
            plain()
                .with_global_index()
                .with_local_index()
                .with_ttl("expires"),
            &["StreamSpecification"],
        ),
        (
            plain().with_global_index().with_local_index().with_stream(),
            &["TimeToLive"],
        ),
        (furnished(SHAPE).with_tag("more", "x"), &["Tags/more"]),
        (furnished(SHAPE).provisioned(40, 21), throughput),
        (furnished(other_key), &["AttributeDefinitions/sk"]),
    ]
}

/// The comparison above means something: a table that differs in one setting is told, in that one.
#[tokio::test(flavor = "multi_thread")]
async fn each_setting_that_differs_is_named() {
    let (stage, _) = stage().await;
    for (table, expected) in tables_that_differ() {
        table.create(&stage.direct).await.unwrap();
        let found = differences(&stage, "table-that-differs").await;
        // An index that is missing takes the type of its attribute with it.
        let named = |setting: &&String| expected.iter().any(|name| setting.starts_with(name));
        let mut others = found.iter().filter(|setting| !named(setting));
        let unexpected = others.find(|setting| !setting.starts_with("AttributeDefinitions/"));
        assert_eq!(unexpected, None, "{expected:?}: {found:?}");
        for name in expected {
            let told = found.iter().any(|setting| setting.starts_with(name));
            assert!(told, "{name} is not in {found:?}");
        }
        assert_eq!(
            found.is_empty(),
            expected.is_empty(),
            "{expected:?}: {found:?}"
        );
        let gone = stage.direct.delete_table().table_name("table-that-differs");
        gone.send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_differ_where_that_was_asked_for_and_nowhere_else() {
    let (stage, backup) = stage().await;
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("no-ttl", &["--no-ttl"], &["TimeToLive"]),
        (
            "on-demand",
            &["--billing", "on-demand"],
            &[
                "BillingMode",
                "GlobalSecondaryIndexes/by-gsi-key/ProvisionedThroughput",
                "ProvisionedThroughput",
            ],
        ),
        (
            "stream-first",
            &["--stream-first", "--deletion-protection", "on"],
            &["DeletionProtectionEnabled"],
        ),
        // Raised for the load, and put back. The engine takes the change of an index's capacity and does not make it.
        (
            "raised",
            &["--load-write-capacity", "4000"],
            &["GlobalSecondaryIndexes/by-gsi-key/ProvisionedThroughput"],
        ),
    ];
    for (target, flags, expected) in cases {
        let begin = ["restore", &backup, "--from", TO, "--to", target];
        let result = done(&stage, &[&begin[..], flags].concat()).await;
        assert_eq!(total(&result, "written"), ITEMS);
        assert_eq!(differences(&stage, target).await, expected, "{flags:?}");
    }
}

/// An existing table keeps its own settings, whatever the backup's were.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_table_keeps_its_settings() {
    let (stage, backup) = stage().await;
    NewTable::new(TARGET, SHAPE)
        .with_ttl("gone")
        .create(&stage.direct)
        .await
        .unwrap();
    let before = settings(&stage, TARGET).await;
    let result = done(&stage, &restore(&backup, &["--into-existing"])).await;
    assert_eq!(total(&result, "written"), ITEMS);
    assert_eq!(
        settings_differences(&before, &settings(&stage, TARGET).await),
        []
    );
    // Settings for a new table make no sense here.
    let told = stage
        .run(&restore(&backup, &["--into-existing", "--no-ttl"]))
        .await;
    told.failed(2, &["settings", "new table"]);
}

/// DynamoDB's own import makes no local indexes: asked for it, the command says so before anything is made.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_would_lose_a_local_index_is_refused() {
    let (stage, backup) = stage().await;
    let before = (stage.tables().await, stage.control_rows().await);
    let told = stage
        .run(&restore(&backup, &["--engine", "import-table"]))
        .await;
    told.failed(2, &["local secondary index"]);
    assert_eq!((stage.tables().await, stage.control_rows().await), before);
}

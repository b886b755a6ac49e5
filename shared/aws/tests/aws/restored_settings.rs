//! A table of the embedded DynamoDB, described, made again under another name, and described again.

use std::sync::Arc;

use highwater_aws::Clients;
use highwater_domain::ids::TableRef;
use highwater_domain::key::ScalarType;
use highwater_domain::object_store::Creation;
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_domain::table_admin::TableAdmin;
use highwater_domain::table_plan::{TableOverrides, TablePlan, TargetPlace};
use highwater_domain::table_settings_diff::settings_differences;
use highwater_local::EmbeddedDynamoDb;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::tables::{NewTable, until_active};

use crate::loopback::clients;

/// Makes `copy` as `source` is, in the order of the plan. Gives the copy's settings.
async fn copied(clients: &Clients, source: &TableSettings, copy: &str) -> TableSettings {
    let target: TableRef = copy.parse().unwrap();
    let arn = source.arn().unwrap().to_owned();
    let mut arn = arn.split(':').skip(3);
    let place = TargetPlace {
        region: arn.next().unwrap().to_owned(),
        account: arn.next().map(str::to_owned),
    };
    let plan = TablePlan::of(source, &target, &place, &TableOverrides::default()).unwrap();
    let (admin, describer) = (clients.table_admin(), clients.table_describer());
    let create = plan.create.unwrap();
    assert_eq!(
        admin.create_table(&create).await.unwrap(),
        Creation::Created
    );
    assert_eq!(admin.create_table(&create).await.unwrap(), Creation::Exists);
    until_active(&clients.dynamodb(), copy).await.unwrap();
    // Twice: a step that broke off goes through the list again.
    for _ in 0..2 {
        for change in &plan.after_load {
            let made = describer.describe(copy).await.unwrap();
            admin
                .change(&change.addressed_to(made.arn().unwrap()))
                .await
                .unwrap();
            until_active(&clients.dynamodb(), copy).await.unwrap();
        }
    }
    describer.describe(copy).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_again_from_its_description_is_set_up_alike() {
    let engine = EmbeddedDynamoDb::start().await.unwrap();
    let clients = Arc::new(clients(engine.endpoint_url()).await);
    let shape = KeyShape {
        partition: ScalarType::B,
        sort: Some(ScalarType::N),
    };
    let tables = [
        NewTable::new("plain", KeyShape::STRING),
        NewTable::new("everything", shape)
            .with_global_index()
            .with_local_index()
            .with_stream()
            .with_ttl("expires")
            .with_tag("team", "sales")
            .with_tag("empty", ""),
        NewTable::new("provisioned", shape)
            .with_global_index()
            .provisioned(7, 9),
    ];
    for (table, name) in tables.iter().zip(["plain", "everything", "provisioned"]) {
        table.create(&clients.dynamodb()).await.unwrap();
        let source = clients.table_describer().describe(name).await.unwrap();
        let restored = copied(&clients, &source, &format!("{name}-2")).await;
        assert_eq!(settings_differences(&source, &restored), [], "{name}");
        assert_ne!(source.table_id(), restored.table_id());
    }
}

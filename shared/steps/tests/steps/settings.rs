//! A restored table is made once, by its own restore, and set up as the one that was backed up.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_domain::budget::{Budget, Clock};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::layout::Destination;
use highwater_domain::object_store::{Creation, ObjectStore, Stores};
use highwater_domain::restore::{Engine, RestoreRecord};
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_domain::table_admin::{ChangeCall, TableAdmin, TableChange};
use highwater_domain::table_plan::{RESTORE_TAG, TableOverrides, TablePlan, TargetPlace};
use highwater_domain::table_settings_diff::settings_differences;
use highwater_steps::apply_settings::{self, Applied};
use highwater_steps::deps::Unobserved;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::{RestoreDeps, StepError, StopFlag, create_table};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_importer::FakeImporter;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::intercepted::{Intercepted, Interceptor};
use highwater_testkit::sample_restores::restore_record;
use serde_json::{Value, json};

use crate::stage::{Stage, TokioClock};

const ID: &str = "01768385930622-efd1a093";

#[derive(Debug)]
struct OneStore(Arc<FakeStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

/// An account with the table `orders`, and a restore of it into `orders-2`.
pub struct Account {
    pub admin: Arc<FakeAdmin>,
    pub store: Arc<FakeStore>,
    pub importer: Arc<FakeImporter>,
    pub control: Arc<FakeControl>,
    pub source: TableSettings,
    pub deps: RestoreDeps,
}

impl Account {
    pub async fn with(create: &Value, changes: &[(ChangeCall, Value)]) -> Self {
        let admin = Arc::new(FakeAdmin::new());
        admin.create_table(create).await.unwrap();
        let arn = active(&admin, "orders").await.arn().unwrap().to_owned();
        for (call, request) in changes {
            let change = TableChange {
                what: "a setting of the source".into(),
                call: *call,
                request: request.clone(),
            };
            admin.change(&change.addressed_to(&arn)).await.unwrap();
            active(&admin, "orders").await;
        }
        let source = active(&admin, "orders").await;
        let store = Arc::new(FakeStore::new());
        let importer = Arc::new(FakeImporter::new(store.clone(), admin.clone()));
        let control = Arc::new(FakeControl::new());
        let clock: Arc<dyn Clock> = TokioClock::start();
        let deps = RestoreDeps {
            writer: admin.clone(),
            admin: admin.clone(),
            importer: importer.clone(),
            describer: admin.clone(),
            place: place(),
            own_table: None,
            own_endpoint: false,
            stores: Arc::new(OneStore(store.clone())),
            restores: control.clone(),
            replicas: control.clone(),
            elsewhere: None,
            snapshots: Stage::of_items(0).deps.snapshots,
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            clock,
            max_retries: None,
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        };
        Self {
            admin,
            store,
            importer,
            control,
            source,
            deps,
        }
    }

    /// The record of a restore by this plan, in the control table.
    pub async fn record(&self, plan: TablePlan) -> RestoreRecord {
        let record = RestoreRecord {
            target: "orders-2".parse().unwrap(),
            target_table_id: None,
            table_plan: plan,
            engine: Engine::Write,
            import_arn: None,
            started_at: self.deps.clock.now(),
            ..restore_record(&ID.parse().unwrap())
        };
        self.control.create_restore(&record).await.unwrap();
        record
    }

    pub async fn planned(&self, overrides: TableOverrides) -> RestoreRecord {
        self.record(plan(&self.source, overrides)).await
    }

    pub async fn recorded(&self) -> RestoreRecord {
        let record = self.control.restore(&ID.parse().unwrap()).await.unwrap();
        record.unwrap().value
    }

    /// Makes the table and its settings, as two steps do that share only the control table.
    async fn restore(&self, deps: &RestoreDeps) -> Result<Applied, StepError> {
        create_table::run(deps, &self.recorded().await, Budget::UNLIMITED).await?;
        apply_settings::run(deps, &self.recorded().await, Budget::UNLIMITED).await
    }

    /// The same account through ports that fail.
    fn through<I: Interceptor + 'static>(&self, interceptor: &Arc<I>) -> RestoreDeps {
        RestoreDeps {
            admin: Arc::new(Intercepted::new(&self.admin, interceptor)),
            describer: Arc::new(Intercepted::new(&self.admin, interceptor)),
            importer: Arc::new(Intercepted::new(&self.importer, interceptor)),
            restores: Arc::new(Intercepted::new(&self.control, interceptor)),
            ..self.deps.clone()
        }
    }

    pub async fn assert_restored(&self) {
        let restored = active(&self.admin, "orders-2").await;
        assert_eq!(settings_differences(&self.source, &restored), []);
        assert_eq!(marker(&restored), None, "the marker is gone");
        let id = self.recorded().await.target_table_id;
        assert_eq!(id.as_deref(), restored.table_id());
    }
}

pub fn place() -> TargetPlace {
    TargetPlace {
        region: "eu-north-1".into(),
        account: Some("123456789012".into()),
    }
}

pub fn plan(source: &TableSettings, overrides: TableOverrides) -> TablePlan {
    TablePlan::of(source, &"orders-2".parse().unwrap(), &place(), &overrides).unwrap()
}

async fn active(admin: &FakeAdmin, table: &str) -> TableSettings {
    loop {
        let settings = admin.describe(table).await.unwrap();
        if settings.status() == Ok("ACTIVE") {
            return settings;
        }
    }
}

fn marker(settings: &TableSettings) -> Option<String> {
    let tags = settings.tags.as_ref().unwrap().as_array().unwrap();
    let marker = tags.iter().find(|tag| tag["Key"] == RESTORE_TAG)?;
    Some(marker["Value"].as_str().unwrap().to_owned())
}

fn key(name: &str, role: &str) -> Value {
    json!({"AttributeName": name, "KeyType": role})
}

fn rich_changes() -> Vec<(ChangeCall, Value)> {
    vec![
        (
            ChangeCall::UpdateTimeToLive,
            json!({"TableName": "orders", "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": true}}),
        ),
        (
            ChangeCall::UpdateContinuousBackups,
            json!({"TableName": "orders", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 9}}),
        ),
    ]
}

fn rich_create() -> Value {
    let units = json!({"ReadCapacityUnits": 3, "WriteCapacityUnits": 4});
    json!({
        "TableName": "orders",
        "KeySchema": [key("id", "HASH"), key("at", "RANGE")],
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
            {"AttributeName": "customer", "AttributeType": "S"},
            {"AttributeName": "date", "AttributeType": "B"}
        ],
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": units,
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-customer",
            "KeySchema": [key("customer", "HASH")],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["total"]},
            "ProvisionedThroughput": units
        }],
        "LocalSecondaryIndexes": [{
            "IndexName": "by-date",
            "KeySchema": [key("id", "HASH"), key("date", "RANGE")],
            "Projection": {"ProjectionType": "ALL"}
        }],
        "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        "SSESpecification": {"Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": "7"},
        "TableClass": "STANDARD_INFREQUENT_ACCESS",
        "DeletionProtectionEnabled": true,
        "Tags": [{"Key": "team", "Value": "sales"}, {"Key": "empty", "Value": ""}]
    })
}

/// A provisioned table with everything.
async fn rich() -> Account {
    Account::with(&rich_create(), &rich_changes()).await
}

/// An on-demand table with limits, an index and TTL: nothing that an import could not make.
pub async fn on_demand() -> Account {
    let create = json!({
        "TableName": "orders",
        "KeySchema": [key("id", "HASH")],
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "n", "AttributeType": "N"}
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "OnDemandThroughput": {"MaxReadRequestUnits": 100, "MaxWriteRequestUnits": 40},
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-n",
            "KeySchema": [key("n", "HASH")],
            "Projection": {"ProjectionType": "ALL"},
            "OnDemandThroughput": {"MaxWriteRequestUnits": 30}
        }],
        "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "KEYS_ONLY"},
        "TableClass": "STANDARD_INFREQUENT_ACCESS",
        "Tags": [{"Key": "team", "Value": "sales"}]
    });
    Account::with(&create, &rich_changes()).await
}

#[tokio::test(start_paused = true)]
async fn a_restored_table_is_set_up_as_its_source() {
    for account in [rich().await, on_demand().await] {
        let record = account.planned(TableOverrides::default()).await;
        let applied = account.restore(&account.deps).await.unwrap();
        assert!(applied.done && applied.refused.is_empty(), "{applied:?}");
        account.assert_restored().await;
        let expected: &[&str] = if record.table_plan.indexes() == 2 {
            &["auto scaling"]
        } else {
            &[]
        };
        let left_out: Vec<&str> = record
            .table_plan
            .not_restored
            .iter()
            .map(|it| it.setting.as_str())
            .collect();
        assert_eq!(left_out, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_waits_for_the_load_is_there_before_it() {
    let account = rich().await;
    let record = account.planned(TableOverrides::default()).await;
    create_table::run(&account.deps, &record, Budget::UNLIMITED)
        .await
        .unwrap();
    let made = account.admin.describe("orders-2").await.unwrap();
    assert_eq!(made.status(), Ok("ACTIVE"));
    assert_eq!(marker(&made).as_deref(), Some(ID));
    let early: Vec<String> = settings_differences(&account.source, &made)
        .into_iter()
        .map(|it| it.setting)
        .collect();
    assert_eq!(
        early,
        [
            "DeletionProtectionEnabled",
            "PointInTimeRecovery",
            "StreamSpecification",
            "TimeToLive"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn capacity_is_raised_for_the_load_and_put_back() {
    for (account, member, units) in [
        (rich().await, "ProvisionedThroughput", "WriteCapacityUnits"),
        (
            on_demand().await,
            "OnDemandThroughput",
            "MaxWriteRequestUnits",
        ),
    ] {
        let overrides = TableOverrides {
            load_write_capacity: Some(900),
            stream_first: true,
            ..TableOverrides::default()
        };
        let record = account.planned(overrides).await;
        create_table::run(&account.deps, &record, Budget::UNLIMITED)
            .await
            .unwrap();
        let made = account.admin.describe("orders-2").await.unwrap();
        assert_eq!(made.table[member][units], 900);
        assert_eq!(made.table["GlobalSecondaryIndexes"][0][member][units], 900);
        assert_eq!(made.table["StreamSpecification"]["StreamEnabled"], true);
        account.restore(&account.deps).await.unwrap();
        account.assert_restored().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_leaves_what_the_next_run_finishes() {
    for moment in [Moment::Before, Moment::After] {
        for nth in 1.. {
            let account = rich().await;
            account.planned(TableOverrides::default()).await;
            let crash = Arc::new(Failing::crash(nth, moment));
            let first = account.restore(&account.through(&crash)).await;
            if !crash.has_struck() {
                assert!(nth > 20, "{nth} calls are too few to be true");
                break;
            }
            assert!(first.is_err(), "call {nth}");
            let applied = account.restore(&account.deps).await;
            let applied = applied.unwrap_or_else(|error| panic!("call {nth} {moment:?}: {error}"));
            assert_eq!(applied.refused, [], "call {nth}");
            account.assert_restored().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_passing_is_waited_out() {
    for kind in [FailureKind::Throttled, FailureKind::Transient] {
        for operation in ["create_table", "change", "describe"] {
            for (nth, moment) in
                (1..=4).flat_map(|nth| [(nth, Moment::Before), (nth, Moment::After)])
            {
                let account = rich().await;
                account.planned(TableOverrides::default()).await;
                let fails = Arc::new(Failing::once(nth, moment, kind).only(operation));
                let applied = account.restore(&account.through(&fails)).await.unwrap();
                assert_eq!(applied.refused, [], "{operation} {nth}");
                account.assert_restored().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_down_is_given_up() {
    let account = rich().await;
    account.planned(TableOverrides::default()).await;
    let down = Arc::new(Down(FailureKind::Throttled));
    let deps = RestoreDeps {
        admin: down.clone(),
        ..account.deps.clone()
    };
    let error = account.restore(&deps).await.unwrap_err();
    assert_eq!(error.name().as_str(), "Throttled", "{error}");
}

/// Refuses everything.
#[derive(Debug)]
struct Down(FailureKind);

impl Down {
    fn failure(&self, operation: &'static str) -> Failure {
        Failure::new(self.0, operation, "orders-2", "no")
    }
}

#[async_trait]
impl TableAdmin for Down {
    async fn create_table(&self, _: &Value) -> Result<Creation, Failure> {
        Err(self.failure("CreateTable"))
    }

    async fn change(&self, change: &TableChange) -> Result<(), Failure> {
        Err(self.failure(match change.call {
            ChangeCall::UpdateTimeToLive => "UpdateTimeToLive",
            _ => "AnotherCall",
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_is_refused_for_good_is_listed_and_the_others_are_made() {
    for nth in 1.. {
        let account = rich().await;
        let record = account.planned(TableOverrides::default()).await;
        let denial =
            Arc::new(Failing::once(nth, Moment::Before, FailureKind::Denied).only("change"));
        let applied = account.restore(&account.through(&denial)).await.unwrap();
        if !denial.has_struck() {
            assert_eq!(nth, 6, "every change had its turn");
            break;
        }
        let at = usize::try_from(nth - 1).unwrap();
        let refused: Vec<&str> = applied
            .refused
            .iter()
            .map(|it| it.setting.as_str())
            .collect();
        assert_eq!(refused, [record.table_plan.after_load[at].what.as_str()]);
        assert!(applied.done);
        let restored = active(&account.admin, "orders-2").await;
        let missing = settings_differences(&account.source, &restored).len();
        assert_eq!(
            missing,
            usize::from(at > 0),
            "only the refused one is missing (the marker is no setting)"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_somebody_else_made_is_never_taken() {
    let account = rich().await;
    let record = account.planned(TableOverrides::default()).await;
    account
        .admin
        .add(&Arc::new(FakeTable::new("orders-2", string_key("id"), 5)));
    let error = create_table::run(&account.deps, &record, Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StepError::TableExists(table) if table == "orders-2"),
        "{error}"
    );
    assert_eq!(account.recorded().await.target_table_id, None);

    let account = rich().await;
    let record = account.planned(TableOverrides::default()).await;
    let other = RestoreRecord {
        id: "01768385930622-00000000".parse().unwrap(),
        ..record.clone()
    };
    account.control.create_restore(&other).await.unwrap();
    create_table::run(&account.deps, &other, Budget::UNLIMITED)
        .await
        .unwrap();
    let error = create_table::run(&account.deps, &record, Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StepError::TableExists(_)),
        "another restore's table: {error}"
    );
}

#[tokio::test(start_paused = true)]
async fn two_copies_of_one_step_make_one_table() {
    let account = rich().await;
    let record = account.planned(TableOverrides::default()).await;
    let (one, two) = tokio::join!(
        create_table::run(&account.deps, &record, Budget::UNLIMITED),
        create_table::run(&account.deps, &record, Budget::UNLIMITED),
    );
    assert_eq!(one.unwrap(), two.unwrap());
    let record = account.recorded().await;
    let (one, two) = tokio::join!(
        apply_settings::run(&account.deps, &record, Budget::UNLIMITED),
        apply_settings::run(&account.deps, &record, Budget::UNLIMITED),
    );
    assert_eq!(
        (one.unwrap().refused, two.unwrap().refused),
        (vec![], vec![])
    );
    account.assert_restored().await;
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_dropped_and_made_again_is_not_touched() {
    let account = rich().await;
    account.planned(TableOverrides::default()).await;
    create_table::run(&account.deps, &account.recorded().await, Budget::UNLIMITED)
        .await
        .unwrap();
    let record = account.recorded().await;
    for replace in [false, true] {
        account.admin.lose("orders-2");
        if replace {
            account
                .admin
                .add(&Arc::new(FakeTable::new("orders-2", string_key("id"), 77)));
        }
        let made = create_table::run(&account.deps, &record, Budget::UNLIMITED)
            .await
            .unwrap_err();
        assert!(matches!(made, StepError::TargetChanged { .. }), "{made}");
        let set = apply_settings::run(&account.deps, &record, Budget::UNLIMITED)
            .await
            .unwrap_err();
        assert!(matches!(set, StepError::TargetChanged { .. }), "{set}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_ends_within_its_budget_and_goes_on_in_the_next() {
    let mut account = rich().await;
    let slow = Arc::new(FakeAdmin::new().busy_for(40));
    account.deps.admin = slow.clone();
    account.deps.describer = slow.clone();
    account.admin = slow;
    account.planned(TableOverrides::default()).await;
    let budget = |deps: &RestoreDeps| {
        let now = deps.clock.now();
        Budget::until(UnixMillis(now.0 + 30_000), now)
    };
    let mut rounds = 0;
    while let Err(error) = create_table::run(
        &account.deps,
        &account.recorded().await,
        budget(&account.deps),
    )
    .await
    {
        assert_eq!(error.name().as_str(), "TransientAws", "{error}");
        rounds += 1;
    }
    assert!(rounds >= 2, "{rounds}");
    rounds = 0;
    while !apply_settings::run(
        &account.deps,
        &account.recorded().await,
        budget(&account.deps),
    )
    .await
    .unwrap()
    .done
    {
        rounds += 1;
    }
    assert!(rounds >= 2, "{rounds}");
    account.assert_restored().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait() {
    let account = rich().await;
    let record = account.planned(TableOverrides::default()).await;
    account.deps.stop.set();
    let error = create_table::run(&account.deps, &record, Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StepError::RestoreInterrupted { .. }),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_existing_table_stays_as_it_is() {
    let account = rich().await;
    let table = Arc::new(FakeTable::new("orders-2", string_key("id"), 5));
    account.admin.add(&table);
    let before = account.admin.describe("orders-2").await.unwrap();
    account.record(TablePlan::default()).await;
    let applied = account.restore(&account.deps).await.unwrap();
    assert_eq!(
        applied,
        Applied {
            done: true,
            refused: vec![]
        }
    );
    assert_eq!(account.admin.describe("orders-2").await.unwrap(), before);
    assert_eq!(account.recorded().await.target_table_id, Some(table.id()));
}

//! A replica as it is deployed: loaded by the restore's programs, fed by the stream's consumer and by `apply-log`.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_domain::budget::Clock as _;
use highwater_domain::replica::{FenceMode, ReplicaRecord};
use highwater_domain::restore::RestoreId;
use highwater_lambda::{S3Stores, SystemClock, log_deps};
use highwater_local::StreamShape;
use highwater_steps::apply_log::{ApplyLogReport, ReplicaReport};
use highwater_steps::deps::Unobserved;
use highwater_steps::known_facts::KnownFacts;
use highwater_steps::replica::plan::{self, ReplicaRequest};
use highwater_steps::replica::{FeedDeps, ReplicaDeps, load};
use highwater_testkit::canonical::canonical;
use highwater_testkit::clients;
use highwater_testkit::fake_table::{scan_request, scan_segment};
use highwater_testkit::runtime_api::Function;
use serde_json::{Value, json};

use super::account::{
    Account, BUCKET, CONTROL_TABLE, LONG, PREFIX, TABLE, at_once, event, request,
};
use super::live_account::Live;
use super::restore_stack::RestoreStack;
use super::told_lines::watched;

/// The replica's table.
pub const REPLICA: &str = "orders-replica";

/// A table with a stream and a replica.
pub struct ReplicaStage {
    pub live: Live,
    pub deps: ReplicaDeps,
}

/// What the deployment of a replica sets beyond the account's.
fn with_replicas(mut environment: Vec<(String, String)>) -> Vec<(String, String)> {
    let more = [
        ("HIGHWATER_LOG_TO", format!("s3://{BUCKET}/{PREFIX}")),
        ("HIGHWATER_TABLES", TABLE.to_owned()),
        ("HIGHWATER_REPLICAS", "true".to_owned()),
    ];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
    environment
}

impl ReplicaStage {
    pub async fn shaped(shape: StreamShape) -> Self {
        let live = Live::shaped(shape).await;
        let deps = replica_deps(&live.account).await;
        Self { live, deps }
    }

    /// A function of a deployment with replicas.
    pub fn function(&self, name: &str) -> Function {
        watched(name, with_replicas(self.live.account.environment()))
    }

    /// Plans the replica from a snapshot, and loads it as the deployed restore does.
    pub async fn begin(&self, snapshot: &str, region: Option<&str>) -> ReplicaRecord {
        let stack = RestoreStack::of(&self.live.account);
        begin(&self.deps, &stack, snapshot, REPLICA, region).await
    }

    /// The record as it is now.
    pub async fn record(&self, of: &ReplicaRecord) -> ReplicaRecord {
        let known = load(&self.deps, &of.source_arn, &of.id).await;
        known.unwrap().value
    }

    /// The items of a table by key, in canonical form.
    pub async fn items(&self, table: &str) -> BTreeMap<String, Value> {
        let client = clients::dynamodb(self.live.account.dynamodb.endpoint_url());
        let scanner = highwater_aws::DynamoScanner::new(client);
        let items = scan_segment(&scanner, scan_request(table, 0, 1)).await;
        let by_key = |item: &[u8]| {
            let item = canonical(item);
            (item["pk"]["S"].as_str().unwrap().to_owned(), item)
        };
        items.unwrap().iter().map(|item| by_key(item)).collect()
    }

    /// The replica is the source, item for item, and nothing is in it beside.
    pub async fn assert_equal(&self) -> usize {
        let (source, replica) = (self.items(TABLE).await, self.items(REPLICA).await);
        let lacks: Vec<_> = source
            .iter()
            .filter(|(key, item)| replica.get(*key) != Some(item))
            .collect();
        let beside: Vec<_> = replica
            .keys()
            .filter(|it| !source.contains_key(*it))
            .collect();
        assert!(
            lacks.is_empty() && beside.is_empty(),
            "of {} items it lacks {lacks:?}, and has {beside:?}",
            source.len()
        );
        source.len()
    }
}

/// The ports of replicas, as the command line has them.
pub async fn replica_deps(account: &Account) -> ReplicaDeps {
    let clients = account.clients().await;
    let control = Arc::new(clients.control_table(CONTROL_TABLE));
    let stores = Arc::new(S3Stores(clients.clone()));
    let targets = Arc::new(clients.replica_targets());
    ReplicaDeps {
        feed: FeedDeps {
            live: log_deps(&clients, CONTROL_TABLE, stores, Arc::new(Unobserved)),
            replicas: control.clone(),
            restores: control,
            feeds: targets.clone(),
            known: KnownFacts::default(),
            observer: Arc::new(Unobserved),
        },
        describer: Arc::new(clients.table_describer()),
        targets,
    }
}

/// Claims the target, and loads it.
pub async fn begin(
    deps: &ReplicaDeps,
    stack: &RestoreStack,
    snapshot: &str,
    to: &str,
    region: Option<&str>,
) -> ReplicaRecord {
    let wanted = ReplicaRequest {
        local: true,
        source: TABLE.parse().unwrap(),
        to: to.parse().unwrap(),
        target_region: region.map(str::to_owned),
        target_role: None,
        filter: Vec::new(),
        fence: FenceMode::Table,
        log: format!("s3://{BUCKET}/{PREFIX}"),
        snapshot: format!("s3://{BUCKET}/{PREFIX}/{TABLE}/AWSDynamoDB/{snapshot}"),
    };
    let now = SystemClock.now();
    let loads = RestoreId::of_execution(&format!("{:016x}", fastrand::u64(..)), now);
    let planned = plan::plan(deps, &wanted, loads, now).await.unwrap();
    let record = plan::begin(deps, &planned).await.unwrap();
    let request = serde_json::to_value(plan::load_request(&record, planned.makes_table)).unwrap();
    let output = stack.execute(request, at_once()).await.unwrap();
    assert_eq!(output["status"], "completed", "{output}");
    record
}

/// A sealed snapshot with a handoff: its id.
pub async fn back_up(account: &Account) -> String {
    let more = json!({
        "segments": 2, "concurrency": 2, "part_bytes": 8000, "read_capacity": 0,
        "with_stream": true, "settle_seconds": 0,
    });
    let output = account.deploy().execute(request(more), at_once()).await;
    let output = output.unwrap();
    assert_eq!(output["status"], "completed");
    output["snapshot_id"].as_str().unwrap().to_owned()
}

/// One run of the applier, and how the only replica stands after it.
pub async fn applied(apply: &Function) -> (ApplyLogReport, ReplicaReport) {
    let answer = apply.invoke(event("apply-log/first"), LONG).await.unwrap();
    let report: ApplyLogReport = serde_json::from_value(answer).unwrap();
    let [replica] = &report.replicas[..] else {
        panic!("one replica: {report:?}");
    };
    let replica = replica.clone();
    (report, replica)
}

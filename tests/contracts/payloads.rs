//! State passes between Lambdas as ids and numbers: sizes stay far from the limits of Step Functions.
//!
//! 256 KiB per payload: <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use highwater_asl::{Event, Execution, Options, SkipPauses, StateMachine, TaskError, Tasks, walk};
use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::Budget;
use highwater_domain::failure::Failure;
use highwater_domain::layout::Destination;
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_lambda::{SystemClock, live_deps};
use highwater_steps::consume_stream::{BatchItemFailure, ConsumeOutput, WindowState};
use highwater_steps::deps::Unobserved;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::{
    Deps, SnapshotDeps, StepError, StopFlag, finalize_backup, plan_backup, scan_segment,
};
use highwater_testkit::fake_control::FakeControl;
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::fake_table::FakeTable;
use highwater_tests::checkout;
use serde_json::{Value, json};

const LIMIT: usize = 256 * 1024;

/// The steps themselves, over fakes: what passes between them is what would pass in production.
#[derive(Debug)]
struct Steps(Deps);

#[derive(Debug)]
struct OneStore(Arc<FakeStore>);

impl Stores for OneStore {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(self.0.clone())
    }
}

impl Steps {
    async fn over(table: FakeTable) -> Self {
        let table = Arc::new(table);
        let stores = Arc::new(OneStore(Arc::new(FakeStore::new())));
        // The table has no stream, so that nothing of the live side is ever called.
        let nowhere = ConnectionSettings {
            region: Some("eu-north-1".into()),
            endpoint_url: Some("http://127.0.0.1:9".into()),
            ..ConnectionSettings::default()
        };
        let clients = Clients::connect(&nowhere).await.unwrap();
        let clock = Arc::new(SystemClock);
        let mut live = live_deps(&clients, "unused", stores.clone(), Arc::new(Unobserved));
        live.log.describer = table.clone();
        Self(Deps {
            scanner: table.clone(),
            describer: table.clone(),
            admin: Arc::new(clients.table_admin()),
            live,
            pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
            snapshots: SnapshotDeps {
                stores,
                control: Arc::new(FakeControl::new()),
                clock,
                observer: Arc::new(Unobserved),
                stop: StopFlag::default(),
            },
        })
    }
}

#[async_trait]
impl Tasks for Steps {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let deps = &self.0;
        let failed = |error: StepError| TaskError::new(error.name().as_str(), error.to_string());
        let answer = match function {
            "PlanBackupFunctionArn" => {
                let input = serde_json::from_value(payload).unwrap();
                json!(plan_backup::run(deps, &input).await.map_err(failed)?)
            }
            "ScanSegmentFunctionArn" => {
                let input = serde_json::from_value(payload).unwrap();
                let scan = scan_segment::run(deps, &input, Budget::UNLIMITED);
                json!(scan.await.map_err(failed)?)
            }
            "FinalizeBackupFunctionArn" => {
                let input = serde_json::from_value(payload).unwrap();
                let end = finalize_backup::run(deps, &input, Budget::UNLIMITED);
                json!(end.await.map_err(failed)?)
            }
            other => panic!("{other}"),
        };
        Ok(answer)
    }
}

fn execution() -> Execution {
    Execution {
        id: format!(
            "arn:aws:states:ap-southeast-2:123456789012:execution:{}:{}",
            "m".repeat(80),
            "e".repeat(80)
        ),
        start_time: "2026-01-14T10:18:50.622Z".into(),
    }
}

/// As many lanes as a plan ever has.
fn request() -> Value {
    json!({"table": "orders", "to": format!("s3://bucket/{}", "p".repeat(500)), "segments": 1500, "concurrency": 1000})
}

#[tokio::test]
async fn the_largest_plan_is_a_thousand_numbers() {
    let steps = Steps::over(FakeTable::with_numbered_items("orders", 10, 1)).await;
    let mut request = request();
    request["segments"] = json!(1_000_000);
    let payload = json!({"request": request, "execution_id": execution().id, "started_at": execution().start_time});
    let plan = steps
        .invoke("PlanBackupFunctionArn", payload)
        .await
        .unwrap();
    assert_eq!(plan["segments"].as_array().unwrap().len(), 1000);
    let bytes = plan.to_string().len();
    assert!(bytes < LIMIT / 8, "{bytes} bytes");
}

#[tokio::test]
async fn nothing_but_the_list_of_segments_grows_with_the_table() {
    let text = checkout::text("statemachine/backup.asl.json").unwrap();
    let machine = StateMachine::parse(&text, &BTreeMap::new()).unwrap();
    let steps = Steps::over(FakeTable::with_numbered_items("orders", 100, 1)).await;
    let sizes: Arc<Mutex<BTreeMap<String, (usize, usize)>>> = Arc::default();
    let seen = Arc::clone(&sizes);
    let observer = move |event: &Event<'_>| {
        let (state, payload) = match event {
            Event::Entered { state, input, .. } => (state, *input),
            Event::Exited { state, output, .. } => (state, *output),
            _ => return,
        };
        let mut rest = payload.clone();
        if let Some(members) = rest.as_object_mut() {
            members.remove("segments");
        }
        let mut sizes = seen.lock().unwrap();
        let (whole, without) = sizes.entry((*state).to_owned()).or_default();
        *whole = (*whole).max(payload.to_string().len());
        *without = (*without).max(rest.to_string().len());
    };
    let options = Options {
        clock: Arc::new(SkipPauses),
        observer: Some(Arc::new(observer)),
        ..Options::default()
    };
    let output = walk(&machine, request(), &execution(), &steps, &options)
        .await
        .unwrap();
    assert_eq!(output["status"], "completed");
    let sizes = sizes.lock().unwrap();
    for state in [
        "PlanBackup",
        "ScanSegments",
        "ScanSegment",
        "FinalizeBackup",
    ] {
        assert!(sizes.contains_key(state), "{state} was not seen");
    }
    for (state, (whole, without)) in &*sizes {
        assert!(*whole < LIMIT, "{state}: {whole} bytes");
        assert!(
            *without < 8 * 1024,
            "{state}: {without} bytes beside the segments"
        );
    }
}

/// Lambda ends a window whose state is larger than 1 MB, and takes answers of up to 6 MB.
#[test]
fn a_windows_state_has_one_size_whatever_it_has_seen() {
    let number = || "9".repeat(40).parse().unwrap();
    let output = ConsumeOutput {
        batch_item_failures: vec![BatchItemFailure {
            item_identifier: number(),
        }],
        state: Some(WindowState {
            last_seq: Some(number()),
            n: u64::MAX,
        }),
    };
    assert!(json!(output).to_string().len() < 256);
}

//! A deployed stack: what is found of it, what a name starts, and what a stop leaves at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use highwater_domain::budget::Budget;
use highwater_domain::control_table::ControlTable as _;
use highwater_domain::executions::{ExecutionStatus, Executions as _};
use highwater_domain::ids::SnapshotId;
use highwater_domain::metadata::Metadata;
use highwater_domain::object_store::ObjectStore as _;
use highwater_domain::restore_control::RestoreControl as _;
use highwater_domain::snapshot::Status;
use highwater_domain::stack::{CONTROL_TABLE_TAG, ExecutionName, TABLES_TAG, TO_TAG};
use highwater_domain::table::TableDescriber as _;
use highwater_steps::failure_input::FailureInput;
use highwater_steps::finalize_backup::FinalizeInput;
use highwater_steps::plan_backup::PlanInput;
use highwater_steps::request::BackupRequest;
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::stack::{
    Effect, JobId, JobRequest, Stack, StackError, StackExecution, StackPorts, Started, Stopped,
    start, stop,
};
use highwater_steps::{
    Deps, RestoreDeps, SnapshotDeps, StepError, finalize_backup, plan_backup, scan_segment,
};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_executions::{Begun, Failed, FakeExecutions, Run};
use highwater_testkit::intercepted::Intercepted;
use highwater_testkit::stepped::Stepped;
use serde_json::Value;

use crate::restore_stage::{RESTORE, RestoreStage, TARGET, restore_request};
use crate::stage::*;

const TAGS: [(&str, &str); 3] = [
    (TO_TAG, "s3://fake-bucket/backups"),
    (CONTROL_TABLE_TAG, "night-control"),
    (TABLES_TAG, "orders customers"),
];

/// A state machine that runs until it is stopped.
fn waits() -> Run {
    Arc::new(|_| Box::pin(std::future::pending::<Result<Value, Failed>>()))
}

/// An account with the stack `night`, whose machines run as they are told, among other machines.
struct World {
    stage: Stage,
    account: FakeExecutions,
}

impl World {
    fn new(backup: Run) -> Self {
        Self::of(Stage::of_items(60), backup)
    }

    fn of(stage: Stage, backup: Run) -> Self {
        let account = FakeExecutions::new(stage.deps.clock.clone());
        account.deploy("other-backup", &[], waits());
        account.deploy("night-start-backups", &[], waits());
        account.deploy("night-backup", &TAGS, backup);
        account.deploy("night-restore", &TAGS, waits());
        account.deploy("torn-backup", &TAGS, waits());
        account.deploy("bare-backup", &TAGS[..1], waits());
        account.deploy("bare-restore", &TAGS[..1], waits());
        account.paged(2);
        Self { stage, account }
    }

    async fn stack(&self) -> Stack {
        Stack::find(&self.account, &"night".parse().unwrap())
            .await
            .unwrap()
    }

    fn ports(&self) -> StackPorts {
        StackPorts {
            executions: Arc::new(self.account.clone()),
            control: self.stage.control.clone(),
            restores: self.stage.control.clone(),
        }
    }

    fn deps(&self) -> RestoreDeps {
        self.deps_over(self.stage.deps.snapshots.clone())
    }

    fn deps_over(&self, snapshots: SnapshotDeps) -> RestoreDeps {
        RestoreDeps {
            clock: snapshots.clock.clone(),
            restores: self.stage.control.clone(),
            stores: snapshots.stores.clone(),
            snapshots,
            ..RestoreStage::over(self.stage.store.clone(), BTreeMap::default()).deps
        }
    }

    async fn start(&self, name: &str, request: BackupRequest) -> Result<Started, StackError> {
        let name: ExecutionName = name.parse().unwrap();
        let request = JobRequest::Backup(Box::new(request));
        start(&self.account, &self.stack().await, &name, &request).await
    }

    async fn find(&self, target: &str) -> Result<StackExecution, StackError> {
        self.stack().await.execution(&self.ports(), target).await
    }

    async fn stop(&self, target: &str, patience: Duration) -> Result<Stopped, StackError> {
        let execution = self.find(target).await?;
        stop(&self.account, &self.deps(), &execution, patience).await
    }

    /// What `backup.json` says.
    async fn shown(&self) -> Option<Metadata> {
        let key = layout().metadata();
        let body = self.stage.store.read(&key).await.unwrap()?;
        Some(serde_json::from_slice(&body).unwrap())
    }

    /// Another execution goes on with the snapshot, to its end.
    async fn resume(&self) {
        let deps = &self.stage.deps;
        let input = PlanInput {
            execution_id: "execution-2".into(),
            ..plan_input(resume())
        };
        let planned = plan_backup::run(deps, &input).await.unwrap();
        scan_all(deps, u32::try_from(planned.segments.len()).unwrap())
            .await
            .unwrap();
        let input = FinalizeInput {
            execution_id: Some("execution-2".into()),
            ..finalize_input()
        };
        let ended = finalize_backup::run(deps, &input, Budget::UNLIMITED).await;
        assert_eq!(ended.unwrap().status, Some(Status::Completed));
        self.stage.assert_equals_table().await;
    }
}

/// Something that Lambda runs: it goes on when the execution is stopped.
async fn invoked<T: Send + 'static>(
    step: impl Future<Output = Result<T, StepError>> + Send + 'static,
) -> Result<T, FailureInput> {
    let outcome = tokio::spawn(step).await.unwrap();
    outcome.map_err(|error| FailureInput {
        error: error.name().as_str().into(),
        cause: error.to_string(),
    })
}

/// The backup's states over these ports: each an invocation, with the Catch of the definition.
fn states(deps: Deps) -> Run {
    Arc::new(move |begun: Begun| {
        let deps = deps.clone();
        let run: BoxFuture<'static, Result<Value, Failed>> = Box::pin(async move {
            let failure = match scanned(&deps, &begun).await {
                Ok(()) => return Ok(Value::Null),
                Err(failure) => failure,
            };
            let told = Failed {
                error: failure.error.clone(),
                cause: failure.cause.clone(),
            };
            let input = FinalizeInput {
                execution_id: Some(begun.arn),
                failure: Some(failure),
                ..finalize_input()
            };
            let _ = invoked(
                async move { finalize_backup::run(&deps, &input, Budget::UNLIMITED).await },
            )
            .await;
            Err(told)
        });
        run
    })
}

async fn scanned(deps: &Deps, begun: &Begun) -> Result<(), FailureInput> {
    let input = PlanInput {
        request: serde_json::from_value(begun.input.clone()).unwrap(),
        execution_id: begun.arn.clone(),
        started_at: begun.started_at.to_rfc3339(),
    };
    let its = deps.clone();
    let planned = invoked(async move { plan_backup::run(&its, &input).await }).await?;
    for lane in planned.segments {
        let its = deps.clone();
        let scan =
            async move { scan_segment::run(&its, &scan_input(lane), Budget::UNLIMITED).await };
        assert!(invoked(scan).await?.done, "a scan without a limit is done");
    }
    let its = deps.clone();
    let input = FinalizeInput {
        execution_id: Some(begun.arn.clone()),
        ..finalize_input()
    };
    invoked(async move { finalize_backup::run(&its, &input, Budget::UNLIMITED).await }).await?;
    Ok(())
}

/// A world whose functions make one call to store and control table for each permit.
fn gated() -> (World, Arc<Stepped>) {
    let gate = Arc::new(Stepped::new());
    let stage = Stage::of_items(60);
    let deps = stage.through(
        Arc::new(Intercepted::new(&stage.store, &gate)),
        Arc::new(Intercepted::new(&stage.control, &gate)),
    );
    (World::of(stage, states(deps)), gate)
}

async fn ended(world: &World, arn: &str) -> ExecutionStatus {
    for _ in 0..10_000 {
        let state = world.account.describe(arn).await.unwrap().unwrap();
        if state.status.has_ended() {
            return state.status;
        }
        tokio::time::sleep(seconds(1)).await;
    }
    panic!("{arn} does not end");
}

/// Lets the functions make so many calls. `false` if the execution ended before.
async fn until_calls(world: &World, gate: &Stepped, arn: &str, calls: u64) -> bool {
    for call in 1..=calls {
        gate.permit();
        tokio::select! {
            biased;
            () = gate.until_completed(call) => {}
            _ = ended(world, arn) => return false,
        }
    }
    true
}

/// Whatever the functions are doing when somebody stops it: it is stopped, marked, and can be resumed; and what was
/// under way changes nothing of that.
#[tokio::test(start_paused = true)]
async fn a_stop_at_any_moment_leaves_what_can_be_resumed() {
    let (mut failed, mut completed, mut late) = (0, 0, 0);
    for calls in 0.. {
        let (world, gate) = gated();
        let arn = world.start("one", request(2)).await.unwrap().arn;
        // Until its plan is invoked.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !until_calls(&world, &gate, &arn, calls).await {
            break;
        }
        let had_record = world.stage.status().await.is_some();
        let opening = async {
            tokio::time::sleep(seconds(3)).await;
            gate.open();
        };
        let (stopped, ()) = tokio::join!(world.stop("one", seconds(60)), opening);
        let stopped = stopped.unwrap();
        // What was under way ends.
        tokio::time::sleep(seconds(1000)).await;
        let status = world.stage.status().await;
        assert_eq!(stopped.status, status, "after {calls} calls");
        let shown = world.shown().await.map(|it| it.status);
        match status {
            Some(Status::Failed) => {
                failed += 1;
                late += u32::from(!had_record);
                assert_eq!(shown, Some(Status::Failed), "after {calls} calls");
                assert_eq!(ended(&world, &arn).await, ExecutionStatus::Aborted);
                world.resume().await;
            }
            Some(Status::Completed) => {
                completed += 1;
                let by_itself = matches!(
                    stopped.effect,
                    Effect::Completed | Effect::HadEnded(ExecutionStatus::Succeeded)
                );
                assert!(by_itself, "{:?}", stopped.effect);
                assert_eq!(shown, Some(Status::Completed));
                assert_eq!(ended(&world, &arn).await, ExecutionStatus::Succeeded);
            }
            other => panic!("{other:?} after {calls} calls"),
        }
    }
    assert!(failed > 20 && completed > 0, "{failed} {completed}");
    assert!(late > 0, "a plan that was under way is marked, too");
}

/// The stop dies at any of its calls; the next one does what is left.
#[tokio::test(start_paused = true)]
async fn a_stop_that_dies_anywhere_is_finished_by_the_next() {
    for moment in [Moment::Before, Moment::After] {
        let mut struck = 0;
        for nth in 1.. {
            let (world, gate) = gated();
            let arn = world.start("one", request(2)).await.unwrap().arn;
            assert!(until_calls(&world, &gate, &arn, 12).await);
            assert_eq!(world.stage.status().await, Some(Status::Running));
            let failing = Arc::new(Failing::crash(nth, moment));
            let ports = world.stage.through(
                Arc::new(Intercepted::new(&world.stage.store, &failing)),
                Arc::new(Intercepted::new(&world.stage.control, &failing)),
            );
            let deps = world.deps_over(ports.snapshots);
            let execution = world.find("one").await.unwrap();
            let first = stop(&world.account, &deps, &execution, seconds(5)).await;
            if !failing.has_struck() {
                first.unwrap();
                break;
            }
            struck += 1;
            gate.open();
            if let Err(error) = &first {
                assert!(matches!(error, StackError::NotMarked { .. }), "{error:?}");
            }
            let second = world.stop("one", seconds(5)).await.unwrap();
            assert_eq!(second.status, Some(Status::Failed), "{moment:?} {nth}");
            let shown = world.shown().await.unwrap();
            assert_eq!(shown.status, Status::Failed, "{moment:?} {nth}");
            world.resume().await;
        }
        assert!(struck > 5, "only {struck} places to die at");
    }
}

/// It dies between the mark and the stop, or may not stop: the execution finds the mark, and ends through its own Catch.
#[tokio::test(start_paused = true)]
async fn an_execution_that_is_marked_ends_by_itself() {
    let (world, gate) = gated();
    let arn = world.start("one", request(2)).await.unwrap().arn;
    assert!(until_calls(&world, &gate, &arn, 12).await);
    world.account.deny("StopExecution");
    let error = world.stop("one", seconds(5)).await.unwrap_err();
    let StackError::NotStopped { marked, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(marked, &Some(JobId::Backup(id())));
    assert!(error.to_string().contains("ends by itself"), "{error}");
    gate.open();
    assert_eq!(ended(&world, &arn).await, ExecutionStatus::Failed);
    assert_eq!(world.stage.status().await, Some(Status::Failed));
    world.resume().await;
}

/// Nobody waits for a plan that is under way: it is told, and the next stop marks what the plan has left.
#[tokio::test(start_paused = true)]
async fn a_plan_that_ends_after_the_stop_is_marked_by_the_next_one() {
    let (world, gate) = gated();
    let arn = world.start("one", request(2)).await.unwrap().arn;
    assert!(until_calls(&world, &gate, &arn, 1).await);
    let stopped = world.stop("one", Duration::ZERO).await.unwrap();
    assert_eq!((stopped.effect, stopped.status), (Effect::Stopped, None));
    assert!(stopped.may_begin);
    gate.open();
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(world.stage.status().await, Some(Status::Running));
    let again = world.stop("one", Duration::ZERO).await.unwrap();
    assert_eq!(again.effect, Effect::HadEnded(ExecutionStatus::Aborted));
    assert_eq!(again.status, Some(Status::Failed));
    assert_eq!(world.shown().await.unwrap().status, Status::Failed);
    world.resume().await;
}

/// Long after the end nothing can begin any more, and nobody waits for it.
#[tokio::test(start_paused = true)]
async fn a_stop_of_what_ended_long_ago_does_not_wait() {
    let world = World::new(waits());
    world.start("one", request(2)).await.unwrap();
    world.stop("one", Duration::ZERO).await.unwrap();
    tokio::time::sleep(seconds(3600)).await;
    let before = tokio::time::Instant::now();
    let stopped = world.stop("one", seconds(60)).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(!stopped.may_begin);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_keeps_its_end() {
    let (world, gate) = gated();
    gate.open();
    let arn = world.start("good", request(2)).await.unwrap().arn;
    assert_eq!(ended(&world, &arn).await, ExecutionStatus::Succeeded);
    let stopped = world.stop("good", seconds(60)).await.unwrap();
    assert_eq!(stopped.effect, Effect::HadEnded(ExecutionStatus::Succeeded));
    assert_eq!(stopped.status, Some(Status::Completed));
    world.stage.assert_equals_table().await;

    // One that failed has its own reason.
    let (world, gate) = gated();
    let arn = world.start("bad", request(2)).await.unwrap().arn;
    assert!(until_calls(&world, &gate, &arn, 12).await);
    let mut table = world.stage.table.describe("orders").await.unwrap().table;
    table["TableId"] = "another".into();
    world.stage.table.set_description(table);
    gate.open();
    assert_eq!(ended(&world, &arn).await, ExecutionStatus::Failed);
    let reason = world.shown().await.unwrap().error.unwrap();
    assert!(reason.starts_with("TableChanged"), "{reason}");
    let stopped = world.stop("bad", seconds(60)).await.unwrap();
    assert_eq!(stopped.status, Some(Status::Failed));
    assert_eq!(world.shown().await.unwrap().error.unwrap(), reason);
}

/// What another execution goes on with is not this one's to end.
#[tokio::test(start_paused = true)]
async fn what_another_execution_has_taken_over_is_left_alone() {
    let (world, gate) = gated();
    let arn = world.start("one", request(2)).await.unwrap().arn;
    assert!(until_calls(&world, &gate, &arn, 12).await);
    let input = PlanInput {
        execution_id: "execution-2".into(),
        ..plan_input(resume())
    };
    plan_backup::run(&world.stage.deps, &input).await.unwrap();
    let stopped = world.stop("one", seconds(2)).await.unwrap();
    assert_eq!((stopped.effect, stopped.status), (Effect::Stopped, None));
    assert_eq!(world.stage.status().await, Some(Status::Running));
}

#[tokio::test(start_paused = true)]
async fn a_restore_is_stopped_and_marked_as_a_backup_is() {
    let source = RestoreStage::of_items(40).await;
    let world = World::new(waits());
    let request = JobRequest::Restore(Box::new(restore_request()));
    let name: ExecutionName = "back".parse().unwrap();
    let stack = world.stack().await;
    let started = start(&world.account, &stack, &name, &request)
        .await
        .unwrap();
    assert_eq!(started.job.as_str(), RESTORE);
    let input = highwater_steps::plan_restore::PlanRestoreInput {
        request: restore_request(),
        execution_id: started.arn,
        started_at: started.started_at.to_rfc3339(),
    };
    highwater_steps::plan_restore::run(&source.deps, &input, Budget::UNLIMITED)
        .await
        .unwrap();
    let ports = StackPorts {
        control: source.control.clone(),
        restores: source.control.clone(),
        ..world.ports()
    };
    for target in ["back", TARGET, RESTORE] {
        let found = stack.execution(&ports, target).await.unwrap();
        assert_eq!(found.state.name, "back", "{target}");
    }
    let execution = stack.execution(&ports, TARGET).await.unwrap();
    let stopped = stop(&world.account, &source.deps, &execution, seconds(5)).await;
    assert_eq!(stopped.unwrap().status, Some(Status::Failed));
    let record = source.record().await.unwrap();
    assert_eq!(record.status, Status::Failed);
    assert!(record.error.unwrap().contains("highwater stop"));
    assert!(source.control.restore(&record.id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_found_by_its_machines_and_their_tags() {
    let world = World::new(waits());
    let stack = world.stack().await;
    assert_eq!(stack.tags.control_table, "night-control");
    let find = async |name: &str| {
        let found = Stack::find(&world.account, &name.parse().unwrap()).await;
        found.unwrap_err()
    };
    for (name, error, words) in [
        ("day", "StackNotFound", "day-backup"),
        ("torn", "StackIncomplete", "torn-restore"),
        ("bare", "StackTags", CONTROL_TABLE_TAG),
    ] {
        let found = find(name).await;
        assert_eq!(found.name(), error, "{found}");
        assert!(found.to_string().contains(words), "{found}");
    }
    world.account.deny("ListTagsForResource");
    let denied = find("night").await;
    assert!(matches!(denied, StackError::Service(_)), "{denied:?}");
    let stranger = stack.table(&"invoices".parse().unwrap()).unwrap_err();
    for word in ["invoices", "night", "orders, customers"] {
        assert!(stranger.to_string().contains(word), "{stranger}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_starts_one_execution_of_one_request() {
    let world = World::new(waits());
    let first = world.start("weekly", request(2)).await.unwrap();
    assert_eq!(first.before, None);
    assert_eq!(world.start("weekly", request(2)).await.unwrap(), first);
    let other = world.start("weekly", request(3)).await.unwrap_err();
    assert!(other.to_string().contains("RUNNING"), "{other}");
    assert_eq!(other.name(), "ExecutionNameTaken");
    world.stop("weekly", Duration::ZERO).await.unwrap();
    let late = world.start("weekly", request(2)).await.unwrap();
    assert_eq!(late.before, Some(ExecutionStatus::Aborted));
    assert_eq!((late.arn, late.job), (first.arn, first.job));
    assert_eq!(world.account.all().len(), 1);
    let bad = BackupRequest {
        to: None,
        ..request(2)
    };
    let refused = world.start("bad", bad).await.unwrap_err();
    assert_eq!(refused.name(), "InvalidInput", "{refused}");
    assert_eq!(world.account.all().len(), 1, "nothing was asked for");
}

/// The id that is told at the start is the one that the plan gives.
#[tokio::test(start_paused = true)]
async fn the_id_that_is_told_is_the_one_that_comes() {
    let (world, gate) = gated();
    gate.open();
    let nameless = BackupRequest {
        snapshot_id: None,
        ..request(2)
    };
    let started = world.start("one", nameless).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    let JobId::Backup(id) = &started.job else {
        panic!("{started:?}")
    };
    let expected = SnapshotId::of_execution(&started.arn, started.started_at);
    assert_eq!(id, &expected);
    let record = world.stage.control.snapshot(id).await.unwrap().unwrap();
    assert_eq!(record.value.request_id, started.arn);
}

#[tokio::test(start_paused = true)]
async fn an_execution_is_found_by_whatever_names_it() {
    let world = World::new(waits());
    let request_of = |table: &str| BackupRequest {
        table: Some(table.parse().unwrap()),
        to: Some("s3://fake-bucket/backups".into()),
        ..BackupRequest::default()
    };
    let orders = world.start("one", request_of("orders")).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    world.start("two", request_of("customers")).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    let restore = JobRequest::Restore(Box::new(RestoreRequest {
        restore_id: None,
        ..restore_request()
    }));
    let name: ExecutionName = "three".parse().unwrap();
    start(&world.account, &world.stack().await, &name, &restore)
        .await
        .unwrap();
    let running = world.stack().await.running(&world.ports()).await.unwrap();
    let names: Vec<&str> = running.iter().map(|it| it.state.name.as_str()).collect();
    assert_eq!(
        names,
        ["one", "two", "three"],
        "in the order of their starts"
    );
    let table_arn = "arn:aws:dynamodb:eu-north-1:111122223333:table/orders";
    for target in [
        "one",
        orders.arn.as_str(),
        orders.job.as_str(),
        "orders",
        table_arn,
    ] {
        let found = world.find(target).await;
        assert_eq!(found.unwrap().state.name, "one", "{target}");
    }
    assert_eq!(world.find(TARGET).await.unwrap().state.name, "three");

    let elsewhere = orders.arn.replace("night-backup", "other-backup");
    for target in [
        "four",
        "invoices",
        elsewhere.as_str(),
        RESTORE,
        "no such thing",
    ] {
        let error = world.find(target).await.unwrap_err();
        assert_eq!(error.name(), "ExecutionNotFound", "{target}: {error}");
        assert!(error.to_string().contains(target), "{error}");
    }

    world.start("five", request_of("orders")).await.unwrap();
    let several = world.find("orders").await.unwrap_err();
    assert!(several.to_string().contains("one, five"), "{several}");
    for name in ["one", "five"] {
        world.stop(name, Duration::ZERO).await.unwrap();
    }
    let nothing = world.find("orders").await.unwrap_err();
    assert_eq!(nothing.name(), "NothingRuns", "{nothing}");
    // One that has ended is still found by its name.
    let ended = world.find("one").await.unwrap();
    assert_eq!(ended.state.status, ExecutionStatus::Aborted);
}

/// A resume names no table: the record does, once it is this execution's or not.
#[tokio::test(start_paused = true)]
async fn a_resume_is_found_by_the_table_of_what_it_goes_on_with() {
    let world = World::new(waits());
    world.stage.plan(request(2)).await.unwrap();
    world.start("again", resume()).await.unwrap();
    let found = world.find("orders").await.unwrap();
    assert_eq!(found.state.name, "again");
    assert_eq!(found.job, Some(JobId::Backup(id())));
}

/// The record tells whose a snapshot is, when its execution has long ended.
#[tokio::test(start_paused = true)]
async fn what_has_ended_is_found_by_its_id() {
    let (world, gate) = gated();
    gate.open();
    let arn = world.start("one", request(2)).await.unwrap().arn;
    ended(&world, &arn).await;
    assert_eq!(world.find(ID).await.unwrap().state.arn, arn);
}

/// An execution that somebody started by hand, with an input that nothing can read, can be stopped all the same.
#[tokio::test(start_paused = true)]
async fn an_input_that_nobody_can_read_does_not_keep_it_running() {
    let world = World::new(waits());
    let machine = FakeExecutions::machine_arn("night-backup");
    let input = "{\"tabel\": \"orders\"}";
    world.account.start(&machine, "odd", input).await.unwrap();
    let stopped = world.stop("odd", seconds(60)).await.unwrap();
    assert_eq!((stopped.effect, stopped.status), (Effect::Stopped, None));
    assert!(!stopped.may_begin);
}

//! A crash at every await, and then a second life: the same snapshot comes out.

use std::sync::Arc;

use crate::stage::*;
use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::snapshot::Status;
use highwater_steps::failure_input::FailureInput;
use highwater_steps::{Deps, StepError, finalize_backup, plan_backup};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::intercepted::Intercepted;

/// The whole workflow in one life.
async fn life(deps: &Deps) -> Result<(), StepError> {
    let planned = plan_backup::run(deps, &plan_input(request(2))).await?;
    scan_all(deps, u32::try_from(planned.segments.len()).unwrap()).await?;
    finalize_backup::run(deps, &finalize_input(), Budget::UNLIMITED).await?;
    Ok(())
}

fn through(stage: &Stage, failing: &Arc<Failing>) -> Deps {
    stage.through(
        Arc::new(Intercepted::new(&stage.store, failing)),
        Arc::new(Intercepted::new(&stage.control, failing)),
    )
}

/// Every call to the store and the control table is, once, the last of a life: before it took effect,
/// and after. The next life of the same execution finishes the work.
#[tokio::test]
async fn a_crash_at_any_call_costs_nothing_but_time() {
    for moment in [Moment::Before, Moment::After] {
        let mut struck = 0;
        for nth in 1.. {
            let stage = Stage::of_items(220);
            let failing = Arc::new(Failing::crash(nth, moment));
            let first = life(&through(&stage, &failing)).await;
            if !failing.has_struck() {
                first.unwrap();
                break;
            }
            struck += 1;
            if let Err(error) = life(&stage.deps).await {
                panic!("{moment:?} call {nth}: {error}");
            }
            stage.assert_equals_table().await;
            assert!(
                stage.control.all_parts(&id()).len() >= 6,
                "several parts in each segment"
            );
        }
        assert!(struck > 30, "only {struck} places to crash at");
    }
}

/// The same with a resume by another execution, as `--resume` does it after a crash.
#[tokio::test]
async fn mu_18_a_resume_after_a_crash_at_any_call_completes_the_snapshot() {
    for nth in 1.. {
        let stage = Stage::of_items(220);
        let failing = Arc::new(Failing::crash(nth, Moment::After));
        let first = life(&through(&stage, &failing)).await;
        if !failing.has_struck() {
            return first.unwrap();
        }
        if stage.status().await.is_none() {
            continue; // It never began: there is nothing to resume.
        }
        let input = plan_backup::PlanInput {
            execution_id: "execution-2".into(),
            ..plan_input(resume())
        };
        let planned = plan_backup::run(&stage.deps, &input).await.unwrap();
        scan_all(&stage.deps, u32::try_from(planned.segments.len()).unwrap())
            .await
            .unwrap();
        let input = finalize_backup::FinalizeInput {
            execution_id: Some("execution-2".into()),
            ..finalize_input()
        };
        let output = finalize_backup::run(&stage.deps, &input, Budget::UNLIMITED)
            .await
            .unwrap();
        assert_eq!(output.status, Some(Status::Completed));
        stage.assert_equals_table().await;
    }
}

/// One lost answer: the call took effect, and its caller is told that it failed in passing.
#[tokio::test]
async fn a_lost_answer_at_any_call_is_survived_by_a_retry_of_the_step() {
    for nth in 1.. {
        let stage = Stage::of_items(220);
        let failing = Arc::new(Failing::once(nth, Moment::After, FailureKind::Transient));
        let deps = through(&stage, &failing);
        if life(&deps).await.is_err() {
            // Step Functions retries the state that failed; here all of them, which is harder.
            life(&deps).await.unwrap();
        }
        stage.assert_equals_table().await;
        if !failing.has_struck() {
            return;
        }
    }
}

/// Between PlanBackup's claim and its answer, `AbandonPlan` marks what was begun, and only that.
#[tokio::test]
async fn a_plan_that_broke_off_is_marked_failed_by_its_execution_alone() {
    let stage = Stage::of_items(10);
    stage.plan(request(1)).await.unwrap();
    let mut input = finalize_backup::FinalizeInput {
        execution_id: Some("execution-2".into()),
        started_at: Some("2026-01-14T10:18:50.622Z".into()),
        request: Some(request(1)),
        failure: Some(FailureInput {
            error: "Internal".into(),
            cause: "x".into(),
        }),
        ..finalize_backup::FinalizeInput::default()
    };
    let output = finalize_backup::run(&stage.deps, &input, Budget::UNLIMITED)
        .await
        .unwrap();
    assert_eq!(
        output.status,
        Some(Status::Running),
        "another execution's snapshot is left alone"
    );
    input.execution_id = Some("execution-1".into());
    let output = finalize_backup::run(&stage.deps, &input, Budget::UNLIMITED)
        .await
        .unwrap();
    assert_eq!(output.status, Some(Status::Failed));
    input.request = None;
    let output = finalize_backup::run(&stage.deps, &input, Budget::UNLIMITED)
        .await
        .unwrap();
    assert_eq!(
        output.status, None,
        "the execution's own id was never claimed"
    );
}

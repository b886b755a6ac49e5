//! Restores to a second: what the table was, whatever the side of the scan, and whatever crashes or runs twice.

use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::restore_point::Side;
use highwater_domain::snapshot::Status;
use highwater_steps::restore_request::{EngineChoice, RestoreRequest};
use highwater_steps::{ErrorName, StepError, plan_restore};
use highwater_testkit::failing::{Failing, Moment};

use crate::restore_stage::TARGET;
use crate::second_stage::*;

fn unlimited() -> Budget {
    Budget::UNLIMITED
}

fn second(at: UnixSeconds, seconds: i64) -> UnixSeconds {
    UnixSeconds(at.0.saturating_add_signed(seconds))
}

/// Seconds on both sides of every edge.
fn interesting(stage: &SecondStage) -> Vec<UnixSeconds> {
    let (began, ended) = stage.scanned;
    let mut seconds = Vec::new();
    for edge in [began, ended, stage.last] {
        seconds.extend([-3, -2, -1, 0, 1].map(|by| second(edge, by)));
    }
    seconds.push(UnixSeconds(u64::midpoint(began.0, ended.0)));
    seconds.push(UnixSeconds(u64::midpoint(ended.0, stage.last.0)));
    seconds.sort_unstable();
    seconds.dedup();
    seconds
}

#[tokio::test(start_paused = true)]
async fn case_49_a_second_before_inside_and_after_the_scan_is_what_the_table_was() {
    let stage = SecondStage::with_history().await;
    let mut sides = Vec::new();
    let mut superseded = 0;
    for (n, at) in interesting(&stage).into_iter().enumerate() {
        let id = format!("{:014}-1b2c3d4e", 1_768_385_999_000_u64 + n as u64);
        let table = format!("orders-{n}");
        let request = RestoreRequest {
            restore_id: Some(id.parse().unwrap()),
            to: Some(table.parse().unwrap()),
            ..second_request(at)
        };
        let plan =
            plan_restore::preview(&stage.deps, &second_input(request.clone(), "execution-1"))
                .await
                .unwrap();
        sides.push(plan.point.unwrap().side);
        let output = life(&stage.deps, request, unlimited).await.unwrap();
        let truth = stage.truth(at).into_values().collect();
        assert_eq!(stage.restored(&table), truth, "at {at:?}");
        assert!(output.totals.is_balanced(), "{}", output.totals);
        superseded += output.totals.superseded;
        stage.assert_tidy();
    }
    assert!(sides.contains(&Side::Undo) && sides.contains(&Side::Forward));
    assert!(
        superseded > 50,
        "{superseded} items were changed after the scan saw them"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_a_restore_to_a_second_costs_nothing_but_time() {
    for moment in [Moment::Before, Moment::After] {
        let mut struck = 0;
        for nth in 1.. {
            let stage = SecondStage::with_history().await;
            let at = second(stage.last, -4);
            let failing = Arc::new(Failing::crash(nth, moment));
            let first = life(&stage.through(&failing), second_request(at), unlimited).await;
            if !failing.has_struck() {
                first.unwrap();
                break;
            }
            struck += 1;
            match life(&stage.deps, second_request(at), unlimited).await {
                Ok(output) => stage.assert_restored(at, &output),
                Err(error) => panic!("{moment:?} call {nth}: {error}"),
            }
            stage.assert_tidy();
        }
        assert!(struck > 60, "only {struck} places to crash at");
    }
}

/// Two copies of one execution, their calls in any order: one of them may find the other ahead, but what is there in the
/// end is what the table was.
#[tokio::test(start_paused = true)]
async fn two_copies_of_one_execution_make_the_same_table() {
    for seed in 0..30 {
        let stage = SecondStage::with_history().await;
        let at = second(stage.scanned.1, 4);
        let slow = [seed, seed + 1000].map(|seed| Arc::new(Dawdling::seeded(seed)));
        let deps = slow.each_ref().map(|slow| stage.through(slow));
        plan_second(&stage.deps, second_request(at)).await.unwrap();
        let copies = deps
            .iter()
            .map(|deps| life(deps, second_request(at), unlimited));
        let outcomes = futures::future::join_all(copies).await;
        assert!(outcomes.iter().any(Result::is_ok), "{seed}: {outcomes:?}");
        let output = life(&stage.deps, second_request(at), unlimited)
            .await
            .unwrap();
        stage.assert_restored(at, &output);
        stage.assert_tidy();
    }
}

/// What is logged after the plan was made changes nothing, for a resume neither.
#[tokio::test(start_paused = true)]
async fn a_resume_keeps_the_second_and_the_log_that_were_planned() {
    let stage = SecondStage::with_history().await;
    let request = RestoreRequest {
        at: Some("latest".into()),
        ..second_request(stage.last)
    };
    plan_second(&stage.deps, request).await.unwrap();
    let planned = stage.record().await.point.unwrap();
    stage.write(20, 30).await;
    stage.log().await;
    let resume = RestoreRequest {
        restore_id: Some(crate::restore_stage::restore_id()),
        resume: true,
        ..RestoreRequest::default()
    };
    let output = life(&stage.deps, resume, unlimited).await.unwrap();
    assert_eq!(stage.record().await.point.unwrap(), planned);
    stage.assert_restored(planned.at, &output);
}

#[tokio::test(start_paused = true)]
async fn short_invocations_hand_a_restore_to_a_second_over() {
    let stage = SecondStage::with_history().await;
    let at = stage.last;
    let request = RestoreRequest {
        write_capacity: Some(5.0),
        concurrency: Some(1),
        ..second_request(at)
    };
    let output = life(&stage.deps, request, || budget_of(&stage.deps, 6_000))
        .await
        .unwrap();
    stage.assert_restored(at, &output);
}

async fn refusal(stage: &SecondStage, request: RestoreRequest) -> StepError {
    let input = second_input(request.clone(), "execution-1");
    let told = plan_restore::preview(&stage.deps, &input)
        .await
        .unwrap_err();
    let before = stage.store.keys();
    let error = plan_second(&stage.deps, request).await.unwrap_err();
    assert_eq!(error.to_string(), told.to_string());
    assert_eq!(stage.store.keys(), before, "nothing is begun");
    assert!(stage.account.table(TARGET).is_none());
    error
}

#[tokio::test(start_paused = true)]
async fn a_second_that_cannot_be_exact_is_refused_before_anything_is_begun() {
    let stage = SecondStage::with_history().await;
    let late = refusal(&stage, second_request(second(stage.last, 40))).await;
    assert_eq!(late.name(), ErrorName::NotRestorable, "{late}");
    let proven = RestoreRequest {
        grade: Some(Grade::Proven),
        ..second_request(second(stage.last, 27))
    };
    let error = refusal(&stage, proven).await;
    assert_eq!(error.name(), ErrorName::NotRestorable, "{error}");
    let import = RestoreRequest {
        engine: EngineChoice::ImportTable,
        ..second_request(stage.last)
    };
    let error = refusal(&stage, import).await;
    assert_eq!(error.name(), ErrorName::InvalidInput);
    assert!(error.to_string().contains("materialize"), "{error}");
    for (request, member) in [
        (
            RestoreRequest {
                at: Some("yesterday".into()),
                ..second_request(stage.last)
            },
            "`at`",
        ),
        (
            RestoreRequest {
                at: None,
                ..second_request(stage.last)
            },
            "`stamp_margin_s`",
        ),
    ] {
        let error = refusal(&stage, request).await;
        assert_eq!(error.name(), ErrorName::InvalidInput);
        assert!(error.to_string().contains(member), "{error}");
    }
}

/// Items that a filter leaves out are counted once, whether the log knows them or not.
#[tokio::test(start_paused = true)]
async fn a_filter_takes_part_in_the_sums_of_a_restore_to_a_second() {
    let stage = SecondStage::with_history().await;
    let at = second(stage.last, -2);
    let request = RestoreRequest {
        filter: vec!["id^=k1".parse().unwrap()],
        max_items: Some(4),
        ..second_request(at)
    };
    let output = life(&stage.deps, request, unlimited).await.unwrap();
    let totals = output.totals;
    assert_eq!(totals.written, 4);
    assert!(
        totals.is_balanced() && totals.superseded > 0 && totals.filtered > 0,
        "{totals:?}"
    );
    let restored = stage.restored(TARGET);
    let truth: Vec<_> = stage
        .truth(at)
        .into_iter()
        .filter(|(key, _)| key.starts_with("k1"))
        .map(|(_, item)| item)
        .collect();
    assert_eq!(restored.len(), 4);
    assert!(restored.iter().all(|item| truth.contains(item)));
}

#[tokio::test(start_paused = true)]
async fn one_snapshot_may_be_named_instead_of_the_tables_folder() {
    let stage = SecondStage::with_history().await;
    let at = stage.scanned.1;
    let request = RestoreRequest {
        backup: Some(backup_url()),
        ..second_request(at)
    };
    let output = life(&stage.deps, request, unlimited).await.unwrap();
    assert_eq!(output.status, Some(Status::Completed));
    stage.assert_restored(at, &output);
}

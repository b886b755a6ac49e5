//! Restores on the fakes: every item accounted for, whatever crashes, races or is refused on the way.

use std::fmt::Write as _;
use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::UnixMillis;
use highwater_domain::restore::OnExisting;
use highwater_domain::snapshot::Status;
use highwater_steps::StepError;
use highwater_steps::restore_request::RestoreRequest;
use highwater_testkit::failing::{Failing, Moment};

use crate::restore_stage::*;

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_restored_into_a_new_table() {
    let stage = RestoreStage::of_items(220).await;
    let output = life(&stage.deps, restore_request()).await.unwrap();
    assert_eq!(output.status, Some(Status::Completed));
    stage.assert_restored(&output);
    let planned = plan(&stage.deps, restore_request()).await.unwrap();
    assert_eq!(planned.files, [0; 0], "what is completed is not done again");
}

/// Every call to every port is, once, the last of a life: before it took effect, and after. The next life of the
/// same execution finishes the work.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_costs_nothing_but_time() {
    for moment in [Moment::Before, Moment::After] {
        let mut struck = 0;
        for nth in 1.. {
            let stage = RestoreStage::of_items(120).await;
            let failing = Arc::new(Failing::crash(nth, moment));
            let first = life(&stage.through(&failing), restore_request()).await;
            if !failing.has_struck() {
                first.unwrap();
                break;
            }
            struck += 1;
            match life(&stage.deps, restore_request()).await {
                Ok(output) => stage.assert_restored(&output),
                Err(error) => panic!("{moment:?} call {nth}: {error}"),
            }
        }
        assert!(struck > 50, "only {struck} places to crash at");
    }
}

/// One lost answer: the call took effect, and its caller is told that it failed in passing.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_any_call_is_survived() {
    for nth in 1.. {
        let stage = RestoreStage::of_items(120).await;
        let failing = Arc::new(Failing::once(nth, Moment::After, FailureKind::Transient));
        let deps = stage.through(&failing);
        let mut outcome = life(&deps, restore_request()).await;
        if !failing.has_struck() {
            outcome.unwrap();
            return;
        }
        if outcome.is_err() {
            // A call that is not retried in the step is retried by the state machine.
            outcome = life(&deps, restore_request()).await;
        }
        match outcome {
            Ok(output) => stage.assert_restored(&output),
            Err(error) => panic!("call {nth}: {error}"),
        }
    }
}

/// The same where existing items stay: a put whose answer is lost counts as written, not as skipped.
#[tokio::test(start_paused = true)]
async fn a_put_whose_answer_is_lost_counts_as_written() {
    let lines = r#"{"Item":{"id":{"S":"a"},"n":{"N":"1.0"}}}"#;
    let stage = RestoreStage::of_lines(lines).await;
    stage.with_table(TARGET, &[]);
    let failing = Failing::once(1, Moment::After, FailureKind::Transient).only("put_if_absent");
    let failing = Arc::new(failing);
    let output = life(&stage.through(&failing), lines_request())
        .await
        .unwrap();
    assert!(failing.has_struck());
    assert_eq!((output.totals.written, output.totals.existing), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn work_is_handed_over_when_the_budget_is_spent() {
    let stage = RestoreStage::of_items(400).await;
    // Slow enough that one invocation of a few seconds does not get through.
    let request = RestoreRequest {
        write_capacity: Some(20.0),
        concurrency: Some(1),
        ..restore_request()
    };
    plan(&stage.deps, request.clone()).await.unwrap();
    let clock = stage.deps.clock.clone();
    let budget = || {
        let now = clock.now();
        Budget::until(UnixMillis(now.0 + 6_000), now)
    };
    let rounds = load_lane(&stage.deps, 0, budget).await.unwrap();
    assert!(rounds > 2, "{rounds} rounds");
    let output = life(&stage.deps, request).await.unwrap();
    stage.assert_restored(&output);
    assert!(
        stage.deps.clock.now().since(UnixMillis(1_768_385_930_622)) >= 15_000,
        "paced"
    );
}

#[tokio::test(start_paused = true)]
async fn two_workers_on_one_lane_write_the_same_table() {
    let stage = RestoreStage::of_items(300).await;
    let request = RestoreRequest {
        concurrency: Some(1),
        ..restore_request()
    };
    plan(&stage.deps, request.clone()).await.unwrap();
    let lane = || load_lane(&stage.deps, 0, || Budget::UNLIMITED);
    let (one, other) = tokio::join!(lane(), lane());
    one.unwrap();
    other.unwrap();
    let output = life(&stage.deps, request).await.unwrap();
    stage.assert_restored(&output);
}

#[tokio::test(start_paused = true)]
async fn items_that_are_there_stay_or_are_replaced_as_asked() {
    let lines =
        "{\"id\":{\"S\":\"a\"},\"n\":{\"N\":\"1\"}}\n{\"id\":{\"S\":\"b\"},\"n\":{\"N\":\"1\"}}\n";
    let there = r#"{"id":{"S":"a"},"n":{"N":"0"}}"#;
    for (on_existing, existing, kept) in
        [(OnExisting::Skip, 1, "0"), (OnExisting::Overwrite, 0, "1")]
    {
        let stage = RestoreStage::of_lines(lines).await;
        let table = stage.with_table(TARGET, &[there]);
        let request = RestoreRequest {
            on_existing: Some(on_existing),
            ..lines_request()
        };
        let output = life(&stage.deps, request).await.unwrap();
        assert_eq!(
            (output.totals.existing, output.totals.written),
            (existing, 2 - existing)
        );
        let items = table.items();
        assert_eq!(items.len(), 2);
        let first = String::from_utf8(items.values().next().unwrap().to_vec()).unwrap();
        assert!(first.contains(&format!("\"N\":\"{kept}\"")), "{first}");
    }
}

/// Lines that no table takes: each is kept whole, with its line and the reason, and the others are written.
#[tokio::test(start_paused = true)]
async fn what_the_table_does_not_take_is_kept_whole() {
    let large = format!(
        r#"{{"id":{{"S":"large"}},"x":{{"S":"{}"}}}}"#,
        "x".repeat(410 << 10)
    );
    let lines = [
        r#"{"id":{"S":"a"}}"#,
        r#"{"id":{"N":"1"}}"#,
        r#"{"id":{"S":""}}"#,
        &large,
        r#"{"id":{"S":"b"},"empty":{}}"#,
        r#"{"id":{"S":"c"},"set":{"SS":[]}}"#,
        r#"{"id":{"S":"d"}}"#,
    ];
    for on_existing in [OnExisting::Overwrite, OnExisting::Skip] {
        let stage = RestoreStage::of_lines(&lines.join("\n")).await;
        let table = stage.with_table(TARGET, &[]);
        let request = RestoreRequest {
            on_existing: Some(on_existing),
            ..lines_request()
        };
        let output = life(&stage.deps, request).await.unwrap();
        assert_eq!(
            (
                output.totals.read,
                output.totals.written,
                output.totals.rejected
            ),
            (7, 2, 5)
        );
        assert!(output.totals.is_balanced());
        assert_eq!(table.items().len(), 2);
        let rejects = stage.rejects().await;
        let told: Vec<u64> = rejects
            .iter()
            .map(|it| it["line"].as_u64().unwrap())
            .collect();
        assert_eq!(told, [2, 3, 4, 5, 6]);
        for reject in &rejects {
            let line = usize::try_from(reject["line"].as_u64().unwrap()).unwrap();
            let item: serde_json::Value = serde_json::from_str(lines[line - 1]).unwrap();
            assert_eq!(reject["item"], item);
            assert!(!reject["reason"].as_str().unwrap().is_empty());
            assert_eq!(reject["object"], "lines.json");
        }
    }
}

/// A rejects file of an attempt that died, with other items in it, hides nothing of the next one's.
#[tokio::test(start_paused = true)]
async fn rejects_of_an_earlier_attempt_are_not_taken_for_these() {
    let stage = RestoreStage::of_lines("{\"id\":{\"S\":\"a\"}}\n{\"id\":{\"N\":\"1\"}}\n").await;
    stage.with_table(TARGET, &[]);
    stage
        .store
        .plant(highwater_domain::object_store::NewObject {
            key: format!("rejects/{RESTORE}/f00000-l000000000001-000000000002.jsonl"),
            body: "{\"line\":1}\n".into(),
            ..Default::default()
        });
    let output = life(&stage.deps, lines_request()).await.unwrap();
    assert_eq!(output.totals.rejected, 1);
    let kept = stage.rejects().await;
    let lines: Vec<u64> = kept.iter().map(|it| it["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 1], "both attempts' files are there");
}

#[tokio::test(start_paused = true)]
async fn fail_fast_stops_at_the_first_and_names_it() {
    let lines = "{\"id\":{\"S\":\"a\"}}\n{\"id\":{\"N\":\"1\"}}\n{\"id\":{\"S\":\"b\"}}\n";
    let stage = RestoreStage::of_lines(lines).await;
    stage.with_table(TARGET, &[]);
    let request = RestoreRequest {
        fail_fast: true,
        ..lines_request()
    };
    let error = life(&stage.deps, request).await.unwrap_err();
    let StepError::ItemRejected {
        object,
        line,
        reason,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((object.as_str(), *line), ("lines.json", 2));
    assert!(reason.contains("id"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn the_later_of_two_lines_of_one_key_wins() {
    // Spelled differently, far enough apart to be in different batches, and next to each other.
    let mut lines = String::new();
    for n in 0..200 {
        let key = n % 40;
        writeln!(
            lines,
            "{{\"id\":{{\"S\":\"k{key}\"}},\"n\":{{\"N\":\"{n}\"}}}}"
        )
        .unwrap();
    }
    lines.push_str("{\"id\":{\"S\":\"k0\"},\"n\":{\"N\":\"1000\"}}\n{\"id\":{\"S\":\"\\u006b0\"},\"n\":{\"N\":\"1001\"}}\n");
    let stage = RestoreStage::of_lines(&lines).await;
    let table = stage.with_table(TARGET, &[]);
    let request = RestoreRequest {
        on_existing: Some(OnExisting::Overwrite),
        ..lines_request()
    };
    let output = life(&stage.deps, request).await.unwrap();
    assert_eq!(output.totals.written, 202);
    let items = table.items();
    assert_eq!(items.len(), 40);
    for (key, item) in items {
        let text = String::from_utf8(item.to_vec()).unwrap();
        let first = key.0["id"] == highwater_domain::key::KeyValue::S("k0".into());
        let last = if first {
            "1001".to_owned()
        } else {
            let key = text.split("\"k").nth(1).unwrap().split('"').next().unwrap();
            (160 + key.parse::<u64>().unwrap()).to_string()
        };
        assert!(text.contains(&format!("\"N\":\"{last}\"")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn max_items_is_exact_and_a_filter_is_not_counted() {
    let mut lines = String::new();
    for n in 0..300 {
        let letter = if n % 3 == 0 { "a" } else { "b" };
        writeln!(lines, "{{\"id\":{{\"S\":\"{letter}{n:03}\"}}}}").unwrap();
    }
    let stage = RestoreStage::of_lines(&lines).await;
    let table = stage.with_table(TARGET, &[]);
    let request = RestoreRequest {
        filter: vec!["id^=a".parse().unwrap()],
        max_items: Some(37),
        ..lines_request()
    };
    let output = life(&stage.deps, request).await.unwrap();
    assert_eq!(output.totals.written, 37);
    assert!(output.totals.is_balanced());
    let keys = table.items();
    assert_eq!(keys.len(), 37);
    assert_eq!(output.totals.filtered, output.totals.read - 37);
}

#[tokio::test(start_paused = true)]
async fn the_plan_refuses_what_cannot_be() {
    let stage = RestoreStage::of_items(20).await;
    stage.with_table("other", &[]);
    let refused = async |request: RestoreRequest| plan(&stage.deps, request).await.unwrap_err();
    let to = |table: &str| Some(table.parse().unwrap());
    let taken = refused(RestoreRequest {
        to: to("other"),
        ..restore_request()
    })
    .await;
    assert!(matches!(taken, StepError::TableExists(_)), "{taken}");
    let absent = refused(RestoreRequest {
        into_existing: true,
        ..restore_request()
    })
    .await;
    assert!(absent.to_string().contains("no such table"), "{absent}");
    let foreign = refused(RestoreRequest {
        filter: vec!["name=x".parse().unwrap()],
        ..restore_request()
    })
    .await;
    assert!(
        foreign.to_string().contains("no key attribute"),
        "{foreign}"
    );
    let nowhere = refused(RestoreRequest {
        backup: Some("s3://fake-bucket/nothing".into()),
        ..restore_request()
    })
    .await;
    assert!(
        matches!(nowhere, StepError::BackupNotFound { .. }),
        "{nowhere}"
    );
    assert_eq!(stage.record().await, None, "nothing was claimed");
    assert_eq!(stage.account.names(), ["other"], "nothing was made");
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_failed_is_resumed_by_another_execution() {
    let stage = RestoreStage::of_items(200).await;
    let failing = Arc::new(Failing::crash(12, Moment::After).only("write_batch"));
    life(&stage.through(&failing), restore_request())
        .await
        .unwrap_err();
    let before = committed(&stage).await;
    assert!(before.written < 200, "{before}");
    let resume = RestoreRequest {
        restore_id: Some(restore_id()),
        resume: true,
        ..RestoreRequest::default()
    };
    let output = life(&stage.deps, resume).await.unwrap();
    stage.assert_restored(&output);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_made_anew_meanwhile_is_not_filled() {
    let stage = RestoreStage::of_items(50).await;
    let planned = plan(&stage.deps, restore_request()).await.unwrap();
    stage.account.lose(TARGET);
    stage.with_table(TARGET, &[]);
    let error = load_lane(&stage.deps, planned.files[0], || Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert!(matches!(error, StepError::TargetChanged { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_changes_meanwhile_is_refused() {
    let lines = "{\"id\":{\"S\":\"a\"}}\n";
    let stage = RestoreStage::of_lines(lines).await;
    stage.with_table(TARGET, &[]);
    let planned = plan(&stage.deps, lines_request()).await.unwrap();
    let object = highwater_domain::object_store::NewObject {
        key: "lines.json".into(),
        body: format!("{lines}{lines}").into(),
        ..Default::default()
    };
    highwater_domain::object_store::ObjectStore::replace(stage.store.as_ref(), object)
        .await
        .unwrap();
    let error = load_lane(&stage.deps, planned.files[0], || Budget::UNLIMITED)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is not what it was"), "{error}");
}

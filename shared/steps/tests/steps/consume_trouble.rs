//! `ConsumeStream` when things fail: what is reported as done is durable, and what is not comes again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::ObjectStore;
use highwater_steps::StepError;
use highwater_steps::consume_stream::ConsumeOutput;
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::intercepted::{Call, Intercepted, Interceptor, Ticket};
use highwater_testkit::simulation::{SimRecord, SimTrace, Trouble, Wire, WiredStores};
use serde_json::json;

use crate::consume_stage::ConsumeStage;

fn over(stage: &ConsumeStage, failing: &Arc<Failing>) -> Arc<dyn ObjectStore> {
    Arc::new(Intercepted::new(&stage.store, failing))
}

fn asked_again(output: &ConsumeOutput) -> Option<&str> {
    let failures = output.batch_item_failures.iter();
    let mut asked = failures.map(|failure| failure.item_identifier.as_str());
    let first = asked.next();
    assert_eq!(asked.next(), None, "nothing after the first failure");
    first
}

/// A strange record without a number, and one with one.
fn strange(stage: &ConsumeStage, number: Option<&str>) -> Bytes {
    let record = json!({"eventSourceARN": stage.arn(), "dynamodb": {"SequenceNumber": number}});
    record.to_string().into()
}

#[tokio::test(start_paused = true)]
async fn case_62_failures_that_pass_are_waited_out() {
    for kind in [
        FailureKind::Throttled,
        FailureKind::Transient,
        FailureKind::Corrupt,
        FailureKind::Unreachable,
    ] {
        for moment in [Moment::Before, Moment::After] {
            // The create; then, where it took effect, the look at what is there.
            for nth in 1..=2 {
                let stage = ConsumeStage::of(5);
                let failing = Arc::new(Failing::once(nth, moment, kind));
                let window = stage.window(&stage.records());
                let output = stage.consume_over(over(&stage, &failing), window).await;
                assert_eq!(
                    asked_again(&output.unwrap()),
                    None,
                    "{kind:?} {moment:?} {nth}"
                );
                stage.assert_whole();
                assert_eq!(stage.objects(), 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_62_a_damaged_object_is_replaced_and_a_whole_one_never() {
    let damages: [fn(&mut Vec<u8>); 5] = [
        |body| body.clear(),
        |body| body.truncate(body.len() - 1),
        |body| body.truncate(body.len() / 2),
        |body| *body.last_mut().unwrap() ^= 1,
        |body| *body = b"<html>captive portal</html>".to_vec(),
    ];
    for damage in damages {
        let stage = ConsumeStage::of(6);
        stage.consume(stage.window(&stage.records())).await;
        let before = stage.store.objects();
        let key = before.keys().next().unwrap();
        assert!(stage.store.tamper(key, damage));
        let output = stage.consume(stage.window(&stage.records())).await;
        assert_eq!(asked_again(&output), None);
        assert_eq!(stage.store.objects(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn case_62_a_store_that_stays_away_is_told_by_the_lowest_number_that_is_not_durable() {
    let stage = ConsumeStage::of(4);
    stage.table.put("large", &"x".repeat(9 << 20));
    stage.table.put("small", "after it");
    let records = stage.records();
    // Three objects: four records, the large one, the last one.
    for (nth, from) in [(1, 0), (2, 4), (3, 5)] {
        let failing = Failing::crash(nth, Moment::Before).only("create");
        let store = over(&stage, &Arc::new(failing));
        let mut disordered: Vec<_> = records.iter().collect();
        disordered.reverse();
        let began = tokio::time::Instant::now();
        let output = stage
            .consume_over(store, stage.window(disordered))
            .await
            .unwrap();
        assert_eq!(
            asked_again(&output),
            Some(records[from].sequence_number.as_str())
        );
        assert_eq!(
            output.state.unwrap().n,
            0,
            "the same records will be counted again"
        );
        let durable = stage.durable();
        assert_eq!(durable.len(), from, "everything below it is durable");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "a failure that does not pass is told at once"
        );
        for key in stage.store.keys() {
            stage.store.lose(&key);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_throttles_for_ever_is_told_before_the_invocation_ends() {
    let stage = ConsumeStage::of(4);
    let throttled = Arc::new(Always(FailureKind::Throttled));
    let store = Arc::new(Intercepted::new(&stage.store, &throttled));
    let began = tokio::time::Instant::now();
    let output = stage
        .consume_over(store, stage.window(&stage.records()))
        .await
        .unwrap();
    assert_eq!(
        asked_again(&output),
        Some(stage.records()[0].sequence_number.as_str())
    );
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(30) && took < Duration::from_secs(95),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_does_not_take_the_invocation_with_it() {
    let stage = ConsumeStage::of(4);
    let store = Arc::new(Intercepted::new(&stage.store, &Arc::new(Hanging)));
    let began = tokio::time::Instant::now();
    let output = stage
        .consume_over(store, stage.window(&stage.records()))
        .await
        .unwrap();
    assert_eq!(
        asked_again(&output),
        Some(stage.records()[0].sequence_number.as_str())
    );
    assert!(
        began.elapsed() < Duration::from_mins(2),
        "{:?}",
        began.elapsed()
    );
}

#[derive(Debug)]
struct Always(FailureKind);

#[async_trait]
impl Interceptor for Always {
    async fn before(&self, call: &Call) -> Result<Ticket, Failure> {
        Err(Failure::new(
            self.0,
            call.operation,
            call.resource.clone(),
            "slow down",
        ))
    }

    async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
        Ok(())
    }
}

#[derive(Debug)]
struct Hanging;

#[async_trait]
impl Interceptor for Hanging {
    async fn before(&self, _call: &Call) -> Result<Ticket, Failure> {
        std::future::pending().await
    }

    async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn case_26_a_strange_record_that_cannot_be_kept_is_not_taken_for_done() {
    for nth in 1..=2 {
        let stage = ConsumeStage::of(3);
        let with = |number: Option<&str>| {
            let mut input = stage.window(&stage.records());
            input
                .records
                .as_mut()
                .unwrap()
                .push(strange(&stage, number));
            input
        };
        let crash = || Arc::new(Failing::crash(nth, Moment::Before));
        // Without a number nothing could ask for it: the whole batch comes again.
        let error = stage.consume_over(over(&stage, &crash()), with(None)).await;
        assert!(matches!(error, Err(StepError::Store(_))), "{error:?}");
        let output = stage
            .consume_over(over(&stage, &crash()), with(Some("7")))
            .await
            .unwrap();
        assert_eq!(asked_again(&output), Some("7"));
        assert!(stage.durable().is_empty(), "it came first");
    }
}

/// The function dies at its n-th call, before or after the call took effect. Lambda delivers the batch again.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_loses_nothing() {
    for moment in [Moment::Before, Moment::After] {
        for nth in 1.. {
            let stage = ConsumeStage::of(6);
            stage.table.put("large", &"x".repeat(9 << 20));
            let batch = || {
                let mut input = stage.window(&stage.records());
                input
                    .records
                    .as_mut()
                    .unwrap()
                    .insert(3, strange(&stage, Some("8")));
                input
            };
            let crash = Arc::new(Failing::crash(nth, moment));
            let store = over(&stage, &crash);
            let answer = stage.consume_over(store, batch()).await;
            if let Ok(output) = &answer {
                // What is not asked for again is durable.
                let from = asked_again(output).map(|from| from.parse::<u128>().unwrap());
                let durable = stage.durable();
                for record in stage.records() {
                    let number = record.sequence_number.as_str();
                    let done = from.is_none_or(|from| number.parse::<u128>().unwrap() < from);
                    assert!(
                        !done || durable.contains(number),
                        "{moment:?} {nth}: {number}"
                    );
                }
            }
            let struck = crash.has_struck();
            assert_eq!(asked_again(&stage.consume(batch()).await), None);
            stage.assert_whole();
            assert_eq!(stage.incidents().len(), 1);
            if !struck {
                assert!(nth > 4, "raw, incident, two objects");
                break;
            }
        }
    }
}

/// Another writer has filled a gap under the name that a batch is to have: between the same two records, as many.
#[tokio::test(start_paused = true)]
async fn a_name_that_other_records_have_is_not_overwritten_and_nothing_is_lost() {
    let stage = ConsumeStage::of(9);
    let records = stage.records();
    let pick =
        |numbers: &[usize]| -> Vec<_> { numbers.iter().map(|n| records[*n].clone()).collect() };
    let sets: [&[usize]; 4] = [
        &[0, 1, 2, 3, 8],
        &[0, 4, 5, 6, 8],
        &[0, 2, 5, 7, 8],
        &[0, 4, 5, 6, 8],
    ];
    for set in sets {
        let before = stage.store.objects();
        let output = stage.consume(stage.window(&pick(set))).await;
        assert_eq!(asked_again(&output), None);
        for (key, object) in before {
            assert_eq!(stage.store.objects()[&key], object, "a fact stays");
        }
    }
    stage.assert_whole();
}

/// The same record by another way has another dress, and the object under its name stays.
#[tokio::test(start_paused = true)]
async fn the_same_records_in_another_dress_are_the_same() {
    let stage = ConsumeStage::of(5);
    stage.consume(stage.window(&stage.records())).await;
    let before = stage.store.objects();
    let mut plain = stage.window([]);
    let raw = |record: &Arc<SimRecord>| record.raw.clone();
    plain.records = Some(stage.records().iter().map(raw).collect());
    let output = stage.consume(plain).await;
    assert_eq!(asked_again(&output), None);
    assert_eq!(stage.store.objects(), before);
}

/// Two events with one number in one shard cannot be: a stream that says so is not believed in silence.
#[tokio::test(start_paused = true)]
async fn two_events_of_one_number_are_told_and_neither_replaces_the_other() {
    let stage = ConsumeStage::of(3);
    stage.consume(stage.window(&stage.records())).await;
    let before = stage.store.objects();
    let mut other = stage.window(&stage.records());
    let records = other.records.as_mut().unwrap();
    let text = String::from_utf8(records[1].to_vec()).unwrap();
    let text = text.replace("\"eventID\":\"", "\"eventID\":\"another-");
    records[1] = text.into();
    let output = stage.consume(other).await;
    assert_eq!(
        asked_again(&output),
        Some(stage.records()[0].sequence_number.as_str())
    );
    assert_eq!(stage.store.objects(), before);
}

/// A mapping that doubles, cuts anew and disorders batches over a connection that loses, delays and doubles requests,
/// with functions that die: in the end the log is the stream.
#[tokio::test(start_paused = true)]
async fn whatever_the_mapping_and_the_network_do_the_log_is_the_stream() {
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let stage = ConsumeStage::of(random.usize(1..120));
        let wire = Wire::new(
            "function",
            seed,
            trouble(&mut random),
            SimTrace::off(stage.table.time()),
        );
        let store: Arc<dyn ObjectStore> = Arc::new(WiredStores::new(stage.store.clone(), &wire));
        let records = stage.records();
        let (mut from, mut deliveries) = (0, 0);
        while from < records.len() {
            deliveries += 1;
            assert!(deliveries < 2000, "seed {seed}: no progress");
            let until = random.usize(from + 1..=records.len());
            // Sometimes a batch of long ago comes once more.
            let first = if random.u8(..) < 40 {
                random.usize(..=from)
            } else {
                from
            };
            let mut batch: Vec<_> = records[first..until].iter().collect();
            if random.u8(..) < 60 {
                random.shuffle(&mut batch);
            }
            let window = stage.window(batch);
            let invocation = stage.consume_over(Arc::clone(&store), window);
            let dies_after = Duration::from_millis(random.u64(1..400_000));
            let Ok(Ok(output)) = tokio::time::timeout(dies_after, invocation).await else {
                continue;
            };
            let asked = asked_again(&output);
            let position = |number: &str| {
                let found = records
                    .iter()
                    .position(|record| record.sequence_number.as_str() == number);
                found.unwrap_or_else(|| panic!("seed {seed}: {number} is of no record"))
            };
            let done = asked.map_or(until, position);
            let durable = stage.durable();
            for record in &records[first..done] {
                assert!(
                    durable.contains(record.sequence_number.as_str()),
                    "seed {seed}"
                );
            }
            from = done.max(from);
        }
        stage.assert_whole();
    }
}

fn trouble(random: &mut fastrand::Rng) -> Trouble {
    Trouble {
        delay_ms: random.choice([0, 40, 3_000]).unwrap(),
        per_mille: random.choice([0, 20, 200, 500]).unwrap(),
        late_ms: random.u64(..60_000),
    }
}

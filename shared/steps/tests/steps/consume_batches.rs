//! `ConsumeStream`: whatever way the batches come, the log holds each record once.

use bytes::Bytes;
use highwater_domain::failure::FailureKind;
use highwater_domain::incident::IncidentKind;
use highwater_domain::log_place::UNPLACED;
use highwater_domain::object_store::{Creation, ObjectStore as _};
use highwater_domain::shard::ShardId;
use highwater_steps::StepError;
use highwater_steps::consume_stream::{ConsumeInput, ConsumeOutput, WindowState};
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::FakeStore;
use highwater_testkit::intercepted::Intercepted;
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;

use crate::consume_stage::ConsumeStage;

fn raw(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

fn told(state: &serde_json::Value) -> Box<RawValue> {
    RawValue::from_string(state.to_string()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_object_in_its_shards_folder() {
    let stage = ConsumeStage::of(40);
    let output = stage.consume(stage.window(&stage.records())).await;
    assert_eq!(output.batch_item_failures, []);
    assert_eq!(stage.objects(), 1);
    stage.assert_whole();
    assert_eq!(stage.store.keys().len(), 1, "and nothing beside it");
}

#[tokio::test(start_paused = true)]
async fn case_22_a_batch_that_is_retried_whole_finds_its_object() {
    let stage = ConsumeStage::of(10);
    stage.consume(stage.window(&stage.records())).await;
    let before = stage.store.objects();
    let output = stage.consume(stage.window(&stage.records())).await;
    assert_eq!(output.batch_item_failures, []);
    assert_eq!(stage.store.objects(), before, "one name, the same bytes");
    let lost = Arc::new(Failing::once(1, Moment::After, FailureKind::Transient).only("create"));
    let again = ConsumeStage::of(10);
    let store = Arc::new(Intercepted::new(&again.store, &lost));
    again
        .consume_over(store, again.window(&again.records()))
        .await
        .unwrap();
    assert!(lost.has_struck());
    again.assert_whole();
    assert_eq!(again.objects(), 1);
}

#[tokio::test(start_paused = true)]
async fn case_23_batches_that_are_cut_anew_overlap_and_are_one_log() {
    let stage = ConsumeStage::of(30);
    let records = stage.records();
    for (from, until) in [
        (0, 20),
        (10, 20),
        (0, 10),
        (10, 15),
        (5, 30),
        (0, 30),
        (29, 30),
    ] {
        let output = stage.consume(stage.window(&records[from..until])).await;
        assert_eq!(output.batch_item_failures, []);
    }
    assert_eq!(stage.objects(), 7);
    stage.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn case_24_duplicates_out_of_order_and_hours_later_change_nothing() {
    let stage = ConsumeStage::of(30);
    let records = stage.records();
    stage.consume(stage.window(&records[..15])).await;
    stage.consume(stage.window(&records[15..])).await;
    let before = stage.store.objects();
    tokio::time::sleep(std::time::Duration::from_hours(7)).await;
    for batch in [&records[15..], &records[..15]] {
        let mut disordered: Vec<_> = batch.iter().rev().collect();
        disordered.extend(batch.iter().step_by(3));
        stage.consume(stage.window(disordered)).await;
    }
    assert_eq!(stage.store.objects(), before);
    stage.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn case_25_a_request_that_lands_after_its_retry_writes_what_is_there() {
    let stage = ConsumeStage::of(10);
    stage.consume(stage.window(&stage.records())).await;
    let [(_, late)] = &stage.store.objects().into_iter().collect::<Vec<_>>()[..] else {
        panic!("one object")
    };
    // Another attempt at the same batch, in a sandbox of its own, has made the same request.
    let other = ConsumeStage::of(10);
    other.consume(other.window(&other.records())).await;
    assert_eq!(other.store.objects()[&late.key], *late);
    assert_eq!(
        stage.store.create(late.clone()).await.unwrap(),
        Creation::Exists
    );
    // Even a store that overwrites is left with the same bytes.
    stage.store.replace(late.clone()).await.unwrap();
    stage.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn case_26_a_record_that_cannot_be_read_is_kept_raw_and_told_of() {
    let stage = ConsumeStage::of(5);
    let mut input = stage.window(&stage.records());
    let number = "99999999999999999999999999";
    let strange = json!({
        "eventID": "x", "eventName": "ARCHIVE", "eventSourceARN": stage.arn(),
        "dynamodb": {"SequenceNumber": number, "ApproximateCreationDateTime": 1_768_385_999},
    });
    let records = input.records.as_mut().unwrap();
    records.insert(2, raw(&strange));
    records.push(raw(&json!({"nothing": "of use"})));
    let output = stage.consume(input).await;
    assert_eq!(output.batch_item_failures, []);
    stage.assert_whole();
    let folder = format!("{}unread/", stage.folder());
    let objects = stage.store.objects();
    let kept = objects.iter().filter(|(key, _)| key.starts_with(&folder));
    let mut kept: Vec<&[u8]> = kept.map(|(_, object)| &object.body[..]).collect();
    kept.sort_unstable();
    let mut expected = [strange.to_string(), r#"{"nothing":"of use"}"#.to_owned()];
    expected.sort_unstable();
    assert_eq!(kept, expected.each_ref().map(String::as_bytes));
    let incidents = stage.incidents();
    assert_eq!(incidents.len(), 2);
    assert!(
        incidents
            .iter()
            .all(|incident| incident.kind == IncidentKind::UnreadRecord)
    );
    let by_number = incidents
        .iter()
        .find(|incident| incident.detail.contains(number));
    let by_number = by_number.unwrap();
    assert_eq!(
        (by_number.from.0, by_number.until.0),
        (1_768_385_999, 1_768_386_059)
    );
    assert!(by_number.touches(by_number.from, by_number.from));
    let without = incidents
        .iter()
        .find(|incident| incident.id != by_number.id)
        .unwrap();
    let made = stage.shard().created_at().unwrap();
    assert_eq!(
        without.from.0,
        made.0 / 1000 - 60,
        "since its shard was made"
    );
    assert!(without.until.0 >= stage.table.time().now().0 / 1000);
}

#[tokio::test(start_paused = true)]
async fn case_26_seen_again_it_is_the_same_incident() {
    let stage = ConsumeStage::of(1);
    let strange =
        raw(&json!({"eventSourceARN": stage.arn(), "dynamodb": {"SequenceNumber": "77"}}));
    for _ in 0..2 {
        let mut input = stage.window([]);
        input.records = Some(vec![strange.clone()]);
        stage.consume(input).await;
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    }
    assert_eq!(stage.store.keys().len(), 2, "{:?}", stage.store.keys());
}

#[tokio::test(start_paused = true)]
async fn case_26_an_oversized_record_has_an_object_of_its_own() {
    let stage = ConsumeStage::of(3);
    stage.table.put("large", &"x".repeat(9 << 20));
    stage.table.put("small", "after it");
    let output = stage.consume(stage.window(&stage.records())).await;
    assert_eq!(output.batch_item_failures, []);
    assert_eq!(stage.objects(), 3, "before it, itself, behind it");
    stage.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn without_a_shard_a_batch_is_kept_where_the_auditor_finds_it() {
    let stage = ConsumeStage::of(5);
    let event = |shard_id: Option<&str>| ConsumeInput {
        records: Some(stage.dressed(&stage.records())),
        shard_id: shard_id.map(str::to_owned),
        ..ConsumeInput::default()
    };
    for told in [None, Some("../../elsewhere"), Some("")] {
        let output = stage.consume(event(told)).await;
        assert_eq!(output, ConsumeOutput::default(), "no window, no state");
    }
    let log = stage.log();
    let shards: Vec<&str> = log.keys().map(ShardId::as_str).collect();
    assert_eq!(shards, [UNPLACED]);
    assert_eq!(log.values().next().unwrap().len(), 5);
    assert_eq!(stage.objects(), 1);
}

#[tokio::test(start_paused = true)]
async fn records_of_several_streams_go_each_to_its_place() {
    let stage = ConsumeStage::of(4);
    let mut input = stage.window(&stage.records());
    let other =
        "arn:aws:dynamodb:eu-west-1:123456789012:table/customers/stream/2026-01-01T00:00:00.000";
    let moved = stage.records()[1].for_lambda(other);
    input.records.as_mut().unwrap().push(moved);
    let output = stage.consume(input).await;
    assert_eq!(output.batch_item_failures, []);
    stage.assert_whole();
    let keys = stage.store.keys();
    let folder = format!(
        "live/customers/log/2026-01-01T00:00:00.000/{}/",
        stage.shard()
    );
    assert_eq!(
        keys.iter().filter(|key| key.starts_with(&folder)).count(),
        1,
        "{keys:?}"
    );
    // Numbers of two streams cannot be compared: none of them can say what is to come again.
    let mut input = stage.window(&stage.records());
    input
        .records
        .as_mut()
        .unwrap()
        .push(stage.records()[0].for_lambda(other));
    let broken = Failing::crash(1, Moment::Before).only("create");
    let store = Arc::new(Intercepted::new(&stage.store, &Arc::new(broken)));
    let error = stage.consume_over(store, input).await.unwrap_err();
    assert!(matches!(error, StepError::Store(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_window_is_told_how_far_it_has_come_and_nothing_depends_on_it() {
    let stage = ConsumeStage::of(10);
    let records = stage.records();
    let number = |n: usize| records[n].sequence_number.clone();
    let first = stage
        .consume(stage.window(&records[..4]))
        .await
        .state
        .unwrap();
    let expected = WindowState {
        last_seq: Some(number(3)),
        n: 4,
    };
    assert_eq!(first, expected);
    let mut next = stage.window(&records[4..]);
    next.state = Some(told(&json!(first)));
    let second = stage.consume(next).await.state.unwrap();
    assert_eq!((second.last_seq, second.n), (Some(number(9)), 10));
    for nonsense in [
        json!(null),
        json!({}),
        json!([1]),
        json!({"last_seq": -1}),
        json!({"n": "many"}),
    ] {
        let mut input = stage.window(&records[2..5]);
        input.state = Some(told(&nonsense));
        let output = stage.consume(input).await;
        assert_eq!(output.state.unwrap().n, 3, "{nonsense}");
    }
    let mut last = stage.window([]);
    last.is_final_invoke_for_window = true;
    last.state = Some(told(&json!({"last_seq": "5", "n": 7})));
    let output = stage.consume(last).await;
    assert_eq!(
        json!(output),
        json!({"batchItemFailures": [], "state": {"n": 0}})
    );
    stage.assert_whole();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_no_batch_is_refused_and_nothing_is_written() {
    let stage = ConsumeStage::of(2);
    let records = |records: Vec<Bytes>| ConsumeInput {
        records: Some(records),
        ..ConsumeInput::default()
    };
    let homeless = stage.records()[0].for_lambda("arn:aws:kinesis:eu-west-1:123456789012:stream/s");
    let mut wrong_arn = stage.window(&stage.records());
    wrong_arn.event_source_arn = Some("orders".into());
    for (input, names) in [
        (ConsumeInput::default(), "Records"),
        (
            records(vec![raw(&json!({"body": "a message"}))]),
            "record 1",
        ),
        (
            records(vec![
                stage.dressed(&stage.records()).remove(0),
                homeless.clone(),
            ]),
            "",
        ),
        (records(vec![homeless]), "kinesis"),
        (wrong_arn, "eventSourceARN"),
    ] {
        let answer = stage.consume_over(stage.store.clone(), input).await;
        match answer {
            // One stream is known in the batch: the record is taken for one of it.
            Ok(output) => assert!(names.is_empty() && output.batch_item_failures.is_empty()),
            Err(StepError::InvalidInput(message)) => {
                assert!(!names.is_empty() && message.contains(names), "{message}");
                assert!(stage.store.keys().len() < 2);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_without_conditions_is_left_with_the_same_log() {
    let mut stage = ConsumeStage::of(9);
    stage.store = Arc::new(FakeStore::ignoring_conditions());
    let records = stage.records();
    for (from, until) in [(0, 9), (0, 9), (3, 6)] {
        stage.consume(stage.window(&records[from..until])).await;
    }
    stage.assert_whole();
}

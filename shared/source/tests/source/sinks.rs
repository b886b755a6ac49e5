//! Claims (MU-10) and JSON lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key_print::KeyPrint;
use highwater_domain::sequence_number::{Generation, OrderToken, ShardOrdinal};
use highwater_source::{
    Checkpoints, Claims, Deduplicated, JsonLines, JsonLinesDeadLetters, MemoryCheckpoints, Metrics,
    Place,
};

use super::stage::{Book, Stage};

fn order(number: u64) -> OrderToken {
    OrderToken {
        generation: Generation(1),
        shard: ShardOrdinal(5),
        sequence_number: number.to_string().parse().unwrap(),
    }
}

#[tokio::test]
async fn mu_10_of_all_who_claim_a_record_one_was_first() {
    let claims = Claims::new(Arc::new(MemoryCheckpoints::new()));
    let (a, b) = (KeyPrint([1; 16]), KeyPrint([2; 16]));
    assert!(claims.claim(&a, &order(7)).await.unwrap());
    assert!(!claims.claim(&a, &order(7)).await.unwrap());
    assert!(claims.claim(&b, &order(7)).await.unwrap(), "another key");
    // 9 comes before 10, and what is claimed stays claimed.
    assert!(claims.claim(&a, &order(10)).await.unwrap());
    assert!(!claims.claim(&a, &order(9)).await.unwrap());
    assert!(claims.is_claimed(&a, &order(9)).await.unwrap());
    assert!(!claims.is_claimed(&a, &order(11)).await.unwrap());
    let c = KeyPrint([3; 16]);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let claims = claims.clone();
        racers.spawn(async move { claims.claim(&c, &order(1)).await.unwrap() });
    }
    let first = racers
        .join_all()
        .await
        .into_iter()
        .filter(|first| *first)
        .count();
    assert_eq!(first, 1);
}

/// A place that is down.
#[derive(Debug)]
struct Down;

fn down() -> Failure {
    Failure::new(FailureKind::Unreachable, "GetItem", "claims", "down")
}

#[async_trait]
impl Checkpoints for Down {
    async fn load(&self, _: &str) -> Result<Option<Versioned<Bytes>>, Failure> {
        Err(down())
    }

    async fn save(&self, _: &str, _: Option<i64>, _: Bytes) -> Result<Cas, Failure> {
        Err(down())
    }

    async fn names(&self, _: &str, _: Option<&str>) -> Result<Vec<String>, Failure> {
        Err(down())
    }
}

#[derive(Debug, Default)]
struct ClaimFailures(AtomicU64);

impl Metrics for ClaimFailures {
    fn claim_failed(&self, _: &Place) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn mu_10_without_claims_a_record_is_rather_applied_twice_than_never() {
    let stage = Stage::new();
    stage.put("a", 0, 1);
    let (book, failures) = (Book::default(), Arc::new(ClaimFailures::default()));
    let sink = Deduplicated::new(book.sink(), Claims::new(Arc::new(Down)), failures.clone());
    stage
        .source()
        .without_stream()
        .bootstrap(sink)
        .unwrap()
        .run()
        .await
        .unwrap();
    assert_eq!(book.all().len(), 1);
    assert_eq!(failures.0.load(Ordering::Relaxed), 2, "not asked, not told");
}

#[tokio::test(start_paused = true)]
async fn lines_are_whole_and_durable_and_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sales.jsonl");
    let stage = Stage::new();
    stage.put("a", 0, 1);
    // Somebody crashed in the middle of a line.
    std::fs::write(&path, "{\"event_id\":\"cut o").unwrap();
    let bootstrap = stage
        .source()
        .bootstrap(JsonLines::append(&path).unwrap())
        .unwrap();
    bootstrap.run().await.unwrap();
    stage.put("b", 0, 2);
    stage.table.delete("a");
    let bootstrap = stage
        .source()
        .bootstrap(JsonLines::append(&path).unwrap())
        .unwrap();
    bootstrap.run().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let changes: Vec<&str> = lines
        .iter()
        .map(|line| line["change"].as_str().unwrap())
        .collect();
    assert_eq!(changes, ["scan", "insert", "insert", "remove"]);
    assert_eq!(lines[0]["new"]["amount"]["N"], "1");
    assert_eq!(lines[3]["key"]["id"]["S"], "a");
    assert_eq!(lines[3]["old"]["id"]["S"], "a");
    assert!(lines[3]["order"].as_str() > lines[0]["order"].as_str());
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_lines_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let stage = Stage::new();
    stage.table.put_item("bad", r#"{"id":{"S":"bad"}}"#);
    let letters = Arc::new(JsonLinesDeadLetters::append(&path).unwrap());
    let source = stage.source().without_stream().on_decode_error(letters);
    source
        .bootstrap(Book::default().sink())
        .unwrap()
        .run()
        .await
        .unwrap();
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&path).unwrap().trim()).unwrap();
    assert_eq!(line["key"], r#"{"id":{"S":"bad"}}"#);
    assert!(line["reason"].as_str().unwrap().contains("region"));
}

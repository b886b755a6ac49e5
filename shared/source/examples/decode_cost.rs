//! What decoding costs: a million small items through a source into a struct, and the same bytes through `serde_json` into a struct of the
//! same fields, in one run, taking turns. Prints the CPU time of each and their ratio.
//!
//! `cargo run --release -p highwater-source --example decode_cost [items]`

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::key::{Key, KeyValue};
use highwater_domain::scan::{Page, RawItems, ScanRequest, TableScanner};
use highwater_domain::table::{TableDescriber, TableSettings};
use highwater_source::{MemoryCheckpoints, OnePlace, Ports, SystemClock, builder};
use serde::Deserialize;
use serde_json::json;

#[path = "shared/cpu.rs"]
mod cpu;

/// What the source makes of an item.
#[derive(Deserialize)]
struct Order {
    id: String,
    customer: String,
    cents: u64,
    weight: f64,
    paid: bool,
    note: Option<String>,
    tags: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    product: String,
    count: u32,
}

/// The same fields as `serde_json` has to be told of them: each in its type's wrapper, numbers as the strings they are. It parses no
/// number and so has less to do.
#[derive(Deserialize)]
struct WireOrder {
    id: S,
    customer: S,
    cents: N,
    weight: N,
    paid: Bool,
    note: Option<Note>,
    tags: Ss,
    lines: L,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Note {
    S(String),
    Null(bool),
}

#[derive(Deserialize)]
struct S {
    #[serde(rename = "S")]
    text: String,
}

#[derive(Deserialize)]
struct N {
    #[serde(rename = "N")]
    digits: String,
}

#[derive(Deserialize)]
struct Bool {
    #[serde(rename = "BOOL")]
    value: bool,
}

#[derive(Deserialize)]
struct Ss {
    #[serde(rename = "SS")]
    texts: Vec<String>,
}

#[derive(Deserialize)]
struct L {
    #[serde(rename = "L")]
    all: Vec<M>,
}

#[derive(Deserialize)]
struct M {
    #[serde(rename = "M")]
    line: WireLine,
}

#[derive(Deserialize)]
struct WireLine {
    product: S,
    count: N,
}

fn item(n: u64) -> String {
    let note = if n.is_multiple_of(3) {
        r#"{"NULL":true}"#.to_owned()
    } else {
        format!(r#"{{"S":"leave at door {n}"}}"#)
    };
    format!(
        r#"{{"id":{{"S":"order-{n:09}"}},"customer":{{"S":"customer-{}"}},"cents":{{"N":"{}"}},"weight":{{"N":"{}.25"}},"paid":{{"BOOL":{}}},"note":{note},"tags":{{"SS":["new","web"]}},"lines":{{"L":[{{"M":{{"product":{{"S":"p-{}"}},"count":{{"N":"{}"}}}}}}]}}}}"#,
        n % 1000,
        n * 7 % 100_000,
        n % 50,
        n.is_multiple_of(2),
        n % 777,
        n % 9 + 1,
    )
}

/// A table that is one page of a thousand items, over and over.
#[derive(Debug)]
struct Pages {
    page: RawItems,
    pages: u64,
}

#[async_trait]
impl TableScanner for Pages {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let at = request
            .exclusive_start_key
            .as_ref()
            .and_then(|key| match key.0.get("id") {
                Some(KeyValue::S(at)) => at.parse::<u64>().ok(),
                _ => None,
            });
        let next = at.unwrap_or(0) + 1;
        let key = || Key([("id".to_owned(), KeyValue::S(next.to_string()))].into());
        Ok(Page {
            items: self.page.clone(),
            last_evaluated_key: (next < self.pages).then(key),
            scanned_count: self.page.len() as u64,
            ..Page::default()
        })
    }
}

#[async_trait]
impl TableDescriber for Pages {
    async fn describe(&self, _: &str) -> Result<TableSettings, Failure> {
        Ok(TableSettings {
            version: 1,
            table: json!({
                "TableName": "orders",
                "TableArn": "arn:aws:dynamodb:eu-north-1:123456789012:table/orders",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            }),
            time_to_live: None,
            tags: None,
            continuous_backups: None,
            unavailable: Vec::new(),
        })
    }
}

/// A source without a stream needs neither streams nor leases.
mod unused {
    use super::{Failure, async_trait};
    use highwater_domain::failure::FailureKind;
    use highwater_domain::shard::{Shard, ShardId, StreamListing};
    use highwater_domain::stream_source::{
        RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
    };
    use highwater_steps::live_deps::LeaseGroups;

    #[derive(Debug)]
    pub struct None;

    fn no() -> StreamError {
        Failure::new(FailureKind::Invalid, "stream", "orders", "there is none").into()
    }

    #[async_trait]
    impl StreamSource for None {
        async fn listing(&self, _: &str) -> Result<StreamListing, StreamError> {
            Err(no())
        }
        async fn children(&self, _: &str, _: &ShardId) -> Result<Vec<Shard>, StreamError> {
            Err(no())
        }
        async fn iterator(
            &self,
            _: &str,
            _: &ShardId,
            _: &StartAt,
        ) -> Result<ShardIterator, StreamError> {
            Err(no())
        }
        async fn records(&self, _: &ShardIterator, _: u32) -> Result<RecordPage, StreamError> {
            Err(no())
        }
    }

    impl LeaseGroups for None {
        fn group(
            &self,
            group: &str,
            _: &str,
        ) -> Result<highwater_lease::Leases, highwater_lease::Error> {
            let lease = highwater_lease::LeaseId::new(group)?;
            Err(highwater_lease::Error::Unknown { lease })
        }
    }
}

async fn through_the_source(page: &RawItems, pages: u64) -> Result<u64, Box<dyn Error>> {
    let table = Arc::new(Pages {
        page: page.clone(),
        pages,
    });
    let ports = Ports {
        scanner: table.clone(),
        describer: table,
        streams: Arc::new(unused::None),
        leases: Arc::new(unused::None),
        checkpoints: Arc::new(OnePlace(Arc::new(MemoryCheckpoints::new()))),
        clock: Arc::new(SystemClock),
    };
    let source = builder::<Order>()
        .table("orders")
        .ports(ports)
        .without_stream()
        .snapshot()?;
    let mut scan = source.scan().await?;
    let mut sum = 0;
    while let Some(batch) = scan.next_batch().await {
        for record in batch? {
            sum += worth(&record.value);
            record.ack();
        }
    }
    scan.finish().await?;
    Ok(sum)
}

fn worth(order: &Order) -> u64 {
    let lines = order
        .lines
        .iter()
        .map(|line| u64::from(line.count) + line.product.len() as u64);
    let texts = order.id.len()
        + order.customer.len()
        + order.tags.len()
        + order.note.as_ref().map_or(0, String::len);
    order.cents
        + lines.sum::<u64>()
        + texts as u64
        + u64::from(order.paid)
        + u64::from(order.weight > 25.0)
}

fn through_serde_json(page: &RawItems, pages: u64) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for _ in 0..pages {
        for item in page.iter() {
            let order: WireOrder = serde_json::from_slice(item)?;
            let lines = order
                .lines
                .all
                .iter()
                .map(|it| it.line.product.text.len() + it.line.count.digits.len());
            let note = match &order.note {
                Some(Note::S(text)) => text.len(),
                Some(Note::Null(is_null)) => usize::from(*is_null),
                None => 0,
            };
            let texts =
                order.id.text.len() + order.customer.text.len() + order.tags.texts.len() + note;
            let numbers = order.cents.digits.len() + order.weight.digits.len();
            sum += (lines.sum::<usize>() + texts + numbers + usize::from(order.paid.value)) as u64;
        }
    }
    Ok(sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    let items: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let page = RawItems::from_items((0..1000).map(item));
    let pages = items.div_ceil(1000);
    let bytes: usize = page.iter().map(<[u8]>::len).sum();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut rounds = Vec::new();
    let mut kept = Bytes::new();
    for _ in 0..7 {
        let before = cpu::used()?;
        let ours = runtime.block_on(through_the_source(&page, pages))?;
        let between = cpu::used()?;
        let theirs = through_serde_json(&page, pages)?;
        let after = cpu::used()?;
        kept = Bytes::from((ours ^ theirs).to_string());
        rounds.push((
            between.saturating_sub(before),
            after.saturating_sub(between),
        ));
    }
    rounds.sort_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    let (ours, theirs) = rounds[rounds.len() / 2];
    writeln!(
        std::io::stdout(),
        "{} items of {} bytes: source {ours:?}, serde_json {theirs:?} of CPU; ratio {:.2} (median of {}; {:.2} to {:.2}; {})",
        pages * 1000,
        bytes / 1000,
        ratio((ours, theirs)),
        rounds.len(),
        ratio(rounds[0]),
        ratio(rounds[rounds.len() - 1]),
        kept.len(),
    )?;
    Ok(())
}

fn ratio((ours, theirs): (Duration, Duration)) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

//! What a change costs on its way into a replica: write units, and this process's own CPU time.
//!
//! Each way writes the same changes to a DynamoDB in a process of its own, in turns: plain puts without an order
//! (`BatchWriteItem`), and the two kinds of fences. Units are those that the engine reports for one change.

use std::env;
use std::error::Error;
use std::io::{Write as _, stdout};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put,
    ReturnConsumedCapacity, ScalarAttributeType, TransactWriteItem, Update,
};
use bytes::Bytes;
use clap::Parser;
use highwater_aws::{Clients, ConnectionSettings};
use highwater_benches::process::own_cpu_seconds;
use highwater_domain::fenced_writer::{Fence, FencedTable, FencedWriter, Transacted};
use highwater_domain::ids::UnixMillis;
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::replica_batch::{ReplicaRules, next_transaction, replica_batch};
use highwater_domain::sequence_number::{Generation, ShardOrdinal};
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::table_writer::{MAX_BATCH_OPS, TableWriter, WriteOp};
use highwater_local::EmbeddedDynamoDb;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const TARGET: &str = "copy";
const FENCES: &str = "copy-fences";
const ATTRIBUTE: &str = "highwater_order";

/// Measures what a change costs on its way into a replica.
#[derive(Debug, Parser)]
struct Args {
    /// Changes in one turn.
    #[arg(long, default_value_t = 5_000)]
    changes: u32,
    /// Bytes of an item as DynamoDB counts them, at least 100.
    #[arg(long, default_value_t = 900)]
    item_bytes: usize,
    /// Turns of each way; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Be the engine.
    #[arg(long, hide = true)]
    engine: bool,
}

/// A way into the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Table,
    Attribute,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Plain, "plain puts, no order"),
    (Way::Table, "fences in a table"),
    (Way::Attribute, "fences in an attribute"),
];

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    if args.engine {
        let engine = EmbeddedDynamoDb::start().await?;
        writeln!(stdout(), "{}", engine.endpoint_url())?;
        std::future::pending::<()>().await;
    }
    let (_engine, clients) = engine().await?;
    make(&clients, TARGET).await?;
    make(&clients, FENCES).await?;
    let mut seconds: [Vec<f64>; 3] = Default::default();
    let mut number = 1;
    for _ in 0..args.rounds.max(1) {
        for ((way, _), seconds) in WAYS.iter().zip(&mut seconds) {
            let records = records(&args, number)?;
            number += u64::from(args.changes);
            seconds.push(write(&clients, *way, &records).await?);
        }
    }
    writeln!(
        stdout(),
        "{} changes of {} bytes, median of {} turns",
        args.changes,
        args.item_bytes,
        args.rounds
    )?;
    writeln!(
        stdout(),
        "| way | write units of a change | CPU of a change |"
    )?;
    writeln!(stdout(), "|---|---|---|")?;
    for ((way, name), mut seconds) in WAYS.into_iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
        let micros = median * 1e6 / f64::from(args.changes.max(1));
        let units = units(&clients, way, args.item_bytes).await?;
        writeln!(stdout(), "| {name} | {units} | {micros:.0} µs |")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An engine in a process of its own, so that its CPU time is not this one's.
async fn engine() -> Result<(Child, Clients), Box<dyn Error>> {
    let mut child = Command::new(env::current_exe()?)
        .arg("--engine")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or("the engine has no output")?;
    let mut lines = BufReader::new(output).lines();
    let url = lines.next_line().await?.ok_or("the engine did not start")?;
    let settings = ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some(url),
        ..ConnectionSettings::default()
    };
    Ok((child, Clients::connect(&settings).await?))
}

async fn make(clients: &Clients, table: &str) -> Result<(), Box<dyn Error>> {
    let attribute = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder()
        .attribute_name("id")
        .key_type(KeyType::Hash);
    let create = clients.dynamodb().create_table().table_name(table);
    create
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute.build()?)
        .key_schema(key.build()?)
        .send()
        .await?;
    Ok(())
}

/// The payload that makes an item of so many bytes: names and values count, `id` and `v` and a key of 12 characters.
fn payload(item_bytes: usize) -> String {
    "x".repeat(item_bytes.saturating_sub(15))
}

/// Changes of different keys, the first with this sequence number.
fn records(args: &Args, first: u64) -> Result<Vec<StreamRecord>, Box<dyn Error>> {
    let value = payload(args.item_bytes);
    let mut records = Vec::new();
    for number in first..first + u64::from(args.changes) {
        let keys = format!(r#"{{"id":{{"S":"k{:011}"}}}}"#, number - first);
        let key = &keys[1..keys.len() - 1];
        let raw = format!(
            r#"{{"eventID":"{number:032x}","eventName":"MODIFY","dynamodb":{{"ApproximateCreationDateTime":1768385930,"Keys":{keys},"NewImage":{{{key},"v":{{"S":"{value}"}}}},"SequenceNumber":"{number}"}}}}"#
        );
        records.push(StreamRecord::read(&Bytes::from(raw))?);
    }
    Ok(records)
}

fn rules() -> ReplicaRules {
    ReplicaRules {
        schema: KeySchema {
            partition: KeyAttribute {
                name: "id".into(),
                scalar_type: ScalarType::S,
            },
            sort: None,
        },
        filter: Vec::new(),
        apply_from: UnixSeconds::of(UnixMillis(0)),
        generation: Generation(1),
    }
}

/// Writes the records; the CPU seconds that it took here.
async fn write(
    clients: &Clients,
    way: Way,
    records: &[StreamRecord],
) -> Result<f64, Box<dyn Error>> {
    let began = own_cpu_seconds()?;
    let mut left = replica_batch(&rules(), ShardOrdinal(1), records)?.writes;
    let fence = match way {
        Way::Plain => {
            let writer = clients.table_writer();
            let ops: Vec<WriteOp> = left.into_iter().map(|write| write.op).collect();
            for batch in ops.chunks(MAX_BATCH_OPS) {
                let answer = writer.write_batch(TARGET, batch).await?;
                if !answer.unprocessed.is_empty() {
                    return Err("the engine throttles".into());
                }
            }
            return Ok(own_cpu_seconds()? - began);
        }
        Way::Table => Fence::Table(FENCES),
        Way::Attribute => Fence::Attribute(ATTRIBUTE),
    };
    let table = FencedTable {
        target: TARGET,
        fence,
    };
    let writer: Arc<dyn FencedWriter> = Arc::new(clients.fenced_writer());
    while !left.is_empty() {
        let rest = left.split_off(next_transaction(&left));
        let fenced: Vec<_> = left.iter().map(|write| write.fenced()).collect();
        match writer.transact(table, &fenced).await? {
            Transacted::Done => {}
            Transacted::Canceled(verdicts) => return Err(format!("cancelled: {verdicts:?}").into()),
        }
        drop(fenced);
        left = rest;
    }
    Ok(own_cpu_seconds()? - began)
}

/// The write units that the engine reports for one change.
async fn units(clients: &Clients, way: Way, item_bytes: usize) -> Result<f64, Box<dyn Error>> {
    let client = clients.dynamodb();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = Put::builder()
        .table_name(TARGET)
        .item("id", text("k00000000000"))
        .item("v", text(&payload(item_bytes)));
    // As long as an order token and a key's print are.
    let (order, print) = (text(&"0".repeat(62)), text(&"0".repeat(32)));
    let actions = match way {
        Way::Plain => {
            let put = put.build()?;
            let sent = client
                .put_item()
                .table_name(TARGET)
                .set_item(Some(put.item));
            let sent = sent.return_consumed_capacity(ReturnConsumedCapacity::Total);
            let units = sent.send().await?.consumed_capacity;
            return Ok(units.and_then(|it| it.capacity_units).unwrap_or_default());
        }
        Way::Attribute => vec![put.item(ATTRIBUTE, order)],
        Way::Table => vec![put],
    };
    let mut items = Vec::new();
    for put in actions {
        items.push(TransactWriteItem::builder().put(put.build()?).build());
    }
    if way == Way::Table {
        let update = Update::builder()
            .table_name(FENCES)
            .key("id", print)
            .update_expression("SET #order = :order, #deleted = :deleted")
            .expression_attribute_names("#order", "order")
            .expression_attribute_names("#deleted", "deleted")
            .expression_attribute_values(":order", text(&"0".repeat(62)))
            .expression_attribute_values(":deleted", AttributeValue::Bool(false));
        items.push(TransactWriteItem::builder().update(update.build()?).build());
    }
    let sent = client
        .transact_write_items()
        .set_transact_items(Some(items))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await?;
    let tables = sent.consumed_capacity.unwrap_or_default();
    Ok(tables.iter().filter_map(|table| table.capacity_units).sum())
}

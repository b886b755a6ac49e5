//! A Lambda function behind an event source mapping of a table's stream.
//!
//! Deployed, it answers the mapping's batches. Without a Lambda runtime around it, `cargo run -p highwater-source --example lambda_handler`
//! hands it two sample batches against an embedded DynamoDB and shows the answers.
//!
//! The mapping: `StartingPosition: TRIM_HORIZON`, `FunctionResponseTypes: [ReportBatchItemFailures]`, `TumblingWindowInSeconds: 60`,
//! `BisectBatchOnFunctionError: true`, `ParallelizationFactor: 1`.

use std::error::Error;
use std::sync::Arc;

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::budget::Budget;
use highwater_domain::ids::UnixMillis;
use highwater_source::{
    Applied, Change, FnSink, Handler, MemoryDeadLetters, Ports, Record, Sink, SinkError,
    StreamEvent, SystemClock, builder,
};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;

#[path = "shared/shop.rs"]
mod shop;

#[derive(Clone, Deserialize)]
struct Product {
    category: String,
}

fn handler(
    clients: &Clients,
) -> Result<Handler<Product, impl Sink<Product> + use<>>, Box<dyn Error>> {
    let sink = FnSink::new(|record: &Record<Change<Product>>| {
        let product = record
            .value
            .current()
            .map(|product| product.category.as_str());
        let deleted = if record.value.is_ttl_delete() {
            "expired"
        } else {
            "deleted"
        };
        shop::say(&format!("{} {}", record.key(), product.unwrap_or(deleted)));
        Ok::<_, SinkError>(Applied::Done)
    });
    Ok(builder::<Product>()
        .table(shop::TABLE)
        .ports(Ports::of(clients, shop::CONTROL))
        .on_decode_error(Arc::new(MemoryDeadLetters::default()))
        .handler(sink)?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return show().await;
    }
    let clients = Clients::connect(&ConnectionSettings::default()).await?;
    let handler = handler(&clients)?;
    let (handler, clock) = (&handler, &SystemClock);
    let serve = service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        use highwater_domain::budget::Clock as _;
        let payload = Box::<str>::from(event.payload).into_string();
        let batch = StreamEvent::read(&payload.into())?;
        let deadline = UnixMillis(event.context.deadline);
        let budget = Budget::of_invocation(deadline, clock.now());
        let answer = handler.handle(batch, budget).await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(answer.response)
    });
    lambda_runtime::run(serve)
        .await
        .map_err(|error| error.to_string().into())
}

/// Two batches by hand: one that can be dealt with, and one that breaks off at its second record.
async fn show() -> Result<(), Box<dyn Error>> {
    let shop = shop::open().await?;
    shop.put("p1", "tools", "Steel hammer").await?;
    shop.delete("p1").await?;
    let handler = handler(&shop.clients)?;
    for second in [r#""eventName":"REMOVE""#, r#""eventName":"UNHEARD-OF""#] {
        let event = format!(
            r#"{{"Records":[{},{}],"shardId":"shardId-00000001768385930622-efd1a093"}}"#,
            record(
                "INSERT",
                "100",
                r#","NewImage":{"id":{"S":"p1"},"category":{"S":"tools"}}"#
            ),
            record(
                "REMOVE",
                "101",
                r#","OldImage":{"id":{"S":"p1"},"category":{"S":"tools"}}"#
            )
            .replace(r#""eventName":"REMOVE""#, second),
        );
        let batch = StreamEvent::read(&event.into())?;
        let answer = handler.handle(batch, Budget::UNLIMITED).await?;
        let json = serde_json::to_string(&answer.response)?;
        shop::say(&format!("{json}  {:?}", answer.counts));
    }
    Ok(())
}

fn record(name: &str, number: &str, image: &str) -> String {
    format!(
        r#"{{"eventID":"{number}","eventName":"{name}","eventSourceARN":"arn:aws:dynamodb:eu-north-1:123456789012:table/products/stream/2026-01-14T10:18:50.622","dynamodb":{{"ApproximateCreationDateTime":1768385930,"Keys":{{"id":{{"S":"p1"}}}}{image},"SequenceNumber":"{number}"}}}}"#
    )
}

//! Typed records of a DynamoDB table: a parallel, resumable snapshot, then its stream, with the handoff between them right by
//! construction.
//!
//! For pipelines of your own: a search index, a cache, a count, a copy in another shape. You say what an item is and where it goes;
//! this crate sees to it that every item that is there, and every change from then on, gets there.
//!
//! # Quick start
//!
//! ```no_run
//! use highwater_aws::{Clients, ConnectionSettings};
//! use highwater_source::{Applied, Change, FnSink, Ports, Record, SinkError, builder};
//!
//! #[derive(serde::Deserialize)]
//! struct Order { customer: String, cents: u64 }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let clients = Clients::connect(&ConnectionSettings::default()).await?;
//! highwater_source::create_control_table(&clients, "pipelines").await?;
//!
//! let sink = FnSink::new(|record: &Record<Change<Order>>| {
//!     match record.value.current() {
//!         Some(order) => println!("{} is {} cents", record.key(), order.cents),
//!         None => println!("{} is gone", record.key()),
//!     }
//!     Ok::<_, SinkError>(Applied::Done)
//! });
//! let bootstrap = builder::<Order>()
//!     .name("orders-to-stdout")
//!     .table("orders")
//!     .ports(Ports::of(&clients, "pipelines"))
//!     .segments(8)
//!     .bootstrap(sink)?;
//! // The snapshot, then the changes, until it is stopped; run again, it goes on where it was.
//! bootstrap.run().await?;
//! # Ok(()) }
//! ```
//!
//! The same without AWS: everything is behind [ports](Ports), and the examples run against an engine inside the process.
//!
//! ```text
//! cargo run -p highwater-source --example count_per_category
//! cargo run -p highwater-source --example search_index_feeder
//! cargo run -p highwater-source --example lambda_handler
//! ```
//!
//! # The pieces
//!
//! | | |
//! |---|---|
//! | [`builder`] | describes a source: table, segments, filter, decoder, limits, dead letters, metrics |
//! | [`SnapshotSource`] | every item once, as an asynchronous stream with back-pressure; resumes from a checkpoint per segment |
//! | [`LiveSource`] | every change since the handoff, from shards that any number of processes share by leases |
//! | [`Handler`] | every change as Lambda events, answered by `batchItemFailures` |
//! | [`Bootstrap`] | snapshot, then changes, into one [`Sink`] |
//! | [`Record`] | a value with its key, event id, event time, place, order and acknowledgement; [`Change`] tells what became of the item |
//! | [`TableSink`], [`JsonLines`], [`FnSink`], [`AsyncFnSink`] | sinks; [`Deduplicated`] keeps out of any sink what it has had |
//! | [`Checkpoints`] | where progress is kept: DynamoDB, memory, or a place of yours |
//! | [`DeadLetters`], [`Metrics`], [`Retry`] | what cannot be dealt with, numbers, patience |
//! | [`ActiveVersion`] | cuts readers over to a fresh target, and never back |
//! | [`Lines`], [`ObjectLines`] | the same values from files |
//! | [`from_item`] | DynamoDB JSON into a type, as `serde_dynamo` would read it, without attribute values in between |
//!
//! # The handoff
//!
//! Before the first page is asked for, the positions of the table's stream are captured and saved: a listing of its shards that two
//! looks agree on, each shard that may still matter with the sequence number from which it is read. AWS offers no start of a stream at
//! a time, so nothing here depends on one. Every change that the scan can have missed is behind these positions, and every item that was
//! scanned is as it was at them or later. So the last word on a key is that of its last change, and of the scan where there is none.
//! [`Record::order`] says which word is later, for records of one key, wherever they come from.
//!
//! DynamoDB keeps changes for 24 hours. A snapshot that takes longer ends with [`SourceError::HandoffExpired`], as does one that nobody
//! follows in time; it never goes on as if nothing were missing.
//!
//! # Guarantees
//!
//! - **Complete.** Every item that was there at the handoff and stays, and every change since, reaches the sink at least once, or an error
//!   says which are lost. A position moves only behind what the sink has applied and [flushed](Sink::flush), or what was
//!   [acknowledged](Ack::ack) without a gap.
//! - **In order per key.** Changes of a key come in their order, one at a time; the snapshot's word on it comes before them. After a crash
//!   some come again, beginning with the oldest that is not known to be done. Several processes may share a source: a shard has one reader
//!   at a time, but one that was suspended may wake with an old record in hand, or scan what another has scanned. So where more than one
//!   process runs, the sink must look at the order, as [`TableSink`] and [`Deduplicated`] do.
//! - **Exactly once in effect on a sink that can refuse.** [`TableSink`] writes each item in one transaction with its order, so that what comes
//!   again, late, or from a process that should be dead changes nothing, and a delete is never undone.
//! - **At least once elsewhere.** [`Deduplicated`] makes that once, but for what was applied by a process that died before it could say so:
//!   a claim is made after the effect, because one made before would lose it.
//! - **Nothing in silence.** What cannot be decoded or applied ends the run with an error that names the key; given a place to keep
//!   [dead letters](DeadLetters), it goes there whole, is counted, and the rest goes on.
//! - **Bounded memory.** Nothing grows with the table or the stream; what is read ahead is some pages per worker.
//! - **Near the cost of parsing.** A million small items into a struct took 1.2 times the processor time of `serde_json` over the same bytes,
//!   on the machine of 2026-11-22 (`cargo run --release -p highwater-source --example decode_cost`).
//!
//! What is *not* promised: that a sink sees no record from before the handoff (it may, and each is followed by all that came after it), or
//! that the items of a transaction are seen together (DynamoDB's streams do not say which belong to one).
//!
//! Deletes by time to live are changes like others, told apart by [`Change::is_ttl_delete`].
//!
//! # Errors
//!
//! Every function fails with [`SourceError`], whose variants are what there is to do about it:
//!
//! | error | what to do |
//! |---|---|
//! | `Invalid`, `OtherSettings`, `AlreadyBegun`, `NotBegun`, `NoStream` | fix the description, or the table's stream |
//! | `Table`, `Checkpoint`, `Raced`, `Step` | run again; what was done is kept |
//! | `Stopped` | run again: a stop was asked for, or the time was up |
//! | `Decode`, `Sink`, `Flush`, `DeadLetter` | fix the type or the sink, or give dead letters a place; the record comes again |
//! | `HandoffExpired`, `RecordsLost`, `TableChanged` | begin again: another [name](SourceBuilder::name), an empty target; [`ActiveVersion`] cuts over |
//! | `Event` | the Lambda mapping is not set up as [`Handler`] needs it |
//!
//! # Not repeated here
//!
//! The library whose job this crate does had bugs that a review has numbered. The tests show that they are not here:
//!
//! | | the bug | here | test |
//! |---|---|---|---|
//! | M1 | the stream is started at a time, which AWS cannot do | positions are sequence numbers | `m_01_…` |
//! | M2 | the token holds one page of shards, and nobody reads it | all shards with their parents, saved and used | `m_02_…`, `mu_16_…` |
//! | M3 | iterators are thought to live five minutes | one that has expired is made anew | `m_03_…` |
//! | M4 | failures are named by event id, which fails the whole batch | by sequence number | `mu_07_…` |
//! | M5 | a record is claimed before it is applied, and lost when that fails | claimed after the effect | `m_05_…`, `mu_15_…` |
//! | M6 | snapshot and stream name one write differently, so it counts twice | both have one key and an order | `m_06_…`, `mu_14_…` |
//! | M7 | later records of a key go on behind a failed one | nothing behind it is applied | `m_07_…`, `mu_07_…` |
//! | M8 | pages of 1000 items, by a maximum that does not exist | no limit unless one is asked for | `m_08_…` |
//! | M9 | a snapshot of more than 24 hours loses changes in silence | `HandoffExpired` | `mu_17_…` |
//! | M10 | an error leaves the readers waiting for ever | they end with the scan | `m_10_…` |
//! | M11 | a refused condition is said to cost nothing | no such claim is made | |
//! | M12 | the documentation and the code differ in the number of attempts | three | `m_12_…` |
//! | M13 | the handoff is captured twice | there is one per name | `m_13_…` |
//! | M14 | no test runs a scan | they all do, and a simulator crashes them | `mu_…` |

mod ack;
mod active_version;
mod applier;
mod bootstrap;
mod builder;
mod changes;
mod checkpoints;
mod core;
mod dead_letters;
mod decode;
mod dynamodb_json;
mod error;
mod facts_store;
mod handler;
mod ledger;
mod lines;
mod live;
mod live_deps;
mod live_log;
mod live_records;
mod metrics;
mod plan;
mod ports;
mod record;
mod retry;
mod scan;
mod segment;
mod sink;
mod snapshot;

pub use ack::{Ack, AckWindow};
pub use active_version::{ActiveVersion, VersionError};
pub use applier::Counts;
pub use bootstrap::{Bootstrap, BootstrapReport};
pub use builder::{SourceBuilder, builder};
pub use checkpoints::{Checkpoints, KvCheckpoints, MemoryCheckpoints};
pub use dead_letters::{DeadLetter, DeadLetters, MemoryDeadLetters};
pub use decode::{DecodeError, Decoded, Decoder};
pub use dynamodb_json::{Number, from_attribute, from_item};
pub use error::SourceError;
pub use handler::{BatchItemFailure, Handled, Handler, StreamEvent, StreamResponse};
pub use lines::{LineRecord, Lines, LinesError, ObjectLines};
pub use live::{LiveReport, LiveSource};
pub use live_records::LiveRecords;
pub use metrics::{Metrics, NoMetrics};
pub use ports::{CheckpointPlaces, OnePlace, Ports, SystemClock, create_control_table};
pub use record::{Change, Place, RawRecord, Record};
pub use retry::Retry;
pub use scan::{Scan, ScanReport};
pub use sink::{
    Applied, AsyncFnSink, Claims, Deduplicated, FnSink, JsonLines, JsonLinesDeadLetters, Sink,
    SinkError, SinkFuture, TableSink,
};
pub use snapshot::{SegmentProgress, SnapshotSource};

//! The pieces of the hot paths by themselves, without a server: `cargo bench -p highwater-benches`.
//!
//! For whoever changes one of them. What a path costs as a whole is `compare`'s to tell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use highwater_benches::changes::{Changes, Keys};
use highwater_benches::consume;
use highwater_benches::contender::event_log;
use highwater_benches::data_set::DataSet;
use highwater_benches::page::{Frame, Page};
use highwater_benches::table::ReplayTable;
use highwater_domain::bucket_digests::BucketDigests;
use highwater_domain::change_log::LogPacker;
use highwater_domain::item_digest::ItemDigester;
use highwater_domain::item_finder::find_items;
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_domain::key_history::{Around, ItemChange};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::part::PartWriter;
use highwater_domain::scan::RawItems;
use highwater_domain::sequence_number::{Generation, OrderToken, ShardOrdinal};
use highwater_domain::shard::ShardId;
use highwater_domain::snapshot::Compression;
use highwater_domain::stream_record::StreamRecord;
use http_body_util::BodyExt as _;

type Failed = Box<dyn std::error::Error>;

/// Records of an event, and of an answer of `GetRecords`.
const RECORDS: u64 = 1000;

fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .without_plots()
}

/// One answer of `Scan`.
fn answer(set: DataSet) -> Result<Bytes, Failed> {
    let page = Page::make(set, 0)?;
    let frame = Frame {
        table: set.name(),
        number: 7,
        more: true,
        unit: Some(1.0),
    };
    let (pieces, _) = page.scan_answer(0..page.len(), &frame);
    // It is all there: nothing is waited for.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(pieces.collect())?.to_bytes())
}

fn items(set: DataSet) -> Result<RawItems, Failed> {
    let answer = answer(set)?;
    Ok(find_items(&answer)?.into_raw_items(answer))
}

fn changes(set: DataSet) -> Result<Changes, Failed> {
    let table = Arc::new(ReplayTable::new(set, 1)?);
    let arn = consume::stream_arn(set);
    // Half of the records have two images.
    let keys = Keys::Few(RECORDS / 2);
    Ok(Changes::new(table, RECORDS, keys, consume::BEGIN, arn))
}

fn records(set: DataSet) -> Result<Vec<StreamRecord>, Failed> {
    let changes = changes(set)?;
    let read = |number| {
        let mut record = Vec::new();
        changes.record(number, &mut record);
        StreamRecord::read(&record.into())
    };
    Ok((0..RECORDS).map(read).collect::<Result<_, _>>()?)
}

/// The bytes of what is looped over, for the throughput.
fn bytes_of(items: &RawItems) -> Throughput {
    Throughput::Bytes(items.iter().map(|item| item.len() as u64).sum())
}

fn item_finder(criterion: &mut Criterion, set: DataSet) -> Result<(), Failed> {
    let answer = answer(set)?;
    let mut group = criterion.benchmark_group("item finder");
    group.throughput(Throughput::Bytes(answer.len() as u64));
    group.bench_function(set.name(), |bencher| bencher.iter(|| find_items(&answer)));
    group.finish();
    Ok(())
}

fn part_writer(criterion: &mut Criterion, set: DataSet) -> Result<(), Failed> {
    let items = items(set)?;
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut group = criterion.benchmark_group(format!("part writer, {compression:?}"));
        group.throughput(bytes_of(&items));
        group.bench_function(set.name(), |bencher| {
            bencher.iter(|| {
                let mut part = PartWriter::new(compression, 8 << 20)?;
                items.iter().try_for_each(|item| part.push(item))?;
                part.finish()
            });
        });
        group.finish();
    }
    Ok(())
}

fn records_of_events(criterion: &mut Criterion, set: DataSet) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let files = consume::write_events(folder.path(), &changes(set)?)?;
    let events = event_log::kept(&consume::events(folder.path(), usize::MAX)?)?;
    let mut group = criterion.benchmark_group("records of an event");
    group.throughput(Throughput::Bytes(files.all().bytes));
    group.bench_function(set.name(), |bencher| {
        bencher.iter(|| event_log::own_lines(&events, files.len(), |_| ()));
    });
    group.finish();
    Ok(())
}

fn log_packer(criterion: &mut Criterion, set: DataSet) -> Result<(), Failed> {
    let records = records(set)?;
    let shard: ShardId = "shardId-00000001768385930622-efd1a093".parse()?;
    let mut packer = LogPacker::new()?;
    let mut group = criterion.benchmark_group("log object");
    let bytes = records.iter().map(|record| record.raw.len() as u64);
    group.throughput(Throughput::Bytes(bytes.sum()));
    group.bench_function(set.name(), |bencher| {
        bencher.iter(|| packer.object(&shard, &records));
    });
    group.finish();
    Ok(())
}

fn digest(criterion: &mut Criterion, set: DataSet) -> Result<(), Failed> {
    let items = items(set)?;
    let schema = KeySchema {
        partition: KeyAttribute {
            name: "pk".into(),
            scalar_type: ScalarType::S,
        },
        sort: None,
    };
    let mut digester = ItemDigester::new(&schema, 7);
    let mut group = criterion.benchmark_group("digest");
    group.throughput(bytes_of(&items));
    group.bench_function(set.name(), |bencher| {
        bencher.iter(|| {
            let mut buckets = BucketDigests::new();
            for item in items.iter() {
                buckets.add(digester.digest(item)?);
            }
            Ok::<_, highwater_domain::key::KeyError>(buckets)
        });
    });
    group.finish();
    Ok(())
}

/// What an overlay does with each record: the last change before a second and the first one after it are kept.
fn overlay_merge(criterion: &mut Criterion, set: DataSet) -> Result<(), Failed> {
    let records = records(set)?;
    let at = UnixSeconds(records[records.len() / 2].created_at);
    let changes: Vec<ItemChange> = records
        .iter()
        .map(|record| ItemChange {
            token: OrderToken {
                generation: Generation(1),
                shard: ShardOrdinal(1),
                sequence_number: record.sequence_number.clone(),
            },
            event_time: UnixSeconds(record.created_at),
            change: record.change,
            new_image: record.new_image.clone(),
            old_image: record.old_image.clone(),
        })
        .collect();
    let mut group = criterion.benchmark_group("overlay merge");
    let bytes = records.iter().map(|record| record.raw.len() as u64);
    group.throughput(Throughput::Bytes(bytes.sum()));
    group.bench_function(set.name(), |bencher| {
        bencher.iter(|| {
            let mut around = Around::default();
            for change in &changes {
                around.add(at, change);
            }
            around.state(at)
        });
    });
    group.finish();
    Ok(())
}

#[expect(
    clippy::expect_used,
    reason = "without its data no piece can be measured, and criterion takes no error"
)]
fn pieces(criterion: &mut Criterion) {
    let pieces = [
        item_finder,
        part_writer,
        records_of_events,
        log_packer,
        digest,
        overlay_merge,
    ];
    for piece in pieces {
        for set in DataSet::ALL {
            piece(criterion, set).expect("the piece's data can be made");
        }
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = pieces
}
criterion_main!(benches);

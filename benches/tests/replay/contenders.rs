//! What Highwater is measured against does the same work, on little: the same lines, the same items, the same records.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use highwater_aws::{Clients, ConnectionSettings};
use highwater_benches::backup;
use highwater_benches::changes::{Changes, Keys};
use highwater_benches::command::Highwater;
use highwater_benches::comparison::contenders::{Contender, Path as HotPath, Role};
use highwater_benches::comparison::peers::Peers;
use highwater_benches::comparison::rounds;
use highwater_benches::comparison::stages::Setup;
use highwater_benches::consume;
use highwater_benches::contender::limit::{self, Counter, LineSink};
use highwater_benches::contender::record_log::{self, Made};
use highwater_benches::contender::typed_export::{self, GzipBy};
use highwater_benches::contender::{Sums, event_log, limit_read, typed_restore};
use highwater_benches::data_set::DataSet;
use highwater_benches::dynamodb::Tables;
use highwater_benches::dynamodb::stream::ReplayStream;
use highwater_benches::s3::Sink;
use highwater_benches::server::ReplayServer;
use highwater_benches::table::ReplayTable;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::sequence_number::SequenceNumber;
use highwater_domain::snapshot::Compression;
use highwater_domain::stream_record::StreamRecord;
use highwater_tests::binaries;
use serde_json::Value;

const BUCKET: &str = "replay";

async fn clients(server: &ReplayServer) -> Clients {
    let settings = ConnectionSettings {
        region: Some("us-east-1".into()),
        endpoint_url: Some(server.endpoint_url().to_owned()),
        ..ConnectionSettings::default()
    };
    Clients::connect(&settings).await.unwrap()
}

/// A table, its server, and a backup of it in one segment: where its parts are, and how many bytes they have.
async fn backed_up(
    set: DataSet,
    bytes: u64,
    compression: &str,
) -> (ReplayTable, ReplayServer, String, u64) {
    let table = || ReplayTable::new(set, bytes).unwrap();
    let server = ReplayServer::over(0, Tables::new([table()]), Sink::keeping());
    let server = server.await.unwrap();
    let highwater = Highwater::new(&binaries::path("highwater"), &server).unwrap();
    let flags = ["--compression", compression].map(Into::into);
    let run = backup::run(&highwater, &server, set.name(), 1, &flags)
        .await
        .unwrap();
    let root = run.url.strip_prefix("s3://replay/").unwrap();
    (table(), server, format!("{root}data/"), run.stored_bytes)
}

fn plain(body: &[u8], compression: Compression) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match compression {
        Compression::Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        Compression::Zstd => zstd::Decoder::new(body).unwrap().read_to_end(&mut plain),
    };
    read.unwrap();
    plain
}

/// The limit would be no limit of the product if it made other lines, or compressed them differently.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_makes_the_lines_and_the_bytes_of_the_products_parts() {
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let (table, server, prefix, stored) = backed_up(DataSet::Medium, 4_000_000, name).await;
        let store = clients(&server).await.s3_store(BUCKET);
        let mut parts = Vec::new();
        for part in store.list(&prefix, None).await.unwrap().objects {
            let body = store.read(&part.key).await.unwrap().unwrap();
            parts.extend(plain(&body, compression));
        }
        let url = server.endpoint_url().to_owned();
        let (lines, sums, packed) = tokio::task::spawn_blocking(move || {
            let mut lines = LineSink::new(None, Vec::new()).unwrap();
            let sums = limit::export(&url, "medium", &mut lines).unwrap();
            let mut packed = LineSink::new(Some(compression), Counter::default()).unwrap();
            limit::export(&url, "medium", &mut packed).unwrap();
            (lines.finish().unwrap(), sums, packed.finish().unwrap().0)
        })
        .await
        .unwrap();
        assert!(lines == parts, "{name}: other lines");
        let expected = Sums {
            items: table.items(),
            bytes: table.item_bytes(),
            stored_bytes: 0,
        };
        assert_eq!(sums, expected);
        let ratio = packed as f64 / stored as f64;
        assert!(
            (0.99..1.01).contains(&ratio),
            "{name}: {packed} of {stored}"
        );
        let url = server.endpoint_url().to_owned();
        let read = tokio::task::spawn_blocking(move || limit_read::read(&url, BUCKET, &prefix));
        let read = read.await.unwrap().unwrap();
        let stored_bytes = stored;
        assert_eq!(
            read,
            Sums {
                stored_bytes,
                ..expected
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typed_ways_export_and_restore_every_item() {
    for (set, name) in [(DataSet::Small, "gzip"), (DataSet::Large, "zstd")] {
        let (table, server, prefix, _) = backed_up(set, 2_000_000, name).await;
        let clients = clients(&server).await;
        let client = clients.dynamodb();
        let mut stored = Vec::new();
        for by in [GzipBy::Miniz, GzipBy::ZlibRs] {
            let sums = typed_export::export(&client, set.name(), by);
            let sums = sums.await.unwrap();
            assert_eq!(
                (sums.items, sums.bytes),
                (table.items(), table.item_bytes())
            );
            stored.push(sums.stored_bytes as f64);
        }
        assert!((0.9..1.1).contains(&(stored[0] / stored[1])), "{stored:?}");
        server.make_table("typed");
        let store: Arc<dyn ObjectStore> = Arc::new(clients.s3_store(BUCKET));
        let sums = typed_restore::restore(&client, &store, &prefix, "typed");
        let sums = sums.await.unwrap();
        let written = server.written("typed").unwrap();
        assert_eq!(
            (sums.items, sums.bytes),
            (table.items(), table.item_bytes())
        );
        assert_eq!((written.items, written.bytes), (sums.items, sums.bytes));
    }
}

fn changes(set: DataSet, records: u64) -> Changes {
    let table = Arc::new(ReplayTable::new(set, 1).unwrap());
    let arn = consume::stream_arn(set);
    Changes::new(table, records, Keys::Few(records / 3), consume::BEGIN, arn)
}

/// What both must have kept of a record.
fn told(line: &[u8]) -> Value {
    let record: Value = serde_json::from_slice(line).unwrap();
    let member = |name: &str| record["dynamodb"].get(name).cloned().unwrap_or_default();
    let names = [
        "Keys",
        "NewImage",
        "OldImage",
        "SequenceNumber",
        "SizeBytes",
    ];
    let mut told: Vec<Value> = names.map(member).to_vec();
    // A typed event writes what is absent as empty.
    told.iter_mut()
        .filter(|value| value.as_object().is_some_and(serde_json::Map::is_empty))
        .for_each(|value| *value = Value::Null);
    told.push(record["eventID"].clone());
    told.into()
}

fn lines_of(mut lines: impl FnMut(&mut dyn FnMut(&[u8])) -> Sums) -> (Sums, Vec<Vec<u8>>) {
    let mut all = Vec::new();
    let sums = lines(&mut |lines| {
        let lines = lines.strip_suffix(b"\n").unwrap_or_default();
        all.extend(lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    });
    (sums, all)
}

#[test]
fn typed_events_make_the_same_lines_in_other_words() {
    for set in DataSet::ALL {
        let changes = changes(set, 1100);
        let folder = tempfile::tempdir().unwrap();
        let files = consume::write_events(folder.path(), &changes).unwrap();
        assert!(files.len() > 1);
        let events = consume::events(folder.path(), usize::MAX).unwrap();
        let read = |file| Bytes::from(std::fs::read(file).unwrap());
        let (events, count) = (
            events.into_iter().map(read).collect::<Vec<_>>(),
            files.len(),
        );
        let (sums, own) = lines_of(|lines| event_log::own_lines(&events, count, lines).unwrap());
        let (typed_sums, typed) =
            lines_of(|lines| event_log::typed_lines(&events, count, lines).unwrap());
        for sums in [sums, typed_sums] {
            let expected = files.all();
            assert_eq!((sums.items, sums.bytes), (expected.items, expected.bytes));
        }
        assert_eq!(own.len(), 1100);
        for (number, line) in own.iter().enumerate() {
            let mut record = Vec::new();
            changes.record(number as u64, &mut record);
            assert!(*line == record, "{set}: not byte for byte");
        }
        let alike = own.iter().zip(&typed).all(|(a, b)| told(a) == told(b));
        assert!(alike && own.len() == typed.len(), "{set}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_stream_is_read_alike_by_capture_and_by_types() {
    for set in DataSet::ALL {
        let arn = consume::stream_arn(set);
        let stream = ReplayStream::new(&changes(set, 4000), &arn, 2, 3_000_000);
        let (records, bytes) = (stream.records(), stream.bytes());
        assert!(bytes >= 3_000_000);
        let tables = Tables::new([]).with_streams([stream]);
        let server = ReplayServer::over(0, tables, Sink::dropping())
            .await
            .unwrap();
        let clients = clients(&server).await;
        let (mut own, mut typed) = (Vec::new(), Vec::new());
        let take = |to: &mut Vec<Vec<u8>>, lines: &[u8]| {
            let lines = lines.split_inclusive(|byte| *byte == b'\n');
            to.extend(lines.map(|line| line[..line.len() - 1].to_vec()));
        };
        let source = clients.stream_source();
        let sums = record_log::own(&source, &arn, Made::Lines, |lines| take(&mut own, lines));
        let sums = sums.await.unwrap();
        assert_eq!((sums.items, sums.bytes), (records, bytes));
        assert_eq!(server.served_records(), records);
        let client = record_log::typed_client(&clients, server.endpoint_url());
        let sums = record_log::typed(&client, &arn, Made::Lines, |lines| take(&mut typed, lines));
        assert_eq!(sums.await.unwrap().items, records);
        assert!(
            own.iter().zip(&typed).all(|(a, b)| told(a) == told(b)),
            "{set}"
        );
        assert_eq!(own.len() as u64, records);
        assert_eq!(own.len(), typed.len());
        in_order_within_shards(&own);
        let packed = record_log::own(&source, &arn, Made::Bodies, |_| ())
            .await
            .unwrap();
        assert!(packed.stored_bytes > 0 && packed.stored_bytes < bytes);
    }
}

/// Two shards, one after the other, and no number twice in either.
fn in_order_within_shards(lines: &[Vec<u8>]) {
    let numbers = lines.iter().map(|line| {
        let record = StreamRecord::read(&line.clone().into()).unwrap();
        assert!(!line.windows(14).any(|bytes| bytes == b"eventSourceARN"));
        record.sequence_number
    });
    let numbers: Vec<SequenceNumber> = numbers.collect();
    let (first, second) = numbers.split_at(numbers.len() / 2);
    assert!(first.is_sorted_by(|a, b| a < b));
    assert!(second == first);
}

/// Everyone of this repository runs on every path, and comes to the right sums.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_everyone_gives_figures() {
    let setup = Setup {
        highwater: binaries::path("highwater"),
        contender: PathBuf::from(env!("CARGO_BIN_EXE_contender")),
        peers: Peers::new(Path::new("/no/such/folder")).unwrap(),
        // Two events of Lambda at least.
        sizes: [1, 12_000_000],
    };
    for path in HotPath::ALL {
        let set = DataSet::Large;
        let outcome = rounds::run(&setup, path, set, 1, false, |_, _, _| ()).await;
        assert_eq!(outcome.failed, [].into(), "{path}");
        let own = Contender::on(path).filter(|who| who.role() != Role::Peer);
        for who in own {
            let pairs = &outcome.of(who).unwrap().0;
            assert!(pairs[0].large.bytes > pairs[0].small.bytes, "{who:?}");
            assert!(pairs[0].large.peak_rss_bytes > 0, "{who:?}");
        }
    }
}

//! Files instead of a table: MU-13.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::Failure;
use highwater_domain::object_store::{Creation, ListPage, NewObject, ObjectFacts, ObjectStore};
use highwater_source::{DecodeError, Decoded, LineRecord, Lines, LinesError, ObjectLines};
use highwater_testkit::fake_store::FakeStore;

fn number(line: &[u8]) -> Result<Decoded<u64>, DecodeError> {
    Ok(match serde_json::from_slice(line)? {
        0 => Decoded::Skip,
        number => Decoded::Value(number),
    })
}

#[test]
fn mu_13_lines_have_names_and_blank_ones_are_passed_over() {
    let text = &b"1\n\n  2 \r\n0\n3"[..];
    let lines: Result<Vec<_>, _> = Lines::new("src", text, number).collect();
    let named: Vec<(String, u64)> = lines
        .unwrap()
        .into_iter()
        .map(|it| (it.event_id, it.value))
        .collect();
    let expected = [("src:1", 1), ("src:3", 2), ("src:5", 3)];
    assert_eq!(named, expected.map(|(id, value)| (id.to_owned(), value)));
    let broken: Vec<_> = Lines::new("src", &b"1\nx\n"[..], number).collect();
    assert!(matches!(&broken[1], Err(LinesError::Decode { event_id, .. }) if event_id == "src:2"));
    let endless = std::io::BufReader::new(std::io::repeat(b'1'));
    let mut endless = Lines::new("src", endless, number);
    assert!(matches!(endless.next(), Some(Err(LinesError::Read { .. }))));
}

/// Counts who is being read at once.
#[derive(Debug)]
struct Counting {
    store: FakeStore,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl ObjectStore for Counting {
    fn url(&self, key: &str) -> String {
        self.store.url(key)
    }

    fn bucket(&self) -> &str {
        self.store.bucket()
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        self.store.create(object).await
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.store.replace(object).await
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.store.read(key).await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        self.store.read_range(key, range).await
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.store.facts(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.store.list(prefix, after).await
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.store.list_folders(prefix, after).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        self.store.delete(keys).await
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test(start_paused = true)]
async fn mu_13_objects_are_unzipped_filtered_and_fetched_a_few_at_once() {
    let store = FakeStore::new().with_page(4);
    for n in 1..=20_u64 {
        let (name, body) = match n % 3 {
            // Two members, as some writers make them.
            0 => (
                "jsonl.gz",
                [gzip(&format!("{n}\n")), gzip(&format!("{}\n", n + 100))].concat(),
            ),
            1 => ("jsonl", format!("{n}\n").into_bytes()),
            _ => ("txt", b"nobody wants this".to_vec()),
        };
        let object = NewObject {
            key: format!("data/{n:03}.{name}"),
            body: body.into(),
            content_type: "application/json",
            ..NewObject::default()
        };
        store.create(object).await.unwrap();
    }
    let store = Arc::new(Counting {
        store,
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    for at_once in [1, 3] {
        store.most.store(0, Ordering::SeqCst);
        let lines = ObjectLines::new(store.clone(), "data/", number);
        let lines = lines.keys(|key| !key.contains(".txt")).concurrency(at_once);
        let mut values = Vec::new();
        let count = lines.for_each(|line: LineRecord<u64>| {
            assert!(line.event_id.starts_with("data/"), "{}", line.event_id);
            values.push(line.value);
            Ok::<_, LinesError>(())
        });
        assert_eq!(count.await.unwrap(), 7 + 2 * 6);
        let expected = |n: u64| {
            if n.is_multiple_of(3) {
                vec![n, n + 100]
            } else {
                vec![n]
            }
        };
        let expected: Vec<u64> = (1..=20).filter(|n| n % 3 != 2).flat_map(expected).collect();
        assert_eq!(values, expected);
        assert_eq!(store.most.load(Ordering::SeqCst), at_once);
    }
}

//! Single items read within a table's read capacity.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_domain::budget::Budget;
use highwater_domain::failure::Failure;
use highwater_domain::item_reader::{ItemReader, ReadItem};

use crate::pace::Pace;

/// A strongly consistent read of up to 4 KB; what it really cost is settled with the answer.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>
const ESTIMATE: f64 = 1.0;

/// A reader that draws from the bucket of the table's scan, so that both together stay within the capacity.
#[derive(Debug)]
pub(crate) struct PacedReader {
    reader: Arc<dyn ItemReader>,
    pace: Arc<Pace>,
}

impl PacedReader {
    pub(crate) fn new(reader: Arc<dyn ItemReader>, pace: Arc<Pace>) -> Self {
        Self { reader, pace }
    }
}

#[async_trait]
impl ItemReader for PacedReader {
    async fn read_item(&self, table: &str, key: &[u8]) -> Result<ReadItem, Failure> {
        // Whoever is asked to stop drops the read.
        let admitted = self.pace.admit(ESTIMATE, &Budget::UNLIMITED, || false);
        admitted.await;
        let read = self.reader.read_item(table, key).await;
        let consumed = read.as_ref().map_or(0.0, |read| read.consumed_capacity);
        self.pace.settle(ESTIMATE, consumed);
        read
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::future::join_all;
    use highwater_domain::budget::Clock;
    use highwater_domain::ids::UnixMillis;
    use highwater_testkit::fake_table::{FakeTable, string_key};
    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::pace::Share;

    #[derive(Debug)]
    struct Since(Instant);

    impl Clock for Since {
        fn now(&self) -> UnixMillis {
            UnixMillis(u64::try_from(self.0.elapsed().as_millis()).unwrap())
        }
    }

    /// 40 reads of 2 units each at 10 units a second, whatever else is asked for at the same time.
    #[tokio::test(start_paused = true)]
    async fn reads_wait_for_their_capacity() {
        let table = Arc::new(FakeTable::new("orders", string_key("id"), 3));
        let item = format!(r#"{{"id":{{"S":"a"}},"v":{{"S":"{}"}}}}"#, "x".repeat(6000));
        table.put(item.as_bytes());
        let took = async |units_per_second: f64| {
            let pace = Arc::new(Pace::new(Arc::new(Since(Instant::now())), Share::Process));
            pace.limit(units_per_second, 1);
            let reader = PacedReader::new(table.clone(), pace);
            let began = Instant::now();
            let reads = (0..40).map(|_| reader.read_item("orders", br#"{"id":{"S":"a"}}"#));
            for read in join_all(reads).await {
                assert_eq!(read.unwrap().item, Some(Bytes::from(item.clone())));
            }
            began.elapsed()
        };
        assert_eq!(took(0.0).await, Duration::ZERO);
        let paced = took(10.0).await.as_secs_f64();
        assert!((6.0..9.0).contains(&paced), "{paced} s");
    }
}

//! A stream that sends what it should not: records that nobody understands, pages out of order.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::shard::{Shard, ShardId, StreamListing};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use highwater_steps::LiveDeps;
use highwater_testkit::simulation::SimTable;

use crate::live_world::World;

#[derive(Debug)]
enum Oddness {
    /// The record at this place of the stream's first page is of a kind that does not exist.
    UnknownKind(usize),
    /// The other way round, and every record twice.
    Shuffled,
}

#[derive(Debug)]
struct Odd {
    table: Arc<SimTable>,
    oddness: Oddness,
}

/// The record as nobody understands it.
pub fn odd(raw: &Bytes) -> Bytes {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    assert!(text.contains("\"INSERT\""));
    Bytes::from(text.replace("\"INSERT\"", "\"UPSERT\""))
}

pub fn with_odd_record(world: &World, place: usize) -> LiveDeps {
    with(world, Oddness::UnknownKind(place))
}

pub fn with_shuffled_pages(world: &World) -> LiveDeps {
    with(world, Oddness::Shuffled)
}

fn with(world: &World, oddness: Oddness) -> LiveDeps {
    LiveDeps {
        streams: Arc::new(Odd {
            table: world.table.clone(),
            oddness,
        }),
        ..world.deps()
    }
}

#[async_trait]
impl StreamSource for Odd {
    async fn listing(&self, arn: &str) -> Result<StreamListing, StreamError> {
        self.table.listing(arn).await
    }

    async fn children(&self, arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        self.table.children(arn, shard).await
    }

    async fn iterator(
        &self,
        arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        self.table.iterator(arn, shard, from).await
    }

    async fn records(&self, at: &ShardIterator, limit: u32) -> Result<RecordPage, StreamError> {
        let mut page = self.table.records(at, limit).await?;
        match self.oddness {
            Oddness::UnknownKind(place) => {
                if let Some(raw) = page.records.get_mut(place) {
                    *raw = odd(raw);
                }
            }
            Oddness::Shuffled => {
                let twice = page
                    .records
                    .iter()
                    .rev()
                    .flat_map(|raw| [raw.clone(), raw.clone()]);
                page.records = twice.collect();
            }
        }
        Ok(page)
    }
}

//! The table as `TableScanner`: strong pages cut anywhere, with writes between their items; or pages from the past.

use std::ops::Bound;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::key::{Key, KeyAttribute, KeySchema, KeyValue, ScalarType};
use highwater_domain::scan::{Page, RawItems, ScanRequest, TableScanner};

use super::sim_table::{SimTable, State, Version, hash};
use crate::hash_order::{first_hash, segment_of};

/// The key of every simulated table.
pub(crate) fn key_schema() -> KeySchema {
    KeySchema {
        partition: KeyAttribute {
            name: "id".into(),
            scalar_type: ScalarType::S,
        },
        sort: None,
    }
}

type Place = (u64, String);

impl State {
    /// The next places of a segment behind one.
    fn places(
        &self,
        segment: u32,
        total: u32,
        after: Option<&Place>,
        most: usize,
    ) -> (Vec<Place>, bool) {
        let from = match after {
            Some(after) => Bound::Excluded(after.clone()),
            None => Bound::Included((first_hash(segment, total), String::new())),
        };
        let mut following = self
            .items
            .range((from, Bound::Unbounded))
            .take_while(|((hash, _), _)| segment_of(*hash, total) == segment);
        let found = following.by_ref().take(most);
        let found: Vec<Place> = found.map(|(place, _)| place.clone()).collect();
        let is_last = following.next().is_none();
        (found, is_last)
    }

    /// An item as a read sees it that is `age_ms` old.
    fn seen(&self, place: &Place, now: UnixMillis, age_ms: u64) -> Option<Bytes> {
        let versions = self.items.get(place)?;
        let is_seen = |version: &&Version| age_ms == 0 || now.since(version.at) >= age_ms;
        versions.iter().rev().find(is_seen)?.item.clone()
    }
}

impl SimTable {
    /// The places that one page of a request holds, and whether the segment ends with them.
    fn page_places(&self, request: &ScanRequest) -> Result<(Vec<Place>, bool), Failure> {
        let refuse = |kind, message: &str| {
            let name = request.table.clone();
            Err(Failure::new(kind, "Scan", name, message))
        };
        let total = request.total_segments;
        if request.segment >= total || request.limit == Some(0) {
            let message = "no such segment, or a page of nothing";
            return refuse(FailureKind::Invalid, message);
        }
        let after = match &request.exclusive_start_key {
            None => None,
            Some(key) => match key.0.get("id") {
                Some(KeyValue::S(id)) => Some((hash(id), id.clone())),
                _ => {
                    return refuse(
                        FailureKind::Invalid,
                        "the start key is none of this table's",
                    );
                }
            },
        };
        let is_elsewhere = |(hash, _): &Place| segment_of(*hash, total) != request.segment;
        if after.as_ref().is_some_and(is_elsewhere) {
            let message = "the start key belongs to another segment";
            return refuse(FailureKind::Invalid, message);
        }
        let mut state = self.locked();
        if state.incarnation == 0 {
            return refuse(FailureKind::NotFound, "the table is dropped");
        }
        state.scan_pages += 1;
        let most = request.limit.map_or(usize::MAX, |limit| limit as usize);
        let most = if self.nasty.wild {
            most.min(state.random.usize(1..6))
        } else {
            most.min(1000)
        };
        Ok(state.places(request.segment, total, after.as_ref(), most))
    }
}

#[async_trait]
impl TableScanner for SimTable {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let (places, is_last) = self.page_places(request)?;
        let mut items = Vec::new();
        for place in &places {
            if self.nasty.wild {
                // Each item is read for itself, and the world goes on in between.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut state = self.locked();
            let age_ms = if request.consistent {
                0
            } else {
                state.random.u64(..=self.nasty.stale_ms)
            };
            items.extend(state.seen(place, self.time.now(), age_ms));
        }
        let last = places
            .last()
            .map(|(_, id)| Key([("id".to_owned(), KeyValue::S(id.clone()))].into()));
        let wire: usize = items.iter().map(Bytes::len).sum();
        self.trace.note(|| {
            let (segment, count) = (request.segment, items.len());
            format!("Scan segment {segment}: {count} items, last: {is_last}")
        });
        Ok(Page {
            scanned_count: items.len() as u64,
            items: RawItems::from_items(items),
            last_evaluated_key: last.filter(|_| !is_last),
            consumed_capacity: 1.0,
            wire_bytes: wire as u64,
        })
    }
}

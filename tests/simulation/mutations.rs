//! Decisions made wrong on purpose, one per run: each must be caught. The product's code is not touched; its ports lie to
//! it, or the reader of the log does wrongly what the product does right.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::Failure;
use highwater_domain::layout::Destination;
use highwater_domain::live_control::{LiveControl, LogId, PublishedMark};
use highwater_domain::mark::{ShardProgress, UnixSeconds, mark};
use highwater_domain::object_store::{
    Creation, ListPage, NewObject, ObjectFacts, ObjectStore, Stores,
};
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus, StreamView};
use highwater_domain::stream_source::{
    RecordPage, ShardIterator, StartAt, StreamError, StreamSource,
};
use highwater_lease::{LeaseId, Position, Row, State};
use highwater_steps::shard_rows::ShardRow;
use highwater_testkit::simulation::{Nastiness, RowTable, SimTable, Trouble};

use super::plan::{Disaster, Mapping, Plan, Readers};
use super::runner::attempt;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The scan reads eventually consistently.
    EventualScan,
    /// A part's name is no claim: whoever comes last overwrites it.
    PartsOverwritten,
    /// Where records are gone, reading goes on with what is left, a shard that is gone is at its end, and nobody is told.
    HorizonResume,
    /// Sequence numbers are compared as text.
    NumbersAsText,
    /// Records of all shards are ordered by sequence number alone.
    OrdinalOmitted,
    /// One empty page is taken for the tip of the shard.
    EmptyPageIsTip,
    /// No children, told once, are final.
    NoChildrenIsFinal,
    /// A checkpoint is written whatever the row has become.
    UnconditionalCheckpoint,
    /// The mark leaves a shard out whose parent has ended.
    MissingChildIgnored,
    /// Records are cut by their own stamps.
    StampsForEventTimes,
    /// A batch is reported as done before it is durable.
    DoneBeforeDurable,
    /// An incident is never written.
    IncidentsForgotten,
}

/// The iterator of a shard that is gone, for those who take that for its end.
const NOTHING_LEFT: &str = "nothing left";

/// A port that lies as a mutation wants.
#[derive(Debug)]
pub struct Mutated<P: ?Sized> {
    inner: Arc<P>,
    mutation: Mutation,
}

impl<P: ?Sized> Mutated<P> {
    pub fn new(inner: &Arc<P>, mutation: Mutation) -> Arc<Self> {
        let inner = Arc::clone(inner);
        Arc::new(Self { inner, mutation })
    }
}

#[async_trait]
impl<P: TableScanner + ?Sized> TableScanner for Mutated<P> {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let mut request = request.clone();
        request.consistent &= self.mutation != Mutation::EventualScan;
        self.inner.scan_page(&request).await
    }
}

#[async_trait]
impl<P: StreamSource + ?Sized> StreamSource for Mutated<P> {
    async fn listing(&self, stream_arn: &str) -> Result<StreamListing, StreamError> {
        let mut listing = self.inner.listing(stream_arn).await?;
        // So that the product takes an empty answer about children for the truth.
        if self.mutation == Mutation::NoChildrenIsFinal {
            let childless = |shard: &Shard| {
                let is_parent = |other: &Shard| other.parent.as_ref() == Some(&shard.id);
                shard.end.is_some() && !listing.shards.iter().any(is_parent)
            };
            if listing.shards.iter().any(childless) {
                listing.status = StreamStatus::Disabled;
            }
        }
        Ok(listing)
    }

    async fn children(&self, stream_arn: &str, shard: &ShardId) -> Result<Vec<Shard>, StreamError> {
        self.inner.children(stream_arn, shard).await
    }

    async fn iterator(
        &self,
        stream_arn: &str,
        shard: &ShardId,
        from: &StartAt,
    ) -> Result<ShardIterator, StreamError> {
        let asked = self.inner.iterator(stream_arn, shard, from).await;
        match asked {
            Err(StreamError::Trimmed { .. }) if self.mutation == Mutation::HorizonResume => {
                let left = StartAt::WhatIsLeft;
                self.inner.iterator(stream_arn, shard, &left).await
            }
            Err(StreamError::Gone(_)) if self.mutation == Mutation::HorizonResume => {
                Ok(ShardIterator(NOTHING_LEFT.to_owned()))
            }
            answer => answer,
        }
    }

    async fn records(
        &self,
        iterator: &ShardIterator,
        limit: u32,
    ) -> Result<RecordPage, StreamError> {
        if iterator.0 == NOTHING_LEFT {
            return Ok(RecordPage {
                records: Vec::new(),
                next: None,
                answered_at: highwater_testkit::simulation::SimTime::epoch(),
            });
        }
        self.inner.records(iterator, limit).await
    }
}

/// A bucket that lies.
#[derive(Clone, Debug)]
pub struct MutatedStores {
    pub inner: Arc<dyn ObjectStore>,
    pub mutation: Mutation,
}

impl Stores for MutatedStores {
    fn open(&self, _destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl ObjectStore for MutatedStores {
    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    fn bucket(&self) -> &str {
        self.inner.bucket()
    }

    async fn create(&self, object: NewObject) -> Result<Creation, Failure> {
        let key = object.key.as_str();
        match self.mutation {
            Mutation::PartsOverwritten if key.contains("/data/") => {
                self.inner.replace(object).await?;
                Ok(Creation::Created)
            }
            Mutation::DoneBeforeDurable if key.ends_with(".jsonl.zst") => {
                // Now and then the process dies before it gets to it.
                if fastrand::u8(..8) > 0 {
                    self.inner.create(object).await?;
                }
                Ok(Creation::Created)
            }
            Mutation::IncidentsForgotten if key.contains("/incidents/") => Ok(Creation::Created),
            _ => self.inner.create(object).await,
        }
    }

    async fn replace(&self, object: NewObject) -> Result<(), Failure> {
        self.inner.replace(object).await
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.inner.read(key).await
    }

    async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        self.inner.read_range(key, range).await
    }

    async fn facts(&self, key: &str) -> Result<Option<ObjectFacts>, Failure> {
        self.inner.facts(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.inner.list(prefix, after).await
    }

    async fn list_folders(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, Failure> {
        self.inner.list_folders(prefix, after).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        self.inner.delete(keys).await
    }
}

/// Marks that are published higher than they are.
#[derive(Debug)]
pub struct RaisedMarks {
    pub inner: Arc<dyn LiveControl>,
    pub rows: Arc<RowTable>,
    pub table: Arc<SimTable>,
    pub mutation: Mutation,
}

impl RaisedMarks {
    fn raised(&self, log: &LogId, published: &PublishedMark) -> PublishedMark {
        let mut raised = published.clone();
        match self.mutation {
            Mutation::EmptyPageIsTip => {
                let now = UnixSeconds::of(self.table.time().now());
                raised.mark.assumed = raised.mark.assumed.map(|_| UnixSeconds(now.0 - 1));
            }
            Mutation::MissingChildIgnored => {
                let rows = self.rows.rows(&log.lease_group());
                let unread = |row: &&Row| {
                    let is_new =
                        matches!(&row.lease.position, Position::Open(place) if !place.after);
                    is_new && !row.lease.parents.is_empty() && row.lease.state != State::End
                };
                let ignored: Vec<&LeaseId> =
                    rows.iter().filter(unread).map(|row| &row.id).collect();
                let shards: Vec<ShardProgress> = rows
                    .iter()
                    .filter(|row| !ignored.contains(&&row.id))
                    .map(|row| {
                        let mut progress = ShardRow::of(row).unwrap().progress();
                        let kept = |child: &ShardId| {
                            ignored.iter().all(|it| it.as_str() != child.as_str())
                        };
                        if let Some(children) = &mut progress.children {
                            children.retain(kept);
                        }
                        progress
                    })
                    .collect();
                if let Ok(found) = mark(&shards, &[], published.publication_ms) {
                    raised.mark.proven = raised.mark.proven.max(found.proven);
                    raised.mark.rolled = raised.mark.rolled.max(found.rolled);
                }
            }
            _ => {}
        }
        raised
    }
}

#[async_trait]
impl LiveControl for RaisedMarks {
    async fn mark(&self, log: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        self.inner.mark(log).await
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        seen: Option<i64>,
        mark: &PublishedMark,
    ) -> Result<Cas, Failure> {
        let raised = self.raised(log, mark);
        self.inner.publish_mark(log, seen, &raised).await
    }
}

/// Runs seeds until the mutation breaks an invariant in one that keeps it otherwise.
fn caught(mutation: Mutation, by: &[&str], prepare: impl Fn(&mut Plan)) {
    let mut others: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..2_000 {
        let mut plan = Plan::of(seed);
        plan.disaster = None;
        plan.view = StreamView::NewAndOldImages;
        prepare(&mut plan);
        let unchanged = plan;
        plan.mutation = Some(mutation);
        let Err(failure) = attempt(plan, false).result else {
            continue;
        };
        if !by.iter().any(|invariant| failure.starts_with(invariant)) {
            let kind: String = failure.chars().take(60).collect();
            *others.entry(kind).or_default() += 1;
            continue;
        }
        match attempt(unchanged, false).result {
            Ok(_) => return println!("{mutation:?} is caught by seed {seed}: {failure}"),
            Err(own) => *others.entry(own).or_default() += 1,
        }
    }
    panic!("2,000 seeds do not catch {mutation:?}; what failed otherwise: {others:#?}");
}

const FOLLOWERS: Readers = Readers {
    followers: 2,
    mapping: None,
    auditors: 0,
};

/// A busy table, little trouble: what these mutations need is traffic.
fn busy(plan: &mut Plan) {
    plan.writes = 120;
    plan.pause_ms = 1_000;
    plan.keys = 4;
    plan.upheavals = 4;
}

#[test]
fn an_eventually_consistent_scan_is_caught() {
    caught(Mutation::EventualScan, &["I14", "I1:"], |plan| {
        busy(plan);
        plan.nasty.stale_ms = 60_000;
    });
}

#[test]
fn parts_without_a_claim_are_caught() {
    caught(Mutation::PartsOverwritten, &["I2", "I1:", "I20"], |plan| {
        busy(plan);
        plan.keys = 60;
        plan.trouble = Trouble {
            delay_ms: 400,
            per_mille: 120,
            late_ms: 20_000,
        };
        plan.backups = 2;
    });
}

#[test]
fn resuming_at_the_horizon_is_caught() {
    caught(Mutation::HorizonResume, &["I15", "I5", "I6"], |plan| {
        busy(plan);
        plan.disaster = Some(Disaster::Outage);
    });
}

#[test]
fn comparing_numbers_as_text_is_caught() {
    caught(Mutation::NumbersAsText, &["I14", "I16"], busy);
}

#[test]
fn omitting_the_ordinal_is_caught() {
    caught(Mutation::OrdinalOmitted, &["I14", "I16"], busy);
}

#[test]
fn taking_an_empty_page_for_the_tip_is_caught() {
    caught(Mutation::EmptyPageIsTip, &["I8"], |plan| {
        busy(plan);
        plan.nasty = Nastiness {
            empty_percent: 0,
            publish_ms: 5_000,
            ..plan.nasty
        };
    });
}

#[test]
fn believing_that_there_are_no_children_is_caught() {
    caught(Mutation::NoChildrenIsFinal, &["I6", "I15", "I20"], |plan| {
        busy(plan);
        plan.nasty.lies_ms = 8_000;
    });
}

#[test]
fn unconditional_checkpoints_are_caught() {
    caught(
        Mutation::UnconditionalCheckpoint,
        &["I5", "I6", "I7", "I17"],
        |plan| {
            busy(plan);
            plan.readers = FOLLOWERS;
            plan.life_ms = 90_000;
            plan.trouble.per_mille = 120;
            plan.trouble.late_ms = 60_000;
        },
    );
}

#[test]
fn leaving_out_a_child_of_an_ended_shard_is_caught() {
    caught(Mutation::MissingChildIgnored, &["I8"], |plan| {
        busy(plan);
        plan.pause_ms = 3_000;
    });
}

#[test]
fn cutting_by_stamps_is_caught() {
    caught(Mutation::StampsForEventTimes, &["I14"], busy);
}

#[test]
fn reporting_before_it_is_durable_is_caught() {
    caught(
        Mutation::DoneBeforeDurable,
        &["I5", "I6", "I8", "I15"],
        |plan| {
            busy(plan);
            plan.readers = Readers {
                mapping: Some(Mapping {
                    windows: true,
                    discards: false,
                }),
                ..FOLLOWERS
            };
        },
    );
}

#[test]
fn forgotten_incidents_are_caught() {
    caught(Mutation::IncidentsForgotten, &["I15", "I5", "I6"], |plan| {
        busy(plan);
        plan.disaster = Some(Disaster::Outage);
    });
}

//! What a shard's lease keeps besides its position, and how to read it: the words that all who write leases share.

use std::collections::BTreeMap;

use highwater_domain::log_facts::ShardFacts;
use highwater_domain::mark::{ShardProgress, Silence, UnixSeconds};
use highwater_domain::sequence_number::{SequenceNumber, ShardOrdinal};
use highwater_domain::shard::ShardId;
use highwater_lease::{LeaseId, Leases, NewLease, Position, Row, State};

use crate::error::StepError;

/// The shard's place in the order of records, a decimal number.
pub const ORDINAL: &str = "ordinal";

/// The greatest stamp on the path from its root to the last record that is in the log, in seconds since 1970. Absent
/// while that path has no record.
pub const EVENT_TIME: &str = "event_time";

/// What [`EVENT_TIME`] was when the shard began: its parent's last.
pub const EVENT_TIME_BASE: &str = "event_time_base";

/// The shard's ending sequence number, once a listing has told it.
pub const END: &str = "end";

/// Empty answers since the last record, a [`Silence`] as JSON; empty where there were none.
pub const SILENCE: &str = "silence";

/// Present where the rest of the shard was gone before it was read.
pub const LOST: &str = "lost";

/// One lease, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRow {
    /// The shard.
    pub shard: ShardId,
    /// Those that it goes on from, as far as they are registered.
    pub parents: Vec<ShardId>,
    /// Those that go on from it; none before it has ended.
    pub children: Vec<ShardId>,
    /// Whether it was read to its end, or what is left of it is gone.
    pub ended: bool,
    /// How far it was read.
    pub position: Position,
    /// Its place in the order of records.
    pub ordinal: ShardOrdinal,
    /// The greatest stamp on its path up to its position.
    pub event_time: Option<UnixSeconds>,
    /// The same where the shard began.
    pub event_time_base: Option<UnixSeconds>,
    /// Its ending sequence number, if a listing has told it.
    pub end: Option<SequenceNumber>,
    /// Empty answers since its last record.
    pub silence: Option<Silence>,
    /// Whether its rest is gone.
    pub lost: bool,
    /// The worker that reads it.
    pub owner: Option<String>,
}

impl ShardRow {
    /// Reads a lease.
    ///
    /// # Errors
    /// [`StepError::LogCorrupt`] for a lease that is no shard's or whose facts cannot be read.
    pub fn of(row: &Row) -> Result<Self, StepError> {
        let lease = &row.lease;
        let ids = |ids: &[LeaseId]| ids.iter().map(shard_of).collect::<Result<Vec<_>, _>>();
        let details = Details(row);
        Ok(Self {
            shard: shard_of(&row.id)?,
            parents: ids(&lease.parents)?,
            children: ids(&lease.children)?,
            ended: lease.state == State::End,
            position: lease.position.clone(),
            ordinal: ShardOrdinal(details.read(ORDINAL)?.unwrap_or_default()),
            event_time: details.read(EVENT_TIME)?.map(UnixSeconds),
            event_time_base: details.read(EVENT_TIME_BASE)?.map(UnixSeconds),
            end: details.read(END)?,
            silence: details.silence()?,
            lost: lease.details.contains_key(LOST),
            owner: lease.owner.as_ref().map(|owner| owner.worker.clone()),
        })
    }

    /// What the mark asks of it.
    #[must_use]
    pub fn progress(&self) -> ShardProgress {
        ShardProgress {
            shard: self.shard.clone(),
            event_time: self.event_time,
            children: self.ended.then(|| self.children.clone()),
            // Of a shard that is closed silence says nothing: what comes now comes to its children.
            silence: self.silence.filter(|_| self.end.is_none()),
        }
    }
}

struct Details<'a>(&'a Row);

impl Details<'_> {
    fn read<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, StepError> {
        let Some(text) = self.0.lease.details.get(name) else {
            return Ok(None);
        };
        let read = text.parse().map(Some);
        read.map_err(|_| unreadable(self.0, name, text))
    }

    fn silence(&self) -> Result<Option<Silence>, StepError> {
        let text = self.0.lease.details.get(SILENCE);
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let read = serde_json::from_str(text).map(Some);
        read.map_err(|_| unreadable(self.0, SILENCE, text))
    }
}

fn unreadable(row: &Row, name: &str, text: &str) -> StepError {
    StepError::LogCorrupt(format!(
        "the lease of shard {} says {text:?} for {name}, which this version cannot read",
        row.id
    ))
}

/// The shard that a lease is of.
pub fn shard_of(lease: &LeaseId) -> Result<ShardId, StepError> {
    let shard = lease.as_str().parse();
    shard.map_err(|error| StepError::LogCorrupt(format!("a lease of the log: {error}")))
}

/// The lease of a shard.
pub fn lease_of(shard: &ShardId) -> Result<LeaseId, StepError> {
    Ok(LeaseId::new(shard.as_str())?)
}

/// A shard's lease as it is registered: AT its start, with what its facts say.
pub fn new_lease(facts: &ShardFacts, parent: Option<&ShardId>) -> Result<NewLease, StepError> {
    let shard = &facts.shard;
    let mut lease = NewLease::root(lease_of(&shard.id)?, Position::at(shard.start.clone()))
        .detail(ORDINAL, facts.ordinal.0.to_string());
    if let Some(parent) = parent {
        lease = lease.parent(lease_of(parent)?);
    }
    if let Some(base) = facts.event_time {
        let seconds = base.0.to_string();
        lease = lease
            .detail(EVENT_TIME, seconds.clone())
            .detail(EVENT_TIME_BASE, seconds);
    }
    if let Some(end) = &shard.end {
        lease = lease.detail(END, end.as_str());
    }
    Ok(lease)
}

/// What a checkpoint stores besides the position.
#[must_use]
pub fn details(
    event_time: Option<UnixSeconds>,
    silence: Option<Silence>,
) -> BTreeMap<String, String> {
    let mut details = BTreeMap::new();
    if let Some(at) = event_time {
        details.insert(EVENT_TIME.to_owned(), at.0.to_string());
    }
    // A detail cannot be taken away, only emptied.
    let silence = silence.and_then(|silence| serde_json::to_string(&silence).ok());
    details.insert(SILENCE.to_owned(), silence.unwrap_or_default());
    details
}

/// All shards of a log, from all pages. Memory grows with the number of shards.
pub async fn all(leases: &Leases) -> Result<BTreeMap<ShardId, ShardRow>, StepError> {
    let mut rows = BTreeMap::new();
    let mut after: Option<LeaseId> = None;
    loop {
        let page = leases.page(after.as_ref()).await?;
        let Some(last) = page.last() else {
            return Ok(rows);
        };
        after = Some(last.id.clone());
        for row in &page {
            let row = ShardRow::of(row)?;
            rows.insert(row.shard.clone(), row);
        }
    }
}

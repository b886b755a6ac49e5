//! The end of a shard: who goes on from it, and the transaction that makes it so.
//!
//! In this order: the children's facts, `end.json`, then one write that ends the lease and registers the children's.
//! Whatever dies in between is repeated by whoever owns the lease next, and finds the facts there.

use std::collections::BTreeSet;
use std::time::Duration;

use highwater_domain::incident::IncidentKind;
use highwater_domain::lineage::ChildrenWatch;
use highwater_domain::log_facts::{Ending, LOG_FACTS_VERSION, Origin, ShardEnd, ShardFacts};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::sequence_number::{ShardOrdinal, ordinal};
use highwater_domain::shard::{Shard, ShardId, StreamStatus};
use highwater_domain::stream_source::StreamError;
use highwater_lease::{Error as LeaseError, NewLease, Position};
use tokio::time::Instant;

use crate::error::StepError;
use crate::note_incident::{Sight, first_second, note};
use crate::shard_rows::{self, new_lease};
use crate::shard_work::{Halt, Order, ShardWork, passes};
use crate::stream_log::StreamLog;

/// Waits between two answers about children: while there are none.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Children that are not there after so long are told of.
const PATIENCE: Duration = Duration::from_mins(2);

/// A shard that was read to its end, or of which nothing is left.
#[derive(Debug)]
pub(crate) struct ShardEnding<'a> {
    /// Its place in the order of records.
    pub(crate) ordinal: ShardOrdinal,
    /// Behind its last record in the log.
    pub(crate) position: &'a Position,
    /// The greatest stamp on its path.
    pub(crate) event_time: Option<UnixSeconds>,
    /// Why nothing more is read.
    pub(crate) ending: Ending,
}

/// Ends the shard. How many incidents were new.
pub(crate) async fn run(
    work: &ShardWork,
    end: &ShardEnding<'_>,
    apart: Duration,
) -> Result<u64, Halt> {
    let children = children_stable(work, apart).await?;
    let mut tries = 0;
    let facts = loop {
        work.may_write().await?;
        match put_facts(work, end, &children).await {
            Ok(facts) => break facts,
            Err(error) => work.again("the end", &mut tries, error).await?,
        }
    };
    end_lease(work, end, &facts.children).await?;
    let ids: Vec<ShardId> = children.into_iter().map(|child| child.id).collect();
    work.deps.observer.shard_ended(&work.shard, &ids);
    Ok(facts.incidents)
}

/// The shard's children, once two answers agree. There is no end to the patience but the stream's own 24 hours: a lineage that
/// is given up is lost.
async fn children_stable(work: &ShardWork, apart: Duration) -> Result<Vec<Shard>, Halt> {
    let began = Instant::now();
    let mut watch = ChildrenWatch::default();
    let mut wait = FIRST_WAIT;
    let mut told = began;
    loop {
        if work.order() != Order::Go {
            return Err(Halt::Asked);
        }
        if let Some((children, may_be_none)) = answer(work).await? {
            let at = began.elapsed();
            if let Some(children) = watch.answer(at, &children, may_be_none, apart) {
                return Ok(children);
            }
            if watch.has_seen_any() || may_be_none {
                wait = apart;
            }
        }
        if told.elapsed() >= PATIENCE {
            told = Instant::now();
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let what = format!("the children of shard {}", work.shard);
            let reason = format!("none are listed after {} s", began.elapsed().as_secs());
            work.deps.observer.retrying(&what, &reason, wait_ms);
        }
        work.rest(wait.max(Duration::from_millis(1))).await;
        wait = (wait * 2).clamp(Duration::from_millis(1), LONGEST_WAIT.max(apart));
    }
}

/// What both ways of asking tell together: the children, and whether there may be none. `None` if one of them failed in
/// passing.
async fn answer(work: &ShardWork) -> Result<Option<(Vec<Shard>, bool)>, Halt> {
    let (streams, arn) = (&work.deps.streams, work.log.arn());
    let listing = streams.listing(arn).await;
    let (mut children, may_be_none) = match listing {
        Ok(listing) => {
            let is_child = |shard: &Shard| shard.parent.as_ref() == Some(&work.shard);
            let children: Vec<Shard> = listing.shards.into_iter().filter(is_child).collect();
            (children, listing.status == StreamStatus::Disabled)
        }
        Err(StreamError::Gone(_)) => (Vec::new(), true),
        Err(error) => return in_passing(work, error),
    };
    match streams.children(arn, &work.shard).await {
        Ok(more) => {
            let known: BTreeSet<ShardId> = children.iter().map(|it| it.id.clone()).collect();
            children.extend(more.into_iter().filter(|it| !known.contains(&it.id)));
        }
        // The shard is not listed any more: whoever goes on from it may still be.
        Err(StreamError::Gone(_)) => {}
        Err(error) => return in_passing(work, error),
    }
    Ok(Some((children, may_be_none)))
}

fn in_passing(work: &ShardWork, error: StreamError) -> Result<Option<(Vec<Shard>, bool)>, Halt> {
    let error = StepError::Stream(error);
    if passes(&error) {
        let what = format!("the children of shard {}", work.shard);
        work.deps.observer.retrying(&what, &error.to_string(), 0);
        return Ok(None);
    }
    Err(Halt::Failed(error))
}

struct PutFacts {
    children: Vec<NewLease>,
    incidents: u64,
}

/// The children's facts, then the shard's end.
async fn put_facts(
    work: &ShardWork,
    end: &ShardEnding<'_>,
    children: &[Shard],
) -> Result<PutFacts, StepError> {
    let log = &work.log;
    let origin = match end.ending {
        Ending::Read => Origin::Child,
        Ending::Lost => Origin::AfterGap,
    };
    let mut put = PutFacts {
        children: Vec::new(),
        incidents: 0,
    };
    let stands: Option<ShardEnd> = log
        .fact(&log.place.shard_end(log.label(), &work.shard))
        .await?;
    for child in children {
        // An earlier try ended here, and was not told of this child.
        let is_late = stands
            .as_ref()
            .is_some_and(|stands| !stands.children.contains(&child.id));
        let origin = if is_late { Origin::LateChild } else { origin };
        if is_late {
            let late = late_child(log, child, end.event_time);
            put.incidents += u64::from(note(&work.deps, log, &late).await?);
        }
        let facts = child_facts(log, child, end.ordinal, end.event_time, origin).await?;
        put.children.push(new_lease(&facts, Some(&work.shard))?);
    }
    let last = match end.position {
        Position::Open(place) if place.after => Some(place.sequence_number.clone()),
        _ => None,
    };
    let fact = ShardEnd {
        version: LOG_FACTS_VERSION,
        shard: work.shard.clone(),
        last,
        event_time: end.event_time,
        children: children.iter().map(|child| child.id.clone()).collect(),
        ending: end.ending,
    };
    let key = log.place.shard_end(log.label(), &work.shard);
    log.settle_fact(key, fact).await?;
    Ok(put)
}

/// A child's facts as they stand: those that were put first.
pub(crate) async fn child_facts(
    log: &StreamLog,
    child: &Shard,
    parent: ShardOrdinal,
    event_time: Option<UnixSeconds>,
    origin: Origin,
) -> Result<ShardFacts, StepError> {
    let now = log.time.now();
    let facts = ShardFacts {
        version: LOG_FACTS_VERSION,
        shard: child.clone(),
        ordinal: ordinal(&child.id, Some(parent), now.0),
        event_time,
        origin,
        registered_at: now,
    };
    let key = log.place.shard_facts(log.label(), &child.id);
    Ok(log.settle_fact(key, facts).await?.0)
}

/// That a child came to light after its parent's children had been taken for complete.
pub(crate) fn late_child(log: &StreamLog, child: &Shard, event_time: Option<UnixSeconds>) -> Sight {
    let from = event_time.unwrap_or_else(|| first_second(&child.id));
    Sight {
        kind: IncidentKind::LateChild,
        shard: Some(child.id.clone()),
        what: child.id.to_string(),
        from,
        until: UnixSeconds::of(log.time.now()).max(from),
        detail: format!(
            "shard {} goes on from a shard whose children had been taken for complete; it is read from its start, and marks published before may have been too high",
            child.id
        ),
    }
}

async fn end_lease(
    work: &ShardWork,
    end: &ShardEnding<'_>,
    children: &[NewLease],
) -> Result<(), Halt> {
    // What the mark asks of a shard is no part of its end, but a reader of rows may want to know that its rest is gone.
    let mut details = shard_rows::details(end.event_time, None);
    if end.ending == Ending::Lost {
        details.insert(shard_rows::LOST.to_owned(), "true".to_owned());
    }
    work.checkpoint(end.position, &details).await?;
    let mut tries = 0;
    loop {
        work.may_write().await?;
        match work.held.shard_end(children).await {
            // `Ended`: by an earlier try, whose answer got lost.
            Ok(()) | Err(LeaseError::Ended { .. }) => return Ok(()),
            Err(error) => work.again("the end", &mut tries, error.into()).await?,
        }
    }
}

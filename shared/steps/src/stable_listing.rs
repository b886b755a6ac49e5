//! A listing of a stream's shards that can be believed: two full looks, some seconds apart, that make sense and agree.
//!
//! `DescribeStream` is eventually consistent and wrong in ways that [`highwater_domain::lineage`] knows. Nothing tells
//! when it is right, so patience does, and when patience ends the doubt is handed on, never dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_domain::ids::UnixMillis;
use highwater_domain::lineage::{Oddity, oddities};
use highwater_domain::shard::{Shard, ShardId, StreamListing, StreamStatus};
use highwater_domain::stream_source::StreamError;
use tokio::time::Instant;

use crate::error::StepError;
use crate::live_deps::LiveDeps;

/// How long and how often a stream is looked at until a listing is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The time between two looks.
    pub apart: Duration,
    /// After so long the listing is taken as it is.
    pub at_most: Duration,
}

impl Default for Patience {
    /// Two looks five seconds apart, for up to five minutes.
    fn default() -> Self {
        Self {
            apart: Duration::from_secs(5),
            at_most: Duration::from_mins(5),
        }
    }
}

impl Patience {
    /// For a local engine, whose listings are never stale: two looks at once.
    pub const LOCAL: Self = Self {
        apart: Duration::ZERO,
        at_most: Duration::from_secs(10),
    };
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StableListing {
    /// The shards, in order of their ids.
    pub listing: StreamListing,
    /// What is odd about it; empty unless patience ended. Whoever goes on then raises
    /// [`DoubtfulListing`](highwater_domain::incident::IncidentKind::DoubtfulListing) and begins further back.
    pub oddities: Vec<Oddity>,
    /// When the last look was made. `DescribeStream` tells no time of its own, so this is this machine's clock.
    pub at: UnixMillis,
}

/// Lists a stream until two looks agree and nothing about them is odd.
///
/// When `patience` ends, the answer holds every shard that any look has shown, because reading from too many shards is
/// harmless and from too few is a hole. A stream that is being enabled lists nothing and is waited for.
///
/// # Errors
/// [`StepError::Stream`] if the stream is gone or cannot be asked; what fails in passing is asked again within the patience.
pub async fn stable_listing(
    deps: &LiveDeps,
    stream_arn: &str,
    patience: Patience,
) -> Result<StableListing, StepError> {
    let began = Instant::now();
    let mut seen = BTreeMap::new();
    let mut before: Option<StreamListing> = None;
    loop {
        let is_last = began.elapsed() >= patience.at_most;
        match deps.streams.listing(stream_arn).await {
            Ok(mut listing) => {
                let at = deps.clock.now();
                listing.shards.sort_by(|a, b| a.id.cmp(&b.id));
                let odd = oddities(&listing, at);
                let is_sound = odd.is_empty() && !is_awaited(&listing);
                if is_sound && before.as_ref() == Some(&listing) {
                    return Ok(StableListing {
                        listing,
                        oddities: odd,
                        at,
                    });
                }
                remember(&mut seen, &listing.shards);
                if is_last {
                    return Ok(doubtful(listing, seen, odd, at));
                }
                before = is_sound.then_some(listing);
            }
            Err(StreamError::Failed(failure)) if failure.kind.is_retryable() && !is_last => {
                let wait_ms = u64::try_from(patience.apart.as_millis()).unwrap_or(u64::MAX);
                let reason = failure.to_string();
                deps.observer.retrying("DescribeStream", &reason, wait_ms);
            }
            Err(error) => return Err(error.into()),
        }
        // A pause of nothing would never let time pass.
        tokio::time::sleep(patience.apart.max(Duration::from_millis(1))).await;
    }
}

/// A living stream has shards; where none are listed, they are not listed yet.
fn is_awaited(listing: &StreamListing) -> bool {
    listing.status == StreamStatus::Enabling
        || (listing.shards.is_empty() && listing.status != StreamStatus::Disabled)
}

/// Keeps every shard that was ever listed. A shard that has ended stays so.
fn remember(seen: &mut BTreeMap<ShardId, Shard>, shards: &[Shard]) {
    for shard in shards {
        let kept = seen
            .entry(shard.id.clone())
            .or_insert_with(|| shard.clone());
        kept.end = kept.end.take().or_else(|| shard.end.clone());
        kept.parent = kept.parent.take().or_else(|| shard.parent.clone());
    }
}

/// Everything that was seen, and what is odd about it: of the last look, and of all looks together.
fn doubtful(
    last: StreamListing,
    seen: BTreeMap<ShardId, Shard>,
    odd: Vec<Oddity>,
    at: UnixMillis,
) -> StableListing {
    let listing = StreamListing {
        shards: seen.into_values().collect(),
        ..last
    };
    let mut all = oddities(&listing, at);
    all.extend(odd);
    all.push(Oddity::Unsettled);
    all.sort();
    all.dedup();
    StableListing {
        listing,
        oddities: all,
        at,
    }
}

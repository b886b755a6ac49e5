//! Capturing a handoff: where live changes take over from a scan that has not begun yet.
//!
//! In order: the table is described, its stream enabled if that was asked for, its shards listed until the listing can be
//! believed, the table described once more (a stream that was exchanged meanwhile is not the one that was listed), the
//! log begun, and a young stream given time to settle. Only then is the time taken. Nothing is undone after a crash:
//! whoever comes again finds what was done and goes on, and a stream's own label tells how young it is.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::digest::sha256_hex;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::handoff::{Handoff, HandoffOf};
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
use highwater_domain::log_facts::StreamFacts;
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::sequence_number::Generation;
use highwater_domain::shard::{StreamStatus, StreamView};
use highwater_domain::stream_source::StreamError;
use highwater_domain::table_admin::TableAdmin;
use highwater_domain::table_stream::{
    NoHandoff, StreamChoice, StreamedTable, TableStream, enabling,
};
use tokio::time::Instant;

use crate::begin_log::{self, LoggedTable, put_incident};
use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::stable_listing::{Patience, StableListing, stable_listing};

/// How long a stream may take to become `ENABLED`, and its table to let it be enabled.
const ENABLING_AT_MOST: Duration = Duration::from_mins(5);

/// How long until it is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A signal is heard after at most this long.
const NAP: Duration = Duration::from_millis(500);

/// What a handoff is wanted for.
#[derive(Clone, Debug)]
pub struct Capture<'a> {
    /// Enables the table's stream.
    pub admin: &'a dyn TableAdmin,
    /// The snapshot, for messages.
    pub snapshot: &'a SnapshotId,
    /// The table.
    pub table: &'a TableRef,
    /// Its ARN.
    pub table_arn: &'a str,
    /// Its UUID, as the snapshot was planned.
    pub table_id: Option<&'a str>,
    /// Where its log lies.
    pub store: &'a Arc<dyn ObjectStore>,
    /// Where its log lies in there.
    pub place: &'a LogPlace,
    /// Enable a stream if there is none, and fail rather than go without a handoff.
    pub with_stream: bool,
    /// Whether the scan will read strongly consistently.
    pub consistent: bool,
    /// Whether the snapshot leaves something out on purpose.
    pub is_query: bool,
    /// How long things take.
    pub pace: CapturePace,
}

/// How long a capture waits for a stream to be what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturePace {
    /// How old a stream must be until it surely sees every change. No document says that it does so at once.
    pub settle: Duration,
    /// How long its shards are listed.
    pub patience: Patience,
}

impl Default for CapturePace {
    fn default() -> Self {
        Self {
            settle: Duration::from_mins(1),
            patience: Patience::default(),
        }
    }
}

impl CapturePace {
    /// The pace for streams that settle in `settle`; one that needs no time is a local engine's, whose listings need
    /// none either.
    #[must_use]
    pub fn settling_in(settle: Duration) -> Self {
        let patience = if settle.is_zero() {
            Patience::LOCAL
        } else {
            Patience::default()
        };
        Self { settle, patience }
    }
}

/// A handoff, or why there is none.
pub type Captured = Result<Handoff, NoHandoff>;

/// Captures the handoff of a snapshot, before its scan begins.
///
/// # Errors
/// If a handoff was asked for: [`StepError::StreamUnsuitable`], and whatever fails. If not, what is wrong with the
/// stream alone is the reason for going without; a failure in passing is one of this call all the same, because another
/// attempt may do better.
pub async fn capture(deps: &LiveDeps, of: &Capture<'_>) -> Result<Captured, StepError> {
    let (stream, is_new) = match choose(deps, of).await? {
        Choice::Use(stream) => (stream, false),
        Choice::Enable => (enable(deps, of).await?, true),
        Choice::Without(reason) => return Ok(Err(reason)),
    };
    let captured = from_stream(deps, of, &stream, is_new).await;
    let captured = captured.and_then(|handoff| match handoff.fitting() {
        Err(reason) if of.with_stream => Err(unsuitable(of, reason.to_string())),
        fitting => Ok(fitting),
    });
    match captured {
        Err(error) if !of.with_stream && is_about_the_stream(&error) => {
            Ok(Err(NoHandoff::Unusable {
                reason: error.to_string(),
            }))
        }
        captured => captured,
    }
}

/// What [`capture`] would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preview {
    /// It would capture about this: from one look, which may be stale.
    Handoff(Box<Handoff>),
    /// It would enable a stream first.
    Enable,
    /// It would go without.
    Without(NoHandoff),
}

/// Looks at what [`capture`] would do. Changes nothing, and asks for the shards once only.
pub async fn preview(deps: &LiveDeps, of: &Capture<'_>) -> Result<Preview, StepError> {
    let stream = match choose(deps, of).await? {
        Choice::Use(stream) => stream,
        Choice::Enable => return Ok(Preview::Enable),
        Choice::Without(reason) => return Ok(Preview::Without(reason)),
    };
    let looked = deps.streams.listing(&stream.arn).await;
    let listing = match looked.map_err(StepError::from) {
        Ok(listing) => listing,
        Err(error) if !of.with_stream && is_about_the_stream(&error) => {
            let reason = error.to_string();
            return Ok(Preview::Without(NoHandoff::Unusable { reason }));
        }
        Err(error) => return Err(error),
    };
    let now = deps.clock.now();
    let handoff = Handoff::of(handoff_of(of, Generation(0)), &listing, Vec::new(), now);
    Ok(match handoff.fitting() {
        Ok(handoff) => Preview::Handoff(Box::new(handoff)),
        Err(reason) if of.with_stream => return Err(unsuitable(of, reason.to_string())),
        Err(reason) => Preview::Without(reason),
    })
}

enum Choice {
    Use(TableStream),
    Enable,
    Without(NoHandoff),
}

async fn choose(deps: &LiveDeps, of: &Capture<'_>) -> Result<Choice, StepError> {
    if of.is_query {
        return Ok(Choice::Without(NoHandoff::Query));
    }
    let table = describe(deps, of).await?;
    match StreamChoice::of(&table, of.with_stream) {
        StreamChoice::Use(stream) => Ok(Choice::Use(stream)),
        StreamChoice::Enable => Ok(Choice::Enable),
        StreamChoice::Without(reason) => Ok(Choice::Without(reason)),
        StreamChoice::Refuse(reason) => Err(unsuitable(of, reason.to_string())),
    }
}

fn unsuitable(of: &Capture<'_>, reason: String) -> StepError {
    StepError::StreamUnsuitable {
        table: of.table.to_string(),
        reason,
    }
}

fn changed(of: &Capture<'_>, reason: impl Into<String>) -> StepError {
    StepError::StreamChanged {
        table: of.table.to_string(),
        id: of.snapshot.clone(),
        reason: reason.into(),
    }
}

/// What a snapshot that need not have a handoff can do without: the stream as it is, and the right to use it.
fn is_about_the_stream(error: &StepError) -> bool {
    match error {
        StepError::Stream(StreamError::Failed(failure)) => !failure.kind.is_retryable(),
        StepError::Stream(_)
        | StepError::StreamUnsuitable { .. }
        | StepError::StreamChanged { .. } => true,
        StepError::Store(failure) => failure.kind == FailureKind::Denied,
        _ => false,
    }
}

/// The table as it is, if it is the one that the snapshot was planned for.
async fn describe(deps: &LiveDeps, of: &Capture<'_>) -> Result<StreamedTable, StepError> {
    let described = deps.describer.description(of.table.as_str()).await;
    let table = StreamedTable::of(&described.map_err(StepError::Table)?);
    if table.table_id.as_deref() == of.table_id {
        return Ok(table);
    }
    Err(StepError::TableChanged {
        table: of.table.to_string(),
        id: of.snapshot.clone(),
    })
}

/// Enables a stream and waits until it is. Somebody else's, enabled at the same time, is as good.
async fn enable(deps: &LiveDeps, of: &Capture<'_>) -> Result<TableStream, StepError> {
    let began = Instant::now();
    loop {
        let refusal = match of.admin.change(&enabling(of.table.as_str())).await {
            Ok(()) => break,
            Err(failure) if failure.kind.is_retryable() => failure,
            Err(failure) => return Err(StepError::Table(failure)),
        };
        let waited = wait_for_change(deps, of, began, &refusal).await;
        waited.map_err(|_| StepError::Table(refusal))?;
    }
    loop {
        let table = describe(deps, of).await?;
        let waits_for = match StreamChoice::of(&table, true) {
            StreamChoice::Use(stream) => match deps.streams.listing(&stream.arn).await {
                Ok(listing) if listing.status == StreamStatus::Enabled => return Ok(stream),
                Ok(listing) => format!("{} is {:?}", stream.arn, listing.status),
                // Described, but not there yet for the other endpoint.
                Err(StreamError::Gone(what)) => format!("{what} is not there yet"),
                Err(StreamError::Failed(failure)) if failure.kind.is_retryable() => {
                    failure.to_string()
                }
                Err(error) => return Err(error.into()),
            },
            StreamChoice::Refuse(reason) => return Err(unsuitable(of, reason.to_string())),
            _ => "DescribeTable shows no stream yet".to_owned(),
        };
        let table = of.table.as_str();
        let slow = Failure::new(FailureKind::Transient, "UpdateTable", table, waits_for);
        wait_for_change(deps, of, began, &slow).await?;
    }
}

/// Waits until a table may look different, unless that took too long already.
async fn wait_for_change(
    deps: &LiveDeps,
    of: &Capture<'_>,
    began: Instant,
    reason: &Failure,
) -> Result<(), StepError> {
    if began.elapsed() >= ENABLING_AT_MOST {
        return Err(StepError::Table(Failure::new(
            FailureKind::Transient,
            "UpdateTable",
            of.table.as_str(),
            format!("its stream is not enabled after five minutes: {reason}"),
        )));
    }
    let wait_ms = u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX);
    deps.observer
        .retrying("enabling the stream", &reason.to_string(), wait_ms);
    pause(deps, of, LOOK_EVERY).await
}

async fn pause(deps: &LiveDeps, of: &Capture<'_>, time: Duration) -> Result<(), StepError> {
    let until = Instant::now() + time;
    loop {
        if deps.stop.is_set() {
            return Err(StepError::Interrupted {
                id: of.snapshot.clone(),
                reason: "a stop was asked for".into(),
            });
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(left.min(NAP)).await;
    }
}

/// The handoff of a stream that is enabled.
async fn from_stream(
    deps: &LiveDeps,
    of: &Capture<'_>,
    stream: &TableStream,
    is_new: bool,
) -> Result<Handoff, StepError> {
    let enabled_at = Instant::now();
    let stable = stable_listing(deps, &stream.arn, of.pace.patience).await?;
    if stable.listing.status != StreamStatus::Enabled {
        let (arn, status) = (&stream.arn, stable.listing.status);
        return Err(changed(of, format!("{arn} is {status:?}")));
    }
    refuse_view(of, stable.listing.view)?;
    match describe(deps, of).await?.stream {
        Some(now) if now.arn == stream.arn => {}
        Some(now) => return Err(changed(of, format!("{} has taken its place", now.arn))),
        None => return Err(changed(of, format!("{} was disabled", stream.arn))),
    }
    let table = LoggedTable {
        arn: of.table_arn.to_owned(),
        id: of.table_id.map(str::to_owned),
    };
    let begun = begin_log::begin(deps, of.store, of.place, &table, &stable).await?;
    if !stable.oddities.is_empty() {
        let incident = doubt(&stable, &begun.facts)?;
        put_incident(deps, of.store.as_ref(), of.place, &incident).await?;
    }
    let settle = if is_new {
        of.pace.settle.saturating_sub(enabled_at.elapsed())
    } else {
        let most = u64::try_from(of.pace.settle.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(stream.settle_left(deps.clock.now(), most))
    };
    pause(deps, of, settle).await?;
    let captured_at = deps.clock.now();
    let StableListing {
        listing,
        oddities,
        at,
    } = stable;
    // Positions are of the moment of the listing: what was published between it and the capture is read as well.
    let handoff = Handoff::of(
        handoff_of(of, begun.facts.generation),
        &listing,
        oddities,
        at,
    );
    Ok(Handoff {
        captured_at,
        log_from: begun.facts.log_from,
        ..handoff
    })
}

fn handoff_of(of: &Capture<'_>, generation: Generation) -> HandoffOf {
    HandoffOf {
        table_arn: of.table_arn.to_owned(),
        table_id: of.table_id.map(str::to_owned),
        generation,
        consistent: of.consistent,
    }
}

/// The stream's own word on its view counts, whatever the table's description said.
fn refuse_view(of: &Capture<'_>, view: StreamView) -> Result<(), StepError> {
    match view {
        StreamView::NewAndOldImages | StreamView::NewImage => Ok(()),
        StreamView::OldImage | StreamView::KeysOnly => {
            let view = view.as_str().to_owned();
            Err(unsuitable(of, NoHandoff::View { view }.to_string()))
        }
    }
}

/// The incident of a listing that stayed odd, named by what is odd.
fn doubt(stable: &StableListing, facts: &StreamFacts) -> Result<Incident, StepError> {
    let oddities = serde_json::to_string(&stable.oddities)
        .map_err(|error| StepError::Internal(format!("oddities as JSON: {error}")))?;
    let kind = IncidentKind::DoubtfulListing;
    let digest = sha256_hex(oddities.as_bytes());
    let second = UnixSeconds::of(stable.at);
    Ok(Incident {
        version: INCIDENT_VERSION,
        id: format!("{kind}-{}", digest.get(..16).unwrap_or(&digest)),
        kind,
        stream_label: facts.stream_label.clone(),
        shard: None,
        from: second,
        until: second,
        seen_at: stable.at,
        detail: format!(
            "the shards of {} stayed contradictory, so that reading begins further back: {oddities}",
            facts.stream_arn
        ),
    })
}

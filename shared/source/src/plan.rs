//! What a source is fixed to when it begins: the table, the segments, and the handoff, captured before the first page.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::handoff::{Handoff, HandoffOf};
use highwater_domain::ids::UnixMillis;
use highwater_domain::key::KeySchema;
use highwater_domain::lineage::RETENTION_MS;
use highwater_domain::selection::Selection;
use highwater_domain::sequence_number::Generation;
use highwater_domain::shard::{StreamStatus, StreamView};
use highwater_domain::table::TableSettings;
use highwater_domain::table_stream::{StreamChoice, StreamedTable, TableStream};
use highwater_steps::stable_listing::stable_listing;
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::error::SourceError;
use crate::live_deps::live_deps;
use crate::record::About;

/// The record's name among the checkpoints.
const PLAN: &str = "plan";

/// The layout's version.
const VERSION: u32 = 1;

/// A signal is heard after at most this long.
const NAP: Duration = Duration::from_millis(200);

/// A name stands for one bootstrap, so all its changes are of one generation; the snapshot is before them.
pub(crate) const GENERATION: Generation = Generation(1);

/// The plan of one source, created once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    version: u32,
    pub(crate) table_arn: String,
    pub(crate) table_id: Option<String>,
    pub(crate) schema: KeySchema,
    pub(crate) segments: u32,
    pub(crate) consistent: bool,
    pub(crate) selection: Selection,
    pub(crate) handoff: Option<Handoff>,
    pub(crate) began_at: UnixMillis,
}

impl Plan {
    pub(crate) fn about<T>(&self, core: &Core<T>) -> Arc<About> {
        Arc::new(About {
            table: core.table.name().to_owned(),
            schema: self.schema.clone(),
            event_id: core.event_id.clone(),
        })
    }

    /// The handoff, if nothing says yet that it has expired: DynamoDB keeps changes for 24 hours.
    pub(crate) fn fresh_handoff<T>(&self, core: &Core<T>) -> Result<Option<&Handoff>, SourceError> {
        let Some(handoff) = &self.handoff else {
            return Ok(None);
        };
        let age_ms = core.ports.clock.now().since(handoff.captured_at);
        if age_ms < RETENTION_MS {
            return Ok(Some(handoff));
        }
        let hours = age_ms / 3_600_000;
        Err(SourceError::HandoffExpired {
            name: core.name.clone(),
            detail: format!(
                "it was captured {hours} hours ago, and nothing of the stream has been read since"
            ),
        })
    }
}

/// The plan as it stands, if the source has begun.
pub(crate) async fn load<T>(core: &Core<T>) -> Result<Option<Plan>, SourceError> {
    let plan = core.ledger.load::<Plan>(PLAN).await?;
    plan.map(|found| checked(core, found.value)).transpose()
}

/// The plan as it stands: found, or made now. Whether this call made it.
pub(crate) async fn begin<T>(core: &Core<T>) -> Result<(Plan, bool), SourceError> {
    if let Some(plan) = load(core).await? {
        return Ok((plan, false));
    }
    let plan = make(core).await?;
    if core.ledger.save(PLAN, None, &plan).await?.is_some() {
        return Ok((plan, true));
    }
    // Somebody else began in this moment; everybody goes by the plan that stands.
    let stands = load(core).await?;
    let stands = stands.ok_or_else(|| SourceError::CheckpointUnreadable {
        name: core.name.clone(),
        record: PLAN.to_owned(),
        reason: "it was there and is gone".into(),
    })?;
    Ok((stands, false))
}

fn checked<T>(core: &Core<T>, plan: Plan) -> Result<Plan, SourceError> {
    if plan.version != VERSION {
        return Err(SourceError::CheckpointUnreadable {
            name: core.name.clone(),
            record: PLAN.to_owned(),
            reason: format!("its version is {}, not {VERSION}", plan.version),
        });
    }
    let other = |setting, then: String, now: String| {
        Err(SourceError::OtherSettings {
            name: core.name.clone(),
            setting,
            then,
            now,
        })
    };
    let scan = &core.scan;
    if plan.segments != scan.segments {
        return other(
            "segments",
            plan.segments.to_string(),
            scan.segments.to_string(),
        );
    }
    if plan.selection != scan.selection {
        let (then, now) = (&plan.selection, &scan.selection);
        return other("selection", format!("{then:?}"), format!("{now:?}"));
    }
    if plan.consistent != scan.consistent {
        let (then, now) = (plan.consistent, scan.consistent);
        return other("consistent reads", then.to_string(), now.to_string());
    }
    let name_then = plan.table_arn.rsplit('/').next().unwrap_or_default();
    if name_then != core.table.name() {
        return other("table", plan.table_arn.clone(), core.table.to_string());
    }
    Ok(plan)
}

/// Describes the table and captures the handoff. Nothing of the table is read yet.
async fn make<T>(core: &Core<T>) -> Result<Plan, SourceError> {
    let settings = describe(core).await?;
    let unusable = |error: highwater_domain::table::SettingsError| {
        let table = core.table.to_string();
        SourceError::from(highwater_steps::StepError::Settings {
            table,
            source: error,
        })
    };
    let table_arn = settings.arn().map_err(unusable)?.to_owned();
    let table_id = settings.table_id().map(str::to_owned);
    let handoff = if core.scan.with_stream {
        Some(capture(core, &settings, &table_arn).await?)
    } else {
        None
    };
    Ok(Plan {
        version: VERSION,
        schema: settings.key_schema().map_err(unusable)?,
        segments: core.scan.segments,
        consistent: core.scan.consistent,
        selection: core.scan.selection.clone(),
        began_at: core.ports.clock.now(),
        handoff,
        table_arn,
        table_id,
    })
}

pub(crate) async fn describe<T>(core: &Core<T>) -> Result<TableSettings, SourceError> {
    let mut tries = 0;
    loop {
        match core.ports.describer.describe(core.table.as_str()).await {
            Ok(settings) => return Ok(settings),
            Err(failure) if failure.kind.is_retryable() && tries < 10 && !core.should_stop() => {
                tries += 1;
                core.metrics
                    .request_failed("DescribeTable", &failure.to_string());
                tokio::time::sleep(NAP).await;
            }
            Err(failure) => return Err(core.table_failed(failure)),
        }
    }
}

/// The handoff: from a listing of shards that can be believed, of a stream that is still the table's afterwards, and old
/// enough to see every change.
///
/// Reading begins with the shards that may hold anything of the last quarter of an hour, not only with the open ones: a second
/// child of a split may be listed late, and its parent's end is what names it for certain.
async fn capture<T>(
    core: &Core<T>,
    settings: &TableSettings,
    table_arn: &str,
) -> Result<Handoff, SourceError> {
    let no_stream = |reason: String| SourceError::NoStream {
        table: core.table.to_string(),
        reason,
    };
    let described = StreamedTable::of(&settings.table);
    let stream = match StreamChoice::of(&described, true) {
        StreamChoice::Use(stream) => stream,
        StreamChoice::Enable => {
            let reason = "no stream is enabled; enable one with NEW_AND_OLD_IMAGES, or take a snapshot without_stream()";
            return Err(no_stream(reason.into()));
        }
        StreamChoice::Refuse(reason) | StreamChoice::Without(reason) => {
            return Err(no_stream(reason.to_string()));
        }
    };
    let deps = live_deps(core);
    let stable = stable_listing(&deps, &stream.arn, core.scan.pace.patience).await?;
    let status = stable.listing.status;
    if status != StreamStatus::Enabled {
        return Err(no_stream(format!("{} is {status:?}", stream.arn)));
    }
    if !matches!(
        stable.listing.view,
        StreamView::NewAndOldImages | StreamView::NewImage
    ) {
        let view = stable.listing.view.as_str();
        return Err(no_stream(format!("{} carries {view}", stream.arn)));
    }
    let again = StreamedTable::of(&describe(core).await?.table);
    if again.table_id != described.table_id || again.stream.as_ref() != Some(&stream) {
        return Err(no_stream(
            "it was exchanged while it was looked at; try again".into(),
        ));
    }
    settle(core, &stream).await?;
    let of = HandoffOf {
        table_arn: table_arn.to_owned(),
        table_id: described.table_id,
        generation: GENERATION,
        // As for a scan that is behind: the listing may be, too.
        consistent: false,
    };
    let captured_at = core.ports.clock.now();
    let handoff = Handoff::of(of, &stable.listing, stable.oddities, stable.at);
    let handoff = handoff
        .fitting()
        .map_err(|error| no_stream(error.to_string()))?;
    Ok(Handoff {
        captured_at,
        ..handoff
    })
}

/// Waits until a stream that was enabled a moment ago surely sees every change.
async fn settle<T>(core: &Core<T>, stream: &TableStream) -> Result<(), SourceError> {
    let most = u64::try_from(core.scan.pace.settle.as_millis()).unwrap_or(u64::MAX);
    let left = stream.settle_left(core.ports.clock.now(), most);
    let until = tokio::time::Instant::now() + Duration::from_millis(left);
    while tokio::time::Instant::now() < until {
        if core.should_stop() {
            return Err(core.stopped());
        }
        tokio::time::sleep_until(until.min(tokio::time::Instant::now() + NAP)).await;
    }
    Ok(())
}

/// The table must be the one that the plan is of.
pub(crate) async fn check_table<T>(core: &Core<T>, plan: &Plan) -> Result<(), SourceError> {
    let now = describe(core).await?;
    if let (Some(then), Some(now)) = (plan.table_id.as_deref(), now.table_id())
        && then != now
    {
        return Err(SourceError::TableChanged {
            name: core.name.clone(),
            table: core.table.to_string(),
        });
    }
    Ok(())
}

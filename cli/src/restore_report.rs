//! What a restore says: its plan before it begins, and what became of every item when it has ended.

use highwater_domain::mark::Grade;
use highwater_domain::restore::{Engine, OnExisting, RestoreRecord};
use highwater_domain::restore_cost::{CostFacts, RestoreCost, restore_cost};
use highwater_domain::restore_point::{RestorePoint, Side};
use highwater_domain::snapshot::Status;
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, per_second, seconds};

/// The line with which a restore begins.
pub fn beginning(plan: &RestoreRecord) -> String {
    if let (Some(place), Some(point)) = (&plan.materialize, &plan.point) {
        return format!(
            "Materializing: table={:?} at={} source={:?} to={place:?} parallel={} files={} shards={} buckets={}\nsnapshot {}",
            plan.target.name(),
            point.at.to_rfc3339(),
            plan.source.url,
            plan.concurrency,
            plan.source.files,
            point.shards,
            point.buckets,
            plan.id,
        );
    }
    let capacity = match plan.write_capacity {
        units if units > 0.0 => format!("{units} units/s"),
        _ => "unlimited".to_owned(),
    };
    let items = plan
        .source
        .items
        .map_or_else(|| "unknown".to_owned(), |items| items.to_string());
    format!(
        "Beginning restore: table={:?} source={:?} writeCapacity={capacity} parallel={} files={} itemCount={items} totalSize={} allow-overwrite={} skip-checks={}\nrestore {}",
        plan.target.name(),
        plan.source.url,
        plan.concurrency,
        plan.source.files,
        bytes(plan.source.plain_bytes.unwrap_or(plan.source.stored_bytes)),
        plan.on_existing == OnExisting::Overwrite,
        plan.skip_checks,
        plan.id,
    )
}

/// What cannot be checked of the backup, because it does not say, or because checks are to be skipped.
pub fn unchecked(plan: &RestoreRecord) -> impl Iterator<Item = String> {
    plan.source
        .unchecked
        .iter()
        .map(|what| format!("not checked: {what}"))
}

/// What the restore will probably cost, as far as the backup says how much it holds.
fn cost(plan: &RestoreRecord) -> RestoreCost {
    let create = plan.table_plan.create.as_ref();
    restore_cost(&CostFacts {
        engine: plan.engine,
        items: plan.source.items,
        plain_bytes: plan.source.plain_bytes,
        indexes: plan.table_plan.indexes(),
        on_demand: create.is_none_or(|create| create["BillingMode"] == "PAY_PER_REQUEST"),
    })
}

/// Shows the plan of `--dry-run`.
pub fn plan(plan: &RestoreRecord, console: Console) {
    let source = &plan.source;
    let mut lines = vec![
        beginning(plan),
        format!("  from  {} ({})", source.url, source.kind.as_str()),
        format!(
            "        {} items, {} files, {}",
            source.items.map_or_else(|| "unknown".to_owned(), count),
            count(source.files),
            bytes(source.stored_bytes)
        ),
    ];
    lines.extend(plan.point.iter().flat_map(second));
    lines.push(match &plan.materialize {
        Some(place) => format!("  into  {place} (a new snapshot, {})", plan.id),
        None => format!(
            "  into  {} ({})",
            plan.target,
            if plan.table_plan.create.is_some() {
                "a new table"
            } else {
                "an existing table"
            }
        ),
    });
    lines.extend(
        plan.table_plan
            .describe()
            .iter()
            .map(|line| format!("        {line}")),
    );
    lines.push(format!(
        "  by    {}: {}",
        plan.engine.as_str(),
        plan.engine_reason
    ));
    let cost = plan.materialize.is_none().then(|| cost(plan));
    lines.extend(cost.as_ref().map(|cost| cost_line(plan, cost)));
    lines.push("nothing was written (--dry-run)".to_owned());
    console.result(
        &lines.join("\n"),
        &json!({"plan": plan, "estimate": cost, "dry_run": true}),
    );
}

/// The second, how it is reached from the snapshot, and what may be said of the result.
fn second(point: &RestorePoint) -> Vec<String> {
    let (at, mark) = (point.at.to_rfc3339(), point.mark.to_rfc3339());
    let how = match point.side {
        Side::Forward => "later changes are applied to the snapshot",
        Side::Undo => "changes are undone in the snapshot, which was scanned later or at that time",
    };
    let mut lines = vec![
        format!("  at    {at}: {how}"),
        format!(
            "        log {}: {} objects of {} shards, {}, for {} to {}",
            point.log,
            count(point.objects),
            count(point.shards.into()),
            bytes(point.stored_bytes),
            point.needs.from.to_rfc3339(),
            point.needs.until.to_rfc3339(),
        ),
        format!(
            "        complete up to {mark} ({}); stamps are trusted to {} s",
            grade(point.grade),
            point.stamp_margin_s
        ),
        format!("        work {}", point.work),
    ];
    lines.extend(point.bound.iter().map(|bound| format!("        {bound}")));
    lines
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Proven => "proven",
        Grade::Rolled => "rolled",
        Grade::Assumed => "assumed",
    }
}

fn cost_line(plan: &RestoreRecord, cost: &RestoreCost) -> String {
    let units = cost
        .write_units
        .map(|units| format!("about {} write units, ", count(units)));
    let paced = plan.write_capacity > 0.0 && plan.engine == Engine::Write;
    let time = cost.write_units.filter(|_| paced).map(|units| {
        let time = seconds(units as f64 / plan.write_capacity);
        format!("{time} at this pace, ")
    });
    let dollars = cost.dollars.map(|dollars| format!("${dollars:.2} "));
    let known: String = [units, time, dollars].into_iter().flatten().collect();
    format!("  cost  {known}({})", cost.note)
}

/// What became of every item, on standard output; what could not be restored, too.
pub fn result(record: &RestoreRecord, elapsed: f64, console: Console) {
    let totals = &record.totals;
    let what = match &record.materialize {
        Some(place) => format!("Snapshot {} at {place}", record.id),
        None => format!("Restore {} into {}", record.id, record.target),
    };
    let mut lines = vec![format!(
        "{what} is {}\n  {} from {}\n  {} written, {}, {:.1} write units, {}\n  {totals}",
        record.status.as_str(),
        record.source.kind.as_str(),
        record.source.url,
        count(totals.written),
        bytes(totals.plain_bytes),
        totals.consumed_capacity,
        seconds(elapsed),
    )];
    if let Some(point) = &record.point {
        lines.push(format!(
            "  as of {} ({}), digest {}",
            point.at.to_rfc3339(),
            grade(point.grade),
            point.fingerprint
        ));
        lines.push(format!(
            "  {} items of the snapshot were superseded by the log",
            count(totals.superseded)
        ));
    }
    for left_out in &record.table_plan.not_restored {
        lines.push(format!("  not restored: {left_out}"));
    }
    if totals.rejected > 0 {
        lines.push(format!("  rejected items are in {}", rejects_of(record)));
    }
    lines.push(format!(
        "Avg items/sec: {:.2}\nAvg capacity/sec: {:.2}\nTotal items written:  {}\nTotal items skipped:  {}",
        per_second(totals.written as f64, elapsed),
        per_second(totals.consumed_capacity, elapsed),
        totals.written,
        totals.skipped(),
    ));
    console.result(
        &lines.join("\n"),
        &json!({
            "restore_id": record.id,
            "table": record.target,
            "materialized": record.materialize,
            "at": record.point.as_ref().map(|point| point.at.to_rfc3339()),
            "point": record.point,
            "status": record.status,
            "engine": record.engine,
            "totals": totals,
            "skipped": totals.skipped(),
            "balanced": totals.is_balanced(),
            "not_restored": record.table_plan.not_restored,
            "rejects": (totals.rejected > 0).then(|| rejects_of(record)),
            "seconds": elapsed,
        }),
    );
}

fn rejects_of(record: &RestoreRecord) -> String {
    let place = record.rejects.as_deref().unwrap_or_default();
    format!("{}/{}", place.trim_end_matches('/'), record.id)
}

/// Whether everything was done that could be.
pub fn ended_with_rejects(record: &RestoreRecord) -> bool {
    record.status == Status::Completed && record.totals.rejected > 0
}

/// The error of a restore that went to its end without every item.
pub fn rejected(record: &RestoreRecord) -> CliError {
    CliError::Rejected {
        items: record.totals.rejected,
        table: record.target.to_string(),
        place: rejects_of(record),
    }
}

/// Whether the backup was standard input, which is gone with this process.
pub fn is_spooled(record: &RestoreRecord) -> bool {
    record.source.url.contains("/highwater-stdin-")
}

//! What a restore says: its plan before it begins, and what became of every item when it has ended.

use highwater_domain::restore::{Engine, OnExisting, RestoreRecord};
use highwater_domain::restore_cost::{CostFacts, RestoreCost, restore_cost};
use highwater_domain::snapshot::Status;
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, per_second, seconds};

/// The line with which a restore begins.
pub fn beginning(plan: &RestoreRecord) -> String {
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
        format!(
            "  into  {} ({})",
            plan.target,
            if plan.table_plan.create.is_some() {
                "a new table"
            } else {
                "an existing table"
            }
        ),
    ];
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
    let cost = cost(plan);
    lines.push(cost_line(plan, &cost));
    lines.push("nothing was written (--dry-run)".to_owned());
    console.result(
        &lines.join("\n"),
        &json!({"plan": plan, "estimate": cost, "dry_run": true}),
    );
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
    let mut lines = vec![format!(
        "Restore {} into {} is {}\n  {} from {}\n  {} written, {}, {:.1} write units, {}\n  {totals}",
        record.id,
        record.target,
        record.status.as_str(),
        record.source.kind.as_str(),
        record.source.url,
        count(totals.written),
        bytes(totals.plain_bytes),
        totals.consumed_capacity,
        seconds(elapsed),
    )];
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

//! Makes the table that a restore fills, and waits until it can be filled.
//!
//! The table carries a tag with the restore's id from the call that makes it. A retry whose first call got lost
//! finds the name taken, and knows by the tag that the table is its own. A table without it was made by somebody
//! else, and is never filled where a new one was asked for. Once the table's UUID is in the restore's record it
//! takes the tag's place, and the tag is taken off after the load.

use highwater_domain::budget::Budget;
use highwater_domain::object_store::Creation;
use highwater_domain::restore::RestoreRecord;
use highwater_domain::table::TableSettings;
use highwater_domain::table_plan::RESTORE_TAG;
use serde_json::{Value, json};

use crate::apply_settings;
use crate::error::StepError;
use crate::restore_deps::RestoreDeps;
use crate::restore_status;
use crate::table_wait::{Condition, Pause, TableWait, condition};

/// How many times a table that was just made may be unknown to `DescribeTable`, which is eventually consistent.
const UNKNOWN_LOOKS: u32 = 30;

/// Makes the table of `record`, which must be in the control table, unless it is there; waits until it is active,
/// and makes the settings that come before the load. Gives the table's UUID, which is in the record then.
///
/// May be repeated at any time. Where the plan creates nothing, it only waits until the table is active.
///
/// # Errors
/// [`StepError::TableExists`] if somebody else made a table of that name, [`StepError::TargetChanged`] if the table
/// is not the one that the record knows, and a transient failure if the budget ends before the table is active:
/// a retry goes on.
pub async fn run(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    budget: Budget,
) -> Result<Option<String>, StepError> {
    let wait = TableWait {
        deps,
        record,
        budget,
    };
    let made_now = match (&record.table_plan.create, &record.target_table_id) {
        (Some(request), None) => make(&wait, request).await? == Creation::Created,
        _ => false,
    };
    let table_id = until_settled(&wait, made_now).await?;
    before_load(&wait).await?;
    Ok(table_id)
}

async fn make(wait: &TableWait<'_>, request: &Value) -> Result<Creation, StepError> {
    let request = marked(request, wait.record);
    let mut retry = 0;
    loop {
        let failure = match wait.deps.admin.create_table(&request).await {
            Ok(creation) => return Ok(creation),
            Err(failure) => failure,
        };
        if wait.pause_before_retry(failure, retry).await? == Pause::OutOfTime {
            return Err(wait.out_of_time("made"));
        }
        retry += 1;
    }
}

/// The request with the tag that tells whose table this is.
fn marked(request: &Value, record: &RestoreRecord) -> Value {
    let mut marked = request.clone();
    let tag = json!({"Key": RESTORE_TAG, "Value": record.id.as_str()});
    match marked["Tags"].as_array_mut() {
        Some(tags) => tags.push(tag),
        None => marked["Tags"] = json!([tag]),
    }
    marked
}

/// Whose table this is, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Us,
    SomebodyElse,
    /// Tags of a table in the making may not be there yet.
    NotSaid,
}

fn owner(wait: &TableWait<'_>, settings: &TableSettings, made_now: bool) -> Owner {
    let record = wait.record;
    if record.target_table_id.is_some() || record.table_plan.create.is_none() {
        return Owner::Us;
    }
    let tags = settings.tags.as_ref().and_then(Value::as_array);
    let marker = tags
        .into_iter()
        .flatten()
        .find(|tag| tag["Key"] == RESTORE_TAG)
        .map(|tag| tag["Value"] == record.id.as_str());
    match marker {
        Some(true) => Owner::Us,
        Some(false) => Owner::SomebodyElse,
        None if made_now => Owner::Us,
        None => Owner::NotSaid,
    }
}

/// Looks until the table is active and known to be ours. Records its UUID as soon as that is known.
async fn until_settled(wait: &TableWait<'_>, made_now: bool) -> Result<Option<String>, StepError> {
    let record = wait.record;
    let exists = || StepError::TableExists(record.target.to_string());
    let mut table_id = record.target_table_id.clone();
    let mut unknown = 0;
    loop {
        if let Some(settings) = wait.look().await? {
            let owner = owner(wait, &settings, made_now);
            if owner == Owner::SomebodyElse {
                return Err(exists());
            }
            if owner == Owner::Us {
                table_id = know(wait, &settings, table_id).await?;
            }
            match condition(&settings).map_err(|source| wait.garbled(source))? {
                Condition::Settled if owner == Owner::Us => return Ok(table_id),
                Condition::Settled => return Err(exists()),
                Condition::Unusable(_) if owner != Owner::Us => return Err(exists()),
                Condition::Unusable(status) => {
                    return Err(StepError::TableNotActive {
                        table: record.target.to_string(),
                        status,
                    });
                }
                Condition::Busy => {}
            }
        } else if table_id.is_some() || unknown >= UNKNOWN_LOOKS {
            return Err(wait.changed());
        } else {
            unknown += 1;
        }
        if wait.pause().await? == Pause::OutOfTime {
            return Err(wait.out_of_time("made"));
        }
    }
}

/// The table's UUID, compared with the one that is known, or recorded.
async fn know(
    wait: &TableWait<'_>,
    settings: &TableSettings,
    known: Option<String>,
) -> Result<Option<String>, StepError> {
    let found = settings.table_id().map(str::to_owned);
    if known.is_some() {
        return if found == known {
            Ok(known)
        } else {
            Err(wait.changed())
        };
    }
    if found.is_none() {
        return Ok(None);
    }
    let latest = restore_status::update(wait.deps, &wait.record.id, |latest| {
        latest.target_table_id.is_none().then(|| RestoreRecord {
            target_table_id: found.clone(),
            ..latest.clone()
        })
    })
    .await?;
    if latest.target_table_id == found {
        Ok(found)
    } else {
        Err(wait.changed())
    }
}

/// Makes the settings that come first. One that is refused for good is noted in the record.
async fn before_load(wait: &TableWait<'_>) -> Result<(), StepError> {
    let applied = apply_settings::apply(wait, &wait.record.table_plan.before_load).await?;
    if !applied.done {
        return Err(wait.out_of_time("set up"));
    }
    if applied.refused.is_empty() {
        return Ok(());
    }
    restore_status::update(wait.deps, &wait.record.id, |latest| {
        let mut noted = latest.clone();
        let known = &mut noted.table_plan.not_restored;
        for refused in &applied.refused {
            if !known.contains(refused) {
                known.push(refused.clone());
            }
        }
        Some(noted)
    })
    .await?;
    Ok(())
}

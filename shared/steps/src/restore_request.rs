//! What a user asks for: the input of the restore state machine.

use std::collections::BTreeSet;

use highwater_domain::backup_source::{Catalog, SourceKind, SourceLocation};
use highwater_domain::ids::TableRef;
use highwater_domain::key_filter::KeyFilter;
use highwater_domain::layout::Destination;
use highwater_domain::mark::Grade;
use highwater_domain::restore::{OnExisting, ReplicaOf, RestoreId};
use highwater_domain::restore_point::{At, AtError, Rules};
use highwater_domain::table::TableSettings;
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::request::{MAX_CONCURRENCY, within};

/// A request for a restore: the execution input of `restore.asl.json`, and what the command line makes of its flags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag that a user gives or leaves out"
)]
pub struct RestoreRequest {
    /// The backup: `s3://bucket/key` or `file:///path`. A resume leaves it out.
    pub backup: Option<String>,
    /// The table to restore into: name or ARN. A resume may leave it out.
    pub to: Option<TableRef>,
    /// Fill a table that exists, instead of making a new one.
    pub into_existing: bool,
    /// What becomes of items that an existing table has already; `skip` by default.
    pub on_existing: Option<OnExisting>,
    /// The restore to begin or to resume; by default the execution names a new one.
    pub restore_id: Option<RestoreId>,
    /// Go on with a restore that was stopped. Its plan stays as it was, but for capacity and concurrency.
    pub resume: bool,
    /// Workers at once; 4 by default.
    pub concurrency: Option<u32>,
    /// Write capacity units per second, for all workers; 0 is unlimited.
    pub write_capacity: Option<f64>,
    /// The same, as a percentage of what the table has.
    pub write_percent: Option<f64>,
    /// Only items whose key passes every one of these: `customer=42`, `at^=2026-11`.
    pub filter: Vec<KeyFilter>,
    /// Stop after exactly so many items that pass the filter. Files are then loaded one after the other.
    pub max_items: Option<u64>,
    /// Stop at the first item that the table does not take.
    pub fail_fast: bool,
    /// Do not compare hashes and counts with what the backup says.
    pub skip_checks: bool,
    /// Load what there is of a backup that was never finished.
    pub allow_incomplete: bool,
    /// The folder for items that the table does not take: `s3://bucket/prefix` or `file:///path`.
    pub rejects: Option<String>,
    /// `auto` (default), `write` or `import-table`.
    pub engine: EngineChoice,
    /// The new table's key, `id:S` or `id:S,at:N`, where the backup does not say.
    pub key: Option<String>,
    /// What is to differ from the backup's settings.
    pub settings: TableOverrides,
    /// The second whose state is wanted: `2026-11-21T20:15:00Z`, `-2h`, `latest`. `backup` may then be a table's folder.
    pub at: Option<String>,
    /// How well the log must be known to be complete; the best grade that reaches the second by default.
    pub grade: Option<Grade>,
    /// By how much DynamoDB's stamps may be off at the edges of the scan, in seconds; 60 by default.
    pub stamp_margin_s: Option<u64>,
    /// The folder for what lies between the log and the load; beside the log by default.
    pub work: Option<String>,
    /// The replica that is loaded: `highwater replicate` says it.
    pub replica: Option<ReplicaOf>,
    /// Make a snapshot, in the place of a table.
    pub materialize: Option<IntoSnapshot>,
}

/// A snapshot that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntoSnapshot {
    /// Where: `s3://bucket/prefix` or `file:///path`.
    pub to: String,
}

pub use highwater_domain::engine_choice::EngineChoice;
pub use highwater_domain::table_plan::TableOverrides;

/// Workers at once, if nobody says.
pub const DEFAULT_CONCURRENCY: u32 = 4;

/// The share of an existing provisioned table's write capacity that is used, if nobody says.
pub const DEFAULT_WRITE_PERCENT: f64 = 50.0;

impl RestoreRequest {
    /// Finds what can be known to be wrong without asking anybody.
    pub fn check(&self) -> Result<(), StepError> {
        self.check_pace()?;
        if self.resume {
            return self.check_resume();
        }
        self.location()?;
        self.check_second()?;
        if let Some(snapshot) = &self.materialize {
            return self.check_snapshot(snapshot);
        }
        if self.to.is_none() {
            return Err(invalid("`to` is missing: name the table to restore into"));
        }
        if let Some(rejects) = &self.rejects {
            rejects.parse::<Destination>()?;
        }
        if self.on_existing.is_some() && !self.into_existing {
            return Err(invalid(
                "`on_existing` needs `into_existing`: a new table has no items",
            ));
        }
        if self.into_existing && self.settings != TableOverrides::default() {
            return Err(invalid(
                "`settings` are for a new table: an existing one keeps its own",
            ));
        }
        let attributes: BTreeSet<_> = self
            .filter
            .iter()
            .map(|filter| {
                (
                    &filter.attribute,
                    filter.test == highwater_domain::key_filter::KeyTest::Is,
                )
            })
            .collect();
        if attributes.len() < self.filter.len() {
            return Err(invalid(
                "`filter` names one attribute twice in the same way",
            ));
        }
        Ok(())
    }

    /// The second that is asked for, if one is.
    pub fn at(&self) -> Result<Option<At>, StepError> {
        let at = self.at.as_deref().map(str::parse).transpose();
        at.map_err(|error: AtError| invalid(format!("`at`: {error}")))
    }

    /// By which rules a restore point is chosen.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let usual = Rules::default();
        Rules {
            stamp_margin_s: self.stamp_margin_s.unwrap_or(usual.stamp_margin_s),
            grade: self.grade.unwrap_or(usual.grade),
        }
    }

    fn check_second(&self) -> Result<(), StepError> {
        if self.at()?.is_some() {
            if let Some(work) = &self.work {
                work.parse::<Destination>()?;
            }
            if self.engine == EngineChoice::ImportTable {
                return Err(invalid(
                    "ImportTable reads a snapshot, and what a table was at a second is none yet: `materialize` it first (highwater materialize), then restore the new snapshot by import",
                ));
            }
            return Ok(());
        }
        let needless = [
            ("grade", self.grade.is_some()),
            ("stamp_margin_s", self.stamp_margin_s.is_some()),
            ("work", self.work.is_some()),
            ("materialize", self.materialize.is_some()),
        ];
        match needless.iter().find(|(_, given)| *given) {
            Some((member, _)) => Err(invalid(format!(
                "`{member}` needs `at`: the second whose state is wanted"
            ))),
            None => Ok(()),
        }
    }

    /// A snapshot holds all items, as they were; whatever is about a table has no place beside it.
    fn check_snapshot(&self, snapshot: &IntoSnapshot) -> Result<(), StepError> {
        snapshot.to.parse::<Destination>()?;
        let snapshot_only = Self {
            backup: self.backup.clone(),
            at: self.at.clone(),
            grade: self.grade,
            stamp_margin_s: self.stamp_margin_s,
            work: self.work.clone(),
            materialize: self.materialize.clone(),
            restore_id: self.restore_id.clone(),
            concurrency: self.concurrency,
            ..Self::default()
        };
        if *self == snapshot_only {
            return Ok(());
        }
        Err(invalid(
            "`materialize` takes `backup`, `at`, `grade`, `stamp_margin_s`, `work`, `restore_id` and `concurrency` only: it makes a whole snapshot and fills no table",
        ))
    }

    fn check_resume(&self) -> Result<(), StepError> {
        if self.restore_id.is_none() {
            return Err(invalid(
                "`resume` needs `restore_id`: which restore to go on with",
            ));
        }
        let pace_only = Self {
            restore_id: self.restore_id.clone(),
            resume: true,
            concurrency: self.concurrency,
            write_capacity: self.write_capacity,
            write_percent: self.write_percent,
            ..Self::default()
        };
        if *self == pace_only {
            return Ok(());
        }
        Err(invalid(
            "a resume takes `restore_id`, `concurrency` and capacity only: the rest of the plan was frozen when it began",
        ))
    }

    fn check_pace(&self) -> Result<(), StepError> {
        within("concurrency", self.concurrency, 1, MAX_CONCURRENCY)?;
        if self
            .write_capacity
            .is_some_and(|units| !units.is_finite() || units < 0.0)
        {
            return Err(invalid(
                "`write_capacity` must be 0 (unlimited) or more units per second",
            ));
        }
        if self
            .write_percent
            .is_some_and(|percent| !(percent > 0.0 && percent <= 100.0))
        {
            return Err(invalid("`write_percent` must be above 0 and at most 100"));
        }
        if self.write_capacity.is_some() && self.write_percent.is_some() {
            return Err(invalid(
                "`write_capacity` and `write_percent` exclude each other",
            ));
        }
        Ok(())
    }

    /// Where the backup is.
    pub fn location(&self) -> Result<SourceLocation, StepError> {
        let backup = self.backup.as_deref().ok_or_else(|| {
            invalid("`backup` is missing: s3://BUCKET/KEY or file:///PATH of the backup")
        })?;
        Ok(backup.parse()?)
    }

    /// What becomes of items that are there: a new table has none, and an incremental export replaces what it changes.
    pub fn on_existing_for(&self, catalog: &Catalog) -> Result<OnExisting, StepError> {
        if !self.into_existing {
            return Ok(OnExisting::Overwrite);
        }
        let on_existing = self.on_existing.unwrap_or_default();
        if catalog.kind == SourceKind::IncrementalExport && on_existing == OnExisting::Skip {
            return Err(invalid(
                "an incremental export holds changes and deletes of items that exist: it needs `on_existing` to be `overwrite` (--allow-overwrite)",
            ));
        }
        Ok(on_existing)
    }

    /// Write capacity units per second; 0 is unlimited. `existing` are the settings of a table that is in use.
    ///
    /// Unasked, half of an existing provisioned table's capacity is used. A new table serves nobody else yet:
    /// it is written to as fast as it takes it.
    pub fn write_capacity_for(&self, existing: Option<&TableSettings>) -> Result<f64, StepError> {
        if let Some(units) = self.write_capacity {
            return Ok(units);
        }
        let provisioned = existing.and_then(TableSettings::provisioned_write_capacity);
        let Some(percent) = self.write_percent else {
            return Ok(provisioned.map_or(0.0, |units| units * DEFAULT_WRITE_PERCENT / 100.0));
        };
        let units = provisioned
            .or_else(|| existing.and_then(TableSettings::on_demand_write_capacity))
            .ok_or_else(|| {
                invalid("`write_percent` needs an existing table with provisioned, maximum or warm throughput; use `write_capacity`")
            })?;
        Ok(units * percent / 100.0)
    }
}

fn invalid(message: impl Into<String>) -> StepError {
    StepError::InvalidInput(message.into())
}

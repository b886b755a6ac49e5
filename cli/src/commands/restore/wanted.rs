//! From the flags of `restore`, `load` and `materialize` to a request.

use highwater_domain::ids::SnapshotId;
use highwater_domain::layout::Destination;
use highwater_domain::mark::Grade;
use highwater_domain::restore::{OnExisting, RestoreId};
use highwater_domain::table_plan::{Billing, TableOverrides};
use highwater_steps::restore_request::{EngineChoice, IntoSnapshot, RestoreRequest};

use crate::args::materialize::{GradeArg, Materialize, Second};
use crate::args::restore::{
    BillingArg, EngineArg, ItemFlags, Load, NewTable, OnOff, Restore, WritePace,
};
use crate::error::CliError;

/// What is to be done.
pub(in crate::commands) enum Wanted {
    Resume(RestoreRequest),
    New {
        backup: String,
        from: Option<Destination>,
        request: RestoreRequest,
        dry_run: bool,
    },
}

impl Wanted {
    /// What the flags of `restore` ask for.
    pub(in crate::commands) fn by_restore(args: &Restore) -> Result<Self, CliError> {
        Ok(match (&args.resume, &args.backup) {
            (Some(id), _) => Self::Resume(RestoreRequest {
                restore_id: Some(id.clone()),
                resume: true,
                ..paced(&args.pace)
            }),
            (None, Some(backup)) => {
                let (backup, from) = place(backup, args.from.as_ref(), &args.second);
                let items = of_items(&args.items, args.into_existing)?;
                Self::New {
                    backup,
                    from,
                    request: RestoreRequest {
                        to: args.to.clone(),
                        into_existing: args.into_existing,
                        restore_id: args.id.clone(),
                        ..of_second(&args.second, items)?
                    }
                    .with(paced(&args.pace), &args.table),
                    dry_run: args.dry_run,
                }
            }
            (None, None) => return Err(CliError::Usage("name a backup to restore".into())),
        })
    }

    /// The restore of this id, as its plan has it.
    pub(in crate::commands) fn resume(id: RestoreId) -> Self {
        Self::Resume(RestoreRequest {
            restore_id: Some(id),
            resume: true,
            ..RestoreRequest::default()
        })
    }

    /// What the flags of `materialize` ask for.
    pub(super) fn by_materialize(args: &Materialize) -> Result<Self, CliError> {
        let pace = RestoreRequest {
            concurrency: args.concurrency,
            ..RestoreRequest::default()
        };
        Ok(match (&args.resume, &args.backup, &args.to) {
            (Some(id), ..) => Self::Resume(RestoreRequest {
                restore_id: Some(id.clone()),
                resume: true,
                ..pace
            }),
            (None, Some(backup), Some(to)) => {
                let (backup, from) = place(backup, args.from.as_ref(), &args.second);
                Self::New {
                    backup,
                    from,
                    request: RestoreRequest {
                        restore_id: args.id.clone(),
                        materialize: Some(IntoSnapshot { to: to.to_string() }),
                        ..of_second(&args.second, pace)?
                    },
                    dry_run: args.dry_run,
                }
            }
            _ => {
                return Err(CliError::Usage(
                    "name a backup to begin with, and --to where the new one goes".into(),
                ));
            }
        })
    }

    /// What the flags of `load` ask for.
    pub(super) fn by_load(args: &Load) -> Result<Self, CliError> {
        let backup = match (&args.file, &args.from, args.place.location()) {
            _ if args.stdin => "-".to_owned(),
            (Some(file), ..) => file
                .to_str()
                .ok_or_else(|| CliError::Usage(format!("{} is not valid UTF-8", file.display())))?
                .to_owned(),
            (_, Some(from), _) => from.clone(),
            (.., Some(place)) => place.map_err(CliError::Usage)?.to_string(),
            (None, None, None) => return Err(CliError::Usage("say what to load".into())),
        };
        let request = RestoreRequest {
            to: Some(args.table.clone()),
            into_existing: true,
            ..of_items(&args.items, true)?
        }
        .with(paced(&args.pace), &NewTable::default());
        Ok(Self::New {
            backup,
            from: None,
            request,
            dry_run: args.dry_run,
        })
    }
}

fn paced(pace: &WritePace) -> RestoreRequest {
    RestoreRequest {
        concurrency: pace.concurrency,
        write_capacity: pace.write_capacity,
        write_percent: pace.write_percent,
        ..RestoreRequest::default()
    }
}

fn of_items(items: &ItemFlags, into_existing: bool) -> Result<RestoreRequest, CliError> {
    if items.allow_overwrite && !into_existing {
        return Err(CliError::Usage(
            "--allow-overwrite needs --into-existing: a new table has no items".into(),
        ));
    }
    let rejects = match &items.rejects {
        Some(place) => place.to_string(),
        None => default_rejects()?,
    };
    Ok(RestoreRequest {
        on_existing: into_existing.then_some(if items.allow_overwrite {
            OnExisting::Overwrite
        } else {
            OnExisting::Skip
        }),
        filter: items.filter.clone(),
        max_items: items.max_items.filter(|items| *items > 0),
        rejects: Some(rejects),
        fail_fast: items.fail_fast,
        skip_checks: items.skip_checks,
        allow_incomplete: items.allow_incomplete,
        ..RestoreRequest::default()
    })
}

fn default_rejects() -> Result<String, CliError> {
    folder_here("highwater-rejects")
}

/// A folder of the working directory: whoever resumes elsewhere finds it by the plan, which has its whole path.
fn folder_here(name: &str) -> Result<String, CliError> {
    let here = std::env::current_dir().map_err(CliError::Runtime)?;
    Ok(format!("file://{}", here.join(name).display()))
}

/// Where to look. To a second, a name with `--from` that is no snapshot's id is a table's.
fn place(
    backup: &str,
    from: Option<&Destination>,
    second: &Second,
) -> (String, Option<Destination>) {
    let is_table = second.at.is_some()
        && !backup.contains(['/', '\\'])
        && backup.parse::<SnapshotId>().is_err();
    match from {
        Some(from) if is_table => {
            let from = from.to_string();
            (format!("{}/{backup}", from.trim_end_matches('/')), None)
        }
        _ => (backup.to_owned(), from.cloned()),
    }
}

/// Adds the second to a request, if there is one.
fn of_second(second: &Second, request: RestoreRequest) -> Result<RestoreRequest, CliError> {
    let Some(at) = &second.at else {
        return Ok(request);
    };
    let work = match &second.work {
        Some(work) => work.to_string(),
        None => folder_here("highwater-work")?,
    };
    Ok(RestoreRequest {
        at: Some(at.clone()),
        grade: second.grade.map(|grade| match grade {
            GradeArg::Proven => Grade::Proven,
            GradeArg::Rolled => Grade::Rolled,
            GradeArg::Assumed => Grade::Assumed,
        }),
        stamp_margin_s: second.stamp_margin,
        work: Some(work),
        ..request
    })
}

/// The two halves of a request that come from flags of their own.
trait With {
    fn with(self, pace: RestoreRequest, table: &NewTable) -> Self;
}

impl With for RestoreRequest {
    fn with(self, pace: RestoreRequest, table: &NewTable) -> Self {
        Self {
            concurrency: pace.concurrency,
            write_capacity: pace.write_capacity,
            write_percent: pace.write_percent,
            engine: match table.engine {
                Some(EngineArg::Write) => EngineChoice::Write,
                Some(EngineArg::ImportTable) => EngineChoice::ImportTable,
                Some(EngineArg::Auto) | None => EngineChoice::Auto,
            },
            key: table.key.clone(),
            settings: overrides(table),
            ..self
        }
    }
}

fn overrides(table: &NewTable) -> TableOverrides {
    TableOverrides {
        billing: match table.billing {
            Some(BillingArg::OnDemand) => Billing::OnDemand,
            Some(BillingArg::AsIs) | None => Billing::AsIs,
        },
        stream_first: table.stream_first,
        no_ttl: table.no_ttl,
        load_write_capacity: table.load_write_capacity,
        deletion_protection: table.deletion_protection.map(|asked| asked == OnOff::On),
    }
}

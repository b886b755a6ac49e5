//! `highwater demo`: a whole backup and restore on one machine, with an accident in the middle.

mod accident;
mod data;
mod proof;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::snapshot::PartId;
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3};
use highwater_steps::request::BackupRequest;
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::source::{self, LookOptions};
use highwater_steps::{Deps, RestoreDeps, StepError, StopFlag, restore_status, status};
use serde_json::json;

use crate::args::Demo;
use crate::connect::{self, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, seconds};
use crate::job::Job;
use crate::signals::Signals;
use crate::tasks::RestoreTasks;
use crate::workflow::LocalExecution;
use accident::{Accident, AccidentProne, Narrator};

const BUCKET: &str = "highwater-demo";

/// The second table.
const RESTORED: &str = "shop-restored";

/// Where a segment has more than one part, so that the accident happens half way.
const ITEMS_FOR_TWO_PARTS: u32 = 3000;

/// The part whose worker dies between writing it and committing it.
fn fatal_part(items: u32) -> PartId {
    PartId {
        segment: 2,
        number: u32::from(items >= ITEMS_FOR_TWO_PARTS),
    }
}

/// Shows a backup and a restore: fill, back up with a killed worker, read back, restore, compare.
pub async fn run(args: &Demo, console: Console) -> Result<(), CliError> {
    let started = Instant::now();
    console.say("highwater demo: a backup and a restore on this machine, without AWS\n");
    let folder = folder(args.dir.as_deref())?;
    let stage = Stage::set(&folder, args.items, console).await?;
    let id = stage.back_up(console).await?;
    let told = stage.check(&id, console).await?;
    stage.restore(&told, console).await?;
    let url = folder.join(BUCKET).join(told.root.trim_end_matches('/'));
    let text = format!(
        "\nDone in {}. The backup is in\n  {}\nLook at it: zcat {}/data/*.json.gz | head -n 1\n\
         Next, with a table of yours: highwater backup TABLE --to s3://BUCKET/PREFIX",
        seconds(started.elapsed().as_secs_f64()),
        url.display(),
        url.display(),
    );
    console.result(
        &text,
        &json!({"snapshot_id": id, "folder": url, "items": told.items, "parts": told.parts, "restored": RESTORED, "equal": true}),
    );
    Ok(())
}

fn folder(asked: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(folder) = asked {
        std::fs::create_dir_all(folder).map_err(CliError::Runtime)?;
        return Ok(folder.to_owned());
    }
    let folder = tempfile::Builder::new()
        .prefix("highwater-demo-")
        .tempdir()
        .map_err(CliError::Runtime)?;
    // Kept on purpose: the reader is invited to look inside.
    Ok(folder.keep())
}

/// The engines, and the workflow's ports on them.
struct Stage {
    deps: Deps,
    restore_deps: RestoreDeps,
    accident: Arc<Accident>,
    _dynamodb: EmbeddedDynamoDb,
    _s3: EmbeddedS3,
}

/// What the check found.
struct Told {
    root: String,
    url: String,
    items: u64,
    parts: u64,
}

impl Stage {
    async fn set(folder: &Path, items: u32, console: Console) -> Result<Self, CliError> {
        let dynamodb = EmbeddedDynamoDb::start().await?;
        let s3 = EmbeddedS3::start(folder).await?;
        s3.create_bucket(BUCKET).await?;
        console.say(&format!(
            "1. Started a DynamoDB at {} and an S3 at {}, both inside this process.",
            dynamodb.endpoint_url(),
            s3.endpoint_url()
        ));
        let clients = Clients::connect(&ConnectionSettings {
            region: Some("eu-west-1".into()),
            dynamodb_endpoint_url: Some(dynamodb.endpoint_url().to_owned()),
            s3_endpoint_url: Some(s3.endpoint_url().to_owned()),
            ..ConnectionSettings::default()
        })
        .await?;
        let rows: Vec<_> = (0..items).map(data::item).collect();
        let size: usize = rows.iter().map(|row| row.to_string().len()).sum();
        dynamodb.seed(data::create_table(), rows).await?;
        console.say(&format!(
            "2. Created the table \"{}\" and wrote {} items of {} shapes ({}).",
            data::TABLE,
            count(u64::from(items)),
            data::SHAPES,
            bytes(size as u64)
        ));
        let control = clients.control_table("highwater");
        control.ensure().await?;
        let accident = Arc::new(Accident::new(Arc::new(control.clone()), fatal_part(items)));
        let control = Control::of(control);
        let narrator = Arc::new(Narrator::new(console));
        let deps = Deps {
            control: accident.clone(),
            ..connect::deps(&clients, &control, narrator.clone(), StopFlag::default())
        };
        let restore_deps =
            connect::restore_deps(&clients, &control, None, narrator, StopFlag::default());
        Ok(Self {
            deps,
            restore_deps,
            accident,
            _dynamodb: dynamodb,
            _s3: s3,
        })
    }

    /// Backs the table up by the state machine. One worker is killed at the worst moment.
    async fn back_up(&self, console: Console) -> Result<SnapshotId, CliError> {
        console.say("3. Backing it up by the state machine that is deployed to AWS (statemachine/backup.asl.json):");
        let request = BackupRequest {
            table: Some(data::TABLE.parse().map_err(StepError::from)?),
            to: Some(format!("s3://{BUCKET}/backups")),
            segments: Some(4),
            concurrency: Some(2),
            part_bytes: Some(16 << 10),
            settle_seconds: Some(0),
            ..BackupRequest::default()
        };
        let execution = LocalExecution::new();
        let id = execution.plan_input(request.clone()).snapshot_id()?;
        let tasks = AccidentProne::new(self.deps.clone(), self.accident.clone(), console);
        let mut signals = Signals::listen(self.deps.stop.clone())?;
        execution
            .run(
                &request,
                &Job::Backup(id.clone()),
                &tasks,
                console,
                &mut signals,
            )
            .await?;
        if !self.accident.happened() {
            return Err(CliError::Different(
                "the worker that was to be killed was never at work".into(),
            ));
        }
        Ok(id)
    }

    /// Reads the backup back from the bucket alone, and compares it with the table.
    async fn check(&self, id: &SnapshotId, console: Console) -> Result<Told, CliError> {
        let record = status::load(&self.deps, id).await?.value;
        let layout = status::layout(&record)?;
        let store = status::open_store(&self.deps, &record)?;
        let root = layout.root().trim_end_matches('/');
        let location: SourceLocation = format!("s3://{BUCKET}/{root}")
            .parse()
            .map_err(StepError::from)?;
        let strict = LookOptions {
            skip_checks: false,
            allow_incomplete: false,
        };
        let catalog = source::look(&store, &location, strict).await?;
        let totals = proof::require_whole(&store, &catalog).await?;
        console.say(&format!(
            "4. Read it back: {} items in {} parts ({}); every hash and count is right.",
            count(totals.items),
            totals.files,
            bytes(totals.stored_bytes)
        ));
        let items =
            proof::require_backup_equals_table(&self.deps, &store, &catalog, &record.table).await?;
        console.say(&format!(
            "5. Compared it with the table, item by item: all {} are equal.",
            count(items)
        ));
        Ok(Told {
            root: layout.root().to_owned(),
            url: location.to_string(),
            items: totals.items,
            parts: totals.files,
        })
    }

    /// Restores the backup into a second table, settings and all, and compares the two.
    async fn restore(&self, told: &Told, console: Console) -> Result<(), CliError> {
        console.say(&format!(
            "6. Restoring it into the new table \"{RESTORED}\" by the other state machine (statemachine/restore.asl.json):"
        ));
        let restored: TableRef = RESTORED.parse().map_err(StepError::from)?;
        let request = RestoreRequest {
            backup: Some(told.url.clone()),
            to: Some(restored.clone()),
            rejects: Some(format!("s3://{BUCKET}/rejects")),
            ..RestoreRequest::default()
        };
        let execution = LocalExecution::new();
        let id = execution.restore_input(request.clone()).restore_id()?;
        let tasks = RestoreTasks::new(self.restore_deps.clone());
        let mut signals = Signals::listen(self.restore_deps.stop.clone())?;
        execution
            .run(
                &request,
                &Job::Restore(id.clone()),
                &tasks,
                console,
                &mut signals,
            )
            .await?;
        let record = restore_status::load(&self.restore_deps, &id).await?.value;
        console.say(&format!("   {}", record.totals));
        for left_out in &record.table_plan.not_restored {
            console.say(&format!("   not restored: {left_out}"));
        }
        let table: TableRef = data::TABLE.parse().map_err(StepError::from)?;
        let items = proof::require_tables_equal(&self.deps, &table, &restored).await?;
        console.say(&format!(
            "7. Compared the two tables: {} items and every setting are equal.",
            count(items)
        ));
        Ok(())
    }
}

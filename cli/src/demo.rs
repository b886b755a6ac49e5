//! `highwater demo`: a backup with an accident in its middle, the change log, and restores to three seconds, on one
//! machine, while the table is written to.

mod accident;
mod data;
mod following;
mod moments;
mod proof;
mod replica;
mod shop;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::budget::Clock as _;
use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_domain::mark::UnixSeconds;
use highwater_domain::restore::RestoreRecord;
use highwater_domain::snapshot::PartId;
use highwater_lambda::SystemClock;
use highwater_local::{EmbeddedDynamoDb, EmbeddedS3, StreamShape};
use highwater_steps::deps::Unobserved;
use highwater_steps::follow::FollowReport;
use highwater_steps::replica::ReplicaDeps;
use highwater_steps::request::BackupRequest;
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::source::{self, LookOptions};
use highwater_steps::{Deps, LogDeps, RestoreDeps, StepError, StopFlag, restore_status, status};
use serde_json::{Value, json};

use crate::args::Demo;
use crate::connect::{self, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::follow_progress::grade_word;
use crate::format::{bytes, count, seconds};
use crate::job::Job;
use crate::signals::Signals;
use crate::tasks::RestoreTasks;
use crate::workflow::LocalExecution;
use accident::{Accident, AccidentProne, Narrator};
use following::Following;
use moments::{Moments, a_sharp_second};
use shop::{Shop, Truth};

const BUCKET: &str = "highwater-demo";

/// Shards that roll over while one watches. The first change is the first that the log has to know: the engine misses none.
const SHAPE: StreamShape = StreamShape {
    lineages: 4,
    roll_after_records: 1000,
    roll_after: Duration::from_hours(4),
    retention: Duration::from_hours(24),
    made_before: Duration::from_mins(1),
};

/// How long the scan should take, about.
const SCAN_SECONDS: f64 = 4.0;

/// Where the backup and the log go.
fn destination() -> String {
    format!("s3://{BUCKET}/backups")
}

/// Where a segment has more than one part, so that the accident happens half way.
const ITEMS_FOR_TWO_PARTS: u32 = 3000;

/// The part whose worker dies between writing it and committing it.
fn fatal_part(items: u32) -> PartId {
    PartId {
        segment: 2,
        number: u32::from(items >= ITEMS_FOR_TWO_PARTS),
    }
}

/// Shows it all: fill, follow, back up with a killed worker while the shop is open, and go back to three seconds.
pub async fn run(args: &Demo, console: Console) -> Result<(), CliError> {
    let mut signals = Signals::listen(StopFlag::default())?;
    signals.unless_received(Box::pin(show(args, console))).await
}

async fn show(args: &Demo, console: Console) -> Result<(), CliError> {
    let started = Instant::now();
    console.say("highwater demo: a backup, its change log, a replica, and restores to any second, on this machine, without AWS\n");
    let folder = folder(args.dir.as_deref())?;
    let stage = Stage::set(&folder, args.items, console).await?;
    let following = stage.follow(console);
    let shop = Shop::open(stage.dynamodb.clone(), args.items, SystemClock.now());
    let opened = SystemClock.now();
    a_sharp_second(&shop, opened).await;

    let scan_began = SystemClock.now();
    let id = stage.back_up(&shop, console).await?;
    let scan_ended = SystemClock.now();
    let told = stage.check(&id, console).await?;
    let replica = stage.replicate(&told.root, console).await?;
    a_sharp_second(&shop, scan_ended).await;
    let closed = SystemClock.now();
    let truth = shop.close().await?;

    let report = stage.until_logged(following, &truth, console).await?;
    let moments = Moments::pick(&truth, opened, (scan_began, scan_ended), closed)?;
    let restored = stage.restore(&moments, &truth, console).await?;
    let replicated = stage.until_replicated(replica, &truth, console).await?;
    let url = folder.join(BUCKET).join(told.root.trim_end_matches('/'));
    let text = format!(
        "\nDone in {}. The backup is in\n  {}\nwith its change log beside it. Look at it: zcat {}/data/*.json.gz | head -n 1\n\
         Next, with a table of yours: highwater backup TABLE --to s3://BUCKET/PREFIX --with-stream\n\
         and then:                    highwater follow TABLE --to s3://BUCKET/PREFIX",
        seconds(started.elapsed().as_secs_f64()),
        url.display(),
        url.display(),
    );
    console.result(
        &text,
        &json!({
            "snapshot_id": id,
            "folder": url,
            "items": told.items,
            "parts": told.parts,
            "changes": truth.counts().all(),
            "logged": report.records,
            "restored": restored,
            "replica": replicated,
            "equal": true,
        }),
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
    replica_deps: ReplicaDeps,
    accident: Arc<Accident>,
    table: TableRef,
    read_capacity: f64,
    dynamodb: Arc<EmbeddedDynamoDb>,
    _s3: EmbeddedS3,
}

/// What the check found.
struct Told {
    root: String,
    items: u64,
    parts: u64,
}

impl Stage {
    async fn set(folder: &Path, items: u32, console: Console) -> Result<Self, CliError> {
        let dynamodb = Arc::new(EmbeddedDynamoDb::start_with(SHAPE).await?);
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
        let silent = Arc::new(Unobserved);
        let mut deps = connect::deps(&clients, &control, narrator.clone(), StopFlag::default());
        deps.snapshots.control = accident.clone();
        let restore_deps =
            connect::restore_deps(&clients, &control, None, silent, StopFlag::default());
        let log = LogDeps {
            observer: Arc::new(Unobserved),
            ..deps.live.log.clone()
        };
        let (replicas, restores) = (&restore_deps.replicas, &restore_deps.restores);
        let unobserved = Arc::new(Unobserved);
        let replica_deps = connect::replica_deps(
            &clients,
            log,
            replicas.clone(),
            restores.clone(),
            unobserved,
        );
        Ok(Self {
            deps,
            restore_deps,
            replica_deps,
            accident,
            table: data::TABLE.parse().map_err(StepError::from)?,
            read_capacity: (size as f64 / 4096.0 / SCAN_SECONDS).max(1.0),
            dynamodb,
            _s3: s3,
        })
    }

    /// Begins to write the table's stream to its change log.
    fn follow(&self, console: Console) -> Following {
        console.say(
            "3. Following its stream into the change log (highwater follow), and opening the shop: orders come, change and go.\n   \
             (A local engine publishes at once and its stamps are exact: no delay and no margin is allowed for.)",
        );
        Following::begin(&self.deps.live, self.table.clone(), &destination())
    }

    /// Backs the table up by the state machine, while it is written to. One worker is killed at the worst moment.
    async fn back_up(&self, shop: &Shop, console: Console) -> Result<SnapshotId, CliError> {
        console.say("4. Backing it up meanwhile by the state machine that is deployed to AWS (statemachine/backup.asl.json):");
        let before = shop.truth().counts();
        let request = BackupRequest {
            table: Some(self.table.clone()),
            to: Some(destination()),
            segments: Some(4),
            concurrency: Some(2),
            part_bytes: Some(16 << 10),
            // Some seconds of scan, so that there is one to go back to.
            read_capacity: Some(self.read_capacity),
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
        let after = shop.truth().counts();
        console.say(&format!(
            "   meanwhile: {} inserts, {} updates, {} deletes, {} re-inserts of what was deleted",
            count(after.inserts - before.inserts),
            count(after.updates - before.updates),
            count(after.deletes - before.deletes),
            count(after.reinserts - before.reinserts),
        ));
        Ok(id)
    }

    /// Reads the backup back from the bucket alone.
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
            "5. Read it back: {} items in {} parts ({}); every hash and count is right.",
            count(totals.items),
            totals.files,
            bytes(totals.stored_bytes)
        ));
        Ok(Told {
            root: layout.root().to_owned(),
            items: totals.items,
            parts: totals.files,
        })
    }

    /// Waits until the log is known to hold everything that the shop did, and ends the follower.
    async fn until_logged(
        &self,
        following: Following,
        truth: &Truth,
        console: Console,
    ) -> Result<FollowReport, CliError> {
        let (grade, mark) = following.reaches(truth.last()).await?;
        let report = following.end().await?;
        console.say(&format!(
            "7. Closed the shop after {} changes. The log holds all {} records of its stream in {} objects; {} shards have rolled over.\n   \
             It is complete up to {} ({}).",
            count(truth.counts().all()),
            count(report.records),
            count(report.objects),
            count(report.shards_ended),
            clock(mark),
            grade_word(grade),
        ));
        Ok(report)
    }

    /// Restores the table to each of the seconds, and compares each with the truth.
    async fn restore(
        &self,
        moments: &Moments,
        truth: &Truth,
        console: Console,
    ) -> Result<Vec<Value>, CliError> {
        console.say("8. Restoring it to three seconds by the other state machine (statemachine/restore.asl.json), and comparing each\n   \
             new table, item by item and setting by setting, with what the shop knows that there was:");
        let mut restored = Vec::new();
        for (number, (at, place)) in moments.all().into_iter().enumerate() {
            let into: TableRef = format!("{}-{}", data::TABLE, number + 1)
                .parse()
                .map_err(StepError::from)?;
            let record = self.restore_to(at, &into).await?;
            let items = proof::require_table_equals_truth(&self.deps, &into, truth.at(at)).await?;
            proof::require_settings_equal(&self.deps, &self.table, &into).await?;
            console.say(&format!(
                "   {} {place:<18} {}; EQUAL to what was then",
                clock(at),
                record.totals,
            ));
            restored
                .push(json!({"at": at.to_rfc3339(), "table": into, "items": items, "equal": true}));
        }
        Ok(restored)
    }

    /// `highwater restore … --at SECOND`.
    async fn restore_to(
        &self,
        at: UnixSeconds,
        into: &TableRef,
    ) -> Result<RestoreRecord, CliError> {
        let request = RestoreRequest {
            backup: Some(format!("{}/{}", destination(), data::TABLE)),
            to: Some(into.clone()),
            at: Some(at.to_rfc3339()),
            stamp_margin_s: Some(0),
            work: Some(format!("s3://{BUCKET}/work")),
            rejects: Some(format!("s3://{BUCKET}/rejects")),
            ..RestoreRequest::default()
        };
        let execution = LocalExecution::new();
        let id = execution.restore_input(request.clone()).restore_id()?;
        let tasks = RestoreTasks::new(self.restore_deps.clone());
        let mut signals = Signals::listen(self.restore_deps.stop.clone())?;
        let job = Job::Restore(id.clone());
        let quiet = Console::new(false, true);
        execution
            .run(&request, &job, &tasks, quiet, &mut signals)
            .await?;
        Ok(restore_status::load(&self.restore_deps, &id).await?.value)
    }
}

/// The time of day, which is all that matters on one screen.
fn clock(at: UnixSeconds) -> String {
    let whole = at.to_rfc3339();
    whole.get(11..19).unwrap_or(&whole).to_owned()
}

//! Watches an execution of a deployed stack: its progress is read from the control table, where its functions commit it.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::failure::Failure;
use highwater_domain::ids::SnapshotId;
use highwater_domain::restore::{RestoreId, RestoreRecord};
use highwater_domain::snapshot::SnapshotRecord;
use highwater_steps::stack::{JobId, StackError, StackExecution};
use highwater_steps::{RestoreDeps, StepError, restore_status, status};
use tokio::time::{Instant, sleep};

use crate::commands::{backup, watch::what};
use crate::console::Console;
use crate::error::CliError;
use crate::format::count;
use crate::progress::{Counters, Display, LoadCounters};
use crate::restore_report;
use crate::stack_connection::StackConnection;
use crate::watch_outcome;

/// Between two looks at the execution: `DescribeExecution` has few calls a second for the whole account.
const LOOK: Duration = Duration::from_secs(2);

/// A look at the checkpoints of many segments takes longer; they are looked at for so small a share of the time.
const SHARE: u32 = 10;

/// Watches until the execution has ended, and tells how.
pub async fn watch(
    stack: &StackConnection,
    mut execution: StackExecution,
    console: Console,
) -> Result<(), CliError> {
    console.say(&format!(
        "execution {}: {}, started {}",
        execution.state.name,
        what(&execution),
        execution.state.started_at.to_rfc3339()
    ));
    let deps = stack.deps();
    let mut view = View::new(&deps, console);
    let mut patient = Patient {
        console,
        said: false,
    };
    let mut due = Instant::now();
    let seen_running = !execution.state.status.has_ended();
    while !execution.state.status.has_ended() {
        if Instant::now() >= due {
            let began = Instant::now();
            let looked = view.look(&execution).await;
            patient
                .waits_out(looked)
                .map_err(|error| stack.trouble(&error))?;
            due = Instant::now() + began.elapsed() * SHARE;
        }
        sleep(LOOK).await;
        let described = stack.ports.executions.describe(&execution.state.arn).await;
        let described = described.map_err(StackError::Service);
        let described = patient
            .waits_out(described)
            .map_err(|error| stack.trouble(&error))?;
        // One that was there stays; that it is not described is a listing that lags behind.
        if let Some(state) = described.flatten() {
            execution.state = state;
        }
    }
    if seen_running {
        view.last_look(&execution).await;
    }
    drop(view);
    watch_outcome::tell(stack, &deps, &execution, console).await
}

/// Puts up with what passes by itself: a long watch outlives many a blip.
struct Patient {
    console: Console,
    said: bool,
}

impl Patient {
    fn waits_out<T>(&mut self, outcome: Result<T, StackError>) -> Result<Option<T>, StackError> {
        let error = match outcome {
            Ok(value) => {
                self.said = false;
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        let passes = |failure: &Failure| failure.kind.is_retryable();
        let passing = match &error {
            StackError::Service(failure) | StackError::Control(failure) => passes(failure),
            _ => false,
        };
        if !passing {
            return Err(error);
        }
        if !self.said {
            self.console.say(&format!("{error}; trying again"));
            self.said = true;
        }
        Ok(None)
    }
}

/// What is shown of an execution.
struct View<'a> {
    deps: &'a RestoreDeps,
    console: Console,
    shown: Shown,
    planning: bool,
    finishing: bool,
}

enum Shown {
    Nothing,
    Backup(
        Arc<Counters>,
        #[expect(dead_code, reason = "it shows until it is dropped")] Display,
    ),
    Restore(
        Arc<LoadCounters>,
        #[expect(dead_code, reason = "it shows until it is dropped")] Display,
    ),
}

impl<'a> View<'a> {
    fn new(deps: &'a RestoreDeps, console: Console) -> Self {
        Self {
            deps,
            console,
            shown: Shown::Nothing,
            planning: false,
            finishing: false,
        }
    }

    /// Reads how far it is. Only what is the execution's own counts: a resume names what another one began.
    async fn look(&mut self, execution: &StackExecution) -> Result<(), StackError> {
        let arn = &execution.state.arn;
        let began = match &execution.job {
            Some(JobId::Backup(id)) => self.backup(id, arn).await,
            Some(JobId::Restore(id)) => self.restore(id, arn).await,
            None => Ok(true),
        };
        let began = began.map_err(|error| match error {
            StepError::Control(failure) => StackError::Control(failure),
            error => StackError::Step(error),
        })?;
        if !began && !self.planning {
            self.planning = true;
            self.console.say("its plan is being made");
        }
        Ok(())
    }

    /// Shows where it ended: a short one is over between two looks. What hinders this, the outcome meets and tells.
    async fn last_look(&mut self, execution: &StackExecution) {
        (self.planning, self.finishing) = (true, true);
        self.look(execution).await.ok();
    }

    async fn backup(&mut self, id: &SnapshotId, arn: &str) -> Result<bool, StepError> {
        let control = self.deps.snapshots.control.as_ref();
        let record = control.snapshot(id).await.map_err(StepError::Control)?;
        let Some(record) = record.filter(|it| it.value.request_id == arn) else {
            return Ok(false);
        };
        let record = record.value;
        let progress = status::progress(control, id).await?;
        if let Shown::Backup(counters, _) = &self.shown {
            counters.show(&progress);
        } else {
            self.console.say(&backup::beginning(&record));
            let counters = Arc::new(Counters::default());
            counters.begin_with(&progress);
            let display = Display::start(counters.clone(), record.estimated_items, self.console);
            self.shown = Shown::Backup(counters, display);
        }
        self.finishes(
            progress.segments_done >= u64::from(record.total_segments),
            &record,
        );
        Ok(true)
    }

    fn finishes(&mut self, scanned: bool, record: &SnapshotRecord) {
        if scanned && !self.finishing {
            self.finishing = true;
            let segments = count(record.total_segments.into());
            self.console.say(&format!(
                "all {segments} segments are scanned; the parts are being checked"
            ));
        }
    }

    async fn restore(&mut self, id: &RestoreId, arn: &str) -> Result<bool, StepError> {
        let record = self.deps.restores.restore(id).await;
        let record = record.map_err(StepError::Control)?;
        let Some(record) = record.filter(|it| it.value.request_id == arn) else {
            return Ok(false);
        };
        let record = record.value;
        let progress = restore_status::totals(self.deps, id).await?;
        if let Shown::Restore(counters, _) = &self.shown {
            counters.show(&progress.totals);
        } else {
            self.console.say(&restore_report::beginning(&record));
            let counters = Arc::new(LoadCounters::default());
            counters.resume_from(&progress.totals);
            let expected = record.source.items.unwrap_or(0);
            let display = Display::start(counters.clone(), expected, self.console);
            self.shown = Shown::Restore(counters, display);
        }
        self.settles(progress.files_done >= record.files(), &record);
        Ok(true)
    }

    fn settles(&mut self, loaded: bool, record: &RestoreRecord) {
        if loaded && !self.finishing {
            self.finishing = true;
            let files = count(record.files());
            self.console.say(&format!(
                "all {files} files are loaded; what had to wait for that is being done"
            ));
        }
    }
}

//! Walks the deployed state machine's own definition.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use highwater_asl::{Clock, Event, Execution, Options, Pause, StateMachine, Tasks, walk};
use highwater_domain::budget::Clock as _;
use highwater_domain::ids::UnixMillis;
use highwater_lambda::SystemClock;
use highwater_steps::plan_restore::PlanRestoreInput;
use highwater_steps::request::BackupRequest;
use highwater_steps::restore_request::RestoreRequest;
use highwater_steps::{StepError, StopFlag};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::console::Console;
use crate::error::CliError;
use crate::job::Job;
use crate::signals::Signals;

/// The definitions, as they are deployed.
const BACKUP: &str = include_str!("../../statemachine/backup.asl.json");
const RESTORE: &str = include_str!("../../statemachine/restore.asl.json");

/// One execution of a state machine on this machine.
#[derive(Clone, Debug)]
pub struct LocalExecution {
    id: String,
    started_at: UnixMillis,
    retries: bool,
}

impl LocalExecution {
    /// A new execution, named so that no other has its name.
    pub fn new() -> Self {
        let started_at = SystemClock.now();
        Self {
            id: format!("command:{}:{:016x}", started_at.0, fastrand::u64(..)),
            started_at,
            retries: true,
        }
    }

    /// The same, but a failed state is not tried again: the steps' own attempts are all there are.
    pub fn without_retries(self) -> Self {
        Self {
            retries: false,
            ..self
        }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name, and when it started: what `PlanBackup` gets to see.
    pub fn plan_input(&self, request: BackupRequest) -> highwater_steps::plan_backup::PlanInput {
        highwater_steps::plan_backup::PlanInput {
            request,
            execution_id: self.id.clone(),
            started_at: self.started_at.to_rfc3339(),
        }
    }

    /// The same for `PlanRestore`.
    pub fn restore_input(&self, request: RestoreRequest) -> PlanRestoreInput {
        PlanRestoreInput {
            request,
            execution_id: self.id.clone(),
            started_at: self.started_at.to_rfc3339(),
        }
    }

    /// Walks the job's state machine to its end; a signal ends it early but in order, a second one at once.
    ///
    /// Whether a failed job can be resumed only its record tells: the caller looks.
    pub async fn run<R: Serialize>(
        &self,
        request: &R,
        job: &Job,
        tasks: &dyn Tasks,
        console: Console,
        signals: &mut Signals,
    ) -> Result<Value, CliError> {
        let (definition, committed) = match job {
            Job::Backup(_) => (BACKUP, "scanned"),
            Job::Restore(_) | Job::Materialize(_) => (RESTORE, "loaded"),
        };
        let machine = StateMachine::parse(definition, &BTreeMap::new())?;
        let input: Value = serde_json::to_value(request)
            .map_err(|error| StepError::Internal(error.to_string()))?;
        let execution = Execution {
            id: self.id.clone(),
            start_time: self.started_at.to_rfc3339(),
        };
        let first_failure = Arc::new(OnceLock::new());
        let options = Options {
            jitter_seed: fastrand::u64(..),
            observer: Some(observer(console, first_failure.clone())),
            clock: Arc::new(Impatient(signals.stop_flag())),
            retries: self.retries,
        };
        let mut walk = Box::pin(walk(&machine, input, &execution, tasks, &options));
        let outcome = loop {
            tokio::select! {
                outcome = &mut walk => break outcome,
                signal = signals.next() => {
                    let Some(again) = signal else {
                        console.say(&format!("stopping: what was {committed} is being committed (again to quit at once)"));
                        continue;
                    };
                    return Err(CliError::Signal { name: again.name, code: again.code, job: None });
                }
            }
        };
        let mut failed = match outcome {
            Ok(output) => return Ok(output),
            Err(failed) => failed,
        };
        if let Some(state) = first_failure.get() {
            // Not the Fail state at the end, but the step that led there.
            failed.state.clone_from(state);
        }
        if let Some(signal) = signals.received() {
            return Err(CliError::Signal {
                name: signal.name,
                code: signal.code,
                job: None,
            });
        }
        Err(CliError::Workflow {
            job: job.clone(),
            failed,
            resumable: false,
        })
    }
}

/// Real time, but nobody who asked for a stop waits out a retry's pause.
struct Impatient(StopFlag);

/// How long a stop may go unnoticed in a pause.
const NAP: Duration = Duration::from_millis(100);

#[async_trait]
impl Clock for Impatient {
    async fn pause(&self, pause: Pause, length: Duration) {
        let end = Instant::now() + length;
        while pause == Pause::Timeout || !self.0.is_set() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(if pause == Pause::Timeout {
                left
            } else {
                left.min(NAP)
            })
            .await;
        }
    }
}

/// What a restore to a second does before the load and in it, where there is something to do.
const PHASES: [(&str, &str, &str); 3] = [
    (
        "ScatterShards",
        "shards",
        "scatter: sorting the log's changes by key",
    ),
    (
        "FoldBuckets",
        "buckets",
        "fold: finding what each key was at the second",
    ),
    (
        "LoadFiles",
        "files",
        "load: what the log names, and the rest of the snapshot",
    ),
];

/// The line with which a phase begins. A plain restore has but one, and says nothing of it.
fn phase(state: &str, input: &Value) -> Option<&'static str> {
    let is_any = |member: &str| input[member].as_array().is_some_and(|it| !it.is_empty());
    let (_, member, line) = PHASES.iter().find(|(name, ..)| *name == state)?;
    (is_any("buckets") && is_any(member)).then_some(*line)
}

/// Tells of phases and retries, and remembers the state that failed first.
fn observer(console: Console, first_failure: Arc<OnceLock<String>>) -> highwater_asl::Observer {
    Arc::new(move |event| match event {
        Event::Entered {
            state,
            item: None,
            input,
        } => {
            if let Some(line) = phase(state, input) {
                console.say(line);
            }
        }
        Event::Retrying {
            state,
            failure,
            attempt,
            delay,
            ..
        } => {
            let delay = crate::format::seconds(delay.as_secs_f64());
            let message = crate::error::message(failure);
            console.say(&format!(
                "{state}: {} ({message}), retry {attempt} in {delay}",
                failure.error
            ));
        }
        Event::Failed { failure, .. } | Event::Caught { failure, .. } => {
            first_failure.get_or_init(|| failure.state.clone());
        }
        _ => {}
    })
}

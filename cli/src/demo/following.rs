//! The demo's follower: `highwater follow`, inside this process.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::ids::TableRef;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_steps::follow::{self, FollowReport, FollowRequest};
use highwater_steps::{LiveDeps, StepError, StopFlag};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::error::CliError;
use crate::follow_progress::{FollowProgress, best};

/// How long the mark may take to reach the last change.
const PATIENCE: Duration = Duration::from_mins(1);

/// Times in the order of a demo, not of a production.
const FLUSH_MS: u64 = 300;
const LOOK_EVERY_MS: u64 = 500;

/// A follower at work.
#[derive(Debug)]
pub struct Following {
    progress: Arc<FollowProgress>,
    stop: StopFlag,
    work: JoinHandle<Result<FollowReport, StepError>>,
}

impl Following {
    /// Begins to follow `table` into `to`. The ports' own stop flag and observer are not used.
    pub fn begin(deps: &LiveDeps, table: TableRef, to: &str) -> Self {
        let progress = Arc::new(FollowProgress::default());
        let stop = StopFlag::default();
        let mut deps = deps.clone();
        deps.log.observer = progress.clone();
        deps.log.stop = stop.clone();
        let request = FollowRequest {
            flush_ms: FLUSH_MS,
            publish_every_ms: LOOK_EVERY_MS,
            survey_every_ms: LOOK_EVERY_MS,
            ..FollowRequest::new(table, to).on_local_engine()
        };
        let work =
            tokio::spawn(async move { follow::run(&deps, &request, Budget::UNLIMITED).await });
        Self {
            progress,
            stop,
            work,
        }
    }

    /// Waits until the log is known to be complete up to this second; gives the mark.
    pub async fn reaches(&self, second: UnixSeconds) -> Result<(Grade, UnixSeconds), CliError> {
        let began = Instant::now();
        loop {
            let mark = self.progress.mark().as_ref().and_then(best);
            if let Some(reached) = mark.filter(|(_, at)| *at >= second) {
                return Ok(reached);
            }
            if self.work.is_finished() || began.elapsed() > PATIENCE {
                return Err(CliError::Different(format!(
                    "the log is not known to be complete up to {second}: {mark:?}"
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends in order.
    pub async fn end(mut self) -> Result<FollowReport, CliError> {
        self.stop.set();
        let ended = (&mut self.work).await;
        Ok(ended.map_err(|error| StepError::Internal(error.to_string()))??)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.work.abort();
    }
}

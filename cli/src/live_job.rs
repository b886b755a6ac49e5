//! What `follow` and `audit` have in common: the ports with the times of their leases, and an end in order.

use std::sync::Arc;

use highwater_aws::Clients;
use highwater_lambda::KvLeaseGroups;
use highwater_steps::{LiveDeps, LiveObserver, StepError, StopFlag};

use crate::args::Global;
use crate::args::follow::Sharing;
use crate::connect::{self, Absent, Control};
use crate::console::Console;
use crate::error::CliError;
use crate::signals::Signals;

/// The ports of a job of the live side, and what must live as long as they do.
pub struct LiveJob {
    /// The ports.
    pub deps: LiveDeps,
    control: Control,
}

impl LiveJob {
    /// The control table.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Connects, and opens the control table; it is created where there is none.
    pub async fn open(
        global: &Global,
        console: Console,
        sharing: &Sharing,
        observer: Arc<dyn LiveObserver>,
        stop: StopFlag,
    ) -> Result<Self, CliError> {
        let clients = Clients::connect(&connect::settings(global)).await?;
        let control = connect::control(global, console, Absent::Create).await?;
        let leases = KvLeaseGroups::new(control.live().clone(), sharing.settings());
        let mut deps = connect::live_deps(&clients, &control, observer, stop);
        deps.log.leases = Arc::new(leases);
        Ok(Self { deps, control })
    }
}

/// Does `work`, which ends in order after the first signal; a second signal ends it at once, as a crash would.
pub async fn until_stopped<T>(
    signals: &mut Signals,
    console: Console,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, CliError> {
    let mut work = Box::pin(work);
    loop {
        tokio::select! {
            outcome = &mut work => return Ok(outcome?),
            signal = signals.next() => {
                let Some(again) = signal else {
                    console.say("stopping: what was read is being written, and its shards are handed over (again to quit at once)");
                    continue;
                };
                return Err(CliError::Signal { name: again.name, code: again.code, job: None });
            }
        }
    }
}

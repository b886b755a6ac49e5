//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use highwater_steps::StopFlag;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its name.
    pub name: &'static str,
    /// 128 and its number: what a shell says of a process that it ended.
    pub code: u8,
}

/// Listens from its creation on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    stop: StopFlag,
    first: Option<Received>,
}

impl Signals {
    /// Catches both signals from now on; the first sets `stop`.
    pub fn listen(stop: StopFlag) -> Result<Self, CliError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(CliError::Runtime)?,
            terminate: signal(SignalKind::terminate()).map_err(CliError::Runtime)?,
            stop,
            first: None,
        })
    }

    /// Waits for a signal. `None` for the first, which has set the stop flag; `Some` for every later one.
    pub async fn next(&mut self) -> Option<Received> {
        let received = tokio::select! {
            _ = self.interrupt.recv() => Received { name: "SIGINT", code: 130 },
            _ = self.terminate.recv() => Received { name: "SIGTERM", code: 143 },
        };
        self.stop.set();
        if self.first.is_some() {
            return Some(received);
        }
        self.first = Some(received);
        None
    }

    /// Does `work`, which leaves nothing behind, unless a signal comes first.
    pub async fn unless_received<T>(
        &mut self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::select! {
            outcome = work => outcome,
            again = self.next() => {
                let Received { name, code } = again.or(self.first).unwrap_or(Received { name: "a signal", code: 1 });
                Err(CliError::Signal { name, code, job: None })
            }
        }
    }

    /// The flag that the first signal sets.
    pub fn stop_flag(&self) -> StopFlag {
        self.stop.clone()
    }

    /// The first signal, if there was one.
    pub fn received(&self) -> Option<Received> {
        self.first
    }
}

//! The passing of time, as a port: an execution waits, retries and times out.

use std::time::Duration;

use async_trait::async_trait;

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// A Wait state.
    Wait,
    /// The pause before a retry.
    Retry,
    /// A task's `TimeoutSeconds`: the task is dropped when this pause ends before it.
    Timeout,
}

/// Waits.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns when `length` has passed.
    async fn pause(&self, pause: Pause, length: Duration);
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealTime;

#[async_trait]
impl Clock for RealTime {
    async fn pause(&self, _pause: Pause, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

/// Waits and retries take no time, for demonstrations and tests; time-outs are the real ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct SkipPauses;

#[async_trait]
impl Clock for SkipPauses {
    async fn pause(&self, pause: Pause, length: Duration) {
        if pause == Pause::Timeout {
            tokio::time::sleep(length).await;
        }
    }
}

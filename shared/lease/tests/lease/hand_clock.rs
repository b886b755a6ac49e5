//! A clock that stands still until it is moved, and runs as fast as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use highwater_lease::{Monotonic, MonotonicClock};

/// The true time, which no worker sees.
#[derive(Clone, Debug, Default)]
pub struct TrueTime(Arc<AtomicU64>);

impl TrueTime {
    pub fn forward(&self, by: Duration) {
        self.0
            .fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }

    /// A clock that shows the true time.
    pub fn clock(&self) -> HandClock {
        self.skewed(Duration::ZERO, 100)
    }

    /// A clock that is ahead by `offset` and runs at `percent` of the true speed.
    pub fn skewed(&self, offset: Duration, percent: u32) -> HandClock {
        HandClock {
            time: self.clone(),
            offset,
            percent,
        }
    }
}

#[derive(Clone, Debug)]
pub struct HandClock {
    time: TrueTime,
    offset: Duration,
    percent: u32,
}

#[async_trait]
impl MonotonicClock for HandClock {
    fn now(&self) -> Monotonic {
        Monotonic::since_origin(self.offset + self.time.elapsed() * self.percent / 100)
    }

    /// Polled by hand, or beside something that wakes: it asks for another poll each time.
    async fn sleep(&self, duration: Duration) {
        let until = self.now().plus(duration);
        std::future::poll_fn(|context| {
            if self.now() >= until {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

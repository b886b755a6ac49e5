//! Clocks over tokio's time, which a paused runtime moves: the services' own, and those of workers, which disagree.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::budget::Clock;
use highwater_domain::ids::UnixMillis;
use highwater_lease::{Monotonic, MonotonicClock};
use tokio::time::Instant;

/// When every simulation begins: 2026-01-14T10:18:50Z.
const EPOCH_MS: u64 = 1_768_385_930_000;

/// The true time of one simulation.
#[derive(Clone, Copy, Debug)]
pub struct SimTime {
    origin: Instant,
}

impl SimTime {
    /// A simulation that begins now. Make it inside the runtime whose time is paused.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The moment at which it began.
    #[must_use]
    pub fn epoch() -> UnixMillis {
        UnixMillis(EPOCH_MS)
    }

    /// How long it runs.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The true time, which is what DynamoDB's `Date` header says.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let elapsed = u64::try_from(self.elapsed().as_millis()).unwrap();
        UnixMillis(EPOCH_MS + elapsed)
    }

    /// A wall clock that shows the true time.
    #[must_use]
    pub fn clock(&self) -> Arc<SimClock> {
        self.skewed_clock(0)
    }

    /// A wall clock that is ahead by so many milliseconds, or behind.
    #[must_use]
    pub fn skewed_clock(&self, skew_ms: i64) -> Arc<SimClock> {
        Arc::new(SimClock {
            time: *self,
            skew_ms: AtomicI64::new(skew_ms),
        })
    }

    /// A monotonic clock with its own origin, which runs at `percent` of the true speed.
    #[must_use]
    pub fn monotonic(&self, offset: Duration, percent: u32) -> Arc<SimMonotonic> {
        assert!(percent > 0, "a clock that stands still");
        Arc::new(SimMonotonic {
            time: *self,
            offset,
            percent,
        })
    }
}

/// A worker's wall clock.
#[derive(Debug)]
pub struct SimClock {
    time: SimTime,
    skew_ms: AtomicI64,
}

impl SimClock {
    /// Steps the clock, as NTP or a person does: from now on it is ahead by so much.
    pub fn step_to(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        let skew = self.skew_ms.load(Ordering::Relaxed);
        UnixMillis(self.time.now().0.saturating_add_signed(skew))
    }
}

/// A worker's monotonic clock.
#[derive(Debug)]
pub struct SimMonotonic {
    time: SimTime,
    offset: Duration,
    percent: u32,
}

#[async_trait]
impl MonotonicClock for SimMonotonic {
    fn now(&self) -> Monotonic {
        Monotonic::since_origin(self.offset + self.time.elapsed() * self.percent / 100)
    }

    async fn sleep(&self, duration: Duration) {
        // Rounded up: a clock that runs slow must show at least so much on waking.
        let true_time = duration * 100 / self.percent + Duration::from_millis(1);
        tokio::time::sleep(true_time).await;
    }
}

/// Stops a worker as a suspended machine does: whatever becomes due in the meantime happens on waking.
#[derive(Clone, Debug, Default)]
pub struct Suspension(Arc<Mutex<Sleepers>>);

#[derive(Debug, Default)]
struct Sleepers {
    until: Option<Instant>,
    wakers: Vec<Waker>,
}

impl Suspension {
    /// Suspends everything that runs [under](Self::over) it for so long.
    pub fn suspend(&self, pause: Duration) {
        let until = Instant::now() + pause;
        self.0.lock().unwrap().until = Some(until);
        let asleep = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            let wakers = std::mem::take(&mut asleep.0.lock().unwrap().wakers);
            wakers.into_iter().for_each(Waker::wake);
        });
    }

    fn is_asleep(&self, context: &Context<'_>) -> bool {
        let mut sleepers = self.0.lock().unwrap();
        let asleep = sleepers.until.is_some_and(|until| Instant::now() < until);
        if asleep {
            sleepers.wakers.push(context.waker().clone());
        }
        asleep
    }

    /// A future that makes no progress while it is suspended.
    pub fn over<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let suspension = self.clone();
        let mut work: Pin<Box<F>> = Box::pin(work);
        std::future::poll_fn(move |context| {
            if suspension.is_asleep(context) {
                return Poll::Pending;
            }
            work.as_mut().poll(context)
        })
    }
}

//! Time that only goes forward: the one clock that leases are measured with, each worker by its own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;

/// A moment of one worker's own clock, since some origin of that clock. Moments of two clocks have nothing to do with
/// each other, and none is ever stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// So long after the clock's origin.
    #[must_use]
    pub const fn since_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time since the clock's origin.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment, so much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The clock that leases are measured with, and how to wait by it.
///
/// What it must keep: it never goes back, an NTP step does not move it, and it counts the time during which the machine was
/// suspended.
#[async_trait]
pub trait MonotonicClock: fmt::Debug + Send + Sync {
    /// The moment now.
    fn now(&self) -> Monotonic;

    /// Waits at least so long.
    async fn sleep(&self, duration: Duration);
}

/// The machine's own clock.
///
/// [`Instant`] stands still on Linux while the machine is suspended (`CLOCK_MONOTONIC`). A worker that sleeps through its
/// lease that way would believe in it on waking up. The kernel's uptime counts suspension, so the larger of both elapsed times is
/// taken.
#[derive(Debug)]
pub struct SystemMonotonic {
    started: Instant,
    uptime: Option<uptime::Uptime>,
    latest_nanos: AtomicU64,
}

impl SystemMonotonic {
    /// A clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            uptime: uptime::Uptime::open(),
            latest_nanos: AtomicU64::new(0),
        }
    }
}

impl Default for SystemMonotonic {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl MonotonicClock for SystemMonotonic {
    fn now(&self) -> Monotonic {
        let awake = self.started.elapsed();
        let with_sleep = self.uptime.as_ref().and_then(uptime::Uptime::elapsed);
        let nanos = awake.max(with_sleep.unwrap_or_default()).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let latest = self.latest_nanos.fetch_max(nanos, Ordering::SeqCst);
        Monotonic(Duration::from_nanos(nanos.max(latest)))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(target_os = "linux")]
mod uptime {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    /// The kernel's uptime, suspension included.
    #[derive(Debug)]
    pub(super) struct Uptime {
        // Held open: a process that has run out of file descriptors must still be able to tell the time.
        file: File,
        start: Duration,
    }

    impl Uptime {
        pub(super) fn open() -> Option<Self> {
            let file = File::open("/proc/uptime").ok()?;
            let start = read(&file)?;
            Some(Self { file, start })
        }

        pub(super) fn elapsed(&self) -> Option<Duration> {
            read(&self.file)?.checked_sub(self.start)
        }

        #[cfg(test)]
        pub(super) fn rewind(&mut self, by: Duration) {
            self.start = self.start.saturating_sub(by);
        }
    }

    fn read(file: &File) -> Option<Duration> {
        let mut bytes = [0; 64];
        let length = file.read_at(&mut bytes, 0).ok()?;
        parse(bytes.get(..length)?)
    }

    /// `350735.47 234388.90`: seconds up, with hundredths.
    pub(super) fn parse(bytes: &[u8]) -> Option<Duration> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
        let hundredths: u64 = hundredths.parse().ok().filter(|part| *part < 100)?;
        let seconds = Duration::from_secs(seconds.parse().ok()?);
        Some(seconds + Duration::from_millis(hundredths * 10))
    }
}

#[cfg(not(target_os = "linux"))]
mod uptime {
    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Uptime;

    impl Uptime {
        pub(super) fn open() -> Option<Self> {
            None
        }

        #[expect(clippy::unused_self, reason = "the same shape as on Linux")]
        pub(super) fn elapsed(&self) -> Option<Duration> {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machines_clock_moves_forward_only() {
        let clock = SystemMonotonic::new();
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        clock.sleep(Duration::from_millis(30)).await;
        assert!(clock.now().since(last) >= Duration::from_millis(30));
        assert_eq!(last.since(clock.now()), Duration::ZERO);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernels_uptime_is_read() {
        assert_eq!(
            uptime::parse(b"12.34 5.00\n"),
            Some(Duration::from_millis(12_340))
        );
        for odd in [&b""[..], b"12", b"12.x 1.0", b"-1.00 1", b"1.234 1"] {
            assert_eq!(uptime::parse(odd), None);
        }
        let up = uptime::Uptime::open().unwrap();
        assert!(up.elapsed().unwrap() < Duration::from_mins(1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn time_asleep_counts() {
        let mut clock = SystemMonotonic::new();
        // As if the machine had slept for three seconds since the clock was made.
        clock
            .uptime
            .as_mut()
            .unwrap()
            .rewind(Duration::from_secs(3));
        assert!(clock.now().elapsed() >= Duration::from_secs(3));
        assert!(clock.started.elapsed() < Duration::from_secs(3));
    }
}

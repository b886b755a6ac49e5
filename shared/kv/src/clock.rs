//! Where the time comes from: passed in, so that expiry can be tested without waiting.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time to a [`Store`](crate::Store).
///
/// Any `Fn() -> SystemTime` is a clock.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use highwater_kv::Clock;
///
/// let noon = || UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// assert_eq!(noon.now(), UNIX_EPOCH + Duration::from_secs(1_700_000_000));
/// ```
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The machine's own clock; the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl<F> Clock for F
where
    F: Fn() -> SystemTime + Send + Sync,
{
    fn now(&self) -> SystemTime {
        self()
    }
}

/// One reading of the clock, used for a whole request so that its condition and its answer agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now(Duration);

impl Now {
    /// Reads the clock. A time before 1970 counts as 1970.
    pub(crate) fn read(clock: &dyn Clock) -> Self {
        Self(
            clock
                .now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO),
        )
    }

    /// Whole seconds since 1970, rounded down.
    pub(crate) fn seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }

    /// Milliseconds since 1970, rounded down.
    pub(crate) fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// The `expires` of a record that shall live for `ttl`: rounded up, so that it never lives shorter.
    pub(crate) fn expiry_after(self, ttl: Duration) -> i64 {
        let end = self.0.saturating_add(ttl);
        let whole = i64::try_from(end.as_secs()).unwrap_or(i64::MAX);
        whole.saturating_add(i64::from(end.subsec_nanos() > 0))
    }

    /// Whether a record with this `expires` is gone: from that very second on.
    pub(crate) fn is_past(self, expires: Option<i64>) -> bool {
        expires.is_some_and(|expires| expires <= self.seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now::read(&|| UNIX_EPOCH + Duration::from_millis(millis))
    }

    #[test]
    fn a_record_lives_at_least_as_long_as_it_was_told() {
        assert_eq!(at(10_700).expiry_after(Duration::from_millis(1_500)), 13);
        assert_eq!(at(10_000).expiry_after(Duration::from_secs(2)), 12);
        assert_eq!(at(10_000).expiry_after(Duration::MAX), i64::MAX);
    }

    #[test]
    fn the_second_of_expiry_is_already_past() {
        assert!(!at(11_999).is_past(Some(12)));
        assert!(at(12_000).is_past(Some(12)));
        assert!(!at(12_000).is_past(None));
    }

    #[test]
    fn a_clock_before_1970_reads_as_1970() {
        let clock = || UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(Now::read(&clock).seconds(), 0);
    }
}

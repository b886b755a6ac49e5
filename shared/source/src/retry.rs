//! How often a sink is tried again, and how long in between.

use std::time::Duration;

use highwater_domain::backoff::Backoff;

/// The patience with a sink that fails in passing: waits with full jitter, each drawn from nothing up to a ceiling that doubles
/// and never passes the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    base: Duration,
    longest: Duration,
}

impl Default for Retry {
    /// Three attempts, with waits of up to 50 ms, 100 ms, … and never more than 5 s.
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Duration::from_millis(50),
            longest: Duration::from_secs(5),
        }
    }
}

impl Retry {
    /// Tries a record so often in all; at least once.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The ceiling of the first wait, and the highest.
    #[must_use]
    pub fn waits(mut self, base: Duration, longest: Duration) -> Self {
        (self.base, self.longest) = (base, longest);
        self
    }

    /// The wait before attempt `attempt` (from 1 for the second), or `None` when the attempts are used up. `random` is uniform
    /// in 0.0 .. 1.0.
    #[must_use]
    pub fn wait(&self, attempt: u32, random: f64) -> Option<Duration> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let backoff = Backoff {
            base_ms: ms(self.base),
            max_ms: ms(self.longest),
            attempts: self.attempts.saturating_sub(1),
        };
        let wait = backoff.wait_ms(attempt.saturating_sub(1), random)?;
        Some(Duration::from_millis(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits that the reference names are 50 to 75 ms and so on, up to half again over the maximum; these are true full
    /// jitter, between nothing and the ceiling.
    #[test]
    fn waits_are_spread_from_nothing_to_a_ceiling() {
        let retry = Retry::default().attempts(100);
        assert_eq!(retry.wait(1, 0.0), Some(Duration::ZERO));
        assert_eq!(retry.wait(1, 1.0), Some(Duration::from_millis(50)));
        assert_eq!(retry.wait(2, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(retry.wait(50, 1.0), Some(Duration::from_secs(5)));
        let three = Retry::default();
        assert!(three.wait(2, 0.5).is_some() && three.wait(3, 0.5).is_none());
        assert_eq!(Retry::default().attempts(0).wait(1, 0.5), None);
    }
}

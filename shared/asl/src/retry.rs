//! Retriers and catchers: which errors they match, and how long a retry waits.

use std::time::Duration;

use crate::error::names;
use crate::path::ResultPath;

/// One entry of `Retry`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrier {
    /// `ErrorEquals`.
    pub errors: Vec<String>,
    /// `IntervalSeconds`: the wait before the first retry.
    pub interval: Duration,
    /// `MaxAttempts`: retries, not counting the first attempt; 0 never retries.
    pub max_attempts: u32,
    /// `BackoffRate`: each wait is the one before it times this.
    pub backoff_rate: f64,
    /// `MaxDelaySeconds`: no wait is longer.
    pub max_delay: Option<Duration>,
    /// `JitterStrategy`.
    pub jitter: Jitter,
}

/// `JitterStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// Waits are exact.
    #[default]
    None,
    /// Each wait is anything between nothing and its full length.
    Full,
}

/// One entry of `Catch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catcher {
    /// `ErrorEquals`.
    pub errors: Vec<String>,
    /// Where `{"Error": …, "Cause": …}` goes in the state's raw input.
    pub result_path: ResultPath,
    /// The state that goes on.
    pub next: String,
}

impl Retrier {
    /// The wait before retry `attempt` (from 1), given `random` from 0 to below 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let longest = self.max_delay.unwrap_or(Duration::MAX).as_secs_f64();
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = (self.interval.as_secs_f64() * self.backoff_rate.powi(exponent)).min(longest);
        let jittered = match self.jitter {
            Jitter::None => full,
            Jitter::Full => full * random.clamp(0.0, 1.0),
        };
        Duration::try_from_secs_f64(jittered).unwrap_or(Duration::MAX)
    }
}

/// Whether `ErrorEquals` takes an error of this name.
///
/// `States.ALL` does not take `States.DataLimitExceeded`, and nothing takes `States.Runtime`: what
/// cannot be computed once cannot be computed at all.
#[must_use]
pub fn matches(errors: &[String], error: &str) -> bool {
    if error == names::RUNTIME {
        return false;
    }
    errors.iter().any(|pattern| match pattern.as_str() {
        names::ALL => error != names::DATA_LIMIT_EXCEEDED,
        names::TASK_FAILED => error != names::TIMEOUT && error != names::DATA_LIMIT_EXCEEDED,
        exact => exact == error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retrier() -> Retrier {
        Retrier {
            errors: vec!["Throttled".into()],
            interval: Duration::from_secs(2),
            max_attempts: 8,
            backoff_rate: 2.0,
            max_delay: Some(Duration::from_mins(1)),
            jitter: Jitter::None,
        }
    }

    #[test]
    fn waits_grow_by_the_rate_up_to_the_longest() {
        let waits: Vec<u64> = (1..=8).map(|n| retrier().delay(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn full_jitter_spreads_a_wait_over_its_whole_length() {
        let retrier = Retrier {
            jitter: Jitter::Full,
            ..retrier()
        };
        assert_eq!(retrier.delay(3, 0.0), Duration::ZERO);
        assert_eq!(retrier.delay(3, 0.25), Duration::from_secs(2));
        assert!(retrier.delay(3, 0.999_999) < Duration::from_secs(8));
        assert_eq!(
            retrier.delay(3, 7.0),
            Duration::from_secs(8),
            "never above the full wait"
        );
    }

    #[test]
    fn a_wait_never_overflows() {
        let unbounded = Retrier {
            max_delay: None,
            backoff_rate: 10.0,
            ..retrier()
        };
        assert_eq!(unbounded.delay(u32::MAX, 0.0), Duration::MAX);
    }

    #[test]
    fn wildcards_take_what_the_language_says() {
        let takes = |pattern: &str, error: &str| matches(&[pattern.to_owned()], error);
        assert!(takes("Throttled", "Throttled"));
        assert!(!takes("Throttled", "Throttle"));
        assert!(takes("States.ALL", "Throttled"));
        assert!(takes("States.ALL", "States.Timeout"));
        assert!(takes("States.ALL", "States.ResultPathMatchFailure"));
        assert!(takes("States.TaskFailed", "Throttled"));
        assert!(!takes("States.TaskFailed", "States.Timeout"));
        assert!(takes("States.Timeout", "States.Timeout"));
        assert!(!takes("States.ALL", "States.DataLimitExceeded"));
        assert!(takes(
            "States.DataLimitExceeded",
            "States.DataLimitExceeded"
        ));
        assert!(!takes("States.ALL", "States.Runtime"));
        assert!(!takes("States.Runtime", "States.Runtime"));
        assert!(!matches(&[], "Throttled"));
    }
}

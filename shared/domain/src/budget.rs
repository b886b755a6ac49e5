//! How much time an invocation has left.

use std::fmt::Debug;

use crate::ids::UnixMillis;

/// The clock, as a port: nothing in the core asks the system for the time.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> UnixMillis;
}

/// The time of one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    deadline: Option<UnixMillis>,
    margin_ms: u64,
}

/// The share of an invocation that is kept for ending it: encode and upload the last part, commit it.
const MARGIN_SHARE: u64 = 4;

/// The most that is kept, in milliseconds.
const MARGIN_MAX_MS: u64 = 30_000;

/// What is assumed where nobody tells how long an invocation lasts, in milliseconds.
const UNTOLD_MS: u64 = 60_000;

impl Budget {
    /// No deadline: a command on somebody's machine.
    pub const UNLIMITED: Self = Self {
        deadline: None,
        margin_ms: 0,
    };

    /// An invocation that began at `now` and is killed at `deadline`.
    ///
    /// A quarter of its time, at most half a minute, is kept in reserve.
    #[must_use]
    pub fn until(deadline: UnixMillis, now: UnixMillis) -> Self {
        let margin_ms = (deadline.since(now) / MARGIN_SHARE).min(MARGIN_MAX_MS);
        Self {
            deadline: Some(deadline),
            margin_ms,
        }
    }

    /// An invocation that began at `now`, and whose runtime says that it is killed at `deadline`.
    ///
    /// A moment that is over when the work begins cannot be true, because no runtime hands out an event that it has given
    /// up. Some local ones tell a constant, ten minutes into 1970. With a budget that is spent from the start a step would
    /// hand its work on for ever and do none of it, so a minute is assumed instead: if the invocation is killed earlier,
    /// what it has committed stays, and the workflow tries it again.
    #[must_use]
    pub fn of_invocation(deadline: UnixMillis, now: UnixMillis) -> Self {
        if deadline > now {
            return Self::until(deadline, now);
        }
        Self::until(UnixMillis(now.0.saturating_add(UNTOLD_MS)), now)
    }

    /// An equal share of what is left, for the next of `of` jobs that run one after the other.
    ///
    /// The reserve stays whole: it is the invocation's, not a job's.
    #[must_use]
    pub fn share(&self, now: UnixMillis, of: u64) -> Self {
        let share = self.left_ms(now).map(|left| left / of.max(1));
        Self {
            deadline: share.map(|share| UnixMillis(now.0.saturating_add(share))),
            margin_ms: 0,
        }
    }

    /// When the invocation is killed; `None` without a deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<UnixMillis> {
        self.deadline
    }

    /// Whether it is time to put down the pen.
    #[must_use]
    pub fn is_spent(&self, now: UnixMillis) -> bool {
        self.left_ms(now) == Some(0)
    }

    /// The milliseconds until then; `None` without a deadline.
    #[must_use]
    pub fn left_ms(&self, now: UnixMillis) -> Option<u64> {
        self.deadline
            .map(|deadline| deadline.since(now).saturating_sub(self.margin_ms))
    }

    /// Whether a wait of `ms` from `now` ends before it is time to stop.
    #[must_use]
    pub fn allows_wait(&self, now: UnixMillis, ms: u64) -> bool {
        self.left_ms(now).is_none_or(|left| ms < left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_but_never_more_than_half_a_minute() {
        let short = Budget::until(UnixMillis(4_000), UnixMillis(0));
        assert!(!short.is_spent(UnixMillis(2_999)) && short.is_spent(UnixMillis(3_000)));
        let long = Budget::until(UnixMillis(900_000), UnixMillis(0));
        assert!(!long.is_spent(UnixMillis(869_999)) && long.is_spent(UnixMillis(870_000)));
        assert!(
            long.allows_wait(UnixMillis(0), 869_999) && !long.allows_wait(UnixMillis(0), 870_000)
        );
    }

    #[test]
    fn a_deadline_that_is_over_is_none() {
        let now = UnixMillis(1_768_385_930_622);
        for over in [UnixMillis(600_000), UnixMillis(0), now] {
            let assumed = Budget::of_invocation(over, now);
            assert_eq!(assumed.left_ms(now), Some(45_000), "{over:?}");
        }
        let told = UnixMillis(now.0 + 1);
        assert_eq!(Budget::of_invocation(told, now), Budget::until(told, now));
        let endless = Budget::of_invocation(UnixMillis(0), UnixMillis(u64::MAX));
        assert!(endless.is_spent(UnixMillis(u64::MAX)));
    }

    #[test]
    fn a_share_is_of_what_is_left_and_what_one_leaves_is_for_the_others() {
        let whole = Budget::until(UnixMillis(280_000), UnixMillis(0));
        assert_eq!(whole.left_ms(UnixMillis(0)), Some(250_000));
        let first = whole.share(UnixMillis(0), 5);
        assert_eq!(first.left_ms(UnixMillis(0)), Some(50_000));
        // It was done after a second: four share the rest.
        let second = whole.share(UnixMillis(1_000), 4);
        assert_eq!(second.left_ms(UnixMillis(1_000)), Some(62_250));
        assert_eq!(
            whole
                .share(UnixMillis(250_000), 1)
                .left_ms(UnixMillis(250_000)),
            Some(0)
        );
        assert_eq!(Budget::UNLIMITED.share(UnixMillis(0), 3), Budget::UNLIMITED);
    }

    #[test]
    fn without_a_deadline_there_is_always_time() {
        assert!(!Budget::UNLIMITED.is_spent(UnixMillis(u64::MAX)));
        assert!(Budget::UNLIMITED.allows_wait(UnixMillis(0), u64::MAX));
    }
}

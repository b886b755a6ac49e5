//! How often and how much a reader may read of one shard.

use std::collections::VecDeque;
use std::time::Duration;

use crate::monotonic::Monotonic;

/// A reader's own limit on calls and bytes, kept so that it need not run into the service's.
///
/// Calls are counted over the last second. Bytes come from a bucket that fills steadily and holds what was not used: a
/// reader that has caught up may read a burst, a reader that is far behind is held to the rate. A read may be larger than what is
/// left; the next one then waits until it would have been paid for.
///
/// ```
/// use std::time::Duration;
/// use highwater_lease::{Monotonic, ReadBudget};
///
/// let mut budget = ReadBudget::new(5, 2_000_000, 10_000_000);
/// let now = Monotonic::default();
/// budget.call(now)?;
/// budget.read(10_000_000);
/// assert_eq!(budget.call(now), Err(Duration::from_secs(5)));
/// # Ok::<(), Duration>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadBudget {
    calls_per_second: usize,
    bytes_per_second: u64,
    burst: u64,
    calls: VecDeque<Monotonic>,
    left: u64,
    last_read: u64,
    filled: Monotonic,
}

impl ReadBudget {
    /// A full bucket. A limit of zero counts as one: a reader that may never read is a mistake that would look like an idle shard.
    #[must_use]
    pub fn new(calls_per_second: usize, bytes_per_second: u64, burst: u64) -> Self {
        Self {
            calls_per_second: calls_per_second.max(1),
            bytes_per_second: bytes_per_second.max(1),
            burst: burst.max(1),
            calls: VecDeque::new(),
            left: burst.max(1),
            last_read: 0,
            filled: Monotonic::default(),
        }
    }

    /// Asks for a call now.
    ///
    /// # Errors
    /// How long to wait before asking again. Nothing is counted then.
    pub fn call(&mut self, now: Monotonic) -> Result<(), Duration> {
        self.fill(now);
        if self.left == 0 {
            return Err(Duration::from_secs(
                self.last_read.div_ceil(self.bytes_per_second).max(1),
            ));
        }
        let second = Duration::from_secs(1);
        while self
            .calls
            .front()
            .is_some_and(|call| now.since(*call) >= second)
        {
            self.calls.pop_front();
        }
        if let Some(oldest) = self.calls.front()
            && self.calls.len() >= self.calls_per_second
        {
            return Err(second.saturating_sub(now.since(*oldest)));
        }
        self.calls.push_back(now);
        Ok(())
    }

    /// Takes note of what the call brought, in bytes.
    pub fn read(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        self.last_read = bytes;
    }

    fn fill(&mut self, now: Monotonic) {
        let seconds = now.since(self.filled).as_secs();
        if seconds > 0 {
            let gained = seconds.saturating_mul(self.bytes_per_second);
            self.left = self.left.saturating_add(gained).min(self.burst);
            // Whole seconds only: the rest counts for the next one.
            self.filled = self.filled.plus(Duration::from_secs(seconds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const MIB: u64 = 1 << 20;

    fn at(millis: u64) -> Monotonic {
        Monotonic::since_origin(Duration::from_millis(millis))
    }

    #[test]
    fn kc_11_the_byte_budget() {
        // What is left, what the last call read, seconds since, and the seconds to wait.
        for (left, last_read, seconds, wait) in [
            (2 * MB, 2 * MB - 1, 0, 0),
            (8, 2 * MB, 0, 0),
            (1, 2 * MB, 0, 0),
            (42, 1024, 1, 0),
            (0, 2 * MB, 0, 1),
            (0, 2 * MB + 1, 0, 2),
            (0, 10 * MIB, 0, 6),
            (0, 10 * MB, 0, 5),
            (0, 10 * MB, 5, 0),
        ] {
            let mut budget = ReadBudget::new(5, 2 * MB, 10 * MB);
            (budget.left, budget.last_read) = (left, last_read);
            let waits = budget.call(at(seconds * 1_000)).err().unwrap_or_default();
            assert_eq!(
                waits,
                Duration::from_secs(wait),
                "{left} {last_read} {seconds}"
            );
        }
    }

    #[test]
    fn kc_11_the_sixth_call_within_a_second_waits() {
        let mut budget = ReadBudget::new(5, 2 * MB, 10 * MB);
        for call in 0..5 {
            budget.call(at(call * 100)).unwrap();
        }
        assert_eq!(budget.call(at(500)), Err(Duration::from_millis(500)));
        assert_eq!(budget.call(at(999)), Err(Duration::from_millis(1)));
        budget.call(at(1_000)).unwrap();
        assert_eq!(budget.call(at(1_001)), Err(Duration::from_millis(99)));
    }

    #[test]
    fn the_bucket_fills_to_its_burst_and_no_further() {
        let mut budget = ReadBudget::new(1_000, 2 * MB, 10 * MB);
        budget.call(at(0)).unwrap();
        budget.read(10 * MB);
        assert!(budget.call(at(999)).is_err());
        budget.call(at(1_500)).unwrap();
        assert_eq!(budget.left, 2 * MB);
        budget.call(at(2_000)).unwrap();
        assert_eq!(budget.left, 4 * MB, "half seconds add up");
        budget.call(at(100_000)).unwrap();
        assert_eq!(budget.left, 10 * MB);
    }

    #[test]
    fn a_budget_of_nothing_still_reads() {
        let mut budget = ReadBudget::new(0, 0, 0);
        budget.call(at(0)).unwrap();
        budget.read(1);
        assert_eq!(budget.call(at(0)), Err(Duration::from_secs(1)));
        budget.call(at(1_000)).unwrap();
    }
}

//! Read capacity: how fast a scan may go, and how large its pages should be.
//!
//! DynamoDB tells the price of a page only afterwards, in `ConsumedCapacity`. So a request reserves what
//! it will probably cost, and the difference is settled when the answer is there. A page may cost more
//! than a second's allowance; the debt is then repaid by waiting, whole seconds at a time, which is the
//! grain in which DynamoDB itself measures a provisioned table.

use std::collections::VecDeque;

use crate::ids::UnixMillis;

/// A token bucket of read capacity units that may go into debt.
///
/// It starts with one second's worth, gains one second's worth at every whole second since its start, and
/// never holds more than that. Rates are fractional; a rate of 0 (or anything that is not a positive
/// number) is unlimited.
#[derive(Clone, Debug)]
pub struct CapacityBucket {
    units_per_second: f64,
    tokens: f64,
    started: UnixMillis,
    ticks: u64,
}

impl CapacityBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(units_per_second: f64, now: UnixMillis) -> Self {
        let units_per_second = if units_per_second > 0.0 {
            units_per_second
        } else {
            0.0
        };
        Self {
            units_per_second,
            tokens: units_per_second,
            started: now,
            ticks: 0,
        }
    }

    /// Whether requests are never held back.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.units_per_second == 0.0
    }

    /// Units per second; 0 is unlimited.
    #[must_use]
    pub fn units_per_second(&self) -> f64 {
        self.units_per_second
    }

    /// Reserves `estimate` units if a request may start now; otherwise the milliseconds to wait before asking again.
    ///
    /// A request may start whenever the bucket is not empty, so that one which costs more than a second's
    /// allowance starts at all.
    pub fn start(&mut self, now: UnixMillis, estimate: f64) -> Result<(), u64> {
        if self.is_unlimited() {
            return Ok(());
        }
        self.refill(now);
        if self.tokens > 0.0 {
            self.tokens -= estimate;
            return Ok(());
        }
        // The first tick that lifts the balance above zero; the next one if it is exactly zero.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative here, and saturating far beyond any real wait"
        )]
        let ticks = ((-self.tokens / self.units_per_second).floor() + 1.0) as u64;
        let at = self
            .started
            .0
            .saturating_add(self.ticks.saturating_add(ticks).saturating_mul(1000));
        Err(at.saturating_sub(now.0).max(1))
    }

    /// Whether [`start`](Self::start) would tell of a wait.
    pub fn must_wait(&mut self, now: UnixMillis) -> bool {
        self.start(now, 0.0).is_err()
    }

    /// Settles a request: `consumed` units are the price, `estimate` was reserved.
    pub fn settle(&mut self, estimate: f64, consumed: f64) {
        self.tokens += estimate - consumed;
    }

    fn refill(&mut self, now: UnixMillis) {
        let ticks = now.since(self.started) / 1000;
        let gained = ticks.saturating_sub(self.ticks) as f64 * self.units_per_second;
        self.tokens = (self.tokens + gained).min(self.units_per_second.max(self.tokens));
        self.ticks = self.ticks.max(ticks);
    }
}

/// How many recent items decide the page size.
const SIZES_KEPT: usize = 50;

/// The page limit before enough sizes are known.
const FIRST_LIMIT: u32 = 20;

/// Chooses `Limit` so that one request costs about one second's share of the capacity.
///
/// Without it, a slow scan would fetch a 1 MB page (128 units) and then sit in debt for half a minute,
/// too coarse to be kind to a small table.
#[derive(Clone, Debug, Default)]
pub struct PageLimit {
    sizes: VecDeque<u64>,
}

impl PageLimit {
    /// Learns the size of one item, in bytes by DynamoDB's rule.
    pub fn learn(&mut self, item_bytes: u64) {
        if self.sizes.len() == SIZES_KEPT {
            self.sizes.pop_front();
        }
        self.sizes.push_back(item_bytes);
    }

    /// The `Limit` for the next request of one worker, whose share is `units_per_second`; `None` sends none.
    #[must_use]
    pub fn next(&self, units_per_second: f64, consistent: bool) -> Option<u32> {
        if units_per_second <= 0.0 {
            return None;
        }
        if self.sizes.len() < SIZES_KEPT {
            return Some(FIRST_LIMIT);
        }
        let mut sizes: Vec<u64> = self.sizes.iter().copied().collect();
        sizes.sort_unstable();
        let median = sizes.get(sizes.len() / 2).copied().unwrap_or(1);
        Some(limit_for(median, units_per_second, consistent))
    }
}

/// The number of items of `median` bytes that cost `units_per_second`.
///
/// A strongly consistent unit reads 4 KiB, an eventually consistent one twice as much:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>.
#[must_use]
pub fn limit_for(median_item_bytes: u64, units_per_second: f64, consistent: bool) -> u32 {
    let items = (4096.0 / median_item_bytes.max(1) as f64 * units_per_second).floor();
    let limit = if consistent { items } else { items * 2.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a limit beyond 32 bits is no limit: the cast saturates"
    )]
    let limit = limit as u32;
    limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When requests of a given price would start, in seconds, if they took no time.
    fn starts(rate: f64, price: f64, requests: usize, reserve: bool) -> Vec<f64> {
        let mut bucket = CapacityBucket::new(rate, UnixMillis(1_000_000));
        let mut now = UnixMillis(1_000_000);
        let mut estimate = 0.0;
        let mut starts = Vec::new();
        while starts.len() < requests {
            match bucket.start(now, estimate) {
                Ok(()) => {
                    starts.push((now.0 - 1_000_000) as f64 / 1000.0);
                    bucket.settle(estimate, price);
                    estimate = if reserve { price } else { 0.0 };
                }
                Err(wait) => now.0 += wait,
            }
        }
        starts
    }

    #[test]
    fn dd_04_the_limit_formula() {
        let per_worker = |rate: f64, workers: f64| rate / workers;
        assert_eq!(limit_for(10, per_worker(1.0, 1.0), true), 409);
        assert_eq!(limit_for(10_000, per_worker(10.0, 1.0), true), 4);
        assert_eq!(limit_for(10_000, per_worker(1.0, 1.0), true), 1);
        assert_eq!(limit_for(10_000, per_worker(10.0, 2.0), true), 2);
        assert_eq!(limit_for(10, per_worker(1.0, 1.0), false), 818);
    }

    #[test]
    fn dd_07_ten_units_a_second_at_five_a_page() {
        let expected = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0];
        assert_eq!(starts(10.0, 5.0, 8, false), expected);
        assert_eq!(
            starts(10.0, 5.0, 8, true),
            expected,
            "reserving ahead changes nothing for one worker"
        );
    }

    #[test]
    fn fractional_rates_work() {
        assert_eq!(starts(0.5, 1.0, 4, true), [0.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn a_dear_page_is_repaid_before_the_next() {
        assert_eq!(starts(5.0, 128.0, 3, true), [0.0, 25.0, 51.0]);
    }

    #[test]
    fn zero_is_unlimited() {
        let mut bucket = CapacityBucket::new(0.0, UnixMillis(0));
        for _ in 0..10_000 {
            assert_eq!(bucket.start(UnixMillis(0), 128.0), Ok(()));
            bucket.settle(128.0, 128.0);
        }
        assert_eq!(
            PageLimit::default().next(0.0, true),
            None,
            "and sends no Limit at all"
        );
    }

    #[test]
    fn reserving_keeps_a_crowd_from_starting_at_once() {
        let mut bucket = CapacityBucket::new(10.0, UnixMillis(0));
        let started = (0..100)
            .filter(|_| bucket.start(UnixMillis(0), 5.0).is_ok())
            .count();
        assert_eq!(started, 2);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut bucket = CapacityBucket::new(10.0, UnixMillis(5_000));
        bucket.start(UnixMillis(5_000), 10.0).unwrap();
        let wait = bucket.start(UnixMillis(1_000), 10.0).unwrap_err();
        assert_eq!(wait, 5_000);
    }

    #[test]
    fn the_limit_follows_the_median_of_the_last_fifty() {
        let mut limit = PageLimit::default();
        for _ in 0..49 {
            limit.learn(10_000);
        }
        assert_eq!(limit.next(10.0, true), Some(20), "not enough is known yet");
        limit.learn(10_000);
        assert_eq!(limit.next(10.0, true), Some(4));
        for _ in 0..50 {
            limit.learn(10);
        }
        assert_eq!(
            limit.next(10.0, true),
            Some(4096),
            "old sizes are forgotten, oldest first"
        );
    }
}

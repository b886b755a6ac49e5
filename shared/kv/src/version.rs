//! Version numbers: where a new record's count begins, so that no version is ever given out twice.
//!
//! A record that is deleted and created again must not come back under a version that somebody still
//! holds from its former life (the ABA problem). A count that restarts at 1 does exactly that. So a
//! new record starts at `milliseconds since 1970 × 2^20 + 20 random bits`: above everything that a
//! record created earlier can have reached, because no item of a DynamoDB table takes a million
//! updates in a millisecond. Clocks may disagree, hence two more guards: a store starts new records
//! above every version that it has itself read or written, and the random bits make an exact repeat
//! between two stores a matter of one in a million even in the millisecond that a wrong clock repeats.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Now;

const RANDOM_BITS: u32 = 20;
/// Versions from here on are foreign, not ours: they must not push our own counts to the end of `i64`.
const CEILING: i64 = 1 << 62;

/// Draws the first version of new records.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    highest_seen: AtomicI64,
}

impl Versions {
    /// Remembers a version that was read or written.
    pub(crate) fn saw(&self, version: i64) {
        if version < CEILING {
            self.highest_seen.fetch_max(version, Ordering::Relaxed);
        }
    }

    /// The first version of a record created now; above every version seen or drawn before.
    pub(crate) fn draw(&self, now: Now) -> i64 {
        let millis = now.millis().clamp(1, CEILING >> RANDOM_BITS);
        let from_clock = (millis << RANDOM_BITS) + random_step();
        let mut seen = self.highest_seen.load(Ordering::Relaxed);
        loop {
            let next = from_clock.max(seen.saturating_add(1 + random_step()));
            match self.highest_seen.compare_exchange_weak(
                seen,
                next.min(CEILING),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return next,
                Err(moved) => seen = moved,
            }
        }
    }
}

fn random_step() -> i64 {
    fastrand::i64(0..1 << RANDOM_BITS)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> Now {
        Now::read(&|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn draws_grow_even_when_the_clock_stands_still_or_goes_back() {
        let versions = Versions::default();
        let mut last = 0;
        for second in [1_700_000_000, 1_700_000_000, 5, 0, 1_700_000_001] {
            let next = versions.draw(at(second));
            assert!(next > last, "{next} after {last}");
            last = next;
        }
    }

    #[test]
    fn a_draw_is_above_every_version_seen() {
        let versions = Versions::default();
        versions.saw(CEILING - 10);
        assert!(versions.draw(at(1)) > CEILING - 10);
    }

    #[test]
    fn a_foreign_version_at_the_end_of_the_range_does_no_harm() {
        let versions = Versions::default();
        versions.saw(i64::MAX);
        let drawn = versions.draw(at(1_700_000_000));
        assert!(drawn > 0 && drawn < CEILING);
    }

    #[test]
    fn a_later_store_starts_above_a_thousand_updates_a_millisecond() {
        let earlier = Versions::default().draw(at(1_700_000_000));
        let later = Versions::default().draw(at(1_700_000_001));
        assert!(later - earlier > 1_000 * 1_000);
    }
}

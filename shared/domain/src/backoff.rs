//! How long to wait before trying again.

/// Exponential backoff with full jitter: a random wait between nothing and a ceiling that doubles.
///
/// Full jitter spreads a crowd of workers that were throttled together better than any fixed schedule:
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait, in milliseconds.
    pub base_ms: u64,
    /// The highest ceiling, in milliseconds.
    pub max_ms: u64,
    /// How many times to try again before giving up.
    pub attempts: u32,
}

impl Backoff {
    /// For calls to DynamoDB while scanning: gives up after about three minutes without a page.
    pub const SCAN: Self = Self {
        base_ms: 50,
        max_ms: 20_000,
        attempts: 16,
    };

    /// The wait before retry number `retry` (from 0), or `None` when it is time to give up.
    ///
    /// `random` is uniform in 0.0 .. 1.0.
    #[must_use]
    pub fn wait_ms(&self, retry: u32, random: f64) -> Option<u64> {
        if retry >= self.attempts {
            return None;
        }
        let ceiling = self
            .base_ms
            .saturating_mul(1_u64.checked_shl(retry).unwrap_or(u64::MAX))
            .min(self.max_ms);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a product of a u64 and a factor within 0..=1"
        )]
        let wait = (ceiling as f64 * random.clamp(0.0, 1.0)) as u64;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_below_a_ceiling_that_doubles_and_then_stays() {
        let backoff = Backoff {
            base_ms: 50,
            max_ms: 300,
            attempts: 100,
        };
        let ceilings: Vec<_> = (0..5)
            .map(|retry| backoff.wait_ms(retry, 1.0).unwrap())
            .collect();
        assert_eq!(ceilings, [50, 100, 200, 300, 300]);
        assert_eq!(backoff.wait_ms(90, 1.0), Some(300), "no overflow");
        assert_eq!(backoff.wait_ms(2, 0.0), Some(0));
        assert_eq!(backoff.wait_ms(2, 0.5), Some(100));
    }

    #[test]
    fn it_gives_up() {
        assert_eq!(
            Backoff {
                base_ms: 1,
                max_ms: 1,
                attempts: 3
            }
            .wait_ms(3, 0.5),
            None
        );
    }
}

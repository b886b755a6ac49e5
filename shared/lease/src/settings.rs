//! How long a lease lasts, how often it is renewed, how many a worker takes.

use std::time::Duration;

use crate::error::Error;

/// The times and limits of a worker. All workers of a group must use the same [`lease`](Self::lease); the rest is each
/// worker's own business.
///
/// ```
/// use std::time::Duration;
/// use highwater_lease::Settings;
///
/// let patient = Settings { lease: Duration::from_secs(60), ..Settings::default() };
/// patient.validate()?;
/// # Ok::<(), highwater_lease::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a silent owner keeps its lease. Default 30 s.
    pub lease: Duration,
    /// How often an owner renews; also the longest that one request may take. Default 10 s.
    pub renew_every: Duration,
    /// How long before the end of its lease an owner stops to trust it. Default 5 s.
    pub margin: Duration,
    /// The most leases that a worker takes. Default: no limit.
    pub max_leases: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            renew_every: Duration::from_secs(10),
            margin: Duration::from_secs(5),
            max_leases: usize::MAX,
        }
    }
}

impl Settings {
    /// Checks that an owner that misses one renewal keeps its lease, and that every time is a time.
    ///
    /// # Errors
    /// [`Error::Settings`] says which rule is broken.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason| Err(Error::Settings { reason });
        if self.renew_every.is_zero() {
            return refuse("the renewal interval is zero");
        }
        if self.max_leases == 0 {
            return refuse("a worker that may hold no lease has no work");
        }
        let trusted = self.lease.saturating_sub(self.margin);
        if trusted < self.renew_every.saturating_mul(2) {
            return refuse(
                "the lease less its margin is shorter than two renewal intervals: one late renewal would lose it",
            );
        }
        Ok(())
    }

    /// How long an owner may trust a lease, from the moment at which it sent its last good renewal.
    #[must_use]
    pub fn trusted(&self) -> Duration {
        self.lease.saturating_sub(self.margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_lose_leases_are_an_error_and_no_panic() {
        let good = Settings::default();
        good.validate().unwrap();
        assert_eq!(good.trusted(), Duration::from_secs(25));
        let edge = Settings {
            margin: Duration::from_secs(10),
            ..good
        };
        edge.validate().unwrap();
        for bad in [
            Settings {
                renew_every: Duration::ZERO,
                ..good
            },
            Settings {
                renew_every: Duration::from_secs(13),
                ..good
            },
            Settings {
                margin: Duration::from_secs(31),
                ..good
            },
            Settings {
                lease: Duration::ZERO,
                ..good
            },
            Settings {
                max_leases: 0,
                ..good
            },
        ] {
            assert!(
                matches!(bad.validate(), Err(Error::Settings { .. })),
                "{bad:?}"
            );
        }
    }
}

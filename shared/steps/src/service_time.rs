//! DynamoDB's own time, as far as its answers have told it: what incidents and the mark are dated with.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater_domain::budget::Clock;
use highwater_domain::ids::UnixMillis;

/// A worker's clock may be an hour wrong, and the interval of a loss must not be. `GetRecords` answers with a `Date`; from the
/// first one on this shows the service's time, before it the worker's own. Clones share what was heard.
#[derive(Clone)]
pub struct ServiceTime {
    clock: Arc<dyn Clock>,
    ahead_ms: Arc<AtomicI64>,
}

impl ServiceTime {
    /// A time that has not heard from the service yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            ahead_ms: Arc::default(),
        }
    }

    /// Takes note of an answer's date.
    pub fn heard(&self, at: UnixMillis) {
        let here = self.clock.now();
        let ahead = i64::try_from(at.0).unwrap_or(i64::MAX) - i64::try_from(here.0).unwrap_or(0);
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        UnixMillis(self.clock.now().0.saturating_add_signed(ahead))
    }
}

impl fmt::Debug for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        f.debug_struct("ServiceTime")
            .field("ahead_ms", &ahead_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct At(u64);

    impl Clock for At {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0)
        }
    }

    /// Case 42: what a worker's own clock shows does not matter once the service has answered.
    #[test]
    fn case_42_the_service_tells_the_time() {
        for here in [1_000, 5_000_000, 9_000_000] {
            let time = ServiceTime::new(Arc::new(At(here)));
            assert_eq!(time.now(), UnixMillis(here));
            time.clone().heard(UnixMillis(5_000_000));
            assert_eq!(time.now(), UnixMillis(5_000_000));
        }
    }
}

//! Calls that fail by number: one, or that one and all after it, as after a crash.

use std::sync::Mutex;

use async_trait::async_trait;
use highwater_domain::failure::{Failure, FailureKind};

use crate::intercepted::{Call, Interceptor, Ticket};

/// Where in a call the failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The call does not happen.
    Before,
    /// The call takes effect and its answer is lost.
    After,
}

/// Fails the n-th matching call to the ports that share it.
#[derive(Debug)]
pub struct Failing {
    operation: Option<&'static str>,
    nth: u64,
    moment: Moment,
    kind: FailureKind,
    forever: bool,
    seen: Mutex<u64>,
}

impl Failing {
    /// The `nth` matching call (from 1) fails once, with `kind`.
    #[must_use]
    pub fn once(nth: u64, moment: Moment, kind: FailureKind) -> Self {
        Self {
            operation: None,
            nth,
            moment,
            kind,
            forever: false,
            seen: Mutex::new(0),
        }
    }

    /// The process dies at its `nth` call (from 1): that call and every later one fails.
    #[must_use]
    pub fn crash(nth: u64, moment: Moment) -> Self {
        Self {
            forever: true,
            ..Self::once(nth, moment, FailureKind::Other)
        }
    }

    /// Counts and fails only calls of this method.
    #[must_use]
    pub fn only(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Whether the failure has struck: a test that loops over `nth` is through when it has not.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        *self.seen.lock().unwrap() >= self.nth
    }

    fn matches(&self, call: &Call) -> bool {
        self.operation.is_none_or(|only| only == call.operation)
    }

    fn failure(&self, call: &Call, what: &str) -> Failure {
        Failure::new(
            self.kind,
            call.operation,
            call.resource.clone(),
            format!("injected: {what}"),
        )
    }
}

#[async_trait]
impl Interceptor for Failing {
    async fn before(&self, call: &Call) -> Result<Ticket, Failure> {
        if !self.matches(call) {
            return Ok(0);
        }
        let number = {
            let mut seen = self.seen.lock().unwrap();
            *seen += 1;
            *seen
        };
        let strikes = number == self.nth && self.moment == Moment::Before;
        if strikes || (self.forever && number > self.nth) {
            return Err(self.failure(call, "the call did not happen"));
        }
        Ok(number)
    }

    async fn after(&self, call: &Call, number: Ticket) -> Result<(), Failure> {
        if number == self.nth && self.moment == Moment::After {
            return Err(self.failure(call, "the answer was lost"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use highwater_domain::object_store::{Creation, ObjectStore};

    use super::*;
    use crate::fake_store::{FakeStore, object};
    use crate::intercepted::Intercepted;

    #[tokio::test]
    async fn only_the_nth_call_fails_before_or_after_its_effect() {
        for moment in [Moment::Before, Moment::After] {
            let store = Arc::new(FakeStore::new());
            let failing = Arc::new(Failing::once(2, moment, FailureKind::Transient).only("create"));
            let broken = Intercepted::new(&store, &failing);
            assert_eq!(
                broken.create(object("a", "1")).await.unwrap(),
                Creation::Created
            );
            assert!(broken.read("b").await.unwrap().is_none());
            assert!(!failing.has_struck());
            let failure = broken.create(object("b", "1")).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Transient);
            assert!(failing.has_struck());
            let took_effect = store.read("b").await.unwrap().is_some();
            assert_eq!(took_effect, moment == Moment::After);
            assert!(broken.create(object("c", "1")).await.is_ok());
        }
    }

    #[tokio::test]
    async fn after_a_crash_nothing_works() {
        let store = Arc::new(FakeStore::new());
        let crash = Arc::new(Failing::crash(2, Moment::After));
        let broken = Intercepted::new(&store, &crash);
        assert!(broken.create(object("a", "1")).await.is_ok());
        assert!(broken.create(object("b", "1")).await.is_err());
        assert!(broken.create(object("c", "1")).await.is_err());
        assert!(broken.read("a").await.is_err());
        assert_eq!(store.keys(), ["a", "b"]);
    }
}

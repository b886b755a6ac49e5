//! Keeps a log of the calls to ports.

use std::sync::Mutex;

use async_trait::async_trait;
use highwater_domain::failure::Failure;

use crate::intercepted::{Call, Interceptor, Ticket};

/// Remembers every call, in the order in which they began.
#[derive(Debug, Default)]
pub struct Counting(Mutex<Vec<Call>>);

impl Counting {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    /// How many calls of one method.
    #[must_use]
    pub fn count(&self, operation: &str) -> usize {
        let calls = self.0.lock().unwrap();
        calls
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }

    /// How many calls of any method.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[async_trait]
impl Interceptor for Counting {
    async fn before(&self, call: &Call) -> Result<Ticket, Failure> {
        self.0.lock().unwrap().push(call.clone());
        Ok(0)
    }

    async fn after(&self, _call: &Call, _ticket: Ticket) -> Result<(), Failure> {
        Ok(())
    }
}

//! What an onlooker of an execution is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::error::ExecutionFailed;

/// Something that happened. `item` is the index in the innermost Map's list, inside one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A state began.
    Entered {
        /// The state.
        state: &'a str,
        /// The Map's item.
        item: Option<usize>,
        /// The state's raw input.
        input: &'a Value,
    },
    /// A state ended well.
    Exited {
        /// The state.
        state: &'a str,
        /// The Map's item.
        item: Option<usize>,
        /// What the next state gets.
        output: &'a Value,
    },
    /// A state failed and will be tried again.
    Retrying {
        /// The state.
        state: &'a str,
        /// The Map's item.
        item: Option<usize>,
        /// The failure.
        failure: &'a ExecutionFailed,
        /// Which retry of the retrier that matched this is, from 1.
        attempt: u32,
        /// The pause before it.
        delay: Duration,
    },
    /// A state failed, and a catcher leads on.
    Caught {
        /// The state.
        state: &'a str,
        /// The Map's item.
        item: Option<usize>,
        /// The failure.
        failure: &'a ExecutionFailed,
        /// The state that goes on.
        next: &'a str,
    },
    /// A state failed for good.
    Failed {
        /// The state.
        state: &'a str,
        /// The Map's item.
        item: Option<usize>,
        /// The failure.
        failure: &'a ExecutionFailed,
    },
}

/// Is told of every event, on the walking task: it must not block.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

//! The end of all trouble: after it nothing goes wrong any more, so nothing may be stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_testkit::simulation::Trouble;

/// Whether trouble is over. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Quiet(Arc<AtomicBool>);

impl Quiet {
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_quiet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The plan's trouble, while there is any.
    pub fn or(&self, trouble: Trouble) -> Trouble {
        if self.is_quiet() {
            Trouble::NONE
        } else {
            trouble
        }
    }
}

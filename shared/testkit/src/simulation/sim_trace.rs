//! What happened in a run, for the replay of a seed that failed.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::sim_clock::SimTime;

/// A run's events in their order. Off unless somebody asks: a seed that fails is run again with it.
#[derive(Clone)]
pub struct SimTrace {
    time: SimTime,
    events: Option<Arc<Mutex<Vec<String>>>>,
}

impl fmt::Debug for SimTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTrace").finish_non_exhaustive()
    }
}

impl SimTrace {
    /// A trace that keeps nothing.
    #[must_use]
    pub fn off(time: SimTime) -> Self {
        Self { time, events: None }
    }

    /// A trace that keeps everything.
    #[must_use]
    pub fn on(time: SimTime) -> Self {
        let events = Some(Arc::default());
        Self { time, events }
    }

    /// Keeps an event, with the seconds since the run began.
    pub fn note(&self, event: impl FnOnce() -> String) {
        if let Some(events) = &self.events {
            let at = self.time.elapsed();
            let line = format!("{:>10.3} s  {}", at.as_secs_f64(), event());
            events.lock().unwrap().push(line);
        }
    }

    /// Everything that was kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let events = self.events.as_ref();
        events.map_or_else(Vec::new, |events| events.lock().unwrap().clone())
    }
}

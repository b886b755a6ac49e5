//! How a shard is read, and what becomes of it.

use std::time::Duration;

use crate::log_sink::Sunk;

/// How a shard is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollSettings {
    /// How long a record waits for others before it is written.
    pub flush: Duration,
    /// Two answers about a shard's children lie this far apart before they are believed.
    pub apart: Duration,
    /// Whether to give the lease back once the shard is idle.
    pub until_silent: bool,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// The shard is read to its end, and its children are registered.
    Ended,
    /// It is idle; the lease was given back.
    Silent,
    /// A stop was asked for; the lease was given back.
    Stopped,
    /// Another worker asked for the lease and has it.
    HandedOver,
    /// The lease was lost: somebody else goes on from the stored position.
    Lost,
}

/// What became of reading one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollCounts {
    /// Records read, each once.
    pub records: u64,
    /// Records that came again.
    pub repeated: u64,
    /// Incidents that nobody had seen before.
    pub incidents: u64,
    /// What the sink did.
    pub sunk: Sunk,
}

impl PollCounts {
    /// Adds another shard's.
    pub fn add(&mut self, more: &Self) {
        self.records += more.records;
        self.repeated += more.repeated;
        self.incidents += more.incidents;
        self.sunk.add(&more.sunk);
    }
}

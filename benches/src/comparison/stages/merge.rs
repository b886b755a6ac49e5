//! A table's backup and logs of two sizes beside it, to be merged into what the table was at a second.

use super::{ServerClock, Setup, StageError, Trouble};
use crate::changes::Keys;
use crate::comparison::contenders::Contender;
use crate::comparison::figures::Cost;
use crate::data_set::DataSet;
use crate::second::{LogBench, Stage};

/// How many keys the log is about.
const KEYS: Keys = Keys::Few(100_000);
/// The table beside the log: in the slope between two logs it cancels out.
const TABLE_BYTES: u64 = 100_000_000;

/// Backup and log, for each size.
#[derive(Debug)]
pub struct MergeStage(Vec<Stage>);

impl MergeStage {
    /// Makes both.
    pub async fn set(setup: &Setup, set: DataSet) -> Result<Self, StageError> {
        let mut stages = Vec::new();
        let sizes = setup.sizes_of(Contender::Materialize);
        for log_bytes in sizes {
            let bench = LogBench {
                program: &setup.highwater,
                set,
                // A quick run has a small table, too.
                table_bytes: TABLE_BYTES.min(sizes[0]),
                log_bytes,
                keys: KEYS,
            };
            stages.push(bench.prepare().await?);
        }
        Ok(Self(stages))
    }

    /// Merges once.
    pub async fn run(&self, contender: Contender, at: usize) -> Result<Cost, Trouble> {
        let stage = self.0.get(at).ok_or(Trouble::NotInstalled)?;
        let clock = ServerClock::start()?;
        let usage = match contender {
            Contender::Materialize => stage.materialize().await?,
            _ => stage.restore().await?,
        };
        let cost = clock.cost(&usage, stage.log.plain_bytes, stage.stored.bytes)?;
        Ok(cost)
    }
}

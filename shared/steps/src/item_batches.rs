//! Items on their way: gathered into batches, several of which are written at once and accounted for in order.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use highwater_domain::item_lines::Record;
use highwater_domain::key_print::KeyPrint;
use highwater_domain::restore::OnExisting;
use highwater_domain::table_writer::MAX_BATCH_OPS;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::error::StepError;
use crate::write_items::{BatchOutcome, ItemWriter, NumberedOp, Reject, Unfinished};

/// A batch ends at so many bytes: enough to be worth a request, little enough that several fit a small function.
const BATCH_BYTES: usize = 2 << 20;

/// A batch ends after so many lines, even if none of them passes the filter, so that the checkpoint moves.
const BATCH_LINES: u64 = 10_000;

/// Batches that are written at once by one worker.
const BATCHES_IN_FLIGHT: usize = 8;

/// With so many bytes on their way no further batch is begun: items lie in memory twice then, as read and as sent.
const BYTES_IN_FLIGHT: usize = 1 << 20;

/// The most batches at once where every item is a request of its own.
const SINGLES_IN_FLIGHT: usize = 2;

/// Consecutive lines of a file, sorted out.
#[derive(Debug, Default)]
pub struct Draft {
    /// The last of its lines, from 1.
    pub last_line: u64,
    /// Lines with a record on them.
    pub read: u64,
    /// Their bytes.
    pub plain_bytes: u64,
    /// How many did not pass the filter.
    pub filtered: u64,
    /// How many the log knows better.
    pub superseded: u64,
    /// Those that no table of this key takes.
    pub rejects: Vec<Reject>,
    ops: Vec<NumberedOp>,
    op_bytes: usize,
}

impl Draft {
    /// Whether it should be written before anything is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ops.len() == MAX_BATCH_OPS || self.op_bytes >= BATCH_BYTES || self.read >= BATCH_LINES
    }

    /// Whether an item of this key is in it.
    #[must_use]
    pub fn holds(&self, print: &KeyPrint) -> bool {
        self.ops.iter().any(|it| it.print == *print)
    }

    /// Counts a record that did not pass the filter.
    pub fn pass_over(&mut self, record: &Record) {
        self.count(record);
        self.filtered += 1;
    }

    /// Counts a record that the log knows better.
    pub fn supersede(&mut self, record: &Record) {
        self.count(record);
        self.superseded += 1;
    }

    /// Adds a record that no table of this key takes.
    pub fn reject(&mut self, record: Record, reason: String) {
        self.count(&record);
        self.op_bytes += record.op.body().len();
        self.rejects.push(Reject {
            line: record.line,
            reason,
            op: record.op.detached(),
        });
    }

    /// Adds a record to be written.
    pub fn push(&mut self, record: Record, print: KeyPrint) {
        self.count(&record);
        self.op_bytes += record.op.body().len();
        self.ops.push(NumberedOp {
            line: record.line,
            print,
            op: record.op,
        });
    }

    fn count(&mut self, record: &Record) {
        self.last_line = record.line;
        self.read += 1;
        self.plain_bytes += record.plain_bytes;
    }
}

/// A batch on its way.
struct Written {
    draft: Draft,
    prints: Vec<KeyPrint>,
    outcome: Writing,
}

/// A write that goes on while the file is read, and ends with this value.
struct Writing(JoinHandle<Result<BatchOutcome, Unfinished>>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The batches that are being written. They end in any order and are accounted for in that of the file, so that
/// a checkpoint always says: everything up to this line.
pub struct InFlight {
    writer: Arc<ItemWriter>,
    batches: VecDeque<Written>,
    prints: HashSet<KeyPrint>,
    most: usize,
    /// Of the items.
    bytes: usize,
}

impl InFlight {
    /// Nothing yet, written by `writer`.
    #[must_use]
    pub fn new(writer: ItemWriter, on_existing: OnExisting) -> Self {
        Self {
            writer: Arc::new(writer),
            batches: VecDeque::new(),
            prints: HashSet::new(),
            bytes: 0,
            most: match on_existing {
                OnExisting::Overwrite => BATCHES_IN_FLIGHT,
                OnExisting::Skip => SINGLES_IN_FLIGHT,
            },
        }
    }

    /// Whether a batch must end before another one begins.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.batches.len() >= self.most || self.bytes >= BYTES_IN_FLIGHT
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether an item of this key is being written.
    #[must_use]
    pub fn holds(&self, print: &KeyPrint) -> bool {
        self.prints.contains(print)
    }

    /// Begins to write a batch as soon as the table's capacity allows; an empty one is none.
    ///
    /// `false` if time is up or a stop was asked for: then nothing of it is sent. The batches are let in here, one
    /// after the other, and not each in its task, where a later one might go and an earlier one be stopped: it would
    /// be in the table and could not be accounted for.
    pub async fn start(&mut self, mut draft: Draft) -> bool {
        if draft.read == 0 {
            return true;
        }
        let ops = std::mem::take(&mut draft.ops);
        let Some(admitted) = self.writer.admit_all(ops).await else {
            return false;
        };
        let ops = &admitted.0;
        let prints: Vec<KeyPrint> = ops.iter().map(|it| it.print).collect();
        self.prints.extend(&prints);
        self.bytes += draft.op_bytes;
        let writer = Arc::clone(&self.writer);
        let write = async move { writer.write(admitted).await };
        self.batches.push_back(Written {
            draft,
            prints,
            outcome: Writing(tokio::spawn(write.in_current_span())),
        });
        true
    }

    /// What became of the earliest batch; `None` if there is none.
    pub async fn next(&mut self) -> Option<(Draft, Result<BatchOutcome, Unfinished>)> {
        let mut written = self.batches.pop_front()?;
        self.bytes -= written.draft.op_bytes;
        let outcome = match (&mut written.outcome.0).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let lost = format!("the write of a batch was lost: {error}");
                Err(StepError::Internal(lost).into())
            }
        };
        for print in &written.prints {
            self.prints.remove(print);
        }
        Some((written.draft, outcome))
    }
}

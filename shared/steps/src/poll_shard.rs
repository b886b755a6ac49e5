//! Reads one shard under its lease: from its position to its end, or until there is a reason to stop.
//!
//! Records are read, made durable, and only then is the position moved behind them, in this order, so that a crash
//! between any two steps repeats something and skips nothing. An iterator always begins at a sequence number, which fails
//! where its record is gone; what is left is taken only after the gap is on record.

mod durable;

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::log_facts::Ending;
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{RecordPage, StreamError};
use highwater_lease::{Error as LeaseError, HeldLease};
use tokio::time::Instant;

use crate::error::StepError;
use crate::live_deps::LiveDeps;
use crate::log_sink::LogSink;
use crate::polled::{PollCounts, PollSettings, Polled};
use crate::shard_batch::ShardBatch;
use crate::shard_end;
use crate::shard_gap;
use crate::shard_reader::{Answer, ShardReader};
use crate::shard_rows::ShardRow;
use crate::shard_work::{Halt, Order, ShardWork};
use crate::stream_log::StreamLog;

/// The pause between two calls while records come: four calls a second, of the five that DynamoDB allows.
const BUSY: Duration = Duration::from_millis(250);

/// The longest pause, after some empty answers.
const IDLE: Duration = Duration::from_secs(5);

/// Reads the shard of `held` until its end, a claim, a loss, a stop, or (if asked for) silence.
///
/// # Errors
/// What no further try can help: a permission, a log object that contradicts the stream. The lease is given back then.
pub async fn run(
    deps: LiveDeps,
    log: Arc<StreamLog>,
    held: HeldLease,
    sink: LogSink,
    settings: PollSettings,
    budget: Budget,
    seed: u64,
) -> Result<(Polled, PollCounts), StepError> {
    let work = ShardWork::new(deps, log, held, budget, seed)?;
    work.deps.observer.owns(&work.shard, true);
    let shard = work.shard.clone();
    let observer = Arc::clone(&work.deps.observer);
    let outcome = begin(work, sink, settings).await;
    observer.owns(&shard, false);
    outcome
}

async fn begin(
    work: ShardWork,
    sink: LogSink,
    settings: PollSettings,
) -> Result<(Polled, PollCounts), StepError> {
    let row = match row(&work).await {
        Ok(row) => row,
        Err(Halt::Failed(error)) => return Err(error),
        Err(Halt::Lost) => return Ok((Polled::Lost, PollCounts::default())),
        Err(Halt::Asked) => {
            release(&work).await;
            return Ok((Polled::Stopped, PollCounts::default()));
        }
    };
    let mut poller = Poller {
        batch: ShardBatch::new(work.held.position(), row.event_time),
        work,
        row,
        sink,
        settings,
        reader: ShardReader::default(),
        said_silent: None,
        pause: BUSY,
        counts: PollCounts::default(),
    };
    let outcome = poller.poll().await;
    poller.counts.repeated = poller.batch.repeated;
    outcome.map(|polled| (polled, poller.counts))
}

/// The lease's row, which has what the handle does not tell.
async fn row(work: &ShardWork) -> Result<ShardRow, Halt> {
    let mut tries = 0;
    loop {
        let error = match work.log.leases.fetch(work.held.id()).await {
            Ok(row) => return ShardRow::of(&row).map_err(Halt::Failed),
            Err(error) => error,
        };
        work.again("the lease", &mut tries, error.into()).await?;
    }
}

/// Gives the lease back. If that cannot be told to anybody, it runs out.
async fn release(work: &ShardWork) {
    for _ in 0..2 {
        match work.held.release().await {
            Ok(()) => return,
            Err(error) if error.is_over() => return,
            Err(error) => {
                tracing::warn!(shard = %work.shard, %error, "lease not released, it will run out");
            }
        }
    }
}

struct Poller {
    work: ShardWork,
    row: ShardRow,
    sink: LogSink,
    settings: PollSettings,
    batch: ShardBatch,
    reader: ShardReader,
    said_silent: Option<Instant>,
    pause: Duration,
    counts: PollCounts,
}

/// What a call brought.
enum Read {
    Page,
    /// Nothing more comes: all of it was read, or its rest is gone.
    Over(Ending),
    Nothing,
}

impl Poller {
    async fn poll(&mut self) -> Result<Polled, StepError> {
        loop {
            let halted = match self.work.order() {
                Order::Drop => return Ok(Polled::Lost),
                Order::Release => return self.settle(Polled::Stopped).await,
                Order::HandOver => match self.hand_over().await? {
                    Some(polled) => return Ok(polled),
                    None => continue,
                },
                Order::Go => self.step().await,
            };
            match halted {
                Ok(Some(Polled::Silent)) => return self.settle(Polled::Silent).await,
                Ok(Some(polled)) => return Ok(polled),
                // The next look at the order sees why.
                Ok(None) | Err(Halt::Asked) => {}
                Err(Halt::Lost) => return Ok(Polled::Lost),
                Err(Halt::Failed(error)) => {
                    release(&self.work).await;
                    return Err(error);
                }
            }
        }
    }

    /// One call, and what follows from it.
    async fn step(&mut self) -> Result<Option<Polled>, Halt> {
        match self.read().await? {
            Read::Over(ending) => {
                self.flush().await?;
                self.end(ending).await?;
                return Ok(Some(Polled::Ended));
            }
            Read::Nothing => return Ok(None),
            Read::Page => {}
        }
        if self.is_due() {
            self.flush().await?;
        }
        let is_idle = self.reader.silence.is_some_and(|silence| silence.is_idle());
        if is_idle && self.batch.is_empty() {
            self.say_silent().await?;
            if self.settings.until_silent {
                return Ok(Some(Polled::Silent));
            }
        }
        let until_flush = self.batch.began().map(|began| {
            let due = began + self.settings.flush;
            due.saturating_duration_since(Instant::now())
        });
        let wait = until_flush.map_or(self.pause, |due| self.pause.min(due.max(BUSY)));
        self.work.rest(wait).await;
        Ok(None)
    }

    async fn read(&mut self) -> Result<Read, Halt> {
        let position = self.batch.position();
        match self.reader.next(&self.work, &position).await? {
            Answer::Page(page) => self.take(page).await,
            Answer::Nothing => Ok(Read::Nothing),
            Answer::Gone(why) => self.gap(&why).await,
        }
    }

    async fn take(&mut self, page: RecordPage) -> Result<Read, Halt> {
        self.pause = if page.records.is_empty() {
            (self.pause * 2).min(IDLE)
        } else {
            BUSY
        };
        for raw in &page.records {
            match StreamRecord::read_or_keep_checked(raw) {
                Ok(record) => {
                    self.reader.after_gap = false;
                    if let Err(disorder) = self.batch.take(record) {
                        return self.disorder(&disorder).await;
                    }
                }
                Err(unread) => self.keep(&unread).await?,
            }
        }
        Ok(match page.next {
            Some(_) => Read::Page,
            None => Read::Over(Ending::Read),
        })
    }

    /// An answer that cannot be right is asked for again.
    async fn disorder(&mut self, disorder: &crate::shard_batch::Disorder) -> Result<Read, Halt> {
        self.batch.drop_unsettled();
        let shard = self.work.shard.as_str();
        let what = disorder.to_string();
        let failure = Failure::new(FailureKind::Corrupt, "GetRecords", shard, what);
        self.reader.refuse(&self.work, failure).await?;
        Ok(Read::Nothing)
    }

    /// Records are gone. What that means is decided, and put on record, before anything else is read.
    async fn gap(&mut self, why: &StreamError) -> Result<Read, Halt> {
        self.flush().await?;
        if self.reader.after_gap && matches!(why, StreamError::Gone(_)) {
            // The gap is on record, and nothing is left behind it.
            return Ok(Read::Over(Ending::Lost));
        }
        let position = self.batch.position();
        let is_known = self.reader.after_gap;
        let found = shard_gap::look(
            &self.work,
            &self.row,
            &position,
            self.batch.event_time(),
            why,
        );
        let found = found.await?;
        if found.was_read_whole {
            return Ok(Read::Over(Ending::Read));
        }
        self.counts.incidents += u64::from(found.is_new);
        self.reader.after_gap = true;
        if is_known {
            // Trimmed further while it was read: begin again with what is left.
            self.work.rest(shard_gap::LOOK_AGAIN).await;
        }
        Ok(Read::Nothing)
    }

    async fn end(&mut self, ending: Ending) -> Result<(), Halt> {
        let position = self.batch.position();
        let event_time = self.batch.event_time();
        let end = shard_end::ShardEnding {
            ordinal: self.row.ordinal,
            position: &position,
            event_time,
            ending,
        };
        let new = shard_end::run(&self.work, &end, self.settings.apart).await?;
        self.counts.incidents += new;
        Ok(())
    }

    /// Finishes what is in hand, if that can be done now, and gives the lease back.
    async fn settle(&mut self, polled: Polled) -> Result<Polled, StepError> {
        match self.flush().await {
            Ok(()) | Err(Halt::Asked) => {}
            Err(Halt::Lost) => return Ok(Polled::Lost),
            Err(Halt::Failed(error)) => {
                release(&self.work).await;
                return Err(error);
            }
        }
        release(&self.work).await;
        Ok(polled)
    }

    /// Finishes what is in hand and hands the lease over; `None` if nobody asks any more.
    async fn hand_over(&mut self) -> Result<Option<Polled>, StepError> {
        match self.flush().await {
            Ok(()) => {}
            Err(Halt::Asked) => {
                // Whoever goes on reads it again.
                self.batch.drop_unsettled();
                self.reader.begin_anew();
            }
            Err(Halt::Lost) => return Ok(Some(Polled::Lost)),
            Err(Halt::Failed(error)) => {
                release(&self.work).await;
                return Err(error);
            }
        }
        match self.work.held.hand_over().await {
            Ok(()) => Ok(Some(Polled::HandedOver)),
            Err(error) if error.is_over() => Ok(Some(Polled::Lost)),
            Err(error) => {
                let is_withdrawn = matches!(error, LeaseError::Unclaimed { .. });
                if !is_withdrawn {
                    tracing::warn!(shard = %self.work.shard, %error, "lease not handed over, trying again");
                }
                // The standing follows with the next renewal.
                self.work.rest(BUSY).await;
                Ok(None)
            }
        }
    }
}

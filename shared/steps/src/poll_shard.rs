//! Reads one shard under its lease: from its position to its end, or until there is a reason to stop.
//!
//! Records are read, made durable, and only then is the position moved behind them, in this order, so that a crash
//! between any two steps repeats something and skips nothing. An iterator always begins at a sequence number, which fails
//! where its record is gone; what is left is taken only after the gap is on record.

use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Budget;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::lineage;
use highwater_domain::log_facts::Ending;
use highwater_domain::mark::Silence;
use highwater_domain::stream_record::StreamRecord;
use highwater_domain::stream_source::{RecordPage, ShardIterator, StartAt, StreamError};
use highwater_lease::{Error as LeaseError, HeldLease, Position};
use tokio::time::Instant;

use crate::error::StepError;
use crate::late_records;
use crate::live_deps::LiveDeps;
use crate::log_sink::{LogSink, Sunk};
use crate::note_incident::{self, note_unread};
use crate::shard_batch::ShardBatch;
use crate::shard_end;
use crate::shard_gap::{self, Gone};
use crate::shard_rows::{self, ShardRow};
use crate::shard_work::{Halt, Order, ShardWork};
use crate::stream_log::StreamLog;

/// The most records of one answer.
const PAGE: u32 = 1000;

/// The pause between two calls while records come: four calls a second, of the five that DynamoDB allows.
const BUSY: Duration = Duration::from_millis(250);

/// The longest pause, after some empty answers.
const IDLE: Duration = Duration::from_secs(5);

/// How often an idle shard says so.
const SILENCE_EVERY: Duration = Duration::from_secs(10);

/// Bytes in memory for the batches of all shards of a worker, and for the batch of one.
const ALL_BATCHES: usize = 64 << 20;
const LEAST_BATCH: usize = 1 << 20;
const LARGEST_BATCH: usize = 8 << 20;

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
        iterator: None,
        silence: None,
        said_silent: None,
        after_gap: false,
        gone: Gone::default(),
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
    iterator: Option<ShardIterator>,
    silence: Option<Silence>,
    said_silent: Option<Instant>,
    /// A gap is on record, and nothing behind it was read yet.
    after_gap: bool,
    gone: Gone,
    pause: Duration,
    counts: PollCounts,
}

/// What a call brought.
enum Read {
    Page,
    Closed,
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
            Read::Closed => {
                self.flush().await?;
                let ending = match self.after_gap {
                    true => Ending::Lost,
                    false => Ending::Read,
                };
                self.end(ending).await?;
                return Ok(Some(Polled::Ended));
            }
            Read::Nothing => return Ok(None),
            Read::Page => {}
        }
        if self.is_due() {
            self.flush().await?;
        }
        let is_idle = self.silence.is_some_and(|silence| silence.is_idle());
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
        let page = match self.page().await {
            Ok(page) => page,
            Err(StreamError::IteratorExpired(_)) => {
                self.iterator = None;
                return Ok(Read::Nothing);
            }
            Err(StreamError::Failed(failure)) => {
                let mut tries = self.gone.failures;
                let error = StepError::Stream(StreamError::Failed(failure));
                self.work.again("records", &mut tries, error).await?;
                self.gone.failures = tries;
                return Ok(Read::Nothing);
            }
            Err(error @ StreamError::Trimmed { .. }) => return self.gap(&error).await,
            Err(error @ StreamError::Gone(_)) => {
                self.iterator = None;
                if self.gone.is_certain() {
                    return self.gap(&error).await;
                }
                self.work.rest(shard_gap::LOOK_AGAIN).await;
                return Ok(Read::Nothing);
            }
        };
        self.gone = Gone::default();
        self.take(page).await
    }

    async fn page(&mut self) -> Result<RecordPage, StreamError> {
        let streams = &self.work.deps.streams;
        let iterator = match self.iterator.take() {
            Some(iterator) => iterator,
            None => {
                let from = self.start();
                let arn = self.work.log.arn();
                self.silence = None;
                streams.iterator(arn, &self.work.shard, &from).await?
            }
        };
        match streams.records(&iterator, PAGE).await {
            Err(error @ StreamError::Failed(_)) => {
                self.iterator = Some(iterator);
                Err(error)
            }
            answer => answer,
        }
    }

    fn start(&self) -> StartAt {
        if self.after_gap {
            return StartAt::WhatIsLeft;
        }
        StartAt::Position(match self.batch.position() {
            Position::Open(place) if place.after => lineage::Position::After(place.sequence_number),
            Position::Open(place) => lineage::Position::At(place.sequence_number),
            Position::End => lineage::Position::End,
        })
    }

    async fn take(&mut self, page: RecordPage) -> Result<Read, Halt> {
        self.work.log.time.heard(page.answered_at);
        self.iterator = page.next;
        if page.records.is_empty() {
            self.silence = Some(Silence::after(self.silence, page.answered_at));
            self.pause = (self.pause * 2).min(IDLE);
        } else {
            self.silence = None;
            self.pause = BUSY;
        }
        for raw in &page.records {
            match StreamRecord::read_or_keep(raw) {
                Ok(record) => {
                    self.after_gap = false;
                    if let Err(disorder) = self.batch.take(record) {
                        return self.disorder(&disorder).await;
                    }
                }
                Err(unread) => self.keep(&unread).await?,
            }
        }
        Ok(match self.iterator {
            Some(_) => Read::Page,
            None => Read::Closed,
        })
    }

    /// An answer that cannot be right is asked for again.
    async fn disorder(&mut self, disorder: &crate::shard_batch::Disorder) -> Result<Read, Halt> {
        self.batch.drop_unsettled();
        self.iterator = None;
        let shard = self.work.shard.to_string();
        let failure = Failure::new(
            FailureKind::Corrupt,
            "GetRecords",
            shard,
            disorder.to_string(),
        );
        let error = StepError::Stream(StreamError::Failed(failure));
        let mut tries = self.gone.failures;
        self.work.again("records", &mut tries, error).await?;
        self.gone.failures = tries;
        Ok(Read::Nothing)
    }

    async fn keep(&mut self, unread: &highwater_domain::stream_record::Unread) -> Result<(), Halt> {
        let since = self.batch.event_time();
        let mut tries = 0;
        loop {
            self.work.may_write().await?;
            let (deps, log) = (&self.work.deps, &self.work.log);
            match note_unread(deps, log, &self.work.shard, unread, since).await {
                Ok(new) => {
                    self.counts.incidents += u64::from(new);
                    if let Some(number) = &unread.sequence_number {
                        self.batch.saw(number.clone());
                    }
                    return Ok(());
                }
                Err(error) => {
                    let what = "a record that cannot be understood";
                    self.work.again(what, &mut tries, error).await?;
                }
            }
        }
    }

    fn is_due(&self) -> bool {
        let share = ALL_BATCHES / self.work.log.leases.holding().max(1);
        self.batch.bytes() >= share.clamp(LEAST_BATCH, LARGEST_BATCH)
            || self
                .batch
                .began()
                .is_some_and(|began| began.elapsed() >= self.settings.flush)
    }

    /// Makes the batch durable, then moves the position behind it.
    async fn flush(&mut self) -> Result<(), Halt> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.write().await?;
        let (event_time, silence) = (self.batch.event_time(), None);
        let details = shard_rows::details(event_time, silence);
        let to = self.batch.position();
        self.work.checkpoint(&to, &details).await?;
        self.row.silence = None;
        self.counts.records += self.batch.records().len() as u64;
        self.batch.settle();
        self.said_silent = None;
        self.work
            .deps
            .observer
            .advanced(&self.work.shard, event_time);
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Halt> {
        let records = self.batch.records();
        let mut tries = 0;
        while !records.is_empty() {
            self.work.may_write().await?;
            let now = self.work.log.time.now();
            match self.sink.write(&self.work.shard, records, now).await {
                Ok(sunk) => {
                    self.counts.sunk.add(&sunk);
                    break;
                }
                Err(error) => self.work.again("the log", &mut tries, error).await?,
            }
        }
        self.note_late().await
    }

    async fn note_late(&mut self) -> Result<(), Halt> {
        let Some(first) = self.batch.first_event_time() else {
            return Ok(());
        };
        let work = &self.work;
        let mut tries = 0;
        let sight = loop {
            match late_records::look(work, &self.row, first).await {
                Ok(None) => return Ok(()),
                Ok(Some(sight)) => break sight,
                Err(error) => work.again("the mark", &mut tries, error).await?,
            }
        };
        loop {
            work.may_write().await?;
            match note_incident::note(&work.deps, &work.log, &sight).await {
                Ok(new) => {
                    self.counts.incidents += u64::from(new);
                    return Ok(());
                }
                Err(error) => work.again("a late record", &mut tries, error).await?,
            }
        }
    }

    /// Stores that the shard was asked and had nothing, now and then.
    async fn say_silent(&mut self) -> Result<(), Halt> {
        let is_time = self
            .said_silent
            .is_none_or(|said| said.elapsed() >= SILENCE_EVERY);
        if is_time || self.settings.until_silent {
            let details = shard_rows::details(self.batch.event_time(), self.silence);
            self.work
                .checkpoint(&self.batch.position(), &details)
                .await?;
            self.row.silence = self.silence;
            self.said_silent = Some(Instant::now());
        }
        Ok(())
    }

    /// Records are gone. What that means is decided, and put on record, before anything else is read.
    async fn gap(&mut self, why: &StreamError) -> Result<Read, Halt> {
        self.flush().await?;
        self.iterator = None;
        self.gone = Gone::default();
        if self.after_gap && matches!(why, StreamError::Gone(_)) {
            // The gap is on record, and nothing is left behind it.
            return Ok(Read::Closed);
        }
        let position = self.batch.position();
        let is_known = self.after_gap;
        let found = shard_gap::look(
            &self.work,
            &self.row,
            &position,
            self.batch.event_time(),
            why,
        );
        let found = found.await?;
        if found.was_read_whole {
            return Ok(Read::Closed);
        }
        self.counts.incidents += u64::from(found.is_new);
        self.after_gap = true;
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
                self.iterator = None;
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

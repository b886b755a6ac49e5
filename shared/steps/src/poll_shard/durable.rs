//! What was read becomes durable: records and what cannot be understood first, then the position behind them.

use std::time::Duration;

use highwater_domain::stream_record::Unread;
use tokio::time::Instant;

use super::Poller;
use crate::late_records;
use crate::note_incident::{self, note_unread};
use crate::shard_rows;
use crate::shard_work::Halt;

/// How often an idle shard says so.
const SILENCE_EVERY: Duration = Duration::from_secs(10);

/// Bytes in memory for the batches of all shards of a worker, and for the batch of one.
const ALL_BATCHES: usize = 64 << 20;
const LEAST_BATCH: usize = 1 << 20;
const LARGEST_BATCH: usize = 8 << 20;

impl Poller {
    pub(super) async fn keep(&mut self, unread: &Unread) -> Result<(), Halt> {
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

    pub(super) fn is_due(&self) -> bool {
        let share = ALL_BATCHES / self.work.log.leases.holding().max(1);
        self.batch.bytes() >= share.clamp(LEAST_BATCH, LARGEST_BATCH)
            || self
                .batch
                .began()
                .is_some_and(|began| began.elapsed() >= self.settings.flush)
    }

    /// Makes the batch durable, then moves the position behind it.
    pub(super) async fn flush(&mut self) -> Result<(), Halt> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.write().await?;
        let (event_time, silence) = (self.batch.event_time(), None);
        let details = shard_rows::details(event_time, silence);
        let to = self.batch.position();
        self.work.checkpoint(&to, &details).await?;
        self.row.silence = None;
        self.row.position = to;
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
            let (shard, ordinal) = (&self.work.shard, self.row.ordinal);
            match self.sink.write(shard, ordinal, records, now).await {
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
    pub(super) async fn say_silent(&mut self) -> Result<(), Halt> {
        let is_time = self
            .said_silent
            .is_none_or(|said| said.elapsed() >= SILENCE_EVERY);
        if is_time || self.settings.until_silent {
            let silence = self.reader.silence;
            let details = shard_rows::details(self.batch.event_time(), silence);
            self.work
                .checkpoint(&self.batch.position(), &details)
                .await?;
            self.row.silence = silence;
            self.said_silent = Some(Instant::now());
        }
        Ok(())
    }
}

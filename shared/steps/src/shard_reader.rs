//! Asks for a shard's records, page after page: the iterator, and what to make of its errors.

use highwater_domain::failure::Failure;
use highwater_domain::lineage;
use highwater_domain::mark::Silence;
use highwater_domain::stream_source::{RecordPage, ShardIterator, StartAt, StreamError};
use highwater_lease::Position;

use crate::error::StepError;
use crate::shard_gap::LOOK_AGAIN;
use crate::shard_work::{Halt, ShardWork};

/// The most records of one answer.
const PAGE: u32 = 1000;

/// So many times in a row a shard must not be there before it is taken for gone: one that was made this moment may not be
/// known everywhere yet.
const LOOKS: u32 = 3;

/// Where in a shard its reader is.
#[derive(Debug, Default)]
pub(crate) struct ShardReader {
    iterator: Option<ShardIterator>,
    /// Empty answers in a row from one iterator and those that followed from it.
    pub(crate) silence: Option<Silence>,
    /// A gap is on record, and nothing behind it was read yet: what is left may be taken.
    pub(crate) after_gap: bool,
    /// Calls that failed in a row.
    failures: u32,
    /// How often in a row the shard was not there.
    absences: u32,
}

/// What asking came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Records, or none.
    Page(RecordPage),
    /// Nothing yet; ask again.
    Nothing,
    /// Records are gone, or the shard is.
    Gone(StreamError),
}

impl ShardReader {
    /// Asks for the next records; behind `position` where there is no iterator.
    pub(crate) async fn next(
        &mut self,
        work: &ShardWork,
        position: &Position,
    ) -> Result<Answer, Halt> {
        match self.page(work, position).await {
            Ok(page) => {
                (self.failures, self.absences) = (0, 0);
                work.log.time.heard(page.answered_at);
                self.iterator.clone_from(&page.next);
                let is_empty = page.records.is_empty();
                self.silence = is_empty.then(|| Silence::after(self.silence, page.answered_at));
                Ok(Answer::Page(page))
            }
            // Made anew behind the last record.
            Err(StreamError::IteratorExpired(_)) => Ok(Answer::Nothing),
            Err(StreamError::Failed(failure)) => {
                self.wait(work, failure).await?;
                Ok(Answer::Nothing)
            }
            Err(error @ StreamError::Trimmed { .. }) => Ok(Answer::Gone(error)),
            Err(error @ StreamError::Gone(_)) => {
                self.absences += 1;
                if self.absences >= LOOKS {
                    self.absences = 0;
                    return Ok(Answer::Gone(error));
                }
                work.rest(LOOK_AGAIN).await;
                Ok(Answer::Nothing)
            }
        }
    }

    async fn page(
        &mut self,
        work: &ShardWork,
        position: &Position,
    ) -> Result<RecordPage, StreamError> {
        let streams = &work.deps.streams;
        let iterator = if let Some(iterator) = self.iterator.take() {
            iterator
        } else {
            self.silence = None;
            let from = self.start(position);
            streams.iterator(work.log.arn(), &work.shard, &from).await?
        };
        let answer = streams.records(&iterator, PAGE).await;
        if let Err(StreamError::Failed(_)) = &answer {
            self.iterator = Some(iterator);
        }
        answer
    }

    fn start(&self, position: &Position) -> StartAt {
        if self.after_gap {
            return StartAt::WhatIsLeft;
        }
        StartAt::Position(match position.clone() {
            Position::Open(place) if place.after => lineage::Position::After(place.sequence_number),
            Position::Open(place) => lineage::Position::At(place.sequence_number),
            Position::End => lineage::Position::End,
        })
    }

    /// An answer that cannot be right: it is asked for again, from the position.
    pub(crate) async fn refuse(&mut self, work: &ShardWork, why: Failure) -> Result<(), Halt> {
        self.begin_anew();
        self.wait(work, why).await
    }

    /// Reads from the position again.
    pub(crate) fn begin_anew(&mut self) {
        self.iterator = None;
    }

    async fn wait(&mut self, work: &ShardWork, failure: Failure) -> Result<(), Halt> {
        let error = StepError::Stream(StreamError::Failed(failure));
        work.again("records", &mut self.failures, error).await
    }
}

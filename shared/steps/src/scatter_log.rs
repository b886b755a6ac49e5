//! `ScatterLog`: sorts one shard's changes by key, reduced to what the wanted second needs, into runs.
//!
//! The records come in the order of the shard, each once. Of each key the last change up to the second and the first
//! after it are kept; when these fill the memory they may take, they are written as a run. A run says how far the shard
//! was read, so that an invocation goes on where the last run ends. A second copy of the task makes the same runs, or
//! goes on behind those of the first. `scattered/<shard>.json` comes last.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_domain::budget::Budget;
use highwater_domain::change_log::LogName;
use highwater_domain::key_history::run::{
    RunError, RunFrames, RunHeader, read_header, run as run_of,
};
use highwater_domain::key_history::{Around, ItemChange};
use highwater_domain::key_print::KeyPrint;
use highwater_domain::mark::UnixSeconds;
use highwater_domain::object_store::{Creation, ObjectStore};
use highwater_domain::restore::RestoreId;
use highwater_domain::restore_point::work_folder::{MergeShard, Scattered, WORK_VERSION};
use highwater_domain::sequence_number::{OrderToken, SequenceNumber};
use highwater_domain::stream_record::StreamRecord;
use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::merge_work::{Merge, Work, check_stop, merge_of, open_folder};
use crate::restore_deps::RestoreDeps;
use crate::restore_status;
use crate::shard_records::{ShardObject, ShardRecords};

/// Records between two looks at the clock.
const RECORDS_AT_ONCE: u64 = 500;

/// Bytes in which a run's header mostly fits.
const HEADER_GUESS: u64 = 64 << 10;

/// The input of the state `ScatterLog`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatterInput {
    /// The restore.
    pub restore_id: RestoreId,
    /// Which of its shards, from 0; with it come those that are whole lanes behind it, one for each invocation.
    pub shard: u32,
}

/// The output of the state `ScatterLog`, which is its next input until `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScatterOutput {
    /// The restore.
    pub restore_id: RestoreId,
    /// The shard that this branch has to go on with: the same, or the next of its lane.
    pub shard: u32,
    /// Whether this branch has nothing left to do.
    pub done: bool,
}

/// Scatters until the shard's end, or until the budget is spent: then the output says `done: false`.
pub async fn run(
    deps: &RestoreDeps,
    input: &ScatterInput,
    budget: Budget,
) -> Result<ScatterOutput, StepError> {
    let record = restore_status::running(deps, &input.restore_id).await?;
    let merge = merge_of(deps, &record)?;
    let done = scatter(deps, &merge, input.shard, budget).await?;
    check_stop(deps, &record, done)?;
    let next = record.shard_after(input.shard).filter(|_| done);
    Ok(ScatterOutput {
        restore_id: input.restore_id.clone(),
        shard: next.unwrap_or(input.shard),
        done: done && next.is_none(),
    })
}

/// Scatters one shard; `false` if the budget was spent before its end.
pub async fn scatter(
    deps: &RestoreDeps,
    merge: &Merge<'_>,
    number: u32,
    budget: Budget,
) -> Result<bool, StepError> {
    if number >= merge.point.shards {
        let shards = merge.point.shards;
        return Err(StepError::InvalidInput(format!(
            "shard {number} of {shards} does not exist"
        )));
    }
    let work = Work::open(deps, merge.point)?;
    if work.has(&work.folder.scattered(number)).await? {
        return Ok(true);
    }
    let shard: MergeShard = work.expect(&work.folder.shard(number)).await?;
    let (log, stream) = open_folder(deps, &merge.point.log)?;
    let objects = objects(&log, &stream, &shard)?;
    let mut task = Scatter {
        deps,
        merge,
        work: &work,
        budget,
        done: Done::find(&work, &shard).await?,
        shard: &shard,
    };
    loop {
        let mut records = ShardRecords::new(&log, &objects, task.done.last.clone());
        match task.read(&mut records).await? {
            Advance::Ended => break,
            Advance::OutOfTime => return Ok(false),
            Advance::Reread => {}
        }
    }
    let scattered = Scattered {
        version: WORK_VERSION,
        shard: number,
        records: task.done.records,
        disorder_s: task.done.disorder_s,
        runs: task.done.runs,
    };
    work.settle(work.folder.scattered(number), scattered)
        .await?;
    Ok(true)
}

/// The shard's objects, by the names that the plan has frozen.
fn objects(
    log: &Arc<dyn ObjectStore>,
    stream: &str,
    shard: &MergeShard,
) -> Result<Vec<ShardObject>, StepError> {
    let stream = format!("{}/", stream.trim_end_matches('/'));
    let object = |name: &String| {
        let key = format!("{stream}{}/{name}", shard.shard);
        let name = LogName::parse(&stream, &key).ok_or_else(|| {
            StepError::PartCorrupt(format!("{key} in the restore's plan is no log object"))
        })?;
        let url = log.url(&key);
        Ok(ShardObject { name, key, url })
    };
    let mut objects = shard
        .objects
        .iter()
        .map(object)
        .collect::<Result<Vec<_>, StepError>>()?;
    objects.sort_by(|a, b| a.name.first.cmp(&b.name.first));
    Ok(objects)
}

/// How far a shard is scattered: what its runs say.
#[derive(Debug, Default)]
struct Done {
    runs: Vec<RunFrames>,
    last: Option<SequenceNumber>,
    event_time: UnixSeconds,
    records: u64,
    disorder_s: u64,
}

impl Done {
    async fn find(work: &Work, shard: &MergeShard) -> Result<Self, StepError> {
        let mut done = Self {
            event_time: shard.event_time.unwrap_or_default(),
            ..Self::default()
        };
        let runs = work.keys_below(&work.folder.runs(shard.number)).await?;
        for (chunk, key) in (0_u32..).zip(runs) {
            if key != work.folder.run(shard.number, chunk) {
                let wanted = work.folder.run(shard.number, chunk);
                return Err(StepError::PartMissing(work.store.url(&wanted)));
            }
            done.take(read_run(work, &key).await?);
        }
        Ok(done)
    }

    fn take(&mut self, (header, first): (RunHeader, u64)) {
        self.last = Some(header.last);
        self.event_time = header.event_time;
        self.records = header.records;
        self.disorder_s = header.disorder_s;
        self.runs.push(RunFrames {
            first,
            frames: header.frames,
        });
    }
}

/// The header of a run, and where its frames begin.
async fn read_run(work: &Work, key: &str) -> Result<(RunHeader, u64), StepError> {
    let mut wanted = HEADER_GUESS;
    loop {
        let start = work.store.read_range(key, 0..wanted).await;
        let start = start
            .map_err(StepError::Store)?
            .ok_or_else(|| StepError::PartMissing(work.store.url(key)))?;
        match read_header(&start) {
            Err(RunError::Longer(end)) if end > wanted => wanted = end,
            read => {
                return read.map_err(|error| {
                    StepError::PartCorrupt(format!("{}: {error}", work.store.url(key)))
                });
            }
        }
    }
}

enum Advance {
    /// No later record can matter; all runs are written.
    Ended,
    /// Time is up; what was read is written.
    OutOfTime,
    /// Somebody else has written the next run, and it ends elsewhere: go on behind that.
    Reread,
}

/// One shard on its way into runs.
struct Scatter<'a> {
    deps: &'a RestoreDeps,
    merge: &'a Merge<'a>,
    work: &'a Work,
    shard: &'a MergeShard,
    budget: Budget,
    done: Done,
}

/// What was read and is not yet in a run.
struct Gathered {
    keys: BTreeMap<KeyPrint, Around>,
    bytes: usize,
    last: Option<SequenceNumber>,
    event_time: UnixSeconds,
    records: u64,
    disorder_s: u64,
}

impl Gathered {
    fn after(done: &Done) -> Self {
        Self {
            keys: BTreeMap::new(),
            bytes: 0,
            last: None,
            event_time: done.event_time,
            records: done.records,
            disorder_s: done.disorder_s,
        }
    }

    /// The event time of the next record: stamps may go back, event times do not.
    fn event_time_of(&self, record: &StreamRecord) -> UnixSeconds {
        self.event_time.max(UnixSeconds(record.created_at))
    }

    fn count(&mut self, record: &StreamRecord, event_time: UnixSeconds) {
        self.event_time = event_time;
        let disorder_s = event_time.0.saturating_sub(record.created_at);
        self.disorder_s = self.disorder_s.max(disorder_s);
        self.records += 1;
        self.last = Some(record.sequence_number.clone());
    }

    fn add(&mut self, at: UnixSeconds, print: KeyPrint, change: &ItemChange) {
        let around = self.keys.entry(print).or_default();
        let before = if around.changes().next().is_some() {
            around.weight()
        } else {
            0
        };
        around.add(at, change);
        self.bytes = self.bytes + around.weight() - before;
    }
}

impl Scatter<'_> {
    /// Reads to the shard's end, or until the budget is spent, writing runs on the way.
    async fn read(&mut self, records: &mut ShardRecords<'_>) -> Result<Advance, StepError> {
        let (at, needs) = (self.merge.point.at, self.merge.point.needs);
        let mut gathered = Gathered::after(&self.done);
        let mut until_look = RECORDS_AT_ONCE;
        while let Some(record) = records.next().await? {
            let event_time = gathered.event_time_of(&record);
            if event_time > needs.until {
                break;
            }
            gathered.count(&record, event_time);
            if event_time >= needs.from {
                let (print, change) = self.change(record, event_time)?;
                gathered.add(at, print, &change);
            }
            if gathered.bytes >= self.merge.limits.gather_bytes {
                let full = std::mem::replace(&mut gathered, Gathered::after(&self.done));
                if !self.write(full).await? {
                    return Ok(Advance::Reread);
                }
                gathered = Gathered::after(&self.done);
            }
            until_look -= 1;
            if until_look == 0 {
                until_look = RECORDS_AT_ONCE;
                tokio::task::yield_now().await;
                if self.deps.should_stop(&self.budget) {
                    return self.stop(gathered).await;
                }
            }
        }
        if gathered.keys.is_empty() {
            (self.done.records, self.done.disorder_s) = (gathered.records, gathered.disorder_s);
            return Ok(Advance::Ended);
        }
        Ok(if self.write(gathered).await? {
            Advance::Ended
        } else {
            Advance::Reread
        })
    }

    async fn stop(&mut self, gathered: Gathered) -> Result<Advance, StepError> {
        Ok(if self.write(gathered).await? {
            Advance::OutOfTime
        } else {
            Advance::Reread
        })
    }

    /// A record as a change of an item.
    fn change(
        &self,
        record: StreamRecord,
        event_time: UnixSeconds,
    ) -> Result<(KeyPrint, ItemChange), StepError> {
        let print = self.merge.key_schema.print_of(&record.keys);
        let print = print.map_err(|error| {
            let (number, shard) = (&record.sequence_number, &self.shard.shard);
            StepError::LogCorrupt(format!(
                "record {number} of shard {shard} in {} is not of a table with the key {}: {error}",
                self.merge.point.log, self.merge.key_schema
            ))
        })?;
        let change = ItemChange {
            token: OrderToken {
                generation: self.merge.point.generation,
                shard: self.shard.ordinal,
                sequence_number: record.sequence_number,
            },
            event_time,
            change: record.change,
            new_image: record.new_image,
            old_image: record.old_image,
        };
        Ok((print, change))
    }

    /// Writes a run. `false` if somebody else has written one there that ends elsewhere.
    async fn write(&mut self, gathered: Gathered) -> Result<bool, StepError> {
        let Some(last) = gathered.last else {
            return Ok(true);
        };
        let chunk = u32::try_from(self.done.runs.len())
            .map_err(|_| StepError::Internal("a shard has too many runs".into()))?;
        let header = RunHeader {
            shard: self.shard.number,
            chunk,
            last,
            event_time: gathered.event_time,
            records: gathered.records,
            disorder_s: gathered.disorder_s,
            frames: Vec::new(),
        };
        let key = self.work.folder.run(self.shard.number, chunk);
        let broken = |error| StepError::Internal(format!("{key} cannot be made: {error}"));
        let ours = run_of(header, &gathered.keys, self.merge.point.buckets).map_err(broken)?;
        drop(gathered.keys);
        let (header, first) = (ours.header, ours.first);
        if self.work.create(&key, ours.body).await? == Creation::Created {
            self.done.take((header, first));
            return Ok(true);
        }
        let standing = read_run(self.work, &key).await?;
        let is_same = standing.0 == header;
        self.done.take(standing);
        Ok(is_same)
    }
}

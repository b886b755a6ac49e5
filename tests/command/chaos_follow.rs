//! Processes of `highwater follow` that are killed and started at random while a table is written to: the log holds every
//! record, the mark is never above one that is missing, and restores to random seconds are what the table was.
//!
//! `HIGHWATER_TEST_ITEMS` is the number of writes, `HIGHWATER_TEST_SECONDS` how long they take: 4,000 in 20 seconds by
//! default. `HIGHWATER_TEST_SEED` repeats a run, as far as processes can be repeated.

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::future::join_all;
use highwater_domain::mark::UnixSeconds;
use highwater_local::StreamShape;
use highwater_testkit::generate::KeyShape;
use serde_json::Value;
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::live_stage::{History, LiveStage, Look, Records, Writer, follow};
use super::read_back::table_items;
use super::stage::{TABLE, TO, signal, told, until};

const PROCESSES: usize = 3;
const WRITERS: usize = 4;

fn number(variable: &str, default: u64) -> u64 {
    let value = env::var(variable).ok();
    value.map_or(default, |text| text.parse().expect(variable))
}

struct Chaos {
    live: LiveStage,
    random: Rng,
    running: Vec<Option<Child>>,
    kills: u32,
    ended_in_order: u32,
    looks: Vec<Look>,
}

impl Chaos {
    async fn start(seed: u64, writes: u64) -> Self {
        let shape = StreamShape {
            lineages: 4,
            // Some forty generations of shards, however many writes there are.
            roll_after_records: (writes / 160).max(20),
            made_before: Duration::from_mins(1),
            ..StreamShape::default()
        };
        Self {
            live: LiveStage::seeded(shape, seed).await,
            random: Rng::with_seed(seed),
            running: (0..PROCESSES).map(|_| None).collect(),
            kills: 0,
            ended_in_order: 0,
            looks: Vec::new(),
        }
    }

    fn start_all(&mut self) {
        for running in &mut self.running {
            if running.is_none() {
                *running = Some(self.live.stage.spawn(&follow(&[])));
            }
        }
    }

    /// Something happens to one process, or to all of them.
    async fn strike(&mut self) {
        let victim = self.random.usize(..PROCESSES);
        match self.random.u8(..10) {
            0..5 => self.kill(victim).await,
            5..7 => self.stop(victim).await,
            7..9 => self.start_all(),
            _ => {
                for victim in 0..PROCESSES {
                    self.kill(victim).await;
                }
                // Nobody writes now: the mark of this moment is held against the log of this moment.
                self.looks.extend(self.live.look().await);
                self.start_all();
            }
        }
    }

    async fn kill(&mut self, victim: usize) {
        if let Some(mut child) = self.running[victim].take() {
            child.start_kill().unwrap();
            let told = told(child).await;
            assert_eq!(told.code, None, "it ended by itself: {told:#?}");
            self.kills += 1;
        }
    }

    async fn stop(&mut self, victim: usize) {
        if let Some(child) = self.running[victim].take() {
            signal(&child, "TERM").await;
            let told = told(child).await;
            // A process that has not yet got to listening dies of the signal.
            assert!(matches!(told.code, Some(0 | 143) | None), "{told:#?}");
            self.ended_in_order += u32::from(told.code == Some(0));
        }
    }

    /// Strikes again and again until all is written, and takes a snapshot in the midst of it, as the base of restores.
    async fn rage(&mut self, writing: JoinHandle<()>, length: Duration) {
        self.start_all();
        let began = Instant::now();
        let backup = [
            "backup",
            TABLE,
            "--to",
            TO,
            "--with-stream",
            "--settle-seconds",
            "0",
        ];
        let mut base = Some(backup);
        while !writing.is_finished() {
            let pause = self.random.u64(100..1200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.strike().await;
            if began.elapsed() > length / 3
                && let Some(backup) = base.take()
            {
                self.live.stage.run(&backup).await.done();
            }
            self.looks.extend(self.live.look().await);
        }
        writing.await.unwrap();
        assert_eq!(base, None, "the base was made in time");
    }

    /// No mark that was seen promised a record that was not in the log, and none was taken back.
    fn assert_marks_were_true(&self, stream: &Records) {
        let marks: Vec<UnixSeconds> = self.looks.iter().map(|look| look.at).collect();
        assert!(marks.is_sorted(), "the mark went back: {marks:?}");
        let moved = marks.first() < marks.last();
        assert!(
            marks.len() >= 10 && moved,
            "the mark did not move: {marks:?}"
        );
        for look in &self.looks {
            look.assert_true(stream);
        }
    }

    async fn until_all_is_logged(&mut self, newest: u64) {
        self.start_all();
        let all = self.live.stream_records().await.len();
        until("every record is in the log", async || {
            let counts = self.live.log_objects().await;
            let logged: u64 = counts.iter().map(|name| name.count).sum();
            // Records that were written twice count twice here: look at each only when it is likely.
            (logged >= all as u64 && self.live.log_records().await.len() == all).then_some(())
        })
        .await;
        until("the mark is above every record", async || {
            let mark = self.live.mark().await?.mark;
            (mark.assumed? >= UnixSeconds(newest)).then_some(())
        })
        .await;
    }
}

async fn write_all(writers: &mut [Writer], changes: u64, length: Duration) {
    let each = usize::try_from(changes).unwrap() / writers.len();
    let pause = length / u32::try_from(each.max(1)).unwrap();
    join_all(writers.iter_mut().map(|it| it.write_at_pace(each, pause))).await;
}

/// Done-when 3 of the live side.
#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_at_random_they_lose_nothing() {
    let changes = number("HIGHWATER_TEST_ITEMS", 4000);
    let length = Duration::from_secs(number("HIGHWATER_TEST_SECONDS", 20));
    let seed = number("HIGHWATER_TEST_SEED", 20_261_121);
    let mut chaos = Chaos::start(seed, changes).await;
    let writer = |number: usize| {
        let seed = seed + number as u64;
        chaos.live.writer(&format!("w{number}"), seed)
    };
    let mut clerks: Vec<Writer> = (0..WRITERS).map(writer).collect();
    let histories: Vec<History> = clerks.iter().map(Writer::history).collect();
    let writing = tokio::spawn(async move { write_all(&mut clerks, changes, length).await });
    chaos.rage(writing, length).await;

    let history = History::merged(&histories);
    let stream = chaos.live.stream_records().await;
    let stamps = stream.values().map(|record| record.created_at);
    let (oldest, newest) = (stamps.clone().min().unwrap(), stamps.max().unwrap());
    chaos.until_all_is_logged(newest).await;
    for victim in 0..PROCESSES {
        chaos.stop(victim).await;
    }
    chaos.live.assert_log_is_the_stream().await;
    chaos.live.assert_mark_is_true().await.unwrap();
    chaos.assert_marks_were_true(&stream);
    let objects = chaos.live.log_objects().await;
    let written: u64 = objects.iter().map(|name| name.count).sum();
    let (kills, ends) = (chaos.kills, chaos.ended_in_order);
    println!(
        "seed {seed}: {} writes made {} records, written {written} times; {kills} kills, {ends} ends in order, {} marks seen",
        history.len(),
        stream.len(),
        chaos.looks.len()
    );
    assert!(kills >= 5 && ends >= 1, "too peaceful");
    restores(&mut chaos, &history, oldest, newest).await;
}

/// Restores to random seconds of the history, before, in and after the snapshot.
async fn restores(chaos: &mut Chaos, history: &History, first: u64, last: u64) {
    let wanted = number("HIGHWATER_TEST_RESTORES", 4);
    let mut sharp: Vec<u64> = (first..=last)
        .filter(|second| history.at(UnixSeconds(*second)).is_some())
        .collect();
    chaos.random.shuffle(&mut sharp);
    assert!(
        sharp.len() as u64 >= wanted,
        "no second's end is certain: {sharp:?}"
    );
    let count = usize::try_from(wanted).unwrap();
    for (number, second) in sharp.into_iter().take(count).enumerate() {
        let at = UnixSeconds(second);
        let (time, into) = (at.to_rfc3339(), format!("restored-{number}"));
        let restore = [
            "restore",
            TABLE,
            "--from",
            TO,
            "--at",
            &time,
            "--to",
            &into,
            "--stamp-margin",
            "0s",
            "--no-ttl",
        ];
        chaos.live.stage.run(&restore).await.done();
        let schema = KeyShape::STRING.schema();
        let items = table_items(&chaos.live.stage, &into, &schema).await;
        let found: BTreeMap<String, String> = items
            .into_values()
            .map(|item| (text(&item, "pk"), text(&item, "value")))
            .collect();
        let expected = history.at(at).unwrap();
        assert!(
            found == expected,
            "at {time}: {} items, not {}",
            found.len(),
            expected.len()
        );
    }
}

fn text(item: &Value, attribute: &str) -> String {
    item[attribute]["S"].as_str().unwrap().to_owned()
}

//! How far the log is behind the table: a line that moves on a terminal, a line now and then elsewhere.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_domain::budget::Clock as _;
use highwater_domain::change_log::LogName;
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::Incident;
use highwater_domain::live_control::PublishedMark;
use highwater_domain::mark::{Grade, Mark, UnixSeconds};
use highwater_domain::shard::ShardId;
use highwater_lambda::SystemClock;
use highwater_steps::LiveObserver;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::console::Console;
use crate::format::{bytes, count, per_second, seconds};

/// How often the line on a terminal moves, and how often one appears where there is none.
const MOVES_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Incidents that wait to be told; of a flood of them the newest are kept, and how many there were.
const MOST_NOTES: usize = 200;

/// Counts what the live side's steps tell.
#[derive(Debug, Default)]
pub struct FollowProgress(Mutex<Told>);

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    records: u64,
    objects: u64,
    stored_bytes: u64,
    owned: BTreeSet<ShardId>,
    ended: u64,
    mark: Option<PublishedMark>,
    retries: u64,
    /// Of the last retry.
    trouble: Option<String>,
    incidents: Vec<Incident>,
    notes: VecDeque<String>,
}

impl FollowProgress {
    /// Incidents that were put on record by this process, the newest 200.
    pub fn incidents(&self) -> Vec<Incident> {
        self.told().incidents.clone()
    }

    /// The mark that was told last.
    pub fn mark(&self) -> Option<Mark> {
        self.told().mark.as_ref().map(|it| it.mark)
    }

    /// A poisoned lock means that a worker panicked between two additions: the numbers are still numbers.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, since: Instant, now: UnixMillis) -> String {
        let mut told = self.told();
        let elapsed = since.elapsed().as_secs_f64();
        let mark = told
            .mark
            .as_ref()
            .map_or_else(|| "no mark yet".to_owned(), |it| mark_words(&it.mark, now));
        let trouble = match told.trouble.take() {
            Some(trouble) => format!(", {} retries (last: {trouble})", count(told.retries)),
            None => String::new(),
        };
        format!(
            "{} records ({:.0}/s), {} in {} objects, {} shards, {mark}{trouble}",
            count(told.records),
            per_second(told.records as f64, elapsed),
            bytes(told.stored_bytes),
            count(told.objects),
            told.owned.len(),
        )
    }

    fn notes(&self) -> Vec<String> {
        self.told().notes.drain(..).collect()
    }
}

/// The best mark with its grade, and how far it is behind `now`.
pub fn mark_words(mark: &Mark, now: UnixMillis) -> String {
    match best(mark) {
        None => "no mark yet".to_owned(),
        Some((grade, at)) => format!(
            "mark {at} ({}), lag {}",
            grade_word(grade),
            seconds(lag(at, now))
        ),
    }
}

/// The mark that reaches furthest, and the best grade that reaches so far.
pub fn best(mark: &Mark) -> Option<(Grade, UnixSeconds)> {
    let furthest = mark.assumed.max(mark.rolled).max(mark.proven)?;
    let grades = [Grade::Proven, Grade::Rolled, Grade::Assumed];
    let grade = grades
        .into_iter()
        .find(|grade| mark.of(*grade) == Some(furthest))?;
    Some((grade, furthest))
}

/// The word for a grade.
pub fn grade_word(grade: Grade) -> &'static str {
    match grade {
        Grade::Proven => "proven",
        Grade::Rolled => "rolled",
        Grade::Assumed => "assumed",
    }
}

/// Seconds from the end of `at` to `now`.
pub fn lag(at: UnixSeconds, now: UnixMillis) -> f64 {
    let end = at.0.saturating_add(1).saturating_mul(1000);
    now.0.saturating_sub(end) as f64 / 1000.0
}

impl LiveObserver for FollowProgress {
    fn logged(&self, _shard: &ShardId, object: &LogName, stored_bytes: u64) {
        let mut told = self.told();
        told.records += object.count;
        told.objects += 1;
        told.stored_bytes += stored_bytes;
    }

    fn shard_ended(&self, _shard: &ShardId, _children: &[ShardId]) {
        self.told().ended += 1;
    }

    fn owns(&self, shard: &ShardId, owned: bool) {
        let mut told = self.told();
        if owned {
            told.owned.insert(shard.clone());
        } else {
            told.owned.remove(shard);
        }
    }

    fn incident(&self, incident: &Incident) {
        let mut told = self.told();
        if told.notes.len() >= MOST_NOTES {
            told.notes.pop_front();
        }
        told.notes.push_back(incident_words(incident));
        if told.incidents.len() >= MOST_NOTES {
            told.incidents.remove(0);
        }
        told.incidents.push(incident.clone());
    }

    fn marked(&self, mark: &PublishedMark) {
        self.told().mark = Some(mark.clone());
    }

    fn retrying(&self, what: &str, reason: &str, _wait_ms: u64) {
        let mut told = self.told();
        told.retries += 1;
        told.trouble = Some(format!("{what}: {reason}"));
    }
}

/// One incident in a line.
pub fn incident_words(incident: &Incident) -> String {
    let when = match incident.from.0 {
        0 => format!("up to {}", incident.until),
        _ => format!("{} to {}", incident.from, incident.until),
    };
    format!("incident {}, {when}: {}", incident.kind, incident.detail)
}

/// Shows the progress until it is dropped.
#[derive(Debug)]
pub struct FollowDisplay {
    progress: Arc<FollowProgress>,
    console: Console,
    ticker: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl FollowDisplay {
    /// Begins to show `progress`.
    pub fn start(progress: Arc<FollowProgress>, console: Console) -> Self {
        let bar = console.has_terminal().then(spinner);
        let (shown, counted) = (bar.clone(), progress.clone());
        let since = Instant::now();
        let ticker = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(MOVES_EVERY);
            let mut last_line = Instant::now();
            loop {
                ticks.tick().await;
                tell_notes(&counted, shown.as_ref(), console);
                match &shown {
                    Some(bar) => {
                        bar.set_message(counted.line(since, SystemClock.now()));
                        bar.tick();
                    }
                    None if last_line.elapsed() >= LINE_EVERY => {
                        last_line = Instant::now();
                        console.say(&counted.line(since, SystemClock.now()));
                    }
                    None => {}
                }
            }
        });
        Self {
            progress,
            console,
            ticker,
            bar,
        }
    }
}

fn tell_notes(progress: &FollowProgress, bar: Option<&ProgressBar>, console: Console) {
    for note in progress.notes() {
        match bar {
            Some(bar) => bar.println(note),
            None => console.say(&note),
        }
    }
}

impl Drop for FollowDisplay {
    fn drop(&mut self) {
        self.ticker.abort();
        tell_notes(&self.progress, self.bar.as_ref(), self.console);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    // The template is a constant; a typo in it costs the line's looks, not the log.
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use highwater_domain::incident::{INCIDENT_VERSION, IncidentKind};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_768_385_930_622);

    fn mark(proven: Option<u64>, rolled: Option<u64>, assumed: Option<u64>) -> Mark {
        let [proven, rolled, assumed] = [proven, rolled, assumed].map(|it| it.map(UnixSeconds));
        Mark {
            proven,
            rolled,
            assumed,
        }
    }

    #[test]
    fn the_best_mark_is_told_with_the_best_grade_that_reaches_it() {
        let second = 1_768_385_900;
        for (mark, expected) in [
            (mark(None, None, None), None),
            (
                mark(Some(second), Some(second), Some(second)),
                Some(Grade::Proven),
            ),
            (
                mark(Some(second - 9), Some(second), Some(second)),
                Some(Grade::Rolled),
            ),
            (mark(None, None, Some(second)), Some(Grade::Assumed)),
        ] {
            let found = best(&mark);
            assert_eq!(found, expected.map(|grade| (grade, UnixSeconds(second))));
        }
        let words = mark_words(&mark(Some(second), None, None), NOW);
        assert_eq!(words, "mark 2026-01-14T10:18:20Z (proven), lag 29.6s");
        assert_eq!(mark_words(&mark(None, None, None), NOW), "no mark yet");
    }

    #[test]
    fn everything_told_is_in_the_line() {
        let progress = FollowProgress::default();
        let shard: ShardId = "shardId-00000001768385930622-efd1a093".parse().unwrap();
        let object = LogName {
            shard: shard.clone(),
            first: "9".parse().unwrap(),
            last: "1200".parse().unwrap(),
            count: 1190,
        };
        progress.owns(&shard, true);
        progress.logged(&shard, &object, 2048);
        progress.logged(&shard, &object, 2048);
        progress.retrying("the log", "503", 100);
        let line = progress.line(Instant::now(), NOW);
        for told in [
            "2,380 records",
            "4.0 KB in 2 objects",
            "1 shards",
            "no mark yet",
            "1 retries (last: the log: 503)",
        ] {
            assert!(line.contains(told), "{told}: {line}");
        }
        progress.owns(&shard, false);
        let line = progress.line(Instant::now(), NOW);
        assert!(line.contains("0 shards"), "{line}");
        assert!(!line.contains("retries"), "told once: {line}");
    }

    #[test]
    fn incidents_are_noted_once_and_a_flood_does_not_fill_memory() {
        let progress = FollowProgress::default();
        for number in 0..500_u64 {
            progress.incident(&Incident {
                version: INCIDENT_VERSION,
                id: format!("gap-{number}"),
                kind: IncidentKind::Gap,
                stream_label: "l".into(),
                shard: None,
                from: UnixSeconds(0),
                until: UnixSeconds(1_768_385_900),
                seen_at: NOW,
                detail: format!("number {number}"),
            });
        }
        let notes = progress.notes();
        assert_eq!((notes.len(), progress.incidents().len()), (200, 200));
        assert_eq!(
            notes[199],
            "incident gap, up to 2026-01-14T10:18:20Z: number 499"
        );
        assert!(progress.notes().is_empty());
    }
}

//! How far replicas are: a line now and then, beside that of the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_domain::budget::Clock as _;
use highwater_domain::ids::UnixMillis;
use highwater_domain::replica::{Phase, ReplicaId, ReplicaRecord};
use highwater_lambda::SystemClock;
use highwater_steps::replica::ReplicaObserver;
use highwater_steps::replica::sink::Applied;
use highwater_steps::replica::strip::Stripped;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::console::Console;
use crate::follow_progress::FollowProgress;
use crate::format::{count, per_second, seconds};

/// How often the line on a terminal moves, and how often one appears where there is none.
const MOVES_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Counts what the steps of replicas tell.
#[derive(Debug, Default)]
pub struct ReplicaProgress {
    /// What the log's follower tells.
    pub follow: Arc<FollowProgress>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    applied: Applied,
    stands: Option<ReplicaRecord>,
    refused: Option<String>,
    stripped: Stripped,
}

impl ReplicaProgress {
    /// What was taken out of a replica.
    pub fn stripped(&self) -> Stripped {
        self.told().stripped
    }

    /// A poisoned lock means that a worker panicked between two additions: the numbers are still numbers.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, since: Instant, now: UnixMillis) -> String {
        let mut told = self.told();
        let elapsed = since.elapsed().as_secs_f64();
        let stands = told.stands.as_ref().map_or_else(
            || "not looked at yet".to_owned(),
            |it| standing_words(it, now),
        );
        let refused = match told.refused.take() {
            Some(reason) => format!(", {} refused (last: {reason})", count(told.applied.refused)),
            None => String::new(),
        };
        format!(
            "{} records applied ({:.0}/s), {stands}{refused}",
            count(told.applied.records),
            per_second(told.applied.records as f64, elapsed),
        )
    }
}

impl ReplicaObserver for ReplicaProgress {
    fn applied(&self, _: &ReplicaId, applied: &Applied) {
        self.told().applied.add(applied);
    }

    fn stands(&self, record: &ReplicaRecord) {
        self.told().stands = Some(record.clone());
    }

    fn stripped(&self, _: &ReplicaId, stripped: &Stripped) {
        self.told().stripped = *stripped;
    }

    fn refused(&self, _: &ReplicaId, reason: &str) {
        self.told().refused = Some(reason.to_owned());
    }
}

/// How a replica stands, in a few words.
pub fn standing_words(record: &ReplicaRecord, now: UnixMillis) -> String {
    let behind = |at: u64| seconds((now.0 / 1000).saturating_sub(at) as f64);
    match (record.phase, record.equal_at(), record.applied) {
        (Phase::Live, Some(at), _) => format!("equal as of {at}, {} behind", behind(at.0)),
        (Phase::Live, None, Some(at)) => {
            format!("catching up: {at} of {}", record.equal_from())
        }
        (Phase::Live, None, None) => "catching up".to_owned(),
        (phase, ..) => phase.to_string(),
    }
}

/// Shows the progress until it is dropped.
pub struct ReplicaDisplay(JoinHandle<()>);

impl ReplicaDisplay {
    /// On a terminal a line that moves; elsewhere a plain line every ten seconds.
    pub fn start(progress: Arc<ReplicaProgress>, console: Console) -> Self {
        let since = Instant::now();
        Self(tokio::spawn(async move {
            if !console.has_terminal() {
                loop {
                    tokio::time::sleep(LINE_EVERY).await;
                    console.say(&progress.line(since, SystemClock.now()));
                }
            }
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            loop {
                bar.set_message(progress.line(since, SystemClock.now()));
                bar.tick();
                tokio::time::sleep(MOVES_EVERY).await;
            }
        }))
    }
}

impl Drop for ReplicaDisplay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

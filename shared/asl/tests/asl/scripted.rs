//! Functions that answer from a script, and a clock that only takes notes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use highwater_asl::{Clock, Event, Execution, Options, Pause, TaskError, Tasks};
use serde_json::Value;

/// What a script answers.
pub type Answer = Result<Value, TaskError>;

type Script = dyn Fn(&str, &Value, usize) -> Option<Answer> + Send + Sync;

/// Answers each call from a closure that gets the function, the payload and the call's number from 0.
/// `None` never answers.
pub struct Scripted {
    script: Box<Script>,
    calls: Mutex<Vec<(String, Value)>>,
    running: AtomicUsize,
    most: AtomicUsize,
    dropped: AtomicUsize,
}

impl Scripted {
    pub fn new(
        script: impl Fn(&str, &Value, usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Box::new(script),
            calls: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        }
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    /// The payloads of one function's calls.
    pub fn payloads(&self, function: &str) -> Vec<Value> {
        let calls = self.calls().into_iter();
        calls
            .filter(|(name, _)| name == function)
            .map(|(_, payload)| payload)
            .collect()
    }

    /// The most calls that were under way at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// How many calls were dropped before they had answered.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

struct UnderWay<'a> {
    of: &'a Scripted,
    answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.of.running.fetch_sub(1, Ordering::SeqCst);
        if !self.answered {
            self.of.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Tasks for Scripted {
    async fn invoke(&self, function: &str, payload: Value) -> Answer {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push((function.to_owned(), payload.clone()));
            calls.len() - 1
        };
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let mut under_way = UnderWay {
            of: self,
            answered: false,
        };
        let answer = (self.script)(function, &payload, number);
        // Others get their turn while this one is under way, as in real life.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        match answer {
            Some(answer) => {
                under_way.answered = true;
                answer
            }
            None => std::future::pending().await,
        }
    }

    /// A machine is asked as a function is, and answers with its execution's ARN.
    async fn start_execution(&self, machine: &str, input: Value) -> Result<String, TaskError> {
        let arn = self.invoke(machine, input).await?;
        Ok(arn.as_str().unwrap().to_owned())
    }
}

/// Lets no time pass, and keeps what was waited for.
#[derive(Default)]
pub struct Notes {
    pauses: Mutex<Vec<(Pause, Duration)>>,
    timeouts_fire: AtomicBool,
}

impl Notes {
    /// A clock on which every task's time is up at once, if it has not answered when first asked.
    pub fn with_timeouts() -> Self {
        Self {
            timeouts_fire: AtomicBool::new(true),
            ..Self::default()
        }
    }

    /// The lengths of all pauses of one kind.
    pub fn of(&self, kind: Pause) -> Vec<Duration> {
        let pauses = self.pauses.lock().unwrap();
        pauses
            .iter()
            .filter(|(pause, _)| *pause == kind)
            .map(|(_, length)| *length)
            .collect()
    }
}

#[async_trait]
impl Clock for Notes {
    async fn pause(&self, pause: Pause, length: Duration) {
        self.pauses.lock().unwrap().push((pause, length));
        if pause == Pause::Timeout && !self.timeouts_fire.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

/// Options with a clock of notes, and the list of events as short texts.
pub fn observed(clock: &Arc<Notes>) -> (Options, Arc<Mutex<Vec<String>>>) {
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&events);
    let options = Options {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        jitter_seed: 7,
        observer: Some(Arc::new(move |event: &Event<'_>| {
            sink.lock().unwrap().push(line(event));
        })),
        ..Options::default()
    };
    (options, events)
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::Entered {
            state,
            item: Some(item),
            ..
        } => format!("> {state}[{item}]"),
        Event::Entered { state, .. } => format!("> {state}"),
        Event::Exited { state, .. } => format!("< {state}"),
        Event::Retrying {
            state,
            failure,
            attempt,
            ..
        } => {
            format!("~ {state} {} {attempt}", failure.error)
        }
        Event::Caught {
            state,
            failure,
            next,
            ..
        } => {
            format!("! {state} {} -> {next}", failure.error)
        }
        Event::Failed { state, failure, .. } => format!("x {state} {}", failure.error),
        _ => String::from("?"),
    }
}

/// The execution of every test.
pub fn execution() -> Execution {
    Execution {
        id: "arn:aws:states:eu-west-1:123456789012:execution:backup:run-1".into(),
        start_time: "2026-01-14T10:18:50.622Z".into(),
    }
}

/// A task's error.
pub fn failed(error: &str) -> Answer {
    Err(TaskError::new(error, format!("the story of {error}")))
}

//! The walk: from state to state until one ends the execution.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::clock::{Clock, RealTime};
use crate::definition::{Kind, Length, State, StateMachine, Transition, Wait};
use crate::error::{ExecutionFailed, TaskError};
use crate::limit;
use crate::observe::{Event, Observer};
use crate::path::Context;
use crate::visit::Visit;
use crate::{Pause, retry};

/// The port to the functions that Task states call.
///
/// All calls of an execution are polled by the one task that polls [`walk`], so an implementation
/// that computes for long should spawn, and abort what it spawned when its future is dropped.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// Calls a function. The future is dropped on a time-out, and when another iteration of its Map fails.
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError>;

    /// Starts another state machine and gives its execution's ARN, without waiting for its end. Whoever knows no other
    /// machine has nothing to add: none is found.
    async fn start_execution(&self, machine: &str, _input: Value) -> Result<String, TaskError> {
        Err(TaskError::new(
            "StepFunctions.StateMachineDoesNotExistException",
            format!("there is no state machine {machine} here"),
        ))
    }
}

/// What the context object says of the execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// `$$.Execution.Id`: an ARN in AWS, any unique text here.
    pub id: String,
    /// `$$.Execution.StartTime`: RFC 3339 in UTC with milliseconds.
    pub start_time: String,
}

/// How to walk. The default waits in real time and tells nobody.
#[derive(Clone)]
pub struct Options {
    /// Waits.
    pub clock: Arc<dyn Clock>,
    /// Decides every jitter: two walks with one seed wait alike.
    pub jitter_seed: u64,
    /// Is told of every event.
    pub observer: Option<Observer>,
    /// Whether a failed task is tried again as its `Retry` says; `false` for a caller that limits attempts itself.
    pub retries: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(RealTime),
            jitter_seed: 0,
            observer: None,
            retries: true,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("jitter_seed", &self.jitter_seed)
            .field("observed", &self.observer.is_some())
            .finish_non_exhaustive()
    }
}

/// Runs an execution to its end: the last state's output, or the error that ended it.
///
/// Dropping the future stops the execution where it is, and with it every task under way.
pub async fn walk(
    machine: &StateMachine,
    input: Value,
    execution: &Execution,
    tasks: &dyn Tasks,
    options: &Options,
) -> Result<Value, ExecutionFailed> {
    let jitter = Mutex::new(fastrand::Rng::with_seed(options.jitter_seed));
    let walker = Walker {
        execution_id: &execution.id,
        start_time: Some(&execution.start_time),
        execution_input: &input,
        tasks,
        options,
        jitter: &jitter,
        child: None,
    };
    walker.run(machine, input.clone(), None).await
}

/// One execution under way.
#[derive(Clone, Copy)]
pub(crate) struct Walker<'a> {
    execution_id: &'a str,
    start_time: Option<&'a str>,
    execution_input: &'a Value,
    pub(crate) tasks: &'a dyn Tasks,
    pub(crate) options: &'a Options,
    jitter: &'a Mutex<fastrand::Rng>,
    /// The item that this is the child execution of, in the list of a distributed Map.
    child: Option<usize>,
}

/// What a state leaves behind: its output, and the state that goes on, if any.
pub(crate) struct Step<'a> {
    pub output: Value,
    pub next: Option<&'a str>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(output: Value, transition: &'a Transition) -> Self {
        let next = match transition {
            Transition::Next(next) => Some(next.as_str()),
            Transition::End => None,
        };
        Self { output, next }
    }
}

impl Walker<'_> {
    /// Runs one scope, the whole machine or one iteration of a Map, to its end.
    pub(crate) fn run<'b>(
        &'b self,
        machine: &'b StateMachine,
        mut input: Value,
        item: Option<(usize, &'b Value)>,
    ) -> BoxFuture<'b, Result<Value, ExecutionFailed>> {
        let index = item.map(|(index, _)| index).or(self.child);
        Box::pin(async move {
            let mut name = machine.start_at.as_str();
            limit::check(name, "input", &input)?;
            loop {
                let state = machine.states.get(name).ok_or_else(|| {
                    ExecutionFailed::runtime(name, "the definition has no such state")
                })?;
                let entered = Event::Entered {
                    state: name,
                    item: index,
                    input: &input,
                };
                self.tell(&entered);
                let step = self.visit(name, state, &input, item).await;
                let step = step.inspect_err(|failure| {
                    self.tell(&Event::Failed {
                        state: name,
                        item: index,
                        failure,
                    });
                })?;
                self.tell(&Event::Exited {
                    state: name,
                    item: index,
                    output: &step.output,
                });
                input = step.output;
                match step.next {
                    Some(next) => name = next,
                    None => return Ok(input),
                }
                // A loop of states that never wait would otherwise keep its thread for itself.
                tokio::task::yield_now().await;
            }
        })
    }

    /// Runs an execution of its own for one item of a distributed Map. Of its parent it knows what its input says: the
    /// context object is the child's, and no item of a Map is in sight.
    pub(crate) async fn run_child(
        &self,
        machine: &StateMachine,
        input: Value,
        (state, index): (&str, usize),
    ) -> Result<Value, ExecutionFailed> {
        let id = format!("{}/{state}:{index}", self.execution_id);
        let child = Walker {
            execution_id: &id,
            start_time: None,
            execution_input: &input,
            child: Some(index),
            ..*self
        };
        child.run(machine, input.clone(), None).await
    }

    async fn visit<'d>(
        &self,
        name: &'d str,
        state: &'d State,
        input: &Value,
        item: Option<(usize, &Value)>,
    ) -> Result<Step<'d>, ExecutionFailed> {
        let visit = Visit {
            name,
            state,
            input,
            index: item.map(|(index, _)| index).or(self.child),
            context: Context {
                execution_id: self.execution_id,
                start_time: self.start_time,
                execution_input: self.execution_input,
                state: name,
                item,
            },
        };
        match &state.kind {
            Kind::Task(task) => {
                let once = || self.task(&visit, task);
                self.attempt(&visit, &task.outcome, once).await
            }
            Kind::Map(map) => {
                let once = || self.map(&visit, map);
                self.attempt(&visit, &map.outcome, once).await
            }
            Kind::Wait(wait) => self.wait(&visit, wait).await,
            Kind::Pass(pass) => visit.pass(pass),
            Kind::Choice(choice) => visit.choose(choice),
            Kind::Succeed => Ok(Step {
                output: visit.output(visit.effective_input()?.into_owned())?,
                next: None,
            }),
            Kind::Fail(fail) => Err(visit.fail(fail)?),
        }
    }

    async fn wait<'d>(
        &self,
        visit: &Visit<'d, '_>,
        wait: &'d Wait,
    ) -> Result<Step<'d>, ExecutionFailed> {
        let input = visit.effective_input()?.into_owned();
        let length = match &wait.length {
            Length::Fixed(length) => *length,
            Length::Path(path) => {
                let seconds = visit.resolve("SecondsPath", path, &input)?.as_u64();
                std::time::Duration::from_secs(seconds.ok_or_else(|| {
                    visit.runtime(format!(
                        "SecondsPath: the value at {path} is no whole number from 0"
                    ))
                })?)
            }
        };
        self.pause(Pause::Wait, length).await;
        let output = visit.output(input)?;
        Ok(Step::new(output, &wait.transition))
    }

    pub(crate) fn pause(&self, pause: Pause, length: std::time::Duration) -> BoxFuture<'_, ()> {
        self.options.clock.pause(pause, length)
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.options.observer {
            observer(event);
        }
    }

    /// The pause before a retrier's retry.
    pub(crate) fn delay(&self, retrier: &retry::Retrier, attempt: u32) -> std::time::Duration {
        let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        retrier.delay(attempt, jitter.f64())
    }
}

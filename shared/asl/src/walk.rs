//! The walk: from state to state until one ends the execution.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Map as Object, Value};

use crate::clock::{Clock, RealTime};
use crate::definition::{
    Choice, Fail, Kind, Length, Pass, State, StateMachine, Text, Transition, Wait,
};
use crate::error::{ExecutionFailed, TaskError, names};
use crate::limit;
use crate::observe::{Event, Observer};
use crate::path::{Context, Path, ResultPath, Scope};
use crate::template::Template;
use crate::{Pause, retry};

/// The port to the functions that Task states call.
///
/// All calls of an execution are polled by the one task that polls [`walk`], so an implementation
/// that computes for long should spawn, and abort what it spawned when its future is dropped.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// Calls a function. The future is dropped on a time-out, and when another iteration of its Map fails.
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError>;
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
    let walker = Walker {
        execution,
        execution_input: &input,
        tasks,
        options,
        jitter: Mutex::new(fastrand::Rng::with_seed(options.jitter_seed)),
    };
    walker.run(machine, input.clone(), None).await
}

/// One execution under way.
pub(crate) struct Walker<'a> {
    execution: &'a Execution,
    execution_input: &'a Value,
    pub(crate) tasks: &'a dyn Tasks,
    pub(crate) options: &'a Options,
    jitter: Mutex<fastrand::Rng>,
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
        let index = item.map(|(index, _)| index);
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
            context: Context {
                execution_id: &self.execution.id,
                start_time: &self.execution.start_time,
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

/// One state of a definition (`'d`) with its input (`'a`), while the execution is in it.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'d, 'a> {
    pub name: &'d str,
    pub state: &'d State,
    /// The raw input.
    pub input: &'a Value,
    pub context: Context<'a>,
}

impl<'d, 'a> Visit<'d, 'a> {
    /// The state's input after `InputPath`.
    pub fn effective_input(&self) -> Result<Cow<'a, Value>, ExecutionFailed> {
        self.filter("InputPath", self.state.input_path.as_ref(), self.input)
    }

    /// Fills a template of this state from `data`.
    pub fn fill(
        &self,
        field: &str,
        template: &Template,
        data: &Value,
    ) -> Result<Value, ExecutionFailed> {
        let context = self.context;
        template
            .fill(Scope { data, context })
            .map_err(|path| self.nothing_at(field, &path))
    }

    /// The value at a path of this state in `data`.
    pub fn resolve<'v>(
        &self,
        field: &str,
        path: &Path,
        data: &'v Value,
    ) -> Result<Cow<'v, Value>, ExecutionFailed>
    where
        'a: 'v,
    {
        let context = self.context;
        path.resolve(Scope { data, context })
            .ok_or_else(|| self.nothing_at(field, path))
    }

    /// The failure of a state that cannot be computed.
    pub fn runtime(&self, cause: impl Into<String>) -> ExecutionFailed {
        ExecutionFailed::runtime(self.name, cause)
    }

    fn nothing_at(&self, field: &str, path: &Path) -> ExecutionFailed {
        self.runtime(format!("{field}: there is no value at {path}"))
    }

    fn filter<'v>(
        &self,
        field: &str,
        path: Option<&Path>,
        data: &'v Value,
    ) -> Result<Cow<'v, Value>, ExecutionFailed>
    where
        'a: 'v,
    {
        match path {
            Some(path) => self.resolve(field, path, data),
            None => Ok(Cow::Owned(Value::Object(Object::new()))),
        }
    }

    /// The raw input with `result` at its place.
    pub fn place(&self, path: &ResultPath, result: Value) -> Result<Value, ExecutionFailed> {
        path.put(self.input, result).ok_or_else(|| {
            let cause = "ResultPath leads through a value of the input that is no object";
            ExecutionFailed::named(self.name, names::RESULT_PATH_MATCH_FAILURE, cause)
        })
    }

    /// What the state passes on, after `OutputPath`.
    pub fn output(&self, value: Value) -> Result<Value, ExecutionFailed> {
        let path = self.state.output_path.as_ref();
        let output = if path == Some(&Path::whole()) {
            value
        } else {
            self.filter("OutputPath", path, &value)?.into_owned()
        };
        limit::check(self.name, "output", &output)?;
        Ok(output)
    }

    fn pass(&self, pass: &'d Pass) -> Result<Step<'d>, ExecutionFailed> {
        let input = self.effective_input()?;
        let result = match (&pass.result, &pass.parameters) {
            (Some(result), _) => result.clone(),
            (None, Some(template)) => self.fill("Parameters", template, &input)?,
            (None, None) => input.into_owned(),
        };
        let output = self.output(self.place(&pass.result_path, result)?)?;
        Ok(Step::new(output, &pass.transition))
    }

    fn choose(&self, choice: &'d Choice) -> Result<Step<'d>, ExecutionFailed> {
        let input = self.effective_input()?;
        let scope = Scope {
            data: &input,
            context: self.context,
        };
        let mut next = choice.default.as_str();
        for (index, rule) in choice.rules.iter().enumerate() {
            let holds = rule
                .condition
                .holds(scope)
                .map_err(|path| self.nothing_at(&format!("Choices[{index}].Variable"), &path))?;
            if holds {
                next = &rule.next;
                break;
            }
        }
        Ok(Step {
            output: self.output(input.into_owned())?,
            next: Some(next),
        })
    }

    /// The failure that a Fail state stands for, or why it cannot be told.
    fn fail(&self, fail: &Fail) -> Result<ExecutionFailed, ExecutionFailed> {
        Ok(ExecutionFailed {
            state: self.name.to_owned(),
            error: self.text("ErrorPath", &fail.error)?,
            cause: self.text("CausePath", &fail.cause)?,
        })
    }

    fn text(&self, field: &str, text: &Text) -> Result<String, ExecutionFailed> {
        match text {
            Text::Fixed(text) => Ok(text.clone()),
            Text::Path(path) => match self.resolve(field, path, self.input)?.as_ref() {
                Value::String(text) => Ok(text.clone()),
                _ => Err(self.runtime(format!("{field}: the value at {path} is no text"))),
            },
        }
    }
}

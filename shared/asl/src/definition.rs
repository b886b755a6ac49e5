//! A state machine as its definition gives it, checked and typed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::choice::Rule;
use crate::decode;
use crate::error::DefinitionError;
use crate::lint;
use crate::path::{Path, ResultPath};
use crate::retry::{Catcher, Retrier};
use crate::strict_json;
use crate::template::Template;

/// A state machine, or the inner one of a Map.
#[derive(Clone, Debug, PartialEq)]
pub struct StateMachine {
    /// `StartAt`.
    pub start_at: String,
    /// `States`, by name.
    pub states: BTreeMap<String, State>,
}

/// One state.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `Comment`.
    pub comment: Option<String>,
    /// `InputPath`; `None` is the language's `null`: an empty object takes the input's place.
    pub input_path: Option<Path>,
    /// `OutputPath`; `None` is the language's `null`.
    pub output_path: Option<Path>,
    /// `Type`, with the fields of that type.
    pub kind: Kind,
}

/// `Type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Calls a function.
    Task(Task),
    /// Reshapes its input.
    Pass(Pass),
    /// Branches.
    Choice(Choice),
    /// Runs an inner state machine for every item of a list.
    Map(Map),
    /// Waits.
    Wait(Wait),
    /// Ends well.
    Succeed,
    /// Ends with an error.
    Fail(Fail),
}

/// What follows a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// `Next`.
    Next(String),
    /// `"End": true`.
    End,
}

/// A Task state.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What is called, and how its payload is made.
    pub resource: Resource,
    /// `TimeoutSeconds` of one attempt.
    pub timeout: Option<Duration>,
    /// What becomes of the result or the error.
    pub outcome: Outcome,
}

/// `Resource`, with the `Parameters` that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// `arn:aws:states:::lambda:invoke`: the result is `{"StatusCode": 200, "ExecutedVersion": …, "Payload": …}`.
    LambdaInvoke {
        /// `FunctionName`.
        function: String,
        /// `Payload`; without one the function gets an empty object.
        payload: Option<Template>,
    },
    /// A function's own name or ARN: the result is what it returns.
    Function {
        /// The name or ARN.
        function: String,
        /// `Parameters`; without them the function gets the state's input.
        parameters: Option<Template>,
    },
    /// `arn:aws:states:::states:startExecution`: another state machine is started, and nobody waits for its end. The
    /// result is `{"ExecutionArn": …}`.
    StartExecution {
        /// `StateMachineArn`.
        machine: String,
        /// `Input`.
        input: Template,
    },
}

impl Resource {
    /// The function that is called, if it is one.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        match self {
            Self::LambdaInvoke { function, .. } | Self::Function { function, .. } => Some(function),
            Self::StartExecution { .. } => None,
        }
    }

    /// The state machine that is started, if it is one.
    #[must_use]
    pub fn machine(&self) -> Option<&str> {
        match self {
            Self::StartExecution { machine, .. } => Some(machine),
            Self::LambdaInvoke { .. } | Self::Function { .. } => None,
        }
    }
}

/// What Task and Map have in common: what becomes of a result, and of an error.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `ResultSelector`.
    pub selector: Option<Template>,
    /// `ResultPath`.
    pub result_path: ResultPath,
    /// `Retry`, in order.
    pub retry: Vec<Retrier>,
    /// `Catch`, in order.
    pub catch: Vec<Catcher>,
    /// `Next` or `End`.
    pub transition: Transition,
}

/// A Pass state.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// `Result`.
    pub result: Option<Value>,
    /// `Parameters`.
    pub parameters: Option<Template>,
    /// `ResultPath`.
    pub result_path: ResultPath,
    /// `Next` or `End`.
    pub transition: Transition,
}

/// A Choice state.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// `Choices`: the first that holds decides.
    pub rules: Vec<Rule>,
    /// `Default`. The language makes it optional; here it is required, so that no input has no way.
    pub default: String,
}

/// A Map state.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// `Mode` of the `ProcessorConfig`.
    pub mode: Mode,
    /// `ItemsPath`: the list, in the state's input.
    pub items_path: Path,
    /// `ItemSelector`: an iteration's input; without one the item itself.
    pub item_selector: Option<Template>,
    /// How many iterations run at once.
    pub concurrency: Concurrency,
    /// `ItemProcessor`.
    pub processor: StateMachine,
    /// What becomes of the list of results or the error.
    pub outcome: Outcome,
}

/// Whose history holds what the iterations of a Map do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The execution's own, of 25,000 events.
    #[default]
    Inline,
    /// Each iteration is an execution of its own. No failure is tolerated: the first fails the Map, under the name
    /// [`EXCEED_TOLERATED_FAILURE_THRESHOLD`](crate::error::names::EXCEED_TOLERATED_FAILURE_THRESHOLD).
    Distributed,
}

/// `MaxConcurrency` or `MaxConcurrencyPath`; 0 is as many as Step Functions runs at once: 40 of an inline Map, 10,000 of
/// a distributed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// `MaxConcurrency`.
    Fixed(usize),
    /// `MaxConcurrencyPath`: in the state's input.
    Path(Path),
}

/// A Wait state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long.
    pub length: Length,
    /// `Next` or `End`.
    pub transition: Transition,
}

/// `Seconds` or `SecondsPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Length {
    /// `Seconds`.
    Fixed(Duration),
    /// `SecondsPath`: in the state's input.
    Path(Path),
}

/// A Fail state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// `Error` or `ErrorPath`.
    pub error: Text,
    /// `Cause` or `CausePath`; empty without one.
    pub cause: Text,
}

/// A text of a Fail state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// As it stands.
    Fixed(String),
    /// The text at a path of the state's input.
    Path(Path),
}

impl StateMachine {
    /// Reads a definition, and refuses what is wrong, unreachable or not implemented here.
    ///
    /// `substitutions` are what `DefinitionSubstitutions` is to SAM: the value of each `${Name}` in a
    /// `Resource` or a `FunctionName`. One that stands alone and has no value names the function
    /// itself: `"${PlanBackupFunctionArn}"` reaches `Tasks` as `PlanBackupFunctionArn`.
    pub fn parse(
        text: &str,
        substitutions: &BTreeMap<String, String>,
    ) -> Result<Self, DefinitionError> {
        let value = strict_json::parse(text).map_err(DefinitionError::Json)?;
        let machine = decode::definition(value, substitutions)?;
        lint::check(&machine)?;
        Ok(machine)
    }

    /// Every state with its name, the inner ones of Maps included.
    #[must_use]
    pub fn all_states(&self) -> Vec<(&str, &State)> {
        let mut all = Vec::new();
        for (name, state) in &self.states {
            all.push((name.as_str(), state));
            if let Kind::Map(map) = &state.kind {
                all.extend(map.processor.all_states());
            }
        }
        all
    }

    /// Every function that a state calls.
    #[must_use]
    pub fn functions(&self) -> BTreeSet<&str> {
        self.all_states()
            .into_iter()
            .filter_map(|(_, state)| state.resource()?.function())
            .collect()
    }

    /// Every other state machine that a state starts.
    #[must_use]
    pub fn machines(&self) -> BTreeSet<&str> {
        self.all_states()
            .into_iter()
            .filter_map(|(_, state)| state.resource()?.machine())
            .collect()
    }

    /// Every error name that a `Retry` or `Catch` matches, wildcards included.
    #[must_use]
    pub fn error_names(&self) -> BTreeSet<&str> {
        self.all_states()
            .into_iter()
            .filter_map(|(_, state)| state.outcome())
            .flat_map(|outcome| {
                let retried = outcome.retry.iter().flat_map(|retrier| &retrier.errors);
                let caught = outcome.catch.iter().flat_map(|catcher| &catcher.errors);
                retried.chain(caught).map(String::as_str)
            })
            .collect()
    }
}

impl State {
    fn resource(&self) -> Option<&Resource> {
        match &self.kind {
            Kind::Task(task) => Some(&task.resource),
            _ => None,
        }
    }

    /// Retriers, catchers and result places, in the states that have them.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.kind {
            Kind::Task(task) => Some(&task.outcome),
            Kind::Map(map) => Some(&map.outcome),
            _ => None,
        }
    }

    /// Every transition that may leave this state, with the field that it is written in.
    pub(crate) fn transitions(&self) -> Vec<(String, &str)> {
        let mut targets = Vec::new();
        let direct = match &self.kind {
            Kind::Task(task) => Some(&task.outcome.transition),
            Kind::Map(map) => Some(&map.outcome.transition),
            Kind::Pass(pass) => Some(&pass.transition),
            Kind::Wait(wait) => Some(&wait.transition),
            Kind::Choice(choice) => {
                for (index, rule) in choice.rules.iter().enumerate() {
                    targets.push((format!("Choices[{index}].Next"), rule.next.as_str()));
                }
                targets.push(("Default".to_owned(), choice.default.as_str()));
                None
            }
            Kind::Succeed | Kind::Fail(_) => None,
        };
        if let Some(Transition::Next(next)) = direct {
            targets.push(("Next".to_owned(), next));
        }
        let catchers = self.outcome().map_or(&[][..], |outcome| &outcome.catch);
        for (index, catcher) in catchers.iter().enumerate() {
            targets.push((format!("Catch[{index}].Next"), catcher.next.as_str()));
        }
        targets
    }

    /// Whether an execution can end here.
    pub(crate) fn is_terminal(&self) -> bool {
        match &self.kind {
            Kind::Succeed | Kind::Fail(_) => true,
            Kind::Choice(_) => false,
            Kind::Task(task) => task.outcome.transition == Transition::End,
            Kind::Map(map) => map.outcome.transition == Transition::End,
            Kind::Pass(pass) => pass.transition == Transition::End,
            Kind::Wait(wait) => wait.transition == Transition::End,
        }
    }
}

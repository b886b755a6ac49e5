//! What a state machine asks of other services, by its definition: the functions that it calls, the executions that it starts.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::checkout::{self, CheckoutError};
use crate::policy::Request;
use crate::stack_template::{StackTemplate, TemplateError};
use crate::yaml::members;
use thiserror::Error;

/// A definition that is not understood.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The template is not understood.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The definition cannot be read.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The definition is no JSON once its placeholders are filled.
    #[error("{machine}: {source}")]
    Json {
        /// The machine's logical id.
        machine: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A state does what is not understood here.
    #[error("{machine}, state {state}: {what}")]
    State {
        /// The machine's logical id.
        machine: String,
        /// The state.
        state: String,
        /// What it does.
        what: String,
    },
}

/// What the machine's role is asked for, if every state is entered.
pub fn asked_by(
    template: &StackTemplate,
    machine: &str,
) -> Result<BTreeSet<Request>, MachineError> {
    let uri = template.property(machine, "DefinitionUri")?;
    let mut text = checkout::text(uri.as_str().unwrap_or_default())?;
    let filled = template.property(machine, "DefinitionSubstitutions")?;
    for (name, value) in members(&filled) {
        text = text.replace(&format!("${{{name}}}"), value.as_str().unwrap_or_default());
    }
    let definition: Value = serde_json::from_str(&text).map_err(|source| MachineError::Json {
        machine: machine.to_owned(),
        source,
    })?;
    let mut asked = BTreeSet::new();
    let mut walk = Walk {
        machine,
        own_arn: template.arn(machine)?,
        asked: &mut asked,
    };
    walk.states(&definition)?;
    Ok(asked)
}

struct Walk<'a> {
    machine: &'a str,
    own_arn: String,
    asked: &'a mut BTreeSet<Request>,
}

impl Walk<'_> {
    fn asks(&mut self, action: &str, resource: &str) {
        self.asked.insert(Request {
            action: action.to_owned(),
            resource: resource.to_owned(),
            ..Request::default()
        });
    }

    fn states(&mut self, definition: &Value) -> Result<(), MachineError> {
        for (name, state) in members(&definition["States"]) {
            match state["Type"].as_str() {
                Some("Task") => self.task(name, state)?,
                Some("Map") => {
                    // Its branches are executions of their own.
                    if state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED" {
                        let own_arn = self.own_arn.clone();
                        self.asks("states:StartExecution", &own_arn);
                    }
                    self.states(&state["ItemProcessor"])?;
                }
                Some("Parallel") => {
                    for branch in state["Branches"].as_array().into_iter().flatten() {
                        self.states(branch)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn task(&mut self, name: &str, state: &Value) -> Result<(), MachineError> {
        let resource = state["Resource"].as_str().unwrap_or_default();
        let (action, of) = match resource {
            "arn:aws:states:::lambda:invoke" => ("lambda:InvokeFunction", "FunctionName"),
            "arn:aws:states:::states:startExecution"
            | "arn:aws:states:::aws-sdk:sfn:startExecution" => {
                ("states:StartExecution", "StateMachineArn")
            }
            _ => return Err(self.wrong(name, format!("its resource is {resource:?}"))),
        };
        match state["Parameters"][of].as_str() {
            Some(arn) if arn.starts_with("arn:") => {
                let arn = arn.to_owned();
                self.asks(action, &arn);
                Ok(())
            }
            _ => Err(self.wrong(name, format!("{of} is {}, no ARN", state["Parameters"][of]))),
        }
    }

    fn wrong(&self, state: &str, what: String) -> MachineError {
        MachineError::State {
            machine: self.machine.to_owned(),
            state: state.to_owned(),
            what,
        }
    }
}

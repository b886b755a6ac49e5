//! One state with its input: what of it can be computed without calling anybody.

use std::borrow::Cow;

use serde_json::{Map as Object, Value};

use crate::definition::{Choice, Fail, Pass, State, Text};
use crate::error::{ExecutionFailed, names};
use crate::limit;
use crate::path::{Context, Path, ResultPath, Scope};
use crate::template::Template;
use crate::walk::Step;

/// One state of a definition (`'d`) with its input (`'a`), while the execution is in it.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'d, 'a> {
    pub name: &'d str,
    pub state: &'d State,
    /// The raw input.
    pub input: &'a Value,
    /// Of the item of the Map around it, for onlookers.
    pub index: Option<usize>,
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

    pub fn pass(&self, pass: &'d Pass) -> Result<Step<'d>, ExecutionFailed> {
        let input = self.effective_input()?;
        let result = match (&pass.result, &pass.parameters) {
            (Some(result), _) => result.clone(),
            (None, Some(template)) => self.fill("Parameters", template, &input)?,
            (None, None) => input.into_owned(),
        };
        let output = self.output(self.place(&pass.result_path, result)?)?;
        Ok(Step::new(output, &pass.transition))
    }

    pub fn choose(&self, choice: &'d Choice) -> Result<Step<'d>, ExecutionFailed> {
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
    pub fn fail(&self, fail: &Fail) -> Result<ExecutionFailed, ExecutionFailed> {
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

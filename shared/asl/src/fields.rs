//! The fields of one JSON object of a definition, taken one by one; what is left over is refused.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::DefinitionError;
use crate::path::{Path, PathError, ResultPath};
use crate::template::{Template, TemplateError};

/// The name that stands for the definition itself where an error names a state.
pub const TOP: &str = "(definition)";

/// An object's fields, with the place they stand in for errors.
pub struct Fields {
    state: String,
    /// `Retry[0].` inside a state, empty at its own level.
    prefix: String,
    members: Map<String, Value>,
}

impl Fields {
    /// The fields of `value`, which is the state's own object or the part of it at `place`.
    pub fn new(state: &str, place: &str, value: Value) -> Result<Self, DefinitionError> {
        match value {
            Value::Object(members) => Ok(Self {
                state: state.to_owned(),
                prefix: if place.is_empty() {
                    String::new()
                } else {
                    format!("{place}.")
                },
                members,
            }),
            _ => Err(DefinitionError::Invalid {
                state: state.to_owned(),
                field: if place.is_empty() { "the state" } else { place }.to_owned(),
                reason: "it must be an object".to_owned(),
            }),
        }
    }

    /// The state that these fields belong to.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The field's place inside the state.
    pub fn place(&self, field: &str) -> String {
        format!("{}{field}", self.prefix)
    }

    /// An error about a field's value.
    pub fn invalid(&self, field: &str, reason: impl Into<String>) -> DefinitionError {
        DefinitionError::Invalid {
            state: self.state.clone(),
            field: self.place(field),
            reason: reason.into(),
        }
    }

    /// An error about a field, or a value of it, that is not implemented.
    pub fn unsupported(&self, field: &str, reason: impl Into<String>) -> DefinitionError {
        DefinitionError::Unsupported {
            state: self.state.clone(),
            field: self.place(field),
            reason: reason.into(),
        }
    }

    /// An error about a field that must be there.
    pub fn missing(&self, field: &str) -> DefinitionError {
        DefinitionError::Missing {
            state: self.state.clone(),
            field: self.place(field),
        }
    }

    /// Takes a field as it is.
    pub fn value(&mut self, field: &str) -> Option<Value> {
        self.members.remove(field)
    }

    /// Takes a text.
    pub fn text(&mut self, field: &str) -> Result<Option<String>, DefinitionError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(field, "it must be a text")),
        }
    }

    /// Takes a text that must be there.
    pub fn required_text(&mut self, field: &str) -> Result<String, DefinitionError> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    /// Takes a boolean.
    pub fn boolean(&mut self, field: &str) -> Result<Option<bool>, DefinitionError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.invalid(field, "it must be true or false")),
        }
    }

    /// Takes a whole number from `least` to 99,999,999, the language's most.
    pub fn integer(&mut self, field: &str, least: u32) -> Result<Option<u32>, DefinitionError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (least..=99_999_999).contains(number))
            .map(Some)
            .ok_or_else(|| {
                self.invalid(
                    field,
                    format!("it must be a whole number from {least} to 99999999"),
                )
            })
    }

    /// Takes a number of seconds from 1.
    pub fn seconds(&mut self, field: &str) -> Result<Option<Duration>, DefinitionError> {
        Ok(self
            .integer(field, 1)?
            .map(|seconds| Duration::from_secs(seconds.into())))
    }

    /// Takes a list.
    pub fn list(&mut self, field: &str) -> Result<Option<Vec<Value>>, DefinitionError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.invalid(field, "it must be a list")),
        }
    }

    /// Takes a path.
    pub fn path(&mut self, field: &str) -> Result<Option<Path>, DefinitionError> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(path) => Ok(Some(path)),
            Err(error) => Err(self.path_error(field, &error)),
        }
    }

    /// Takes `InputPath` or `OutputPath`: absent is `$`, and `null` is nothing.
    pub fn filter(&mut self, field: &str) -> Result<Option<Path>, DefinitionError> {
        if self.members.get(field) == Some(&Value::Null) {
            self.members.remove(field);
            return Ok(None);
        }
        Ok(Some(self.path(field)?.unwrap_or_else(Path::whole)))
    }

    /// Takes `ResultPath`: absent is `$`, and `null` discards.
    pub fn result_path(&mut self) -> Result<ResultPath, DefinitionError> {
        let field = "ResultPath";
        match self.value(field) {
            None => Ok(ResultPath::whole()),
            Some(Value::Null) => Ok(ResultPath::Discard),
            Some(Value::String(text)) => {
                text.parse().map_err(|error| self.path_error(field, &error))
            }
            Some(_) => Err(self.invalid(field, "it must be a path or null")),
        }
    }

    /// Takes a payload template.
    pub fn template(&mut self, field: &str) -> Result<Option<Template>, DefinitionError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        if !value.is_object() {
            return Err(self.invalid(field, "it must be an object"));
        }
        match Template::parse(&value) {
            Ok(template) => Ok(Some(template)),
            Err(error) => Err(self.template_error(field, &error)),
        }
    }

    /// An error about a path, told apart by whether AWS would take it.
    pub fn path_error(&self, field: &str, error: &PathError) -> DefinitionError {
        match error {
            PathError::Place(_) => self.invalid(field, error.to_string()),
            _ => self.unsupported(field, error.to_string()),
        }
    }

    /// An error about a template.
    pub fn template_error(&self, field: &str, error: &TemplateError) -> DefinitionError {
        match error {
            TemplateError::Path(path) => self.path_error(field, path),
            other => self.invalid(field, other.to_string()),
        }
    }

    /// Refuses what nobody took: a field that is ignored is a promise that is broken.
    pub fn finish(self) -> Result<(), DefinitionError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(field) => Err(self.unsupported(field, "no such field is known here")),
        }
    }
}

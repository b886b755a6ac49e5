//! Payload templates: `Parameters`, `ResultSelector` and `ItemSelector`.
//!
//! A member whose name ends in `.$` holds a path, and the value found there takes its place under the
//! name without that ending; everything else is copied.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::path::{Path, PathError, Scope};

/// A JSON value with holes that paths fill.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// Copied as it stands.
    Literal(Value),
    /// The value at a path.
    Path(Path),
    /// A list of templates.
    List(Vec<Template>),
    /// An object of templates, by member name.
    Object(Vec<(String, Template)>),
}

/// A template that cannot be filled.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("{0:?} ends in `.$`, so its value must be a path")]
    NotAPath(String),
    #[error("{0:?} is given twice, with `.$` and without")]
    Twice(String),
}

impl Template {
    /// Reads a template; `.$` members must hold paths of the subset.
    pub(crate) fn parse(value: &Value) -> Result<Self, TemplateError> {
        match value {
            Value::Object(members) => {
                let mut object: Vec<(String, Self)> = Vec::with_capacity(members.len());
                for (name, value) in members {
                    let (name, template) = member(name, value)?;
                    if object.iter().any(|(taken, _)| *taken == name) {
                        return Err(TemplateError::Twice(name));
                    }
                    object.push((name, template));
                }
                Ok(Self::Object(object))
            }
            Value::Array(items) => items
                .iter()
                .map(Self::parse)
                .collect::<Result<_, _>>()
                .map(Self::List),
            scalar => Ok(Self::Literal(scalar.clone())),
        }
    }

    /// The value with every hole filled, or the first path that found nothing.
    pub(crate) fn fill(&self, scope: Scope<'_>) -> Result<Value, Path> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Path(path) => path
                .resolve(scope)
                .ok_or_else(|| path.clone())?
                .into_owned(),
            Self::List(items) => items
                .iter()
                .map(|item| item.fill(scope))
                .collect::<Result<_, _>>()
                .map(Value::Array)?,
            Self::Object(members) => members
                .iter()
                .map(|(name, template)| Ok((name.clone(), template.fill(scope)?)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object)?,
        })
    }
}

fn member(name: &str, value: &Value) -> Result<(String, Template), TemplateError> {
    match name.strip_suffix(".$") {
        Some(plain) => {
            let text = value
                .as_str()
                .ok_or_else(|| TemplateError::NotAPath(name.to_owned()))?;
            Ok((plain.to_owned(), Template::Path(text.parse()?)))
        }
        None => Ok((name.to_owned(), Template::parse(value)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Context;
    use serde_json::json;

    fn fill(template: &Value, data: &Value) -> Result<Value, Path> {
        let input = json!({});
        let context = Context {
            execution_id: "run-1",
            start_time: Some("now"),
            execution_input: &input,
            state: "S",
            item: None,
        };
        Template::parse(template)
            .unwrap()
            .fill(Scope { data, context })
    }

    #[test]
    fn holes_are_filled_at_every_depth() {
        let template = json!({
            "fixed": {"n": 1, "$": "$.a"},
            "run.$": "$$.Execution.Id",
            "list": [{"a.$": "$.a"}, "$.a", 2],
            "all.$": "$"
        });
        assert_eq!(
            fill(&template, &json!({"a": 7})).unwrap(),
            json!({
                "fixed": {"n": 1, "$": "$.a"},
                "run": "run-1",
                "list": [{"a": 7}, "$.a", 2],
                "all": {"a": 7}
            })
        );
    }

    #[test]
    fn a_path_that_finds_nothing_is_named() {
        let missing = fill(&json!({"x": [{"y.$": "$.b.c"}]}), &json!({})).unwrap_err();
        assert_eq!(missing.to_string(), "$.b.c");
        let outside = fill(&json!({"i.$": "$$.Map.Item.Index"}), &json!({})).unwrap_err();
        assert_eq!(outside.to_string(), "$$.Map.Item.Index");
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        assert_eq!(
            Template::parse(&json!({"a.$": 1})),
            Err(TemplateError::NotAPath("a.$".into()))
        );
        assert_eq!(
            Template::parse(&json!({"a.$": "$", "a": 1})),
            Err(TemplateError::Twice("a".into()))
        );
        assert!(matches!(
            Template::parse(&json!({"a.$": "States.UUID()"})),
            Err(TemplateError::Path(PathError::Intrinsic(_)))
        ));
    }
}

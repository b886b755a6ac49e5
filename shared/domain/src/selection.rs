//! Which items and attributes a scan takes: filter and projection in DynamoDB's own language.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::key::KeySchema;

/// A filter and a projection with their placeholders; the default takes everything.
///
/// The expressions are DynamoDB's and are judged by DynamoDB; only what would lose data is caught here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// `FilterExpression`.
    pub filter: Option<String>,
    /// `ProjectionExpression`.
    pub projection: Option<String>,
    /// `ExpressionAttributeNames`: `#n` to attribute name.
    pub names: BTreeMap<String, String>,
    /// `ExpressionAttributeValues`: `:v` to a value in DynamoDB JSON, `{"S":"open"}`.
    pub values: BTreeMap<String, Value>,
}

/// A selection that DynamoDB would refuse, or that would lose data.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectionError {
    /// A name placeholder without its `#`.
    #[error("expression name {0:?} must start with `#`")]
    Name(String),
    /// A value placeholder without its `:`.
    #[error("expression value {0:?} must start with `:`")]
    Value(String),
    /// A value that is not DynamoDB JSON.
    #[error(
        "expression value {0:?} must be DynamoDB JSON with one type, such as {{\"S\":\"open\"}} or {{\"N\":\"7\"}}"
    )]
    NotTyped(String),
    /// Names or values without an expression that could use them.
    #[error("expression names and values need a filter or a projection that uses them")]
    Unused,
    /// An empty expression.
    #[error("the {0} expression is empty")]
    Empty(&'static str),
}

impl Selection {
    /// Whether every item comes whole.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.filter.is_none() && self.projection.is_none()
    }

    /// Finds what can be known to be wrong without asking DynamoDB.
    pub fn check(&self) -> Result<(), SelectionError> {
        for (kind, text) in [("filter", &self.filter), ("projection", &self.projection)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                return Err(SelectionError::Empty(kind));
            }
        }
        if self.is_everything() && !(self.names.is_empty() && self.values.is_empty()) {
            return Err(SelectionError::Unused);
        }
        if let Some(name) = self.names.keys().find(|name| !name.starts_with('#')) {
            return Err(SelectionError::Name(name.clone()));
        }
        for (name, value) in &self.values {
            if !name.starts_with(':') {
                return Err(SelectionError::Value(name.clone()));
            }
            if value.as_object().is_none_or(|types| types.len() != 1) {
                return Err(SelectionError::NotTyped(name.clone()));
            }
        }
        Ok(())
    }

    /// The same selection with the key attributes in its projection.
    ///
    /// An item without its key cannot be restored, compared or resumed from, and DynamoDB does not add
    /// keys by itself. The added placeholders are `#hw_key_0` and `#hw_key_1`.
    #[must_use]
    pub fn with_keys(mut self, schema: &KeySchema) -> Self {
        let Some(projection) = self.projection.take() else {
            return self;
        };
        let mut paths = projection.clone();
        for (index, attribute) in schema.attributes().enumerate() {
            if self.projects(&projection, &attribute.name) {
                continue;
            }
            let placeholder = format!("#hw_key_{index}");
            paths.push_str(", ");
            paths.push_str(&placeholder);
            self.names.insert(placeholder, attribute.name.clone());
        }
        self.projection = Some(paths);
        self
    }

    /// Whether the projection names this top-level attribute, plainly or by a placeholder.
    fn projects(&self, projection: &str, attribute: &str) -> bool {
        projection.split(',').map(str::trim).any(|path| {
            path == attribute || self.names.get(path).is_some_and(|name| name == attribute)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyAttribute, ScalarType};
    use serde_json::json;

    fn schema() -> KeySchema {
        let attribute = |name: &str| KeyAttribute {
            name: name.into(),
            scalar_type: ScalarType::S,
        };
        KeySchema {
            partition: attribute("id"),
            sort: Some(attribute("at")),
        }
    }

    #[test]
    fn keys_are_added_to_a_projection_that_lacks_them() {
        let selection = Selection {
            projection: Some("title, #k".into()),
            names: BTreeMap::from([("#k".into(), "id".into())]),
            ..Selection::default()
        }
        .with_keys(&schema());
        assert_eq!(
            selection.projection.as_deref(),
            Some("title, #k, #hw_key_1")
        );
        assert_eq!(selection.names["#hw_key_1"], "at");
        assert_eq!(
            selection.clone().with_keys(&schema()),
            selection,
            "a second call adds nothing"
        );
    }

    #[test]
    fn everything_stays_everything() {
        assert_eq!(
            Selection::default().with_keys(&schema()),
            Selection::default()
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_culprit() {
        let with = |names: &[(&str, &str)], values: &[(&str, Value)]| Selection {
            filter: Some("a = :a".into()),
            names: names
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            values: values
                .iter()
                .map(|(k, v)| ((*k).into(), v.clone()))
                .collect(),
            ..Selection::default()
        };
        assert_eq!(
            with(&[("n", "x")], &[]).check(),
            Err(SelectionError::Name("n".into()))
        );
        assert_eq!(
            with(&[], &[("a", json!({"S": "x"}))]).check(),
            Err(SelectionError::Value("a".into()))
        );
        assert_eq!(
            with(&[], &[(":a", json!("x"))]).check(),
            Err(SelectionError::NotTyped(":a".into()))
        );
        assert_eq!(
            with(&[("#n", "x")], &[(":a", json!({"S": "x"}))]).check(),
            Ok(())
        );
        let unused = Selection {
            filter: None,
            ..with(&[("#n", "x")], &[])
        };
        assert_eq!(unused.check(), Err(SelectionError::Unused));
        let empty = Selection {
            filter: Some(" ".into()),
            ..Selection::default()
        };
        assert_eq!(empty.check(), Err(SelectionError::Empty("filter")));
    }
}

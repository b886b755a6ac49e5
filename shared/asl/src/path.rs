//! Paths: which part of a state's data, or of the context object, a field means.
//!
//! The subset: `$`, `$.a.b`, `$.a[0]`, and of the context object `$$.Execution.Id`,
//! `$$.Execution.StartTime`, `$$.Execution.Input`, `$$.State.Name`, `$$.Map.Item.Value` and
//! `$$.Map.Item.Index`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use thiserror::Error;

/// A path that selects exactly one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    root: Root,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Data,
    ExecutionId,
    ExecutionStartTime,
    ExecutionInput,
    StateName,
    MapItemIndex,
    MapItemValue,
}

impl Root {
    const CONTEXT: [(Self, &'static [&'static str]); 6] = [
        (Self::ExecutionId, &["Execution", "Id"]),
        (Self::ExecutionStartTime, &["Execution", "StartTime"]),
        (Self::ExecutionInput, &["Execution", "Input"]),
        (Self::StateName, &["State", "Name"]),
        (Self::MapItemIndex, &["Map", "Item", "Index"]),
        (Self::MapItemValue, &["Map", "Item", "Value"]),
    ];

    fn names(self) -> &'static [&'static str] {
        Self::CONTEXT
            .iter()
            .find(|(root, _)| *root == self)
            .map_or(&[], |(_, names)| names)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Index(usize),
}

/// A text that is not a path of the subset.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// Not in the subset.
    #[error("{0:?} is not a path of the subset `$`, `$.a.b`, `$.a[0]`")]
    Syntax(String),
    /// A field of the context object that is not known here.
    #[error("{0:?} is not one of the context object's fields that are known here")]
    Context(String),
    /// An intrinsic function where a path could stand.
    #[error("{0:?} is an intrinsic function")]
    Intrinsic(String),
    /// A place for a result must be made of names under `$`.
    #[error("{0:?} cannot be the place of a result: only `$` and `$.a.b` can")]
    Place(String),
}

/// What paths are resolved against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// What `$` means.
    pub data: &'a Value,
    /// What `$$` means.
    pub context: Context<'a>,
}

/// The context object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub execution_id: &'a str,
    /// `None` in a child execution: when one begins is not told here.
    pub start_time: Option<&'a str>,
    pub execution_input: &'a Value,
    pub state: &'a str,
    /// Index and value of the innermost Map's item.
    pub item: Option<(usize, &'a Value)>,
}

impl<'a> Context<'a> {
    fn value(self, root: Root, data: &'a Value) -> Option<Cow<'a, Value>> {
        Some(match root {
            Root::Data => Cow::Borrowed(data),
            Root::ExecutionId => Cow::Owned(self.execution_id.into()),
            Root::ExecutionStartTime => Cow::Owned(self.start_time?.into()),
            Root::ExecutionInput => Cow::Borrowed(self.execution_input),
            Root::StateName => Cow::Owned(self.state.into()),
            Root::MapItemIndex => Cow::Owned(self.item?.0.into()),
            Root::MapItemValue => Cow::Borrowed(self.item?.1),
        })
    }
}

impl Path {
    /// `$`: everything.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            root: Root::Data,
            steps: Vec::new(),
        }
    }

    /// Whether the path reads the context object.
    #[must_use]
    pub fn is_context(&self) -> bool {
        self.root != Root::Data
    }

    /// The value at the path, or `None` if there is none.
    pub(crate) fn resolve<'a>(&self, scope: Scope<'a>) -> Option<Cow<'a, Value>> {
        match scope.context.value(self.root, scope.data)? {
            Cow::Borrowed(start) => follow(start, &self.steps).map(Cow::Borrowed),
            Cow::Owned(start) => follow(&start, &self.steps).cloned().map(Cow::Owned),
        }
    }
}

fn follow<'a>(start: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(start, |value, step| match step {
        Step::Member(name) => value.as_object()?.get(name),
        Step::Index(index) => value.as_array()?.get(*index),
    })
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.starts_with("States.") {
            return Err(PathError::Intrinsic(text.to_owned()));
        }
        let syntax = || PathError::Syntax(text.to_owned());
        let rest = text.strip_prefix('$').ok_or_else(syntax)?;
        let Some(rest) = rest.strip_prefix('$') else {
            return Ok(Self {
                root: Root::Data,
                steps: steps(rest).ok_or_else(syntax)?,
            });
        };
        let mut steps = steps(rest).ok_or_else(syntax)?;
        let (root, names) = Root::CONTEXT
            .iter()
            .find(|(_, names)| {
                steps.len() >= names.len()
                    && names
                        .iter()
                        .zip(&steps)
                        .all(|(name, step)| matches!(step, Step::Member(given) if given == name))
            })
            .ok_or_else(|| PathError::Context(text.to_owned()))?;
        steps.drain(..names.len());
        Ok(Self { root: *root, steps })
    }
}

/// `.a.b[0]` as steps; `None` if it is anything else.
fn steps(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                return None;
            }
            steps.push(Step::Member(name.to_owned()));
            rest = tail;
        } else {
            let (digits, tail) = rest.strip_prefix('[')?.split_once(']')?;
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            steps.push(Step::Index(digits.parse().ok()?));
            rest = tail;
        }
    }
    Some(steps)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_context() { "$$" } else { "$" })?;
        for name in self.root.names() {
            write!(f, ".{name}")?;
        }
        for step in &self.steps {
            match step {
                Step::Member(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where a state's result goes in its raw input: `ResultPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultPath {
    /// `null`: nowhere; the input goes on.
    Discard,
    /// Under these names; none of them is `$`, the result takes the input's place.
    Place(Vec<String>),
}

impl ResultPath {
    /// `$`: the result takes the input's place.
    #[must_use]
    pub fn whole() -> Self {
        Self::Place(Vec::new())
    }

    /// `input` with `result` at this place, or `None` if something on the way is no object.
    pub(crate) fn put(&self, input: &Value, result: Value) -> Option<Value> {
        let names = match self {
            Self::Discard => return Some(input.clone()),
            Self::Place(names) => names,
        };
        let Some((last, way)) = names.split_last() else {
            return Some(result);
        };
        let mut output = input.clone();
        let mut place = &mut output;
        for name in way {
            place = place
                .as_object_mut()?
                .entry(name.as_str())
                .or_insert_with(|| Value::Object(Map::new()));
        }
        place.as_object_mut()?.insert(last.clone(), result);
        Some(output)
    }
}

impl FromStr for ResultPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let place = || PathError::Place(text.to_owned());
        let path: Path = text.parse()?;
        if path.is_context() {
            return Err(place());
        }
        path.steps
            .into_iter()
            .map(|step| match step {
                Step::Member(name) => Ok(name),
                Step::Index(_) => Err(place()),
            })
            .collect::<Result<_, _>>()
            .map(Self::Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(path: &str, data: &Value) -> Option<Value> {
        let input = json!({"table": "orders"});
        let item = json!({"n": [4, 5]});
        let context = Context {
            execution_id: "run-1",
            start_time: Some("2026-01-14T10:18:50.622Z"),
            execution_input: &input,
            state: "Scan",
            item: Some((3, &item)),
        };
        let path: Path = path.parse().unwrap();
        path.resolve(Scope { data, context }).map(Cow::into_owned)
    }

    #[test]
    fn a_path_selects_one_value_or_none() {
        let data = json!({"a": {"b": [10, {"c-d": null}]}, "_x": 1});
        for (path, expected) in [
            ("$", Some(data.clone())),
            ("$.a.b[0]", Some(json!(10))),
            ("$.a.b[1].c-d", Some(json!(null))),
            ("$._x", Some(json!(1))),
            ("$.a.b[2]", None),
            ("$.a[0]", None),
            ("$.a.b.c", None),
            ("$.missing", None),
        ] {
            assert_eq!(at(path, &data), expected, "{path}");
        }
    }

    #[test]
    fn the_context_object_is_read_with_two_dollars() {
        for (path, expected) in [
            ("$$.Execution.Id", json!("run-1")),
            ("$$.Execution.StartTime", json!("2026-01-14T10:18:50.622Z")),
            ("$$.Execution.Input", json!({"table": "orders"})),
            ("$$.Execution.Input.table", json!("orders")),
            ("$$.State.Name", json!("Scan")),
            ("$$.Map.Item.Index", json!(3)),
            ("$$.Map.Item.Value.n[1]", json!(5)),
        ] {
            assert_eq!(at(path, &json!({})), Some(expected), "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused_by_what_they_are() {
        for text in [
            "",
            "a",
            "$a",
            "$.",
            "$..a",
            "$.a[",
            "$.a[x]",
            "$.a[*]",
            "$.a[-1]",
            "$.a[]",
            "$.a b",
            "$['a']",
            "$.a[?(@.b)]",
            "$.a[+1]",
        ] {
            assert_eq!(
                text.parse::<Path>(),
                Err(PathError::Syntax(text.into())),
                "{text}"
            );
        }
        for text in [
            "$$",
            "$$.Execution",
            "$$.Task.Token",
            "$$.State.EnteredTime",
        ] {
            assert_eq!(text.parse::<Path>(), Err(PathError::Context(text.into())));
        }
        assert!(matches!(
            "States.Format('{}', $.a)".parse::<Path>(),
            Err(PathError::Intrinsic(_))
        ));
    }

    #[test]
    fn a_path_prints_as_it_was_written() {
        for text in [
            "$",
            "$.a.b[0].c",
            "$$.Map.Item.Value.n[1]",
            "$$.Execution.Id",
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_result_goes_where_its_path_says() {
        let input = json!({"a": {"b": 1}, "s": "text", "n": null});
        let put = |path: &str| path.parse::<ResultPath>().unwrap().put(&input, json!(9));
        assert_eq!(
            ResultPath::Discard.put(&input, json!(9)),
            Some(input.clone())
        );
        assert_eq!(put("$"), Some(json!(9)));
        assert_eq!(
            put("$.a.b"),
            Some(json!({"a": {"b": 9}, "s": "text", "n": null}))
        );
        assert_eq!(
            put("$.x.y.z"),
            Some(json!({"a": {"b": 1}, "s": "text", "n": null, "x": {"y": {"z": 9}}}))
        );
        assert_eq!(put("$.s.t"), None, "a text cannot hold a member");
        assert_eq!(put("$.n.t"), None, "nor can null");
        assert_eq!(
            ResultPath::whole().put(&json!("x"), json!(9)),
            Some(json!(9))
        );
        let below: ResultPath = "$.a".parse().unwrap();
        assert_eq!(below.put(&json!("x"), json!(9)), None);
        assert_eq!(below.put(&Value::Null, json!(9)), None);
    }

    #[test]
    fn a_result_cannot_be_put_into_a_list_or_the_context() {
        for text in ["$.a[0]", "$$.Execution.Input"] {
            assert_eq!(
                text.parse::<ResultPath>(),
                Err(PathError::Place(text.into()))
            );
        }
    }
}

//! What an IAM policy allows, as far as this project's policies go.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>. An element or an operator
//! that is not understood is an error: a policy must not look narrow because half of it was not read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thiserror::Error;

use crate::yaml::members;

/// A policy that is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{place}: {what}")]
pub struct PolicyError {
    /// Whose policy and which statement.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

/// What somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `s3:GetObject`.
    pub action: String,
    /// The ARN.
    pub resource: String,
    /// Condition keys that the call carries.
    pub context: BTreeMap<String, String>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Whose it is, and which.
    pub place: String,
    /// Whether it denies.
    pub denies: bool,
    /// Its actions, with wildcards.
    pub actions: Vec<String>,
    /// Its resources, with wildcards.
    pub resources: Vec<String>,
    conditions: Vec<Condition>,
}

/// One line of a `Condition`: all of them must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    test: Test,
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equals,
    NotEquals,
    Like,
    NotLike,
    Null,
}

/// The statements of a role, all of its policies together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// In the order of the template.
    pub statements: Vec<Statement>,
}

impl Policy {
    /// Adds the statements of one resolved policy document of `whose`.
    pub fn read(&mut self, whose: &str, document: &Value) -> Result<(), PolicyError> {
        let statements = match &document["Statement"] {
            Value::Array(statements) => statements.as_slice(),
            Value::Object(_) => std::slice::from_ref(&document["Statement"]),
            _ => {
                return Err(PolicyError {
                    place: whose.to_owned(),
                    what: format!("no policy document with statements: {document}"),
                });
            }
        };
        for statement in statements {
            let place = format!("{whose}, statement {}", self.statements.len() + 1);
            self.statements.push(Statement::read(place, statement)?);
        }
        Ok(())
    }

    /// The statements that allow a request, by index; none if one denies it.
    #[must_use]
    pub fn allowing(&self, request: &Request) -> BTreeSet<usize> {
        let applies = |statement: &Statement| statement.applies(request);
        if self.statements.iter().any(|it| it.denies && applies(it)) {
            return BTreeSet::new();
        }
        let statements = self.statements.iter().enumerate();
        let allowing = statements.filter(|(_, it)| !it.denies && applies(it));
        allowing.map(|(index, _)| index).collect()
    }

    /// Whether a request is allowed.
    #[must_use]
    pub fn allows(&self, request: &Request) -> bool {
        !self.allowing(request).is_empty()
    }
}

impl Statement {
    fn read(place: String, statement: &Value) -> Result<Self, PolicyError> {
        let wrong = |what: String| PolicyError {
            place: place.clone(),
            what,
        };
        let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
        if let Some((name, _)) =
            members(statement).find(|(name, _)| !known.contains(&name.as_str()))
        {
            return Err(wrong(format!(
                "{name} is not understood; a statement says what it allows, not what it leaves out"
            )));
        }
        let list = |name: &str| {
            let values = texts(&statement[name]).filter(|values| !values.is_empty());
            values.ok_or_else(|| wrong(format!("{name} is {}", statement[name])))
        };
        let denies = match statement["Effect"].as_str() {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return Err(wrong(format!("Effect is {}", statement["Effect"]))),
        };
        let mut conditions = Vec::new();
        for (operator, keys) in members(&statement["Condition"]) {
            for (key, values) in members(keys) {
                conditions.push(Condition::read(operator, key, values).map_err(wrong)?);
            }
        }
        Ok(Self {
            denies,
            actions: list("Action")?,
            resources: list("Resource")?,
            conditions,
            place,
        })
    }

    /// Whether the statement is about a request.
    #[must_use]
    pub fn applies(&self, request: &Request) -> bool {
        self.actions.iter().any(|it| names(it, &request.action))
            && self
                .resources
                .iter()
                .any(|it| matches(it, &request.resource))
            && self.conditions.iter().all(|it| it.holds(&request.context))
    }
}

impl Condition {
    fn read(operator: &str, key: &str, values: &Value) -> Result<Self, String> {
        let (name, if_exists) = match operator.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (operator, false),
        };
        let test = match name {
            "StringEquals" | "Bool" => Test::Equals,
            "StringNotEquals" => Test::NotEquals,
            // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
            "StringLike" | "ArnLike" | "ArnEquals" => Test::Like,
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => Test::NotLike,
            "Null" => Test::Null,
            _ => {
                return Err(format!(
                    "the condition operator {operator} is not understood"
                ));
            }
        };
        let values = texts(values).ok_or_else(|| format!("{operator} {key} is {values}"))?;
        Ok(Self {
            test,
            if_exists,
            key: key.to_owned(),
            values,
        })
    }

    fn holds(&self, context: &BTreeMap<String, String>) -> bool {
        let mut found = context.iter();
        // The names of condition keys know no case.
        let found = found.find(|(key, _)| key.eq_ignore_ascii_case(&self.key));
        let Some((_, value)) = found else {
            return match self.test {
                Test::Null => self.values.iter().any(|it| it == "true"),
                Test::NotEquals | Test::NotLike => true,
                Test::Equals | Test::Like => self.if_exists,
            };
        };
        let equal = || self.values.contains(value);
        let like = || self.values.iter().any(|it| matches(it, value));
        match self.test {
            Test::Equals => equal(),
            Test::NotEquals => !equal(),
            Test::Like => like(),
            Test::NotLike => !like(),
            Test::Null => self.values.iter().any(|it| it == "false"),
        }
    }
}

/// One text or a list of them.
fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

/// Whether a pattern names an action; actions know no case.
#[must_use]
pub fn names(pattern: &str, action: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
}

/// Whether a text fits a pattern: `*` stands for any characters, none included, `?` for one.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => {
                // The last star takes one character more.
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(statements: &Value) -> Policy {
        let mut policy = Policy::default();
        policy
            .read("test", &json!({"Statement": statements}))
            .unwrap();
        policy
    }

    fn request(action: &str, resource: &str) -> Request {
        Request {
            action: action.into(),
            resource: resource.into(),
            ..Request::default()
        }
    }

    #[test]
    fn wildcards_stand_for_any_characters() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "a-b-b-c", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y", true),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::bb/x", false),
            ("abc", "abcd", false),
            ("abc", "ab", false),
            ("*-restored", "orders-restored-restored", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
        assert!(names("S3:getobject", "s3:GetObject") && !names("s3:Get", "s3:GetObject"));
    }

    #[test]
    fn what_no_statement_allows_is_denied_and_a_denial_wins() {
        let own = policy(&json!([
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:Put*"], "Resource": "arn:aws:s3:::b/*"},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::c/*", "arn:aws:s3:::b/x"]},
        ]));
        let allowing = |action, resource| own.allowing(&request(action, resource));
        assert_eq!(allowing("s3:GetObject", "arn:aws:s3:::b/x"), [0, 1].into());
        assert_eq!(allowing("s3:PutObject", "arn:aws:s3:::b/x"), [0].into());
        assert_eq!(allowing("s3:GetObject", "arn:aws:s3:::d/x"), [].into());
        assert_eq!(allowing("s3:DeleteObject", "arn:aws:s3:::b/x"), [].into());
        assert_eq!(allowing("s3:GetObject", "arn:aws:s3:::b"), [].into());
        let mut denying = own.clone();
        let denial =
            json!({"Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*/secret"}});
        denying.read("test", &denial).unwrap();
        assert!(!denying.allows(&request("s3:GetObject", "arn:aws:s3:::b/secret")));
        assert!(denying.allows(&request("s3:GetObject", "arn:aws:s3:::b/open")));
        assert!(!Policy::default().allows(&request("s3:GetObject", "arn:aws:s3:::b/x")));
    }

    #[test]
    fn conditions_must_all_hold() {
        let with = |condition: Value| {
            policy(
                &json!([{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*", "Condition": condition}]),
            )
        };
        let asked = |prefix: Option<&str>| {
            let mut request = request("s3:ListBucket", "arn:aws:s3:::b");
            let prefix = prefix.map(|it| ("s3:prefix".to_owned(), it.to_owned()));
            request.context.extend(prefix);
            request
        };
        for (condition, prefix, holds) in [
            (
                json!({"StringLike": {"s3:prefix": ["a/*", "b"]}}),
                Some("a/x"),
                true,
            ),
            (
                json!({"StringLike": {"s3:Prefix": ["a/*", "b"]}}),
                Some("c"),
                false,
            ),
            (json!({"StringLike": {"s3:prefix": "a/*"}}), None, false),
            (
                json!({"StringLikeIfExists": {"s3:prefix": "a/*"}}),
                None,
                true,
            ),
            (
                json!({"StringEquals": {"s3:prefix": "a*"}}),
                Some("a*"),
                true,
            ),
            (
                json!({"StringEquals": {"s3:prefix": "a*"}}),
                Some("ab"),
                false,
            ),
            (json!({"StringNotEquals": {"s3:prefix": "a"}}), None, true),
            (json!({"Null": {"s3:prefix": "true"}}), None, true),
            (json!({"Null": {"s3:prefix": "true"}}), Some("a"), false),
            (
                json!({"StringLike": {"s3:prefix": "*"}, "Bool": {"x": "true"}}),
                Some("a"),
                false,
            ),
        ] {
            assert_eq!(
                with(condition.clone()).allows(&asked(prefix)),
                holds,
                "{condition} {prefix:?}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (statement, says) in [
            (
                json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
                "NotAction",
            ),
            (
                json!({"Effect": "Allow", "Action": "s3:*", "NotResource": "*"}),
                "NotResource",
            ),
            (
                json!({"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}),
                "Principal",
            ),
            (
                json!({"Effect": "Perhaps", "Action": "s3:*", "Resource": "*"}),
                "Effect",
            ),
            (json!({"Effect": "Allow", "Resource": "*"}), "Action"),
            (
                json!({"Effect": "Allow", "Action": [], "Resource": "*"}),
                "Action",
            ),
            (
                json!({"Effect": "Allow", "Action": {"Ref": "x"}, "Resource": "*"}),
                "Action",
            ),
            (
                json!({"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"DateLessThan": {"a": "b"}}}),
                "DateLessThan",
            ),
        ] {
            let document = json!({"Statement": [statement]});
            let error = Policy::default().read("test", &document).unwrap_err();
            assert!(error.what.contains(says), "{error}");
            assert_eq!(error.place, "test, statement 1");
        }
        assert!(
            Policy::default()
                .read("test", &json!("AWSLambdaExecute"))
                .is_err()
        );
    }
}

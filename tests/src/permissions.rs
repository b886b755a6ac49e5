//! Holds what was asked for against what a role allows: neither less nor more.

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::policy::{Policy, PolicyError, Request, Statement, matches, names};
use crate::stack_template::{StackTemplate, TemplateError};

/// Why a role cannot be looked at.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PermissionError {
    /// The template is not understood.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A policy is not understood.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The role is given something that is written down nowhere in the template.
    #[error("{whose}: {what}")]
    Elsewhere {
        /// Whose role.
        whose: String,
        /// What it is given.
        what: String,
    },
}

/// An action that a policy needs although no run has used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Documented {
    /// Whose policy: a logical id, with wildcards.
    pub whose: &'static str,
    /// The action, as the policy spells it.
    pub action: &'static str,
    /// The resource of the statement, with wildcards.
    pub resource: &'static str,
    /// Why it is needed.
    pub reason: &'static str,
}

impl Documented {
    fn is_about(&self, whose: &str, action: &str, statement: &Statement) -> bool {
        matches(self.whose, whose)
            && self.action == action
            && statement
                .resources
                .iter()
                .any(|it| matches(self.resource, it))
    }
}

/// Everything that the template's own policies give a function or a state machine.
pub fn policy_of(template: &StackTemplate, logical_id: &str) -> Result<Policy, PermissionError> {
    let elsewhere = |what: &str| PermissionError::Elsewhere {
        whose: logical_id.to_owned(),
        what: what.to_owned(),
    };
    for property in ["Role", "Connectors", "ManagedPolicyArns"] {
        if !template.property(logical_id, property)?.is_null() {
            return Err(elsewhere(&format!(
                "{property} gives permissions that are not looked at here: write them as Policies"
            )));
        }
    }
    let mut policy = Policy::default();
    let documents = match template.property(logical_id, "Policies")? {
        Value::Array(documents) => documents,
        Value::Null => return Err(elsewhere("it has no Policies")),
        one => vec![one],
    };
    for document in &documents {
        policy.read(logical_id, document)?;
    }
    Ok(policy)
}

/// What was found wrong with a policy, each in a sentence; nothing if it is exact.
#[must_use]
pub fn findings(
    whose: &str,
    policy: &Policy,
    asked: &BTreeSet<Request>,
    documented: &[Documented],
) -> Vec<String> {
    let denied = asked.iter().filter(|request| !policy.allows(request));
    let mut findings: Vec<String> = denied
        .map(|request| {
            let Request {
                action,
                resource,
                context,
            } = request;
            let with = if context.is_empty() {
                String::new()
            } else {
                format!(" (with {context:?})")
            };
            format!("{whose} is denied {action} on {resource}{with}")
        })
        .collect();
    let mut needed = BTreeSet::new();
    for statement in policy.statements.iter().filter(|it| !it.denies) {
        findings.extend(needless(whose, statement, asked, documented, &mut needed));
    }
    for (index, entry) in documented.iter().enumerate() {
        if matches(entry.whose, whose) && !needed.contains(&index) {
            findings.push(format!(
                "{whose}: {} on {} is on the list of what is needed without being used, but it is used, or not in the policy",
                entry.action, entry.resource
            ));
        }
    }
    findings
}

/// What a statement allows although nobody asked for it. Notes the documented reasons that were needed.
fn needless(
    whose: &str,
    statement: &Statement,
    asked: &BTreeSet<Request>,
    documented: &[Documented],
    needed: &mut BTreeSet<usize>,
) -> Vec<String> {
    let place = &statement.place;
    let applied: Vec<&Request> = asked.iter().filter(|it| statement.applies(it)).collect();
    let mut findings = Vec::new();
    let mut all_documented = true;
    for action in &statement.actions {
        let used = applied.iter().any(|request| names(action, &request.action));
        if used && !action.contains(['*', '?']) {
            all_documented = false;
            continue;
        }
        let mut reasons = documented.iter().enumerate();
        match reasons.find(|(_, entry)| entry.is_about(whose, action, statement)) {
            Some((index, _)) => {
                needed.insert(index);
            }
            None if used => findings.push(format!("{place} allows {action}: name each action")),
            None => findings.push(format!("{place} allows {action}, which no run has used")),
        }
    }
    if all_documented || !findings.is_empty() {
        return findings;
    }
    for resource in &statement.resources {
        if matches(resource, "") {
            findings.push(format!("{place} is about every resource there is"));
        } else if !applied
            .iter()
            .any(|request| matches(resource, &request.resource))
        {
            findings.push(format!(
                "{place} is about {resource}, which no run has touched"
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOGS: Documented = Documented {
        whose: "Lister*",
        action: "logs:PutLogEvents",
        resource: "arn:aws:logs:*",
        reason: "another service writes them in our name",
    };

    fn policy(statements: &Value) -> Policy {
        let mut policy = Policy::default();
        policy
            .read("Lister", &json!({"Statement": statements}))
            .unwrap();
        policy
    }

    fn asked(requests: &[(&str, &str)]) -> BTreeSet<Request> {
        let requests = requests.iter().map(|(action, resource)| Request {
            action: (*action).to_owned(),
            resource: (*resource).to_owned(),
            ..Request::default()
        });
        requests.collect()
    }

    fn exact() -> Value {
        json!([
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::b/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::c"]},
            {"Effect": "Allow", "Action": ["logs:PutLogEvents"], "Resource": "arn:aws:logs:x"},
        ])
    }

    const ALL: [(&str, &str); 4] = [
        ("s3:GetObject", "arn:aws:s3:::b/x"),
        ("s3:PutObject", "arn:aws:s3:::b/y"),
        ("s3:ListBucket", "arn:aws:s3:::b"),
        ("s3:ListBucket", "arn:aws:s3:::c"),
    ];

    #[track_caller]
    fn assert_finds(change: impl Fn(&mut Value), requests: &[(&str, &str)], says: &str) {
        let mut statements = exact();
        change(&mut statements);
        let found = findings("Lister", &policy(&statements), &asked(requests), &[LOGS]);
        assert!(
            found.iter().any(|it| it.contains(says)),
            "{says}: {found:?}"
        );
    }

    #[test]
    fn an_exact_policy_is_found_to_be_so() {
        assert_eq!(
            findings("Lister", &policy(&exact()), &asked(&ALL), &[LOGS]),
            [""; 0]
        );
    }

    #[test]
    fn one_action_more_or_less_is_found() {
        assert_finds(
            |it| it[0]["Action"] = json!("s3:PutObject"),
            &ALL,
            "denied s3:GetObject on arn:aws:s3:::b/x",
        );
        assert_finds(
            |it| it[0]["Action"] = json!(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]),
            &ALL,
            "statement 1 allows s3:DeleteObject, which no run has used",
        );
        assert_finds(
            |it| it[1]["Action"] = json!("s3:List*"),
            &ALL,
            "name each action",
        );
        assert_finds(|_| {}, &ALL[1..], "allows s3:GetObject, which no run");
    }

    #[test]
    fn one_resource_more_or_less_is_found() {
        assert_finds(
            |it| it[1]["Resource"] = json!("arn:aws:s3:::b"),
            &ALL,
            "denied s3:ListBucket on arn:aws:s3:::c",
        );
        assert_finds(
            |_| {},
            &ALL[..3],
            "is about arn:aws:s3:::c, which no run has touched",
        );
        assert_finds(|it| it[1]["Resource"] = json!("*"), &ALL, "every resource");
    }

    #[test]
    fn a_reason_that_nobody_needs_any_more_is_found() {
        assert_finds(
            |it| drop(it.as_array_mut().unwrap().pop()),
            &ALL,
            "or not in the policy",
        );
        let used: Vec<_> = ALL
            .into_iter()
            .chain([("logs:PutLogEvents", "arn:aws:logs:x")])
            .collect();
        assert_finds(|_| {}, &used, "but it is used");
        assert_finds(
            |it| it[2]["Resource"] = json!("*"),
            &ALL,
            "allows logs:PutLogEvents, which no run",
        );
    }

    #[test]
    fn what_a_template_gives_elsewhere_is_refused() {
        let place = crate::stack_template::Place {
            region: "r".into(),
            account: "1".into(),
            stack: "s".into(),
        };
        let read = |properties: &str| {
            let text = format!(
                "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {properties}\n"
            );
            policy_of(&StackTemplate::read(&text, place.clone()).unwrap(), "F")
        };
        for (properties, says) in [
            ("{ Policies: [AWSLambdaExecute] }", "no policy document"),
            (
                "{ Policies: [{ S3ReadPolicy: { BucketName: b } }] }",
                "no policy document",
            ),
            ("{ Role: x }", "Role gives"),
            ("{ Timeout: 3 }", "no Policies"),
        ] {
            let error = read(properties).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let one =
            read("{ Policies: { Statement: [{ Effect: Allow, Action: a:B, Resource: c }] } }")
                .unwrap();
        assert!(one.allows(&asked(&[("a:B", "c")]).pop_first().unwrap()));
    }
}

//! DynamoDB expressions: placeholders, and the conditions that the guarantees rest on.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::clock::Now;
use crate::field::{EXPIRES, ID, VERSION};

/// The placeholders of one request's expressions.
///
/// Every attribute goes by a placeholder, because `name` and others are words that DynamoDB reserves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expression {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Expression {
    /// The placeholder of an attribute; the same one each time it is asked for.
    pub(crate) fn name(&mut self, attribute: &str) -> String {
        if let Some((known, _)) = self.names.iter().find(|(_, name)| *name == attribute) {
            return known.clone();
        }
        let placeholder = format!("#n{}", self.names.len());
        self.names.insert(placeholder.clone(), attribute.to_owned());
        placeholder
    }

    /// The placeholder of a value.
    pub(crate) fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    /// The placeholder of a whole number.
    pub(crate) fn number(&mut self, number: i64) -> String {
        self.value(AttributeValue::N(number.to_string()))
    }

    /// `attribute = value`.
    pub(crate) fn assign(&mut self, attribute: &str, value: AttributeValue) -> String {
        let name = self.name(attribute);
        let value = self.value(value);
        format!("{name} = {value}")
    }

    /// True for an absent record and for one that has not expired.
    pub(crate) fn not_expired(&mut self, now: Now) -> String {
        let expires = self.name(EXPIRES);
        let now = self.number(now.seconds());
        format!("(attribute_not_exists({expires}) OR {expires} > {now})")
    }

    /// True for an absent record, and for an expired one whose version is below `version`.
    ///
    /// The second half keeps versions from going back when the clock that drew `version` was slow.
    pub(crate) fn free_for(&mut self, version: i64, now: Now) -> String {
        let (id, expires, current) = (self.name(ID), self.name(EXPIRES), self.name(VERSION));
        let now = self.number(now.seconds());
        let version = self.number(version);
        format!(
            "attribute_not_exists({id}) OR ({expires} <= {now} AND \
             (attribute_not_exists({current}) OR {current} < {version}))"
        )
    }

    /// True for an absent record and for an expired one.
    pub(crate) fn absent(&mut self, now: Now) -> String {
        let (id, expires) = (self.name(ID), self.name(EXPIRES));
        let now = self.number(now.seconds());
        format!("attribute_not_exists({id}) OR {expires} <= {now}")
    }

    /// True for a live record with exactly this version.
    pub(crate) fn still(&mut self, seen: i64, now: Now) -> String {
        let current = self.name(VERSION);
        let seen = self.number(seen);
        let live = self.not_expired(now);
        format!("{current} = {seen} AND {live}")
    }

    /// True for an expired record with exactly this version, or without one.
    pub(crate) fn expired_at(&mut self, version: Option<i64>, now: Now) -> String {
        let (current, expires) = (self.name(VERSION), self.name(EXPIRES));
        let now = self.number(now.seconds());
        match version {
            Some(version) => {
                let version = self.number(version);
                format!("{current} = {version} AND {expires} <= {now}")
            }
            None => format!("attribute_not_exists({current}) AND {expires} <= {now}"),
        }
    }

    /// Names for the request.
    pub(crate) fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    /// Values for the request.
    pub(crate) fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

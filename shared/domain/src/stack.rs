//! What a deployed stack calls its state machines, and what their tags say.
//!
//! The state machines are called `<stack>-backup` and `<stack>-restore`. Both carry the same tags, so that whoever may
//! see them finds everything else:
//!
//! | tag | value |
//! |---|---|
//! | `highwater:to` | where backups go, `s3://bucket/prefix` |
//! | `highwater:control-table` | the name of the control table |
//! | `highwater:tables` | the tables that are protected, separated by spaces: a tag's value knows no comma |

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::ids::TableRef;
use crate::layout::Destination;

/// Where backups go.
pub const TO_TAG: &str = "highwater:to";
/// The control table.
pub const CONTROL_TABLE_TAG: &str = "highwater:control-table";
/// The tables.
pub const TABLES_TAG: &str = "highwater:tables";

/// The name of a deployed stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackName(String);

/// A name that no stack or execution can have.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StackNameError {
    /// Not a stack's.
    #[error("{0:?} is not a stack's name: a letter, then at most 127 letters, digits and dashes")]
    Stack(String),
    /// Not an execution's.
    #[error(
        "{0:?} is not an execution's name: 1 to 80 letters, digits, dashes, underscores and dots"
    )]
    Execution(String),
}

impl FromStr for StackName {
    type Err = StackNameError;

    fn from_str(text: &str) -> Result<Self, StackNameError> {
        let valid = text.len() <= 128
            && text.starts_with(|it: char| it.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(StackNameError::Stack(text.to_owned()))
        }
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the state machines that a person starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workflow {
    /// `backup.asl.json`.
    Backup,
    /// `restore.asl.json`.
    Restore,
}

impl Workflow {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Backup, Self::Restore];

    /// The word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }

    /// What a stack calls the state machine.
    #[must_use]
    pub fn machine_name(self, stack: &StackName) -> String {
        format!("{stack}-{}", self.as_str())
    }
}

/// The name of an execution: what makes a second start of it find the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionName(String);

impl ExecutionName {
    /// A name that tells what is done and when, and that no other has by chance.
    #[must_use]
    pub fn new(workflow: Workflow, about: &str, at: crate::ids::UnixMillis, random: u32) -> Self {
        let time: String = at
            .to_rfc3339()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(15)
            .collect();
        // 80 bytes, less the word, the time, the random number and the dashes.
        let about: String = about.chars().take(46).collect();
        Self(format!("{}-{about}-{time}-{random:08x}", workflow.as_str()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExecutionName {
    type Err = StackNameError;

    /// Stricter than the service, which also takes characters that its own logs cannot show.
    fn from_str(text: &str) -> Result<Self, StackNameError> {
        let valid = (1..=80).contains(&text.len())
            && text
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(StackNameError::Execution(text.to_owned()))
        }
    }
}

/// The ARN of a machine's execution of this name; `None` if `machine_arn` is no state machine's.
#[must_use]
pub fn execution_arn(machine_arn: &str, name: &str) -> Option<String> {
    let (before, machine) = machine_arn.split_once(":stateMachine:")?;
    Some(format!("{before}:execution:{machine}:{name}"))
}

/// What a machine's tags say of its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackTags {
    /// Where backups go, a bucket and a prefix.
    pub to: Destination,
    /// The name of the control table.
    pub control_table: String,
    /// The tables that are protected.
    pub tables: Vec<TableRef>,
}

/// Tags that do not describe a stack.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TagError {
    /// Some are not there.
    #[error("has no tag {}", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// One says something else than it should.
    #[error("has the tag {tag} with the value {value:?}: {why}")]
    Invalid {
        /// Which.
        tag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StackTags {
    /// Reads a machine's tags.
    pub fn read(tags: &BTreeMap<String, String>) -> Result<Self, TagError> {
        let wanted = [TO_TAG, CONTROL_TABLE_TAG, TABLES_TAG];
        let missing: Vec<&str> = wanted
            .into_iter()
            .filter(|tag| tags.get(*tag).is_none_or(|value| value.trim().is_empty()))
            .collect();
        let value = |tag: &str| tags.get(tag).map(|value| value.trim());
        let (Some(to), Some(control_table), Some(tables), []) = (
            value(TO_TAG),
            value(CONTROL_TABLE_TAG),
            value(TABLES_TAG),
            &missing[..],
        ) else {
            return Err(TagError::Missing(missing));
        };
        Ok(Self {
            to: destination(to)?,
            control_table: control_table.to_owned(),
            tables: tables
                .split([' ', ',', '+'])
                .filter(|name| !name.is_empty())
                .map(|name| {
                    let table: Result<TableRef, _> = name.parse();
                    table.map_err(|error| invalid(TABLES_TAG, tables, error.to_string()))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// The stack's own word for a table, if it is one of its tables.
    #[must_use]
    pub fn table(&self, wanted: &TableRef) -> Option<&TableRef> {
        self.tables
            .iter()
            .find(|table| table.name() == wanted.name())
    }

    /// The names of the tables, for people.
    #[must_use]
    pub fn table_names(&self) -> String {
        let names: Vec<&str> = self.tables.iter().map(TableRef::name).collect();
        names.join(", ")
    }
}

fn invalid(tag: &'static str, value: &str, why: String) -> TagError {
    TagError::Invalid {
        tag,
        value: value.to_owned(),
        why,
    }
}

fn destination(text: &str) -> Result<Destination, TagError> {
    match text.parse() {
        Ok(Destination::Directory { .. }) => {
            Err(invalid(TO_TAG, text, "no function can write there".into()))
        }
        Ok(to) => Ok(to),
        Err(error) => Err(invalid(TO_TAG, text, format!("{error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UnixMillis;

    fn tags(values: [(&str, &str); 3]) -> BTreeMap<String, String> {
        let owned = values.map(|(tag, value)| (tag.to_owned(), value.to_owned()));
        owned.into()
    }

    const TAGS: [(&str, &str); 3] = [
        (TO_TAG, "s3://bkt/nightly"),
        (CONTROL_TABLE_TAG, "stack-Control-1"),
        (TABLES_TAG, "orders customers"),
    ];

    #[test]
    fn tags_say_where_everything_is() {
        let read = StackTags::read(&tags(TAGS)).unwrap();
        assert_eq!(read.to.to_string(), "s3://bkt/nightly");
        assert_eq!(read.control_table, "stack-Control-1");
        assert_eq!(read.table_names(), "orders, customers");
        let arn = "arn:aws:dynamodb:eu-north-1:111122223333:table/customers";
        let found = read.table(&arn.parse().unwrap()).unwrap();
        assert_eq!(found.as_str(), "customers", "the stack's own word for it");
        assert_eq!(read.table(&"customer".parse().unwrap()), None);
    }

    #[test]
    fn every_tag_that_is_missing_is_named() {
        let mut some = tags(TAGS);
        some.remove(TO_TAG);
        some.insert(TABLES_TAG.into(), "  ".into());
        assert_eq!(
            StackTags::read(&some),
            Err(TagError::Missing(vec![TO_TAG, TABLES_TAG]))
        );
        let all = StackTags::read(&BTreeMap::new()).unwrap_err().to_string();
        for tag in [TO_TAG, CONTROL_TABLE_TAG, TABLES_TAG] {
            assert!(all.contains(tag), "{all}");
        }
    }

    #[test]
    fn a_tag_that_cannot_be_read_is_named_with_its_value() {
        for (tag, value) in [
            (TO_TAG, "file:///tmp"),
            (TO_TAG, "nowhere"),
            (TABLES_TAG, "or ders!"),
        ] {
            let mut some = tags(TAGS);
            some.insert(tag.into(), value.into());
            let error = StackTags::read(&some).unwrap_err().to_string();
            assert!(error.contains(tag) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn names_follow_the_services_rules() {
        for name in ["highwater", "A1-b", &"x".repeat(128)] {
            assert!(name.parse::<StackName>().is_ok(), "{name}");
        }
        for name in ["", "1x", "-x", "a_b", "a b", &"x".repeat(129)] {
            assert!(name.parse::<StackName>().is_err(), "{name}");
        }
        for name in ["nightly_1.2-x", &"x".repeat(80)] {
            assert!(name.parse::<ExecutionName>().is_ok(), "{name}");
        }
        for name in ["", "a b", "a/b", "a:b", "ü", &"x".repeat(81)] {
            assert!(name.parse::<ExecutionName>().is_err(), "{name}");
        }
        let stack: StackName = "night".parse().unwrap();
        assert_eq!(Workflow::Restore.machine_name(&stack), "night-restore");
    }

    #[test]
    fn a_new_name_is_valid_whatever_the_tables_is() {
        let at = UnixMillis(1_768_385_930_622);
        let name = ExecutionName::new(Workflow::Restore, &"t".repeat(255), at, u32::MAX);
        assert_eq!(name.as_str().parse::<ExecutionName>().as_ref(), Ok(&name));
        let name = ExecutionName::new(Workflow::Backup, "orders", at, 0xef);
        assert_eq!(name.as_str(), "backup-orders-20260114T101850-000000ef");
    }

    #[test]
    fn an_executions_arn_follows_from_its_machines() {
        let machine = "arn:aws-cn:states:cn-north-1:111122223333:stateMachine:s-backup";
        assert_eq!(
            execution_arn(machine, "one").unwrap(),
            "arn:aws-cn:states:cn-north-1:111122223333:execution:s-backup:one"
        );
        assert_eq!(execution_arn("s-backup", "one"), None);
    }
}

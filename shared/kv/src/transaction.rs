//! Several records at once: what is to be done.

use std::collections::HashSet;

use crate::error::Error;
use crate::write::Write;

/// Most actions that DynamoDB takes in one transaction.
const MOST_ACTIONS: usize = 100;

/// Actions on up to 100 different records of one table, to be done all or not at all.
///
/// See [`Table::transact`](crate::Table::transact).
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a transaction does nothing until it is given to `Table::transact`"]
pub struct Transaction {
    pub(crate) actions: Vec<Action>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Action {
    pub(crate) partition: String,
    pub(crate) name: String,
    pub(crate) verb: Verb,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verb {
    Create(Write),
    Update(i64, Write),
    Delete(i64),
    Check(i64),
    CheckAbsent,
}

impl Transaction {
    /// A transaction without actions.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, partition: impl Into<String>, name: impl Into<String>, verb: Verb) -> Self {
        self.actions.push(Action {
            partition: partition.into(),
            name: name.into(),
            verb,
        });
        self
    }

    /// Creates a record, as [`Partition::create`](crate::Partition::create) does.
    pub fn create(
        self,
        partition: impl Into<String>,
        name: impl Into<String>,
        write: Write,
    ) -> Self {
        self.with(partition, name, Verb::Create(write))
    }

    /// Merges a write into a record that still has the version `seen`.
    pub fn update(
        self,
        partition: impl Into<String>,
        name: impl Into<String>,
        seen: i64,
        write: Write,
    ) -> Self {
        self.with(partition, name, Verb::Update(seen, write))
    }

    /// Creates a record if none was `seen`, or updates the version that was.
    pub fn put_if(
        self,
        partition: impl Into<String>,
        name: impl Into<String>,
        seen: Option<i64>,
        write: Write,
    ) -> Self {
        match seen {
            None => self.create(partition, name, write),
            Some(seen) => self.update(partition, name, seen, write),
        }
    }

    /// Deletes a record that still has the version `seen`.
    pub fn delete(self, partition: impl Into<String>, name: impl Into<String>, seen: i64) -> Self {
        self.with(partition, name, Verb::Delete(seen))
    }

    /// Demands that a record still has the version `seen`, and leaves it as it is.
    pub fn check(self, partition: impl Into<String>, name: impl Into<String>, seen: i64) -> Self {
        self.with(partition, name, Verb::Check(seen))
    }

    /// Demands that a record does not exist, or has expired.
    pub fn check_absent(self, partition: impl Into<String>, name: impl Into<String>) -> Self {
        self.with(partition, name, Verb::CheckAbsent)
    }

    /// The number of actions so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Whether there are no actions yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Transaction { reason });
        if self.actions.is_empty() {
            return refuse("it has no actions".into());
        }
        if self.actions.len() > MOST_ACTIONS {
            let count = self.actions.len();
            return refuse(format!("{count} actions, {MOST_ACTIONS} are possible"));
        }
        let mut seen = HashSet::new();
        for action in &self.actions {
            if !seen.insert((&action.partition, &action.name)) {
                let (partition, name) = (&action.partition, &action.name);
                return refuse(format!(
                    "{name:?} of partition {partition:?} is in it twice"
                ));
            }
            if let Verb::Create(write) | Verb::Update(_, write) = &action.verb {
                write.check()?;
            }
        }
        Ok(())
    }
}

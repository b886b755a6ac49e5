//! A deployed stack, as far as its state machines tell: what `highwater start`, `stop` and `watch` work on.
//!
//! Everything is found by the machines' names and tags ([`highwater_domain::stack`]); no other service is asked what
//! belongs to the stack. An execution's ARN and the moment it started tell the id of the snapshot or restore that
//! comes of it, before there is any record.

mod error;
mod executions;
mod request;
mod start;
mod stop;

use highwater_domain::executions::{Executions, Machine};
use highwater_domain::ids::TableRef;
use highwater_domain::stack::{StackName, StackTags, Workflow};

pub use error::StackError;
pub use executions::{StackExecution, StackPorts};
pub use request::{JobId, JobRequest};
pub use start::{Started, start};
pub use stop::{Effect, Stopped, stop};

/// A stack that is there.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    backup: Machine,
    restore: Machine,
    /// Where its backups go, its control table, its tables.
    pub tags: StackTags,
}

impl Stack {
    /// Finds the machines by their names, and reads what their tags say.
    pub async fn find(executions: &dyn Executions, name: &StackName) -> Result<Self, StackError> {
        let [backup, restore] = machines(executions, name).await?;
        let missing = |workflow: Workflow| workflow.machine_name(name);
        let (backup, restore) = match (backup, restore) {
            (Some(backup), Some(restore)) => (backup, restore),
            (None, None) => return Err(StackError::NotFound(name.to_string())),
            (found, _) => {
                let workflow = if found.is_some() {
                    Workflow::Restore
                } else {
                    Workflow::Backup
                };
                return Err(StackError::Incomplete {
                    stack: name.to_string(),
                    machine: missing(workflow),
                });
            }
        };
        let tags = executions
            .tags(&backup.arn)
            .await
            .map_err(StackError::Service)?;
        let tags = StackTags::read(&tags).map_err(|source| StackError::Tags {
            machine: backup.name.clone(),
            source,
        })?;
        Ok(Self {
            name: name.clone(),
            backup,
            restore,
            tags,
        })
    }

    /// The state machine of a workflow.
    #[must_use]
    pub fn machine(&self, workflow: Workflow) -> &Machine {
        match workflow {
            Workflow::Backup => &self.backup,
            Workflow::Restore => &self.restore,
        }
    }

    /// The stack's own word for one of its tables.
    pub fn table(&self, wanted: &TableRef) -> Result<&TableRef, StackError> {
        self.tags
            .table(wanted)
            .ok_or_else(|| StackError::TableNotOfStack {
                table: wanted.to_string(),
                stack: self.name.to_string(),
                tables: self.tags.table_names(),
            })
    }
}

/// The machines of both workflows, as far as the listing has them.
async fn machines(
    executions: &dyn Executions,
    stack: &StackName,
) -> Result<[Option<Machine>; 2], StackError> {
    let mut found = [None, None];
    let mut after = None;
    loop {
        let page = executions
            .machines(after.as_deref())
            .await
            .map_err(StackError::Service)?;
        for machine in page.found {
            for (place, workflow) in found.iter_mut().zip(Workflow::ALL) {
                if machine.name == workflow.machine_name(stack) {
                    *place = Some(machine.clone());
                }
            }
        }
        after = page.next;
        if after.is_none() || found.iter().all(Option::is_some) {
            return Ok(found);
        }
    }
}

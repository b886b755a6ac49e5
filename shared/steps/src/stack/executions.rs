//! A stack's executions: which are at work, and which one somebody means.

use std::sync::Arc;

use highwater_domain::control_table::ControlTable;
use highwater_domain::executions::{ExecutionState, Executions};
use highwater_domain::ids::SnapshotId;
use highwater_domain::restore::RestoreId;
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::stack::{ExecutionName, Workflow, execution_arn};

use crate::stack::{JobId, JobRequest, Stack, StackError};

/// Where executions and what they leave are looked up.
#[derive(Clone, Debug)]
pub struct StackPorts {
    /// Step Functions.
    pub executions: Arc<dyn Executions>,
    /// The stack's control table: snapshots.
    pub control: Arc<dyn ControlTable>,
    /// The same: restores.
    pub restores: Arc<dyn RestoreControl>,
}

/// An execution of a stack, and what it is about.
#[derive(Clone, Debug)]
pub struct StackExecution {
    /// Of which of its machines.
    pub workflow: Workflow,
    /// What Step Functions says of it.
    pub state: ExecutionState,
    /// Its input; `None` where that cannot be read.
    pub request: Option<JobRequest>,
    /// What comes of it; `None` where the input cannot be read.
    pub job: Option<JobId>,
    /// The table that is read or filled, as far as input and control table tell.
    pub table: Option<String>,
}

impl StackExecution {
    /// The execution in this state.
    #[must_use]
    pub fn of(workflow: Workflow, state: ExecutionState) -> Self {
        let input = state.input.as_deref();
        let request = input.and_then(|input| JobRequest::read(workflow, input));
        let job = request
            .as_ref()
            .and_then(|request| request.job(&state.arn, state.started_at).ok());
        let table = request.as_ref().and_then(JobRequest::table);
        Self {
            table: table.map(|table| table.name().to_owned()),
            workflow,
            state,
            request,
            job,
        }
    }

    fn is(&self, target: &str) -> bool {
        self.state.name == target || self.job.as_ref().is_some_and(|job| job.as_str() == target)
    }
}

impl Stack {
    /// The executions at work, in the order in which they started.
    pub async fn running(&self, ports: &StackPorts) -> Result<Vec<StackExecution>, StackError> {
        let mut found = Vec::new();
        for workflow in Workflow::ALL {
            let machine = &self.machine(workflow).arn;
            let mut after = None;
            loop {
                let page = ports.executions.running(machine, after.as_deref()).await;
                let page = page.map_err(StackError::Service)?;
                for running in page.found {
                    let Some(state) = describe(ports, &running.arn).await? else {
                        continue;
                    };
                    let execution = StackExecution::of(workflow, state);
                    found.push(with_table(ports, execution).await?);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        // It may have ended since it was listed.
        found.retain(|it| !it.state.status.has_ended());
        found.sort_by_key(|it| it.state.started_at);
        Ok(found)
    }

    /// The execution that somebody means by its ARN, its name, the id of what comes of it, or the table that it is at
    /// work on. One at work goes before one that has ended.
    pub async fn execution(
        &self,
        ports: &StackPorts,
        target: &str,
    ) -> Result<StackExecution, StackError> {
        if let Some(ended_or_not) = self.by_arn(ports, target).await? {
            return Ok(ended_or_not);
        }
        let named = self.by_name(ports, target).await?;
        let named = match named {
            Some(named) if !named.state.status.has_ended() => return Ok(named),
            named => named,
        };
        let running = self.running(ports).await?;
        if let Some(index) = running.iter().position(|it| it.is(target)) {
            return running
                .into_iter()
                .nth(index)
                .ok_or_else(|| self.unknown(target));
        }
        let table = target.rsplit('/').next().unwrap_or(target);
        let mut about = running;
        about.retain(|it| it.table.as_deref() == Some(table));
        if about.len() > 1 {
            return Err(StackError::Ambiguous {
                table: table.to_owned(),
                executions: about.into_iter().map(|it| it.state.name).collect(),
            });
        }
        if let Some(found) = about.pop().or(named) {
            return Ok(found);
        }
        if let Some(found) = self.by_id(ports, target).await? {
            return Ok(found);
        }
        let is_ours = |it: &str| it.parse().is_ok_and(|it| self.tags.table(&it).is_some());
        if is_ours(target) {
            return Err(StackError::NothingRuns {
                table: table.to_owned(),
                stack: self.name.to_string(),
            });
        }
        Err(self.unknown(target))
    }

    fn unknown(&self, target: &str) -> StackError {
        StackError::UnknownTarget {
            target: target.to_owned(),
            stack: self.name.to_string(),
        }
    }

    /// The execution of this ARN. One of another machine is none of ours, whoever may see it.
    async fn by_arn(
        &self,
        ports: &StackPorts,
        target: &str,
    ) -> Result<Option<StackExecution>, StackError> {
        if !target.contains(":execution:") {
            return Ok(None);
        }
        let name = target.rsplit(':').next().unwrap_or_default();
        for workflow in Workflow::ALL {
            if execution_arn(&self.machine(workflow).arn, name).as_deref() == Some(target)
                && let Some(state) = describe(ports, target).await?
            {
                let execution = StackExecution::of(workflow, state);
                return Ok(Some(with_table(ports, execution).await?));
            }
        }
        Err(self.unknown(target))
    }

    async fn by_name(
        &self,
        ports: &StackPorts,
        target: &str,
    ) -> Result<Option<StackExecution>, StackError> {
        if target.parse::<ExecutionName>().is_err() {
            return Ok(None);
        }
        let mut ended = None;
        for workflow in Workflow::ALL {
            let Some(arn) = execution_arn(&self.machine(workflow).arn, target) else {
                continue;
            };
            let Some(state) = describe(ports, &arn).await? else {
                continue;
            };
            let execution = with_table(ports, StackExecution::of(workflow, state)).await?;
            if !execution.state.status.has_ended() {
                return Ok(Some(execution));
            }
            ended = Some(execution);
        }
        Ok(ended)
    }

    /// The execution that has the snapshot or restore of this id, by its record.
    async fn by_id(
        &self,
        ports: &StackPorts,
        target: &str,
    ) -> Result<Option<StackExecution>, StackError> {
        let (Ok(snapshot), Ok(restore)) = (target.parse(), target.parse()) else {
            return Ok(None);
        };
        let owners = [
            restore_of(ports, &restore).await?.map(|(owner, _)| owner),
            snapshot_of(ports, &snapshot).await?.map(|(owner, _)| owner),
        ];
        for owner in owners.into_iter().flatten() {
            // Whoever made it with a command, or in another stack, has no execution here.
            if owner.contains(":execution:")
                && let Ok(found) = self.by_arn(ports, &owner).await
            {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

async fn describe(
    ports: &StackPorts,
    execution_arn: &str,
) -> Result<Option<ExecutionState>, StackError> {
    let described = ports.executions.describe(execution_arn).await;
    described.map_err(StackError::Service)
}

/// Adds the table where the input does not say: a resume names what it goes on with only.
async fn with_table(
    ports: &StackPorts,
    mut execution: StackExecution,
) -> Result<StackExecution, StackError> {
    if execution.table.is_none() {
        let known = match &execution.job {
            Some(JobId::Backup(id)) => snapshot_of(ports, id).await?,
            Some(JobId::Restore(id)) => restore_of(ports, id).await?,
            None => None,
        };
        execution.table = known.map(|(_, table)| table);
    }
    Ok(execution)
}

/// Whose a snapshot is, and of which table.
async fn snapshot_of(
    ports: &StackPorts,
    id: &SnapshotId,
) -> Result<Option<(String, String)>, StackError> {
    let record = ports.control.snapshot(id).await;
    let record = record.map_err(StackError::Control)?;
    Ok(record.map(|it| (it.value.request_id, it.value.table.name().to_owned())))
}

/// Whose a restore is, and into which table.
async fn restore_of(
    ports: &StackPorts,
    id: &RestoreId,
) -> Result<Option<(String, String)>, StackError> {
    let record = ports.restores.restore(id).await;
    let record = record.map_err(StackError::Control)?;
    Ok(record.map(|it| (it.value.request_id, it.value.target.name().to_owned())))
}

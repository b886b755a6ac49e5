//! What the restore workflow's steps work with.

use std::sync::Arc;

use highwater_domain::budget::{Budget, Clock};
use highwater_domain::load_targets::LoadTargets;
use highwater_domain::object_store::Stores;
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::replica_targets::TargetAccess;
use highwater_domain::restore::ReplicaOf;
use highwater_domain::restore_control::RestoreControl;
use highwater_domain::table::TableDescriber;
use highwater_domain::table_admin::{TableAdmin, TableImporter};
use highwater_domain::table_plan::TargetPlace;
use highwater_domain::table_writer::TableWriter;

use crate::deps::{Observer, SnapshotDeps, StopFlag};
use crate::error::StepError;
use crate::pace::Pace;

/// The ports of the restore workflow.
#[derive(Clone, Debug)]
pub struct RestoreDeps {
    /// Writes items.
    pub writer: Arc<dyn TableWriter>,
    /// Makes and changes tables.
    pub admin: Arc<dyn TableAdmin>,
    /// DynamoDB's own import.
    pub importer: Arc<dyn TableImporter>,
    /// Reads settings.
    pub describer: Arc<dyn TableDescriber>,
    /// Where the credentials in use make tables.
    pub place: TargetPlace,
    /// A table of the credentials' own account, whose ARN tells the account: the control table.
    pub own_table: Option<String>,
    /// Whether the endpoint is not AWS's own: a local engine has no ImportTable.
    pub own_endpoint: bool,
    /// Opens buckets and directories.
    pub stores: Arc<dyn Stores>,
    /// Keeps restores and their files' checkpoints.
    pub restores: Arc<dyn RestoreControl>,
    /// Keeps replicas: a loader of one says that it is at work.
    pub replicas: Arc<dyn ReplicaControl>,
    /// Reaches the tables of replicas that are in other regions or accounts, where this process can.
    pub elsewhere: Option<Arc<dyn LoadTargets>>,
    /// Keeps the snapshot that a restore makes instead of a table.
    pub snapshots: SnapshotDeps,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Keeps the load within its write capacity.
    pub pace: Arc<Pace>,
    /// How often a request that fails in passing or is throttled is sent again; `None` leaves it to the step, which
    /// waits out throttles as long as it has time.
    pub max_retries: Option<u32>,
    /// Is told of progress.
    pub observer: Arc<dyn Observer>,
    /// Asks for an early, orderly end.
    pub stop: StopFlag,
}

impl RestoreDeps {
    /// The same, with the ports of the table that is filled: a replica's may be in another region, or behind a role.
    ///
    /// # Errors
    /// [`StepError::ReplicaNotFound`], or where the place cannot be reached.
    pub async fn reaching(&self, replica: Option<&ReplicaOf>) -> Result<Self, StepError> {
        let Some(of) = replica else {
            return Ok(self.clone());
        };
        let record = self.replicas.replica(&of.source_arn, &of.id).await;
        let record = record.map_err(StepError::Control)?;
        let record = record.ok_or_else(|| StepError::ReplicaNotFound(of.id.clone()))?;
        let access = TargetAccess::from(&record.value);
        if access.is_own() {
            return Ok(self.clone());
        }
        let Some(elsewhere) = &self.elsewhere else {
            return Err(StepError::InvalidInput(format!(
                "table {} of replica {} is in another region or account, which nothing here reaches",
                record.value.target, of.id
            )));
        };
        let there = elsewhere
            .open_load(&access)
            .await
            .map_err(StepError::Table)?;
        Ok(Self {
            writer: there.writer,
            admin: there.admin,
            importer: there.importer,
            describer: there.describer,
            // Of a role the account is known; the control table of another region is of no help.
            own_table: None,
            own_endpoint: there.own_endpoint,
            place: there.place,
            ..self.clone()
        })
    }

    /// Whether a step should end as soon as it can do so without losing work.
    #[must_use]
    pub fn should_stop(&self, budget: &Budget) -> bool {
        self.stop.is_set() || budget.is_spent(self.clock.now())
    }
}

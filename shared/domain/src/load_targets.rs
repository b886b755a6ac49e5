//! The port to tables of other regions and accounts, for whoever fills them.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::replica_targets::TargetAccess;
use crate::table::TableDescriber;
use crate::table_admin::{TableAdmin, TableImporter};
use crate::table_plan::TargetPlace;
use crate::table_writer::TableWriter;

/// What fills a table somewhere else.
#[derive(Clone, Debug)]
pub struct LoadPorts {
    /// Writes items.
    pub writer: Arc<dyn TableWriter>,
    /// Makes and changes tables.
    pub admin: Arc<dyn TableAdmin>,
    /// DynamoDB's own import.
    pub importer: Arc<dyn TableImporter>,
    /// Reads settings.
    pub describer: Arc<dyn TableDescriber>,
    /// Where tables are made there.
    pub place: TargetPlace,
    /// Whether the endpoint is not AWS's own.
    pub own_endpoint: bool,
}

/// Reaches tables of other regions and accounts, to make and to fill them.
#[async_trait]
pub trait LoadTargets: Debug + Send + Sync {
    /// The ports of a table that is reached like this. Implementations keep what they have opened.
    async fn open_load(&self, access: &TargetAccess) -> Result<LoadPorts, Failure>;
}

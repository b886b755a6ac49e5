//! The port to the tables of replicas, which may be in other regions and accounts.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::failure::Failure;
use crate::fence_tables::FenceTables;
use crate::fenced_writer::FencedWriter;
use crate::item_reader::ItemReader;
use crate::replica::ReplicaRecord;
use crate::scan::TableScanner;
use crate::table::{TableDescriber, TableLook};

/// Where a replica is, and as whom it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TargetAccess {
    /// Its region; `None` for the source's.
    pub region: Option<String>,
    /// The role that is assumed for it, by ARN; `None` for the credentials in use.
    pub role: Option<String>,
}

impl TargetAccess {
    /// Whether it is reached as the source is.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.region.is_none() && self.role.is_none()
    }

    /// The account of the role, which its tables are of.
    #[must_use]
    pub fn role_account(&self) -> Option<&str> {
        let account = self.role.as_deref()?.split(':').nth(4)?;
        Some(account).filter(|account| !account.is_empty())
    }
}

impl From<&ReplicaRecord> for TargetAccess {
    fn from(record: &ReplicaRecord) -> Self {
        Self {
            region: record.target_region.clone(),
            role: record.target_role.clone(),
        }
    }
}

/// The ports of one replica's table.
#[derive(Clone, Debug)]
pub struct TargetPorts {
    /// Writes it.
    pub writer: Arc<dyn FencedWriter>,
    /// Makes and claims its fences.
    pub fences: Arc<dyn FenceTables>,
    /// Reads its settings.
    pub describer: Arc<dyn TableDescriber>,
    /// Reads its items.
    pub scanner: Arc<dyn TableScanner>,
    /// Reads single items of it.
    pub reader: Arc<dyn ItemReader>,
}

/// What feeding a replica takes of its table.
#[derive(Clone, Debug)]
pub struct FeedPorts {
    /// Writes it.
    pub writer: Arc<dyn FencedWriter>,
    /// Tells whether it is still the same.
    pub describer: Arc<dyn TableLook>,
}

/// Reaches tables of other regions and accounts, to feed them.
#[async_trait]
pub trait FeedTargets: Debug + Send + Sync {
    /// The ports of a table that is reached like this. Implementations keep what they have opened.
    async fn open_feed(&self, access: &TargetAccess) -> Result<FeedPorts, Failure>;
}

/// Reaches tables of other regions and accounts.
#[async_trait]
pub trait ReplicaTargets: Debug + Send + Sync {
    /// The ports of a table that is reached like this. Implementations keep what they have opened.
    async fn open(&self, access: &TargetAccess) -> Result<TargetPorts, Failure>;
}

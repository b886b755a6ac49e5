//! Reaches the tables of replicas, in other regions and accounts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater_domain::failure::Failure;
use highwater_domain::load_targets::{LoadPorts, LoadTargets};
use highwater_domain::replica_targets::{
    FeedPorts, FeedTargets, ReplicaTargets, TargetAccess, TargetPorts,
};
use highwater_domain::table_plan::TargetPlace;

use crate::Clients;

/// The clients of each place that was reached, made once. Cheap to clone; clones share them.
///
/// Needs `sts:AssumeRole` on the roles that are named.
#[derive(Clone, Debug)]
pub struct DynamoTargets {
    own: Clients,
    opened: Arc<Mutex<HashMap<TargetAccess, Clients>>>,
}

impl DynamoTargets {
    /// What is reached from `own`: its credentials assume the roles, and its endpoints hold elsewhere, too.
    #[must_use]
    pub fn new(own: Clients) -> Self {
        Self {
            own,
            opened: Arc::default(),
        }
    }

    /// The clients of a place. Their credentials are kept with them, and renewed before they expire.
    ///
    /// # Errors
    /// As [`Clients::at`].
    pub fn clients(&self, access: &TargetAccess) -> Result<Clients, Failure> {
        if let Some(known) = self.lock().get(access) {
            return Ok(known.clone());
        }
        let clients = self.own.at(access)?;
        // Of two that open one place at once the first is kept, so that both share its session.
        let kept = self.lock().entry(access.clone()).or_insert(clients).clone();
        Ok(kept)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TargetAccess, Clients>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl FeedTargets for DynamoTargets {
    async fn open_feed(&self, access: &TargetAccess) -> Result<FeedPorts, Failure> {
        let clients = self.clients(access)?;
        Ok(FeedPorts {
            writer: Arc::new(clients.fenced_writer()),
            describer: Arc::new(clients.table_describer()),
        })
    }
}

#[async_trait]
impl ReplicaTargets for DynamoTargets {
    async fn open(&self, access: &TargetAccess) -> Result<TargetPorts, Failure> {
        let clients = self.clients(access)?;
        Ok(TargetPorts {
            writer: Arc::new(clients.fenced_writer()),
            fences: Arc::new(clients.fence_tables()),
            describer: Arc::new(clients.table_describer()),
            scanner: Arc::new(clients.table_scanner()),
            reader: Arc::new(clients.item_reader()),
        })
    }
}

#[async_trait]
impl LoadTargets for DynamoTargets {
    async fn open_load(&self, access: &TargetAccess) -> Result<LoadPorts, Failure> {
        let clients = self.clients(access)?;
        Ok(LoadPorts {
            writer: Arc::new(clients.table_writer()),
            admin: Arc::new(clients.table_admin()),
            importer: Arc::new(clients.table_importer()),
            describer: Arc::new(clients.table_describer()),
            place: TargetPlace {
                region: clients.region().to_owned(),
                account: access.role_account().map(str::to_owned),
            },
            own_endpoint: clients.has_own_endpoint(),
        })
    }
}

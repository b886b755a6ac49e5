//! What a source works with: the table, its stream, and where progress is kept.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use highwater_aws::{Clients, KvControlTable};
use highwater_domain::budget::Clock;
use highwater_domain::control_table::{Cas, Versioned};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::layout::Destination;
use highwater_domain::live_control::{LiveControl, LogId, PublishedMark};
use highwater_domain::object_store::{ObjectStore, Stores};
use highwater_domain::scan::TableScanner;
use highwater_domain::stream_source::StreamSource;
use highwater_domain::table::TableDescriber;
use highwater_kv::{Table, TableSpec};
use highwater_lease::{Leases, Settings};
use highwater_steps::live_deps::LeaseGroups;

use crate::checkpoints::{Checkpoints, KvCheckpoints};

/// The ports of a source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Reads pages of the table.
    pub scanner: Arc<dyn TableScanner>,
    /// Reads its settings.
    pub describer: Arc<dyn TableDescriber>,
    /// Reads its stream.
    pub streams: Arc<dyn StreamSource>,
    /// Keeps who reads which shard, and how far.
    pub leases: Arc<dyn LeaseGroups>,
    /// Keeps everything else, for the source of a name.
    pub checkpoints: Arc<dyn CheckpointPlaces>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Opens the checkpoints of a source by its name.
pub trait CheckpointPlaces: fmt::Debug + Send + Sync {
    /// Those of the source called `source`.
    fn open(&self, source: &str) -> Arc<dyn Checkpoints>;
}

/// One place for whoever asks: for a program with one source.
#[derive(Clone, Debug)]
pub struct OnePlace(pub Arc<dyn Checkpoints>);

impl CheckpointPlaces for OnePlace {
    fn open(&self, _: &str) -> Arc<dyn Checkpoints> {
        Arc::clone(&self.0)
    }
}

impl Ports {
    /// AWS, or whatever the clients' endpoints are, with progress in the control table of this name.
    ///
    /// The table is made by [`create_control_table`], or by the template; its form is `highwater-kv`'s.
    #[must_use]
    pub fn of(clients: &Clients, control_table: &str) -> Self {
        let control = clients.control_table(control_table);
        Self {
            scanner: Arc::new(clients.table_scanner()),
            describer: Arc::new(clients.table_describer()),
            streams: Arc::new(clients.stream_source()),
            leases: Arc::new(KvLeases(control.clone())),
            checkpoints: Arc::new(KvPlaces(control)),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Creates the control table unless it is there, and waits until it can be used.
pub async fn create_control_table(
    clients: &Clients,
    name: &str,
) -> Result<(), highwater_kv::Error> {
    let control = clients.control_table(name);
    let table: &Table = control.table();
    table.create(&TableSpec::new()).await.map(|_| ())
}

#[derive(Clone, Debug)]
struct KvLeases(KvControlTable);

impl LeaseGroups for KvLeases {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        Leases::new(self.0.table(), group, worker, Settings::default())
    }
}

#[derive(Clone, Debug)]
struct KvPlaces(KvControlTable);

impl CheckpointPlaces for KvPlaces {
    fn open(&self, source: &str) -> Arc<dyn Checkpoints> {
        Arc::new(KvCheckpoints::new(self.0.table(), source))
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        // A clock before 1970 is wrong in any case; 0 keeps the arithmetic sane.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.unwrap_or_default().as_millis();
        UnixMillis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

/// What the steps of the live side ask of a log that has no bucket, and no mark.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoLog;

fn refused(operation: &'static str, what: impl fmt::Display) -> Failure {
    let message = "a source does not do that";
    Failure::new(FailureKind::Invalid, operation, what.to_string(), message)
}

impl Stores for NoLog {
    fn open(&self, destination: &Destination) -> Result<Arc<dyn ObjectStore>, Failure> {
        Err(refused("open", destination))
    }
}

#[async_trait]
impl LiveControl for NoLog {
    async fn mark(&self, _: &LogId) -> Result<Option<Versioned<PublishedMark>>, Failure> {
        Ok(None)
    }

    async fn publish_mark(
        &self,
        log: &LogId,
        _: Option<i64>,
        _: &PublishedMark,
    ) -> Result<Cas, Failure> {
        Err(refused("publish a mark", log.as_str()))
    }
}

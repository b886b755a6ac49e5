//! The control table as the bucket remembers it, for those who may read nothing else: the marks' copies, and no positions.

use std::sync::Arc;

use highwater_aws::{Clients, ConnectionSettings};
use highwater_domain::live_control::{LiveControl as _, PublishedMark};
use highwater_local::EmbeddedDynamoDb;
use highwater_steps::deps::Unobserved;
use highwater_steps::{LiveDeps, StepError, StopFlag, begin_log};

use crate::connect::{self, Control};
use crate::error::CliError;
use crate::table_places::TableFolder;

/// An empty control table in this process, into which the marks of buckets are copied.
pub struct BucketMarks {
    clients: Clients,
    control: Control,
    _engine: EmbeddedDynamoDb,
}

impl BucketMarks {
    /// A control table without a mark.
    pub async fn start() -> Result<Self, CliError> {
        let engine = EmbeddedDynamoDb::start().await?;
        let clients = Clients::connect(&ConnectionSettings {
            region: Some("local".into()),
            endpoint_url: Some(engine.endpoint_url().to_owned()),
            ..ConnectionSettings::default()
        })
        .await?;
        let table = clients.control_table("marks");
        table.ensure().await.map_err(StepError::Control)?;
        Ok(Self {
            control: Control::of(table),
            clients,
            _engine: engine,
        })
    }

    /// The ports of the live side, which know the marks of this table.
    pub async fn of(&self, table: &TableFolder) -> Result<LiveDeps, CliError> {
        let (store, place) = (table.store.as_ref(), &table.place);
        for facts in begin_log::generations(store, place).await? {
            let key = place.mark(&facts.stream_label);
            let Some(body) = store.read(&key).await.map_err(StepError::Store)? else {
                continue;
            };
            let mark: PublishedMark = serde_json::from_slice(&body).map_err(|error| {
                StepError::LogCorrupt(format!(
                    "{} is not what a change log keeps there: {error}",
                    store.url(&key)
                ))
            })?;
            let log = begin_log::log_id(store, place, &facts);
            let control = self.control.live();
            let known = control.mark(&log).await.map_err(StepError::Control)?;
            let seen = known.map(|known| known.version);
            let published = control.publish_mark(&log, seen, &mark).await;
            published.map_err(StepError::Control)?;
        }
        let observer = Arc::new(Unobserved);
        Ok(connect::live_deps(
            &self.clients,
            &self.control,
            observer,
            StopFlag::default(),
        ))
    }
}

//! Re-reads a whole change log and holds each record against the one before it of its key.
//!
//! Of each record only digests are kept: they are sorted by key in a temporary file, bucket by bucket, so that memory
//! does not grow with the log. What is stamped after the mark may still be incomplete, and is left out.

use std::io;
use std::path::Path;
use std::sync::Arc;

use highwater_domain::change_log::{LogName, LogRecords};
use highwater_domain::image_chain::{Link, LinkOf};
use highwater_domain::incident::Incident;
use highwater_domain::item_digest::ItemDigester;
use highwater_domain::key::KeySchema;
use highwater_domain::log_place::LogPlace;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::object_store::ObjectStore;
use highwater_domain::shard::{ShardId, StreamView};
use highwater_domain::stream_record::StreamRecord;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::begin_log::generations;
use crate::error::StepError;
use crate::link_spill::LinkSpill;
use crate::log_index::{LogIndex, visit_objects};

/// Breaks that a report names; the rest are counted.
const NAMED: usize = 100;

/// What was read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogTotals {
    /// Log objects.
    pub objects: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
    /// Records, those that lie in two objects twice.
    pub records: u64,
}

/// A place where something is missing, or too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainBreak {
    /// The item's key, DynamoDB JSON.
    pub key: String,
    /// The shard and the number of the record before the break.
    pub after: (ShardId, String),
    /// The shard and the number of the record behind it.
    pub before: (ShardId, String),
    /// When they were stamped, in seconds since 1970.
    pub between: (UnixSeconds, UnixSeconds),
}

/// What re-reading one stream's log has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// When the stream was enabled, which names it.
    pub stream_label: String,
    /// What was read.
    pub totals: LogTotals,
    /// Records that were looked at, each once.
    pub checked: u64,
    /// Their keys.
    pub keys: u64,
    /// Up to which second; `None` if there is no mark, and nothing was looked at.
    pub up_to: Option<UnixSeconds>,
    /// Breaks that no incident explains.
    pub breaks: u64,
    /// The first hundred of them, by the keys' prints.
    pub broken: Vec<ChainBreak>,
    /// Breaks inside of losses that are on record.
    pub explained: u64,
    /// Why the chain cannot be looked at, if it cannot.
    pub unchecked: Option<String>,
}

/// Reads the logs of all of a table's streams, one after the other. `schema` is the table's key, `folder` is for a temporary
/// file of about 90 bytes for each record.
///
/// # Errors
/// [`StepError::LogCorrupt`] names the first object that is not what its name says.
pub async fn verify(
    store: &Arc<dyn ObjectStore>,
    place: &LogPlace,
    schema: &KeySchema,
    folder: &Path,
    observe: impl Fn(LogTotals) + Send + Sync,
) -> Result<Vec<LogReport>, StepError> {
    let mut reports = Vec::new();
    for stream in generations(store.as_ref(), place).await? {
        let index = LogIndex::read(store, place, &stream.stream_label).await?;
        let audit = Audit {
            store,
            stream: place.stream(&stream.stream_label),
            schema: Arc::new(schema.clone()),
            shards: index.facts.shards.keys().cloned().collect(),
            index: &index,
        };
        reports.push(audit.run(folder, &observe).await?);
    }
    Ok(reports)
}

struct Audit<'a> {
    store: &'a Arc<dyn ObjectStore>,
    stream: String,
    schema: Arc<KeySchema>,
    shards: Vec<ShardId>,
    index: &'a LogIndex,
}

impl Audit<'_> {
    async fn run(
        &self,
        folder: &Path,
        observe: &(impl Fn(LogTotals) + Send + Sync),
    ) -> Result<LogReport, StepError> {
        let facts = &self.index.facts;
        let mark = facts.mark.as_ref();
        let mut report = LogReport {
            stream_label: facts.stream.stream_label.clone(),
            totals: LogTotals::default(),
            checked: 0,
            keys: 0,
            up_to: mark.and_then(|mark| mark.mark.of(Grade::Assumed)),
            breaks: 0,
            broken: Vec::new(),
            explained: 0,
            unchecked: None,
        };
        if facts.stream.view != StreamView::NewAndOldImages {
            report.unchecked = Some("its records carry no old images".into());
            return Ok(report);
        }
        let Some(up_to) = report.up_to else {
            report.unchecked = Some("it has no mark yet".into());
            return Ok(report);
        };
        let mut sorted = LinkSpill::new(folder).map_err(temporary)?;
        for place in 0..self.shards.len() {
            self.read_shard(place, up_to, &mut sorted, &mut report.totals, observe)
                .await?;
        }
        let found = spawn_blocking(move || sorted.breaks());
        let found = found
            .await
            .map_err(|error| StepError::Internal(format!("a checking thread died: {error}")))?
            .map_err(temporary)?;
        report.checked = found.checked;
        report.keys = found.keys;
        for (earlier, later) in found.breaks {
            if is_explained(&facts.incidents, &earlier, &later) {
                report.explained += 1;
                continue;
            }
            report.breaks += 1;
            if report.broken.len() < NAMED {
                report.broken.push(self.named(&earlier, &later).await?);
            }
        }
        Ok(report)
    }

    /// Puts the links of one shard's records up to the mark into their buckets.
    async fn read_shard(
        &self,
        place: usize,
        up_to: UnixSeconds,
        sorted: &mut LinkSpill,
        totals: &mut LogTotals,
        observe: &(impl Fn(LogTotals) + Send + Sync),
    ) -> Result<(), StepError> {
        let Some(shard) = self.shards.get(place) else {
            return Ok(());
        };
        let facts = self.index.facts.shards.get(shard);
        let ordinal = facts.map(|known| known.facts.ordinal).unwrap_or_default();
        let mut objects = Vec::new();
        visit_objects(self.store.as_ref(), &self.stream, shard, |name, object| {
            objects.push((name, object.key));
        })
        .await?;
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        for (name, key) in objects {
            let body = self.store.read(&key).await.map_err(StepError::Store)?;
            let body = body.ok_or_else(|| StepError::PartMissing(self.store.url(&key)))?;
            totals.objects += 1;
            totals.stored_bytes += body.len() as u64;
            totals.records += name.count;
            let (url, schema) = (self.store.url(&key), self.schema.clone());
            let links = spawn_blocking(move || {
                let mut linking = Linking {
                    digester: ItemDigester::new(&schema, 0),
                    schema: &schema,
                    url: &url,
                };
                let records = LogRecords::new(&url, &name, body.as_ref());
                let mut links = Vec::new();
                for record in records {
                    let record =
                        record.map_err(|error| StepError::LogCorrupt(error.to_string()))?;
                    if UnixSeconds(record.created_at) <= up_to {
                        links.push(linking.link(&record, ordinal, place)?);
                    }
                }
                Ok::<_, StepError>(links)
            });
            let links = links.await.map_err(|error| {
                StepError::Internal(format!("a reading thread died: {error}"))
            })??;
            for link in links {
                sorted.push(&link).map_err(temporary)?;
            }
            observe(*totals);
        }
        Ok(())
    }

    /// A break with its key, which is read again from the later record.
    async fn named(&self, earlier: &Link, later: &Link) -> Result<ChainBreak, StepError> {
        let at = |link: &Link| {
            let place = usize::try_from(link.place).ok();
            let shard = place.and_then(|place| self.shards.get(place)).cloned();
            let shard = shard
                .ok_or_else(|| StepError::Internal("a link of a shard that was not read".into()))?;
            Ok::<_, StepError>((shard, link.sequence_number()))
        };
        let (after, before) = (at(earlier)?, at(later)?);
        let record = self.record(&before.0, &before.1).await?;
        Ok(ChainBreak {
            key: String::from_utf8_lossy(&record.keys).into_owned(),
            after,
            before,
            between: (
                UnixSeconds(earlier.created_at),
                UnixSeconds(later.created_at),
            ),
        })
    }

    /// One record, looked up by its number.
    async fn record(&self, shard: &ShardId, number: &str) -> Result<StreamRecord, StepError> {
        let wanted: highwater_domain::sequence_number::SequenceNumber =
            number.parse().map_err(|_| gone(shard, number))?;
        let mut holders: Vec<(LogName, String)> = Vec::new();
        visit_objects(self.store.as_ref(), &self.stream, shard, |name, object| {
            if name.first <= wanted && wanted <= name.last {
                holders.push((name, object.key));
            }
        })
        .await?;
        for (name, key) in holders {
            let Some(body) = self.store.read(&key).await.map_err(StepError::Store)? else {
                continue;
            };
            let url = self.store.url(&key);
            for record in LogRecords::new(&url, &name, body.as_ref()) {
                let record = record.map_err(|error| StepError::LogCorrupt(error.to_string()))?;
                if record.sequence_number == wanted {
                    return Ok(record);
                }
            }
        }
        Err(gone(shard, number))
    }
}

fn gone(shard: &ShardId, number: &str) -> StepError {
    StepError::LogCorrupt(format!("record {number} of shard {shard} is gone"))
}

/// Whether a loss that is on record lies between the two.
fn is_explained(incidents: &[Incident], earlier: &Link, later: &Link) -> bool {
    let (from, until) = (
        UnixSeconds(earlier.created_at.min(later.created_at)),
        UnixSeconds(later.created_at.max(earlier.created_at)),
    );
    incidents
        .iter()
        .any(|incident| incident.touches(from, until))
}

/// Makes links of records.
struct Linking<'a> {
    digester: ItemDigester,
    schema: &'a KeySchema,
    url: &'a str,
}

impl Linking<'_> {
    fn link(
        &mut self,
        record: &StreamRecord,
        shard: highwater_domain::sequence_number::ShardOrdinal,
        place: u32,
    ) -> Result<Link, StepError> {
        let number = &record.sequence_number;
        let url = self.url;
        let broken =
            |error: String| StepError::LogCorrupt(format!("{url} record {number}: {error}"));
        let of = LinkOf {
            key: self
                .schema
                .print_of(&record.keys)
                .map_err(|error| broken(error.to_string()))?,
            shard,
            sequence_number: number,
            place,
            created_at: record.created_at,
        };
        let mut digest = |image: Option<&bytes::Bytes>| match image {
            Some(image) => {
                let digest = self.digester.digest(image);
                let digest = digest.map_err(|error| broken(error.to_string()))?;
                Ok::<_, StepError>(Some(digest.item))
            }
            None => Ok(None),
        };
        let before = digest(record.old_image.as_ref())?;
        let after = digest(record.new_image.as_ref())?;
        Ok(Link::new(&of, before, after))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn temporary(error: io::Error) -> StepError {
    StepError::Internal(format!("a temporary file for the log's digests: {error}"))
}

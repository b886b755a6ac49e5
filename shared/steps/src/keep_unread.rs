//! Keeps a record that cannot be understood, as it came, and puts on record that there is one: for a writer that knows no
//! more of the log than where it is. Who reads the stream's shards does the same by [`crate::note_incident`].

use highwater_domain::digest::sha256_hex;
use highwater_domain::ids::UnixMillis;
use highwater_domain::incident::Incident;
use highwater_domain::object_store::NewObject;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::Unread;

use crate::error::StepError;
use crate::note_incident::unread_sight;
use crate::status::json_object;
use crate::write_log::LogWriter;

/// Stores the record raw, then its incident; both once, however often they are seen. `seen_at` is now.
///
/// After a crash between the two the record comes again, because nobody was told that it is durable.
pub async fn keep_unread(
    writer: &LogWriter,
    shard: &ShardId,
    unread: &Unread,
    seen_at: UnixMillis,
) -> Result<Incident, StepError> {
    let (place, label) = (writer.place(), writer.label());
    let key = place.unread(label, &sha256_hex(&unread.raw));
    let url = writer.url(&key);
    let raw = NewObject {
        key,
        body: unread.raw.clone(),
        content_type: "application/json",
        ..NewObject::default()
    };
    writer.create_once(raw).await?;
    let sight = unread_sight(shard, unread, None, seen_at, &url);
    let incident = sight.incident(sight.id(), label, seen_at);
    let fact = json_object(place.incident(label, &incident.id), &incident)?;
    writer.create_once(fact).await?;
    Ok(incident)
}

//! Keeps items that a table does not take: whole, with the reason, one JSON object per line.
//!
//! ```text
//! <rejects>/<restore id>/f00003-l000000000001-000000004096.jsonl
//! {"object":"…/s00003-p000000.json.gz","line":17,"reason":"…","item":{…}}
//! ```
//! A file is written before the checkpoint that counts its items. A crash between the two leaves a file that a
//! later attempt repeats or that overlaps with a later one; each line names its object and line.

use bytes::Bytes;
use highwater_domain::layout::{Destination, Layout};
use highwater_domain::object_store::{Creation, NewObject};
use highwater_domain::restore::RestoreRecord;
use highwater_domain::table_writer::WriteOp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::StepError;
use crate::restore_deps::RestoreDeps;
use crate::write_items::Reject;

/// One line of a rejects file.
#[derive(Serialize)]
struct Kept<'a> {
    object: &'a str,
    line: u64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a RawValue>,
    /// The key, where the write was a delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    delete: Option<&'a RawValue>,
}

/// Which lines of which file a rejects file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The file's number in the backup, from 0.
    pub file: u32,
    /// Lines up to this one were accounted for before.
    pub after: u64,
    /// The last line that is accounted for with this file.
    pub last: u64,
}

/// Writes `rejects` of the file called `object`, none of which is there yet. Does nothing for no rejects.
pub async fn keep(
    deps: &RestoreDeps,
    record: &RestoreRecord,
    object: &str,
    lines: Lines,
    rejects: &[Reject],
) -> Result<(), StepError> {
    let Some(first) = rejects.first() else {
        return Ok(());
    };
    let place = record.rejects.as_ref().filter(|_| !record.fail_fast);
    let Some(place) = place else {
        return Err(StepError::ItemRejected {
            object: object.to_owned(),
            line: first.line,
            reason: first.reason.clone(),
        });
    };
    let destination: Destination = place.parse()?;
    let store = deps.stores.open(&destination).map_err(StepError::Store)?;
    let mut body = Vec::new();
    for reject in rejects {
        write_line(&mut body, object, reject)?;
    }
    let body = Bytes::from(body);
    for attempt in 0.. {
        let key = key(&destination, record, lines, attempt);
        let object = NewObject {
            key: key.clone(),
            body: body.clone(),
            content_type: "application/x-ndjson",
            item_count: Some(rejects.len() as u64),
            ..NewObject::default()
        };
        if store.create(object).await.map_err(StepError::Store)? == Creation::Created {
            break;
        }
        // An earlier attempt at the same lines; the service may have taken or refused others then.
        if store.read(&key).await.map_err(StepError::Store)? == Some(body.clone()) {
            break;
        }
    }
    Ok(())
}

fn key(destination: &Destination, record: &RestoreRecord, lines: Lines, attempt: u32) -> String {
    let Lines { file, after, last } = lines;
    let again = match attempt {
        0 => String::new(),
        attempt => format!("-{attempt}"),
    };
    format!(
        "{}{}/f{file:05}-l{:012}-{last:012}{again}.jsonl",
        Layout::folder(destination.prefix()),
        record.id,
        after + 1
    )
}

fn write_line(body: &mut Vec<u8>, object: &str, reject: &Reject) -> Result<(), StepError> {
    let raw: &RawValue = serde_json::from_slice(reject.op.body()).map_err(|error| {
        StepError::PartCorrupt(format!(
            "{object} line {} is not JSON: {error}",
            reject.line
        ))
    })?;
    let is_delete = matches!(reject.op, WriteOp::Delete(_));
    let kept = Kept {
        object,
        line: reject.line,
        reason: &reject.reason,
        item: (!is_delete).then_some(raw),
        delete: is_delete.then_some(raw),
    };
    serde_json::to_writer(&mut *body, &kept)
        .map_err(|error| StepError::Internal(format!("a reject cannot be written: {error}")))?;
    body.push(b'\n');
    Ok(())
}

//! What a backup's handoff makes possible, in one line for a person.

use highwater_domain::handoff::Handoff;
use highwater_domain::metadata::Metadata;
use highwater_domain::shard::StreamView;
use highwater_steps::capture_handoff::Preview;
use serde_json::{Value, json};

use crate::format::count;

/// The line of a backup, finished or not.
pub fn of(metadata: &Metadata) -> String {
    let text = match metadata.handoff() {
        Err(unreadable) => format!("none that can be used: {unreadable}"),
        Ok(Some(handoff)) if handoff.expired => format!(
            "expired: records of {} were gone before anybody had read them; no restore to a second",
            handoff.stream_label
        ),
        Ok(Some(handoff)) => format!(
            "{}, captured {}",
            words(handoff, metadata.consistent),
            handoff.captured_at.to_rfc3339()
        ),
        Ok(None) => {
            let reason = metadata.no_handoff.as_deref();
            format!(
                "none, so no restore to a second: {}",
                reason.unwrap_or("the table had no stream (--with-stream enables one)")
            )
        }
    };
    line(&text)
}

/// The line of a plan.
pub fn of_preview(preview: &Preview, consistent: bool) -> String {
    line(&match preview {
        Preview::Handoff(handoff) => format!("would be {}", words(handoff, consistent)),
        Preview::Enable => {
            "would be from a stream that is enabled first, with NEW_AND_OLD_IMAGES".to_owned()
        }
        Preview::Without(reason) => format!("none, so no restore to a second: {reason}"),
    })
}

/// The same for programs.
pub fn json_of_preview(preview: &Preview) -> Value {
    match preview {
        Preview::Handoff(handoff) => json!({
            "stream_arn": handoff.stream_arn,
            "view": handoff.view,
            "shards": handoff.shards.len(),
            "begins_with": handoff.beginnings().count(),
        }),
        Preview::Enable => json!({"enables_stream": true}),
        Preview::Without(reason) => json!({"none": reason.to_string()}),
    }
}

fn line(text: &str) -> String {
    format!("Handoff .............: {text}")
}

fn words(handoff: &Handoff, consistent: bool) -> String {
    let mut text = format!(
        "stream {} ({}), {} shards, begins with {}",
        handoff.stream_label,
        handoff.view.as_str(),
        count(handoff.shards.len() as u64),
        count(handoff.beginnings().count() as u64),
    );
    if handoff.view == StreamView::NewImage {
        text.push_str("; degraded: no way back before the scan");
    }
    if !consistent {
        text.push_str("; exact if replicas lag less than 15 min");
    }
    if !handoff.oddities.is_empty() {
        text.push_str("; its shards stayed contradictory, so that it begins further back");
    }
    text
}

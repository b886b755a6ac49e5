//! How a table stands, for a person: one line per fact, the newest last, and what needs somebody at the end.

use std::fmt::Write as _;
use std::io;

use highwater_domain::ids::UnixMillis;
use highwater_domain::mark::{Grade, UnixSeconds};
use highwater_domain::replica::Phase;
use highwater_domain::snapshot::Status;
use highwater_steps::live_status::{GenerationStatus, IncidentStatus, LiveStatus, SnapshotStatus};
use highwater_steps::replica::status::ReplicaStatus;

use crate::commands::TableStatus;
use crate::follow_progress::{best, grade_word, lag};
use crate::format::{count, seconds};

/// One line of the timeline.
struct Fact {
    at: UnixMillis,
    what: &'static str,
    text: String,
}

/// The columns of the terminal that results go to; `None` where it is none, and lines stay whole.
pub fn width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(width.0))
}

/// One table.
pub fn of(table: &TableStatus, width: Option<usize>) -> String {
    let status = &table.status;
    let mut lines = vec![format!("{}  {}", status.table, table.url)];
    let mut facts: Vec<Fact> = status.snapshots.iter().filter_map(snapshot).collect();
    for stream in &status.generations {
        facts.push(begun(stream));
        facts.extend(stream.incidents.iter().map(incident));
        facts.extend(marked(stream, status));
    }
    facts.sort_by_key(|fact| fact.at);
    lines.extend(facts.iter().map(|fact| cut(&line(fact), width)));
    lines.extend(now(table).iter().map(|line| cut(line, width)));
    let replicas = table.replicas.iter().map(replica);
    lines.extend(replicas.map(|line| cut(&line, width)));
    for why in &status.why {
        // Never cut: it says what to do.
        lines.push(format!("  needs a person: {why}"));
    }
    lines.join("\n")
}

fn line(fact: &Fact) -> String {
    let second = UnixSeconds::of(fact.at);
    format!("  {second}  {:<9}{}", fact.what, fact.text)
}

/// As much of a line as fits.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
            cut.push('…');
            cut
        }
        _ => line.to_owned(),
    }
}

fn snapshot(one: &SnapshotStatus) -> Option<Fact> {
    // The id begins with the time.
    let begun = one.snapshot_id.as_str().get(..14)?.parse().ok()?;
    let status = one.status.map_or("unreadable", Status::as_str);
    let handoff = match &one.stream_label {
        Some(label) => format!("live changes take over in stream {label}"),
        None if one.status == Some(Status::Running) => "being made".to_owned(),
        None => "no handoff: it can be restored as it is, and to no second".to_owned(),
    };
    Some(Fact {
        at: one.handoff_at.unwrap_or(UnixMillis(begun)),
        what: "backup",
        text: format!("{} {status}; {handoff}", one.snapshot_id),
    })
}

fn begun(stream: &GenerationStatus) -> Fact {
    let facts = &stream.facts;
    Fact {
        at: facts.met_at,
        what: "log",
        text: format!(
            "begins with stream {} ({}); complete from {} on",
            facts.stream_label,
            facts.view.as_str(),
            UnixSeconds::of(facts.log_from)
        ),
    }
}

fn incident(one: &IncidentStatus) -> Fact {
    let incident = &one.incident;
    let state = match (incident.kind.loses_records(), one.open) {
        (true, true) => "NOT HEALED",
        (true, false) => "healed by a newer backup",
        (false, _) => "nothing lost",
    };
    // A loss that nothing bounds is told where it ends.
    let at = match incident.from.0 {
        0 => incident.until,
        _ => incident.from,
    };
    Fact {
        at: UnixMillis(at.0.saturating_mul(1000)),
        what: "incident",
        text: format!(
            "{}, to {} ({state}): {}",
            incident.kind, incident.until, incident.detail
        ),
    }
}

fn marked(stream: &GenerationStatus, status: &LiveStatus) -> Option<Fact> {
    let published = stream.mark.as_ref()?;
    let (grade, at) = best(&published.mark)?;
    let mut text = format!("complete up to here: {}", grade_word(grade));
    for lesser in [Grade::Rolled, Grade::Proven] {
        if let (true, Some(second)) = (lesser < grade, published.mark.of(lesser)) {
            let _ = write!(text, ", {} up to {second}", grade_word(lesser));
        }
    }
    let _ = write!(text, "; lag {}", seconds(lag(at, status.at)));
    if published.held_back {
        text.push_str("; held back by a loss");
    }
    Some(Fact {
        at: UnixMillis(at.0.saturating_mul(1000)),
        what: "mark",
        text,
    })
}

fn replica(one: &ReplicaStatus) -> String {
    let record = &one.record;
    let stands = match (record.phase, one.equal_at, one.lag_seconds) {
        (Phase::Live, Some(at), Some(lag)) => {
            format!("equal as of {at}; lag {}", seconds(lag as f64))
        }
        (Phase::Live, ..) => match record.applied {
            Some(at) => format!("catching up: {at} of {}", record.equal_from()),
            None => "catching up".to_owned(),
        },
        (phase, ..) => phase.to_string(),
    };
    format!("  replica  {}: {stands}", record.target)
}

/// What is going on at this moment.
fn now(table: &TableStatus) -> Vec<String> {
    let status = &table.status;
    let Some(newest) = status.generations.last() else {
        return vec![
            "  no change log: backups can be restored as they are, and no second between them (highwater follow)"
                .to_owned(),
        ];
    };
    if newest.closed {
        return vec!["  now: the stream has ended, and all of it is read".to_owned()];
    }
    let mut lines = Vec::new();
    if let Some(reason) = &table.without_positions {
        lines.push(format!("  now: positions are not known: {reason}"));
        return lines;
    }
    let mut owners: Vec<&str> = newest
        .shards
        .iter()
        .filter_map(|shard| shard.owner.as_deref())
        .collect();
    owners.sort_unstable();
    owners.dedup();
    let slowest = newest
        .shards
        .iter()
        .filter_map(|shard| Some((shard.lag_seconds?, shard)))
        .max_by_key(|(lag, _)| *lag);
    let mut text = format!(
        "  now: {} shards open, {} read to their end, {} processes read",
        count(newest.open_shards),
        count(newest.ended_shards),
        owners.len()
    );
    if let Some((lag, shard)) = slowest {
        let behind = seconds(lag as f64);
        let _ = write!(text, "; furthest behind is {}, {behind}", shard.shard);
    }
    lines.push(text);
    lines
}

#[cfg(test)]
mod tests {
    use highwater_domain::incident::{INCIDENT_VERSION, Incident, IncidentKind};
    use highwater_domain::live_control::PublishedMark;
    use highwater_domain::log_facts::StreamFacts;
    use highwater_domain::mark::Mark;
    use highwater_domain::sequence_number::Generation;
    use highwater_domain::shard::StreamView;
    use highwater_steps::live_status::Lag;

    use super::*;

    const NOW: u64 = 1_768_385_930;
    const LABEL: &str = "2026-01-14T09:18:50.622";

    fn stream() -> GenerationStatus {
        let second = |ago: u64| Some(UnixSeconds(NOW - ago));
        GenerationStatus {
            facts: StreamFacts {
                version: 1,
                generation: Generation(1),
                stream_arn: format!("arn:aws:dynamodb:eu-north-1:1:table/orders/stream/{LABEL}"),
                stream_label: LABEL.into(),
                view: StreamView::NewAndOldImages,
                table_arn: "arn:aws:dynamodb:eu-north-1:1:table/orders".into(),
                table_id: None,
                met_at: UnixMillis((NOW - 3600) * 1000),
                log_from: UnixMillis((NOW - 3540) * 1000),
            },
            closed: false,
            mark: Some(PublishedMark {
                version: 1,
                stream_arn: String::new(),
                stream_label: LABEL.into(),
                generation: Generation(1),
                mark: Mark {
                    proven: second(500),
                    rolled: second(500),
                    assumed: second(10),
                },
                publication_ms: 120_000,
                computed_at: UnixMillis(NOW * 1000),
                bounded_by: None,
                open_shards: 2,
                held_back: true,
            }),
            lag: Lag::default(),
            open_shards: 2,
            ended_shards: 5,
            shards: Vec::new(),
            incidents: vec![IncidentStatus {
                incident: Incident {
                    version: INCIDENT_VERSION,
                    id: "gap-1".into(),
                    kind: IncidentKind::Gap,
                    stream_label: LABEL.into(),
                    shard: None,
                    from: UnixSeconds(NOW - 900),
                    until: UnixSeconds(NOW - 800),
                    seen_at: UnixMillis(NOW * 1000),
                    detail: "records are gone".into(),
                },
                open: true,
            }],
        }
    }

    fn table(generations: Vec<GenerationStatus>) -> TableStatus {
        TableStatus {
            replicas: Vec::new(),
            url: "s3://bkt/backups/orders".into(),
            without_positions: None,
            status: LiveStatus {
                table: "orders".into(),
                at: UnixMillis(NOW * 1000 + 500),
                generations,
                snapshots: vec![SnapshotStatus {
                    snapshot_id: format!("{:014}-efd1a093", (NOW - 1000) * 1000)
                        .parse()
                        .unwrap(),
                    status: Some(Status::Completed),
                    stream_label: Some(LABEL.into()),
                    handoff_at: Some(UnixMillis((NOW - 1000) * 1000)),
                }],
                needs_a_person: true,
                why: vec!["records are missing: take a snapshot".into()],
            },
        }
    }

    #[test]
    fn facts_are_a_timeline_with_the_newest_last() {
        let text = of(&table(vec![stream()]), None);
        let words: Vec<&str> = text
            .lines()
            .filter_map(|line| line.get(24..)?.split_whitespace().next())
            .collect();
        assert_eq!(
            &words[1..5],
            ["log", "backup", "incident", "mark"],
            "{text}"
        );
        for told in [
            "gap, to 2026-01-14T10:05:30Z (NOT HEALED): records are gone",
            "assumed, rolled up to 2026-01-14T10:10:30Z, proven up to 2026-01-14T10:10:30Z; lag 9.5s; held back by a loss",
            "2 shards open, 5 read to their end",
            "needs a person: records are missing: take a snapshot",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    #[test]
    fn lines_are_cut_to_the_terminal_but_what_to_do_is_not() {
        let text = of(&table(vec![stream()]), Some(50));
        let (asks, facts): (Vec<&str>, Vec<&str>) = text
            .lines()
            .partition(|line| line.contains("needs a person"));
        assert!(asks[0].ends_with("take a snapshot"));
        assert!(
            facts.iter().all(|line| line.chars().count() <= 50),
            "{text}"
        );
        assert!(facts.iter().any(|line| line.ends_with('…')), "{text}");
    }

    #[test]
    fn a_table_without_a_log_says_what_cannot_be_done() {
        let text = of(&table(Vec::new()), None);
        assert!(text.contains("no change log"), "{text}");
    }
}

//! What came of comparing a live replica with its source, for people and for machines.

use highwater_domain::difference::DifferenceKind;
use highwater_domain::mark::Grade;
use highwater_steps::compare::Totals;
use highwater_steps::replica::live_diff::LiveDiffReport;
use highwater_steps::replica::mend::Mended;
use highwater_steps::replica::recheck::Divergence;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::format::{bytes, count, seconds};

/// What is printed.
pub struct Report<'a> {
    /// What came of it.
    pub found: &'a LiveDiffReport,
    /// What the reads cost, those of the fences aside.
    pub read_units: f64,
    /// How long it took.
    pub seconds: f64,
}

impl Report<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let report = self.found;
        let side = |name: &str, totals: &Totals| {
            let (items, size) = (count(totals.items), bytes(totals.bytes));
            format!("{name}: {items} items, {size}")
        };
        let mut lines = vec![
            side(&format!("source {}", report.record.source), &report.source),
            side(
                &format!("replica {}", report.record.target),
                &report.replica,
            ),
            format!(
                "{} keys were not the same at two moments = cleared {} + gone wrong {} + undecided {} + not looked at {}",
                count(report.suspects),
                count(report.cleared),
                count(report.diverged.len() as u64),
                count(report.undecided.len() as u64),
                count(report.not_looked_at),
            ),
        ];
        lines.extend(report.diverged.iter().map(|(key, it)| line(key, it)));
        let undecided = report.undecided.iter();
        lines.extend(undecided.map(|(key, why)| format!("? {key}  {}", why.as_str())));
        lines.push(self.words());
        lines.push(self.rests_on());
        lines.push(format!(
            "{:.1} read units, {}",
            self.read_units,
            seconds(self.seconds)
        ));
        lines.join("\n")
    }

    /// What is to be said in the end.
    fn words(&self) -> String {
        let report = self.found;
        let (wrong, repaired) = (report.wrong() as u64, report.repaired() as u64);
        let mended = match repaired {
            0 => String::new(),
            keys => format!(", {} repaired", count(keys)),
        };
        if wrong > 0 {
            return format!(
                "the replica has gone wrong in {} keys{mended}",
                count(wrong)
            );
        }
        if !report.is_decided() {
            let keys = report.undecided.len() as u64 + report.not_looked_at;
            return format!("not decided in {} keys{mended}", count(keys));
        }
        format!("equal: the replica has what its source had{mended}")
    }

    /// What that is worth.
    fn rests_on(&self) -> String {
        let report = self.found;
        let grade = grade(report.grade);
        match (report.waited_for, report.record.equal_at()) {
            (Some(at), _) => format!("known by the log up to {at} ({grade})"),
            (None, Some(at)) => format!("nothing was waited for; equal as of {at} ({grade})"),
            (None, None) => "nothing was waited for; the replica is catching up".to_owned(),
        }
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let report = self.found;
        let side = |name: &str, totals: &Totals| json!({"table": name, "items": totals.items, "bytes": totals.bytes});
        let diverged = report.diverged.iter().map(|(key, it)| {
            json!({
                "key": key_value(key),
                "in_source": it.kind != DifferenceKind::OnlyInB,
                "in_replica": it.kind != DifferenceKind::OnlyInA,
                "order": it.order,
                "repair": repair(&it.mended),
            })
        });
        let undecided = report.undecided.iter().map(|(key, why)| {
            let key = key_value(key);
            json!({"key": key, "reason": why})
        });
        json!({
            "live": true,
            "equal": report.is_equal(),
            "source": side(report.record.source.as_str(), &report.source),
            "replica": side(report.record.target.as_str(), &report.replica),
            "suspects": report.suspects,
            "cleared": report.cleared,
            "diverged": diverged.collect::<Vec<_>>(),
            "undecided": undecided.collect::<Vec<_>>(),
            "not_looked_at": report.not_looked_at,
            "repaired": report.repaired(),
            "wrong": report.wrong(),
            "waited_for": report.waited_for,
            "equal_at": report.record.equal_at(),
            "grade": report.grade,
            "read_units": self.read_units,
            "seconds": self.seconds,
        })
    }

    /// The command's outcome: what is wrong counts more than what is not known.
    pub fn verdict(&self) -> Result<(), CliError> {
        let report = self.found;
        if report.wrong() > 0 {
            return Err(CliError::GoneWrong(self.words()));
        }
        if !report.is_decided() {
            return Err(CliError::Undecided(self.words()));
        }
        Ok(())
    }
}

fn grade(grade: Option<Grade>) -> &'static str {
    match grade {
        Some(Grade::Proven) => "proven",
        Some(Grade::Rolled) => "rolled",
        Some(Grade::Assumed) => "assumed",
        None => "of no known grade",
    }
}

fn key_value(key: &str) -> Value {
    serde_json::from_str(key).unwrap_or_else(|_| Value::String(key.to_owned()))
}

fn repair(mended: &Mended) -> Value {
    match mended {
        Mended::No => Value::Null,
        Mended::WouldPut => json!("would-put"),
        Mended::WouldDelete => json!("would-delete"),
        Mended::Done => json!("done"),
        Mended::Refused(why) => json!({"refused": why}),
    }
}

/// One key in which the replica has gone wrong.
fn line(key: &str, divergence: &Divergence) -> String {
    let (sign, what) = match divergence.kind {
        DifferenceKind::OnlyInA => ('-', "only in the source"),
        DifferenceKind::OnlyInB => ('+', "only in the replica"),
        DifferenceKind::Differs | DifferenceKind::Duplicated => ('~', "other attributes"),
    };
    let mended = match &divergence.mended {
        Mended::No => String::new(),
        Mended::WouldPut => ": the source's item would be written".to_owned(),
        Mended::WouldDelete => ": would be deleted".to_owned(),
        Mended::Done => ": repaired".to_owned(),
        Mended::Refused(why) => format!(": the replica does not take the source's item: {why}"),
    };
    format!("{sign} {key}  {what}{mended}")
}

#[cfg(test)]
mod tests {
    use highwater_domain::live_check::Undecided;
    use highwater_domain::mark::UnixSeconds;
    use highwater_domain::replica::ReplicaRecord;

    use super::*;

    fn record() -> ReplicaRecord {
        let record = json!({
            "version": 1, "id": "5d6f1c2b3a495867", "source": "orders", "source_arn": "arn:source",
            "source_table_id": null, "target": "orders-copy", "target_table_id": null, "fence": "table",
            "key_schema": {"partition": {"name": "id", "scalar_type": "S"}, "sort": null},
            "log": "file:///log", "snapshot": "file:///log/x", "load": "01768385930622-efd1a093",
            "stream_arn": "arn:stream", "stream_label": "label", "generation": 1, "captured_at": 0,
            "scanned_at": 0, "phase": "live", "began_at": 0, "applied": 1_768_386_000_u64,
        });
        serde_json::from_value(record).unwrap()
    }

    fn report(
        diverged: &[(&str, Mended)],
        undecided: &[&str],
        not_looked_at: u64,
    ) -> LiveDiffReport {
        let divergence = |mended: &Mended| Divergence {
            kind: DifferenceKind::OnlyInA,
            order: Some("7".into()),
            mended: mended.clone(),
        };
        let key = |id: &str| format!(r#"{{"id":{{"S":"{id}"}}}}"#);
        LiveDiffReport {
            record: record(),
            source: Totals {
                items: 1234,
                bytes: 2048,
            },
            replica: Totals::default(),
            suspects: 9,
            not_looked_at,
            cleared: 3,
            diverged: diverged
                .iter()
                .map(|(id, mended)| (key(id), divergence(mended)))
                .collect(),
            undecided: undecided
                .iter()
                .map(|id| (key(id), Undecided::WrittenTooOften))
                .collect(),
            waited_for: Some(UnixSeconds(1_768_386_000)),
            grade: Some(Grade::Assumed),
        }
    }

    fn told(report: &LiveDiffReport) -> (String, Value, u8) {
        let printed = Report {
            found: report,
            read_units: 12.5,
            seconds: 2.0,
        };
        let code = printed.verdict().err().map_or(0, |error| error.exit_code());
        (printed.text(), printed.json(), code)
    }

    #[test]
    fn what_is_wrong_counts_more_than_what_is_not_known() {
        let (text, json, code) = told(&report(&[("a", Mended::No)], &["b"], 2));
        assert_eq!(code, 3);
        for words in [
            "9 keys were not the same at two moments = cleared 3 + gone wrong 1 + undecided 1 + not looked at 2",
            "- {\"id\":{\"S\":\"a\"}}  only in the source",
            "? {\"id\":{\"S\":\"b\"}}  written to each time",
            "gone wrong in 1 keys",
            "(assumed)",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(json["equal"], false);
        assert_eq!(json["diverged"][0]["key"]["id"]["S"], "a");
        assert_eq!(json["diverged"][0]["in_replica"], false);
        assert_eq!(json["undecided"][0]["reason"], "written-too-often");
        assert_eq!(json["grade"], "assumed");
    }

    #[test]
    fn equal_is_said_only_where_all_is_known_and_right() {
        for (report, code) in [
            (report(&[], &[], 0), 0),
            (report(&[("a", Mended::Done)], &[], 0), 0),
            (report(&[], &["b"], 0), 4),
            (report(&[], &[], 1), 4),
            (report(&[("a", Mended::WouldPut)], &[], 0), 3),
            (report(&[("a", Mended::Refused("no".into()))], &[], 0), 3),
        ] {
            let (text, json, found) = told(&report);
            assert_eq!(found, code, "{text}");
            assert_eq!(json["equal"], code == 0);
            assert_eq!(text.contains("equal: the replica"), code == 0, "{text}");
        }
        let (text, json, _) = told(&report(&[("a", Mended::Done)], &[], 0));
        assert!(
            text.contains(": repaired") && text.contains("1 repaired"),
            "{text}"
        );
        assert_eq!((&json["repaired"], &json["wrong"]), (&json!(1), &json!(0)));
    }
}

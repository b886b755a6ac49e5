//! Two tables or backups, compared: what `highwater diff` and `highwater verify --table` have in common.

use std::sync::Arc;
use std::time::Instant;

use highwater_aws::Clients;
use highwater_domain::backup_source::Catalog;
use highwater_domain::difference::{Difference, DifferenceCounts, DifferenceKind, Side};
use highwater_domain::ids::TableRef;
use highwater_domain::key::KeySchema;
use highwater_domain::layout::Destination;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::table_plan::parse_key_schema;
use highwater_lambda::SystemClock;
use highwater_steps::backup_items::BackupItems;
use highwater_steps::compare::{
    CompareObserver, CompareOptions, Comparison, SpillLimits, Totals, compare,
};
use highwater_steps::item_source::ItemSource;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::segment_pages::ScanPorts;
use highwater_steps::source::{self, LookOptions, Survey};
use highwater_steps::table_items::{TableItems, TableReading};
use highwater_steps::{StepError, StopFlag};
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::diff::{Listing, Reading};
use crate::backup_place::{self, BackupPlace};
use crate::compare_progress::CompareCounters;
use crate::connect;
use crate::console::Console;
use crate::error::CliError;
use crate::format::{bytes, count, seconds};
use crate::progress::Display;

/// Keys that are listed unless somebody says otherwise.
const LISTED_KEYS: usize = 100;

/// Files of a backup that are read at once unless somebody says otherwise.
const FILES_AT_ONCE: u32 = 4;

/// What a side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A live table.
    Table(TableRef),
    /// A backup, as people name it.
    Backup(String),
}

/// One side, as the command line names it.
#[derive(Debug)]
pub struct SideArgs {
    /// What it is.
    pub named: Named,
    /// Where backups of an id are.
    pub from: Option<Destination>,
    /// How it is reached.
    pub global: Global,
}

/// A side that can be read.
struct OpenSide {
    source: Arc<dyn ItemSource>,
    /// How many items to expect; a table's own count may be hours old.
    expected_items: u64,
    /// A folder that stands for standard input goes with this.
    _place: Option<BackupPlace>,
}

/// A backup that was looked at.
pub struct OpenBackup {
    /// Where it is.
    pub store: Arc<dyn ObjectStore>,
    /// What is in it.
    pub catalog: Catalog,
    /// A folder that stands for standard input goes with this.
    pub place: BackupPlace,
}

/// Compares two sides and prints what came of it. [`CliError::Different`] if they are not equal.
pub async fn run(
    a: &SideArgs,
    b: &SideArgs,
    reading: &Reading,
    listing: &Listing,
    console: Console,
) -> Result<(), CliError> {
    let counters = Arc::new(CompareCounters::default());
    let options = CompareOptions {
        limit: listing.limit.unwrap_or(LISTED_KEYS),
        spill: SpillLimits::in_folder(listing.temp_dir.clone().unwrap_or_else(std::env::temp_dir)),
        key: given_key(reading)?,
        salt: fastrand::u128(..),
    };
    if matches!((&a.named, &b.named), (Named::Backup(a), Named::Backup(b)) if a == "-" && b == "-")
    {
        return Err(CliError::Usage(
            "standard input can be only one of the sides".into(),
        ));
    }
    let (a, b) = tokio::try_join!(open(a, reading, &counters), open(b, reading, &counters))?;
    console.say(&format!(
        "comparing {} with {}",
        a.source.name(),
        b.source.name()
    ));
    let started = Instant::now();
    let observer: Arc<dyn CompareObserver> = counters.clone();
    let display = Display::start(
        counters.clone(),
        a.expected_items + b.expected_items,
        console,
    );
    let compared = Box::pin(compare(&a.source, &b.source, &options, &observer)).await;
    drop(display);
    let report = Report {
        a: a.source.name(),
        b: b.source.name(),
        comparison: &compared?,
        read_units: counters.read_units(),
        seconds: started.elapsed().as_secs_f64(),
    };
    console.result(&report.text(), &report.json());
    if report.comparison.equal {
        return Ok(());
    }
    Err(CliError::Different(report.verdict()))
}

/// `--key`, if it was given.
pub fn given_key(reading: &Reading) -> Result<Option<KeySchema>, CliError> {
    let key = reading.key.as_deref().map(parse_key_schema).transpose();
    key.map_err(|error| StepError::from(error).into())
}

async fn open(
    side: &SideArgs,
    reading: &Reading,
    observer: &Arc<CompareCounters>,
) -> Result<OpenSide, CliError> {
    let table = match &side.named {
        Named::Table(table) => table,
        Named::Backup(_) => {
            let OpenBackup {
                store,
                catalog,
                place,
            } = open_backup(side, reading).await?;
            let expected_items = catalog.items.unwrap_or(0);
            let at_once = reading.concurrency.unwrap_or(FILES_AT_ONCE);
            let items = BackupItems::new(store, catalog, at_once, reading.skip_checks)?;
            return Ok(OpenSide {
                source: Arc::new(items),
                expected_items,
                _place: Some(place),
            });
        }
    };
    let clients = Clients::connect(&connect::settings(&side.global)).await?;
    let clock = Arc::new(SystemClock);
    let ports = ScanPorts {
        scanner: Arc::new(clients.table_scanner()),
        // A bucket of its own: each side has its own capacity.
        pace: Arc::new(Pace::new(clock.clone(), Share::Process)),
        clock,
        observer: observer.clone(),
        // A signal drops the whole comparison, which leaves nothing behind.
        stop: StopFlag::default(),
    };
    let how = TableReading {
        segments: reading.segments,
        concurrency: reading.concurrency,
        read_capacity: reading.read_capacity,
        eventual: reading.eventual,
    };
    let items = TableItems::open(&clients.table_describer(), ports, table, &how).await?;
    Ok(OpenSide {
        expected_items: items.estimated_items(),
        source: Arc::new(items),
        _place: None,
    })
}

/// Finds a backup and looks at it.
pub async fn open_backup(side: &SideArgs, reading: &Reading) -> Result<OpenBackup, CliError> {
    let (store, place, options) = reach(side, reading).await?;
    let catalog = source::look(&store, &place.location, options).await?;
    Ok(OpenBackup {
        store,
        catalog,
        place,
    })
}

/// The same, for a backup that may be damaged; gives what does not fit, too.
pub async fn survey_backup(
    side: &SideArgs,
    reading: &Reading,
) -> Result<(OpenBackup, Vec<String>), CliError> {
    let (store, place, options) = reach(side, reading).await?;
    let Survey { catalog, faults } = source::survey(&store, &place.location, options).await?;
    let backup = OpenBackup {
        store,
        catalog,
        place,
    };
    Ok((backup, faults))
}

async fn reach(
    side: &SideArgs,
    reading: &Reading,
) -> Result<(Arc<dyn ObjectStore>, BackupPlace, LookOptions), CliError> {
    let Named::Backup(text) = &side.named else {
        return Err(CliError::Usage("a table is no backup".into()));
    };
    let place = backup_place::find(text, side.from.as_ref(), &side.global).await?;
    let store = connect::store(&side.global, &place.location.store).await?;
    let options = LookOptions {
        skip_checks: reading.skip_checks,
        allow_incomplete: reading.allow_incomplete,
    };
    Ok((store, place, options))
}

/// What is printed.
struct Report<'a> {
    a: &'a str,
    b: &'a str,
    comparison: &'a Comparison,
    read_units: f64,
    seconds: f64,
}

impl Report<'_> {
    fn text(&self) -> String {
        let Comparison { a, b, .. } = self.comparison;
        let side = |letter: &str, name: &str, totals: &Totals| {
            let (items, size) = (count(totals.items), bytes(totals.bytes));
            format!("{letter}  {name}: {items} items, {size}")
        };
        let mut lines = vec![side("A", self.a, a), side("B", self.b, b)];
        lines.extend(self.comparison.differences.iter().map(line));
        let listed = self.comparison.differences.len() as u64;
        let more = self.comparison.counts.keys().saturating_sub(listed);
        if more > 0 {
            lines.push(format!("… and {} more keys (--limit)", count(more)));
        }
        for changed in &self.comparison.changed {
            let (letter, name) = match changed.side {
                Side::A => ("A", self.a),
                Side::B => ("B", self.b),
            };
            lines.push(format!(
                "{letter} changed while it was compared: {name} had {} items at first and {} then; what is listed is neither the one state nor the other",
                count(changed.items_before),
                count(changed.items_after),
            ));
        }
        lines.push(self.verdict());
        let elapsed = seconds(self.seconds);
        lines.push(match self.read_units {
            units if units > 0.0 => format!("{units:.1} read units, {elapsed}"),
            _ => elapsed,
        });
        lines.join("\n")
    }

    fn verdict(&self) -> String {
        if self.comparison.equal {
            return "equal: both have the same items".to_owned();
        }
        let DifferenceCounts {
            only_in_a,
            only_in_b,
            differs,
            duplicated,
        } = self.comparison.counts;
        let parts: Vec<String> = [
            (only_in_a, "only in A"),
            (only_in_b, "only in B"),
            (differs, "with other attributes"),
            (duplicated, "more than once"),
        ]
        .into_iter()
        .filter(|(keys, _)| *keys > 0)
        .map(|(keys, what)| format!("{} {what}", count(keys)))
        .collect();
        match self.comparison.counts.keys() {
            0 => "different, but no key that differs was found again: a side is being written to"
                .to_owned(),
            keys => format!("different in {} keys: {}", count(keys), parts.join(", ")),
        }
    }

    fn json(&self) -> Value {
        let comparison = self.comparison;
        let side = |name: &str, totals: &Totals| json!({"name": name, "items": totals.items, "bytes": totals.bytes});
        let differences: Vec<Value> = comparison
            .differences
            .iter()
            .map(|difference| {
                let key = serde_json::from_str(&difference.key);
                json!({
                    "key": key.unwrap_or(Value::String(difference.key.clone())),
                    "kind": difference.kind,
                    "in_a": difference.in_a,
                    "in_b": difference.in_b,
                })
            })
            .collect();
        json!({
            "equal": comparison.equal,
            "a": side(self.a, &comparison.a),
            "b": side(self.b, &comparison.b),
            "keys": comparison.counts.keys(),
            "counts": comparison.counts,
            "differences": differences,
            "changed": comparison.changed,
            "read_units": self.read_units,
            "seconds": self.seconds,
        })
    }
}

/// One key that differs.
fn line(difference: &Difference) -> String {
    let key = &difference.key;
    match difference.kind {
        DifferenceKind::OnlyInA => format!("- {key}  only in A"),
        DifferenceKind::OnlyInB => format!("+ {key}  only in B"),
        DifferenceKind::Differs => format!("~ {key}  other attributes"),
        DifferenceKind::Duplicated => format!(
            "! {key}  {} in A, {} in B",
            times(difference.in_a),
            times(difference.in_b)
        ),
    }
}

fn times(items: u64) -> String {
    match items {
        1 => "once".to_owned(),
        items => format!("{} times", count(items)),
    }
}

#[cfg(test)]
mod tests {
    use highwater_steps::compare::Changed;

    use super::*;

    fn report(comparison: &Comparison) -> Report<'_> {
        Report {
            a: "table orders",
            b: "s3://bucket/x",
            comparison,
            read_units: 12.5,
            seconds: 2.0,
        }
    }

    fn different() -> Comparison {
        let difference = |id: &str, kind, in_a, in_b| Difference {
            key: format!(r#"{{"id":{{"S":"{id}"}}}}"#),
            kind,
            in_a,
            in_b,
        };
        Comparison {
            equal: false,
            a: Totals {
                items: 1234,
                bytes: 2048,
            },
            b: Totals::default(),
            counts: DifferenceCounts {
                only_in_a: 7,
                only_in_b: 0,
                differs: 2,
                duplicated: 1,
            },
            differences: vec![
                difference("a", DifferenceKind::OnlyInA, 1, 0),
                difference("b", DifferenceKind::Differs, 1, 1),
                difference("c", DifferenceKind::Duplicated, 1, 3),
            ],
            changed: vec![Changed {
                side: Side::A,
                items_before: 5,
                items_after: 6,
            }],
        }
    }

    #[test]
    fn every_key_that_is_listed_says_how_it_differs() {
        let comparison = different();
        let text = report(&comparison).text();
        for told in [
            "A  table orders: 1,234 items, 2.0 KB",
            "- {\"id\":{\"S\":\"a\"}}  only in A",
            "~ {\"id\":{\"S\":\"b\"}}  other attributes",
            "! {\"id\":{\"S\":\"c\"}}  once in A, 3 times in B",
            "… and 7 more keys",
            "A changed while it was compared: table orders had 5 items at first and 6 then",
            "different in 10 keys: 7 only in A, 2 with other attributes, 1 more than once",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        let json = report(&comparison).json();
        assert_eq!(json["differences"][0]["key"]["id"]["S"], "a");
        assert_eq!(json["differences"][2]["in_b"], 3);
        assert_eq!(json["differences"][1]["kind"], "differs");
        assert_eq!(json["counts"]["only_in_a"], 7);
        assert_eq!(json["changed"][0]["side"], "a");
        assert_eq!((&json["equal"], &json["keys"]), (&json!(false), &json!(10)));
    }

    #[test]
    fn equal_is_said_only_of_equals() {
        let equal = Comparison {
            equal: true,
            counts: DifferenceCounts::default(),
            differences: Vec::new(),
            changed: Vec::new(),
            ..different()
        };
        assert!(
            report(&equal)
                .text()
                .contains("equal: both have the same items")
        );
        let changed = Comparison {
            equal: false,
            ..equal
        };
        let text = report(&changed).text();
        assert!(text.contains("a side is being written to"), "{text}");
        assert!(!text.contains("equal:"), "{text}");
    }
}

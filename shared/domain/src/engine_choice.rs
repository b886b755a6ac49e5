//! Who does the writing: Highwater, through the table's write capacity, or DynamoDB's own import.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backup_source::{Catalog, LineShape, SourceLocation};
use crate::import_request::ImportSource;
use crate::layout::Destination;
use crate::restore::Engine;
use crate::snapshot::Status;
use crate::table_plan::TablePlan;

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// Whichever is better.
    #[default]
    Auto,
    /// Highwater.
    Write,
    /// DynamoDB's own import, or an error that says why not.
    ImportTable,
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct EngineFacts<'a> {
    /// The backup.
    pub catalog: &'a Catalog,
    /// The table's plan; it creates the table, or else it is there.
    pub plan: &'a TablePlan,
    /// Objects that lie under [`import_source`]'s prefix, and are not the backup's: one of them, if there is any.
    pub foreign_object: Option<&'a str>,
    /// Whether only some items are asked for, by key or by number.
    pub partial: bool,
    /// The write capacity for the load, if one was asked for.
    pub load_write_capacity: Option<u64>,
    /// The target's region.
    pub region: &'a str,
    /// Whether an endpoint of the user's own stands in for AWS.
    pub own_endpoint: bool,
}

/// The engine, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Who writes.
    pub engine: Engine,
    /// Why, one line for people.
    pub reason: String,
    /// What the import reads, if it is the engine: for [`TablePlan::into_import`].
    pub import: Option<ImportSource>,
}

/// The engine that was asked for cannot do this restore.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("ImportTable cannot do this restore: {}; use --engine write", reasons.join("; "))]
pub struct EngineRefused {
    /// Every reason.
    pub reasons: Vec<String>,
}

/// From this many bytes of lines on the import is chosen: it needs minutes to begin, and nothing after that.
pub const IMPORT_PAYS_FROM_BYTES: u64 = 1 << 30;

/// Quotas of an import:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Validation.html>.
const MOST_OBJECTS: usize = 50_000;
const MOST_BYTES: u64 = 1 << 40;
const MOST_BYTES_IN_LARGE_REGIONS: u64 = 15 << 40;
const LARGE_REGIONS: &[&str] = &["us-east-1", "us-west-2", "eu-west-1"];

/// Decides who writes.
///
/// # Errors
/// If ImportTable was asked for and cannot do it; with every reason.
pub fn choose_engine(
    asked: EngineChoice,
    facts: &EngineFacts<'_>,
) -> Result<Chosen, EngineRefused> {
    let write = |reason: String| Chosen {
        engine: Engine::Write,
        reason,
        import: None,
    };
    if asked == EngineChoice::Write {
        return Ok(write("asked for".into()));
    }
    let source = match importable(facts) {
        Ok(source) => source,
        Err(reasons) if asked == EngineChoice::ImportTable => {
            return Err(EngineRefused { reasons });
        }
        Err(reasons) => {
            return Ok(write(format!("ImportTable cannot: {}", reasons.join("; "))));
        }
    };
    let import = |reason: String| Chosen {
        engine: Engine::ImportTable,
        reason,
        import: Some(source),
    };
    if asked == EngineChoice::ImportTable {
        return Ok(import("asked for".into()));
    }
    if facts.own_endpoint {
        return Ok(write(
            "ImportTable is part of AWS, and the endpoint is another one".into(),
        ));
    }
    let (bytes, measure) = match facts.catalog.plain_bytes {
        Some(bytes) => (bytes, "uncompressed"),
        None => (facts.catalog.stored_bytes(), "stored"),
    };
    if bytes < IMPORT_PAYS_FROM_BYTES {
        return Ok(write(format!(
            "{} {measure} are written before an import would begin",
            size(bytes)
        )));
    }
    Ok(import(format!(
        "a new table and {} {measure}: an import needs no write units",
        size(bytes)
    )))
}

/// What an import would read, or every reason why it cannot be done.
fn importable(facts: &EngineFacts<'_>) -> Result<ImportSource, Vec<String>> {
    let mut reasons = Vec::new();
    about_the_table(facts, &mut reasons);
    about_the_backup(facts, &mut reasons);
    let source = match import_source(facts.catalog) {
        Ok(source) => {
            if let Some(object) = facts.foreign_object {
                reasons.push(format!(
                    "it reads everything under {source}, and {object} is not part of the backup"
                ));
            }
            Some(source)
        }
        Err(reason) => {
            reasons.push(reason);
            None
        }
    };
    match source {
        Some(source) if reasons.is_empty() => Ok(source),
        _ => Err(reasons),
    }
}

fn about_the_table(facts: &EngineFacts<'_>, reasons: &mut Vec<String>) {
    let Some(create) = &facts.plan.create else {
        reasons.push("it makes its table, and this one is there already".into());
        return;
    };
    let locals: Vec<&str> = create["LocalSecondaryIndexes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|index| index["IndexName"].as_str())
        .collect();
    if !locals.is_empty() {
        reasons.push(format!(
            "it cannot make local secondary indexes: {}",
            locals.join(", ")
        ));
    }
    if create["StreamSpecification"].is_object() {
        reasons.push("it cannot have the stream before the items, as was asked".into());
    }
    if facts.load_write_capacity.is_some() {
        reasons.push("it uses no write capacity, and some was asked for".into());
    }
}

fn about_the_backup(facts: &EngineFacts<'_>, reasons: &mut Vec<String>) {
    let catalog = facts.catalog;
    if facts.partial {
        reasons.push("it takes all items, and only some were asked for".into());
    }
    if catalog
        .status
        .is_some_and(|status| status != Status::Completed)
    {
        reasons.push("the backup is not complete".into());
    }
    if catalog.items.is_none() {
        reasons.push("the backup does not say how many items it has, so that nothing would prove the import whole".into());
    }
    if catalog.files.len() > MOST_OBJECTS {
        reasons.push(format!(
            "it takes at most {MOST_OBJECTS} objects, and the backup has {}",
            catalog.files.len()
        ));
    }
    let most = if LARGE_REGIONS.contains(&facts.region) {
        MOST_BYTES_IN_LARGE_REGIONS
    } else {
        MOST_BYTES
    };
    if catalog.stored_bytes() > most {
        reasons.push(format!(
            "it takes at most {} in {}, and the backup has {}",
            size(most),
            facts.region,
            size(catalog.stored_bytes())
        ));
    }
    if catalog
        .files
        .iter()
        .any(|file| file.shape != LineShape::Item)
    {
        reasons.push(format!(
            "it takes lines of the form {{\"Item\":{{…}}}}, and those of a {} are others",
            catalog.kind.as_str()
        ));
    }
}

/// The prefix and the compression that all files of a backup share.
///
/// # Errors
/// The reason why an import cannot read them, in plain words. Whether other objects lie under the prefix is not
/// known here.
pub fn import_source(catalog: &Catalog) -> Result<ImportSource, String> {
    let location: SourceLocation = catalog
        .url
        .parse()
        .map_err(|error: crate::backup_source::LocationError| error.to_string())?;
    let Destination::S3 { bucket, .. } = location.store else {
        return Err("it reads S3 only, and the backup is in a directory".into());
    };
    let Some(first) = catalog.files.first() else {
        return Err("the backup has no files".into());
    };
    let folder = |object: &str| {
        object
            .rsplit_once('/')
            .map(|(folder, _)| format!("{folder}/"))
    };
    let Some(prefix) = folder(&first.object) else {
        return Err(
            "the files lie at the bucket's root, and it reads everything under a prefix".into(),
        );
    };
    if let Some(other) = catalog
        .files
        .iter()
        .find(|file| folder(&file.object).as_deref() != Some(prefix.as_str()))
    {
        return Err(format!(
            "it reads one folder, and the backup's files lie in several: {} and {}",
            first.object, other.object
        ));
    }
    if catalog
        .files
        .iter()
        .any(|file| file.packing != first.packing)
    {
        return Err("it takes one compression for all files, and the backup has several".into());
    }
    Ok(ImportSource {
        bucket,
        prefix,
        packing: first.packing,
    })
}

/// Bytes in people's units.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("TiB", 40), ("GiB", 30), ("MiB", 20)];
    for (unit, shift) in UNITS {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = ((bytes - (whole << shift)) * 10) >> shift;
            return format!("{whole}.{tenths} {unit}");
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup_source::{FileClaims, Packing, SourceFile, SourceKind};
    use crate::table_plan::tests::{on_demand, plan, rich};

    fn catalog() -> Catalog {
        let file = |name: &str| SourceFile {
            object: format!("backups/orders/AWSDynamoDB/x/data/{name}"),
            stored_bytes: 1 << 20,
            packing: Packing::Gzip,
            shape: LineShape::Item,
            claims: FileClaims::default(),
        };
        Catalog {
            url: "s3://bucket/backups/orders/AWSDynamoDB/x".into(),
            kind: SourceKind::Highwater,
            table_name: None,
            status: Some(Status::Completed),
            items: Some(1000),
            plain_bytes: Some(2 << 30),
            key_schema: None,
            settings: None,
            files: vec![file("a.json.gz"), file("b.json.gz")],
            unchecked: Vec::new(),
        }
    }

    fn choose(
        asked: EngineChoice,
        plan: &TablePlan,
        spoil_catalog: impl Fn(&mut Catalog),
        spoil: impl Fn(&mut EngineFacts<'_>),
    ) -> Result<Chosen, EngineRefused> {
        let mut catalog = catalog();
        spoil_catalog(&mut catalog);
        let mut facts = EngineFacts {
            catalog: &catalog,
            plan,
            foreign_object: None,
            partial: false,
            load_write_capacity: None,
            region: "eu-north-1",
            own_endpoint: false,
        };
        spoil(&mut facts);
        choose_engine(asked, &facts)
    }

    #[test]
    fn import_is_chosen_where_it_is_possible_and_pays() {
        let plan = plan(&on_demand());
        let auto = |catalog: fn(&mut Catalog), facts: fn(&mut EngineFacts<'_>)| {
            choose(EngineChoice::Auto, &plan, catalog, facts).unwrap()
        };
        let chosen = auto(|_| {}, |_| {});
        assert_eq!(chosen.engine, Engine::ImportTable);
        assert_eq!(
            chosen.reason,
            "a new table and 2.0 GiB uncompressed: an import needs no write units"
        );
        assert_eq!(
            chosen.import.unwrap().to_string(),
            "s3://bucket/backups/orders/AWSDynamoDB/x/data/"
        );
        let small = auto(|it| it.plain_bytes = Some(5 << 20), |_| {});
        assert_eq!(
            (small.engine, small.reason.as_str()),
            (
                Engine::Write,
                "5.0 MiB uncompressed are written before an import would begin"
            )
        );
        let elsewhere = auto(|_| {}, |it| it.own_endpoint = true);
        assert_eq!(elsewhere.engine, Engine::Write);
        let asked = choose(EngineChoice::Write, &plan, |_| {}, |_| {}).unwrap();
        assert_eq!((asked.engine, asked.import), (Engine::Write, None));
    }

    /// An import that was asked for is refused for this one reason, and `auto` writes for the same.
    fn refused(reason: &str, catalog: impl Fn(&mut Catalog), facts: impl Fn(&mut EngineFacts<'_>)) {
        let plan = plan(&on_demand());
        let asked = choose(EngineChoice::ImportTable, &plan, &catalog, &facts).unwrap_err();
        assert_eq!(asked.reasons, [reason]);
        let auto = choose(EngineChoice::Auto, &plan, &catalog, &facts).unwrap();
        assert_eq!(auto.engine, Engine::Write);
        assert_eq!(auto.reason, format!("ImportTable cannot: {reason}"));
    }

    #[test]
    fn what_was_asked_for_may_be_more_than_an_import_does() {
        let partial = "it takes all items, and only some were asked for";
        refused(partial, |_| {}, |it| it.partial = true);
        let capacity = "it uses no write capacity, and some was asked for";
        refused(capacity, |_| {}, |it| it.load_write_capacity = Some(1));
        refused(
            "it reads everything under s3://bucket/backups/orders/AWSDynamoDB/x/data/, and s3://x is not part of the backup",
            |_| {},
            |it| it.foreign_object = Some("s3://x"),
        );
    }

    #[test]
    fn a_backup_must_be_whole_and_within_the_quotas() {
        let status = |status| move |it: &mut Catalog| it.status = Some(status);
        refused(
            "the backup is not complete",
            status(Status::Running),
            |_| {},
        );
        refused(
            "the backup does not say how many items it has, so that nothing would prove the import whole",
            |it| it.items = None,
            |_| {},
        );
        refused(
            "it takes at most 50000 objects, and the backup has 50001",
            |it| it.files = vec![it.files[0].clone(); 50_001],
            |_| {},
        );
        let large = |it: &mut Catalog| it.files[0].stored_bytes = (2 << 40) - (1 << 20);
        let reason = "it takes at most 1.0 TiB in eu-north-1, and the backup has 2.0 TiB";
        refused(reason, large, |_| {});
        let plan = plan(&on_demand());
        let elsewhere = |it: &mut EngineFacts<'_>| it.region = "us-east-1";
        assert!(choose(EngineChoice::ImportTable, &plan, large, elsewhere).is_ok());
    }

    #[test]
    fn its_files_must_be_of_one_kind_in_one_folder_of_a_bucket() {
        refused(
            "it takes lines of the form {\"Item\":{…}}, and those of a dyndump backup are others",
            |it| {
                it.kind = SourceKind::Dyndump;
                it.files[1].shape = LineShape::Bare;
            },
            |_| {},
        );
        refused(
            "it takes one compression for all files, and the backup has several",
            |it| it.files[1].packing = Packing::Zstd,
            |_| {},
        );
        let directory = |it: &mut Catalog| it.url = "file:///a/b".into();
        refused(
            "it reads S3 only, and the backup is in a directory",
            directory,
            |_| {},
        );
        refused(
            "it reads one folder, and the backup's files lie in several: backups/orders/AWSDynamoDB/x/data/a.json.gz and other/b",
            |it| it.files[1].object = "other/b".into(),
            |_| {},
        );
        refused(
            "the files lie at the bucket's root, and it reads everything under a prefix",
            |it| {
                for file in &mut it.files {
                    file.object = "a".into();
                }
            },
            |_| {},
        );
        refused("the backup has no files", |it| it.files.clear(), |_| {});
    }

    #[test]
    fn every_reason_is_given_at_once() {
        let import = |plan: &TablePlan, catalog: fn(&mut Catalog)| {
            let refused = choose(EngineChoice::ImportTable, plan, catalog, |_| {});
            refused.unwrap_err().reasons
        };
        assert_eq!(
            import(&plan(&rich()), |it| it.status = Some(Status::Failed)),
            [
                "it cannot make local secondary indexes: by-date",
                "the backup is not complete"
            ]
        );
        let existing = import(&TablePlan::default(), |_| {});
        assert_eq!(
            existing,
            ["it makes its table, and this one is there already"]
        );
        let mut stream_first = plan(&on_demand());
        stream_first.create.as_mut().unwrap()["StreamSpecification"] = serde_json::json!({});
        let reason = "it cannot have the stream before the items, as was asked";
        assert_eq!(import(&stream_first, |_| {}), [reason]);
    }
}

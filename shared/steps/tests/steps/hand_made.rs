//! Backups of every kind, written by hand into a fake bucket by the rules of their formats.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use highwater_domain::backup_source::{Catalog, Packing, SourceLocation};
use highwater_domain::digest::{md5_base64, sha256_hex};
use highwater_domain::manifest::md5_file;
use highwater_domain::object_store::{NewObject, ObjectStore};
use highwater_domain::part::export_etag;
use highwater_domain::table_writer::WriteOp;
use highwater_steps::StepError;
use highwater_steps::source::{LookOptions, look};
use highwater_steps::source_file::open_file;
use highwater_testkit::fake_store::{FakeStore, object};
use serde_json::{Value, json};

pub const EXPORT_ID: &str = "01768385930622-efd1a093";

pub const STRICT: LookOptions = LookOptions {
    skip_checks: false,
    allow_incomplete: false,
};

pub const INCOMPLETE: LookOptions = LookOptions {
    allow_incomplete: true,
    ..STRICT
};

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Compresses as the name says.
pub fn packed(name: &str, text: &[u8]) -> Vec<u8> {
    match Packing::of_name(name) {
        Packing::Gzip => gzip(text),
        Packing::Zstd => zstd::encode_all(text, 1).unwrap(),
        Packing::None => text.to_vec(),
    }
}

pub fn plant(store: &FakeStore, key: &str, body: impl Into<Vec<u8>>) {
    store.plant(NewObject {
        body: body.into().into(),
        ..object(key, "")
    });
}

pub fn item(n: usize) -> String {
    format!(r#"{{"pk":{{"S":"{n}"}},"n":{{"N":"{n}"}}}}"#)
}

/// `{"Item":{…}}` lines of these items.
pub fn item_lines(numbers: std::ops::Range<usize>) -> String {
    let mut lines = String::new();
    for n in numbers {
        writeln!(lines, "{{\"Item\":{}}}", item(n)).unwrap();
    }
    lines
}

/// An export, before it is written.
pub struct Export {
    /// Everything before the export's id, with its slash.
    pub prefix: String,
    /// Where the data files are, with its slash.
    pub data: String,
    /// Name and lines of each data file.
    pub files: Vec<(String, String)>,
    /// Members that the summary has beside the usual ones.
    pub summary: Value,
    /// `md5`, or `checksum` as AWS documents it.
    pub hashes: &'static str,
}

impl Export {
    pub fn full(files: &[(&str, &str)]) -> Self {
        let prefix = "backups/AWSDynamoDB/".to_owned();
        Self {
            data: format!("{prefix}{EXPORT_ID}/data/"),
            prefix,
            files: files
                .iter()
                .map(|(name, lines)| ((*name).to_owned(), (*lines).to_owned()))
                .collect(),
            summary: json!({"version": "2020-06-30", "exportTime": "2026-01-14T10:18:50.622Z"}),
            hashes: "md5",
        }
    }

    pub fn incremental(files: &[(&str, &str)]) -> Self {
        let full = Self::full(files);
        Self {
            data: format!("{}data/", full.prefix),
            summary: json!({
                "version": "2023-08-01",
                "exportType": "INCREMENTAL_EXPORT",
                "outputView": "NEW_AND_OLD_IMAGES",
                "exportFromTime": "2026-01-14T10:20:00.000Z",
                "exportToTime": "2026-01-14T10:35:00.000Z",
            }),
            ..full
        }
    }

    pub fn folder(&self) -> String {
        format!("{}{EXPORT_ID}/", self.prefix)
    }

    pub fn write(&self, store: &FakeStore) {
        let mut manifest = String::new();
        let mut items = 0;
        for (name, lines) in &self.files {
            let body = packed(name, lines.as_bytes());
            let md5 = md5_base64(&body);
            let count = lines.lines().count();
            items += count;
            let line = json!({
                "itemCount": count,
                "md5Checksum": md5,
                "etag": export_etag(&md5).unwrap(),
                "dataFileS3Key": format!("{}{name}", self.data),
            });
            writeln!(manifest, "{line}").unwrap();
            plant(store, &format!("{}{name}", self.data), body);
        }
        plant(store, &format!("{}_started", self.folder()), "");
        self.write_manifest(store, "manifest-files", &manifest);
        let mut summary = json!({
            "exportArn": format!("arn:aws:dynamodb:eu-north-1:123456789123:table/test/export/{EXPORT_ID}"),
            "tableArn": "arn:aws:dynamodb:eu-north-1:123456789123:table/test",
            "tableId": "cf263806-6bf1-4e51-a242-7067dcdecc72",
            "s3Bucket": "fake-bucket",
            "manifestFilesS3Key": format!("{}manifest-files.json", self.folder()),
            "billedSizeBytes": 0,
            "itemCount": items,
            "outputFormat": "DYNAMODB_JSON",
        });
        let members = summary.as_object_mut().unwrap();
        members.extend(self.summary.as_object().unwrap().clone());
        self.write_manifest(store, "manifest-summary", &summary.to_string());
    }

    /// Writes a manifest and its hash.
    pub fn write_manifest(&self, store: &FakeStore, name: &str, text: &str) {
        let key = format!("{}{name}", self.folder());
        plant(store, &format!("{key}.json"), text);
        plant(
            store,
            &format!("{key}.{}", self.hashes),
            md5_file(text.as_bytes()),
        );
    }

    /// Changes `manifest-files.json`, and its hash with it.
    pub fn change_files(&self, store: &FakeStore, change: impl FnOnce(String) -> String) {
        let text = store.objects()[&format!("{}manifest-files.json", self.folder())]
            .body
            .to_vec();
        let text = change(String::from_utf8(text).unwrap());
        self.write_manifest(store, "manifest-files", &text);
    }
}

/// A dyndump backup of the generation that hashes.
pub fn write_hashed_dump(store: &FakeStore, prefix: &str, parts: &[&str]) {
    let mut hashes = String::new();
    let (mut stored, mut plain, mut items) = (0, 0, 0);
    for (number, lines) in (1..).zip(parts) {
        let key = format!("{prefix}-part-{number:09}.json.gz");
        let body = gzip(lines.as_bytes());
        let hash = sha256_hex(lines.as_bytes());
        writeln!(hashes, "{hash}").unwrap();
        let count = lines.lines().count();
        (stored, plain, items) = (stored + body.len(), plain + lines.len(), items + count);
        store.plant(NewObject {
            body: body.into(),
            content_encoding: Some("gzip"),
            user_metadata: [
                ("dyndump-sha256", hash),
                ("dyndump-itemcount", count.to_string()),
                ("dyndump-part", number.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            ..object(&key, "")
        });
    }
    let metadata = json!({
        "table_name": "test", "table_arn": "arn:aws:dynamodb:eu-north-1:1:table/test", "status": "completed",
        "backup_type": "full", "backup_start_time": "2026-01-14T10:18:50Z", "backup_end_time": "2026-01-14T10:19:50Z",
        "uncompressed_bytes": plain, "compressed_bytes": stored, "item_count": items, "part_count": parts.len(),
        "hash_sha256": sha256_hex(hashes.as_bytes()), "last_hashed": parts.len(),
    });
    plant(store, &format!("{prefix}-meta.json"), metadata.to_string());
}

/// Changes a member of a JSON object in the bucket.
pub fn change_member(store: &FakeStore, key: &str, member: &str, value: Value) {
    let body = store.objects()[key].body.clone();
    let mut object: Value = serde_json::from_slice(&body).unwrap();
    object[member] = value;
    plant(store, key, object.to_string());
}

/// The real dyndump's files, under `prefix`.
pub fn write_real_dump(store: &FakeStore, prefix: &str) {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/dyndump/movies"
    );
    let names = (1..=3).map(|number| format!("-part-00000000{number}.json.gz"));
    for name in names.chain(["-meta.json".to_owned()]) {
        let body = std::fs::read(format!("{folder}{name}")).unwrap();
        plant(store, &format!("{prefix}{name}"), body);
    }
}

pub fn location(key: &str) -> SourceLocation {
    format!("s3://fake-bucket/{key}").parse().unwrap()
}

pub async fn look_at(
    store: &Arc<FakeStore>,
    key: &str,
    options: LookOptions,
) -> Result<Catalog, StepError> {
    let store: Arc<dyn ObjectStore> = store.clone();
    look(&store, &location(key), options).await
}

/// Every record of a backup: `+item` or `-key`.
pub async fn read_all(
    store: &Arc<FakeStore>,
    catalog: &Catalog,
    skip_checks: bool,
) -> Result<Vec<String>, StepError> {
    let store: Arc<dyn ObjectStore> = store.clone();
    let mut ops = Vec::new();
    for file in &catalog.files {
        let mut records = open_file(&store, file, skip_checks).await?;
        let mut line = 0;
        while let Some(batch) = records.next().await? {
            assert!(!batch.is_empty());
            for record in batch {
                line += 1;
                assert_eq!(record.line, line);
                let mark = match record.op {
                    WriteOp::Put(_) => '+',
                    WriteOp::Delete(_) => '-',
                };
                let body = std::str::from_utf8(record.op.body()).unwrap();
                ops.push(format!("{mark}{body}"));
            }
        }
        assert!(records.next().await.unwrap().is_none(), "the end stays");
    }
    Ok(ops)
}

/// The items of a backup that is looked at and read without a fault.
pub async fn items_of(store: &Arc<FakeStore>, key: &str) -> (Catalog, Vec<String>) {
    let catalog = look_at(store, key, STRICT).await.unwrap();
    let ops = read_all(store, &catalog, false).await.unwrap();
    (catalog, ops)
}

/// What looking and reading comes to: the error that one of the two gives.
pub async fn refusal(store: &Arc<FakeStore>, key: &str) -> StepError {
    let catalog = match look_at(store, key, STRICT).await {
        Ok(catalog) => catalog,
        Err(error) => return error,
    };
    match read_all(store, &catalog, false).await {
        Ok(ops) => panic!("{} records of {catalog:?} were given out", ops.len()),
        Err(error) => error,
    }
}

pub fn puts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("+{}", item(n))).collect()
}

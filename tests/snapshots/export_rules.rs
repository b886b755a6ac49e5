//! The rules of an AWS full export in DynamoDB JSON, checked on the objects in the bucket.
//!
//! Written from the description of the format and from real exports, not from the code that writes ours: what that
//! code gets wrong must not be right here. Its layout is described at
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html>.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use aws_sdk_s3::Client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_domain::ids::SnapshotId;
use highwater_domain::part_reader;
use highwater_domain::snapshot::Compression;
use md5::{Digest as _, Md5};
use serde_json::Value;
use serde_json::value::RawValue;

use super::stage::{BUCKET, PREFIX};

/// An export in the bucket.
pub struct Export<'a> {
    s3: &'a Client,
    table: &'a str,
    id: &'a SnapshotId,
    root: String,
}

/// What the parts add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub parts: u64,
    pub items: u64,
    pub stored_bytes: u64,
    pub plain_bytes: u64,
}

impl<'a> Export<'a> {
    pub fn new(s3: &'a Client, table: &'a str, id: &'a SnapshotId) -> Self {
        let root = format!("{PREFIX}/{table}/AWSDynamoDB/{id}/");
        Self {
            s3,
            table,
            id,
            root,
        }
    }

    /// Checks every rule; `each` gets every item's bytes.
    pub async fn check(&self, mut each: impl FnMut(&[u8])) -> Sums {
        let summary = self.check_summary().await;
        let files = self.check_files().await;
        self.check_objects(&files).await;
        let mut sums = Sums::default();
        for file in &files {
            let body = self.object(&file.key).await;
            assert_eq!(file.md5, md5_base64(&body), "{}", file.key);
            assert_eq!(file.etag, one_part_etag(&body), "{}", file.key);
            let lines = lines(&file.key, &body);
            let items = check_lines(&file.key, &lines, &mut each);
            assert_eq!(file.items, items, "{}", file.key);
            assert!(items > 0, "{} is empty", file.key);
            sums.parts += 1;
            sums.items += items;
            sums.stored_bytes += body.len() as u64;
            sums.plain_bytes += lines.len() as u64;
        }
        assert_eq!(summary["itemCount"], sums.items);
        self.check_metadata(sums).await;
        sums
    }

    /// `manifest-summary.json`: one line, these members in this order, and no line break at its end.
    async fn check_summary(&self) -> Value {
        let text = self.with_md5("manifest-summary").await;
        let summary: Value = serde_json::from_str(&text).unwrap();
        let members = [
            "version",
            "exportArn",
            "startTime",
            "endTime",
            "tableArn",
            "tableId",
            "exportTime",
            "s3Bucket",
            "s3Prefix",
            "s3SseAlgorithm",
            "s3SseKmsKeyId",
            "manifestFilesS3Key",
            "billedSizeBytes",
            "itemCount",
            "outputFormat",
        ];
        assert_eq!(text, in_order(&summary, &members));
        assert_eq!(summary["version"], "2020-06-30");
        let arn = summary["tableArn"].as_str().unwrap();
        assert!(arn.starts_with("arn:aws:dynamodb:"), "{arn}");
        assert!(arn.ends_with(&format!(":table/{}", self.table)), "{arn}");
        assert_eq!(summary["exportArn"], format!("{arn}/export/{}", self.id));
        let [start, end, at] =
            ["startTime", "endTime", "exportTime"].map(|name| time(&summary[name]));
        assert!(start <= end && start <= at && at <= end, "{summary}");
        let table_id = summary["tableId"].as_str().unwrap();
        let groups: Vec<usize> = table_id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{table_id} is no UUID");
        assert_eq!(summary["s3Bucket"], BUCKET);
        assert_eq!(summary["s3Prefix"], format!("{PREFIX}/{}", self.table));
        assert_eq!(summary["s3SseAlgorithm"], "AES256");
        assert_eq!(summary["s3SseKmsKeyId"], Value::Null);
        let files = format!("{}manifest-files.json", self.root);
        assert_eq!(summary["manifestFilesS3Key"], files);
        assert!(summary["billedSizeBytes"].is_u64());
        assert_eq!(summary["outputFormat"], "DYNAMODB_JSON");
        summary
    }

    /// `manifest-files.json`: a line for each file, these members in this order, a line break after each.
    async fn check_files(&self) -> Vec<File> {
        let text = self.with_md5("manifest-files").await;
        assert!(text.is_empty() || text.ends_with('\n'));
        let members = ["itemCount", "md5Checksum", "etag", "dataFileS3Key"];
        let files: Vec<File> = text
            .lines()
            .map(|line| {
                let file: Value = serde_json::from_str(line).unwrap();
                assert_eq!(line, in_order(&file, &members));
                let text = |name: &str| file[name].as_str().unwrap().to_owned();
                File {
                    key: text("dataFileS3Key"),
                    md5: text("md5Checksum"),
                    etag: text("etag"),
                    items: file["itemCount"].as_u64().unwrap(),
                }
            })
            .collect();
        let names: BTreeSet<&str> = files.iter().map(|file| file.key.as_str()).collect();
        assert_eq!(names.len(), files.len(), "a file is listed twice");
        files
    }

    /// What is listed is there, and what is there is listed or of a known name.
    async fn check_objects(&self, files: &[File]) {
        let beside = [
            "_started",
            "backup.json",
            "manifest-files.json",
            "manifest-files.md5",
            "manifest-summary.json",
            "manifest-summary.md5",
            "table.json",
        ];
        let mut expected: BTreeSet<String> = beside
            .iter()
            .map(|name| format!("{}{name}", self.root))
            .collect();
        let data = format!("{}data/", self.root);
        for file in files {
            assert!(file.key.starts_with(&data), "{}", file.key);
            expected.insert(file.key.clone());
        }
        assert_eq!(self.keys().await, expected);
        assert_eq!(self.object(&format!("{}_started", self.root)).await, b"");
    }

    /// `backup.json` says what the parts add up to.
    async fn check_metadata(&self, sums: Sums) {
        let body = self.object(&format!("{}backup.json", self.root)).await;
        let metadata: Value = serde_json::from_slice(&body).unwrap();
        let counted = [
            "part_count",
            "item_count",
            "compressed_bytes",
            "uncompressed_bytes",
        ];
        let counted = counted.map(|name| metadata[name].as_u64().unwrap());
        let [parts, items, stored_bytes, plain_bytes] = counted;
        let told = Sums {
            parts,
            items,
            stored_bytes,
            plain_bytes,
        };
        assert_eq!(told, sums);
        assert_eq!(metadata["status"], "completed");
        assert_eq!(metadata["table_name"], self.table);
    }

    /// A manifest's text, whose `.md5` beside it is right: 24 characters, no line break.
    async fn with_md5(&self, name: &str) -> String {
        let body = self.object(&format!("{}{name}.json", self.root)).await;
        let md5 = self.object(&format!("{}{name}.md5", self.root)).await;
        assert_eq!(md5.len(), 24);
        assert_eq!(String::from_utf8(md5).unwrap(), md5_base64(&body), "{name}");
        String::from_utf8(body).unwrap()
    }

    async fn object(&self, key: &str) -> Vec<u8> {
        let request = self.s3.get_object().bucket(BUCKET).key(key);
        let answer = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{key}: {error:?}"));
        answer.body.collect().await.unwrap().to_vec()
    }

    async fn keys(&self) -> BTreeSet<String> {
        let (mut keys, mut token) = (BTreeSet::new(), None);
        loop {
            let listing = self.s3.list_objects_v2().bucket(BUCKET).prefix(&self.root);
            let page = listing.set_continuation_token(token).send().await.unwrap();
            keys.extend(
                page.contents()
                    .iter()
                    .map(|object| object.key().unwrap().to_owned()),
            );
            token = page.next_continuation_token;
            if token.is_none() {
                return keys;
            }
        }
    }
}

/// A line of `manifest-files.json`.
struct File {
    key: String,
    md5: String,
    etag: String,
    items: u64,
}

/// The value as JSON without spaces, with just these members in this order.
fn in_order(value: &Value, members: &[&str]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|name| format!("\"{name}\":{}", value[name]))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn md5_base64(body: &[u8]) -> String {
    BASE64.encode(Md5::digest(body))
}

/// The `ETag` of an upload in one part: the hex MD5 of the MD5's own bytes, and the number of parts.
fn one_part_etag(body: &[u8]) -> String {
    format!("{}-1", hex::encode(Md5::digest(Md5::digest(body))))
}

/// `2026-01-14T10:18:50.622Z`; such texts are in the order of their times.
fn time(value: &Value) -> &str {
    let text = value.as_str().unwrap();
    let shape = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c });
    assert_eq!(
        shape.collect::<String>(),
        "0000-00-00T00:00:00.000Z",
        "{text}"
    );
    text
}

/// The lines of a data file: one compressed member and nothing behind it.
fn lines(key: &str, body: &[u8]) -> Vec<u8> {
    if key.ends_with(".json.zst") {
        // No second decoder at hand: the lines are put together again from the reader's items.
        let mut lines = Vec::new();
        let each = |item: &[u8]| lines.extend([b"{\"Item\":", item, b"}\n"].concat());
        part_reader::read_items(body, key, Compression::Zstd, each).unwrap();
        assert_eq!(body[..4], [0x28, 0xb5, 0x2f, 0xfd], "{key}");
        return lines;
    }
    assert!(key.ends_with(".json.gz"), "{key}");
    assert_eq!(
        body[..4],
        [0x1f, 0x8b, 8, 0],
        "{key}: gzip without name or comment"
    );
    assert_eq!(body[4..8], [0; 4], "{key}: no time");
    assert_eq!(body[9], 0xff, "{key}: unknown operating system");
    let mut rest = body;
    let mut lines = Vec::new();
    flate2::bufread::GzDecoder::new(&mut rest)
        .read_to_end(&mut lines)
        .unwrap();
    assert_eq!(rest, b"", "{key}: a second member or rubbish");
    lines
}

/// Every line, the last one too, is `{"Item":{…}}` with a line break. Gives their number.
fn check_lines(key: &str, lines: &[u8], each: &mut impl FnMut(&[u8])) -> u64 {
    assert_eq!(lines.last(), Some(&b'\n'), "{key}");
    let mut count = 0;
    for line in lines[..lines.len() - 1].split(|byte| *byte == b'\n') {
        let members: BTreeMap<&str, &RawValue> = serde_json::from_slice(line).unwrap();
        assert_eq!(members.keys().collect::<Vec<_>>(), [&"Item"], "{key}");
        let item = members["Item"].get();
        assert_eq!(
            line.len(),
            "{\"Item\":}".len() + item.len(),
            "{key}: spaces"
        );
        let attributes: Value = serde_json::from_str(item).unwrap();
        attributes
            .as_object()
            .unwrap()
            .values()
            .for_each(check_attribute);
        each(item.as_bytes());
        count += 1;
    }
    count
}

/// DynamoDB JSON: one type, and a value of its form.
fn check_attribute(attribute: &Value) {
    let members = attribute.as_object().unwrap();
    assert_eq!(members.len(), 1, "{attribute}");
    let is_base64 = |value: &Value| BASE64.decode(value.as_str().unwrap()).is_ok();
    let is_number = |value: &Value| value.as_str().unwrap().parse::<f64>().is_ok();
    let all = |values: &Value, is: &dyn Fn(&Value) -> bool| {
        let values = values.as_array().unwrap();
        !values.is_empty() && values.iter().all(is)
    };
    for (kind, value) in members {
        let good = match kind.as_str() {
            "S" => value.is_string(),
            "N" => is_number(value),
            "B" => is_base64(value),
            "BOOL" => value.is_boolean(),
            "NULL" => *value == Value::Bool(true),
            "SS" => all(value, &Value::is_string),
            "NS" => all(value, &is_number),
            "BS" => all(value, &is_base64),
            "L" => {
                value.as_array().unwrap().iter().for_each(check_attribute);
                true
            }
            "M" => {
                value
                    .as_object()
                    .unwrap()
                    .values()
                    .for_each(check_attribute);
                true
            }
            _ => false,
        };
        assert!(good, "{attribute}");
    }
}

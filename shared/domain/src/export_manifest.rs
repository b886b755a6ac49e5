//! The manifests of an export, as a reader takes them: DynamoDB's own, Highwater's, and other tools' in their form.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html>. A manifest is
//! untrusted input: the keys in it decide what is read.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use thiserror::Error;

use crate::backup_source::{LineShape, SourceKind};

/// `manifest-summary.json`, as far as a reader needs it. Members that its writer left out are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExportSummary {
    /// `2020-06-30` for full exports, `2023-08-01` for incremental ones.
    pub version: Option<String>,
    /// The table's ARN.
    pub table_arn: Option<String>,
    /// The key of `manifest-files.json`, from the root of the bucket that it was made in.
    pub manifest_files_s3_key: Option<String>,
    /// Items, or changes, in all files.
    pub item_count: Option<u64>,
    /// `DYNAMODB_JSON` or `ION`.
    pub output_format: Option<String>,
    /// `FULL_EXPORT` or `INCREMENTAL_EXPORT`; AWS leaves it out of full exports.
    pub export_type: Option<String>,
}

/// What is wrong with a manifest.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// It is not what AWS writes.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// One of its lines is not what AWS writes, or points somewhere no export has its files.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of a kind that cannot be read here.
    #[error("{0}")]
    Unsupported(String),
}

impl ExportSummary {
    /// Reads `manifest-summary.json`.
    pub fn parse(manifest: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(manifest).map_err(|error| ManifestError::Damaged(error.to_string()))
    }

    /// Whether it is a full export or an incremental one; anything else, and another format than DynamoDB JSON, is
    /// refused by name.
    pub fn kind(&self) -> Result<SourceKind, ManifestError> {
        let unsupported = |what: String| Err(ManifestError::Unsupported(what));
        match self.output_format.as_deref() {
            None | Some("DYNAMODB_JSON") => {}
            Some(format) => {
                return unsupported(format!(
                    "the export is in the format {format:?}; export the table as DYNAMODB_JSON"
                ));
            }
        }
        match (self.export_type.as_deref(), self.version.as_deref()) {
            (Some("FULL_EXPORT"), _) | (None, None | Some("2020-06-30")) => {
                Ok(SourceKind::FullExport)
            }
            (Some("INCREMENTAL_EXPORT"), _) | (None, Some("2023-08-01")) => {
                Ok(SourceKind::IncrementalExport)
            }
            (Some(other), _) => unsupported(format!("the export is of the unknown type {other:?}")),
            (None, Some(other)) => {
                unsupported(format!("the manifest is of the unknown version {other:?}"))
            }
        }
    }

    /// The table's name, by its ARN.
    #[must_use]
    pub fn table_name(&self) -> Option<&str> {
        let (_, resource) = self.table_arn.as_deref()?.split_once(":table/")?;
        resource.split('/').next().filter(|name| !name.is_empty())
    }
}

/// What the lines of a kind of export are.
#[must_use]
pub fn shape_of(kind: SourceKind) -> LineShape {
    match kind {
        SourceKind::Highwater | SourceKind::FullExport => LineShape::Item,
        SourceKind::IncrementalExport => LineShape::Change,
        SourceKind::Dyndump => LineShape::Bare,
        SourceKind::Lines => LineShape::Any,
    }
}

/// One line of `manifest-files.json`: a file of the export.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportFile {
    /// Items, or changes, in the file.
    #[serde(default)]
    pub item_count: Option<u64>,
    /// MD5 of the file as stored, base64.
    #[serde(default)]
    pub md5_checksum: Option<String>,
    /// What the `ETag` of a one-part upload would be.
    #[serde(default)]
    pub etag: Option<String>,
    /// The file's key as written: from the root of the bucket that the export was made in.
    #[serde(rename = "dataFileS3Key")]
    pub key: String,
}

/// Reads `manifest-files.json`; every key in it is one that an export can have, and none stands there twice.
pub fn parse_files(manifest: &[u8]) -> Result<Vec<ExportFile>, ManifestError> {
    let mut files: Vec<ExportFile> = Vec::new();
    let mut lines = HashSet::new();
    for (index, text) in manifest.split(|byte| *byte == b'\n').enumerate() {
        let line = index as u64 + 1;
        let wrong = |reason: String| ManifestError::Line { line, reason };
        if text.trim_ascii().is_empty() {
            continue;
        }
        let file: ExportFile =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        if let Some(reason) = objection(&file.key) {
            let key = shown(&file.key);
            return Err(wrong(format!(
                "{key} is not the key of an export's file: {reason}"
            )));
        }
        if let Some(md5) = &file.md5_checksum {
            let decoded = BASE64.decode(md5).map(|hash| hash.len());
            if decoded != Ok(16) {
                return Err(wrong(format!("{} is no MD5 in base64", shown(md5))));
            }
        }
        if !lines.insert(file.key.clone()) {
            return Err(wrong(format!("{} is listed twice", shown(&file.key))));
        }
        files.push(file);
    }
    Ok(files)
}

/// Items in all files; `None` if one of them does not say, or the sum is beyond all measure.
#[must_use]
pub fn sum_of_items(files: &[ExportFile]) -> Option<u64> {
    files
        .iter()
        .try_fold(0_u64, |sum, file| sum.checked_add(file.item_count?))
}

/// Where a file may be if it is not at its key as written: an export that was copied keeps its names, not its keys.
///
/// `folder` is the export's own, ending in `/` or empty. The data files of incremental exports lie in a folder that
/// all exports of a prefix share.
#[must_use]
pub fn places_beside(folder: &str, kind: SourceKind, key: &str) -> Vec<String> {
    let base = key.rsplit('/').next().unwrap_or(key);
    let mut places = vec![format!("{folder}data/{base}"), format!("{folder}{base}")];
    if kind == SourceKind::IncrementalExport {
        let parent = folder
            .trim_end_matches('/')
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent);
        let slash = if parent.is_empty() { "" } else { "/" };
        places.push(format!("{parent}{slash}data/{base}"));
    }
    places
}

/// Why no export has a file of this key.
fn objection(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("it is empty")
    } else if key.len() > 1024 {
        Some("it has more than 1024 bytes")
    } else if key.contains('\\') || key.chars().any(char::is_control) {
        Some("it has a backslash or a control character")
    } else if key.starts_with('/') {
        Some("it is absolute")
    } else if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Some("it has an empty, `.` or `..` component")
    } else if ![".json.gz", ".json.zst", ".json"]
        .iter()
        .any(|suffix| key.ends_with(suffix))
    {
        Some("it ends in none of .json.gz, .json.zst and .json")
    } else {
        None
    }
}

/// A text from a manifest, for a message: quoted, escaped, cut if it is long.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summary(json: &str) -> ExportSummary {
        ExportSummary::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn kinds_are_told_by_type_then_version() {
        for (json, kind) in [
            (r#"{"version":"2020-06-30"}"#, Ok(SourceKind::FullExport)),
            (
                r#"{"version":"2023-08-01","exportType":"INCREMENTAL_EXPORT"}"#,
                Ok(SourceKind::IncrementalExport),
            ),
            (
                r#"{"version":"2023-08-01"}"#,
                Ok(SourceKind::IncrementalExport),
            ),
            (
                r#"{"version":"2023-08-01","exportType":"FULL_EXPORT"}"#,
                Ok(SourceKind::FullExport),
            ),
            ("{}", Ok(SourceKind::FullExport)),
            (
                r#"{"outputFormat":"ION"}"#,
                Err("the export is in the format \"ION\"; export the table as DYNAMODB_JSON"),
            ),
            (
                r#"{"version":"2031-01-01"}"#,
                Err("the manifest is of the unknown version \"2031-01-01\""),
            ),
            (
                r#"{"exportType":"HALF"}"#,
                Err("the export is of the unknown type \"HALF\""),
            ),
        ] {
            let found = summary(json).kind().map_err(|error| error.to_string());
            assert_eq!(found, kind.map_err(str::to_owned), "{json}");
        }
    }

    #[test]
    fn the_table_is_named_by_its_arn() {
        let arn = r#"{"tableArn":"arn:aws:dynamodb:eu-north-1:123456789123:table/test"}"#;
        assert_eq!(summary(arn).table_name(), Some("test"));
        assert_eq!(summary("{}").table_name(), None);
    }

    fn line(key: &str) -> String {
        serde_json::json!({"itemCount": 1, "dataFileS3Key": key}).to_string()
    }

    #[test]
    fn hostile_keys_are_refused_with_their_line() {
        let good = "a/data/x.json.gz";
        let long = format!("{}.json.gz", "x".repeat(1024));
        for key in [
            "",
            "/x.json.gz",
            "../x.json.gz",
            "a/../x.json.gz",
            "./x.json.gz",
            "a//x.json.gz",
            "a/./x.json",
            "a/x.json\0.json.gz",
            "a\\x.json.gz",
            "a/x.ion.gz",
            "a/x",
            "a/",
            "..",
            "a\n/x.json",
            &long,
        ] {
            let manifest = format!("{}\n{}\n", line(good), line(key));
            let error = parse_files(manifest.as_bytes()).unwrap_err();
            assert!(
                matches!(&error, ManifestError::Line { line: 2, reason } if reason.contains("not the key")),
                "{key}: {error}"
            );
        }
    }

    #[test]
    fn lines_that_cannot_be_are_refused() {
        let md5 = r#"{"itemCount":0,"md5Checksum":"eHg=","dataFileS3Key":"a/x.json.gz"}"#;
        for (manifest, says) in [
            (
                format!("{0}\n{0}\n", line("a/x.json")),
                "line 2: \"a/x.json\" is listed twice",
            ),
            (md5.to_owned(), "line 1: \"eHg=\" is no MD5 in base64"),
            (
                r#"{"itemCount":-1,"dataFileS3Key":"a/x.json"}"#.to_owned(),
                "line 1: invalid value: integer `-1`, expected u64 at line 1 column 15",
            ),
        ] {
            let error = parse_files(manifest.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
        assert_eq!(parse_files(b"").unwrap(), []);
    }

    #[test]
    fn sums_do_not_overflow() {
        let file = |count| ExportFile {
            item_count: count,
            md5_checksum: None,
            etag: None,
            key: String::new(),
        };
        assert_eq!(sum_of_items(&[file(Some(2)), file(Some(3))]), Some(5));
        assert_eq!(sum_of_items(&[file(Some(u64::MAX)), file(Some(1))]), None);
        assert_eq!(sum_of_items(&[file(None)]), None);
    }

    #[test]
    fn a_copied_export_has_its_files_beside_it() {
        let full = places_beside(
            "new/e1/",
            SourceKind::FullExport,
            "old/AWSDynamoDB/e1/data/x.json.gz",
        );
        assert_eq!(full, ["new/e1/data/x.json.gz", "new/e1/x.json.gz"]);
        for (folder, shared) in [("new/e1/", "new/data/x.json"), ("e1/", "data/x.json")] {
            let places = places_beside(
                folder,
                SourceKind::IncrementalExport,
                "AWSDynamoDB/data/x.json",
            );
            assert_eq!(places.last().map(String::as_str), Some(shared));
        }
    }

    proptest! {
        #[test]
        fn random_manifests_never_panic(bytes: Vec<u8>, key: String) {
            let _ = (parse_files(&bytes), ExportSummary::parse(&bytes));
            if let Ok(files) = parse_files(line(&key).as_bytes()) {
                for place in places_beside("f/", SourceKind::IncrementalExport, &files[0].key) {
                    prop_assert!(place.split('/').all(|part| !part.is_empty() && part != ".."));
                }
            }
        }
    }
}

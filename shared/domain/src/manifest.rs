//! The manifests of a snapshot, byte for byte in the form of AWS's own full exports.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html>. The
//! documentation names the hash files `.checksum`; what AWS writes is `.md5`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::ids::UnixMillis;
use crate::part::export_etag;
use crate::snapshot::{PartRow, PartTotals, SnapshotRecord};

/// One line of `manifest-files.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestFile {
    /// Items in the file.
    pub item_count: u64,
    /// MD5 of the file as stored, base64.
    pub md5_checksum: String,
    /// The `ETag` of a one-part upload of the file.
    pub etag: String,
    /// The file's key, from the root of the bucket.
    #[serde(rename = "dataFileS3Key")]
    pub data_file_s3_key: String,
}

impl ManifestFile {
    /// The line for a committed part; `None` if the row's MD5 is not base64.
    #[must_use]
    pub fn of(row: &PartRow) -> Option<Self> {
        Some(Self {
            item_count: row.items,
            md5_checksum: row.md5.clone(),
            etag: export_etag(&row.md5)?,
            data_file_s3_key: row.object.clone(),
        })
    }
}

/// `manifest-summary.json`: one line, members in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSummary {
    /// `2020-06-30`: a full export.
    pub version: String,
    /// The table's ARN with `/export/` and the snapshot id.
    pub export_arn: String,
    /// When the snapshot began.
    pub start_time: String,
    /// When it was sealed.
    pub end_time: String,
    /// The table's ARN.
    pub table_arn: String,
    /// The table's UUID.
    pub table_id: Option<String>,
    /// The state's time. A scan has no single one; this is the time it began, or the second of a materialized snapshot.
    pub export_time: String,
    /// The bucket.
    pub s3_bucket: String,
    /// Everything before `AWSDynamoDB/` in the keys, without the slash.
    pub s3_prefix: Option<String>,
    /// How the bucket encrypts. `AES256` is S3's own default; a bucket's KMS default overrides it unseen.
    pub s3_sse_algorithm: String,
    /// The KMS key, if one was named.
    pub s3_sse_kms_key_id: Option<String>,
    /// The key of `manifest-files.json`, from the root of the bucket.
    pub manifest_files_s3_key: String,
    /// What AWS bills for an export. Nobody bills for ours.
    pub billed_size_bytes: u64,
    /// Items in all files.
    pub item_count: u64,
    /// `DYNAMODB_JSON`.
    pub output_format: String,
}

impl ManifestSummary {
    /// The summary of a snapshot whose parts add up to `totals`.
    #[must_use]
    pub fn of(
        record: &SnapshotRecord,
        totals: &PartTotals,
        sealed_at: UnixMillis,
        bucket: &str,
        manifest_files_key: &str,
    ) -> Self {
        // The last one: a user's own prefix may have a folder of that name, too.
        let prefix = manifest_files_key
            .rsplit_once("/AWSDynamoDB/")
            .map(|(prefix, _)| prefix.to_owned());
        Self {
            version: "2020-06-30".into(),
            export_arn: format!("{}/export/{}", record.table_arn, record.id),
            start_time: record.started_at.to_rfc3339(),
            end_time: sealed_at.to_rfc3339(),
            table_arn: record.table_arn.clone(),
            table_id: record.table_id.clone(),
            export_time: match &record.materialized {
                Some(made) => made.at.clone(),
                None => record.started_at.to_rfc3339(),
            },
            s3_bucket: bucket.to_owned(),
            s3_prefix: prefix,
            s3_sse_algorithm: "AES256".into(),
            s3_sse_kms_key_id: None,
            manifest_files_s3_key: manifest_files_key.to_owned(),
            billed_size_bytes: 0,
            item_count: totals.items,
            output_format: "DYNAMODB_JSON".into(),
        }
    }
}

/// The content of an `.md5` file: the base64 MD5 of the manifest's bytes, without a line break.
#[must_use]
pub fn md5_file(manifest: &[u8]) -> String {
    BASE64.encode(Md5::digest(manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_members_of_a_real_export_in_their_order() {
        let line = r#"{"itemCount":3,"md5Checksum":"y+zg5fVeudb3R3DOQ+RKgA==","etag":"b5443265c5e545b6c8d8275e0b6f8c15-1","dataFileS3Key":"AWSDynamoDB/01768385930622-efd1a093/data/5mrfg3b44e3vhnfickkozoym6a.json.gz"}"#;
        let file: ManifestFile = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&file).unwrap(), line);
    }

    #[test]
    fn a_summary_has_the_members_of_a_real_export_in_their_order() {
        let line = r#"{"version":"2020-06-30","exportArn":"arn:aws:dynamodb:eu-north-1:123456789123:table/test/export/01768385930622-efd1a093","startTime":"2026-01-14T10:18:50.622Z","endTime":"2026-01-14T10:24:58.984Z","tableArn":"arn:aws:dynamodb:eu-north-1:123456789123:table/test","tableId":"cf263806-6bf1-4e51-a242-7067dcdecc72","exportTime":"2026-01-14T10:18:50.622Z","s3Bucket":"test-1231x1x","s3Prefix":null,"s3SseAlgorithm":"AES256","s3SseKmsKeyId":null,"manifestFilesS3Key":"AWSDynamoDB/01768385930622-efd1a093/manifest-files.json","billedSizeBytes":0,"itemCount":3,"outputFormat":"DYNAMODB_JSON"}"#;
        let summary: ManifestSummary = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&summary).unwrap(), line);
    }

    #[test]
    fn the_md5_file_is_base64_without_a_break() {
        assert_eq!(md5_file(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}

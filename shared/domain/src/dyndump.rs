//! dyndump's layout of a backup: where its objects are, what its metadata says, how its hashes are chained.
//!
//! ```text
//! <prefix>-part-000000001.json.gz   gzip of bare items, one per line; numbers from 1 without a gap
//! <prefix>-meta.json                DyndumpMetadata
//! ```
//!
//! The prefix is only put before the names: nothing is added between, not even a `/`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::snapshot::Status;

/// The user metadata of a part, from the generation that hashes: SHA-256 of its lines, hex.
pub const PART_SHA256: &str = "dyndump-sha256";
/// The user metadata of a part: its items, decimal.
pub const PART_ITEM_COUNT: &str = "dyndump-itemcount";
/// The user metadata of a part: its number, decimal.
pub const PART_NUMBER: &str = "dyndump-part";

/// The highest number that nine digits can write.
pub const LAST_PART: u32 = 999_999_999;

const PART: &str = "-part-";
const PART_SUFFIX: &str = ".json.gz";

/// The keys of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DyndumpKeys {
    prefix: String,
}

impl DyndumpKeys {
    /// The keys below `prefix`, which is taken as it is.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The metadata's key.
    #[must_use]
    pub fn metadata(&self) -> String {
        format!("{}-meta.json", self.prefix)
    }

    /// What the key of every part begins with.
    #[must_use]
    pub fn parts(&self) -> String {
        format!("{}{PART}", self.prefix)
    }

    /// The key of part `number`, from 1 to [`LAST_PART`].
    #[must_use]
    pub fn part(&self, number: u32) -> String {
        format!("{}{PART}{number:09}{PART_SUFFIX}", self.prefix)
    }

    /// The number of the part that has this key; `None` if no part of this backup has it.
    ///
    /// The prefix is text, not a pattern: `a.b` is the prefix of `a.b-part-000000001.json.gz` alone.
    #[must_use]
    pub fn part_number(&self, key: &str) -> Option<u32> {
        let digits = key
            .strip_prefix(&self.prefix)?
            .strip_prefix(PART)?
            .strip_suffix(PART_SUFFIX)?;
        let well_formed = digits.len() == 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| well_formed)
    }
}

/// `<prefix>-meta.json`. Members that its writer left out read as their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DyndumpMetadata {
    /// The table's name.
    pub table_name: String,
    /// The table's ARN.
    pub table_arn: String,
    /// `running`, `failed` or `completed`.
    pub status: Status,
    /// `full`, or `query` if something was left out on purpose.
    pub backup_type: String,
    /// RFC 3339.
    pub backup_start_time: String,
    /// RFC 3339; `null` while running.
    pub backup_end_time: Option<String>,
    /// Bytes of the lines.
    pub uncompressed_bytes: u64,
    /// Bytes of the parts as stored.
    pub compressed_bytes: u64,
    /// Items.
    pub item_count: u64,
    /// Parts.
    pub part_count: u64,
    /// [`HashChain`] over the parts up to `last_hashed`, hex; the older generation has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_sha256: Option<String>,
    /// The last part of those without a gap that the hash is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hashed: Option<u64>,
}

impl Default for DyndumpMetadata {
    fn default() -> Self {
        Self {
            table_name: String::new(),
            table_arn: String::new(),
            status: Status::Running,
            backup_type: "full".into(),
            backup_start_time: String::new(),
            backup_end_time: None,
            uncompressed_bytes: 0,
            compressed_bytes: 0,
            item_count: 0,
            part_count: 0,
            hash_sha256: None,
            last_hashed: None,
        }
    }
}

impl DyndumpMetadata {
    /// The object's bytes as dyndump writes them: two spaces a level, no line feed at the end.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Texts and numbers only: nothing in it can fail to be JSON.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

/// dyndump's hash of a whole backup: SHA-256 over the hex hash and a line feed of each part, in the order of
/// their numbers. A part's hash is the SHA-256 of its lines before compression.
#[derive(Clone, Debug, Default)]
pub struct HashChain(Sha256);

impl HashChain {
    /// Adds the next part's hash, hex.
    pub fn push(&mut self, part_sha256: &str) {
        self.0.update(part_sha256.as_bytes());
        self.0.update(b"\n");
    }

    /// The hash over the parts so far, hex.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dd_01_keys_are_the_prefix_and_a_number_of_nine_digits() {
        let keys = DyndumpKeys::new("aprefix");
        assert_eq!(keys.part(1), "aprefix-part-000000001.json.gz");
        assert_eq!(keys.part(2), "aprefix-part-000000002.json.gz");
        assert_eq!(
            DyndumpKeys::new("backups/2016-04-01-12:25-").metadata(),
            "backups/2016-04-01-12:25--meta.json"
        );
        assert_eq!(DyndumpKeys::new("/").metadata(), "/-meta.json");
    }

    #[test]
    fn b10_the_prefix_is_no_pattern() {
        for prefix in ["a.b", "a(b", "a+b", "a[b", "x/", ""] {
            let keys = DyndumpKeys::new(prefix);
            assert_eq!(keys.part_number(&keys.part(7)), Some(7), "{prefix}");
        }
        let keys = DyndumpKeys::new("a.b");
        for key in [
            "aXb-part-000000001.json.gz",
            "a.b-part-00000001.json.gz",
            "a.b-part-0000000001.json.gz",
            "a.b-part-+00000001.json.gz",
            "a.b-part-000000001.json.gz.bak",
            "a.b-part-000000001Xjson.gz",
            "a.b-part-ignore-this.json.gz",
            "a.b-meta.json",
            "x/a.b-part-000000001.json.gz",
        ] {
            assert_eq!(keys.part_number(key), None, "{key}");
        }
    }

    #[test]
    fn dd_13_the_hash_of_four_parts() {
        let mut chain = HashChain::default();
        let starts = ["d46dcf4a", "3e92ebf1", "d21ececd", "dccdebd6"];
        for (number, start) in starts.into_iter().enumerate() {
            let hash = hex::encode(Sha256::digest(format!("data{number}\n")));
            assert!(hash.starts_with(start), "{hash}");
            chain.push(&hash);
        }
        assert_eq!(
            chain.hex(),
            "129ecb1dee54af9a9cded49636ee2701f871ed3afccb3d3fd9753e8d6f6cccf2"
        );
    }

    #[test]
    fn dd_16_members_that_are_missing_read_as_their_defaults() {
        let metadata: DyndumpMetadata =
            serde_json::from_str(r#"{"table_name":"a_table","item_count":1234}"#).unwrap();
        assert_eq!(
            metadata,
            DyndumpMetadata {
                table_name: "a_table".into(),
                item_count: 1234,
                ..DyndumpMetadata::default()
            }
        );
        assert_eq!(
            DyndumpKeys::new("test-prefix").metadata(),
            "test-prefix-meta.json"
        );
    }

    /// What the real dyndump (2019) wrote, and what its hashing successor would have.
    #[test]
    fn the_metadata_is_written_byte_for_byte() {
        let text = r#"{
  "table_name": "movies",
  "table_arn": "arn:aws:dynamodb:ddblocal:000000000000:table/movies",
  "status": "completed",
  "backup_type": "full",
  "backup_start_time": "2026-11-21T23:05:26.768194022Z",
  "backup_end_time": "2026-11-21T23:05:27.844234437Z",
  "uncompressed_bytes": 1777223,
  "compressed_bytes": 199776,
  "item_count": 3201,
  "part_count": 3
}"#;
        let mut metadata: DyndumpMetadata = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(metadata.to_json()).unwrap(), text);
        metadata.hash_sha256 = Some("ab".into());
        metadata.last_hashed = Some(3);
        metadata.backup_end_time = None;
        let hashed = String::from_utf8(metadata.to_json()).unwrap();
        assert!(hashed.contains("\"backup_end_time\": null,\n"), "{hashed}");
        assert!(
            hashed.ends_with(
                "\"part_count\": 3,\n  \"hash_sha256\": \"ab\",\n  \"last_hashed\": 3\n}"
            ),
            "{hashed}"
        );
    }
}

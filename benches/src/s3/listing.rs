//! `ListObjectsV2`: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{escape, percent_encode};

/// The most entries of an answer.
const MOST_KEYS: usize = 1000;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: &'a str,
    /// Entries up to and with this one are left out; a folder stands for all of its keys.
    after: String,
    max_keys: usize,
    url_encoded: bool,
}

/// An entry: a key, or the folder that stands for many.
enum Entry<'a> {
    Object(&'a str, u64, String),
    Folder(&'a str),
}

impl<'a> Listing<'a> {
    pub(super) fn asked(
        bucket: &'a str,
        query: &'a BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let member = |name: &str| query.get(name).map(String::as_str);
        let after = match member("continuation-token") {
            Some(token) => hex::decode(token)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| format!("continuation-token {token:?}"))?,
            None => member("start-after").unwrap_or_default().to_owned(),
        };
        let max_keys = match member("max-keys") {
            Some(number) => number.parse().map_err(|_| format!("max-keys {number:?}"))?,
            None => MOST_KEYS,
        };
        Ok(Self {
            bucket,
            prefix: member("prefix").unwrap_or_default(),
            delimiter: member("delimiter").unwrap_or_default(),
            after,
            max_keys: max_keys.min(MOST_KEYS),
            url_encoded: member("encoding-type") == Some("url"),
        })
    }

    /// The answer over all objects of the bucket, given in order as key, size and tag.
    pub(super) fn document<'k>(
        &self,
        objects: impl Iterator<Item = (&'k str, u64, String)>,
    ) -> String {
        let mut entries: Vec<Entry<'k>> = Vec::new();
        let mut next = None;
        let below = objects.filter(|(key, ..)| key.starts_with(self.prefix));
        for (key, bytes, etag) in below {
            let entry = match self.folder(key) {
                Some(folder) => Entry::Folder(folder),
                None => Entry::Object(key, bytes, etag),
            };
            let again = entries
                .last()
                .is_some_and(|last| last.name() == entry.name());
            if entry.name() <= self.after.as_str() || again {
                continue;
            }
            if entries.len() == self.max_keys {
                next = Some(entries.last().map(Entry::name).unwrap_or_default());
                break;
            }
            entries.push(entry);
        }
        self.written(&entries, next)
    }

    /// The folder that a key is shown as, if it is.
    fn folder<'k>(&self, key: &'k str) -> Option<&'k str> {
        let rest = key.get(self.prefix.len()..)?;
        let end = rest
            .find(self.delimiter)
            .filter(|_| !self.delimiter.is_empty())?;
        key.get(..self.prefix.len() + end + self.delimiter.len())
    }

    fn written(&self, entries: &[Entry<'_>], next: Option<&str>) -> String {
        let mut document = format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name>\
             <Prefix>{}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{}</MaxKeys><IsTruncated>{}</IsTruncated>",
            escape(self.bucket),
            self.key(self.prefix),
            entries.len(),
            self.max_keys,
            next.is_some(),
        );
        if let Some(next) = next {
            let token = hex::encode(next);
            let _ = write!(
                document,
                "<NextContinuationToken>{token}</NextContinuationToken>"
            );
        }
        if self.url_encoded {
            document += "<EncodingType>url</EncodingType>";
        }
        for entry in entries {
            let name = self.key(entry.name());
            let _ = match entry {
                Entry::Folder(_) => write!(
                    document,
                    "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
                ),
                Entry::Object(_, bytes, etag) => write!(
                    document,
                    "<Contents><Key>{name}</Key><ETag>{}</ETag><Size>{bytes}</Size>\
                     <StorageClass>STANDARD</StorageClass></Contents>",
                    escape(etag)
                ),
            };
        }
        document + "</ListBucketResult>"
    }

    fn key(&self, key: &str) -> String {
        if self.url_encoded {
            percent_encode(key)
        } else {
            escape(key)
        }
    }
}

impl<'k> Entry<'k> {
    fn name(&self) -> &'k str {
        match self {
            Self::Object(key, ..) => key,
            Self::Folder(folder) => folder,
        }
    }
}

//! Deletions from a bucket, many keys at once where XML can spell them.

use aws_sdk_s3::types::{Delete, Error as DeletionError, ObjectIdentifier};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::ObjectStore;

use crate::failure;
use crate::s3_store::{S3Store, code};

/// The most keys that one `DeleteObjects` takes.
const DELETE_BATCH: usize = 1000;

impl S3Store {
    /// Deletes these keys. Those that are not there count as deleted.
    pub(crate) async fn delete_keys(&self, keys: &[String]) -> Result<(), Failure> {
        let (plain, odd): (Vec<_>, Vec<_>) = keys.iter().partition(|key| xml_can_spell(key));
        for batch in plain.chunks(DELETE_BATCH) {
            self.delete_batch(batch).await?;
        }
        for key in odd {
            self.delete_one(key).await?;
        }
        Ok(())
    }

    /// Deletes one key by itself.
    async fn delete_one(&self, key: &str) -> Result<(), Failure> {
        match self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(self.failure("DeleteObject", key, error)),
        }
    }

    /// Deletes up to [`DELETE_BATCH`] keys that XML can spell.
    async fn delete_batch(&self, keys: &[&String]) -> Result<(), Failure> {
        let invalid = |error: aws_sdk_s3::error::BuildError| {
            Failure::new(
                FailureKind::Invalid,
                "DeleteObjects",
                self.url(""),
                error.to_string(),
            )
        };
        let identifiers = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(*key).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(invalid)?;
        let delete = Delete::builder()
            .set_objects(Some(identifiers))
            .quiet(true)
            .build()
            .map_err(invalid)?;
        let output = self
            .client
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| self.failure("DeleteObjects", "", error))?;
        match output
            .errors()
            .iter()
            .find(|error| error.code() != Some("NoSuchKey"))
        {
            None => Ok(()),
            Some(error) => Err(self.deletion_failure(error)),
        }
    }

    /// One key's share of a `DeleteObjects` that went wrong, although the call itself answered 200.
    fn deletion_failure(&self, error: &DeletionError) -> Failure {
        // Without a status of its own a key is judged by its code, and else may be tried again.
        Failure::new(
            failure::kind_of(error.code(), 500),
            "DeleteObjects",
            self.url(error.key().unwrap_or_default()),
            failure::service_message(error.code(), error.message().unwrap_or_default(), 200),
        )
    }
}

/// Whether XML 1.0 has all of the key's characters: `DeleteObjects` names keys in XML.
/// <https://www.w3.org/TR/xml/#charsets>
fn xml_can_spell(key: &str) -> bool {
    !key.chars()
        .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

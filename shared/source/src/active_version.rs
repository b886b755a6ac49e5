//! Which version of a target is the one in use: for cutting over to a fresh bootstrap, without ever going back.

use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::control_table::Cas;
use highwater_domain::failure::Failure;
use thiserror::Error;

use crate::checkpoints::Checkpoints;

/// Attempts at a pointer that somebody else moves at the same time.
const TRIES: u32 = 8;

/// The pointer from a name that readers know to the version that is in use: `orders_index` to `orders_index_v3`.
///
/// After [`HandoffExpired`](crate::SourceError::HandoffExpired), or for a new shape of the target, bootstrap into version n + 1, and
/// [`advance`](Self::advance) when it has caught up.
#[derive(Clone, Debug)]
pub struct ActiveVersion {
    place: Arc<dyn Checkpoints>,
    alias: String,
}

/// Why a pointer was not read or moved.
#[derive(Debug, Error)]
pub enum VersionError {
    /// No version was ever made active.
    #[error("{alias} has no active version yet")]
    NoActiveVersion {
        /// The name.
        alias: String,
    },
    /// Another version is active that is not older.
    #[error("{alias} is at version {active} and cannot go back to {asked}")]
    CannotRegress {
        /// The name.
        alias: String,
        /// The version in use.
        active: u64,
        /// The version that was asked for.
        asked: u64,
    },
    /// What is kept there is no version.
    #[error("the pointer of {alias} holds {found:?}, which is no version")]
    Unreadable {
        /// The name.
        alias: String,
        /// What is there.
        found: String,
    },
    /// The place could not be reached.
    #[error("the pointer of {alias}: {failure}")]
    Place {
        /// The name.
        alias: String,
        /// The call.
        #[source]
        failure: Failure,
    },
}

impl ActiveVersion {
    /// The pointer called `alias` in `place`.
    pub fn new(place: Arc<dyn Checkpoints>, alias: impl Into<String>) -> Self {
        Self {
            place,
            alias: alias.into(),
        }
    }

    fn record(&self) -> String {
        format!("active/{}", self.alias)
    }

    async fn standing(&self) -> Result<Option<(u64, i64)>, VersionError> {
        let found = self.place.load(&self.record()).await;
        let Some(found) = found.map_err(|failure| self.failed(failure))? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&found.value).into_owned();
        match text.parse() {
            Ok(version) => Ok(Some((version, found.version))),
            Err(_) => Err(VersionError::Unreadable {
                alias: self.alias.clone(),
                found: text,
            }),
        }
    }

    fn failed(&self, failure: Failure) -> VersionError {
        VersionError::Place {
            alias: self.alias.clone(),
            failure,
        }
    }

    /// The version in use.
    ///
    /// # Errors
    /// [`VersionError::NoActiveVersion`].
    pub async fn get(&self) -> Result<u64, VersionError> {
        let standing = self.standing().await?;
        let standing = standing.map(|(version, _)| version);
        standing.ok_or_else(|| VersionError::NoActiveVersion {
            alias: self.alias.clone(),
        })
    }

    /// The name of the target in use, `<alias>_v<version>`; version 1 where none was made active.
    pub async fn resolve(&self) -> Result<String, VersionError> {
        let version = self.standing().await?.map_or(1, |(version, _)| version);
        Ok(format!("{}_v{version}", self.alias))
    }

    /// Makes a later version the one in use.
    ///
    /// # Errors
    /// [`VersionError::CannotRegress`] for the version in use, or one before it.
    pub async fn advance(&self, to: u64) -> Result<(), VersionError> {
        for _ in 0..TRIES {
            let standing = self.standing().await?;
            if let Some((active, _)) = standing
                && active >= to
            {
                return Err(VersionError::CannotRegress {
                    alias: self.alias.clone(),
                    active,
                    asked: to,
                });
            }
            let seen = standing.map(|(_, version)| version);
            let body = Bytes::from(to.to_string());
            let saved = self.place.save(&self.record(), seen, body).await;
            if let Cas::Applied(_) = saved.map_err(|failure| self.failed(failure))? {
                return Ok(());
            }
        }
        let kind = highwater_domain::failure::FailureKind::Transient;
        let message = "it changes faster than it can be read";
        Err(self.failed(Failure::new(kind, "advance", self.record(), message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::MemoryCheckpoints;

    #[tokio::test]
    async fn mu_12_a_pointer_only_moves_forward() {
        let pointer = ActiveVersion::new(Arc::new(MemoryCheckpoints::new()), "orders_index");
        assert!(matches!(
            pointer.get().await,
            Err(VersionError::NoActiveVersion { .. })
        ));
        assert_eq!(pointer.resolve().await.unwrap(), "orders_index_v1");
        for version in [1, 2, 5, 10] {
            pointer.advance(version).await.unwrap();
            assert_eq!(pointer.get().await.unwrap(), version);
        }
        for version in [4, 5, 10] {
            let refused = pointer.advance(version).await;
            assert!(matches!(
                refused,
                Err(VersionError::CannotRegress { active: 10, .. })
            ));
        }
        assert_eq!(pointer.resolve().await.unwrap(), "orders_index_v10");
    }
}

//! What a port reports when the world outside says no.

use std::error::Error;
use std::fmt;

/// The classes of failure that a caller acts on differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The service asked us to slow down. Retry after a pause.
    Throttled,
    /// A 5xx, a time-out, a dropped connection, a torn body. Retry after a pause.
    Transient,
    /// The endpoint could not be reached at all: wrong host, closed port, no network.
    Unreachable,
    /// Credentials are absent, expired or refused, or a policy forbids the action.
    Denied,
    /// The named table, bucket or directory does not exist.
    NotFound,
    /// The request itself is wrong: a bad expression, an impossible key.
    Invalid,
    /// The disk or quota is full, or the target is read-only.
    NotWritable,
    /// Bytes arrived that are not what they claim to be.
    Corrupt,
    /// Anything else; the source says what.
    Other,
}

impl FailureKind {
    /// Whether the same request may succeed later without anyone's help.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient)
    }
}

/// One failed call to the outside: what was tried, on what, and why it failed.
///
/// `Display` gives the whole story on one line; [`Error::source`] keeps the original.
#[derive(Debug)]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: FailureKind,
    /// The call, in the service's own word: `Scan`, `PutObject`, `create file`.
    pub operation: &'static str,
    /// The table, bucket, object or path concerned.
    pub resource: String,
    /// The service's own message, one line.
    pub message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without an underlying error.
    #[must_use]
    pub fn new(
        kind: FailureKind,
        operation: &'static str,
        resource: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            operation,
            resource: resource.into(),
            message: message.into(),
            source: None,
        }
    }

    /// Keeps the error underneath, for `source()` chains and debug logs.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} failed: {}",
            self.operation, self.resource, self.message
        )
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

//! How long the log's store is borne with.

use highwater_domain::backoff::Backoff;
use highwater_domain::failure::{Failure, FailureKind};

/// How long a store that fails in passing is asked again: some three minutes, if the budget allows.
pub(super) const RETRIES: Backoff = Backoff {
    base_ms: 100,
    max_ms: 20_000,
    attempts: 14,
};

/// The least time that a request gets: the budget keeps more than this in reserve for the last of them.
pub(super) const LEAST_ATTEMPT_MS: u64 = 5_000;

/// Whether the store may answer the same request better in a while.
pub(super) fn passes(failure: &Failure) -> bool {
    // An endpoint that is out of reach for a moment looks like a wrong one.
    failure.kind.is_retryable()
        || matches!(
            failure.kind,
            FailureKind::Unreachable | FailureKind::Corrupt
        )
}

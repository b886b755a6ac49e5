//! The seconds that the demo goes back to: one before the scan, one inside it, one after it.

use std::time::Duration;

use highwater_domain::budget::Clock as _;
use highwater_domain::ids::UnixMillis;
use highwater_domain::mark::UnixSeconds;
use highwater_lambda::SystemClock;
use tokio::time::sleep;

use super::shop::{Shop, Truth};
use crate::error::CliError;

/// Three seconds, and where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Before the scan began.
    pub before: UnixSeconds,
    /// While it went on.
    pub inside: UnixSeconds,
    /// After it had ended.
    pub after: UnixSeconds,
}

impl Moments {
    /// Picks them from a history in which `opened`, the scan's two ends and `closed` are known.
    pub fn pick(
        truth: &Truth,
        opened: UnixMillis,
        scan: (UnixMillis, UnixMillis),
        closed: UnixMillis,
    ) -> Result<Self, CliError> {
        let [opened, began, ended, closed] =
            [opened, scan.0, scan.1, closed].map(|at| UnixSeconds::of(at).0);
        let sharp = |seconds: std::ops::Range<u64>, near: u64| {
            let known = seconds
                .map(UnixSeconds)
                .filter(|second| truth.knows(*second));
            known
                .min_by_key(|second| second.0.abs_diff(near))
                .ok_or_else(|| {
                    CliError::Different(
                        "this machine is so slow that no second's end is sharp: try again".into(),
                    )
                })
        };
        Ok(Self {
            before: sharp(opened + 1..began, began)?,
            inside: sharp(began..ended, u64::midpoint(began, ended))?,
            after: sharp(ended + 1..closed, ended + 1)?,
        })
    }

    /// In order, with words for where they lie.
    pub fn all(&self) -> [(UnixSeconds, &'static str); 3] {
        [
            (self.before, "before the scan"),
            (self.inside, "in the midst of it"),
            (self.after, "after it"),
        ]
    }
}

/// Waits until a second that began after `since` has ended, and it is certain what the table was at its end.
pub async fn a_sharp_second(shop: &Shop, since: UnixMillis) {
    let first = UnixSeconds::of(since).0 + 1;
    loop {
        let now = UnixSeconds::of(SystemClock.now()).0;
        if (first..now).any(|second| shop.truth().knows(UnixSeconds(second))) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

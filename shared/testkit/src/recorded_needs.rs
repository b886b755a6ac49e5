//! What a proxy has seen: which permissions were needed, by whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::iam_needs::{Need, needs};
use crate::wire_call::WireCall;

/// Where the embedded engine's tables are, by its own ARNs.
const EMBEDDED: &str = "arn:aws:dynamodb:dynoxide:000000000000:";

/// Permissions that were needed, by the access key that the requests were signed with.
///
/// It grows with what is touched, not with how often. A caller is known by its key as IAM knows it: give each function
/// one of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedNeeds {
    /// By caller.
    pub needs: BTreeMap<String, BTreeSet<Need>>,
    /// Requests of which nobody knows what they need, with their callers.
    pub unknown: BTreeSet<String>,
}

impl RecordedNeeds {
    pub(crate) fn note(&mut self, call: &WireCall, status: Option<u16>) {
        match needs(call, status, EMBEDDED) {
            Ok(needs) => self
                .needs
                .entry(call.caller.clone())
                .or_default()
                .extend(needs),
            Err(what) => drop(self.unknown.insert(format!("{}: {what}", call.caller))),
        }
    }

    /// What this and another proxy have seen.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (caller, needs) in other.needs {
            self.needs.entry(caller).or_default().extend(needs);
        }
        self.unknown.extend(other.unknown);
        self
    }
}

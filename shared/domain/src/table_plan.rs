//! How a restored table comes to be: what `CreateTable` takes, what is set after the load, and what cannot be.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table_admin::TableChange;

/// A setting of the backup that the new table will not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRestored {
    /// Which: `KMS key arn:aws:kms:…`.
    pub setting: String,
    /// Why, and what to do about it.
    pub reason: String,
}

/// What is done to the target table besides writing items. The default leaves an existing table as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TablePlan {
    /// The `CreateTable` request; `None` where the table is there.
    pub create: Option<Value>,
    /// Settings that are made before the first item is written, in order.
    pub before_load: Vec<TableChange>,
    /// Settings that are made when the last item is written, in order.
    pub after_load: Vec<TableChange>,
    /// What the backup has and the table will not.
    pub not_restored: Vec<NotRestored>,
}

//! How a restored table comes to be: what `CreateTable` takes, what is set after the load, and what cannot be.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::create_request;
use crate::ids::TableRef;
use crate::import_request::ImportSource;
use crate::key::{KeySchema, ScalarType};
use crate::load_capacity;
use crate::planned_changes::{
    add_tags, deletion_protection, point_in_time_recovery, protect, stream_change,
    stream_specification, take_marker_off, ttl, unavailable,
};
use crate::table::{SettingsError, TableSettings};
use crate::table_admin::TableChange;
use crate::table_words;

/// The tag that a table carries from its `CreateTable` until the load's end; its value is the restore's id.
///
/// It is how a retried restore knows the table that its own lost call made from one that somebody else made.
pub const RESTORE_TAG: &str = "highwater:restore";

/// A setting of the backup that the new table will not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRestored {
    /// Which: `KMS key arn:aws:kms:…`.
    pub setting: String,
    /// Why, and what to do about it.
    pub reason: String,
}

impl NotRestored {
    /// This setting, for this reason.
    pub fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            setting: setting.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for NotRestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

/// What is done to the target table besides writing items. The default leaves an existing table as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TablePlan {
    /// The `CreateTable` request; `None` where the table is there.
    pub create: Option<Value>,
    /// What DynamoDB's own import reads, if it is to make the table and fill it;
    /// [`create`](Self::create) then holds `TableCreationParameters`.
    pub import: Option<ImportSource>,
    /// Settings that are made before the first item is written, in order.
    pub before_load: Vec<TableChange>,
    /// Settings that are made when the last item is written, in order.
    pub after_load: Vec<TableChange>,
    /// What the backup has and the table will not.
    pub not_restored: Vec<NotRestored>,
}

/// Where the caller's credentials make tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPlace {
    /// The region: `eu-north-1`.
    pub region: String,
    /// The account's 12 digits, where they are known. Any table's ARN in the region tells them.
    pub account: Option<String>,
}

/// How the new table is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Billing {
    /// As the backed-up table was.
    #[default]
    AsIs,
    /// On demand, whatever it was.
    OnDemand,
}

/// Where the new table is to differ from the one that was backed up. The default differs nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableOverrides {
    /// How it is billed.
    pub billing: Billing,
    /// Have the stream from the beginning, so that it carries the restored items too.
    pub stream_first: bool,
    /// Without TTL.
    pub no_ttl: bool,
    /// At least so many write capacity units per second for the table and each index during the load.
    pub load_write_capacity: Option<u64>,
    /// With or without deletion protection; `None` is as it was.
    pub deletion_protection: Option<bool>,
}

/// Why no plan for a new table can be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// `table.json` lacks something that `CreateTable` needs.
    #[error("the backup's table.json cannot make a table: {0}")]
    Settings(#[from] SettingsError),
    /// `CreateTable` makes tables in the caller's own account and region, and nowhere else.
    #[error(
        "{target} is in another account or region than the credentials in use ({place}): use credentials of its account, and its region"
    )]
    ForeignTarget {
        /// The ARN that was asked for.
        target: String,
        /// Where tables would be made.
        place: String,
    },
}

impl fmt::Display for TargetPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.account {
            Some(account) => write!(f, "account {account}, region {}", self.region),
            None => write!(f, "region {}", self.region),
        }
    }
}

impl TargetPlace {
    /// Refuses an ARN of elsewhere: `CreateTable` would make a table of that name here.
    fn check(&self, target: &TableRef) -> Result<(), PlanError> {
        let mut parts = target.as_str().splitn(6, ':');
        if parts.next() != Some("arn") {
            return Ok(());
        }
        let (region, account) = (parts.nth(2), parts.next());
        let foreign = region != Some(self.region.as_str())
            || (self.account.is_some() && account != self.account.as_deref());
        if foreign {
            return Err(PlanError::ForeignTarget {
                target: target.to_string(),
                place: self.to_string(),
            });
        }
        Ok(())
    }
}

impl TablePlan {
    /// The plan that makes `target` like the table that was backed up.
    ///
    /// # Errors
    /// If `table.json` lacks a member without which there is no table, or `target` is an ARN of elsewhere.
    pub fn of(
        settings: &TableSettings,
        target: &TableRef,
        place: &TargetPlace,
        overrides: &TableOverrides,
    ) -> Result<Self, PlanError> {
        place.check(target)?;
        let mut not_restored = Vec::new();
        let name = target.name();
        let mut create =
            create_request::of(settings, name, place, overrides.billing, &mut not_restored)?;
        let mut after_load = Vec::new();
        after_load.extend(load_capacity::raise(
            &mut create,
            overrides.load_write_capacity,
        ));
        after_load.push(take_marker_off());
        let more_tags = add_tags(settings, &mut create, &mut not_restored);
        after_load.extend(more_tags);
        after_load.extend(ttl(settings, name, overrides, &mut not_restored));
        if let Some(stream) = stream_specification(settings)? {
            if overrides.stream_first {
                create["StreamSpecification"] = stream;
            } else {
                after_load.push(stream_change(name, &stream));
            }
        }
        after_load.extend(point_in_time_recovery(settings, name));
        after_load.extend(deletion_protection(settings, name, overrides));
        not_restored.extend(unavailable(settings));
        Ok(Self {
            create: Some(create),
            import: None,
            before_load: Vec::new(),
            after_load,
            not_restored,
        })
    }

    /// The plan for a backup that says nothing of its table: an on-demand table with this key, and no more.
    ///
    /// # Errors
    /// If `target` is an ARN of elsewhere.
    pub fn minimal(
        schema: &KeySchema,
        target: &TableRef,
        place: &TargetPlace,
        overrides: &TableOverrides,
    ) -> Result<Self, PlanError> {
        place.check(target)?;
        let mut after_load = vec![take_marker_off()];
        if overrides.deletion_protection == Some(true) {
            after_load.push(protect(target.name()));
        }
        Ok(Self {
            create: Some(create_request::minimal(schema, target.name())),
            after_load,
            not_restored: vec![NotRestored::new(
                "indexes, TTL, stream, tags, encryption, throughput",
                "the backup does not say what settings its table had; the new one has its key and is billed on demand",
            )],
            ..Self::default()
        })
    }

    /// The table's key and settings in people's words, a line each.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = self
            .create
            .as_ref()
            .map(table_words::describe)
            .unwrap_or_default();
        if let Some(source) = &self.import {
            lines.push(format!(
                "made and filled by DynamoDB's own import from {source}"
            ));
        }
        let stage = |when: &str, changes: &[TableChange]| -> Vec<String> {
            let lines = changes.iter();
            lines
                .map(|change| format!("{when} the load: {}", change.what))
                .collect()
        };
        lines.extend(stage("before", &self.before_load));
        lines.extend(stage("after", &self.after_load));
        lines.extend(
            self.not_restored
                .iter()
                .map(|left_out| format!("not restored: {left_out}")),
        );
        lines
    }

    /// The name of the table that is made, if one is.
    #[must_use]
    pub fn creates(&self) -> Option<&str> {
        self.create.as_ref()?["TableName"].as_str()
    }

    /// How many secondary indexes each item is written to besides the table.
    #[must_use]
    pub fn indexes(&self) -> u64 {
        ["GlobalSecondaryIndexes", "LocalSecondaryIndexes"]
            .iter()
            .filter_map(|kind| self.create.as_ref()?[*kind].as_array())
            .map(|indexes| indexes.len() as u64)
            .sum()
    }
}

/// A key as the user spells it: `id:S`, or `id:S,at:N`.
///
/// # Errors
/// If the text is of another form, names one attribute twice, or a type that no key can have.
pub fn parse_key_schema(text: &str) -> Result<KeySchema, KeySpecError> {
    let wrong = |reason: &'static str| KeySpecError {
        text: text.to_owned(),
        reason,
    };
    let attribute = |spec: &str| {
        // The type comes after the last colon: a name may hold colons itself.
        let (name, scalar) = spec
            .rsplit_once(':')
            .ok_or_else(|| wrong("an attribute needs its type after a colon"))?;
        let scalar_type = match scalar {
            "S" => ScalarType::S,
            "N" => ScalarType::N,
            "B" => ScalarType::B,
            _ => return Err(wrong("the type of a key attribute is S, N or B")),
        };
        if !(1..=255).contains(&name.len()) {
            return Err(wrong("the name of a key attribute has 1 to 255 bytes"));
        }
        Ok(crate::key::KeyAttribute {
            name: name.to_owned(),
            scalar_type,
        })
    };
    if text.matches(',').count() > 1 {
        return Err(wrong(
            "a key has one or two attributes, and their names no comma here",
        ));
    }
    let (partition, sort) = match text.split_once(',') {
        Some((partition, sort)) => (attribute(partition)?, Some(attribute(sort)?)),
        None => (attribute(text)?, None),
    };
    if sort
        .as_ref()
        .is_some_and(|sort| sort.name == partition.name)
    {
        return Err(wrong("partition and sort key are the same attribute"));
    }
    Ok(KeySchema { partition, sort })
}

/// A text that is no key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no key: {reason}; write id:S, or id:S,at:N for a partition and a sort key")]
pub struct KeySpecError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

#[cfg(test)]
pub(crate) mod tests;

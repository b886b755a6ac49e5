//! An index of a table in memory, as far as it refuses items.

use highwater_domain::key::{KeyAttribute, ScalarType};
use serde_json::{Value, json};

use crate::fake_table::FakeTable;

impl FakeTable {
    /// With an index on this attribute: an item that has it must have it in this type.
    #[must_use]
    pub fn with_index_key(mut self, name: &str, scalar_type: ScalarType) -> Self {
        self.index_key = Some(KeyAttribute {
            name: name.to_owned(),
            scalar_type,
        });
        self
    }

    /// What DynamoDB says of an item whose index key is of the wrong type.
    pub(crate) fn check_index_key(&self, item: &[u8]) -> Result<(), String> {
        let Some(index) = &self.index_key else {
            return Ok(());
        };
        let item: Value = serde_json::from_slice(item).map_err(|error| error.to_string())?;
        let value = &item[&index.name];
        let expected = json!(index.scalar_type);
        let expected = expected.as_str().unwrap_or_default();
        if value.is_null() || value.get(expected).is_some() {
            return Ok(());
        }
        let name = &index.name;
        Err(format!(
            "One or more parameter values were invalid: Type mismatch for Index Key {name} Expected: {expected}"
        ))
    }
}

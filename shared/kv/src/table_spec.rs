//! The shape of a table for records: its keys are fixed, its indexes are chosen.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, GlobalSecondaryIndex, KeySchemaElement, KeyType, LocalSecondaryIndex,
    Projection, ProjectionType, ScalarAttributeType,
};

use crate::field::{EXPIRES, ID, NAME, VERSION};

/// The type of an index's key attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// String.
    S,
    /// Number.
    N,
    /// Binary.
    B,
}

impl FieldType {
    fn to_sdk(self) -> ScalarAttributeType {
        match self {
            Self::S => ScalarAttributeType::S,
            Self::N => ScalarAttributeType::N,
            Self::B => ScalarAttributeType::B,
        }
    }
}

/// The indexes of a new table; everything else about it is fixed.
///
/// All indexes project all attributes: reads by an index need `version` and `expires`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TableSpec {
    local: Vec<(String, KeyPart)>,
    global: Vec<(String, KeyPart, Option<KeyPart>)>,
}

type KeyPart = (String, FieldType);

impl TableSpec {
    /// A table without indexes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a local index: each partition's records, sorted by another attribute.
    pub fn local_index(
        mut self,
        name: impl Into<String>,
        sort_attribute: impl Into<String>,
        sort_type: FieldType,
    ) -> Self {
        self.local
            .push((name.into(), (sort_attribute.into(), sort_type)));
        self
    }

    /// Adds a global index by its partition attribute and, if it has one, its sort attribute.
    pub fn global_index(
        mut self,
        name: impl Into<String>,
        partition: (&str, FieldType),
        sort: Option<(&str, FieldType)>,
    ) -> Self {
        let owned = |(attribute, kind): (&str, FieldType)| (attribute.to_owned(), kind);
        self.global
            .push((name.into(), owned(partition), sort.map(owned)));
        self
    }

    pub(crate) fn index_names(&self) -> impl Iterator<Item = &str> {
        let local = self.local.iter().map(|(name, _)| name.as_str());
        local.chain(self.global.iter().map(|(name, ..)| name.as_str()))
    }

    /// Every key attribute with its type. The same attribute under two types is refused.
    fn attributes(&self) -> Result<BTreeMap<&str, FieldType>, String> {
        let mut types = BTreeMap::from([(ID, FieldType::S), (NAME, FieldType::S)]);
        let local = self.local.iter().map(|(_, sort)| sort);
        let global = self
            .global
            .iter()
            .flat_map(|(_, partition, sort)| std::iter::once(partition).chain(sort));
        for (attribute, kind) in local.chain(global) {
            let fixed = matches!(attribute.as_str(), VERSION | EXPIRES) && *kind != FieldType::N;
            let before = *types.entry(attribute).or_insert(*kind);
            if before != *kind || fixed {
                return Err(format!(
                    "attribute {attribute} cannot have type {kind:?} here"
                ));
            }
        }
        Ok(types)
    }
}

/// A spec in the SDK's types.
pub(crate) struct Shape {
    pub(crate) attributes: Vec<AttributeDefinition>,
    pub(crate) keys: Vec<KeySchemaElement>,
    pub(crate) local: Option<Vec<LocalSecondaryIndex>>,
    pub(crate) global: Option<Vec<GlobalSecondaryIndex>>,
}

impl Shape {
    pub(crate) fn of(spec: &TableSpec) -> Result<Self, String> {
        let types = spec.attributes()?;
        let build = || -> Result<Self, BuildError> {
            let attributes = types
                .iter()
                .map(|(name, kind)| {
                    AttributeDefinition::builder()
                        .attribute_name(*name)
                        .attribute_type(kind.to_sdk())
                        .build()
                })
                .collect::<Result<_, _>>()?;
            let all = Projection::builder()
                .projection_type(ProjectionType::All)
                .build();
            let local = spec.local.iter().map(|(name, (sort, _))| {
                LocalSecondaryIndex::builder()
                    .index_name(name)
                    .set_key_schema(Some(key_schema(ID, Some(sort))?))
                    .projection(all.clone())
                    .build()
            });
            let global = spec.global.iter().map(|(name, (partition, _), sort)| {
                let sort = sort.as_ref().map(|(sort, _)| sort.as_str());
                GlobalSecondaryIndex::builder()
                    .index_name(name)
                    .set_key_schema(Some(key_schema(partition, sort)?))
                    .projection(all.clone())
                    .build()
            });
            let local: Vec<_> = local.collect::<Result<_, _>>()?;
            let global: Vec<_> = global.collect::<Result<_, _>>()?;
            Ok(Self {
                attributes,
                keys: key_schema(ID, Some(NAME))?,
                // DynamoDB refuses empty lists of indexes.
                local: (!local.is_empty()).then_some(local),
                global: (!global.is_empty()).then_some(global),
            })
        };
        build().map_err(|error| error.to_string())
    }
}

fn key_schema(partition: &str, sort: Option<&str>) -> Result<Vec<KeySchemaElement>, BuildError> {
    let hash = KeySchemaElement::builder()
        .attribute_name(partition)
        .key_type(KeyType::Hash)
        .build()?;
    let mut keys = vec![hash];
    if let Some(sort) = sort {
        let range = KeySchemaElement::builder()
            .attribute_name(sort)
            .key_type(KeyType::Range)
            .build()?;
        keys.push(range);
    }
    Ok(keys)
}

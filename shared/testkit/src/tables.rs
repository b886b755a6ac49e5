//! Tables made for a test.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    LocalSecondaryIndex, Projection, ProjectionType, ProvisionedThroughput, ScalarAttributeType,
    StreamSpecification, StreamViewType, TableStatus, Tag, TimeToLiveSpecification,
};
use highwater_domain::key::ScalarType;

use crate::generate::KeyShape;

/// What a table is to be like. Made by [`create`](Self::create).
#[derive(Clone, Debug)]
pub struct NewTable {
    name: String,
    shape: KeyShape,
    global_index: bool,
    local_index: bool,
    stream: bool,
    ttl: Option<String>,
    tags: Vec<(String, String)>,
    provisioned: Option<(i64, i64)>,
}

impl NewTable {
    /// An on-demand table with nothing but its key.
    #[must_use]
    pub fn new(name: &str, shape: KeyShape) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            global_index: false,
            local_index: false,
            stream: false,
            ttl: None,
            tags: Vec::new(),
            provisioned: None,
        }
    }

    /// With a global index `by-gsi-key` on the string `gsi_key`.
    #[must_use]
    pub fn with_global_index(mut self) -> Self {
        self.global_index = true;
        self
    }

    /// With a local index `by-lsi-key` on the number `lsi_key`; the table needs a sort key.
    #[must_use]
    pub fn with_local_index(mut self) -> Self {
        self.local_index = true;
        self
    }

    /// With a stream of new and old images.
    #[must_use]
    pub fn with_stream(mut self) -> Self {
        self.stream = true;
        self
    }

    /// With items that expire by this attribute.
    #[must_use]
    pub fn with_ttl(mut self, attribute: &str) -> Self {
        self.ttl = Some(attribute.to_owned());
        self
    }

    /// With one more tag.
    #[must_use]
    pub fn with_tag(mut self, key: &str, value: &str) -> Self {
        self.tags.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With provisioned read and write capacity units instead of on demand.
    #[must_use]
    pub fn provisioned(mut self, read: i64, write: i64) -> Self {
        self.provisioned = Some((read, write));
        self
    }

    /// Makes the table and waits until it and its indexes are active.
    pub async fn create(&self, client: &Client) -> Result<(), aws_sdk_dynamodb::Error> {
        let mut request = client
            .create_table()
            .table_name(&self.name)
            .set_attribute_definitions(Some(self.definitions().map_err(build)?))
            .set_key_schema(Some(self.key_schema().map_err(build)?));
        request = match self.throughput().map_err(build)? {
            Some(throughput) => request
                .billing_mode(BillingMode::Provisioned)
                .provisioned_throughput(throughput),
            None => request.billing_mode(BillingMode::PayPerRequest),
        };
        if self.global_index {
            request = request.global_secondary_indexes(self.by_gsi_key().map_err(build)?);
        }
        if self.local_index {
            request = request.local_secondary_indexes(Self::by_lsi_key().map_err(build)?);
        }
        if self.stream {
            let stream = StreamSpecification::builder()
                .stream_enabled(true)
                .stream_view_type(StreamViewType::NewAndOldImages);
            request = request.stream_specification(stream.build().map_err(build)?);
        }
        for (key, value) in &self.tags {
            let tag = Tag::builder().key(key).value(value);
            request = request.tags(tag.build().map_err(build)?);
        }
        request.send().await?;
        until_active(client, &self.name).await?;
        if let Some(attribute) = &self.ttl {
            let ttl = TimeToLiveSpecification::builder()
                .enabled(true)
                .attribute_name(attribute);
            client
                .update_time_to_live()
                .table_name(&self.name)
                .time_to_live_specification(ttl.build().map_err(build)?)
                .send()
                .await?;
        }
        Ok(())
    }

    fn definitions(&self) -> Result<Vec<AttributeDefinition>, BuildError> {
        let mut types = vec![("pk", self.shape.partition)];
        types.extend(self.shape.sort.map(|sort| ("sk", sort)));
        types.extend(self.global_index.then_some(("gsi_key", ScalarType::S)));
        types.extend(self.local_index.then_some(("lsi_key", ScalarType::N)));
        let definitions = types.into_iter().map(|(name, scalar_type)| {
            let scalar_type = match scalar_type {
                ScalarType::S => ScalarAttributeType::S,
                ScalarType::N => ScalarAttributeType::N,
                ScalarType::B => ScalarAttributeType::B,
            };
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(scalar_type)
                .build()
        });
        definitions.collect()
    }

    fn key_schema(&self) -> Result<Vec<KeySchemaElement>, BuildError> {
        let mut keys = vec![key("pk", KeyType::Hash)?];
        if self.shape.sort.is_some() {
            keys.push(key("sk", KeyType::Range)?);
        }
        Ok(keys)
    }

    fn throughput(&self) -> Result<Option<ProvisionedThroughput>, BuildError> {
        let Some((read, write)) = self.provisioned else {
            return Ok(None);
        };
        let throughput = ProvisionedThroughput::builder()
            .read_capacity_units(read)
            .write_capacity_units(write);
        throughput.build().map(Some)
    }

    fn by_gsi_key(&self) -> Result<GlobalSecondaryIndex, BuildError> {
        GlobalSecondaryIndex::builder()
            .index_name("by-gsi-key")
            .key_schema(key("gsi_key", KeyType::Hash)?)
            .projection(everything())
            .set_provisioned_throughput(self.throughput()?)
            .build()
    }

    fn by_lsi_key() -> Result<LocalSecondaryIndex, BuildError> {
        LocalSecondaryIndex::builder()
            .index_name("by-lsi-key")
            .key_schema(key("pk", KeyType::Hash)?)
            .key_schema(key("lsi_key", KeyType::Range)?)
            .projection(everything())
            .build()
    }
}

fn build(error: BuildError) -> aws_sdk_dynamodb::Error {
    aws_sdk_dynamodb::Error::from(error)
}

fn key(name: &str, key_type: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(key_type)
        .build()
}

fn everything() -> Projection {
    Projection::builder()
        .projection_type(ProjectionType::All)
        .build()
}

/// Waits until the table is active, and all its global indexes with it.
pub async fn until_active(client: &Client, name: &str) -> Result<(), aws_sdk_dynamodb::Error> {
    loop {
        let answer = client.describe_table().table_name(name).send().await?;
        let active = answer.table().is_some_and(|table| {
            let indexes = table.global_secondary_indexes();
            table.table_status() == Some(&TableStatus::Active)
                && indexes.iter().all(|index| {
                    index
                        .index_status()
                        .is_some_and(|status| status.as_str() == "ACTIVE")
                })
        });
        if active {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! The SDK's clients, and the ports that are made of them.

use std::fmt;

use aws_config::retry::RetryConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use highwater_domain::failure::Failure;
use highwater_domain::replica_targets::TargetAccess;

use crate::assumed_role::AssumedRole;
use crate::connection::{
    ConnectionSettings, Origin, check_region, dynamodb_config, region, s3_config, streams_config,
    sts_config,
};
use crate::{
    DynamoAdmin, DynamoDescriber, DynamoFenceTables, DynamoFencedWriter, DynamoImporter,
    DynamoItemReader, DynamoScanner, DynamoStreams, DynamoTargets, DynamoWriter, KvControlTable,
    S3Store, endpoint, sdk_config,
};

/// The SDK clients, configured. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Clients {
    origin: Origin,
    region: String,
    dynamodb_url: Option<String>,
    dynamodb: aws_sdk_dynamodb::Client,
    scans: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    s3: aws_sdk_s3::Client,
}

impl Clients {
    /// Resolves region, endpoints and credentials, and builds the clients. Talks to no service yet,
    /// except for the machine's metadata where nothing else names a region.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`](highwater_domain::failure::FailureKind::Invalid) if no region is known or an endpoint is no URL.
    pub async fn connect(settings: &ConnectionSettings) -> Result<Self, Failure> {
        for url in [settings.dynamodb(), settings.s3()].into_iter().flatten() {
            endpoint::check(url)?;
        }
        Self::build(Origin::of_user(settings).await)
    }

    /// The clients of a Lambda function. Region, endpoints and credentials are in its environment, where Lambda puts
    /// them: profiles, roles and the machine's metadata are not looked for.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`](highwater_domain::failure::FailureKind::Invalid) if no region is known or an endpoint is no URL.
    pub fn of_function() -> Result<Self, Failure> {
        Self::build(Origin::of_function(std::env::vars()))
    }

    fn build(origin: Origin) -> Result<Self, Failure> {
        let (settings, config) = (&origin.settings, &origin.config);
        let region = region(config)?;
        let dynamodb_url = endpoint::in_force(settings.dynamodb(), config, "DynamoDB")?;
        let dynamodb = dynamodb_config(&origin)?;
        let scans = dynamodb
            .to_builder()
            .retry_config(RetryConfig::disabled())
            .build();
        Ok(Self {
            region,
            dynamodb_url,
            s3: aws_sdk_s3::Client::from_conf(s3_config(&origin)?),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams_config(&origin)?),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb),
            scans: aws_sdk_dynamodb::Client::from_conf(scans),
            origin,
        })
    }

    /// The clients of another place: of its region, and with the credentials of its role, which these clients' own assume. Talks to
    /// no service yet.
    ///
    /// An endpoint that is not AWS's own is asked for every region. One of AWS's is of these clients' region alone.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`](highwater_domain::failure::FailureKind::Invalid) if the region or the role is none.
    pub fn at(&self, access: &TargetAccess) -> Result<Self, Failure> {
        let mut origin = self.origin.clone();
        if let Some(role) = &access.role {
            let assumed = AssumedRole::new(role, sts_config(&self.origin)?)?;
            origin = origin.with_credentials(SharedCredentialsProvider::new(assumed));
        }
        if let Some(region) = access.region.as_deref().filter(|it| *it != self.region) {
            check_region(region)?;
            origin = origin.moved_to(region);
        }
        Self::build(origin)
    }

    /// The same clients, which send a request that fails in passing again `retries` times; 0 is never.
    #[must_use]
    pub fn with_retries(self, retries: u32) -> Self {
        let retry = sdk_config::retries(retries.saturating_add(1));
        let dynamodb = self.dynamodb.config().to_builder();
        let streams = self.streams.config().to_builder();
        let s3 = self.s3.config().to_builder();
        let config = self.origin.config.into_builder();
        Self {
            origin: Origin {
                config: config.retry_config(retry.clone()).build(),
                ..self.origin
            },
            dynamodb: aws_sdk_dynamodb::Client::from_conf(
                dynamodb.retry_config(retry.clone()).build(),
            ),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(
                streams.retry_config(retry.clone()).build(),
            ),
            s3: aws_sdk_s3::Client::from_conf(s3.retry_config(retry).build()),
            ..self
        }
    }

    /// The region in force.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether DynamoDB is not AWS's own but another server at an endpoint of the user's.
    #[must_use]
    pub fn has_own_endpoint(&self) -> bool {
        let url = self.dynamodb_url.as_deref();
        url.is_some_and(|url| !endpoint::is_aws(url))
    }

    /// DynamoDB's endpoint, where it is not the one that the SDK knows for the region.
    #[must_use]
    pub fn dynamodb_url(&self) -> Option<&str> {
        self.dynamodb_url.as_deref()
    }

    /// DynamoDB, with retries.
    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.dynamodb.clone()
    }

    /// DynamoDB without retries of its own, for callers that pace, count and retry by themselves.
    #[must_use]
    pub fn dynamodb_without_retries(&self) -> aws_sdk_dynamodb::Client {
        self.scans.clone()
    }

    /// S3, with retries.
    #[must_use]
    pub fn s3(&self) -> aws_sdk_s3::Client {
        self.s3.clone()
    }

    /// The port to tables' items. It does not retry.
    #[must_use]
    pub fn table_scanner(&self) -> DynamoScanner {
        DynamoScanner::new(self.dynamodb_without_retries())
    }

    /// The port to single items. It retries.
    #[must_use]
    pub fn item_reader(&self) -> DynamoItemReader {
        DynamoItemReader::new(self.dynamodb())
    }

    /// The port through which items are written. It does not retry.
    #[must_use]
    pub fn table_writer(&self) -> DynamoWriter {
        DynamoWriter::new(self.dynamodb_without_retries())
    }

    /// The port through which a table is kept at the latest record of each key. It retries.
    #[must_use]
    pub fn fenced_writer(&self) -> DynamoFencedWriter {
        DynamoFencedWriter::new(self.dynamodb())
    }

    /// The port to the tables of a replica's fences.
    #[must_use]
    pub fn fence_tables(&self) -> DynamoFenceTables {
        DynamoFenceTables::new(self.dynamodb())
    }

    /// The port to the tables of replicas, wherever they are.
    #[must_use]
    pub fn replica_targets(&self) -> DynamoTargets {
        DynamoTargets::new(self.clone())
    }

    /// The port through which tables are made and changed.
    #[must_use]
    pub fn table_admin(&self) -> DynamoAdmin {
        DynamoAdmin::new(self.dynamodb())
    }

    /// The port to DynamoDB's own import.
    #[must_use]
    pub fn table_importer(&self) -> DynamoImporter {
        DynamoImporter::new(self.dynamodb())
    }

    /// The port to tables' settings.
    #[must_use]
    pub fn table_describer(&self) -> DynamoDescriber {
        DynamoDescriber::new(self.dynamodb())
    }

    /// The port to tables' streams. It retries.
    #[must_use]
    pub fn stream_source(&self) -> DynamoStreams {
        DynamoStreams::new(self.streams.clone())
    }

    /// The port to a bucket.
    #[must_use]
    pub fn s3_store(&self, bucket: impl Into<String>) -> S3Store {
        S3Store::new(self.s3(), bucket)
    }

    /// The port to the control table of this name.
    #[must_use]
    pub fn control_table(&self, name: impl Into<String>) -> KvControlTable {
        KvControlTable::new(self.dynamodb(), name)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

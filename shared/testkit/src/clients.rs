//! SDK clients for an engine on this machine.

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_http_client::Builder as HttpBuilder;

/// A DynamoDB client for `endpoint_url`, with the SDK's own retries.
#[must_use]
pub fn dynamodb(endpoint_url: &str) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::from_conf(dynamodb_config(endpoint_url).build())
}

/// A DynamoDB client that never repeats a request: what it reports is what happened.
#[must_use]
pub fn dynamodb_without_retries(endpoint_url: &str) -> aws_sdk_dynamodb::Client {
    let config = dynamodb_config(endpoint_url).retry_config(RetryConfig::disabled());
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// The configuration of [`dynamodb`], to add to.
#[must_use]
pub fn dynamodb_config(endpoint_url: &str) -> aws_sdk_dynamodb::config::Builder {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-north-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "testkit"))
        .endpoint_url(endpoint_url)
        .http_client(HttpBuilder::new().build_http())
}

/// An S3 client for `endpoint_url`, addressing buckets by path, with the SDK's own retries.
#[must_use]
pub fn s3(endpoint_url: &str) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(s3_config(endpoint_url).build())
}

/// An S3 client that never repeats a request.
#[must_use]
pub fn s3_without_retries(endpoint_url: &str) -> aws_sdk_s3::Client {
    let retries = RetryConfig::disabled();
    aws_sdk_s3::Client::from_conf(s3_config(endpoint_url).retry_config(retries).build())
}

/// The configuration of [`s3`], to add to.
#[must_use]
pub fn s3_config(endpoint_url: &str) -> aws_sdk_s3::config::Builder {
    use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-north-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "testkit"))
        .endpoint_url(endpoint_url)
        .force_path_style(true)
        .http_client(HttpBuilder::new().build_http())
}

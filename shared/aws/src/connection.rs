//! How each service is reached: its region, endpoint, credentials, patience. The one place that builds services' configuration.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use highwater_domain::failure::{Failure, FailureKind};

use crate::assumed_role::STS_ATTEMPT;
use crate::endpoint;
use crate::http_client::{Reach, http_client};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One attempt of a DynamoDB call: a page of 1 MB takes a second on a bad day.
const DYNAMODB_ATTEMPT: Duration = Duration::from_secs(30);
/// One attempt of an S3 call, the upload of a part included.
const S3_ATTEMPT: Duration = Duration::from_mins(5);
/// One attempt of a Step Functions call: all of them are small.
const SFN_ATTEMPT: Duration = Duration::from_secs(20);

/// What the user says about the connection; everything else comes from the environment and the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// The region; else `AWS_REGION`, the profile's, or the machine's.
    pub region: Option<String>,
    /// The named profile; else `AWS_PROFILE`, or `default`.
    pub profile: Option<String>,
    /// The endpoint of every service; else `AWS_ENDPOINT_URL` and its kin, or AWS.
    pub endpoint_url: Option<String>,
    /// DynamoDB's endpoint, before `endpoint_url`.
    pub dynamodb_endpoint_url: Option<String>,
    /// S3's endpoint, before `endpoint_url`.
    pub s3_endpoint_url: Option<String>,
    /// Step Functions' endpoint, before `endpoint_url`.
    pub sfn_endpoint_url: Option<String>,
}

impl ConnectionSettings {
    pub(crate) fn dynamodb(&self) -> Option<&str> {
        self.dynamodb_endpoint_url
            .as_deref()
            .or(self.endpoint_url.as_deref())
    }

    pub(crate) fn s3(&self) -> Option<&str> {
        self.s3_endpoint_url
            .as_deref()
            .or(self.endpoint_url.as_deref())
    }

    fn sfn(&self) -> Option<&str> {
        self.sfn_endpoint_url
            .as_deref()
            .or(self.endpoint_url.as_deref())
    }

    /// Whether no service outside this machine will be asked, as far as the settings tell.
    pub(crate) fn is_local(&self) -> bool {
        let local = |url: Option<&str>| url.is_some_and(endpoint::is_loopback);
        local(self.dynamodb()) && local(self.s3())
    }
}

/// What clients are made from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) settings: ConnectionSettings,
    /// What every client has in common.
    pub(crate) config: SdkConfig,
    /// For an engine on this machine: what is configured, else made-up ones, since such an engine takes any.
    pub(crate) local_credentials: SharedCredentialsProvider,
}

impl Origin {
    /// The same in another region. AWS's own endpoints are left behind: each is of one region.
    pub(crate) fn moved_to(self, region: &str) -> Self {
        let elsewhere = |url: Option<String>| url.filter(|url| !endpoint::is_aws(url));
        let settings = self.settings;
        let mut config = self.config.clone().into_builder();
        config.set_region(Region::new(region.to_owned()));
        config.set_endpoint_url(elsewhere(self.config.endpoint_url().map(str::to_owned)));
        config.set_service_config(Some(endpoint::OfEveryRegion(self.config)));
        Self {
            config: config.build(),
            settings: ConnectionSettings {
                region: Some(region.to_owned()),
                profile: settings.profile,
                endpoint_url: elsewhere(settings.endpoint_url),
                dynamodb_endpoint_url: elsewhere(settings.dynamodb_endpoint_url),
                s3_endpoint_url: elsewhere(settings.s3_endpoint_url),
                sfn_endpoint_url: elsewhere(settings.sfn_endpoint_url),
            },
            local_credentials: self.local_credentials,
        }
    }

    /// The same with the credentials of a role, which an engine on this machine is given, too.
    pub(crate) fn with_credentials(self, credentials: SharedCredentialsProvider) -> Self {
        let config = self.config.into_builder();
        Self {
            config: config.credentials_provider(credentials.clone()).build(),
            local_credentials: credentials,
            ..self
        }
    }
}

pub(crate) fn region(config: &SdkConfig) -> Result<String, Failure> {
    config.region().map(ToString::to_string).ok_or_else(|| {
        Failure::new(
            FailureKind::Invalid,
            "connect",
            "AWS",
            "no region is known: give --region, or set AWS_REGION, or put `region` into the profile",
        )
    })
}

pub(crate) fn check_region(region: &str) -> Result<(), Failure> {
    let is_fine = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    if !region.is_empty() && region.bytes().all(is_fine) {
        return Ok(());
    }
    let message = "it is no region: name it like eu-north-1";
    Err(Failure::new(
        FailureKind::Invalid,
        "connect",
        region,
        message,
    ))
}

pub(crate) fn dynamodb_config(origin: &Origin) -> Result<aws_sdk_dynamodb::Config, Failure> {
    let (settings, config) = (&origin.settings, &origin.config);
    let url = endpoint::in_force(settings.dynamodb(), config, "DynamoDB")?;
    let mut builder =
        aws_sdk_dynamodb::config::Builder::from(config).timeout_config(timeouts(DYNAMODB_ATTEMPT));
    if let Some(url) = url {
        builder = builder.endpoint_url(&url);
        if endpoint::is_loopback(&url) {
            builder = builder
                .http_client(http_client(Reach::ThisMachine))
                .credentials_provider(origin.local_credentials.clone());
        }
    }
    Ok(builder.build())
}

/// Streams are another host at AWS, and the same port as everything else with the engines that stand in for it.
pub(crate) fn streams_config(origin: &Origin) -> Result<aws_sdk_dynamodbstreams::Config, Failure> {
    let (settings, config) = (&origin.settings, &origin.config);
    let url = endpoint::of_streams(settings.dynamodb(), config)?;
    let mut builder = aws_sdk_dynamodbstreams::config::Builder::from(config)
        .timeout_config(timeouts(DYNAMODB_ATTEMPT));
    builder.set_endpoint_url(url.clone());
    if url.as_deref().is_some_and(endpoint::is_loopback) {
        builder = builder
            .http_client(http_client(Reach::ThisMachine))
            .credentials_provider(origin.local_credentials.clone());
    }
    Ok(builder.build())
}

pub(crate) fn s3_config(origin: &Origin) -> Result<aws_sdk_s3::Config, Failure> {
    let (settings, config) = (&origin.settings, &origin.config);
    let url = endpoint::in_force(settings.s3(), config, "S3")?;
    let mut builder =
        aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts(S3_ATTEMPT));
    if let Some(url) = url {
        // Other servers rarely have a DNS name for each bucket.
        builder = builder.endpoint_url(&url).force_path_style(true);
        if endpoint::is_loopback(&url) {
            builder = builder
                .http_client(http_client(Reach::ThisMachine))
                .credentials_provider(origin.local_credentials.clone());
        }
    }
    Ok(builder.build())
}

/// What assumes roles: in the region that `origin` is in, because another one's need not be enabled for it.
pub(crate) fn sts_config(origin: &Origin) -> Result<aws_sdk_sts::Config, Failure> {
    let config = &origin.config;
    let url = endpoint::in_force(origin.settings.endpoint_url.as_deref(), config, "STS")?;
    let mut builder =
        aws_sdk_sts::config::Builder::from(config).timeout_config(timeouts(STS_ATTEMPT));
    if let Some(url) = url {
        builder = builder.endpoint_url(&url);
        if endpoint::is_loopback(&url) {
            builder = builder
                .http_client(http_client(Reach::ThisMachine))
                .credentials_provider(origin.local_credentials.clone());
        }
    }
    Ok(builder.build())
}

/// The configuration of Step Functions, from the settings alone.
pub(crate) async fn sfn_config(
    settings: &ConnectionSettings,
) -> Result<aws_sdk_sfn::Config, Failure> {
    if let Some(url) = settings.sfn() {
        endpoint::check(url)?;
    }
    let origin = Origin::of_user(settings).await;
    let config = &origin.config;
    region(config)?;
    let url = endpoint::in_force(settings.sfn(), config, "SFN")?;
    let mut builder =
        aws_sdk_sfn::config::Builder::from(config).timeout_config(timeouts(SFN_ATTEMPT));
    if let Some(url) = url {
        builder = builder.endpoint_url(&url);
        if endpoint::is_loopback(&url) {
            builder = builder
                .http_client(http_client(Reach::ThisMachine))
                .credentials_provider(origin.local_credentials);
        }
    }
    Ok(builder.build())
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_region_is_refused_with_the_way_out() {
        let failure = region(&SdkConfig::builder().build()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        for way in ["--region", "AWS_REGION", "profile"] {
            assert!(failure.message.contains(way), "{failure}");
        }
    }

    #[test]
    fn settings_are_local_only_if_every_service_is() {
        let settings = |dynamodb: Option<&str>, all: Option<&str>| ConnectionSettings {
            dynamodb_endpoint_url: dynamodb.map(str::to_owned),
            endpoint_url: all.map(str::to_owned),
            ..ConnectionSettings::default()
        };
        let here = Some("http://localhost:8000");
        assert!(settings(None, here).is_local());
        assert!(!settings(here, None).is_local());
        assert!(!settings(Some("https://example.com"), here).is_local());
        assert!(!settings(None, None).is_local());
    }
}

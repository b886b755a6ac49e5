//! How the services are reached: regions, endpoints, credentials, patience. The one place that builds SDK configuration.

use std::time::Duration;

use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
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
/// Attempts of the clients that retry by themselves, the first one included.
const ATTEMPTS: u32 = 10;
/// The ceilings of the first wait between two attempts and of the longest: ten seconds in all on average, so
/// that a blip is survived and a wrong endpoint still shows before anybody's patience ends.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

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
    fn is_local(&self) -> bool {
        let local = |url: Option<&str>| url.is_some_and(endpoint::is_loopback);
        local(self.dynamodb()) && local(self.s3())
    }
}

/// What clients are made from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) settings: ConnectionSettings,
    pub(crate) config: SdkConfig,
    /// Whether the credentials are those of a role. Then an engine on this machine is given them, too.
    pub(crate) as_role: bool,
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
            as_role: self.as_role,
        }
    }

    /// Credentials for an engine on this machine.
    fn local_credentials(&self) -> Option<SharedCredentialsProvider> {
        let assumed = self.config.credentials_provider();
        assumed
            .filter(|_| self.as_role)
            .or_else(|| Some(local_credentials(&self.settings, &self.config)))
    }
}

/// What every client has in common.
pub(crate) async fn load(settings: &ConnectionSettings) -> SdkConfig {
    let mut loader = ConfigLoader::default()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http_client(Reach::Anywhere))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(FIRST_BACKOFF)
                .with_max_backoff(LONGEST_BACKOFF),
        );
    if let Ok(name) = AppName::new("highwater") {
        loader = loader.app_name(name);
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    } else if settings.is_local() {
        // The default chain would go on to ask the machine's metadata service, and wait for it in vain.
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &settings.profile {
            profile = profile.profile_name(name);
        }
        loader = loader.region(
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(profile.build()),
        );
    }
    loader.load().await
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
            builder = builder.http_client(http_client(Reach::ThisMachine));
            builder.set_credentials_provider(origin.local_credentials());
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
        builder = builder.http_client(http_client(Reach::ThisMachine));
        builder.set_credentials_provider(origin.local_credentials());
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
            builder = builder.http_client(http_client(Reach::ThisMachine));
            builder.set_credentials_provider(origin.local_credentials());
        }
    }
    Ok(builder.build())
}

/// What assumes roles: in the region that `origin` is in, because another one's need not be enabled for it.
pub(crate) fn sts_config(origin: &Origin) -> Result<SdkConfig, Failure> {
    let config = &origin.config;
    let url = endpoint::in_force(origin.settings.endpoint_url.as_deref(), config, "STS")?;
    let mut builder = config
        .clone()
        .into_builder()
        .timeout_config(timeouts(STS_ATTEMPT));
    if let Some(url) = url {
        builder = builder.endpoint_url(&url);
        builder.set_service_config(None::<endpoint::OfEveryRegion>);
        if endpoint::is_loopback(&url) {
            builder = builder.http_client(http_client(Reach::ThisMachine));
            builder.set_credentials_provider(origin.local_credentials());
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
    let config = load(settings).await;
    region(&config)?;
    let url = endpoint::in_force(settings.sfn(), &config, "SFN")?;
    let mut builder =
        aws_sdk_sfn::config::Builder::from(&config).timeout_config(timeouts(SFN_ATTEMPT));
    if let Some(url) = url {
        builder = builder.endpoint_url(&url);
        if endpoint::is_loopback(&url) {
            builder = builder
                .http_client(http_client(Reach::ThisMachine))
                .credentials_provider(local_credentials(settings, &config));
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

/// For an engine on this machine: the environment's or the profile's credentials, else made-up ones,
/// since such an engine takes any. The machine's metadata service is not asked.
fn local_credentials(
    settings: &ConnectionSettings,
    config: &SdkConfig,
) -> SharedCredentialsProvider {
    let mut resolution = ProviderConfig::without_region().with_region(config.region().cloned());
    if let Some(http_client) = config.http_client() {
        resolution = resolution.with_http_client(http_client);
    }
    let mut profile = ProfileFileCredentialsProvider::builder().configure(&resolution);
    if let Some(name) = &settings.profile {
        profile = profile.profile_name(name);
    }
    SharedCredentialsProvider::new(or_test_credentials(
        CredentialsProviderChain::first_try(
            "Environment",
            EnvironmentVariableCredentialsProvider::new(),
        )
        .or_else("Profile", profile.build()),
    ))
}

/// Falls back to made-up credentials where there are none at all; broken ones stay an error.
fn or_test_credentials(found: impl ProvideCredentials + 'static) -> CredentialsProviderChain {
    let test = Credentials::new("test", "test", None, None, "a local engine takes any");
    CredentialsProviderChain::first_try("Configured", found).or_else("LocalEngine", test)
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;

    use super::*;

    #[test]
    fn an_unknown_region_is_refused_with_the_way_out() {
        let failure = region(&SdkConfig::builder().build()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        for way in ["--region", "AWS_REGION", "profile"] {
            assert!(failure.message.contains(way), "{failure}");
        }
    }

    #[derive(Debug)]
    struct Configured(fn() -> Result<Credentials, CredentialsError>);

    impl ProvideCredentials for Configured {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready((self.0)())
        }
    }

    #[tokio::test]
    async fn credentials_are_made_up_only_where_there_are_none() {
        let none = Configured(|| Err(CredentialsError::not_loaded("none")));
        let made_up = or_test_credentials(none).provide_credentials().await;
        assert_eq!(made_up.unwrap().access_key_id(), "test");

        let real = Configured(|| Ok(Credentials::new("real", "s", None, None, "test")));
        let found = or_test_credentials(real).provide_credentials().await;
        assert_eq!(found.unwrap().access_key_id(), "real");

        let broken = Configured(|| Err(CredentialsError::invalid_configuration("torn file")));
        assert!(
            or_test_credentials(broken)
                .provide_credentials()
                .await
                .is_err()
        );
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

//! What all SDK clients have in common, and where it is looked for: everywhere, or in a function's environment.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::identity::IdentityCache;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::connection::{ConnectionSettings, Origin};
use crate::http_client::{Reach, http_client};

/// Attempts of the clients that retry by themselves, the first one included.
const ATTEMPTS: u32 = 10;
/// The ceilings of the first wait between two attempts and of the longest: ten seconds in all on average, so
/// that a blip is survived and a wrong endpoint still shows before anybody's patience ends.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

impl Origin {
    /// From the settings, else the environment, the profile, or the machine.
    pub(crate) async fn of_user(settings: &ConnectionSettings) -> Self {
        let config = load(settings).await;
        let local_credentials = local_credentials(settings, &config);
        Self {
            settings: settings.clone(),
            config,
            local_credentials,
        }
    }

    /// From a function's environment, where Lambda puts all there is. Nothing leads from here to the SDK's chain of
    /// other places, with its three services and its parsers, so that it is not linked.
    pub(crate) fn of_function(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
        let environment = Environment(set.collect());
        let mut config = SdkConfig::builder();
        config
            .set_behavior_version(Some(behavior()))
            .set_http_client(Some(http_client(Reach::Anywhere)))
            .set_retry_config(Some(retries(ATTEMPTS)))
            .set_app_name(app_name())
            .set_region(environment.region())
            .set_endpoint_url(environment.endpoint_url(None))
            .set_use_fips(environment.switch("AWS_USE_FIPS_ENDPOINT"))
            .set_use_dual_stack(environment.switch("AWS_USE_DUALSTACK_ENDPOINT"))
            .set_identity_cache(Some(IdentityCache::lazy().build()))
            .set_credentials_provider(Some(SharedCredentialsProvider::new(
                EnvironmentVariableCredentialsProvider::new(),
            )))
            .set_service_config(Some(environment));
        Self {
            settings: ConnectionSettings::default(),
            config: config.build(),
            local_credentials: SharedCredentialsProvider::new(or_test_credentials(
                EnvironmentVariableCredentialsProvider::new(),
            )),
        }
    }
}

/// A function's variables. Of what the SDKs know, region, endpoints, FIPS, dual stack and S3's switches count.
struct Environment(HashMap<String, String>);

impl Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn region(&self) -> Option<Region> {
        let name = self.get("AWS_REGION");
        name.or_else(|| self.get("AWS_DEFAULT_REGION"))
            .map(Region::new)
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.0
            .get(name)
            .map(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The endpoint of a service, or that of all.
    fn endpoint_url(&self, service_id: Option<&str>) -> Option<String> {
        if self.switch("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == Some(true) {
            return None;
        }
        self.of_service("AWS_ENDPOINT_URL", service_id)
    }

    fn of_service(&self, name: &str, service_id: Option<&str>) -> Option<String> {
        let of_one = |id: &str| format!("{name}_{}", id.to_uppercase().replace(' ', "_"));
        let own = service_id.and_then(|id| self.get(&of_one(id)));
        own.or_else(|| self.get(name))
    }
}

impl fmt::Debug for Environment {
    /// Without its values, which are secret in part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Environment").finish_non_exhaustive()
    }
}

impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        match key.env() {
            "AWS_ENDPOINT_URL" => self.endpoint_url(Some(key.service_id())),
            name => self.of_service(name, Some(key.service_id())),
        }
    }
}

fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

fn app_name() -> Option<AppName> {
    AppName::new("highwater").ok()
}

/// How a client that retries by itself does so: so many attempts at most.
pub(crate) fn retries(attempts: u32) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(LONGEST_BACKOFF)
}

async fn load(settings: &ConnectionSettings) -> SdkConfig {
    let mut loader = ConfigLoader::default()
        .behavior_version(behavior())
        .http_client(http_client(Reach::Anywhere))
        .retry_config(retries(ATTEMPTS));
    if let Some(name) = app_name() {
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

/// The environment's or the profile's credentials, else made-up ones. The machine's metadata service is not asked.
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
    use crate::endpoint;

    fn of_function(variables: &[(&str, &str)]) -> SdkConfig {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Origin::of_function(owned).config
    }

    #[test]
    fn a_function_is_where_lambda_says_it_is() {
        let region =
            |variables: &[(&str, &str)]| of_function(variables).region().map(ToString::to_string);
        let (one, other) = (
            ("AWS_REGION", "eu-north-1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        );
        assert_eq!(region(&[one, other]).as_deref(), Some("eu-north-1"));
        assert_eq!(region(&[other]).as_deref(), Some("eu-west-1"));
        assert_eq!(
            region(&[("AWS_REGION", ""), other]).as_deref(),
            Some("eu-west-1")
        );
        assert_eq!(region(&[("AWS_PROFILE", "one")]), None);

        let told = of_function(&[("AWS_USE_FIPS_ENDPOINT", "TRUE")]);
        assert_eq!((told.use_fips(), told.use_dual_stack()), (Some(true), None));
        assert_eq!(told.retry_config().unwrap().max_attempts(), ATTEMPTS);
        assert!(told.credentials_provider().is_some() && told.identity_cache().is_some());
    }

    #[test]
    fn a_functions_endpoints_are_told_by_service_or_for_all_or_not_to_be_used() {
        const ALL: (&str, &str) = ("AWS_ENDPOINT_URL", "http://all");
        const STREAMS: (&str, &str) = ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "http://streams");
        const UNUSED: (&str, &str) = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        for (variables, dynamodb, streams) in [
            (&[][..], None, None),
            (&[ALL], Some("http://all"), Some("http://all")),
            (&[STREAMS], None, Some("http://streams")),
            (&[ALL, STREAMS], Some("http://all"), Some("http://streams")),
            (&[ALL, STREAMS, UNUSED], None, None),
        ] {
            let config = of_function(variables);
            let of = |service| endpoint::in_force(None, &config, service).unwrap();
            assert_eq!(of("DynamoDB").as_deref(), dynamodb, "{variables:?}");
            assert_eq!(of("DynamoDB Streams").as_deref(), streams, "{variables:?}");
        }
        let secret = format!("{:?}", Environment([(ALL.0.into(), ALL.1.into())].into()));
        assert!(!secret.contains("all"), "{secret}");
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
}

//! Which endpoint a service is asked at, and whether that is this machine.

use std::net::IpAddr;

use aws_config::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use highwater_domain::failure::{Failure, FailureKind};

/// The endpoint URL in force for a service, if it is not AWS's own: the given one, else what the
/// environment or the profile says (`AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL`, `endpoint_url`).
pub(crate) fn in_force(
    given: Option<&str>,
    config: &SdkConfig,
    service_id: &str,
) -> Result<Option<String>, Failure> {
    let url = given
        .map(str::to_owned)
        .or_else(|| configured(config, service_id))
        .or_else(|| config.endpoint_url().map(str::to_owned));
    if let Some(url) = &url {
        check(url)?;
    }
    Ok(url)
}

/// The endpoint URL in force for DynamoDB Streams; `None` where the SDK knows AWS's own.
///
/// A URL given on the spot is that of both services, unless it is one of AWS, where streams have a host of their
/// own. Else `AWS_ENDPOINT_URL_DYNAMODB_STREAMS` and its kin count before DynamoDB's.
pub(crate) fn of_streams(
    given: Option<&str>,
    config: &SdkConfig,
) -> Result<Option<String>, Failure> {
    // What is said of every service is found under each one's name, too.
    let of_every_service = config.endpoint_url();
    let own =
        configured(config, "DynamoDB Streams").filter(|url| Some(url.as_str()) != of_every_service);
    let elsewhere = given.filter(|url| !is_aws(url));
    let url = match (elsewhere, own) {
        (Some(given), _) => Some(given.to_owned()),
        (None, Some(own)) => Some(own),
        (None, None) => in_force(given, config, "DynamoDB")?.filter(|url| !is_aws(url)),
    };
    if let Some(url) = &url {
        check(url)?;
    }
    Ok(url)
}

/// What the environment or the profile says of a service, or of all.
fn configured(config: &SdkConfig, service_id: &str) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id(service_id)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    config.service_config()?.load_config(key)
}

/// What a configuration says of its services, without the endpoints that are of one region of AWS.
#[derive(Debug)]
pub(crate) struct OfEveryRegion(pub(crate) SdkConfig);

impl LoadServiceConfig for OfEveryRegion {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let said = self.0.service_config()?.load_config(key);
        said.filter(|value| !is_aws(value))
    }
}

/// Refuses what is not an HTTP URL with a host.
pub(crate) fn check(url: &str) -> Result<(), Failure> {
    if host(url).is_some() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Invalid,
        "connect",
        url,
        "the endpoint must be a URL such as http://localhost:8000",
    ))
}

/// Whether the URL leads to this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    host(url).is_some_and(|host| {
        host.eq_ignore_ascii_case("localhost")
            || host.to_ascii_lowercase().ends_with(".localhost")
            || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    })
}

/// Whether the URL leads to AWS itself: its public endpoints, or a VPC's private ones.
pub(crate) fn is_aws(url: &str) -> bool {
    host(url).is_some_and(|host| {
        let host = host.to_ascii_lowercase();
        [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
            .iter()
            .any(|suffix| host.ends_with(suffix))
    })
}

/// The host of an HTTP URL, without the brackets of an IPv6 address.
fn host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host_and_port.strip_prefix('[') {
        Some(ipv6) => ipv6.split_once(']')?.0,
        None => host_and_port.split(':').next()?,
    };
    (!host.is_empty() && !host.contains(char::is_whitespace)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an environment says of each service; of others, what it says of all.
    #[derive(Debug)]
    struct Environment(&'static [(&'static str, &'static str)]);

    impl LoadServiceConfig for Environment {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            let of = |id: &str| self.0.iter().find(|(service, _)| *service == id);
            let found = of(key.service_id()).or_else(|| of("*"))?;
            Some(found.1.to_owned())
        }
    }

    #[test]
    fn streams_are_asked_where_dynamodb_is_unless_that_is_aws() {
        const LOCAL: &str = "http://localhost:8000";
        const OTHER: &str = "http://localhost:9000";
        const VPC: &str = "https://vpce-1.dynamodb.eu-north-1.vpce.amazonaws.com";
        const STREAMS: &str = "https://vpce-1.streams.dynamodb.eu-north-1.vpce.amazonaws.com";
        type Case<'a> = (
            Option<&'a str>,
            &'static [(&'static str, &'static str)],
            Option<&'a str>,
        );
        let cases: [Case<'_>; 10] = [
            (None, &[], None),
            (Some(LOCAL), &[], Some(LOCAL)),
            (Some(LOCAL), &[("DynamoDB Streams", OTHER)], Some(LOCAL)),
            (Some(VPC), &[], None),
            (Some(VPC), &[("DynamoDB Streams", STREAMS)], Some(STREAMS)),
            (None, &[("DynamoDB", LOCAL)], Some(LOCAL)),
            (None, &[("DynamoDB", VPC)], None),
            (None, &[("*", LOCAL)], Some(LOCAL)),
            (None, &[("*", OTHER), ("DynamoDB", LOCAL)], Some(LOCAL)),
            (
                None,
                &[
                    ("*", OTHER),
                    ("DynamoDB", OTHER),
                    ("DynamoDB Streams", LOCAL),
                ],
                Some(LOCAL),
            ),
        ];
        for (given, environment, expected) in cases {
            let mut config = SdkConfig::builder();
            config.set_service_config(Some(Environment(environment)));
            if let Some((_, url)) = environment.iter().find(|(service, _)| *service == "*") {
                config.set_endpoint_url(Some((*url).to_owned()));
            }
            let url = of_streams(given, &config.build()).unwrap();
            assert_eq!(url.as_deref(), expected, "{given:?} {environment:?}");
        }
        let config = SdkConfig::builder().build();
        assert!(of_streams(Some("localhost:8000"), &config).is_err());
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for url in [
            "http://localhost:8000",
            "http://LOCALHOST",
            "https://s3.localhost:4566/x",
            "http://127.0.0.1:1",
            "http://127.8.8.8",
            "http://[::1]:8000/",
            "http://user@127.0.0.1/",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://dynamodb.eu-north-1.amazonaws.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@example.com",
            "http://example.com/127.0.0.1",
            "http://10.0.0.1",
            "http://0.0.0.0:8000",
            "localhost:8000",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_by_name() {
        for url in [
            "",
            "localhost:8000",
            "ftp://x",
            "http://",
            "http://:80",
            "http://a b/",
        ] {
            let failure = check(url).unwrap_err();
            assert_eq!(
                (failure.kind, failure.resource.as_str()),
                (FailureKind::Invalid, url)
            );
        }
    }
}

//! Which endpoint a service is asked at, and whether that is this machine.

use std::net::IpAddr;

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use highwater_domain::failure::{Failure, FailureKind};

/// The endpoint URL in force for a service, if it is not AWS's own: the given one, else what the
/// environment or the profile says (`AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL`, `endpoint_url`).
pub(crate) fn in_force(
    given: Option<&str>,
    config: &SdkConfig,
    service_id: &str,
) -> Result<Option<String>, Failure> {
    let configured = || {
        let key = ServiceConfigKey::builder()
            .service_id(service_id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        config.service_config()?.load_config(key)
    };
    let url = given
        .map(str::to_owned)
        .or_else(configured)
        .or_else(|| config.endpoint_url().map(str::to_owned));
    if let Some(url) = &url {
        check(url)?;
    }
    Ok(url)
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

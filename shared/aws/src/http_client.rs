//! The HTTP client under the SDK's: which TLS, which proxy, whose connections.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// How far a client's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Through the proxy that the environment names, if it does.
    Anywhere,
    /// Never through a proxy: it would look for the engine on its own machine.
    ThisMachine,
}

/// HTTPS by rustls with ring, whose first use costs a Lambda a tenth of what the default's does.
///
/// A connector is made at the first request of its kind, so that clients that are never used load no
/// certificates; requests with the same time-outs share one, and with it its connections.
pub(crate) fn http_client(reach: Reach) -> SharedHttpClient {
    type TimeOuts = (Option<Duration>, Option<Duration>);
    let connectors: Mutex<HashMap<TimeOuts, SharedHttpConnector>> = Mutex::default();
    http_client_fn(move |settings, components| {
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        connectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(timeouts)
            .or_insert_with(|| connector(reach, settings, components))
            .clone()
    })
}

fn connector(
    reach: Reach,
    settings: &HttpConnectorSettings,
    components: &RuntimeComponents,
) -> SharedHttpConnector {
    let mut builder = Connector::builder()
        .connector_settings(settings.clone())
        .proxy_config(match reach {
            Reach::Anywhere => ProxyConfig::from_env(),
            Reach::ThisMachine => ProxyConfig::disabled(),
        });
    builder.set_sleep_impl(components.sleep_impl());
    SharedHttpConnector::new(
        builder
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build(),
    )
}

//! What a call needs besides its body, learnt from one that the SDK made: the same address and headers, the same
//! connections, the SDK's own cache of credentials. Only the date, the length and the signature are new.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::AuthScheme as _;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::identity::{
    ResolveCachedIdentity as _, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use highwater_domain::digest::sha256;
use highwater_domain::reused_buffers::ReusedBuffers;
use serde::Deserialize;

use crate::answer_capture::{Captured, Slot};
use crate::checked_body::exchange_good_answer;
use crate::sigv4::{Authorization, Scope, amz_date, authorization};

const AUTHORIZATION: &str = "authorization";
const CONTENT_LENGTH: &str = "content-length";
const DATE: &str = "x-amz-date";
const HOST: &str = "host";
const TOKEN: &str = "x-amz-security-token";

/// Headers that are made for each request.
const MADE: [&str; 4] = [AUTHORIZATION, CONTENT_LENGTH, DATE, TOKEN];

/// Headers that name one request or one invocation, and that nobody needs.
const OF_ONE: [&str; 3] = [
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "x-amzn-trace-id",
];

/// Why a call failed: as the SDK's own calls do, with the service's words.
pub(crate) type CallError = SdkError<ErrorMetadata, HttpResponse>;

/// A request as the SDK was about to send it, and the pattern that it may be.
pub(crate) struct Sample {
    pattern: Pattern,
    date: String,
    authorization: String,
    body_sha256: [u8; 32],
    /// What was signed, the host included, by name.
    signed: Vec<(String, String)>,
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A signature is good for a few minutes.
        f.debug_struct("Sample").finish_non_exhaustive()
    }
}

impl Sample {
    /// `None` of whatever is no plain POST to `/` with a signature of version 4.
    pub(crate) fn of(
        request: &HttpRequest,
        parts: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Option<Self> {
        let header = |name: &str| request.headers().get(name);
        let read = Authorization::read(header(AUTHORIZATION)?)?;
        let (host, path) = host_and_path(request.uri())?;
        if request.method() != "POST" || !matches!(path, "" | "/") {
            return None;
        }
        let signed = read.signed.iter().map(|&name| {
            let value = if name == HOST { host } else { header(name)? };
            Some((name.to_owned(), value.to_owned()))
        });
        Some(Self {
            date: header(DATE)?.to_owned(),
            authorization: header(AUTHORIZATION)?.to_owned(),
            body_sha256: sha256(request.body().bytes()?),
            signed: signed.collect::<Option<_>>()?,
            pattern: Pattern::of(request, &read, parts, config)?,
        })
    }

    /// The pattern, if it signs as the SDK did.
    pub(crate) async fn into_pattern(mut self) -> Option<Pattern> {
        let credentials = self.pattern.credentials().await.ok()?;
        let signed: Vec<(&str, &str)> = by_ref(&self.signed).collect();
        let scope = &self.pattern.scope;
        let again = authorization(&credentials, scope, &self.date, &signed, &self.body_sha256);
        if again != self.authorization {
            tracing::debug!(
                "a call of the SDK's is signed in another way; each is made by the SDK"
            );
            return None;
        }
        let stays = |name: &str| !MADE.contains(&name) && !OF_ONE.contains(&name);
        self.signed.retain(|(name, _)| stays(name));
        self.pattern.signed = self.signed;
        Some(self.pattern)
    }
}

fn by_ref(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

/// The host as it is signed, and the path, of `http://host:1234/`.
fn host_and_path(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let port = if scheme == "https" { ":443" } else { ":80" };
    Some((authority.strip_suffix(port).unwrap_or(authority), path))
}

/// All of a call but its body.
pub(crate) struct Pattern {
    /// The request without the headers that are made for each.
    head: HttpRequest,
    scope: Scope,
    /// The headers that are signed, by name, without those that are made for each request.
    signed: Vec<(String, String)>,
    components: RuntimeComponents,
    identities: SharedIdentityResolver,
    connector: SharedHttpConnector,
    patience: Option<Duration>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.head.uri())
    }
}

impl Pattern {
    fn of(
        request: &HttpRequest,
        read: &Authorization<'_>,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Option<Self> {
        let mut head = HttpRequest::new(SdkBody::empty());
        head.set_method(request.method()).ok()?;
        head.set_uri(request.uri()).ok()?;
        for (name, value) in request.headers() {
            if !MADE.contains(&name) && !OF_ONE.contains(&name) {
                head.headers_mut().append(name.to_owned(), value.to_owned());
            }
        }
        let timeouts = config.load::<TimeoutConfig>()?;
        let mut settings = HttpConnectorSettings::builder();
        settings.set_connect_timeout(timeouts.connect_timeout());
        settings.set_read_timeout(timeouts.read_timeout());
        let client = components.http_client()?;
        Some(Self {
            head,
            scope: read.scope.clone(),
            signed: Vec::new(),
            components: components.clone(),
            identities: components
                .auth_scheme(aws_runtime::auth::sigv4::SCHEME_ID)?
                .identity_resolver(components)?,
            connector: client.http_connector(&settings.build(), components),
            patience: timeouts.operation_attempt_timeout(),
        })
    }

    /// Makes the call with this body and keeps what is wanted of its answer, which is checked like any other.
    pub(crate) async fn call<T: Captured>(
        &self,
        body: Bytes,
        buffers: &ReusedBuffers,
    ) -> Result<T, CallError> {
        let call = self.call_once(body, buffers);
        match self.patience {
            Some(patience) => match tokio::time::timeout(patience, call).await {
                Ok(answer) => answer,
                Err(late) => Err(SdkError::timeout_error(late)),
            },
            None => call.await,
        }
    }

    async fn call_once<T: Captured>(
        &self,
        body: Bytes,
        buffers: &ReusedBuffers,
    ) -> Result<T, CallError> {
        let request = self.signed(body).await;
        // Not the caller's fault: there are no credentials, or none any more.
        let unsent = |error| SdkError::dispatch_failure(ConnectorError::other(error, None));
        let request = request.map_err(unsent)?;
        let answer = self.connector.call(request).await;
        let mut answer = answer.map_err(SdkError::dispatch_failure)?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let slot = Slot::<T>::default();
        let kept = slot.clone();
        let keep = move |answer| {
            let (captured, rest) = T::part(answer)?;
            kept.put(captured);
            Ok(rest)
        };
        if let Err(error) = exchange_good_answer(&mut answer, buffers, keep) {
            return Err(SdkError::response_error(error, answer));
        }
        if let Err(error) = ByteStream::new(answer.take_body()).collect().await {
            return Err(SdkError::response_error(error, answer));
        }
        slot.taken().map_err(SdkError::dispatch_failure)
    }

    /// A request with this body, as the SDK would send it.
    async fn signed(&self, body: Bytes) -> Result<HttpRequest, BoxError> {
        let credentials = self.credentials().await?;
        let clock = self.components.time_source().ok_or("there is no clock")?;
        let date = amz_date(clock.now()).ok_or("the time cannot be told")?;
        let length = body.len().to_string();
        let mut signed: Vec<(&str, &str)> = by_ref(&self.signed).collect();
        signed.extend([(CONTENT_LENGTH, length.as_str()), (DATE, date.as_str())]);
        signed.extend(credentials.session_token().map(|token| (TOKEN, token)));
        signed.sort_unstable_by_key(|(name, _)| *name);
        let hash = sha256(&body);
        let header = authorization(&credentials, &self.scope, &date, &signed, &hash);
        let mut request = self.head.try_clone().ok_or("a request without a body")?;
        let headers = request.headers_mut();
        if let Some(token) = credentials.session_token() {
            headers.insert(TOKEN, token.to_owned());
        }
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(DATE, date);
        headers.insert(AUTHORIZATION, header);
        *request.body_mut() = SdkBody::from(body);
        Ok(request)
    }

    /// The credentials in force, by the SDK's cache, which renews them in time.
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let cache = self.components.identity_cache();
        let config = ConfigBag::base();
        let identity = cache
            .resolve_cached_identity(self.identities.clone(), &self.components, &config)
            .await?;
        let credentials = identity.data::<Credentials>();
        Ok(credentials
            .ok_or("the identity is no pair of keys")?
            .clone())
    }

    /// What the service says instead of an answer.
    async fn refusal(&self, mut answer: HttpResponse) -> CallError {
        let body = match ByteStream::new(answer.take_body()).collect().await {
            Ok(body) => body.into_bytes(),
            Err(error) => return SdkError::response_error(error, answer),
        };
        let words = words_of(&body);
        *answer.body_mut() = SdkBody::from(body);
        SdkError::service_error(words, answer)
    }
}

/// The code and the message of an error in AWS's JSON; as far as there are any.
fn words_of(body: &[u8]) -> ErrorMetadata {
    let words: Words<'_> = serde_json::from_slice(body).unwrap_or_default();
    let mut metadata = ErrorMetadata::builder();
    if let Some(code) = &words.code {
        // `com.amazonaws.dynamodb.v20120810#ValidationException`
        metadata = metadata.code(code.rsplit('#').next().unwrap_or(code));
    }
    if let Some(message) = words.message {
        metadata = metadata.message(message);
    }
    metadata.build()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Words<'a> {
    #[serde(borrow, rename = "__type")]
    code: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "Message")]
    message: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_signed_without_the_port_that_goes_without_saying() {
        for (uri, host, path) in [
            ("http://127.0.0.1:8000/", "127.0.0.1:8000", "/"),
            ("http://localhost:80", "localhost", ""),
            ("https://a.b:443/", "a.b", "/"),
            ("https://a.b:80/c", "a.b:80", "/c"),
            ("https://a.b?c", "a.b", "?c"),
        ] {
            assert_eq!(host_and_path(uri), Some((host, path)), "{uri}");
        }
        assert_eq!(host_and_path("a.b/"), None);
    }
}

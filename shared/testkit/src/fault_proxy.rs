//! A proxy in front of an engine that mistreats requests as networks and busy services do.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::faults::{Fault, Rule, refusal};
use crate::recorded_needs::RecordedNeeds;
use crate::unprocessed;
use crate::wire_call::{Instead, StandIn, WireCall};

/// An HTTP proxy on a loopback port, in front of one engine. It stops when dropped.
///
/// Without rules it passes every request and answer on as they are, `Host` and signature included.
/// Which requests a share strikes depends on the seed and the order of their arrival.
#[derive(Debug)]
pub struct FaultProxy {
    endpoint_url: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    random: fastrand::Rng,
    enabled: bool,
    rules: Vec<Rule>,
    injected: BTreeMap<(String, Fault), u64>,
    requests: u64,
    recorded: Option<RecordedNeeds>,
    stand_in: Option<Arc<StandIn>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("rules", &self.rules)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

/// What is decided for one request.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    fault: Fault,
    /// A coin, for faults that come in two forms.
    coin: bool,
}

type Answer = Response<BoxBody<Bytes, io::Error>>;
type Plain = Request<Full<Bytes>>;

impl FaultProxy {
    /// Starts a proxy to `upstream` (`http://127.0.0.1:PORT`), without rules.
    pub async fn start(upstream: &str, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            enabled: true,
            rules: Vec::new(),
            injected: BTreeMap::new(),
            requests: 0,
            recorded: None,
            stand_in: None,
        }));
        let relay = Relay {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            state: Arc::clone(&state),
        };
        Ok(Self {
            endpoint_url: format!("http://{address}"),
            state,
            server: tokio::spawn(accept(listener, relay)),
        })
    }

    /// `http://127.0.0.1:PORT`, for an SDK's endpoint.
    #[must_use]
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// Adds a rule. Of several that strike one request the first added wins.
    pub fn inject(&self, rule: Rule) {
        self.locked().rules.push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.locked().rules.clear();
    }

    /// Switches all rules off or on again, also while requests run. Off, they do not count either.
    pub fn set_enabled(&self, enabled: bool) {
        self.locked().enabled = enabled;
    }

    /// How many faults were injected, by operation and kind.
    #[must_use]
    pub fn injected(&self) -> BTreeMap<(String, Fault), u64> {
        self.locked().injected.clone()
    }

    /// How many faults of one kind were injected.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        let state = self.locked();
        let of_kind = state
            .injected
            .iter()
            .filter(|((_, kind), _)| *kind == fault);
        of_kind.map(|(_, count)| count).sum()
    }

    /// How many requests arrived.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.locked().requests
    }

    /// Asks `stand_in` first what becomes of a request, before any rule strikes.
    pub fn put_in_front(&self, stand_in: StandIn) {
        self.locked().stand_in = Some(Arc::new(stand_in));
    }

    /// Notes from now on which permissions the requests need.
    pub fn record(&self) {
        self.locked().recorded.get_or_insert_default();
    }

    /// Which permissions they have needed since then, by who has signed them.
    #[must_use]
    pub fn recorded(&self) -> RecordedNeeds {
        self.locked().recorded.clone().unwrap_or_default()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, relay: Relay) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, relay.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the fault proxy could not take a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, relay: Relay) {
    let _ = stream.set_nodelay(true);
    let handle = service_fn(move |request| {
        let relay = relay.clone();
        async move { relay.handle(request).await }
    });
    // An error here is most often one that was asked for.
    if let Err(error) = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), handle)
        .await
    {
        tracing::debug!(%error, "a connection to the fault proxy broke");
    }
}

#[derive(Clone)]
struct Relay {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    state: Arc<Mutex<State>>,
}

impl Relay {
    /// One request. An error cuts the client's connection.
    async fn handle(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let (call, mut request) = self.readdress(request).await?;
        let stand_in = self.state.lock().unwrap().stand_in.clone();
        let answer = match stand_in.map_or(Instead::PassOn, |stand_in| stand_in(&call)) {
            Instead::PassOn => self.answer(&call, request).await,
            Instead::PassOnWithout(header) => {
                request.headers_mut().remove(header);
                self.answer(&call, request).await
            }
            Instead::Answer(answer) => Ok(whole(answer)),
        };
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        if let Some(recorded) = &mut self.state.lock().unwrap().recorded {
            recorded.note(&call, status);
        }
        answer
    }

    /// What the service says, or what the rules make of it.
    async fn answer(&self, call: &WireCall, request: Plain) -> io::Result<Answer> {
        let Some(verdict) = self.decide(&call.operation, request.uri().path()) else {
            return self.forward(request).await.map(whole);
        };
        if let Some(refusal) = refusal(verdict.fault, call.is_dynamodb, verdict.coin) {
            return Ok(refusal.map(|body| body.map_err(|never| match never {}).boxed()));
        }
        match verdict.fault {
            Fault::DropRequest => Err(cut("before the request was passed on")),
            Fault::LoseAnswer => {
                self.forward(request).await?;
                Err(cut("after the request took effect"))
            }
            Fault::TruncateAnswer => self.forward(request).await.map(truncated),
            Fault::CorruptAnswer => Ok(whole(corrupt(self.forward(request).await?))),
            Fault::WrongChecksum => Ok(whole(wrong_checksum(self.forward(request).await?))),
            Fault::Duplicate => {
                let first = self.forward(request.clone()).await?;
                let second = self.forward(request).await?;
                Ok(whole(if verdict.coin { first } else { second }))
            }
            Fault::Unprocessed => self.forward_half(request).await.map(whole),
            Fault::Delay(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                self.forward(request).await.map(whole)
            }
            Fault::Throttle | Fault::ThrottlingException | Fault::ServerError => {
                Err(cut("by a refusal without words"))
            }
        }
    }

    /// The same request with its body in hand, addressed to the engine. `Host` stays what was signed.
    async fn readdress(&self, request: Request<Incoming>) -> io::Result<(WireCall, Plain)> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Result<Uri, _> = format!("{}{path}", self.upstream).parse();
        parts.uri = uri.map_err(io::Error::other)?;
        if parts.headers.remove(TRANSFER_ENCODING).is_some() {
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        let request = Request::from_parts(parts, Full::new(body.clone()));
        Ok((WireCall::of(&request, &body), request))
    }

    /// Draws what happens to a request, and counts it.
    fn decide(&self, operation: &str, path: &str) -> Option<Verdict> {
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        if !state.enabled {
            return None;
        }
        let State { random, rules, .. } = &mut *state;
        // Every rule sees every request, so that counting rules do not depend on one another.
        let mut struck = None;
        for rule in rules {
            if rule.strikes(operation, path, random) && struck.is_none() {
                struck = Some(rule.fault);
            }
        }
        let fault = struck?;
        let coin = state.random.bool();
        *state
            .injected
            .entry((operation.to_owned(), fault))
            .or_default() += 1;
        Some(Verdict { fault, coin })
    }

    /// Passes a request on and takes in the whole answer.
    async fn forward(&self, request: Plain) -> io::Result<Response<Bytes>> {
        let is_head = request.method() == Method::HEAD;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(io::Error::other)?;
        let (mut parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        parts.headers.remove(TRANSFER_ENCODING);
        if !is_head {
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        Ok(Response::from_parts(parts, body))
    }

    /// Passes on half of a BatchWriteItem and answers that the other half was not processed.
    async fn forward_half(&self, request: Plain) -> io::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let Some((half, held_back)) = unprocessed::split(&body) else {
            return self
                .forward(Request::from_parts(parts, Full::new(body)))
                .await;
        };
        if !unprocessed::writes_something(&half) {
            let body = unprocessed::answer(b"{}", held_back);
            return Ok(Response::new(body));
        }
        parts.headers.insert(CONTENT_LENGTH, half.len().into());
        let answer = self
            .forward(Request::from_parts(parts, Full::new(half)))
            .await?;
        if !answer.status().is_success() {
            return Ok(answer);
        }
        let (mut parts, body) = answer.into_parts();
        let body = unprocessed::answer(&body, held_back);
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        if parts.headers.contains_key("x-amz-crc32") {
            let crc = crc32fast::hash(&body);
            parts.headers.insert("x-amz-crc32", crc.into());
        }
        Ok(Response::from_parts(parts, body))
    }
}

fn cut(when: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        format!("injected: the connection was cut {when}"),
    )
}

fn whole(answer: Response<Bytes>) -> Answer {
    answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed())
}

/// The answer with its length, half of its body, and then a cut.
fn truncated(answer: Response<Bytes>) -> Answer {
    answer.map(|body| {
        let half = body.slice(..body.len() / 2);
        let cut_later = async {
            // Until then the first half is on its way, and not thrown away with the connection.
            tokio::time::sleep(Duration::from_millis(5)).await;
            Err(cut("in the middle of the answer"))
        };
        let frames = stream::iter([Ok(Frame::data(half))]).chain(stream::once(cut_later));
        BodyExt::boxed(StreamBody::new(Box::pin(frames)))
    })
}

/// The answer with one bit of its body the other way round.
fn corrupt(answer: Response<Bytes>) -> Response<Bytes> {
    answer.map(|body| {
        let mut body = body.to_vec();
        let middle = body.len() / 2;
        if let Some(byte) = body.get_mut(middle) {
            *byte ^= 0x01;
        }
        body.into()
    })
}

/// The answer with checksums that are not its body's.
fn wrong_checksum(mut answer: Response<Bytes>) -> Response<Bytes> {
    let wrong = !crc32fast::hash(answer.body());
    for (name, value) in answer.headers_mut().iter_mut() {
        if name == "x-amz-crc32" {
            *value = wrong.into();
        } else if name.as_str().starts_with("x-amz-checksum-") && name != "x-amz-checksum-type" {
            // The first character of base64 of the same length: still base64, of other bytes.
            let mut text = value.as_bytes().to_vec();
            if let Some(first) = text.first_mut() {
                *first = if *first == b'A' { b'B' } else { b'A' };
            }
            if let Ok(changed) = HeaderValue::from_bytes(&text) {
                *value = changed;
            }
        }
    }
    answer
}

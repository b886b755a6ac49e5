//! Stands before the embedded DynamoDB on one port: calls of the streams are answered here, everything else is the
//! engine's and passed through as it is.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::stream_answers::StreamAnswers;
use crate::stream_wire::Refusal;

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");

type Body = Either<Incoming, Full<Bytes>>;

/// What a connection needs to answer.
#[derive(Clone)]
struct Front {
    answers: Arc<StreamAnswers>,
    engine: SocketAddr,
    client: Client<HttpConnector, Incoming>,
}

/// Serves until `stop` is set or its other end is gone; requests at work are answered first.
pub(crate) async fn serve(
    listener: TcpListener,
    engine: SocketAddr,
    answers: Arc<StreamAnswers>,
    mut stop: watch::Receiver<()>,
) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let front = Front {
        answers,
        engine,
        client: Client::builder(TokioExecutor::new()).build(connector),
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, front.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of file handles, usually: let others finish first.
                tracing::warn!(%error, "the embedded DynamoDB could not take a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, front: Front, mut stop: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(front.clone(), request));
    let mut served = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    let ended = tokio::select! {
        biased;
        ended = &mut served => ended,
        _ = stop.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the embedded DynamoDB broke");
    }
}

async fn answer(front: Front, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let target = request.headers().get("x-amz-target");
    let target = target.and_then(|target| target.to_str().ok()).unwrap_or("");
    if let Some(operation) = target.strip_prefix("DynamoDBStreams_20120810.")
        && StreamAnswers::knows(operation)
    {
        let operation = operation.to_owned();
        let Ok(body) = request.into_body().collect().await else {
            return Ok(plain(StatusCode::BAD_REQUEST, Bytes::new()));
        };
        return Ok(of_stream(
            front.answers.answer(&operation, &body.to_bytes()),
        ));
    }
    if target.ends_with(".UpdateTable")
        && let Err(refusal) = front.answers.take_note()
    {
        return Ok(of_stream(Err(refusal)));
    }
    Ok(pass(&front, request).await)
}

/// The engine's answer to a request, as it is.
async fn pass(front: &Front, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    let answered = match format!("http://{}{path}", front.engine).parse::<Uri>() {
        Ok(uri) => {
            *request.uri_mut() = uri;
            front
                .client
                .request(request)
                .await
                .map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match answered {
        Ok(response) => response.map(Either::Left),
        Err(reason) => {
            tracing::debug!(reason, "the embedded DynamoDB did not answer");
            plain(StatusCode::BAD_GATEWAY, Bytes::from(reason))
        }
    }
}

fn of_stream(answer: Result<Vec<u8>, Refusal>) -> Response<Body> {
    match answer {
        Ok(body) => plain(StatusCode::OK, body.into()),
        Err(Refusal { code, message }) => {
            let body = serde_json::json!({
                "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
                "message": message,
            });
            let status = match code {
                "InternalServerError" => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            };
            plain(status, body.to_string().into())
        }
    }
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

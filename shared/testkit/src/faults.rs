//! What can go wrong with a request to a service, and when it does.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// One way to mistreat a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// DynamoDB: 400 `ProvisionedThroughputExceededException`. S3: 503 `SlowDown`. It does not happen.
    Throttle,
    /// DynamoDB: 400 `ThrottlingException`. S3: 503 `SlowDown`. It does not happen.
    ThrottlingException,
    /// 500. It does not happen.
    ServerError,
    /// The connection is cut before the request reaches the service.
    DropRequest,
    /// The request takes effect and the connection is cut without an answer.
    LoseAnswer,
    /// The request takes effect and the connection is cut in the middle of the answer's body.
    TruncateAnswer,
    /// The request takes effect and a byte of the answer's body is changed; its checksums are not.
    CorruptAnswer,
    /// The request takes effect and the answer's checksum headers (`x-amz-crc32`, `x-amz-checksum-…`)
    /// are wrong. The Rust SDK does not look at DynamoDB's.
    WrongChecksum,
    /// The request takes effect twice; the client gets one of the answers.
    Duplicate,
    /// BatchWriteItem: half of the requests are handed back unprocessed.
    Unprocessed,
    /// The request waits so many milliseconds before it is passed on.
    Delay(u64),
}

/// When a fault strikes.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) fault: Fault,
    operation: Option<String>,
    path: Option<String>,
    strikes: Strikes,
    seen: u64,
}

#[derive(Clone, Copy, Debug)]
enum Strikes {
    Share(f64),
    Nth(u64),
}

impl Rule {
    /// Strikes a share of the requests, 0.0 to 1.0, chosen by the proxy's seed.
    #[must_use]
    pub fn rate(fault: Fault, share: f64) -> Self {
        Self {
            fault,
            operation: None,
            path: None,
            strikes: Strikes::Share(share),
            seen: 0,
        }
    }

    /// Strikes one request: the `nth` that matches, from 1.
    #[must_use]
    pub fn nth(fault: Fault, nth: u64) -> Self {
        Self {
            strikes: Strikes::Nth(nth),
            ..Self::rate(fault, 0.0)
        }
    }

    /// Only requests of this operation, by the service's name for it: `Scan`, `PutObject`.
    #[must_use]
    pub fn on(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Only requests whose path, as sent, begins so: `/bucket/prefix/`.
    #[must_use]
    pub fn under(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Whether this request is struck. Counts it if it matches.
    pub(crate) fn strikes(
        &mut self,
        operation: &str,
        path: &str,
        random: &mut fastrand::Rng,
    ) -> bool {
        let named = self.operation.as_ref().is_none_or(|only| only == operation);
        let below = self
            .path
            .as_ref()
            .is_none_or(|prefix| path.starts_with(prefix));
        let possible = self.fault != Fault::Unprocessed || operation == "BatchWriteItem";
        if !(named && below && possible) {
            return false;
        }
        self.seen += 1;
        match self.strikes {
            Strikes::Share(share) => random.f64() < share,
            Strikes::Nth(nth) => self.seen == nth,
        }
    }
}

/// The operation that DynamoDB's target header names.
pub(crate) fn dynamodb_operation<B>(request: &Request<B>) -> Option<&str> {
    let target = request.headers().get("x-amz-target")?.to_str().ok()?;
    target.rsplit('.').next()
}

/// The service's name for what a request asks for.
pub(crate) fn operation<B>(request: &Request<B>) -> String {
    if let Some(operation) = dynamodb_operation(request) {
        return operation.to_owned();
    }
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| {
        let mut names = query.split('&').map(|pair| pair.split('=').next());
        names.any(|found| found == Some(name))
    };
    let path = request.uri().path().trim_start_matches('/');
    let is_object = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let name = match (request.method(), is_object) {
        (&Method::PUT, true) if has("partNumber") => "UploadPart",
        (&Method::PUT, true) => "PutObject",
        (&Method::PUT, false) => "CreateBucket",
        (&Method::GET, true) if has("uploadId") => "ListParts",
        (&Method::GET, true) => "GetObject",
        (&Method::GET, false) if path.is_empty() => "ListBuckets",
        (&Method::GET, false) => "ListObjectsV2",
        (&Method::HEAD, true) => "HeadObject",
        (&Method::HEAD, false) => "HeadBucket",
        (&Method::DELETE, true) if has("uploadId") => "AbortMultipartUpload",
        (&Method::DELETE, true) => "DeleteObject",
        (&Method::DELETE, false) => "DeleteBucket",
        (&Method::POST, true) if has("uploads") => "CreateMultipartUpload",
        (&Method::POST, true) => "CompleteMultipartUpload",
        (&Method::POST, false) => "DeleteObjects",
        (method, _) => method.as_str(),
    };
    name.to_owned()
}

/// The service's refusal, as it words it. Faults that are no refusals have none.
pub(crate) fn refusal(
    fault: Fault,
    is_dynamodb: bool,
    with_crc: bool,
) -> Option<Response<Full<Bytes>>> {
    let response = match (fault, is_dynamodb) {
        (Fault::Throttle, true) => dynamodb_error(
            StatusCode::BAD_REQUEST,
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.",
            with_crc,
        ),
        (Fault::ThrottlingException, true) => dynamodb_error(
            StatusCode::BAD_REQUEST,
            "com.amazon.coral.availability#ThrottlingException",
            "Rate of requests exceeds the allowed throughput.",
            with_crc,
        ),
        (Fault::ServerError, true) => dynamodb_error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "com.amazonaws.dynamodb.v20120810#InternalServerError",
            "Internal server error",
            with_crc,
        ),
        (Fault::Throttle | Fault::ThrottlingException, false) => s3_error(
            StatusCode::SERVICE_UNAVAILABLE,
            "SlowDown",
            "Please reduce your request rate.",
        ),
        (Fault::ServerError, false) => s3_error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "We encountered an internal error. Please try again.",
        ),
        _ => return None,
    };
    Some(response)
}

fn dynamodb_error(
    status: StatusCode,
    kind: &str,
    message: &str,
    with_crc: bool,
) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"__type": kind, "message": message}).to_string();
    let crc = crc32fast::hash(body.as_bytes());
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    headers.insert("x-amzn-requestid", HeaderValue::from_static("INJECTED"));
    if with_crc {
        headers.insert("x-amz-crc32", crc.into());
    }
    response
}

fn s3_error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>INJECTED</RequestId></Error>"
    );
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert("x-amz-request-id", HeaderValue::from_static("INJECTED"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_the_services_name_them() {
        for (method, uri, name) in [
            ("PUT", "/b/k", "PutObject"),
            ("PUT", "/b/k?partNumber=1&uploadId=x", "UploadPart"),
            ("PUT", "/b/", "CreateBucket"),
            ("GET", "/b?list-type=2&prefix=x", "ListObjectsV2"),
            ("GET", "/b/k/l", "GetObject"),
            ("HEAD", "/b/k", "HeadObject"),
            ("POST", "/b/k?uploads", "CreateMultipartUpload"),
            ("POST", "/b/k?uploadId=x", "CompleteMultipartUpload"),
            ("POST", "/b?delete", "DeleteObjects"),
            ("DELETE", "/b/k?uploadId=x", "AbortMultipartUpload"),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            assert_eq!(operation(&request), name);
        }
        let request = Request::post("/").header("x-amz-target", "DynamoDB_20120810.Scan");
        assert_eq!(operation(&request.body(()).unwrap()), "Scan");
    }

    #[test]
    fn the_nth_matching_request_is_struck_once() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut rule = Rule::nth(Fault::Throttle, 2).on("PutObject").under("/b/x/");
        let requests = [
            ("PutObject", "/b/x/1"),
            ("GetObject", "/b/x/1"),
            ("PutObject", "/b/y"),
            ("PutObject", "/b/x/2"),
            ("PutObject", "/b/x/3"),
        ];
        let struck: Vec<bool> = requests
            .iter()
            .map(|(operation, path)| rule.strikes(operation, path, &mut random))
            .collect();
        assert_eq!(struck, [false, false, false, true, false]);
    }
}

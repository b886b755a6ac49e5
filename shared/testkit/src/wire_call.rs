//! A request as it stands on the wire, before a service sees it: who asks, for what.

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;

use crate::faults::{dynamodb_operation, operation};

/// One request to DynamoDB, its streams, or S3 (path style).
#[derive(Clone, Debug)]
pub struct WireCall {
    /// The access key that it is signed with; empty if it is not signed.
    pub caller: String,
    /// The service's name for what is asked for: `Scan`, `PutObject`.
    pub operation: String,
    /// Whether it is DynamoDB, or its streams, that is asked.
    pub is_dynamodb: bool,
    /// The bucket, of S3.
    pub bucket: String,
    /// The object's key, of S3; empty if the request is about the bucket.
    pub key: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl WireCall {
    pub(crate) fn of<B>(request: &Request<B>, body: &Bytes) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Self {
            caller: signer(request.headers()).unwrap_or_default(),
            operation: operation(request),
            is_dynamodb: dynamodb_operation(request).is_some(),
            bucket: decoded(bucket),
            key: decoded(key),
            query: query.to_owned(),
            headers: request.headers().clone(),
            body: body.clone(),
        }
    }

    /// A value of the query, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&');
        let found = pairs.find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found == name).then_some(value)
        });
        found.map(|value| decoded(&value.replace('+', " ")))
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body of a request to DynamoDB; null of any other.
    #[must_use]
    pub fn json(&self) -> Value {
        if !self.is_dynamodb {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text, as far as it is text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// An error of the service, in its own form.
    #[must_use]
    pub fn refusal(&self, status: u16, code: &str, message: &str) -> Response<Bytes> {
        let (kind, body) = if self.is_dynamodb {
            let body = serde_json::json!({"__type": code, "message": message, "Message": message});
            ("application/x-amz-json-1.0", body.to_string())
        } else {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            );
            ("application/xml", body)
        };
        // An answer to HEAD has no body.
        let body = if self.operation.starts_with("Head") {
            String::new()
        } else {
            body
        };
        answered(status, kind, body.into())
    }

    /// What a service says whose policy does not allow the call.
    #[must_use]
    pub fn denial(&self) -> Response<Bytes> {
        let Self {
            caller, operation, ..
        } = self;
        if self.is_dynamodb {
            let message = format!(
                "User: arn:aws:sts::000000000000:assumed-role/{caller} is not authorized to perform: dynamodb:{operation}"
            );
            let code = "com.amazon.coral.service#AccessDeniedException";
            return self.refusal(400, code, &message);
        }
        self.refusal(403, "AccessDenied", "Access Denied")
    }

    /// A good answer of DynamoDB.
    #[must_use]
    pub fn answer(&self, body: &Value) -> Response<Bytes> {
        let body = Bytes::from(body.to_string());
        answered(200, "application/x-amz-json-1.0", body)
    }
}

fn answered(status: u16, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

/// What stands in for the service behind a proxy, call by call.
pub type StandIn = Box<dyn Fn(&WireCall) -> Instead + Send + Sync>;

/// What becomes of a call.
#[derive(Debug)]
pub enum Instead {
    /// The service answers it.
    PassOn,
    /// The service answers it, and never sees this header.
    PassOnWithout(&'static str),
    /// This is the answer.
    Answer(Response<Bytes>),
}

/// The access key of `Authorization: AWS4-HMAC-SHA256 Credential=KEY/20260114/…`.
fn signer(headers: &HeaderMap) -> Option<String> {
    let authorization = headers.get("authorization")?.to_str().ok()?;
    let (_, credential) = authorization.split_once("Credential=")?;
    let (key, _) = credential.split_once('/')?;
    Some(key.to_owned())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).filter(|_| *first == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn call(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> WireCall {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        WireCall::of(&request.body(()).unwrap(), &Bytes::from(body.to_owned()))
    }

    #[test]
    fn a_call_says_who_asks_for_what() {
        let signed = "AWS4-HMAC-SHA256 Credential=scan-segment/20260114/us-east-1/s3/aws4_request, SignedHeaders=host";
        let get = call(
            "GET",
            "/b/a%20b/%C3%BC?versionId=1%2F2&x",
            &[("authorization", signed)],
            "",
        );
        assert_eq!(
            (get.caller.as_str(), get.operation.as_str()),
            ("scan-segment", "GetObject")
        );
        assert_eq!((get.bucket.as_str(), get.key.as_str()), ("b", "a b/ü"));
        assert_eq!(get.query("versionId").as_deref(), Some("1/2"));
        assert_eq!(
            (get.query("x").as_deref(), get.query("y")),
            (Some(""), None)
        );
        assert_eq!(get.json(), Value::Null);
        let target = [("x-amz-target", "DynamoDB_20120810.Scan")];
        let scan = call("POST", "/", &target, r#"{"TableName":"t"}"#);
        assert!(scan.is_dynamodb && scan.caller.is_empty());
        assert_eq!(
            (scan.operation.as_str(), scan.json()),
            ("Scan", json!({"TableName": "t"}))
        );
    }

    #[test]
    fn a_denial_is_worded_as_the_service_words_it() {
        let head = call("HEAD", "/b/k", &[], "").denial();
        assert_eq!((head.status().as_u16(), head.body().len()), (403, 0));
        let scan = call(
            "POST",
            "/",
            &[("x-amz-target", "DynamoDB_20120810.Scan")],
            "{}",
        )
        .denial();
        let text = String::from_utf8_lossy(scan.body()).into_owned();
        assert!(
            text.contains("AccessDeniedException") && text.contains("dynamodb:Scan"),
            "{text}"
        );
        assert_eq!(scan.headers()["content-length"], text.len().to_string());
    }
}

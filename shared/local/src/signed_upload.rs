//! Takes off what `SigV4` puts around a request: the signature, and the aws-chunked framing of uploads.
//!
//! The embedded S3 takes any credentials, so there is no secret to verify a signature with; the
//! S3 behind it sees an anonymous request with a plain body, checksums in the headers.
//! The framing: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use s3s::{Body, HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";

/// The request without its wrapping, or the answer to one that is wrongly wrapped.
///
/// Fails if the connection broke before the body was whole.
pub(crate) async fn unwrap(
    request: Request<Incoming>,
) -> Result<Result<HttpRequest, HttpResponse>, hyper::Error> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = match plain_body(&mut parts.headers, body) {
        Ok(body) => body,
        Err(refusal) => return Ok(Err(refusal.response())),
    };
    for name in [CONTENT_SHA256, DECODED_LENGTH, "x-amz-trailer"] {
        parts.headers.remove(name);
    }
    parts.headers.remove(AUTHORIZATION);
    parts.headers.remove(TRANSFER_ENCODING);
    drop_aws_chunked(&mut parts.headers);
    if !body.is_empty() || parts.method == Method::PUT || parts.method == Method::POST {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    Ok(Ok(Request::from_parts(parts, Body::from(body))))
}

/// What S3 answers to a payload that is not what its headers say.
struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn response(&self) -> HttpResponse {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{}</Code><Message>{}</Message></Error>",
            self.code, self.message
        );
        let mut response = Response::new(Body::from(xml));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }
}

/// The payload itself, checked against its hash or freed of its framing.
fn plain_body(headers: &mut HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    let Some(claim) = headers.get(CONTENT_SHA256).and_then(|v| v.to_str().ok()) else {
        return Ok(body);
    };
    if claim.starts_with("STREAMING-") {
        let (body, trailers) = unchunk(body)?;
        let length = headers.get(DECODED_LENGTH).and_then(|v| v.to_str().ok());
        if length.is_some_and(|length| length != body.len().to_string()) {
            return Err(Refusal::new(
                "IncompleteBody",
                "the body is not as long as x-amz-decoded-content-length says",
            ));
        }
        headers.extend(trailers);
        return Ok(body);
    }
    if claim != "UNSIGNED-PAYLOAD"
        && !claim.eq_ignore_ascii_case(&hex::encode(Sha256::digest(&body)))
    {
        return Err(Refusal::new(
            "XAmzContentSHA256Mismatch",
            "the body does not have the hash that x-amz-content-sha256 says",
        ));
    }
    Ok(body)
}

/// Undoes aws-chunked: `hex-length[;signature]\r\n bytes \r\n … 0[;signature]\r\n name:value\r\n … \r\n`.
fn unchunk(mut framed: Bytes) -> Result<(Bytes, HeaderMap), Refusal> {
    let mut plain = BytesMut::new();
    loop {
        let head = take_line(&mut framed)?;
        let length = head.split(';').next().unwrap_or_default();
        let length = usize::from_str_radix(length, 16)
            .map_err(|_| Refusal::new("InvalidRequest", "a chunk's length is not a number"))?;
        if length == 0 {
            break;
        }
        if framed.len() < length {
            return Err(Refusal::new("IncompleteBody", "a chunk is cut off"));
        }
        plain.extend_from_slice(&framed.split_to(length));
        if !take_line(&mut framed)?.is_empty() {
            return Err(Refusal::new(
                "InvalidRequest",
                "a chunk is longer than it says",
            ));
        }
    }
    Ok((plain.freeze(), trailing_checksums(framed)?))
}

/// The trailers that are checksums; the trailers' own signature is dropped with the others.
fn trailing_checksums(mut framed: Bytes) -> Result<HeaderMap, Refusal> {
    let mut trailers = HeaderMap::new();
    while !framed.is_empty() {
        let line = take_line(&mut framed)?;
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if !name.starts_with("x-amz-checksum-") {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value.trim());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Refusal::new("InvalidRequest", "a trailer is not a header"));
        };
        trailers.insert(name, value);
    }
    Ok(trailers)
}

fn take_line(framed: &mut Bytes) -> Result<String, Refusal> {
    let end = framed
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or_else(|| Refusal::new("IncompleteBody", "the aws-chunked body is cut off"))?;
    let line = framed.split_to(end);
    framed.advance(2);
    String::from_utf8(line.to_vec())
        .map_err(|_| Refusal::new("InvalidRequest", "the aws-chunked framing is not text"))
}

/// `aws-chunked` describes the transfer; S3 keeps only the encodings that are the object's.
fn drop_aws_chunked(headers: &mut HeaderMap) {
    let Some(all) = headers.get(CONTENT_ENCODING).and_then(|v| v.to_str().ok()) else {
        return;
    };
    let kept: Vec<&str> = all
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && *encoding != "aws-chunked")
        .collect();
    match HeaderValue::from_str(&kept.join(",")) {
        Ok(value) if !kept.is_empty() => headers.insert(CONTENT_ENCODING, value),
        _ => headers.remove(CONTENT_ENCODING),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_taken_off_and_checksums_kept() {
        let framed = Bytes::from_static(
            b"3;chunk-signature=aa\r\nab\r\r\n2\r\n\ncd\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:ff\r\n\r\n",
        );
        // The second chunk says 2 bytes and carries 3.
        assert!(unchunk(framed).is_err());
        let framed = Bytes::from_static(
            b"3;chunk-signature=aa\r\nab\r\r\n2\r\n\nc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:ff\r\n\r\n",
        );
        let Ok((body, trailers)) = unchunk(framed) else {
            panic!("well-formed framing was refused");
        };
        assert_eq!(&body[..], b"ab\r\nc");
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-amz-checksum-crc32"], "AAAAAA==");
    }

    #[test]
    fn a_cut_off_body_is_refused() {
        for framed in ["", "5\r\nabc", "5\r\nabcde\r\n", "zz\r\n\r\n"] {
            assert!(
                unchunk(Bytes::from_static(framed.as_bytes())).is_err(),
                "{framed:?}"
            );
        }
    }

    #[test]
    fn only_the_transfer_encoding_goes() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_ENCODING,
            HeaderValue::from_static("gzip, aws-chunked"),
        );
        drop_aws_chunked(&mut headers);
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aws-chunked"));
        drop_aws_chunked(&mut headers);
        assert!(!headers.contains_key(CONTENT_ENCODING));
    }
}

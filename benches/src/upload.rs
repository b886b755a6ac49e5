//! Takes in an upload: its framing off, its checksums checked, its bytes counted and mostly dropped.
//!
//! The framing is aws-chunked: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Incoming;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Bodies up to this length are kept by a server that drops the others.
pub const KEPT_BYTES: u64 = 1 << 20;
/// The longest line of framing.
const LINE_BYTES: usize = 8192;
const SHA256: &str = "x-amz-checksum-sha256";
const CRC32: &str = "x-amz-checksum-crc32";

/// An upload that is not what it says, or never came to its end.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The connection broke.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The framing is wrong.
    #[error("the aws-chunked body is malformed: {0}")]
    Framing(&'static str),
    /// There are fewer or more bytes than `x-amz-decoded-content-length` says.
    #[error("the body has {0} bytes, which is not what x-amz-decoded-content-length says")]
    Length(u64),
    /// The bytes do not have the checksum that a header or a trailer says.
    #[error("the body does not have the checksum in {0}")]
    Checksum(&'static str),
}

/// A complete upload whose checksums are right.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The bytes without framing.
    pub bytes: u64,
    /// Of all bytes.
    pub sha256: [u8; 32],
    /// Of all bytes: the `ETag` that S3 gives them.
    pub md5: [u8; 16],
    /// Whether the client sent the SHA-256 for S3 to keep.
    pub sha256_sent: bool,
    /// The bytes, if there are no more than were to be kept.
    pub body: Option<Bytes>,
}

impl Upload {
    /// Reads a body to its end, and keeps it if it has no more than `most_kept` bytes.
    pub async fn receive(
        headers: &HeaderMap,
        mut body: Incoming,
        most_kept: u64,
    ) -> Result<Self, UploadError> {
        let mut payload = Payload::new(most_kept);
        let mut framing = header(headers, "x-amz-content-sha256")
            .is_some_and(|claim| claim.starts_with("STREAMING-"))
            .then(Framing::default);
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame?.into_data() else {
                continue;
            };
            match &mut framing {
                Some(framing) => framing.take(bytes, &mut payload)?,
                None => payload.take(&bytes),
            }
        }
        let mut claims = headers.clone();
        if let Some(framing) = framing {
            claims.extend(framing.finish()?);
        }
        payload.finish(&claims)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[derive(Debug)]
struct Payload {
    most_kept: u64,
    bytes: u64,
    sha256: Sha256,
    md5: Md5,
    crc32: crc32fast::Hasher,
    kept: BytesMut,
}

impl Payload {
    fn new(most_kept: u64) -> Self {
        Self {
            most_kept,
            bytes: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
            crc32: crc32fast::Hasher::new(),
            kept: BytesMut::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.crc32.update(bytes);
        if self.bytes <= self.most_kept {
            self.kept.extend_from_slice(bytes);
        } else {
            self.kept = BytesMut::new();
        }
    }

    /// Compares with what the client claims. Checksums of other algorithms are taken on trust.
    fn finish(self, claims: &HeaderMap) -> Result<Upload, UploadError> {
        let sha256: [u8; 32] = self.sha256.finalize().into();
        let crc32 = self.crc32.finalize().to_be_bytes();
        let sent = header(claims, SHA256);
        if sent.is_some_and(|sent| sent != BASE64.encode(sha256)) {
            return Err(UploadError::Checksum(SHA256));
        }
        if header(claims, CRC32).is_some_and(|sent| sent != BASE64.encode(crc32)) {
            return Err(UploadError::Checksum(CRC32));
        }
        let signed = header(claims, "x-amz-content-sha256").filter(|claim| claim.len() == 64);
        if signed.is_some_and(|claim| !claim.eq_ignore_ascii_case(&hex::encode(sha256))) {
            return Err(UploadError::Checksum("x-amz-content-sha256"));
        }
        let length = header(claims, "x-amz-decoded-content-length");
        if length.is_some_and(|length| length != self.bytes.to_string()) {
            return Err(UploadError::Length(self.bytes));
        }
        Ok(Upload {
            bytes: self.bytes,
            sha256,
            md5: self.md5.finalize().into(),
            sha256_sent: sent.is_some(),
            body: (self.bytes <= self.most_kept).then(|| Bytes::from(self.kept.to_vec())),
        })
    }
}

/// Where in the framing the next byte stands.
#[derive(Debug, Default)]
enum Expected {
    #[default]
    ChunkHead,
    Payload(u64),
    ChunkEnd,
    Trailer,
    Nothing,
}

/// Undoes aws-chunked as it comes: `hex-length[;signature]\r\n bytes \r\n … 0\r\n name:value\r\n … \r\n`.
#[derive(Debug, Default)]
struct Framing {
    expected: Expected,
    line: Vec<u8>,
    trailers: HeaderMap,
}

impl Framing {
    fn take(&mut self, mut bytes: Bytes, payload: &mut Payload) -> Result<(), UploadError> {
        while !bytes.is_empty() {
            if let Expected::Payload(left) = &mut self.expected {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let part = bytes.split_to(bytes.len().min(most));
                payload.take(&part);
                *left -= part.len() as u64;
                if *left == 0 {
                    self.expected = Expected::ChunkEnd;
                }
            } else if let Some(line) = self.take_line(&mut bytes)? {
                self.take_framing(&line)?;
            }
        }
        Ok(())
    }

    /// The next line, once the whole of it is there.
    fn take_line(&mut self, bytes: &mut Bytes) -> Result<Option<String>, UploadError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.split_to(end.unwrap_or(bytes.len()));
        self.line.extend_from_slice(&part);
        if self.line.len() > LINE_BYTES {
            return Err(UploadError::Framing("a line of framing is too long"));
        }
        if end.is_none() {
            return Ok(None);
        }
        bytes.advance(1);
        let mut line = std::mem::take(&mut self.line);
        if line.pop() != Some(b'\r') {
            return Err(UploadError::Framing("a line does not end as it should"));
        }
        let line = String::from_utf8(line);
        line.map(Some)
            .map_err(|_| UploadError::Framing("a line of framing is not text"))
    }

    fn take_framing(&mut self, line: &str) -> Result<(), UploadError> {
        self.expected = match self.expected {
            Expected::ChunkHead => {
                let length = line.split(';').next().unwrap_or_default();
                match u64::from_str_radix(length, 16) {
                    Ok(0) => Expected::Trailer,
                    Ok(length) => Expected::Payload(length),
                    Err(_) => return Err(UploadError::Framing("a length is not a number")),
                }
            }
            Expected::ChunkEnd if line.is_empty() => Expected::ChunkHead,
            Expected::Trailer if line.is_empty() => Expected::Nothing,
            Expected::Trailer => {
                self.take_trailer(line)?;
                Expected::Trailer
            }
            _ => return Err(UploadError::Framing("there is more than the chunks say")),
        };
        Ok(())
    }

    fn take_trailer(&mut self, line: &str) -> Result<(), UploadError> {
        let wrong = UploadError::Framing("a trailer is not a header");
        let Some((name, value)) = line.split_once(':') else {
            return Err(wrong);
        };
        match (
            name.parse::<hyper::header::HeaderName>(),
            value.trim().parse(),
        ) {
            (Ok(name), Ok(value)) => {
                self.trailers.insert(name, value);
                Ok(())
            }
            _ => Err(wrong),
        }
    }

    /// The trailers. The last empty line may be missing: some clients leave it out.
    fn finish(self) -> Result<HeaderMap, UploadError> {
        match self.expected {
            Expected::Trailer | Expected::Nothing if self.line.is_empty() => Ok(self.trailers),
            _ => Err(UploadError::Framing("it ends in the middle")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMED: &str = "4;chunk-signature=aa\r\nab\r\n\r\n1\r\nc\r\n0;chunk-signature=bb\r\nx-amz-checksum-sha256:ZZZ\r\nx-amz-trailer-signature:ff\r\n\r\n";

    /// Feeds `framed` in pieces of `size` bytes.
    fn unframed(framed: &str, size: usize) -> Result<(Payload, HeaderMap), UploadError> {
        let (mut payload, mut framing) = (Payload::new(KEPT_BYTES), Framing::default());
        for piece in framed.as_bytes().chunks(size) {
            framing.take(Bytes::copy_from_slice(piece), &mut payload)?;
        }
        Ok((payload, framing.finish()?))
    }

    #[test]
    fn framing_is_taken_off_however_it_arrives() {
        for size in 1..=FRAMED.len() {
            let (payload, trailers) = unframed(FRAMED, size).unwrap();
            assert_eq!((&payload.kept[..], payload.bytes), (&b"ab\r\nc"[..], 5));
            assert_eq!(trailers[SHA256], "ZZZ");
        }
        let without_last_line = FRAMED.trim_end_matches("\r\n");
        assert!(unframed(&format!("{without_last_line}\r\n"), 7).is_ok());
    }

    #[test]
    fn broken_framing_is_refused() {
        for framed in [
            "",
            "zz\r\n",
            "3\r\nab",
            "3\r\nabc",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "1\r\na\r\n0\r\n\r\nmore\r\n",
            "1\r\na\r\n0\r\nno trailer\r\n\r\n",
            "1\r\na\r\n0\r\nx-amz-checksum-crc32:",
        ] {
            assert!(unframed(framed, 100).is_err(), "{framed:?}");
        }
        assert!(unframed(&"1".repeat(LINE_BYTES + 1), 4096).is_err());
    }

    #[test]
    fn wrong_claims_are_refused() {
        let with_claim = |name: &'static str, value: &str| {
            let mut payload = Payload::new(3);
            payload.take(b"abc");
            payload.finish(&HeaderMap::from_iter([(
                hyper::header::HeaderName::from_static(name),
                value.parse().unwrap(),
            )]))
        };
        let sha256 = Sha256::digest(b"abc");
        for (name, right) in [
            (SHA256, BASE64.encode(sha256)),
            (CRC32, "NSRBwg==".to_owned()),
            ("x-amz-content-sha256", hex::encode(sha256)),
            ("x-amz-decoded-content-length", "3".to_owned()),
        ] {
            let upload = with_claim(name, &right).unwrap();
            assert_eq!(upload.body.as_deref(), Some(&b"abc"[..]));
            assert_eq!(upload.sha256_sent, name == SHA256);
            let wrong = right.replace(['b', '3', 'N'], "a");
            assert!(with_claim(name, &wrong).is_err(), "{name}");
        }
    }

    #[test]
    fn long_bodies_are_dropped() {
        for (most_kept, body) in [(1000, None), (1001, Some(1001))] {
            let mut payload = Payload::new(most_kept);
            payload.take(&[0; 1000]);
            payload.take(b"x");
            let upload = payload.finish(&HeaderMap::new()).unwrap();
            assert_eq!(upload.bytes, 1001);
            assert_eq!(upload.body.map(|body| body.len()), body);
        }
    }
}

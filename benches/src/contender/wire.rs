//! The least that HTTP takes: one connection, blocking calls, no SDK and no runtime.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use thiserror::Error;

/// An answer's head is never as long.
const HEAD_BYTES: usize = 8 << 10;

/// A connection that is kept for all requests.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    host: String,
}

/// A request had no good answer.
#[derive(Debug, Error)]
pub enum WireError {
    /// The connection.
    #[error("the connection: {0}")]
    Io(#[from] io::Error),
    /// The endpoint is not `http://HOST:PORT`.
    #[error("{0:?} is not an endpoint of the form http://HOST:PORT")]
    Endpoint(String),
    /// The head of the answer is not what a replay server sends.
    #[error("the answer's head is not understood: {0:?}")]
    Head(String),
    /// The server refused.
    #[error("the server answered {status}: {body}")]
    Status {
        /// `400 Bad Request`.
        status: String,
        /// Why, as it says.
        body: String,
    },
}

impl Wire {
    /// Connects to `http://HOST:PORT`.
    pub fn connect(endpoint_url: &str) -> Result<Self, WireError> {
        let host = endpoint_url
            .strip_prefix("http://")
            .map(|host| host.trim_end_matches('/'))
            .ok_or_else(|| WireError::Endpoint(endpoint_url.to_owned()))?;
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
        })
    }

    /// Calls an operation of DynamoDB; the answer's body replaces what `into` holds.
    pub fn call(
        &mut self,
        operation: &str,
        body: &str,
        into: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-amz-json-1.0\r\nx-amz-target: DynamoDB_20120810.{operation}\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        self.answer(into)
    }

    /// Reads `/BUCKET/KEY`; the object replaces what `into` holds.
    pub fn get(&mut self, path: &str, into: &mut Vec<u8>) -> Result<(), WireError> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes())?;
        self.answer(into)
    }

    fn answer(&mut self, into: &mut Vec<u8>) -> Result<(), WireError> {
        let mut head = [0; HEAD_BYTES];
        let mut filled = 0;
        let end = loop {
            let room = head.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(room)?;
            filled += read;
            let seen = head.get(..filled).unwrap_or_default();
            if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if read == 0 {
                let text = String::from_utf8_lossy(seen).into_owned();
                return Err(WireError::Head(text));
            }
        };
        let text = String::from_utf8_lossy(head.get(..end).unwrap_or_default());
        let length = content_length(&text).ok_or_else(|| WireError::Head(text.to_string()))?;
        into.clear();
        into.reserve(length);
        into.extend_from_slice(head.get(end + 4..filled).unwrap_or_default());
        let left = length.saturating_sub(into.len()) as u64;
        if (&mut self.stream).take(left).read_to_end(into)? as u64 != left {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let status = text.lines().next().and_then(|line| line.split_once(' '));
        let status = status.map(|(_, status)| status).unwrap_or_default();
        if status.starts_with("200 ") {
            return Ok(());
        }
        Err(WireError::Status {
            status: status.to_owned(),
            body: String::from_utf8_lossy(into).into_owned(),
        })
    }
}

fn content_length(head: &str) -> Option<usize> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

//! A server on this machine that records what it is asked and answers as it is told, faults included.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use highwater_aws::{Clients, ConnectionSettings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The operation of a DynamoDB request.
    pub fn operation(&self) -> &str {
        self.headers["x-amz-target"].rsplit('.').next().unwrap()
    }
}

/// An answer, and how it goes wrong on the way.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Send so many bytes of the body, then hang up.
    cut: Option<usize>,
    /// Send nothing of the body, and do not hang up.
    stalls: bool,
    announce_length: bool,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            stalls: false,
            announce_length: true,
        }
    }

    /// A DynamoDB answer with its checksum.
    pub fn dynamodb(body: &str) -> Self {
        Self::new(200, body).header("x-amz-crc32", &crc32fast::hash(body.as_bytes()).to_string())
    }

    /// A DynamoDB error.
    pub fn refusal(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({
            "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
            "message": message,
        });
        Self::new(status, body.to_string())
    }

    /// An S3 error.
    pub fn s3_refusal(status: u16, code: &str) -> Self {
        Self::new(
            status,
            format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told so</Message></Error>"
            ),
        )
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut_at(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn stalling(mut self) -> Self {
        self.stalls = true;
        self
    }

    pub fn without_length(mut self) -> Self {
        self.announce_length = false;
        self
    }
}

/// The server; it stops when dropped.
pub struct Loopback {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Loopback {
    pub async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    // A client that hangs up in the middle is no concern of a test.
                    let _ = serve(stream, &*answer, &log).await;
                });
            }
        });
        Self { url, asked, task }
    }

    /// Gives these answers one after the other, the last one for ever.
    pub async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<_> = answers.into_iter().collect();
        let next = Mutex::new(0);
        Self::start(move |_| {
            let mut next = next.lock().unwrap();
            let answer = answers[(*next).min(answers.len() - 1)].clone();
            *next += 1;
            answer
        })
        .await
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub async fn clients(&self) -> Clients {
        clients(&self.url).await
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Clients for engines at this URL.
pub async fn clients(endpoint_url: &str) -> Clients {
    Clients::connect(&ConnectionSettings {
        region: Some("eu-north-1".into()),
        endpoint_url: Some(endpoint_url.into()),
        ..ConnectionSettings::default()
    })
    .await
    .unwrap()
}

async fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Asked) -> Answer + Send + Sync),
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut pending = Vec::new();
    while let Some(asked) = read_request(&mut stream, &mut pending).await? {
        log.lock().unwrap().push(asked.clone());
        let answer = answer(&asked);
        let mut head = format!("HTTP/1.1 {} Told\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if answer.announce_length {
            head.extend(["content-length: ", &answer.body.len().to_string(), "\r\n"]);
        } else {
            head.push_str("connection: close\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await?;
        if answer.stalls {
            return std::future::pending().await;
        }
        let sent = answer.cut.unwrap_or(answer.body.len());
        if asked.method != "HEAD" {
            stream.write_all(&answer.body[..sent]).await?;
        }
        stream.flush().await?;
        if answer.cut.is_some() || !answer.announce_length {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

async fn read_request(
    stream: &mut TcpStream,
    pending: &mut Vec<u8>,
) -> std::io::Result<Option<Asked>> {
    let end = loop {
        if let Some(end) = pending.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&pending[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap().split(' ');
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |it| it.parse().unwrap());
    while pending.len() < end + 4 + length {
        if stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    }
    let body = pending[end + 4..end + 4 + length].to_vec();
    pending.drain(..end + 4 + length);
    Ok(Some(Asked {
        method: request.next().unwrap().to_owned(),
        target: request.next().unwrap().to_owned(),
        headers,
        body,
    }))
}

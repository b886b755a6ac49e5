//! A proxy that forbids some operations, as a policy does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Refuses some operations and passes the others on, one request per connection. It stops when dropped.
pub struct DenyingProxy {
    endpoint_url: String,
    largest_body: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl DenyingProxy {
    /// Stands before `upstream`. `denied` are DynamoDB operations by name, or HTTP methods for S3.
    pub async fn start(upstream: &str, denied: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint_url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let largest_body = Arc::new(AtomicUsize::new(0));
        let largest = largest_body.clone();
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, largest) = (upstream.clone(), largest.clone());
                // A client that goes away ends its connection, and no more.
                tokio::spawn(async move { serve(client, &upstream, denied, &largest).await.ok() });
            }
        });
        Self {
            endpoint_url,
            largest_body,
            server,
        }
    }

    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// The bytes of the largest body that came, passed on or not.
    pub fn largest_body(&self) -> usize {
        self.largest_body.load(Ordering::Relaxed)
    }
}

impl Drop for DenyingProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: &str,
    denied: &[&str],
    largest_body: &AtomicUsize,
) -> std::io::Result<()> {
    let Some((head, body)) = read_request(&mut client).await? else {
        return Ok(());
    };
    largest_body.fetch_max(body.len(), Ordering::Relaxed);
    let method = head.split(' ').next().unwrap_or_default();
    let target = header(&head, "x-amz-target").and_then(|target| target.split('.').nth(1));
    let operation = target.unwrap_or(method);
    if denied.contains(&operation) {
        let refusal = refusal(operation, target.is_some());
        return client.write_all(refusal.as_bytes()).await;
    }
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !line.is_empty() && !name.eq_ignore_ascii_case("connection")
    });
    let head: Vec<&str> = kept.chain(["connection: close"]).collect();
    let mut server = TcpStream::connect(upstream).await?;
    server
        .write_all(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes())
        .await?;
    server.write_all(&body).await?;
    tokio::io::copy(&mut server, &mut client).await?;
    client.shutdown().await
}

/// The head as text, and the body. `None` if the client closed without a request.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let mut body = received.split_off(end + 4);
            let head = String::from_utf8_lossy(&received).into_owned();
            let length = header(&head, "content-length").and_then(|length| length.parse().ok());
            let length: usize = length.unwrap_or_default();
            while body.len() < length {
                if client.read_buf(&mut body).await? == 0 {
                    return Ok(None);
                }
            }
            return Ok(Some((head, body)));
        }
        if client.read_buf(&mut received).await? == 0 {
            return Ok(None);
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The refusal as the service words it.
fn refusal(operation: &str, is_dynamodb: bool) -> String {
    let (status, kind, body) = if is_dynamodb {
        let message = format!(
            "User: arn:aws:iam::123456789012:user/reader is not authorized to perform: dynamodb:{operation}"
        );
        let body = serde_json::json!({"__type": "com.amazon.coral.service#AccessDeniedException", "Message": message});
        (
            "400 Bad Request",
            "application/x-amz-json-1.0",
            body.to_string(),
        )
    } else {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        ("403 Forbidden", "application/xml", body.to_owned())
    };
    // An answer to HEAD has no body.
    let body = if operation == "HEAD" { "" } else { &body };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

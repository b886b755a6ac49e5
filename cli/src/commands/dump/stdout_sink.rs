//! A dump on standard output.

use std::io::{self, Write};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::line_sink::LineSink;

/// Standard output. What has gone there cannot be taken back: only the exit code tells whether it is all.
#[derive(Clone, Copy, Debug)]
pub struct StdoutSink;

async fn on_stdout(
    work: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    // A reader that takes its time must not hold the scan's other work up.
    let done = tokio::task::spawn_blocking(move || work(&mut io::stdout().lock())).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull => FailureKind::NotWritable,
            _ => FailureKind::Other,
        };
        let message = match error.kind() {
            io::ErrorKind::BrokenPipe => "its reader has gone before the last item".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(kind, "write", "standard output", message)
    })
}

#[async_trait]
impl LineSink for StdoutSink {
    fn url(&self) -> String {
        "stdout".to_owned()
    }

    async fn write(&self, lines: Bytes) -> Result<(), Failure> {
        on_stdout(move |stdout| stdout.write_all(&lines)).await
    }

    async fn flush(&self) -> Result<(), Failure> {
        on_stdout(Write::flush).await
    }

    async fn commit(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn abandon(&self) -> Result<(), Failure> {
        Ok(())
    }
}

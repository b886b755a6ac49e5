//! One process, its supervisor, and the listener that feeds it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::api::{Api, Event, listen};
use super::{FunctionError, FunctionSpec, lock};

/// The time that Lambda gives a process from its start to its first request for an event.
const INIT: Duration = Duration::from_secs(10);

/// How an invocation of one sandbox ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The function answered, and its process lives on.
    Answered(Result<Value, FunctionError>),
    /// The process is gone, and never took the event.
    Unseen(FunctionError),
    /// The process is gone, and had the event.
    Dead(FunctionError),
}

/// The processes that are alive, by their number.
#[derive(Debug, Default)]
pub(super) struct Live(pub(super) Mutex<BTreeMap<u64, Process>>);

/// A handle on a process that its supervisor owns.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: Option<u32>,
    pub(super) kill: Arc<Notify>,
    pub(super) exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Waits for the end: its status, or `None` if nobody could tell.
    pub(super) async fn exited(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await.ok()?;
        *status
    }

    async fn killed(&self) {
        self.kill.notify_one();
        self.exited().await;
    }
}

/// One process with the listener that feeds it.
#[derive(Debug)]
pub(super) struct Sandbox {
    number: u64,
    live: Arc<Live>,
    pub(super) process: Process,
    events: mpsc::Sender<Event>,
    init_error: watch::Receiver<Option<FunctionError>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        lock(&self.live.0).remove(&self.number);
        // The supervisor owns the child, and the child is killed when it is dropped.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Sandbox {
    pub(super) async fn start(
        spec: &FunctionSpec,
        number: u64,
        live: &Arc<Live>,
        output: &Arc<watch::Sender<String>>,
        told_deadline_ms: Option<u64>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut child = command(spec, number, listener.local_addr()?).spawn()?;
        let (exit, exited) = watch::channel(None);
        let process = Process {
            id: child.id(),
            kill: Arc::default(),
            exit: exited,
        };
        lock(&live.0).insert(number, process.clone());
        let mut tasks = Vec::new();
        // These outlive the sandbox: a process's last words are read to their end, which its death brings.
        if let Some(pipe) = child.stdout.take() {
            tokio::spawn(collect(pipe, Arc::clone(output)));
        }
        if let Some(pipe) = child.stderr.take() {
            tokio::spawn(collect(pipe, Arc::clone(output)));
        }
        tasks.push(tokio::spawn(supervise(
            child,
            Arc::clone(&process.kill),
            exit,
        )));
        let (events, waiting) = mpsc::channel(1);
        let (init, init_error) = watch::channel(None);
        let api = Arc::new(Api::new(&spec.name, waiting, init, told_deadline_ms));
        tasks.push(tokio::spawn(listen(listener, api)));
        Ok(Self {
            number,
            live: Arc::clone(live),
            process,
            events,
            init_error,
            tasks,
        })
    }

    pub(super) async fn invoke(&mut self, payload: Bytes, limit: Duration) -> Ended {
        let id = request_id();
        let (taken, taking) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let event = Event {
            id: id.clone(),
            payload,
            limit,
            taken,
            reply,
        };
        // A closed channel means that the listener is gone, as after a kill; the exit below tells.
        let _ = self.events.send(event).await;
        let deadline = match self.take(&id, taking).await {
            Ok(deadline) => deadline,
            Err(error) => return Ended::Unseen(error),
        };
        tokio::select! {
            biased;
            answered = timeout_at(deadline, answer) => match answered {
                Ok(Ok(answer)) => Ended::Answered(answer),
                Ok(Err(_)) => Ended::Dead(exit_error(&id, self.process.exited().await)),
                Err(_) => {
                    self.process.killed().await;
                    let message = format!(
                        "RequestId: {id} Error: Task timed out after {:.2} seconds", limit.as_secs_f64()
                    );
                    Ended::Dead(FunctionError::new("Sandbox.Timedout", message))
                }
            },
            status = self.process.exited() => Ended::Dead(exit_error(&id, status)),
        }
    }

    /// Waits until the process has taken the event: the moment at which its time is up.
    async fn take(
        &mut self,
        id: &str,
        taking: oneshot::Receiver<Instant>,
    ) -> Result<Instant, FunctionError> {
        let process = self.process.clone();
        let taken = async {
            match taking.await {
                Ok(deadline) => deadline,
                Err(_) => std::future::pending().await,
            }
        };
        let started = timeout(INIT, async {
            tokio::select! {
                biased;
                deadline = taken => Ok(deadline),
                error = init_failure(&mut self.init_error) => Err(error),
                status = process.exited() => Err(exit_error(id, status)),
            }
        })
        .await;
        if let Ok(started) = started {
            return started;
        }
        process.killed().await;
        let message = format!("RequestId: {id} Error: no request for an event within {INIT:?}");
        Err(FunctionError::new("Sandbox.Timedout", message))
    }
}

/// Waits for an init error; for ever if there is none.
async fn init_failure(error: &mut watch::Receiver<Option<FunctionError>>) -> FunctionError {
    loop {
        if let Some(error) = error.borrow_and_update().clone() {
            return error;
        }
        if error.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn command(spec: &FunctionSpec, number: u64, api: SocketAddr) -> Command {
    let mut command = Command::new(&spec.bootstrap);
    command
        .args(&spec.arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs([
            ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
            ("AWS_LAMBDA_FUNCTION_NAME", spec.name.as_str()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("TZ", ":UTC"),
            ("_HANDLER", "bootstrap"),
        ])
        .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
        .env(
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            spec.memory_mb.to_string(),
        )
        .env(
            "AWS_LAMBDA_LOG_GROUP_NAME",
            format!("/aws/lambda/{}", spec.name),
        )
        .env(
            "AWS_LAMBDA_LOG_STREAM_NAME",
            format!("{}[$LATEST]{number}", spec.name),
        )
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Owns the process: waits for its end, and hastens it when asked.
async fn supervise(mut child: Child, kill: Arc<Notify>, exit: watch::Sender<Option<ExitStatus>>) {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = kill.notified() => {
            // An error means that it has ended already.
            let _ = child.start_kill();
            child.wait().await
        }
    };
    // Without a status the sender is dropped, which tells those who wait just as well.
    if let Ok(status) = ended {
        exit.send_replace(Some(status));
    }
}

/// Appends what a process writes to the function's output.
async fn collect(mut pipe: impl AsyncRead + Unpin, output: Arc<watch::Sender<String>>) {
    let mut bytes = [0; 4096];
    loop {
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = poll_fn(|cx| Pin::new(&mut pipe).poll_read(cx, &mut buffer)).await;
        if read.is_err() || buffer.filled().is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(buffer.filled());
        output.send_modify(|written| written.push_str(&text));
    }
}

fn exit_error(id: &str, status: Option<ExitStatus>) -> FunctionError {
    let how = match status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
            (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
            (None, Some(9)) => "Runtime exited with error: signal: killed".to_owned(),
            (None, signal) => format!(
                "Runtime exited with error: signal: {}",
                signal.unwrap_or_default()
            ),
        },
        None => "Runtime exited".to_owned(),
    };
    FunctionError::new("Runtime.ExitError", format!("RequestId: {id} Error: {how}"))
}

fn request_id() -> String {
    let bits = fastrand::u128(..);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xfff,
        (bits >> 48) & 0xfff,
        bits & 0xffff_ffff_ffff
    )
}

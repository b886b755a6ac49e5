//! `highwater follow`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_domain::budget::{Budget, Clock as _};
use highwater_lambda::SystemClock;
use highwater_steps::StopFlag;
use highwater_steps::follow::{self, FollowReport, FollowRequest};
use highwater_steps::replica::apply::ApplyRequest;
use serde_json::{Value, json};

use crate::args::Global;
use crate::args::follow::Follow;
use crate::console::Console;
use crate::error::CliError;
use crate::follow_progress::{FollowDisplay, FollowProgress, mark_words};
use crate::format::{count, seconds};
use crate::live_job::{LiveJob, until_stopped};
use crate::replica_job::{ReplicaJob, fed_value, fed_words, feed_all, follow_and_feed};
use crate::replica_progress::{ReplicaDisplay, ReplicaProgress};
use crate::signals::{Received, Signals};

/// Writes a table's stream to its change log until it is stopped.
pub async fn run(args: &Follow, global: &Global, console: Console) -> Result<(), CliError> {
    if args.apply {
        return Box::pin(with_replicas(args, global, console)).await;
    }
    let request = request(args);
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let progress = Arc::new(FollowProgress::default());
    let opening = LiveJob::open(global, console, &args.sharing, progress.clone(), stop);
    let job = signals.unless_received(Box::pin(opening)).await?;
    console.say(&format!(
        "Following {} to {}, until {}",
        request.table,
        request.to,
        if args.until_idle {
            "all of it is read"
        } else {
            "it is stopped"
        }
    ));
    let started = Instant::now();
    let display = FollowDisplay::start(progress, console);
    let work = follow::run(&job.deps, &request, Budget::UNLIMITED);
    let outcome = until_stopped(&mut signals, console, work).await;
    drop(display);
    report(
        &request,
        &outcome?,
        started.elapsed(),
        signals.received(),
        console,
    );
    Ok(())
}

/// The same, with every replica of the table fed from the log.
async fn with_replicas(args: &Follow, global: &Global, console: Console) -> Result<(), CliError> {
    let request = request(args);
    let stop = StopFlag::default();
    let mut signals = Signals::listen(stop.clone())?;
    let progress = Arc::new(ReplicaProgress::default());
    let opening = ReplicaJob::open(global, console, &args.sharing, progress.clone(), stop);
    let job = signals.unless_received(Box::pin(opening)).await?;
    let source_arn = job.source_arn(&args.table).await?;
    let apply = ApplyRequest {
        worker: args.sharing.worker.clone(),
        until_idle: args.until_idle,
        ..ApplyRequest::default()
    };
    let display = ReplicaDisplay::start(progress.clone(), console);
    let feeding = feed_all(&job.deps, &source_arn, &apply, console);
    let work = Box::pin(follow_and_feed(job.live(), Some(&request), feeding));
    let outcome = until_stopped(&mut signals, console, work).await;
    drop(display);
    let (followed, fed) = outcome?;
    let replicas: Vec<Value> = fed.iter().map(fed_value).collect();
    let text: Vec<String> = fed.iter().map(fed_words).collect();
    let text = match followed.as_ref() {
        Some(report) => format!(
            "Followed {}: {} records written\n{}",
            args.table,
            count(report.records),
            text.join("\n")
        ),
        None => text.join("\n"),
    };
    let value =
        json!({"table": request.table, "to": request.to, "report": followed, "replicas": replicas});
    console.result(&text, &value);
    Ok(())
}

fn request(args: &Follow) -> FollowRequest {
    let new = FollowRequest::new(args.table.clone(), args.to.to_string());
    let new = if args.stream.local_engine {
        new.on_local_engine()
    } else {
        new
    };
    let delay = args.stream.publication_delay.map(milliseconds);
    FollowRequest {
        worker: args.sharing.worker.clone(),
        flush_ms: milliseconds(args.flush),
        publication_ms: delay.unwrap_or(new.publication_ms),
        survey_every_ms: milliseconds(args.survey_every),
        publish_every_ms: milliseconds(args.publish_every),
        until_idle: args.until_idle,
        ..new
    }
}

/// Times on the command line are no longer than a day.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn report(
    request: &FollowRequest,
    report: &FollowReport,
    elapsed: Duration,
    signal: Option<Received>,
    console: Console,
) {
    let value = json!({
        "table": request.table,
        "to": request.to,
        "seconds": elapsed.as_secs_f64(),
        "stopped_by": signal.map(|signal| signal.name),
        "report": report,
    });
    console.result(&words(request, report, elapsed, signal), &value);
}

fn words(
    request: &FollowRequest,
    report: &FollowReport,
    elapsed: Duration,
    signal: Option<Received>,
) -> String {
    let mark = report.mark.as_ref();
    let mark = mark.map_or_else(
        || "no mark yet".to_owned(),
        |mark| mark_words(&mark.mark, SystemClock.now()),
    );
    let end = match signal {
        _ if report.closed => "the stream has ended, and everything of it is in the log".to_owned(),
        Some(signal) => format!("stopped by {}; its shards are handed over", signal.name),
        None => "every shard is read and silent".to_owned(),
    };
    format!(
        "Followed {} ({}) as {} for {}\n  {} records written in {} objects{}, {} shards read to their end, {} incidents\n  {mark}\n  {end}",
        request.table,
        report.stream_label,
        report.worker,
        seconds(elapsed.as_secs_f64()),
        count(report.records),
        count(report.objects),
        match report.repeated {
            0 => String::new(),
            repeated => format!(" ({} were read again)", count(repeated)),
        },
        count(report.shards_ended),
        count(report.incidents),
    )
}

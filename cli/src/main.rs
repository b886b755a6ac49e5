//! `highwater`: the command line.

mod args;
mod backup_place;
mod bucket_marks;
mod commands;
mod compare_progress;
mod comparison;
mod connect;
mod console;
mod demo;
mod dyndump_store;
mod error;
mod follow_progress;
mod format;
mod handoff_line;
mod job;
mod job_log;
mod live_diff_report;
mod live_job;
mod progress;
mod replica_job;
mod replica_progress;
mod restore_report;
mod signals;
mod stack_connection;
mod stack_trouble;
mod status_text;
mod table_places;
mod tasks;
mod watch_outcome;
mod watching;
mod workflow;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::try_read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let console = console::Console::new(args.global.json, args.global.quiet);
    console::start_log(args.global.log.as_deref());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return console.failure(&error::CliError::Runtime(error), &args.global),
    };
    let outcome = runtime.block_on(Box::pin(commands::run(&args, console)));
    // Whatever still runs was given up on; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => console.failure(&error, &args.global),
    }
}

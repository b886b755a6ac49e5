//! One file per command.

mod audit;
pub mod backup;
mod delete;
mod diff;
mod dump;
mod follow;
mod info;
mod list;
mod live_diff;
mod materialize;
mod promote;
mod replicate;
mod restore;
mod start;
mod status;
mod stop;
mod verify;
pub mod watch;

use crate::args::{Args, Command};
use crate::console::Console;
use crate::demo;
use crate::error::CliError;

pub use self::status::TableStatus;

/// Runs the command that was asked for.
pub async fn run(args: &Args, console: Console) -> Result<(), CliError> {
    match &args.command {
        Command::Backup(backup) => backup::run(backup, &args.global, console).await,
        Command::Restore(restore) => restore::run(restore, &args.global, console).await,
        Command::Materialize(it) => materialize::run(it, &args.global, console).await,
        Command::Load(load) => restore::load(load, &args.global, console).await,
        Command::Dump(dump) => Box::pin(dump::run(dump, &args.global, console)).await,
        Command::Verify(verify) => Box::pin(verify::run(verify, &args.global, console)).await,
        Command::Diff(diff) => Box::pin(diff::run(diff, &args.global, console)).await,
        Command::Follow(it) => Box::pin(follow::run(it, &args.global, console)).await,
        Command::Replicate(it) => Box::pin(replicate::run(it, &args.global, console)).await,
        Command::Promote(it) => Box::pin(promote::run(it, &args.global, console)).await,
        Command::Audit(audit) => Box::pin(audit::run(audit, &args.global, console)).await,
        Command::Status(it) => Box::pin(status::run(it, &args.global, console)).await,
        Command::List(list) => list::run(list, &args.global, console).await,
        Command::Info(info) => info::run(info, &args.global, console).await,
        Command::Delete(delete) => delete::run(delete, &args.global, console).await,
        Command::Start(it) => Box::pin(start::run(it, &args.global, console)).await,
        Command::Watch(it) => Box::pin(watch::run(it, &args.global, console)).await,
        Command::Stop(it) => Box::pin(stop::run(it, &args.global, console)).await,
        Command::Demo(demo) => demo::run(demo, console).await,
    }
}

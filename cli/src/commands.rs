//! One file per command.

mod backup;
mod delete;
mod info;
mod list;

use crate::args::{Args, Command};
use crate::console::Console;
use crate::demo;
use crate::error::CliError;

/// Runs the command that was asked for.
pub async fn run(args: &Args, console: Console) -> Result<(), CliError> {
    match &args.command {
        Command::Backup(backup) => backup::run(backup, &args.global, console).await,
        Command::List(list) => list::run(list, &args.global, console).await,
        Command::Info(info) => info::run(info, &args.global, console).await,
        Command::Delete(delete) => delete::run(delete, &args.global, console).await,
        Command::Demo(demo) => demo::run(demo, console).await,
    }
}

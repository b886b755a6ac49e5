//! `highwater materialize`: the restore workflow, into a new snapshot.

use crate::args::Global;
use crate::args::materialize::Materialize;
use crate::commands::restore;
use crate::console::Console;
use crate::error::CliError;

/// Makes a snapshot of what a table was at a second, or goes on with one that was stopped.
pub async fn run(args: &Materialize, global: &Global, console: Console) -> Result<(), CliError> {
    restore::materialize(args, global, console).await
}

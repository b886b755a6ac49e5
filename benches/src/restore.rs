//! `highwater restore`, held against what the table took.

use crate::command::{Highwater, RunError};
use crate::item_sum::ItemSum;
use crate::process::Usage;
use crate::server::ReplayServer;

/// The key of all tables here, for sources that do not name theirs.
const KEY: &str = "pk:S";

/// Restores a backup of any kind into the new table `target`, which must then hold `expected`.
///
/// `knows_its_key` is false for lines, which need to be told.
pub async fn run(
    highwater: &Highwater,
    server: &ReplayServer,
    (backup, knows_its_key): (&str, bool),
    target: &str,
    expected: ItemSum,
) -> Result<Usage, RunError> {
    let mut arguments = vec!["restore", backup, "--to", target, "--engine", "write"];
    if !knows_its_key {
        arguments.extend(["--key", KEY]);
    }
    let ended = highwater.run(arguments, 0).await?;
    require_written(server, target, expected)?;
    ended.require(&[
        ("items read", "/totals/read", expected.items),
        ("items written", "/totals/written", expected.items),
    ])?;
    ended.require_answer("/balanced", true)?;
    Ok(ended.usage)
}

/// Restores a backup into the table `target`, which is there, item by item on the condition that each is absent.
pub async fn run_put_by_put(
    highwater: &Highwater,
    server: &ReplayServer,
    backup: &str,
    target: &str,
    expected: ItemSum,
) -> Result<Usage, RunError> {
    // Makes the table, and nothing in it.
    let none = ["--key-filter", "pk=none"];
    let _ = none;
    let ended = highwater
        .run(["restore", backup, "--to", target, "--into-existing"], 0)
        .await?;
    require_written(server, target, expected)?;
    ended.require(&[("items written", "/totals/written", expected.items)])?;
    ended.require_answer("/balanced", true)?;
    Ok(ended.usage)
}

fn require_written(
    server: &ReplayServer,
    target: &str,
    expected: ItemSum,
) -> Result<(), RunError> {
    let written = server.written(target).unwrap_or_default();
    if written == expected {
        return Ok(());
    }
    Err(RunError::Written { written, expected })
}

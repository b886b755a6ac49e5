//! `highwater restore`, held against what the table took.

use crate::command::{Highwater, RunError};
use crate::item_sum::ItemSum;
use crate::process::Usage;
use crate::server::ReplayServer;

/// What is restored.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A backup of any kind.
    pub backup: &'a str,
    /// Its key, `pk:S`, where it does not name it itself.
    pub key: Option<&'a str>,
}

/// Restores into the new table `target`, which must then hold `expected`.
pub async fn run(
    highwater: &Highwater,
    server: &ReplayServer,
    source: Source<'_>,
    target: &str,
    expected: ItemSum,
) -> Result<Usage, RunError> {
    let Source { backup, key } = source;
    let mut arguments = vec!["restore", backup, "--to", target, "--engine", "write"];
    arguments.extend(key.into_iter().flat_map(|key| ["--key", key]));
    let ended = highwater.run(arguments, 0).await?;
    require_written(server, target, expected)?;
    ended.require(&[
        ("items read", "/totals/read", expected.items),
        ("items written", "/totals/written", expected.items),
    ])?;
    ended.require_answer("/balanced", true)?;
    Ok(ended.usage)
}

/// Makes the table `target` and restores a backup into it as into one that exists: each item is a request of its
/// own, on the condition that it is absent. The table must then hold `expected`.
pub async fn run_put_by_put(
    highwater: &Highwater,
    server: &ReplayServer,
    backup: &str,
    target: &str,
    expected: ItemSum,
) -> Result<Usage, RunError> {
    server.make_table(target);
    let ended = highwater
        .run(["restore", backup, "--to", target, "--into-existing"], 0)
        .await?;
    require_written(server, target, expected)?;
    ended.require(&[("items written", "/totals/written", expected.items)])?;
    ended.require_answer("/balanced", true)?;
    Ok(ended.usage)
}

fn require_written(server: &ReplayServer, target: &str, expected: ItemSum) -> Result<(), RunError> {
    let written = server.written(target).unwrap_or_default();
    if written == expected {
        return Ok(());
    }
    Err(RunError::Written { written, expected })
}

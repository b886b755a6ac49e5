//! `highwater verify` and `highwater diff`, held against what is known of their sides.

use crate::command::{Highwater, RunError};
use crate::item_sum::ItemSum;
use crate::process::Usage;

/// Reads a backup again, which must be good and have these items.
pub async fn verify(
    highwater: &Highwater,
    backup: &str,
    expected: ItemSum,
) -> Result<Usage, RunError> {
    let ended = highwater.run(["verify", backup], 0).await?;
    ended.require_answer("/good", true)?;
    ended.require(&[("items", "/report/totals/items", expected.items)])?;
    Ok(ended.usage)
}

/// Compares two tables or backups of which both have these items.
pub async fn equal(
    highwater: &Highwater,
    (a, b): (&str, &str),
    expected: ItemSum,
) -> Result<Usage, RunError> {
    let ended = highwater.run(["diff", a, b], 0).await?;
    ended.require_answer("/equal", true)?;
    ended.require(&[
        ("items of A", "/a/items", expected.items),
        ("items of B", "/b/items", expected.items),
        ("bytes of A", "/a/bytes", expected.bytes),
        ("bytes of B", "/b/bytes", expected.bytes),
    ])?;
    Ok(ended.usage)
}

/// Compares two tables or backups that have no item in common; so all of both are sorted.
pub async fn different(
    highwater: &Highwater,
    [(a, in_a), (b, in_b)]: [(&str, ItemSum); 2],
) -> Result<Usage, RunError> {
    // Compared and different.
    let ended = highwater.run(["diff", a, b], 3).await?;
    ended.require_answer("/equal", false)?;
    ended.require(&[
        ("items of A", "/a/items", in_a.items),
        ("items of B", "/b/items", in_b.items),
        ("keys only in A", "/counts/only_in_a", in_a.items),
        ("keys only in B", "/counts/only_in_b", in_b.items),
        ("keys that differ", "/keys", in_a.items + in_b.items),
    ])?;
    Ok(ended.usage)
}

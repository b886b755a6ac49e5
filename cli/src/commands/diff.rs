//! `highwater diff`.

use highwater_domain::ids::{SnapshotId, TableRef};
use highwater_steps::StopFlag;

use super::live_diff;
use crate::args::Global;
use crate::args::diff::Diff;
use crate::comparison::{self, Named, SideArgs};
use crate::console::Console;
use crate::error::CliError;
use crate::signals::Signals;

/// Compares two tables or backups.
pub async fn run(args: &Diff, global: &Global, console: Console) -> Result<(), CliError> {
    if args.live.live {
        return Box::pin(live_diff::run(args, global, console)).await;
    }
    if args.live.repair || args.live.dry_run {
        return Err(CliError::Usage(
            "--repair and --dry-run are for a live replica: give --live, too".into(),
        ));
    }
    let places = &args.places;
    let side = |text: &str, endpoint: &Option<String>, region: &Option<String>, profile| {
        let named = named(text)?;
        let global = elsewhere(global, endpoint.as_ref(), region.as_ref(), profile);
        Ok::<_, CliError>(SideArgs {
            named,
            from: args.from.clone(),
            global,
        })
    };
    let a = side(
        &args.a,
        &places.a_endpoint_url,
        &places.a_region,
        places.a_profile.as_ref(),
    )?;
    let b = side(
        &args.b,
        &places.b_endpoint_url,
        &places.b_region,
        places.b_profile.as_ref(),
    )?;
    let mut signals = Signals::listen(StopFlag::default())?;
    let compared = Box::pin(comparison::run(
        &a,
        &b,
        &args.reading,
        &args.result,
        console,
    ));
    signals.unless_received(compared).await
}

/// A plain name is a table's; an id, a URL and whatever has a slash in it is a backup's.
pub fn named(text: &str) -> Result<Named, CliError> {
    let arn = text.starts_with("arn:");
    if !arn && (text.contains('/') || text == "-" || text.parse::<SnapshotId>().is_ok()) {
        return Ok(Named::Backup(text.to_owned()));
    }
    match text.parse::<TableRef>() {
        Ok(table) => Ok(Named::Table(table)),
        Err(error) => Err(CliError::Usage(format!(
            "{error}; a backup is an id, a URL, or a path with a slash in it: ./{text}"
        ))),
    }
}

/// The connection of one side. An endpoint of its own is that of both services.
fn elsewhere(
    global: &Global,
    endpoint_url: Option<&String>,
    region: Option<&String>,
    profile: Option<&String>,
) -> Global {
    let mut global = global.clone();
    if let Some(url) = endpoint_url {
        global.endpoint_url = Some(url.clone());
        global.s3_endpoint_url = None;
    }
    global.region = region.cloned().or(global.region);
    global.profile = profile.cloned().or(global.profile);
    global
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        for text in [
            "01768385930622-efd1a093",
            "s3://bucket/key",
            "file:///var/backups",
            "./movies.json",
            "../movies",
            "backups/movies.json",
            "/var/movies.json",
            "-",
        ] {
            assert_eq!(named(text).unwrap(), Named::Backup(text.to_owned()));
        }
        for text in [
            "orders",
            "movies.json",
            "arn:aws:dynamodb:eu-north-1:123456789012:table/orders",
        ] {
            assert_eq!(named(text).unwrap(), Named::Table(text.parse().unwrap()));
        }
        for text in ["", "x", "two words", "arn:aws:s3:::bucket"] {
            assert!(matches!(named(text), Err(CliError::Usage(_))), "{text}");
        }
    }
}

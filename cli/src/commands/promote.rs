//! `highwater promote`.

use std::sync::Arc;

use highwater_domain::budget::Clock as _;
use highwater_domain::replica::FenceMode;
use highwater_lambda::SystemClock;
use highwater_steps::StopFlag;
use highwater_steps::replica::promote::{self, Caught};
use serde_json::json;

use crate::args::Global;
use crate::args::follow::Sharing;
use crate::args::replicate::Promote;
use crate::console::Console;
use crate::error::CliError;
use crate::format::count;
use crate::replica_job::ReplicaJob;
use crate::replica_progress::{ReplicaProgress, standing_words};

/// Lets a replica stand by itself.
pub async fn run(args: &Promote, global: &Global, console: Console) -> Result<(), CliError> {
    let progress = Arc::new(ReplicaProgress::default());
    let sharing = Sharing::default();
    let job = ReplicaJob::open(
        global,
        console,
        &sharing,
        progress.clone(),
        StopFlag::default(),
    );
    let job = Box::pin(job).await?;
    let source_arn = job.source_arn(&args.table).await?;
    let record = job.find(&source_arn, &args.to).await?;
    let caught = if args.as_it_is {
        Caught::AsItIs
    } else {
        Caught::WithinSeconds(args.most_lag.as_secs())
    };
    if args.dry_run {
        let may = promote::check(&job.deps, &record, caught);
        let words = match &may {
            Ok(()) => "it could be promoted".to_owned(),
            Err(reason) => format!("it would not be promoted: {reason}"),
        };
        let stands = standing_words(&record, SystemClock.now());
        let text = format!(
            "{} is a replica of {source_arn}: {stands}\n  {words}\n  Nothing was changed.",
            record.target
        );
        let value =
            json!({"replica": record, "may_be_promoted": may.is_ok(), "why_not": may.err()});
        console.result(&text, &value);
        return Ok(());
    }
    let promoted = promote::run(&job.deps, &record, caught).await?;
    let stripped = progress.stripped();
    let taken_out = match promoted.fence {
        FenceMode::Table => String::new(),
        FenceMode::Attribute => format!(
            "\n  the order was taken out of {} items, and {} tombstones are gone",
            count(stripped.items),
            count(stripped.tombstones)
        ),
    };
    let text = format!(
        "Promoted {}: it stands by itself\n  its fences {} are deleted, nothing of {source_arn} is applied to it any more{taken_out}",
        promoted.target,
        promoted.fence_table(),
    );
    console.result(&text, &json!({"replica": promoted, "stripped": stripped}));
    Ok(())
}

//! One attempt of a Map state: its inner state machine, for every item of a list.

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use crate::definition::{Concurrency, Map, Mode};
use crate::error::{ExecutionFailed, names};
use crate::limit;
use crate::path::Context;
use crate::visit::Visit;
use crate::walk::Walker;

/// How many iterations of an inline Map Step Functions runs at once when it may choose:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html>.
const INLINE_CONCURRENCY: usize = 40;

/// How many child executions of a distributed one:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html>.
const DISTRIBUTED_CONCURRENCY: usize = 10_000;

impl Walker<'_> {
    /// Runs every iteration; the first that fails stops the others and is the Map's own failure.
    pub(crate) async fn map(
        &self,
        visit: &Visit<'_, '_>,
        map: &Map,
    ) -> Result<Value, ExecutionFailed> {
        let input = visit.effective_input()?;
        let items = visit.resolve("ItemsPath", &map.items_path, &input)?;
        let Value::Array(items) = items.as_ref() else {
            let cause = format!("ItemsPath: the value at {} is no list", map.items_path);
            return Err(visit.runtime(cause));
        };
        let limit = concurrency(visit, map, &input)?;
        let mut results = vec![Value::Null; items.len()];
        let mut waiting = items.iter().enumerate();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < limit
                && let Some((index, item)) = waiting.next()
            {
                let own = iteration_input(visit, map, &input, index, item)?;
                let iteration: BoxFuture<'_, _> = match map.mode {
                    Mode::Inline => self.run(&map.processor, own, Some((index, item))),
                    Mode::Distributed => {
                        Box::pin(self.run_child(&map.processor, own, (visit.name, index)))
                    }
                };
                running.push(async move { (index, iteration.await) });
            }
            match running.next().await {
                None => break,
                Some((index, Ok(result))) => results[index] = result,
                Some((_, Err(failure))) if map.mode == Mode::Inline => return Err(failure),
                Some((_, Err(_))) => return Err(child_failed(visit)),
            }
        }
        let result = Value::Array(results);
        if map.mode == Mode::Distributed {
            limit::check(visit.name, "list of the children's outputs", &result)?;
        }
        let selected = match &map.outcome.selector {
            Some(template) => visit.fill("ResultSelector", template, &result)?,
            None => result,
        };
        visit.output(visit.place(&map.outcome.result_path, selected)?)
    }
}

/// What a distributed Map says of a failed child: not what failed it.
fn child_failed(visit: &Visit<'_, '_>) -> ExecutionFailed {
    ExecutionFailed::named(
        visit.name,
        names::EXCEED_TOLERATED_FAILURE_THRESHOLD,
        "The specified tolerated failure threshold was exceeded",
    )
}

fn iteration_input(
    visit: &Visit<'_, '_>,
    map: &Map,
    input: &Value,
    index: usize,
    item: &Value,
) -> Result<Value, ExecutionFailed> {
    let Some(template) = &map.item_selector else {
        return Ok(item.clone());
    };
    let inside = Visit {
        name: visit.name,
        state: visit.state,
        input: visit.input,
        index: Some(index),
        context: Context {
            item: Some((index, item)),
            ..visit.context
        },
    };
    inside.fill("ItemSelector", template, input)
}

fn concurrency(visit: &Visit<'_, '_>, map: &Map, input: &Value) -> Result<usize, ExecutionFailed> {
    let limit = match &map.concurrency {
        Concurrency::Fixed(limit) => *limit,
        Concurrency::Path(path) => visit
            .resolve("MaxConcurrencyPath", path, input)?
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or_else(|| {
                visit.runtime(format!(
                    "MaxConcurrencyPath: the value at {path} is no whole number from 0"
                ))
            })?,
    };
    Ok(match (limit, map.mode) {
        (0, Mode::Inline) => INLINE_CONCURRENCY,
        (0, Mode::Distributed) => DISTRIBUTED_CONCURRENCY,
        (limit, _) => limit,
    })
}

//! A Map state, inline or distributed.

use super::{Result, Substitutions, outcome, states};
use crate::definition::{Concurrency, Map, Mode, StateMachine};
use crate::fields::Fields;
use crate::path::Path;

/// The longest `Label`, in letters.
const LABEL_LETTERS: usize = 40;

/// A Map state.
pub(super) fn map(fields: &mut Fields, substitutions: &Substitutions) -> Result<Map> {
    let fixed = fields.integer("MaxConcurrency", 0)?;
    let concurrency = match (fixed, fields.path("MaxConcurrencyPath")?) {
        (Some(_), Some(_)) => {
            return Err(fields.invalid("MaxConcurrency", "MaxConcurrencyPath stands beside it"));
        }
        (None, Some(path)) => Concurrency::Path(path),
        (fixed, None) => Concurrency::Fixed(fixed.unwrap_or(0) as usize),
    };
    let (mode, processor) = processor(fields, substitutions)?;
    if mode == Mode::Distributed {
        distributed(fields)?;
    }
    Ok(Map {
        mode,
        items_path: fields.path("ItemsPath")?.unwrap_or_else(Path::whole),
        item_selector: fields.template("ItemSelector")?,
        concurrency,
        processor,
        outcome: outcome(fields)?,
    })
}

/// The fields that only a distributed Map has, as far as they change nothing here.
fn distributed(fields: &mut Fields) -> Result<()> {
    if let Some(label) = fields.text("Label")?
        && (label.is_empty() || label.chars().count() > LABEL_LETTERS)
    {
        let reason = format!("it must be 1 to {LABEL_LETTERS} letters long");
        return Err(fields.invalid("Label", reason));
    }
    for field in ["ToleratedFailureCount", "ToleratedFailurePercentage"] {
        if fields
            .integer(field, 0)?
            .is_some_and(|tolerated| tolerated > 0)
        {
            return Err(fields.unsupported(field, "no failure is tolerated here"));
        }
    }
    Ok(())
}

fn processor(fields: &mut Fields, substitutions: &Substitutions) -> Result<(Mode, StateMachine)> {
    let name = "ItemProcessor";
    let value = fields.value(name).ok_or_else(|| fields.missing(name))?;
    let mut inner = Fields::new(fields.state(), name, value)?;
    inner.text("Comment")?;
    let mode = match inner.value("ProcessorConfig") {
        None => Mode::Inline,
        Some(config) => {
            let place = inner.place("ProcessorConfig");
            let mut config = Fields::new(inner.state(), &place, config)?;
            let mode = mode(&mut config)?;
            config.finish()?;
            mode
        }
    };
    let machine = states(&mut inner, substitutions)?;
    inner.finish()?;
    Ok((mode, machine))
}

fn mode(config: &mut Fields) -> Result<Mode> {
    match config.text("Mode")?.as_deref() {
        None | Some("INLINE") => Ok(Mode::Inline),
        Some("DISTRIBUTED") => match config.required_text("ExecutionType")?.as_str() {
            "STANDARD" => Ok(Mode::Distributed),
            other => Err(config.unsupported("ExecutionType", format!("{other} is not STANDARD"))),
        },
        Some(other) => {
            Err(config.unsupported("Mode", format!("{other} is not INLINE nor DISTRIBUTED")))
        }
    }
}

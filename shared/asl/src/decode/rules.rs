//! The rules of a Choice state.

use serde_json::Value;

use super::{Result, entries};
use crate::choice::{Comparison, Condition, Rule};
use crate::definition::Choice;
use crate::fields::Fields;

/// The rules of a Choice state, with its `Default`.
pub(super) fn choice(fields: &mut Fields) -> Result<Choice> {
    let rules = entries(fields, "Choices", |rule| {
        rule.text("Comment")?;
        Ok(Rule {
            next: rule.required_text("Next")?,
            condition: condition(rule)?,
        })
    })?;
    if rules.is_empty() {
        return Err(fields.missing("Choices"));
    }
    Ok(Choice {
        rules,
        default: fields.required_text("Default")?,
    })
}

fn condition(fields: &mut Fields) -> Result<Condition> {
    for (field, combine) in [
        ("And", Condition::And as fn(Vec<Condition>) -> Condition),
        ("Or", Condition::Or),
    ] {
        let conditions = entries(fields, field, condition)?;
        if !conditions.is_empty() {
            return Ok(combine(conditions));
        }
    }
    if let Some(negated) = fields.value("Not") {
        let place = fields.place("Not");
        let mut inner = Fields::new(fields.state(), &place, negated)?;
        let negated = condition(&mut inner)?;
        inner.finish()?;
        return Ok(Condition::Not(Box::new(negated)));
    }
    let variable = fields
        .path("Variable")?
        .ok_or_else(|| fields.missing("Variable"))?;
    Ok(Condition::Compare {
        variable,
        comparison: comparison(fields)?,
    })
}

fn comparison(fields: &mut Fields) -> Result<Comparison> {
    if let Some(operand) = fields.boolean("IsPresent")? {
        return Ok(Comparison::IsPresent(operand));
    }
    if let Some(operand) = fields.boolean("BooleanEquals")? {
        return Ok(Comparison::BooleanEquals(operand));
    }
    if let Some(operand) = fields.text("StringEquals")? {
        return Ok(Comparison::StringEquals(operand));
    }
    for (field, compare) in [
        (
            "NumericEquals",
            Comparison::NumericEquals as fn(serde_json::Number) -> Comparison,
        ),
        ("NumericLessThan", Comparison::NumericLessThan),
        ("NumericGreaterThan", Comparison::NumericGreaterThan),
    ] {
        match fields.value(field) {
            None => {}
            Some(Value::Number(operand)) => return Ok(compare(operand)),
            Some(_) => return Err(fields.invalid(field, "it must be a number")),
        }
    }
    Err(fields.unsupported(
        "Variable",
        "it is compared by no operator that is known here",
    ))
}

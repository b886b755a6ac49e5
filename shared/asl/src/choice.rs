//! Choice rules: which way a Choice state goes.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::path::{Path, Scope};

/// One entry of `Choices`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// When it applies.
    pub condition: Condition,
    /// Where it leads.
    pub next: String,
}

/// A test on the state's input.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `And`: all of them hold.
    And(Vec<Condition>),
    /// `Or`: one of them holds.
    Or(Vec<Condition>),
    /// `Not`: it does not hold.
    Not(Box<Condition>),
    /// A comparison of the value at `Variable`.
    Compare {
        /// `Variable`.
        variable: Path,
        /// The operator with its operand.
        comparison: Comparison,
    },
}

/// An operator with its operand. A value of another type never matches.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// `IsPresent`.
    IsPresent(bool),
    /// `BooleanEquals`.
    BooleanEquals(bool),
    /// `StringEquals`.
    StringEquals(String),
    /// `NumericEquals`.
    NumericEquals(Number),
    /// `NumericLessThan`.
    NumericLessThan(Number),
    /// `NumericGreaterThan`.
    NumericGreaterThan(Number),
}

impl Condition {
    /// Whether it holds, or the `Variable` that has no value.
    pub(crate) fn holds(&self, scope: Scope<'_>) -> Result<bool, Path> {
        match self {
            Self::And(conditions) => {
                for condition in conditions {
                    if !condition.holds(scope)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Or(conditions) => {
                for condition in conditions {
                    if condition.holds(scope)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(condition) => condition.holds(scope).map(|holds| !holds),
            Self::Compare {
                variable,
                comparison,
            } => {
                let value = variable.resolve(scope);
                match (comparison, value) {
                    (Comparison::IsPresent(wanted), value) => Ok(value.is_some() == *wanted),
                    (_, None) => Err(variable.clone()),
                    (comparison, Some(value)) => Ok(comparison.matches(&value)),
                }
            }
        }
    }
}

impl Comparison {
    fn matches(&self, value: &Value) -> bool {
        let order = |operand: &Number| {
            value
                .as_number()
                .and_then(|value| numeric_order(value, operand))
        };
        match self {
            Self::IsPresent(wanted) => *wanted,
            Self::BooleanEquals(operand) => value.as_bool() == Some(*operand),
            Self::StringEquals(operand) => value.as_str() == Some(operand.as_str()),
            Self::NumericEquals(operand) => order(operand) == Some(Ordering::Equal),
            Self::NumericLessThan(operand) => order(operand) == Some(Ordering::Less),
            Self::NumericGreaterThan(operand) => order(operand) == Some(Ordering::Greater),
        }
    }
}

/// Integers are compared as integers: beyond 2^53 a float would call neighbours equal.
fn numeric_order(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Context;
    use serde_json::json;

    fn compare(variable: &str, comparison: Comparison) -> Condition {
        Condition::Compare {
            variable: variable.parse().unwrap(),
            comparison,
        }
    }

    fn holds(condition: &Condition, data: &Value) -> Result<bool, String> {
        let context = Context {
            execution_id: "run",
            start_time: Some("now"),
            execution_input: &Value::Null,
            state: "S",
            item: None,
        };
        condition
            .holds(Scope { data, context })
            .map_err(|path| path.to_string())
    }

    fn number(value: &Value) -> Number {
        value.as_number().unwrap().clone()
    }

    #[test]
    fn comparisons_match_their_own_type_only() {
        let data = json!({"t": true, "s": "x", "n": 5, "f": 5.5, "big": 9_007_199_254_740_993_u64});
        for (variable, comparison, expected) in [
            ("$.t", Comparison::BooleanEquals(true), true),
            ("$.t", Comparison::BooleanEquals(false), false),
            ("$.s", Comparison::BooleanEquals(true), false),
            ("$.s", Comparison::StringEquals("x".into()), true),
            ("$.t", Comparison::StringEquals("true".into()), false),
            ("$.n", Comparison::NumericEquals(number(&json!(5.0))), true),
            ("$.n", Comparison::NumericLessThan(number(&json!(5))), false),
            ("$.n", Comparison::NumericLessThan(number(&json!(6))), true),
            (
                "$.f",
                Comparison::NumericGreaterThan(number(&json!(5))),
                true,
            ),
            (
                "$.s",
                Comparison::NumericGreaterThan(number(&json!(5))),
                false,
            ),
            (
                "$.big",
                Comparison::NumericEquals(number(&json!(9_007_199_254_740_992_u64))),
                false,
            ),
        ] {
            let condition = compare(variable, comparison);
            assert_eq!(holds(&condition, &data), Ok(expected), "{condition:?}");
        }
    }

    #[test]
    fn a_missing_variable_is_an_error_except_for_is_present() {
        let data = json!({"a": null});
        assert_eq!(
            holds(&compare("$.b", Comparison::BooleanEquals(true)), &data),
            Err("$.b".into())
        );
        for (variable, wanted, expected) in [
            ("$.a", true, true),
            ("$.a", false, false),
            ("$.b", true, false),
            ("$.b", false, true),
        ] {
            let condition = compare(variable, Comparison::IsPresent(wanted));
            assert_eq!(
                holds(&condition, &data),
                Ok(expected),
                "{variable} {wanted}"
            );
        }
    }

    #[test]
    fn and_or_stop_at_the_first_answer_so_that_presence_can_guard() {
        let present = compare("$.a", Comparison::IsPresent(true));
        let value = compare("$.a", Comparison::NumericEquals(number(&json!(1))));
        let both = Condition::And(vec![present.clone(), value.clone()]);
        assert_eq!(holds(&both, &json!({})), Ok(false));
        assert_eq!(holds(&both, &json!({"a": 1})), Ok(true));
        let absent_or_one = Condition::Or(vec![Condition::Not(Box::new(present)), value]);
        assert_eq!(holds(&absent_or_one, &json!({})), Ok(true));
        assert_eq!(holds(&absent_or_one, &json!({"a": 2})), Ok(false));
    }
}

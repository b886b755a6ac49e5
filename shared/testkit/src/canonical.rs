//! One form for all spellings of an item, to compare what was written with what came back.

use highwater_domain::number::CanonicalNumber;
use serde_json::Value;

/// An item's value with everything that may differ between equal items made the same: the order of
/// members and of set elements, and the spelling of strings and numbers.
#[must_use]
pub fn canonical(item: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(item).expect("an item is JSON");
    let members = value.as_object_mut().expect("an item is an object");
    members.values_mut().for_each(make_canonical);
    value
}

fn make_canonical(attribute: &mut Value) {
    let members = attribute.as_object_mut().expect("a value is an object");
    for (kind, value) in members {
        match (kind.as_str(), value) {
            ("N", Value::String(digits)) => *digits = canonical_number(digits),
            ("NS", Value::Array(numbers)) => {
                for number in numbers.iter_mut() {
                    *number = canonical_number(number.as_str().unwrap_or_default()).into();
                }
                sort_texts(numbers);
            }
            ("SS" | "BS", Value::Array(texts)) => sort_texts(texts),
            ("L", Value::Array(values)) => values.iter_mut().for_each(make_canonical),
            ("M", Value::Object(members)) => members.values_mut().for_each(make_canonical),
            _ => {}
        }
    }
}

fn sort_texts(texts: &mut [Value]) {
    texts.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
}

/// Sign, digits without zeros at either end, and the power of ten that they stand for.
#[must_use]
pub fn canonical_number(text: &str) -> String {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let mut exponent: i32 = exponent.parse().expect("an exponent is a number");
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches(['-', '+']);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent -= i32::try_from(fraction.len()).expect("a fraction is short");
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    exponent += i32::try_from(digits.len() - kept.len()).expect("a number is short");
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return "0".to_owned();
    }
    let sign = if negative { "-" } else { "" };
    format!("{sign}{kept}e{exponent}")
}

/// A number without exponent and needless zeros; what is no number stays as it is.
pub(crate) fn plain_number(text: &str) -> String {
    let Some(number) = CanonicalNumber::parse(text) else {
        return text.to_owned();
    };
    let sign = if number.negative { "-" } else { "" };
    let digits = number.digits;
    if digits.is_empty() {
        return "0".to_owned();
    }
    match usize::try_from(number.exponent) {
        Ok(whole) if whole >= digits.len() => format!("{sign}{digits:0<whole$}"),
        Ok(0) => format!("{sign}0.{digits}"),
        Ok(whole) => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
        Err(_) => {
            let zeros = usize::try_from(-number.exponent).expect("a number is short");
            format!("{sign}0.{}{digits}", "0".repeat(zeros))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_canonical_form() {
        for same in [
            ["1.50", "15e-1"],
            ["-0", "0.00"],
            ["100", "1E+2"],
            ["-007.0", "-7"],
        ] {
            assert_eq!(canonical_number(same[0]), canonical_number(same[1]));
        }
        for other in [["1", "-1"], ["1", "10"], ["1.5", "1.05"], ["0", "1E-130"]] {
            assert_ne!(canonical_number(other[0]), canonical_number(other[1]));
        }
    }

    #[test]
    fn a_number_has_one_plain_spelling() {
        for (spelling, plain) in [
            ("1E+2", "100"),
            ("-007.50", "-7.5"),
            ("5e-3", "0.005"),
            ("0.5", "0.5"),
            ("-0", "0"),
            (
                "12345678901234567890123456789012345678",
                "12345678901234567890123456789012345678",
            ),
            ("none", "none"),
        ] {
            assert_eq!(plain_number(spelling), plain);
        }
    }

    #[test]
    fn order_and_spelling_do_not_count_and_values_do() {
        let one = br#"{"m":{"M":{"a":{"N":"1.0"},"b":{"S":"\u0041"}}},"s":{"SS":["x","y"]}}"#;
        let same = br#"{"s":{"SS":["y","x"]},"m":{"M":{"b":{"S":"A"},"a":{"N":"1"}}}}"#;
        let list = br#"{"m":{"M":{"a":{"N":"1"},"b":{"S":"A"}}},"s":{"L":[{"S":"x"},{"S":"y"}]}}"#;
        assert_eq!(canonical(one), canonical(same));
        assert_ne!(canonical(one), canonical(list));
    }
}

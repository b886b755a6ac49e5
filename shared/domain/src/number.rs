//! DynamoDB numbers as text: up to 38 significant digits, compared without arithmetic.

/// A number in one spelling: sign, digits without zeros at either end, and the power of ten behind them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalNumber {
    /// Below zero.
    pub negative: bool,
    /// Significant digits; empty for zero.
    pub digits: String,
    /// The number is `0.digits × 10^exponent`; 0 for zero.
    pub exponent: i64,
}

impl CanonicalNumber {
    /// Reads what DynamoDB accepts in an `N`: `12`, `-0.5`, `.5`, `5.`, `1E+3`, `1e-3`. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, power) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], power_of_ten(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let leading = digits.len() - digits.trim_start_matches('0').len();
        let digits = digits.trim_matches('0');
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        let exponent = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()? + power;
        Some(Self {
            negative,
            digits: digits.to_owned(),
            exponent,
        })
    }
}

fn power_of_ten(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // `i64` would take a sign of its own.
    if !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let power = unsigned
        .parse::<i64>()
        .ok()
        .filter(|power| *power < 1_000_000)?;
    Some(if text.starts_with('-') { -power } else { power })
}

/// Whether two texts spell one number. Texts that spell none are the same as nothing.
#[must_use]
pub fn same_number(a: &str, b: &str) -> bool {
    match (CanonicalNumber::parse(a), CanonicalNumber::parse(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_number_is_the_same() {
        for (a, b) in [
            ("10", "1E+1"),
            ("0.5", ".5"),
            ("5.", "5"),
            ("-0", "0.000"),
            ("001.2300", "123e-2"),
            (
                "12345678901234567890123456789012345678",
                "12345678901234567890123456789012345678.0",
            ),
            ("+7", "7"),
        ] {
            assert!(same_number(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "-1"),
            ("1", "10"),
            (
                "12345678901234567890123456789012345678",
                "12345678901234567890123456789012345679",
            ),
        ] {
            assert!(!same_number(a, b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            ".",
            "1e",
            "1e+-3",
            "0x1",
            "1 ",
            "1.2.3",
            "NaN",
            "1e9999999",
            "--1",
        ] {
            assert_eq!(CanonicalNumber::parse(text), None, "{text:?}");
        }
    }
}

//! Sizes as the bench's flags take them.

/// Reads `200MB`, `2GB` or a number of bytes. Units are of 1000, as throughput is told.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let unit: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(format!("{other:?} is no unit: use B, KB, MB or GB")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a size: write 200MB or 2GB"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(parse("200MB"), Ok(200_000_000));
        assert_eq!(parse("2 gb"), Ok(2_000_000_000));
        assert_eq!(parse("17"), Ok(17));
        for text in ["", "MB", "2MiB", "-1", "99999999999GB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! The size of what passes from state to state.

use std::io::{self, Write};

use serde_json::Value;

use crate::error::{ExecutionFailed, names};

/// 256 KiB, as UTF-8: <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
pub const PAYLOAD_BYTES: usize = 256 * 1024;

/// Refuses a payload that Step Functions would not carry. `what` says which one: `input`, `output`.
pub fn check(state: &str, what: &str, value: &Value) -> Result<(), ExecutionFailed> {
    let mut count = Count(0);
    // Counting cannot fail, and a Value always serialises: its keys are texts.
    let measured = serde_json::to_writer(&mut count, value);
    if measured.is_ok() && count.0 <= PAYLOAD_BYTES {
        return Ok(());
    }
    Err(ExecutionFailed::named(
        state,
        names::DATA_LIMIT_EXCEEDED,
        format!(
            "the {what} is {} bytes of JSON, and {PAYLOAD_BYTES} are the most that a state may pass",
            count.0
        ),
    ))
}

struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_counts_and_quotes_are_bytes() {
        let of = |length: usize| Value::String("x".repeat(length));
        assert!(check("S", "input", &of(PAYLOAD_BYTES - 2)).is_ok());
        let refused = check("S", "input", &of(PAYLOAD_BYTES - 1)).unwrap_err();
        assert_eq!(refused.error, "States.DataLimitExceeded");
        assert!(refused.cause.contains("262145 bytes"), "{}", refused.cause);
        let umlauts = Value::String("ü".repeat(PAYLOAD_BYTES / 2));
        assert!(check("S", "input", &umlauts).is_err(), "bytes, not letters");
    }
}

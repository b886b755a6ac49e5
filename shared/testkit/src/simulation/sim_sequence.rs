//! Sequence numbers as texts of digits, which grow by steps and by jumps.

/// The most digits that a sequence number has.
const MAX_DIGITS: usize = 40;
/// What DynamoDB's own examples have.
const USUAL_DIGITS: usize = 24;

/// `digits` + `by`, in decimal.
pub(crate) fn plus(digits: &str, by: u64) -> String {
    let mut carry = by;
    let mut sum: Vec<u8> = Vec::with_capacity(digits.len() + 1);
    for digit in digits.bytes().rev() {
        let total = u64::from(digit - b'0') + carry;
        sum.push(b'0' + u8::try_from(total % 10).unwrap());
        carry = total / 10;
    }
    while carry > 0 {
        sum.push(b'0' + u8::try_from(carry % 10).unwrap());
        carry /= 10;
    }
    sum.reverse();
    String::from_utf8(sum).unwrap()
}

/// A number of the usual length: `n`, and zeros.
pub(crate) fn usual(n: u64) -> String {
    format!("{n}{:0>width$}", 0, width = USUAL_DIGITS - 6)
}

/// The number behind `last`: mostly a step, sometimes one that needs more digits.
pub(crate) fn behind(last: &str, random: &mut fastrand::Rng) -> String {
    let roomy = last.len() + 2 < MAX_DIGITS;
    let is_nines = last.bytes().all(|digit| digit == b'9');
    match random.u32(..100) {
        0..3 if roomy => format!("{last}{}", random.u8(..10)),
        3..6 if roomy && !is_nines => "9".repeat(last.len()),
        _ => {
            let magnitude = random.u32(1..40);
            plus(last, random.u64(1..1 << magnitude))
        }
    }
}

/// Where a shard begins: as often as not below its parent's last number.
pub(crate) fn beginning(parent: Option<&str>, random: &mut fastrand::Rng) -> String {
    let fresh = |random: &mut fastrand::Rng| {
        let digits = random.usize(21..30);
        let first = char::from(b'0' + random.u8(1..10));
        let rest = (1..digits).map(|_| char::from(b'0' + random.u8(..10)));
        std::iter::once(first).chain(rest).collect::<String>()
    };
    match parent {
        Some(last) if random.bool() && last.len() < MAX_DIGITS - 2 => behind(last, random),
        _ => fresh(random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_domain::sequence_number::SequenceNumber;

    #[test]
    fn numbers_grow_within_forty_digits() {
        let mut random = fastrand::Rng::with_seed(3);
        assert_eq!(plus("999", 1), "1000");
        assert_eq!(usual(111_000).len(), USUAL_DIGITS);
        for _ in 0..50 {
            let mut last = beginning(None, &mut random);
            for _ in 0..300 {
                let next = behind(&last, &mut random);
                let number = |text: &str| text.parse::<SequenceNumber>().unwrap();
                assert!(number(&next) > number(&last), "{last} {next}");
                last = next;
            }
        }
    }
}

//! The same item in other words: what DynamoDB and JSON leave open, chosen by a seed.

use fastrand::Rng;

use crate::attribute::{Attribute, Item};

/// The item as JSON in another spelling: attributes and set elements in another order, numbers written
/// differently, some characters as escapes.
#[must_use]
pub fn respelled(item: &Item, seed: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    let mut item = item.clone();
    respell_members(&mut item.0, &mut random);
    item.json_with_escapes(seed)
}

fn respell_members(members: &mut [(String, Attribute)], random: &mut Rng) {
    random.shuffle(members);
    for (_, value) in members {
        respell_value(value, random);
    }
}

fn respell_value(value: &mut Attribute, random: &mut Rng) {
    match value {
        Attribute::N(number) => *number = respelled_number(number, random),
        Attribute::M(members) => respell_members(members, random),
        Attribute::L(values) => values.iter_mut().for_each(|it| respell_value(it, random)),
        Attribute::Ss(texts) => random.shuffle(texts),
        Attribute::Bs(blobs) => random.shuffle(blobs),
        Attribute::Ns(numbers) => {
            random.shuffle(numbers);
            for number in numbers {
                *number = respelled_number(number, random);
            }
        }
        Attribute::S(_) | Attribute::B(_) | Attribute::Bool(_) | Attribute::Null => {}
    }
}

/// Another text of the same number.
fn respelled_number(number: &str, random: &mut Rng) -> String {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().expect("an exponent is a number");
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", mantissa.trim_start_matches('+')),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    match random.u32(0..5) {
        0 => number.to_owned(),
        1 => format!("{sign}0{whole}.{fraction}0e{exponent}"),
        // All digits before the point.
        2 => {
            let exponent = exponent - i64::try_from(fraction.len()).expect("a short fraction");
            format!("{sign}{whole}{fraction}E{exponent}")
        }
        // All digits behind the point.
        3 => {
            let exponent = exponent + i64::try_from(whole.len()).expect("a short number");
            format!("{sign}.{whole}{fraction}E{exponent:+}")
        }
        _ => {
            let exponent = exponent - 2 - i64::try_from(fraction.len()).expect("a short fraction");
            format!("{sign}{whole}{fraction}00e{exponent}")
        }
    }
}

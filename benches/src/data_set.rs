//! What the replayed tables hold: three kinds of items, drawn from a seed.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fastrand::Rng;
use serde_json::{Value, json};

/// A kind of items, which is also the name of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataSet {
    /// About 200 bytes: seven flat attributes, some escapes and non-ASCII text.
    Small,
    /// About 1 KB: nested maps and lists, sets of strings and numbers.
    Medium,
    /// About 20 KB, nearly all of it one binary, in base64 on the wire.
    Large,
}

impl DataSet {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The name of the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// The attributes beside the key, as the members of a JSON object without its braces.
    pub(crate) fn attributes(self, random: &mut Rng) -> String {
        let attributes = match self {
            Self::Small => small(random),
            Self::Medium => medium(random),
            Self::Large => large(random),
        };
        let object = attributes.to_string();
        object[1..object.len() - 1].to_owned()
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DataSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|set| set.name() == text)
            .ok_or_else(|| format!("{text:?} is no data set: small, medium or large"))
    }
}

fn small(random: &mut Rng) -> Value {
    json!({
        "status": {"S": word(random)},
        "total": {"N": amount(random)},
        "paid": {"BOOL": random.bool()},
        "created": {"S": time(random)},
        "customer": {"S": format!("c-{:08}", random.u32(..10_000_000))},
        "note": {"S": text(random, 4)},
    })
}

fn medium(random: &mut Rng) -> Value {
    let lines: Vec<Value> = (0..random.usize(2..5)).map(|_| line(random)).collect();
    let tags: Vec<&str> = WORDS[random.usize(..8)..][..4].to_vec();
    let ratings: Vec<String> = (1..6)
        .map(|n| (n * random.u32(1..90)).to_string())
        .collect();
    json!({
        "status": {"S": word(random)},
        "created": {"S": time(random)},
        "updated": {"NULL": true},
        "lines": {"L": lines},
        "address": {"M": {
            "street": {"S": text(random, 3)},
            "city": {"S": word(random)},
            "location": {"M": {"lat": {"N": amount(random)}, "lon": {"N": amount(random)}}},
        }},
        "tags": {"SS": tags},
        "ratings": {"NS": ratings},
        "comment": {"S": text(random, 30)},
    })
}

fn line(random: &mut Rng) -> Value {
    json!({"M": {
        "sku": {"S": format!("sku-{:06}", random.u32(..400_000))},
        "count": {"N": random.u8(1..20).to_string()},
        "price": {"N": amount(random)},
        "options": {"L": [{"S": word(random)}, {"BOOL": random.bool()}]},
    }})
}

fn large(random: &mut Rng) -> Value {
    let mut bytes = vec![0; random.usize(14_000..16_000)];
    random.fill(&mut bytes);
    json!({
        "created": {"S": time(random)},
        "kind": {"S": word(random)},
        "data": {"B": BASE64.encode(bytes)},
    })
}

fn amount(random: &mut Rng) -> String {
    format!("{}.{:02}", random.u16(..2000), random.u8(..100))
}

fn time(random: &mut Rng) -> String {
    format!(
        "2026-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        random.u8(1..13),
        random.u8(1..29),
        random.u8(..24),
        random.u8(..60),
        random.u8(..60)
    )
}

fn word(random: &mut Rng) -> &'static str {
    WORDS[random.usize(..WORDS.len())]
}

/// Words and numbers, which compress about as people's text does.
fn text(random: &mut Rng, words: usize) -> String {
    let mut text = String::new();
    for _ in 0..words {
        let _ = write!(text, "{} {} ", word(random), random.u16(..999));
    }
    text
}

/// What is escaped in JSON, and what is longer than a byte, is among them.
const WORDS: [&str; 32] = [
    "open",
    "paid",
    "sent",
    "returned",
    "cancelled",
    "pending",
    "harbour",
    "tide",
    "mark",
    "river",
    "caf\u{e9}",
    "\u{6771}\u{4eac}",
    "\u{1f30a}",
    "\"quoted\"",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "north",
    "south",
    "east",
    "west",
    "invoice",
    "delivery",
    "customer",
    "warehouse",
    "shelf",
    "pallet",
    "express",
    "standard",
    "fragile",
    "gift",
    "wrapped",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_about_the_size_that_is_promised() {
        for (set, sizes) in [
            (DataSet::Small, 180..300),
            (DataSet::Medium, 900..1500),
            (DataSet::Large, 18_000..22_500),
        ] {
            let mut random = Rng::with_seed(1);
            let bytes: usize = (0..100)
                .map(|_| set.attributes(&mut random).len())
                .sum::<usize>()
                / 100;
            assert!(sizes.contains(&bytes), "{set}: {bytes}");
        }
    }
}

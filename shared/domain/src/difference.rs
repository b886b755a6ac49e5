//! What is the matter with a key whose items are not the same on two sides.

use serde::Serialize;

/// One of the two things that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// How the two sides differ in one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// Only the first side has it.
    OnlyInA,
    /// Only the second side has it.
    OnlyInB,
    /// Both have it, with other attributes.
    Differs,
    /// One side has it more than once, which no table can.
    Duplicated,
}

/// One key in which the sides differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The key, DynamoDB JSON: `{"id":{"S":"a"}}`.
    pub key: String,
    /// How they differ.
    pub kind: DifferenceKind,
    /// Items of this key on the first side.
    pub in_a: u64,
    /// Items of this key on the second side.
    pub in_b: u64,
}

/// How many keys differ, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DifferenceCounts {
    /// Keys that only the first side has.
    pub only_in_a: u64,
    /// Keys that only the second side has.
    pub only_in_b: u64,
    /// Keys whose items have other attributes.
    pub differs: u64,
    /// Keys that one side has more than once.
    pub duplicated: u64,
}

impl DifferenceCounts {
    /// Counts one key.
    pub fn add(&mut self, kind: DifferenceKind) {
        *match kind {
            DifferenceKind::OnlyInA => &mut self.only_in_a,
            DifferenceKind::OnlyInB => &mut self.only_in_b,
            DifferenceKind::Differs => &mut self.differs,
            DifferenceKind::Duplicated => &mut self.duplicated,
        } += 1;
    }

    /// All keys that differ.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.only_in_a + self.only_in_b + self.differs + self.duplicated
    }
}

/// The items of one key, which come in the order of their digests.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyTally {
    in_a: u64,
    in_b: u64,
    /// The digest that is being counted, and how often each side has it.
    current: Option<u128>,
    copies_in_a: u64,
    copies_in_b: u64,
    unequal: bool,
}

impl KeyTally {
    /// Takes one item. All items of one digest come one after the other, whichever side they are on.
    pub fn add(&mut self, side: Side, item_digest: u128) {
        if self.current != Some(item_digest) {
            self.end_of_digest();
            self.current = Some(item_digest);
        }
        match side {
            Side::A => (self.in_a, self.copies_in_a) = (self.in_a + 1, self.copies_in_a + 1),
            Side::B => (self.in_b, self.copies_in_b) = (self.in_b + 1, self.copies_in_b + 1),
        }
    }

    fn end_of_digest(&mut self) {
        self.unequal |= self.copies_in_a != self.copies_in_b;
        (self.copies_in_a, self.copies_in_b) = (0, 0);
    }

    /// What is the matter with the key, if anything is.
    #[must_use]
    pub fn kind(mut self) -> Option<DifferenceKind> {
        self.end_of_digest();
        if !self.unequal {
            return None;
        }
        Some(match (self.in_a, self.in_b) {
            (2.., _) | (_, 2..) => DifferenceKind::Duplicated,
            (_, 0) => DifferenceKind::OnlyInA,
            (0, _) => DifferenceKind::OnlyInB,
            _ => DifferenceKind::Differs,
        })
    }

    /// How many items each side has.
    #[must_use]
    pub fn items(&self) -> (u64, u64) {
        (self.in_a, self.in_b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_judged_by_all_of_its_items() {
        use DifferenceKind::{Differs, Duplicated, OnlyInA, OnlyInB};
        use Side::{A, B};
        let cases: [(&[(Side, u128)], _); 11] = [
            (&[], None),
            (&[(A, 1), (B, 1)], None),
            (&[(A, 1)], Some(OnlyInA)),
            (&[(B, 1)], Some(OnlyInB)),
            (&[(A, 1), (B, 2)], Some(Differs)),
            (&[(B, 1), (A, 2)], Some(Differs)),
            (&[(A, 1), (A, 1)], Some(Duplicated)),
            (&[(A, 1), (A, 1), (B, 1)], Some(Duplicated)),
            (&[(A, 1), (B, 1), (B, 2)], Some(Duplicated)),
            (&[(A, 1), (A, 1), (B, 1), (B, 1)], None),
            (&[(A, 1), (B, 1), (A, 2), (B, 2)], None),
        ];
        for (items, expected) in cases {
            let mut tally = KeyTally::default();
            for (side, digest) in items {
                tally.add(*side, *digest);
            }
            assert_eq!(tally.kind(), expected, "{items:?}");
            let in_a = items.iter().filter(|(side, _)| *side == A).count() as u64;
            assert_eq!(tally.items(), (in_a, items.len() as u64 - in_a));
        }
    }

    #[test]
    fn kinds_are_counted_apart() {
        let mut counts = DifferenceCounts::default();
        for (kind, times) in [
            (DifferenceKind::OnlyInA, 1),
            (DifferenceKind::OnlyInB, 2),
            (DifferenceKind::Differs, 3),
            (DifferenceKind::Duplicated, 4),
        ] {
            (0..times).for_each(|_| counts.add(kind));
        }
        let DifferenceCounts {
            only_in_a,
            only_in_b,
            differs,
            duplicated,
        } = counts;
        assert_eq!((only_in_a, only_in_b, differs, duplicated), (1, 2, 3, 4));
        assert_eq!(counts.keys(), 10);
    }
}

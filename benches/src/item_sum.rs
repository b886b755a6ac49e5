//! What any number of items comes to, whatever their order: what was written is held against what was served.

/// A count, the bytes and a checksum of items. Equal multisets of items have equal sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemSum {
    /// How many items.
    pub items: u64,
    /// The bytes of their JSON.
    pub bytes: u64,
    /// The sum of their CRC-32s: one that is missing, twice there or changed shows.
    pub checksums: u64,
}

impl ItemSum {
    /// Adds an item, as it is on the wire.
    pub fn add(&mut self, item: &[u8]) {
        self.merge(&Self {
            items: 1,
            bytes: item.len() as u64,
            checksums: u64::from(crc32fast::hash(item)),
        });
    }

    /// Takes an item away that was added.
    pub fn remove(&mut self, item: &[u8]) {
        self.items -= 1;
        self.bytes -= item.len() as u64;
        let checksum = u64::from(crc32fast::hash(item));
        self.checksums = self.checksums.wrapping_sub(checksum);
    }

    /// Adds all items of another sum.
    pub fn merge(&mut self, other: &Self) {
        self.items += other.items;
        self.bytes += other.bytes;
        self.checksums = self.checksums.wrapping_add(other.checksums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(items: &[&str]) -> ItemSum {
        let mut sum = ItemSum::default();
        for item in items {
            sum.add(item.as_bytes());
        }
        sum
    }

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let sum = of(&["one", "two", "three"]);
        assert_eq!(sum, of(&["three", "one", "two"]));
        for other in [
            &["one", "two"][..],
            &["one", "two", "thref"],
            &["one", "one", "three"],
        ] {
            assert_ne!(sum, of(other), "{other:?}");
        }
        let mut merged = of(&["two"]);
        merged.merge(&of(&["three", "one"]));
        assert_eq!(sum, merged);
    }
}

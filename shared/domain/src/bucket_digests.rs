//! What any number of items amounts to, in a fixed amount of memory: a count and a sum per bucket of keys.

use crate::item_digest::ItemDigest;

/// How many buckets there are. With a million items that differ from a million others in one, some fifteen items
/// of each side have to be looked at again.
pub const BUCKETS: u32 = 1 << 16;

/// The bucket of a key: the first 16 bits of its digest, so that keys in the order of their digests come bucket by
/// bucket.
#[must_use]
pub fn bucket_of(key_digest: u128) -> u32 {
    // 128 bits without the lowest 112 are fewer than 17.
    u32::try_from(key_digest >> 112).unwrap_or_default()
}

/// One bucket: how many items, and the sum of their digests modulo 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    items: u64,
    sum: u128,
}

/// Digests of a multiset of items: equal multisets have equal ones, whatever the order of their items.
///
/// Unlike an exclusive or, a sum counts an item that is there twice. It takes [`BUCKETS`] times 32 bytes, 2 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketDigests {
    buckets: Vec<Bucket>,
}

impl Default for BucketDigests {
    fn default() -> Self {
        Self::new()
    }
}

impl BucketDigests {
    /// Of no items.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buckets: vec![Bucket::default(); BUCKETS as usize],
        }
    }

    /// Adds one item.
    pub fn add(&mut self, digest: ItemDigest) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(digest.key) as usize) {
            bucket.items += 1;
            bucket.sum = bucket.sum.wrapping_add(digest.item);
        }
    }

    /// Adds all items of another.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.items += more.items;
            bucket.sum = bucket.sum.wrapping_add(more.sum);
        }
    }

    /// How many items there are.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.items).sum()
    }

    /// How many items there are in one bucket.
    #[must_use]
    pub fn items_in(&self, bucket: u32) -> u64 {
        let bucket = self.buckets.get(bucket as usize);
        bucket.map_or(0, |bucket| bucket.items)
    }

    /// The buckets whose items are not the same here and there, in order.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<u32> {
        let pairs = self.buckets.iter().zip(&other.buckets);
        (0..BUCKETS)
            .zip(pairs)
            .filter(|(_, (one, other))| one != other)
            .map(|(bucket, _)| bucket)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest as random as a real one.
    fn digest(n: u64) -> ItemDigest {
        let spread = |n: u64| {
            let mixed = (n ^ n >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            u128::from(mixed) << 64 | u128::from(mixed.rotate_left(17))
        };
        ItemDigest {
            key: spread(n),
            item: spread(n + 1_000_000_007),
        }
    }

    fn of(numbers: impl IntoIterator<Item = u64>) -> BucketDigests {
        let mut digests = BucketDigests::new();
        numbers.into_iter().for_each(|n| digests.add(digest(n)));
        digests
    }

    #[test]
    fn order_and_division_do_not_count() {
        let all = of(0..10_000);
        assert_eq!(all, of((0..10_000).rev()));
        let mut merged = of(5000..10_000);
        merged.merge(&of(0..5000));
        assert_eq!(all, merged);
        assert_eq!(all.items(), 10_000);
        assert!(all.differing(&merged).is_empty());
    }

    #[test]
    fn every_change_shows_in_its_bucket() {
        let all = of(0..10_000);
        let mut changed = of(0..9_999);
        let last = digest(9_999);
        assert_eq!(
            all.differing(&changed),
            [bucket_of(last.key)],
            "one is missing"
        );
        changed.add(ItemDigest {
            item: last.item ^ 1,
            ..last
        });
        assert_eq!(
            all.differing(&changed),
            [bucket_of(last.key)],
            "one is another"
        );
        let mut twice = all.clone();
        twice.add(last);
        assert_eq!(
            all.differing(&twice),
            [bucket_of(last.key)],
            "one is there twice"
        );
        twice.add(last);
        assert_eq!(
            twice.differing(&all),
            [bucket_of(last.key)],
            "or three times"
        );
    }

    #[test]
    fn sums_wrap_around() {
        let huge = ItemDigest {
            key: 0,
            item: u128::MAX,
        };
        let mut digests = BucketDigests::new();
        (0..3).for_each(|_| digests.add(huge));
        let mut other = BucketDigests::new();
        (0..3).for_each(|_| other.add(huge));
        digests.merge(&other);
        assert_eq!(digests.items(), 6);
        assert_eq!(digests.differing(&BucketDigests::new()), [0]);
    }

    #[test]
    fn buckets_come_in_the_order_of_key_digests() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u128::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(1 << 112), 1);
        assert_eq!(bucket_of((1 << 112) - 1), 0);
        let used = (0..500_000).map(|n| bucket_of(digest(n).key));
        let used: std::collections::BTreeSet<u32> = used.collect();
        assert!(used.len() > 60_000, "{}", used.len());
    }
}

//! The hash range of a table, and how DynamoDB cuts it into segments.

/// The segment whose slice of the hash range holds `hash`, as DynamoDB slices it.
pub(crate) fn segment_of(hash: u64, total_segments: u32) -> u32 {
    let segment = (u128::from(hash) * u128::from(total_segments)) >> 64;
    u32::try_from(segment).expect("below the total")
}

/// The lowest hash of a segment.
pub(crate) fn first_hash(segment: u32, total_segments: u32) -> u64 {
    let below = (u128::from(segment) << 64).div_ceil(u128::from(total_segments));
    u64::try_from(below).expect("segments begin within the hash range")
}

/// A bijection that scatters its input over all 64 bits (the finaliser of splitmix64).
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_share_the_hash_range_without_gaps() {
        for total in [1, 2, 3, 7, 64, 999_999, 1_000_000] {
            for segment in [0, total / 2, total - 1] {
                let first = first_hash(segment, total);
                assert_eq!(segment_of(first, total), segment);
                if let Some(before) = first.checked_sub(1) {
                    assert_eq!(segment_of(before, total), segment - 1);
                }
            }
        }
    }
}

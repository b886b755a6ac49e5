//! Buffers for whole objects, which go back to the system when they are freed.

/// Below this a buffer is like any other.
const LARGE: u64 = 128 << 10;

/// Room for a large buffer's bytes, at least so much.
///
/// Only what is written becomes resident. From 32 MiB on glibc gives every allocation a mapping of its own,
/// whole and returned at once; smaller ones that come and go by the megabyte fragment its arenas, and the
/// process grows to half as much again (measured: 60 instead of 90 MiB of anonymous memory at four workers).
const LEAST_ROOM: u64 = 33 << 20;

/// An empty buffer with room for `bytes`, if so much is to be had; otherwise it grows as it must.
#[must_use]
pub fn large_buffer(bytes: u64) -> Vec<u8> {
    let mut buffer = Vec::new();
    let room = if bytes < LARGE {
        bytes
    } else {
        bytes.max(LEAST_ROOM)
    };
    let _ = buffer.try_reserve_exact(usize::try_from(room).unwrap_or(usize::MAX));
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_have_a_mapping_of_their_own() {
        assert!(large_buffer(1 << 20).capacity() >= 33 << 20);
        assert!(large_buffer(100 << 20).capacity() >= 100 << 20);
        assert_eq!(large_buffer(0).capacity(), 0);
        assert!(large_buffer(1000).capacity() < 2000);
        assert_eq!(large_buffer(u64::MAX).capacity(), 0, "it grows as it must");
    }
}

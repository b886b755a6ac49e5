//! Buffers of a hundred kilobytes and more, which are used again instead of given back.
//!
//! A buffer of that size comes from the system and goes back to it, and for each of its pages the kernel stops the
//! program, finds memory and fills it with zeros, anew each time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one use that nobody needs now. Clones share them. There are never more than were in use at once.
#[derive(Clone)]
pub struct ReusedBuffers(Arc<Kept>);

struct Kept {
    idle: Mutex<Vec<Vec<u8>>>,
    most: usize,
    most_bytes: usize,
}

impl Default for ReusedBuffers {
    /// Any number of up to 4 MiB: answers and requests are far smaller, unless their service is none of AWS's.
    fn default() -> Self {
        Self::keeping(usize::MAX, 4 << 20)
    }
}

impl ReusedBuffers {
    /// Of those that nobody needs, at most so many are kept, and none that has grown larger than `most_bytes`.
    #[must_use]
    pub fn keeping(most: usize, most_bytes: usize) -> Self {
        Self(Arc::new(Kept {
            idle: Mutex::default(),
            most,
            most_bytes,
        }))
    }

    /// An empty buffer with room for so many bytes.
    #[must_use]
    pub fn take(&self, bytes: usize) -> ReusedBuffer {
        let mut buffer = self.take_or(Vec::new);
        buffer.reserve_exact(bytes);
        buffer
    }

    /// A buffer of so many bytes, whatever they are.
    #[must_use]
    pub fn take_long(&self, bytes: usize) -> ReusedBuffer {
        let mut buffer = self.any(Vec::new);
        // Only what it was not long enough for is filled.
        buffer.resize(bytes, 0);
        buffer
    }

    /// An empty buffer; a new one if there is no other.
    #[must_use]
    pub fn take_or(&self, new: impl FnOnce() -> Vec<u8>) -> ReusedBuffer {
        let mut buffer = self.any(new);
        buffer.clear();
        buffer
    }

    /// As somebody has left it, or new.
    fn any(&self, new: impl FnOnce() -> Vec<u8>) -> ReusedBuffer {
        ReusedBuffer {
            bytes: self.idle(Vec::pop).unwrap_or_else(new),
            home: self.clone(),
        }
    }

    /// Looks at those that nobody uses.
    fn idle<T>(&self, look: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        look(&mut self.0.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for ReusedBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReusedBuffers({} idle)", self.idle(|idle| idle.len()))
    }
}

impl fmt::Debug for ReusedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReusedBuffer({} bytes)", self.bytes.len())
    }
}

/// One buffer. It goes home when it is dropped, or the last slice of the [`Bytes`] that it became.
pub struct ReusedBuffer {
    bytes: Vec<u8>,
    home: ReusedBuffers,
}

impl ReusedBuffer {
    /// All of it; an empty one stays.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let empty = ReusedBuffer {
            bytes: Vec::new(),
            home: self.home.clone(),
        };
        std::mem::replace(self, empty)
    }

    /// What it holds, not copied.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for ReusedBuffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for ReusedBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for ReusedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ReusedBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let kept = &self.home.0;
        if (1..=kept.most_bytes).contains(&bytes.capacity()) {
            self.home.idle(|idle| {
                if idle.len() < kept.most {
                    idle.push(bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_any_of_it() {
        let buffers = ReusedBuffers::default();
        let mut first = buffers.take(1000);
        first.extend_from_slice(b"first");
        let at = first.as_ptr();
        let (first, other) = (first.freeze(), buffers.take(10));
        assert_ne!(other.as_ptr(), at);
        let slice = first.slice(1..3);
        drop(first);
        assert!(buffers.idle(|idle| idle.is_empty()), "a slice is left");
        assert_eq!(slice, "ir");
        drop(slice);
        let mut again = buffers.clone().take(500);
        assert_eq!((again.len(), again.as_ptr()), (0, at));
        again.extend_from_slice(b"again");
        assert_eq!(again.freeze(), "again");
    }

    #[test]
    fn what_has_grown_too_large_and_what_is_too_many_is_given_back() {
        let buffers = ReusedBuffers::keeping(2, 1000);
        drop(buffers.take(1001));
        drop(buffers.take(0));
        assert!(buffers.idle(|idle| idle.is_empty()));
        drop((buffers.take(7), buffers.take(8), buffers.take(9)));
        assert_eq!(format!("{buffers:?}"), "ReusedBuffers(2 idle)");
        let long = buffers.take_long(20);
        assert_eq!((long.len(), buffers.take(1).len()), (20, 0));
        drop(long);
        let new = buffers.take_or(|| unreachable!("there are others"));
        assert!(new.is_empty());
    }
}

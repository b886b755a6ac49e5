//! Buffers for answers of about a megabyte, which are used again instead of given back.
//!
//! A buffer of that size comes from the system and goes back to it, and for each of its pages the kernel stops the
//! program, finds memory and fills it with zeros, anew for every answer.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What has grown larger than this is given back: an answer is far smaller, unless its service is none of AWS's.
const MOST_KEPT: usize = 4 << 20;

/// The buffers of one client that nobody uses now. Clones share them. There are never more than were in use at once.
#[derive(Clone, Default)]
pub(crate) struct PageBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl PageBuffers {
    /// An empty buffer with room for so many bytes.
    pub(crate) fn take(&self, bytes: usize) -> PageBuffer {
        let mut buffer = self.idle(Vec::pop).unwrap_or_default();
        buffer.reserve_exact(bytes);
        PageBuffer {
            bytes: buffer,
            home: self.clone(),
        }
    }

    /// Looks at those that nobody uses.
    fn idle<T>(&self, look: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for PageBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageBuffers({} idle)", self.idle(|idle| idle.len()))
    }
}

/// One buffer. It goes home when it is dropped, or the last slice of the [`Bytes`] that it became.
pub(crate) struct PageBuffer {
    bytes: Vec<u8>,
    home: PageBuffers,
}

impl PageBuffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// All of it; an empty one stays.
    pub(crate) fn take(&mut self) -> Self {
        let empty = PageBuffer {
            bytes: Vec::new(),
            home: self.home.clone(),
        };
        std::mem::replace(self, empty)
    }

    /// What it holds, not copied.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PageBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PageBuffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if (1..=MOST_KEPT).contains(&bytes.capacity()) {
            bytes.clear();
            self.home.idle(|idle| idle.push(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_any_of_it() {
        let buffers = PageBuffers::default();
        let mut first = buffers.take(1000);
        first.extend_from_slice(b"first");
        let at = first.as_ref().as_ptr();
        let (first, other) = (first.freeze(), buffers.take(10));
        assert_ne!(other.as_ref().as_ptr(), at);
        let slice = first.slice(1..3);
        drop(first);
        assert!(buffers.idle(|idle| idle.is_empty()), "a slice is left");
        assert_eq!(slice, "ir");
        drop(slice);
        let mut again = buffers.clone().take(500);
        assert_eq!((again.len(), again.as_ref().as_ptr()), (0, at));
        again.extend_from_slice(b"again");
        assert_eq!(again.freeze(), "again");
    }

    #[test]
    fn what_has_grown_too_large_is_given_back() {
        let buffers = PageBuffers::default();
        drop(buffers.take(MOST_KEPT + 1));
        drop(buffers.take(0));
        assert!(buffers.idle(|idle| idle.is_empty()));
        drop((buffers.take(7), buffers.take(8)));
        assert_eq!(format!("{buffers:?}"), "PageBuffers(2 idle)");
    }
}

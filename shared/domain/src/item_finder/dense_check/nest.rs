//! Which brackets are open, and where the elements of the array at the document's top are.

use super::super::{FoundItems, offset};

/// What is open at a place of the document.
#[derive(Default)]
pub(super) struct Nest {
    /// Objects open within the innermost list, or within nothing.
    objects: u32,
    /// For each open list, the objects open between it and the list around it.
    lists: Vec<u32>,
    /// The list at the top: its `[`, and after its `]`.
    list: Option<(usize, usize)>,
    /// The objects directly in it.
    spans: Vec<(u32, u32)>,
    /// Where the last of them began.
    start: usize,
    /// After the `}` of the document.
    end: usize,
}

impl Nest {
    /// Takes the brackets of the block at `at`, of which `squares` are those of lists, and tells which bytes stand directly in a list.
    /// `None` if one closes what it does not open.
    pub(super) fn block(
        &mut self,
        document: &[u8],
        at: usize,
        opens: u64,
        closes: u64,
        squares: u64,
    ) -> Option<u64> {
        let closing = closes.count_ones();
        if squares == 0 && self.objects > closing {
            // An object is open all the time.
            self.objects = self.objects - closing + opens.count_ones();
            return Some(0);
        }
        let mut in_list = if self.is_list() { u64::MAX } else { 0 };
        let mut left = opens | closes;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let place = at + bit as usize;
            self.bracket(place, *document.get(place)?)?;
            let behind = u64::MAX << bit << 1;
            in_list = if self.is_list() {
                in_list | behind
            } else {
                in_list & !behind
            };
        }
        Some(in_list)
    }

    fn is_list(&self) -> bool {
        self.objects == 0 && !self.lists.is_empty()
    }

    /// Whether the innermost of what is open is the list at the top.
    fn is_top_list(&self) -> bool {
        self.objects == 0 && self.lists == [1]
    }

    fn bracket(&mut self, at: usize, bracket: u8) -> Option<()> {
        match bracket {
            b'{' => {
                if self.is_top_list() {
                    self.start = at;
                }
                self.objects += 1;
            }
            b'[' => {
                self.lists.push(self.objects);
                self.objects = 0;
                if self.is_top_list() && self.list.replace((at, 0)).is_some() {
                    return None;
                }
            }
            b'}' => {
                self.objects = self.objects.checked_sub(1)?;
                if self.is_top_list() {
                    self.spans.push((offset(self.start), offset(at + 1)));
                } else if self.objects == 0 && self.lists.is_empty() {
                    self.end = at + 1;
                }
            }
            _ => {
                let closes = self.objects == 0;
                if let Some((_, end)) = self.list.as_mut().filter(|_| self.lists == [1]) {
                    *end = at + 1;
                }
                self.objects = self.lists.pop().filter(|_| closes)?;
            }
        }
        Some(())
    }

    /// The list at the top and its elements; `None` if there is none, if some of them are no objects, or if the document does
    /// not end where its text does.
    pub(super) fn found(self, length: usize) -> Option<FoundItems> {
        let (start, end) = self.list?;
        let (start, end) = (offset(start), offset(end));
        let mut next = start + 1;
        for &(from, to) in &self.spans {
            if from != next {
                return None;
            }
            // One comma.
            next = to + 1;
        }
        let last = self.spans.last().map_or(next, |&(_, to)| to);
        let is_all = end == last + 1 && self.end == length;
        is_all.then_some(FoundItems {
            array: Some((start, end)),
            spans: self.spans,
            spaced: false,
        })
    }
}

//! What was handed out in order, and how far everything of it is done.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Pages that are handed out and not done are kept apart up to this many; then neighbours are joined, so that memory stays
/// small however late acknowledgements come.
const APART: usize = 64;

/// Records in the order in which they were handed out, in pages; a page's position counts once every record up to it is done.
///
/// This is the whole rule of acknowledgement: a position never moves past a record that is not acknowledged, in whatever
/// order the others are.
#[derive(Debug)]
pub struct AckWindow<P> {
    pages: VecDeque<Page<P>>,
    /// Records that were handed out.
    handed: u64,
}

#[derive(Debug)]
struct Page<P> {
    /// The number of the first record behind it.
    until: u64,
    /// Its records that are not done.
    pending: u64,
    /// What counts once it is done; `None` while more may come.
    position: Option<P>,
}

impl<P> Default for AckWindow<P> {
    fn default() -> Self {
        Self {
            pages: VecDeque::new(),
            handed: 0,
        }
    }
}

impl<P> AckWindow<P> {
    /// Hands out one more record. Its number, for [`done`](Self::done).
    pub fn hand_out(&mut self) -> u64 {
        let number = self.handed;
        self.handed += 1;
        match self.pages.back_mut() {
            Some(page) if page.position.is_none() => {
                page.until = self.handed;
                page.pending += 1;
            }
            _ => self.pages.push_back(Page {
                until: self.handed,
                pending: 1,
                position: None,
            }),
        }
        number
    }

    /// Ends a page: once everything up to here is done, `position` counts. A page may have no records.
    pub fn end_page(&mut self, position: P) {
        match self.pages.back_mut() {
            Some(page) if page.position.is_none() => page.position = Some(position),
            _ => self.pages.push_back(Page {
                until: self.handed,
                pending: 0,
                position: Some(position),
            }),
        }
        self.join();
    }

    /// Joins the two youngest ended pages where there are too many.
    fn join(&mut self) {
        if self.pages.len() > APART
            && let (Some(last), Some(before)) = (self.pages.pop_back(), self.pages.back_mut())
        {
            before.until = last.until;
            before.pending += last.pending;
            before.position = last.position;
        }
    }

    /// Record `number` is done. Each is told once. Whether [`advance`](Self::advance) has something to tell.
    pub fn done(&mut self, number: u64) -> bool {
        let place = self.pages.partition_point(|page| page.until <= number);
        if let Some(page) = self.pages.get_mut(place) {
            page.pending = page.pending.saturating_sub(1);
        }
        let first = self.pages.front();
        first.is_some_and(|page| page.pending == 0 && page.position.is_some())
    }

    /// The last position up to which everything is done, if it moved since the last call.
    pub fn advance(&mut self) -> Option<P> {
        let mut reached = None;
        while let Some(page) = self.pages.front()
            && page.pending == 0
            && page.position.is_some()
        {
            reached = self.pages.pop_front().and_then(|page| page.position);
        }
        reached
    }

    /// How many records are handed out and not done.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pages.iter().map(|page| page.pending).sum()
    }
}

/// Hears of records that are done.
pub(crate) trait Acknowledged: Send + Sync {
    /// Record `number` is done.
    fn done(&self, number: u64);
}

/// The right to say, once, that a record is done.
///
/// A checkpoint moves past a record only when it and everything before it in its segment or shard is done. Dropping this without
/// [`ack`](Self::ack) says nothing: the record comes again after a resume.
#[must_use = "a record that is not acknowledged comes again"]
pub struct Ack(Option<(Arc<dyn Acknowledged>, u64)>);

impl Ack {
    pub(crate) fn new(to: Arc<dyn Acknowledged>, number: u64) -> Self {
        Self(Some((to, number)))
    }

    /// For records that nobody waits for: of a Lambda event, or made by hand.
    pub fn nobody() -> Self {
        Self(None)
    }

    /// The record is done.
    pub fn ack(self) {
        if let Some((to, number)) = self.0 {
            to.done(number);
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.as_ref().map(|(_, number)| number);
        f.debug_tuple("Ack").field(&number).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_position_counts_when_everything_before_it_is_done() {
        let mut window = AckWindow::default();
        let [a, b] = [(); 2].map(|()| window.hand_out());
        window.end_page("first");
        let c = window.hand_out();
        window.end_page("second");
        window.done(c);
        window.done(b);
        assert_eq!(window.advance(), None, "a is not done");
        window.done(a);
        assert_eq!(window.advance(), Some("second"));
        assert_eq!(window.advance(), None, "told once");
    }

    #[test]
    fn a_page_that_has_not_ended_does_not_count() {
        let mut window = AckWindow::default();
        let a = window.hand_out();
        window.done(a);
        assert_eq!(window.advance(), None);
        window.end_page(1);
        assert_eq!(window.advance(), Some(1));
        // An empty page moves the position, too.
        window.end_page(2);
        assert_eq!(window.advance(), Some(2));
    }

    #[test]
    fn memory_stays_small_while_nothing_is_acknowledged() {
        let mut window = AckWindow::default();
        for page in 0..100_000_u64 {
            window.hand_out();
            window.end_page(page);
        }
        assert!(window.pages.len() <= APART);
        for number in 0..100_000 {
            window.done(number);
        }
        assert_eq!((window.pending(), window.advance()), (0, Some(99_999)));
    }

    proptest! {
        /// Against the rule in its plainest words: a position counts if every record handed out before it is done.
        #[test]
        fn no_position_passes_a_record_that_is_not_done(
            sizes in prop::collection::vec(0_u64..5, 1..200),
            order in any::<u64>(),
            left_out in prop::option::of(0_u64..400),
        ) {
            let mut window = AckWindow::default();
            let mut numbers = Vec::new();
            let mut ends = Vec::new();
            for size in &sizes {
                for _ in 0..*size {
                    numbers.push(window.hand_out());
                }
                ends.push(numbers.len() as u64);
                window.end_page(numbers.len() as u64);
            }
            fastrand::Rng::with_seed(order).shuffle(&mut numbers);
            let mut done = std::collections::BTreeSet::new();
            let mut reached = 0;
            for number in numbers {
                if Some(number) == left_out {
                    continue;
                }
                let is_told = window.done(number);
                done.insert(number);
                let told = window.advance();
                prop_assert!(is_told || told.is_none() || reached == 0);
                if let Some(position) = told {
                    prop_assert!(position >= reached);
                    reached = position;
                }
                prop_assert!((0..reached).all(|before| done.contains(&before)), "{reached}");
            }
            let all = ends.last().copied().unwrap_or(0);
            if left_out.is_none_or(|number| number >= all) {
                reached = window.advance().unwrap_or(reached);
                prop_assert_eq!(reached, all);
            }
        }
    }
}

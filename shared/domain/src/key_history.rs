//! What an item was at a second: its records before and after, and what a scan found.

use bytes::Bytes;
use thiserror::Error;

pub mod run;

use crate::mark::UnixSeconds;
use crate::sequence_number::OrderToken;
use crate::stream_record::Change;

/// One change of one item, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemChange {
    /// Its place among the changes of this item.
    pub token: OrderToken,
    /// The greatest stamp on its path up to it: stamps may go back a little, this does not.
    pub event_time: UnixSeconds,
    /// What became of the item.
    pub change: Change,
    /// The item after it; absent after a removal, and where the stream does not carry it.
    pub new_image: Option<Bytes>,
    /// The item before it; absent before an insertion, and where the stream does not carry it.
    pub old_image: Option<Bytes>,
}

/// What an item was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// It was this.
    There(Bytes),
    /// It was not there.
    Absent,
}

/// A state that the log cannot tell.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the record {token} has no {image}, which the state at that second needs: the stream's view does not carry it"
)]
pub struct ImageMissing {
    /// The record.
    pub token: OrderToken,
    /// `NewImage` or `OldImage`.
    pub image: &'static str,
}

/// What an item was when everything stamped up to `at` had happened, the whole second included, and nothing later.
///
/// `changes` are all of this item's changes from before the scan began until well after it ended, in any order, and
/// may come twice. `scanned` is what the scan found, if it found the item at all.
///
/// The last change up to `at` tells by its new image. If all changes are later, the first of them tells by its old
/// image: so a state before or inside the scan can be had. Without any change the scan tells.
pub fn state_at(
    at: UnixSeconds,
    mut changes: Vec<ItemChange>,
    scanned: Option<Bytes>,
) -> Result<ItemState, ImageMissing> {
    changes.sort_by(|a, b| a.token.cmp(&b.token));
    // Event times do not go back along the path, so that those up to `at` come first.
    let happened = changes
        .iter()
        .take_while(|change| change.event_time <= at)
        .last();
    if let Some(last) = happened {
        return image(
            last,
            last.change == Change::Remove,
            last.new_image.as_ref(),
            "NewImage",
        );
    }
    if let Some(first) = changes.first() {
        return image(
            first,
            first.change == Change::Insert,
            first.old_image.as_ref(),
            "OldImage",
        );
    }
    Ok(scanned.map_or(ItemState::Absent, ItemState::There))
}

fn image(
    change: &ItemChange,
    is_absent: bool,
    image: Option<&Bytes>,
    name: &'static str,
) -> Result<ItemState, ImageMissing> {
    match image {
        _ if is_absent => Ok(ItemState::Absent),
        Some(image) => Ok(ItemState::There(image.clone())),
        None => Err(ImageMissing {
            token: change.token.clone(),
            image: name,
        }),
    }
}

/// What the state at one second needs of an item's changes: the last one up to it, and the first one after it.
///
/// Changes may be added in any order and any number of times; [`state`](Self::state) is that of [`state_at`] over all of
/// them, without a scanned item. Only the image that can be needed of each change is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    before: Option<ItemChange>,
    after: Option<ItemChange>,
}

/// What a key costs beside its images, in bytes: both changes, their numbers, and its place in a map.
const AROUND_BYTES: usize = 640;

impl Around {
    /// Takes one more change into account, `at` being the second whose state is wanted.
    pub fn add(&mut self, at: UnixSeconds, change: &ItemChange) {
        if change.event_time <= at {
            let is_later = |known: &ItemChange| known.token < change.token;
            if self.before.as_ref().is_none_or(is_later) {
                self.before = Some(ItemChange {
                    new_image: change.new_image.as_deref().map(Bytes::copy_from_slice),
                    old_image: None,
                    ..change.clone()
                });
            }
        } else {
            let is_earlier = |known: &ItemChange| change.token < known.token;
            if self.after.as_ref().is_none_or(is_earlier) {
                self.after = Some(ItemChange {
                    new_image: None,
                    old_image: change.old_image.as_deref().map(Bytes::copy_from_slice),
                    ..change.clone()
                });
            }
        }
    }

    /// The state at that second; `None` if there was no change.
    pub fn state(self, at: UnixSeconds) -> Result<Option<ItemState>, ImageMissing> {
        let changes: Vec<ItemChange> = self.changes().cloned().collect();
        if changes.is_empty() {
            return Ok(None);
        }
        state_at(at, changes, None).map(Some)
    }

    /// The changes that are kept: the one up to the second first.
    pub fn changes(&self) -> impl Iterator<Item = &ItemChange> {
        self.before.iter().chain(&self.after)
    }

    /// What it takes in memory, about, with its key.
    #[must_use]
    pub fn weight(&self) -> usize {
        let image = |change: &ItemChange| {
            let image = change.new_image.as_ref().or(change.old_image.as_ref());
            image.map_or(0, Bytes::len)
        };
        AROUND_BYTES + self.changes().map(image).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence_number::{Generation, ShardOrdinal};
    use proptest::prelude::*;

    fn item(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn change(number: u64, second: u64, before: Option<&str>, after: Option<&str>) -> ItemChange {
        ItemChange {
            token: OrderToken {
                generation: Generation(1),
                shard: ShardOrdinal(number / 10),
                sequence_number: (1000 + number).to_string().parse().unwrap(),
            },
            event_time: UnixSeconds(second),
            change: match (before, after) {
                (None, _) => Change::Insert,
                (_, None) => Change::Remove,
                _ => Change::Modify,
            },
            new_image: after.map(item),
            old_image: before.map(item),
        }
    }

    fn there(text: &str) -> ItemState {
        ItemState::There(item(text))
    }

    /// Case 48: three writes in one second.
    #[test]
    fn the_whole_second_is_included() {
        let changes = vec![
            change(1, 100, None, Some("a")),
            change(2, 100, Some("a"), Some("b")),
            change(3, 100, Some("b"), Some("c")),
        ];
        let at = |second| state_at(UnixSeconds(second), changes.clone(), Some(item("c"))).unwrap();
        assert_eq!(at(100), there("c"));
        assert_eq!(at(99), ItemState::Absent);
        assert_eq!(at(101), there("c"));
    }

    /// Cases 9, 11, 49: deleted, made again; before, between and after.
    #[test]
    fn states_go_back_and_forth() {
        let changes = vec![
            change(1, 100, Some("old"), None),
            change(2, 200, None, Some("new")),
            change(3, 300, Some("new"), Some("newer")),
        ];
        let at = |second| state_at(UnixSeconds(second), changes.clone(), None).unwrap();
        assert_eq!(at(99), there("old"));
        assert_eq!(at(150), ItemState::Absent);
        assert_eq!(at(299), there("new"));
        assert_eq!(at(1000), there("newer"));
    }

    #[test]
    fn without_changes_the_scan_tells() {
        assert_eq!(
            state_at(UnixSeconds(5), Vec::new(), Some(item("s"))),
            Ok(there("s"))
        );
        assert_eq!(
            state_at(UnixSeconds(5), Vec::new(), None),
            Ok(ItemState::Absent)
        );
    }

    #[test]
    fn a_view_without_old_images_cannot_go_back() {
        let mut later = change(1, 100, Some("a"), Some("b"));
        later.old_image = None;
        let refused = state_at(UnixSeconds(99), vec![later.clone()], Some(item("b"))).unwrap_err();
        assert_eq!(refused.image, "OldImage");
        assert_eq!(
            state_at(UnixSeconds(100), vec![later], None),
            Ok(there("b"))
        );
    }

    proptest! {
        /// Any order, any doubling: the same state, and it is the truth.
        #[test]
        fn order_and_doubling_of_delivery_change_nothing(
            steps in prop::collection::vec((0_u64..3, prop::option::of("[a-z]")), 1..12),
            shuffle in any::<usize>(),
            second in 0_u64..40,
        ) {
            let (mut now, mut state) = (5_u64, None::<String>);
            let (mut changes, mut truth) = (Vec::new(), None::<String>);
            for (number, (pause, after)) in steps.iter().enumerate() {
                if state == *after {
                    continue;
                }
                now += pause;
                changes.push(change(number as u64, now, state.as_deref(), after.as_deref()));
                state.clone_from(after);
                if now <= second {
                    truth.clone_from(after);
                }
            }
            let mut delivered = changes.clone();
            delivered.extend(changes.iter().filter(|it| it.event_time.0 % 2 == 0).cloned());
            let length = delivered.len();
            if length > 0 {
                delivered.rotate_left(shuffle % length);
            }
            let mut around = Around::default();
            for change in &delivered {
                around.add(UnixSeconds(second), change);
            }
            let scanned = state.as_deref().map(item);
            let expected = truth.map_or(ItemState::Absent, |text| there(&text));
            let reduced = around.state(UnixSeconds(second)).unwrap();
            prop_assert_eq!(reduced.is_none(), delivered.is_empty());
            if !delivered.is_empty() {
                prop_assert_eq!(reduced, Some(expected.clone()), "two changes tell as much as all");
            }
            let found = state_at(UnixSeconds(second), delivered, scanned).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}

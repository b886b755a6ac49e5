//! The chain of one key's images: what an item was before a change is what it was after the change before.
//!
//! A record that is lost, doubled under another number or out of its order breaks the chain as soon as its key has a
//! further record. Not seen are the loss of a key's last record, and of changes that lead back to the same item.

use crate::key_print::KeyPrint;
use crate::sequence_number::{MAX_DIGITS, SequenceNumber, ShardOrdinal};

/// The bytes of a link.
pub const LINK_BYTES: usize = 16 + 8 + NUMBER_BYTES + 4 + 8 + 1 + 16 + 16;

/// A sequence number with two digits in each byte, which sorts as the number does.
const NUMBER_BYTES: usize = MAX_DIGITS / 2;

/// One record, as far as the chain of its key goes. Links sort by key, and those of one key by their order in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The print of the item's key.
    pub key: KeyPrint,
    /// The place of its shard.
    pub shard: ShardOrdinal,
    number: [u8; NUMBER_BYTES],
    /// The number of its shard in some list of the caller's.
    pub place: u32,
    /// When it was stamped, in seconds since 1970.
    pub created_at: u64,
    /// The digest of the item before, if there was one.
    pub before: Option<u128>,
    /// The digest of the item after, if there is one.
    pub after: Option<u128>,
}

/// What a record carries besides its images.
#[derive(Clone, Debug)]
pub struct LinkOf<'a> {
    /// The print of the item's key.
    pub key: KeyPrint,
    /// The place of its shard.
    pub shard: ShardOrdinal,
    /// Its number there.
    pub sequence_number: &'a SequenceNumber,
    /// The number of its shard in some list of the caller's.
    pub place: u32,
    /// When it was stamped, in seconds since 1970.
    pub created_at: u64,
}

impl Link {
    /// The link of a record with these images' digests.
    #[must_use]
    pub fn new(of: &LinkOf<'_>, before: Option<u128>, after: Option<u128>) -> Self {
        let mut number = [0; NUMBER_BYTES];
        let padded = of.sequence_number.padded();
        for (byte, digits) in number.iter_mut().zip(padded.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| digits.get(at).map_or(0, |digit| digit - b'0');
            *byte = digit(0) << 4 | digit(1);
        }
        Self {
            key: of.key,
            shard: of.shard,
            number,
            place: of.place,
            created_at: of.created_at,
            before,
            after,
        }
    }

    /// Its number in its shard, without leading zeros.
    #[must_use]
    pub fn sequence_number(&self) -> String {
        let digits = hex::encode(self.number);
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            "0".to_owned()
        } else {
            significant.to_owned()
        }
    }

    /// Whether this is the same record.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.key, self.shard, self.number) == (other.key, other.shard, other.number)
    }

    /// As so many bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LINK_BYTES] {
        let flags = u8::from(self.before.is_some()) | u8::from(self.after.is_some()) << 1;
        let mut bytes = [0; LINK_BYTES];
        let mut rest = &mut bytes[..];
        for part in [
            &self.key.0[..],
            &self.shard.0.to_be_bytes(),
            &self.number,
            &self.place.to_be_bytes(),
            &self.created_at.to_be_bytes(),
            &[flags],
            &self.before.unwrap_or(0).to_be_bytes(),
            &self.after.unwrap_or(0).to_be_bytes(),
        ] {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        bytes
    }

    /// From the bytes that [`to_bytes`](Self::to_bytes) made.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LINK_BYTES]) -> Self {
        fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
            let (here, behind) = rest.split_at(N);
            *rest = behind;
            let mut part = [0; N];
            part.copy_from_slice(here);
            part
        }
        let rest = &mut &bytes[..];
        let key = KeyPrint(take(rest));
        let shard = ShardOrdinal(u64::from_be_bytes(take(rest)));
        let number = take(rest);
        let place = u32::from_be_bytes(take(rest));
        let created_at = u64::from_be_bytes(take(rest));
        let [flags] = take(rest);
        let before = u128::from_be_bytes(take(rest));
        let after = u128::from_be_bytes(take(rest));
        Self {
            key,
            shard,
            number,
            place,
            created_at,
            before: (flags & 1 != 0).then_some(before),
            after: (flags & 2 != 0).then_some(after),
        }
    }
}

/// What a link says of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It is its key's first: nothing is before it.
    First,
    /// It is the same record again.
    Again,
    /// Its old image is the new image before.
    Holds,
    /// It is not: between this record and it something is missing, or too much.
    Breaks(Link),
}

/// Reads links in order and says of each whether the chain holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageChain {
    last: Option<Link>,
}

impl ImageChain {
    /// Takes the next link.
    pub fn follow(&mut self, link: Link) -> Follows {
        let before = self.last.replace(link);
        match before.filter(|before| before.key == link.key) {
            None => Follows::First,
            Some(before) if before.is(&link) => Follows::Again,
            Some(before) if before.after == link.before => Follows::Holds,
            Some(before) => Follows::Breaks(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Follows::{Again, Breaks, First, Holds};
    use super::*;

    fn link(key: u8, shard: u64, number: &str, before: Option<u128>, after: Option<u128>) -> Link {
        let of = LinkOf {
            key: KeyPrint([key; 16]),
            shard: ShardOrdinal(shard),
            sequence_number: &number.parse().unwrap(),
            place: 7,
            created_at: 1_768_385_930,
        };
        Link::new(&of, before, after)
    }

    #[test]
    fn links_go_through_bytes_and_sort_by_key_shard_and_number() {
        let links = [
            link(1, 5, "9", None, Some(1)),
            link(1, 5, "10", Some(1), None),
            link(1, 6, "3", None, Some(u128::MAX)),
            link(2, 1, &"9".repeat(40), Some(0), Some(0)),
        ];
        let mut sorted = links;
        sorted.reverse();
        sorted.sort_unstable();
        assert_eq!(sorted, links);
        for link in links {
            assert_eq!(Link::from_bytes(&link.to_bytes()), link);
        }
        assert_eq!(links[1].sequence_number(), "10");
        assert_eq!(link(1, 1, "0", None, None).sequence_number(), "0");
    }

    #[test]
    fn a_record_that_is_missing_breaks_the_chain_of_its_key() {
        let whole = [
            link(1, 5, "9", None, Some(1)),
            link(1, 5, "9", None, Some(1)),
            link(1, 5, "10", Some(1), Some(2)),
            link(1, 6, "3", Some(2), None),
            link(1, 6, "4", None, Some(9)),
            link(2, 5, "11", Some(7), Some(8)),
        ];
        let said = |links: &[Link]| {
            let mut chain = ImageChain::default();
            links.iter().map(|it| chain.follow(*it)).collect::<Vec<_>>()
        };
        assert_eq!(said(&whole), [First, Again, Holds, Holds, Holds, First]);
        let lost = [whole[0], whole[3], whole[4]];
        assert_eq!(said(&lost), [First, Breaks(whole[0]), Holds]);
        let swapped = [whole[2], whole[0]];
        assert_eq!(said(&swapped), [First, Breaks(whole[2])]);
    }
}

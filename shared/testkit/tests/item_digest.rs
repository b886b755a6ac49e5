//! Digests of items say what a comparison of their values says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where something is not as it should be"
)]

use highwater_domain::item_digest::{ItemDigest, ItemDigester};
use highwater_testkit::attribute::{Attribute, Item};
use highwater_testkit::canonical::canonical;
use highwater_testkit::generate::{Generator, KeyShape};
use highwater_testkit::respell::respelled;

const SALT: u128 = 7;

fn digests(shape: KeyShape, item: &[u8]) -> ItemDigest {
    let mut digester = ItemDigester::new(&shape.schema(), SALT);
    let digest = digester.digest(item);
    digest.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(item)))
}

/// Any item has the digests of any copy in other words, for every type of key.
#[test]
fn a_copy_in_other_words_has_the_same_digests() {
    for shape in KeyShape::all() {
        for seed in 0..4 {
            let generator = Generator::new(seed, shape).with_big_every(100);
            for index in 0..150 {
                let item = generator.attributes(index);
                let (one, other) = (item.json(), respelled(&item, seed << 32 | index));
                assert_eq!(canonical(&one), canonical(&other), "the oracle agrees");
                assert_eq!(digests(shape, &one), digests(shape, &other));
            }
        }
    }
}

/// Whatever is changed anywhere in an item, its digest differs exactly if the values do, and its key's if its key does.
#[test]
fn a_changed_item_has_another_digest() {
    let shape = KeyShape::STRING;
    let generator = Generator::small(1, shape);
    let mut random = fastrand::Rng::with_seed(9);
    let (mut changed, mut keys) = (0, 0);
    for index in 0..3000 {
        let item = generator.attributes(index);
        let mut other = item.clone();
        mutate(&mut other, &mut random);
        let (one, two) = (item.json(), respelled(&other, index));
        let (a, b) = (digests(shape, &one), digests(shape, &two));
        let (one, two) = (canonical(&one), canonical(&two));
        assert_eq!(a.item == b.item, one == two, "{one} {two}");
        let same_key = shape
            .schema()
            .attributes()
            .all(|it| one[&it.name] == two[&it.name]);
        assert_eq!(a.key == b.key, same_key, "{one} {two}");
        changed += u32::from(one != two);
        keys += u32::from(!same_key);
    }
    assert!(changed > 1500 && keys > 50, "{changed} {keys}");
}

#[test]
fn different_items_have_different_digests() {
    for shape in KeyShape::all() {
        let generator = Generator::small(3, shape);
        let mut seen = std::collections::HashMap::new();
        for index in 0..2000 {
            let item = generator.item(index);
            let digest = digests(shape, &item);
            if let Some(other) = seen.insert(digest.item, item.clone()) {
                assert_eq!(canonical(&item), canonical(&other));
            }
        }
    }
}

/// Changes something, or sometimes nothing.
fn mutate(item: &mut Item, random: &mut fastrand::Rng) {
    let at = random.usize(0..item.0.len());
    match random.u32(0..4) {
        0 if item.0[at].0 != "pk" && item.0[at].0 != "sk" => drop(item.0.remove(at)),
        1 => item.0.push(("another".to_owned(), Attribute::Null)),
        _ => mutate_value(&mut item.0[at].1, random),
    }
}

fn mutate_value(value: &mut Attribute, random: &mut fastrand::Rng) {
    match value {
        Attribute::S(text) => text.push('x'),
        Attribute::N(number) => {
            let other = if number == "7" { "7.5" } else { "7" };
            other.clone_into(number);
        }
        Attribute::B(bytes) => bytes.push(0),
        Attribute::Bool(it) => *it = !*it,
        Attribute::Null => *value = Attribute::Bool(true),
        Attribute::M(members) if members.is_empty() => *value = Attribute::L(Vec::new()),
        Attribute::M(members) => {
            let at = random.usize(0..members.len());
            mutate_value(&mut members[at].1, random);
        }
        // A list in another order is another list.
        Attribute::L(values) if random.bool() => values.reverse(),
        Attribute::L(values) => match values.last_mut() {
            Some(last) => mutate_value(last, random),
            None => values.push(Attribute::Null),
        },
        Attribute::Ss(texts) => texts.push("one more".to_owned()),
        Attribute::Ns(numbers) => numbers.push("0.123456789".to_owned()),
        Attribute::Bs(blobs) => drop(blobs.pop()),
    }
}

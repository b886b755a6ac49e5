//! Items drawn from a seed: everything that DynamoDB allows, the awkward first.

use std::collections::BTreeMap;

use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};

use crate::attribute::{Attribute, Item};
pub use crate::canonical::{canonical, canonical_number};

/// The most bytes of an item by DynamoDB's rule.
const ITEM_BYTES: usize = 409_600;
/// Maps and lists around a leaf, at most: with the leaf itself the 32 levels that DynamoDB allows.
const NESTING: usize = 31;
/// Items of one partition, in tables with a sort key.
const PER_PARTITION: u64 = 8;

/// The types of a table's primary key. The attributes are `pk` and `sk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyShape {
    /// The partition key's type.
    pub partition: ScalarType,
    /// The sort key's type, if there is one.
    pub sort: Option<ScalarType>,
}

impl KeyShape {
    /// One string.
    pub const STRING: Self = Self {
        partition: ScalarType::S,
        sort: None,
    };

    /// Every combination: three types, alone and with each of the three.
    pub fn all() -> impl Iterator<Item = Self> {
        let types = [ScalarType::S, ScalarType::N, ScalarType::B];
        let sorts = [
            None,
            Some(ScalarType::S),
            Some(ScalarType::N),
            Some(ScalarType::B),
        ];
        types
            .into_iter()
            .flat_map(move |partition| sorts.into_iter().map(move |sort| Self { partition, sort }))
    }

    /// The key as the domain knows it.
    #[must_use]
    pub fn schema(self) -> KeySchema {
        let attribute = |name: &str, scalar_type| KeyAttribute {
            name: name.to_owned(),
            scalar_type,
        };
        KeySchema {
            partition: attribute("pk", self.partition),
            sort: self.sort.map(|sort| attribute("sk", sort)),
        }
    }
}

/// Makes items: the same seed, shape and index always give the same item.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    seed: u64,
    shape: KeyShape,
    profile: Profile,
}

#[derive(Clone, Copy, Debug)]
enum Profile {
    /// Everything, and one item in so many as large as an item can be.
    Everything { big_every: u64 },
    /// 200 to 400 bytes, as many tables have.
    Small,
}

impl Generator {
    /// Items of every kind; one in 400 is nearly 400 KB.
    #[must_use]
    pub fn new(seed: u64, shape: KeyShape) -> Self {
        Self {
            seed,
            shape,
            profile: Profile::Everything { big_every: 400 },
        }
    }

    /// Items of 200 to 400 bytes, for tables of many.
    #[must_use]
    pub fn small(seed: u64, shape: KeyShape) -> Self {
        Self {
            seed,
            shape,
            profile: Profile::Small,
        }
    }

    /// Makes one item in `every` nearly 400 KB, from the first on; 0 makes none so.
    #[must_use]
    pub fn with_big_every(mut self, every: u64) -> Self {
        self.profile = Profile::Everything { big_every: every };
        self
    }

    /// The types of its keys.
    #[must_use]
    pub fn shape(&self) -> KeyShape {
        self.shape
    }

    /// Item `index` as DynamoDB JSON on one line.
    #[must_use]
    pub fn item(&self, index: u64) -> Vec<u8> {
        self.attributes(index).json()
    }

    /// Items 0 to `count`.
    pub fn items(&self, count: u64) -> impl Iterator<Item = Item> + use<> {
        let generator = *self;
        (0..count).map(move |index| generator.attributes(index))
    }

    /// Item `index` with its values as they are. Its key is unique among all indices.
    #[must_use]
    pub fn attributes(&self, index: u64) -> Item {
        let mut random =
            fastrand::Rng::with_seed(self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut item = self.key(index);
        match self.profile {
            Profile::Small => small_attributes(&mut random, index, &mut item),
            Profile::Everything { big_every } => {
                self.awkward_attributes(&mut random, &mut item);
                if big_every > 0 && index.is_multiple_of(big_every) {
                    fill_up(&mut random, &mut item);
                }
            }
        }
        random.shuffle(&mut item);
        Item(item)
    }

    fn key(&self, index: u64) -> Vec<(String, Attribute)> {
        let Some(sort) = self.shape.sort else {
            return vec![("pk".to_owned(), key_value(self.shape.partition, index))];
        };
        let partition = key_value(self.shape.partition, index / PER_PARTITION);
        let sort = key_value(sort, index % PER_PARTITION);
        vec![("pk".to_owned(), partition), ("sk".to_owned(), sort)]
    }

    fn awkward_attributes(&self, random: &mut fastrand::Rng, item: &mut Vec<(String, Attribute)>) {
        let mut attributes = BTreeMap::new();
        for _ in 0..random.usize(..9) {
            attributes.insert(name(random), value(random, 3));
        }
        if random.u8(..20) == 0 {
            attributes.insert("deep".to_owned(), deep(random));
        }
        // Index keys must have their type; many items have none, as in a sparse index.
        if random.bool() {
            attributes.insert(
                "gsi_key".to_owned(),
                Attribute::S(format!("g{}", random.u8(..9))),
            );
        }
        if self.shape.sort.is_some() && random.bool() {
            attributes.insert(
                "lsi_key".to_owned(),
                Attribute::N(random.i32(..).to_string()),
            );
        }
        item.extend(attributes);
    }
}

/// A key value that no other index has, in one of the forms keys come in.
fn key_value(scalar_type: ScalarType, index: u64) -> Attribute {
    match scalar_type {
        ScalarType::S => Attribute::S(match index % 5 {
            0 => format!("item-{index:09}"),
            1 => format!("\u{e9}/\u{1f600} {index}"),
            2 => format!("}}}},{{\"{index}"),
            3 => format!("a+b\\%2F\t{index}"),
            _ => index.to_string(),
        }),
        ScalarType::N => Attribute::N(match index % 4 {
            0 => index.to_string(),
            1 => format!("-{index}"),
            2 => format!("98765432109876543210987654321{index:09}"),
            _ => format!("{index}.25"),
        }),
        ScalarType::B => {
            let mut bytes = index.to_be_bytes().to_vec();
            bytes.push(0xff);
            Attribute::B(bytes)
        }
    }
}

fn small_attributes(random: &mut fastrand::Rng, index: u64, item: &mut Vec<(String, Attribute)>) {
    let note: String = (0..random.usize(50..180))
        .map(|_| random.alphanumeric())
        .collect();
    item.extend([
        (
            "customer".to_owned(),
            Attribute::S(format!("customer-{}", random.u32(..50_000))),
        ),
        (
            "status".to_owned(),
            Attribute::S(
                random
                    .choice(["open", "paid", "sent"])
                    .unwrap_or("open")
                    .to_owned(),
            ),
        ),
        (
            "amount".to_owned(),
            Attribute::N(format!("{}.{}", random.u16(1..), random.u8(1..10))),
        ),
        ("number".to_owned(), Attribute::N(index.to_string())),
        ("paid".to_owned(), Attribute::Bool(random.bool())),
        ("note".to_owned(), Attribute::S(note)),
    ]);
}

/// Names that a careless reader of JSON trips over. None is a key of the table or of an index.
const NAMES: [&str; 12] = [
    "Items",
    "Item",
    "S",
    "M",
    "LastEvaluatedKey",
    "a\"b",
    "a\\",
    "}},{\"",
    "with space",
    "\u{e9}\u{65e5}\u{1f600}",
    "\u{1}\n\t",
    "Count",
];

const TEXTS: [&str; 12] = [
    "",
    "plain",
    "\"",
    "\\",
    "\\\"",
    "}},{\"",
    "{\"Items\":[{\"id\":{\"S\":\"x\"}}]}",
    "\u{0}\u{1}\u{1f}\u{7f}",
    "line\nbreak\r\n\ttab",
    "\u{e9}\u{df}\u{65e5}\u{672c}\u{1f600}\u{2028}",
    "]},\"LastEvaluatedKey\":null",
    "/\u{8}\u{c}",
];

/// Numbers of all magnitudes, some in forms that DynamoDB normalises.
const NUMBERS: [&str; 16] = [
    "0",
    "-0",
    "1",
    "-1",
    "1.50",
    "007",
    "100",
    "1e2",
    "-12.3400",
    "0.000001",
    "1E-130",
    "9.9999999999999999999999999999999999999E+125",
    "-9.9999999999999999999999999999999999999E+125",
    "12345678901234567890123456789012345678",
    "-0.00000000000000000012345678901234567890",
    "1E+125",
];

fn name(random: &mut fastrand::Rng) -> String {
    if random.bool() {
        return format!("attribute{}", random.u8(..40));
    }
    NAMES[random.usize(..NAMES.len())].to_owned()
}

fn text(random: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(..4) {
        text.push_str(TEXTS[random.usize(..TEXTS.len())]);
    }
    text
}

fn number(random: &mut fastrand::Rng) -> String {
    match random.u8(..3) {
        0 => NUMBERS[random.usize(..NUMBERS.len())].to_owned(),
        1 => random.i64(..).to_string(),
        _ => format!("{}.{:03}", random.i32(..), random.u16(..1000)),
    }
}

fn bytes(random: &mut fastrand::Rng) -> Vec<u8> {
    (0..random.usize(..40)).map(|_| random.u8(..)).collect()
}

/// A value of any type, with at most `levels` of maps and lists.
fn value(random: &mut fastrand::Rng, levels: usize) -> Attribute {
    let kinds = if levels == 0 { 8 } else { 10 };
    let several = |random: &mut fastrand::Rng| random.usize(1..5);
    match random.u8(..kinds) {
        0 => Attribute::S(text(random)),
        1 => Attribute::N(number(random)),
        2 => Attribute::B(bytes(random)),
        3 => Attribute::Bool(random.bool()),
        4 => Attribute::Null,
        5 => Attribute::Ss(distinct(several(random), |n| {
            format!("{}{n}", text(random))
        })),
        6 => Attribute::Ns(distinct(several(random), |n| {
            format!("{n}.{}", random.u8(1..10))
        })),
        7 => Attribute::Bs(distinct(several(random), |n| {
            vec![u8::try_from(n).unwrap_or(0); n]
        })),
        8 => {
            let members: BTreeMap<String, Attribute> = (0..random.usize(..4))
                .map(|_| (name(random), value(random, levels - 1)))
                .collect();
            Attribute::M(members.into_iter().collect())
        }
        _ => Attribute::L(
            (0..random.usize(..4))
                .map(|_| value(random, levels - 1))
                .collect(),
        ),
    }
}

/// So many values that differ, because each is made from its own number.
fn distinct<T>(count: usize, make: impl FnMut(usize) -> T) -> Vec<T> {
    (0..count).map(make).collect()
}

/// Maps and lists around one leaf, as deep as DynamoDB allows.
fn deep(random: &mut fastrand::Rng) -> Attribute {
    (0..NESTING).fold(Attribute::S("bottom".to_owned()), |inner, _| {
        if random.bool() {
            Attribute::L(vec![inner])
        } else {
            Attribute::M(vec![("in".to_owned(), inner)])
        }
    })
}

/// Adds text until the item is within a few bytes of the largest.
fn fill_up(random: &mut fastrand::Rng, item: &mut Vec<(String, Attribute)>) {
    // Engines may count a number's digits a little differently: the margin is for them.
    let margin = 64 + random.usize(..64);
    let used = Item(item.clone()).size() + "filling".len();
    let room = ITEM_BYTES.saturating_sub(used + margin);
    let word = "0123456789 \"quoted\" \u{e9}\u{1f600} }},{\" ";
    let mut filling = word.repeat(room / word.len());
    filling.extend(std::iter::repeat_n('x', room - filling.len()));
    item.push(("filling".to_owned(), Attribute::S(filling)));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_item_depends_on_seed_and_index_only() {
        for shape in KeyShape::all() {
            let generator = Generator::new(7, shape);
            assert_eq!(generator.item(41), Generator::new(7, shape).item(41));
            assert_ne!(generator.item(41), generator.item(42));
            assert_ne!(generator.item(41), Generator::new(8, shape).item(41));
        }
    }

    #[test]
    fn keys_are_unique_and_of_their_types() {
        for shape in KeyShape::all() {
            let schema = shape.schema();
            let generator = Generator::new(1, shape).with_big_every(0);
            let keys: HashSet<_> = (0..500)
                .map(|index| schema.key_of(&generator.item(index)).unwrap())
                .collect();
            assert_eq!(keys.len(), 500, "{shape:?}");
        }
    }

    #[test]
    fn all_types_and_sizes_occur() {
        let generator = Generator::new(3, KeyShape::STRING);
        let all: Vec<u8> = (0..800).flat_map(|index| generator.item(index)).collect();
        let all = String::from_utf8(all).unwrap();
        for kind in ["S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"] {
            assert!(all.contains(&format!("{{\"{kind}\":")), "{kind}");
        }
        for found in [
            "{\"M\":{}}",
            "{\"L\":[]}",
            "{\"S\":\"\"}",
            "{\"B\":\"\"}",
            "E+125",
            "\"deep\"",
        ] {
            assert!(all.contains(found), "{found}");
        }
        let sizes: Vec<usize> = (0..800)
            .map(|index| generator.attributes(index).size())
            .collect();
        assert_eq!(sizes.iter().filter(|size| **size > 409_400).count(), 2);
        assert!(sizes.iter().all(|size| *size <= ITEM_BYTES));
        let small = Generator::small(3, KeyShape::STRING);
        let sizes = (0..500).map(|index| small.item(index).len());
        let (least, most) = (sizes.clone().min(), sizes.max());
        assert!(
            least >= Some(200) && most <= Some(400),
            "{least:?} to {most:?}"
        );
    }
}

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use highwater_testkit::generate::{Generator, KeyShape};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::*;

/// Anything, as serde is told of it.
#[derive(Clone, Debug, PartialEq)]
enum Any {
    Text(String),
    Int(i64),
    Large(u64),
    Float(u64),
    Bytes(Vec<u8>),
    Bool(bool),
    Unit,
    Seq(Vec<Any>),
    Map(BTreeMap<String, Any>),
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Takes;
        impl<'de> Visitor<'de> for Takes {
            type Value = Any;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<Any, E> {
                Ok(Any::Text(text.to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Any, E> {
                Ok(Any::Int(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Any, E> {
                Ok(Any::Large(number))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Any, E> {
                Ok(Any::Float(number.to_bits()))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Any, E> {
                Ok(Any::Bytes(bytes.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
                Ok(Any::Bool(value))
            }
            fn visit_unit<E>(self) -> Result<Any, E> {
                Ok(Any::Unit)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Any, A::Error> {
                let mut seq = Vec::new();
                while let Some(element) = all.next_element()? {
                    seq.push(element);
                }
                Ok(Any::Seq(seq))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Any, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, value)) = all.next_entry()? {
                    map.insert(name, value);
                }
                Ok(Any::Map(map))
            }
        }
        deserializer.deserialize_any(Takes)
    }
}

/// What both make of an item; failures only have to be failures.
fn both<T: for<'de> Deserialize<'de> + PartialEq + fmt::Debug>(json: &[u8]) {
    let ours = from_item::<T>(json);
    let theirs = serde_dynamo::from_item::<_, T>(sdk(json));
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
        (Err(_), Err(_)) => {}
        _ => panic!(
            "{ours:?} and {theirs:?} of {}",
            String::from_utf8_lossy(json)
        ),
    }
}

fn sdk(json: &[u8]) -> serde_dynamo::Item {
    fn value(json: &serde_json::Value) -> serde_dynamo::AttributeValue {
        use base64::Engine as _;
        use serde_dynamo::AttributeValue as V;
        let (tag, it) = json.as_object().unwrap().iter().next().unwrap();
        let text = || it.as_str().unwrap().to_owned();
        let blob = |text: &serde_json::Value| {
            let engine = base64::engine::general_purpose::STANDARD;
            engine.decode(text.as_str().unwrap()).unwrap()
        };
        let texts = || {
            it.as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
        };
        match tag.as_str() {
            "S" => V::S(text()),
            "N" => V::N(text()),
            "B" => V::B(blob(it)),
            "BOOL" => V::Bool(it.as_bool().unwrap()),
            "NULL" => V::Null(it.as_bool().unwrap()),
            "SS" => V::Ss(texts().collect()),
            "NS" => V::Ns(texts().collect()),
            "BS" => V::Bs(it.as_array().unwrap().iter().map(blob).collect()),
            "L" => V::L(it.as_array().unwrap().iter().map(value).collect()),
            "M" => {
                let members = it.as_object().unwrap().iter();
                V::M(
                    members
                        .map(|(name, it)| (name.clone(), value(it)))
                        .collect(),
                )
            }
            other => panic!("{other}"),
        }
    }
    let item: serde_json::Value = serde_json::from_slice(json).unwrap();
    let members = item.as_object().unwrap().iter();
    let map: HashMap<_, _> = members
        .map(|(name, it)| (name.clone(), value(it)))
        .collect();
    map.into()
}

#[derive(Debug, PartialEq, Deserialize)]
enum Kind {
    Plain,
    Sized(u32),
    Pair(u8, String),
    Named { a: i64, b: Option<bool> },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped(i64);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Typed {
    s: String,
    c: char,
    i: i32,
    u: u64,
    f: f64,
    b: bool,
    o: Option<String>,
    unit: (),
    list: Vec<i8>,
    pair: (String, u8),
    set: std::collections::BTreeSet<String>,
    numbers: Vec<f32>,
    map: BTreeMap<i32, Wrapped>,
    kind: Kind,
    kinds: Vec<Kind>,
    nested: Option<Box<Typed>>,
}

impl Default for Typed {
    fn default() -> Self {
        Self {
            s: String::new(),
            c: 'x',
            i: 0,
            u: 0,
            f: 0.0,
            b: false,
            o: None,
            unit: (),
            list: Vec::new(),
            pair: (String::new(), 0),
            set: std::collections::BTreeSet::new(),
            numbers: Vec::new(),
            map: BTreeMap::new(),
            kind: Kind::Plain,
            kinds: Vec::new(),
            nested: None,
        }
    }
}

#[test]
fn everything_that_dynamodb_allows_is_read_as_serde_dynamo_reads_it() {
    for shape in KeyShape::all() {
        for item in Generator::new(11, shape).with_big_every(0).items(60) {
            both::<Any>(&item.json());
            // Escapes change the bytes and nothing else.
            let escaped = item.json_with_escapes(7);
            assert_eq!(
                from_item::<Any>(&escaped).unwrap(),
                from_item::<Any>(&item.json()).unwrap()
            );
        }
    }
}

const VALUES: &[&str] = &[
    r#"{"S":""}"#,
    r#"{"S":"x"}"#,
    r#"{"S":"xy"}"#,
    r#"{"S":"Plain"}"#,
    r#"{"S":"é\n"}"#,
    r#"{"S":"7"}"#,
    r#"{"N":"7"}"#,
    r#"{"N":"-7"}"#,
    r#"{"N":"7.5"}"#,
    r#"{"N":"300"}"#,
    r#"{"N":"18446744073709551615"}"#,
    r#"{"N":"1E+30"}"#,
    r#"{"B":"AAE="}"#,
    r#"{"BOOL":true}"#,
    r#"{"NULL":true}"#,
    r#"{"L":[]}"#,
    r#"{"L":[{"N":"1"},{"N":"2"}]}"#,
    r#"{"L":[{"S":"a"},{"N":"2"},{"BOOL":false}]}"#,
    r#"{"L":[{"S":"Plain"},{"M":{"Sized":{"N":"3"}}},{"M":{"Pair":{"L":[{"N":"1"},{"S":"b"}]}}}]}"#,
    r#"{"SS":["b","a"]}"#,
    r#"{"NS":["1.5","-2"]}"#,
    r#"{"NS":["1","2"]}"#,
    r#"{"BS":["AAE="]}"#,
    r#"{"M":{}}"#,
    r#"{"M":{"1":{"N":"5"},"-2":{"N":"6"}}}"#,
    r#"{"M":{"Sized":{"N":"3"}}}"#,
    r#"{"M":{"Plain":{"NULL":true}}}"#,
    r#"{"M":{"Named":{"M":{"a":{"N":"1"},"b":{"NULL":true}}}}}"#,
    r#"{"M":{"Named":{"M":{"a":{"N":"1"}}}}}"#,
    r#"{"M":{"Sized":{"N":"3"},"Plain":{"S":"x"}}}"#,
    r#"{"M":{"s":{"S":"deep"},"i":{"N":"4"}}}"#,
    r#"{"M":{"Unknown":{"N":"3"}}}"#,
];

const FIELDS: &[&str] = &[
    "s", "c", "i", "u", "f", "b", "o", "unit", "list", "pair", "set", "numbers", "map", "kind",
    "kinds", "nested",
];

/// Every value in every field: what is taken and what is refused.
#[test]
fn every_type_takes_and_refuses_what_serde_dynamo_does() {
    let mut taken = 0;
    for field in FIELDS {
        for value in VALUES {
            let item = format!(r#"{{"{field}":{value}}}"#);
            both::<Typed>(item.as_bytes());
            taken += u32::from(from_item::<Typed>(item.as_bytes()).is_ok());
        }
    }
    assert!(taken > 50, "{taken}");
}

proptest! {
    #[test]
    fn whole_items_of_some_fields_are_read_alike(
        picks in prop::collection::btree_map(0..FIELDS.len(), 0..VALUES.len(), 0..10)
    ) {
        let members: Vec<String> = picks
            .iter()
            .map(|(field, value)| format!(r#""{}":{}"#, FIELDS[*field], VALUES[*value]))
            .collect();
        both::<Typed>(format!("{{{}}}", members.join(",")).as_bytes());
    }

    /// Nothing that is cut off or mangled is read as if it were whole, and nothing panics.
    #[test]
    fn what_is_mangled_is_refused_or_read(at in 0_usize..300, byte in any::<u8>()) {
        let item = br#"{"s":{"S":"a\"b"},"list":{"L":[{"N":"1"},{"N":"-2"}]},"nested":{"M":{"kind":{"M":{"Sized":{"N":"3"}}},"map":{"M":{"1":{"N":"5"}}}}},"b":{"BOOL":true}}"#;
        let cut = at.min(item.len() - 1);
        prop_assert!(from_item::<Any>(&item[..cut]).is_err());
        let mut mangled = item.to_vec();
        mangled[cut] = byte;
        let _ = from_item::<Any>(&mangled);
        let _ = from_item::<Typed>(&mangled);
    }
}

#[test]
fn what_serde_dynamo_does_not_know() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct More<'a> {
        wide: i128,
        exact: Number,
        #[serde(borrow)]
        text: &'a str,
        numbers: Vec<Number>,
        set: Vec<Wrapped>,
    }
    let item = br#"{"wide":{"N":"-170141183460469231731687303715884105728"},"exact":{"N":"1.50"},"text":{"S":"lent"},"numbers":{"L":[{"N":"2.0"}]},"set":{"NS":["3"]},"other":{"N":"no number"}}"#;
    let more: More<'_> = from_item(item).unwrap();
    assert_eq!(more.wide, i128::MIN);
    assert_eq!(more.exact.to_string(), "1.50");
    assert_eq!((more.text, more.numbers[0].as_str()), ("lent", "2.0"));
    assert_eq!(more.set, [Wrapped(3)]);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let told = |item: &str| from_item::<Typed>(item.as_bytes()).unwrap_err().to_string();
    for (item, words) in [
        (
            r#"{"i":{"S":"x"}}"#,
            "a string (S) where a number (N) should be",
        ),
        (r#"{"i":{"N":"7.5"}}"#, "the number 7.5 is not an i32"),
        (r#"{"i":{"X":"7"}}"#, "\"X\" is not a DynamoDB type"),
        (r#"{"i":{}}"#, "without a type"),
        (r#"{"i":{"N":"1","S":"x"}}"#, "two types"),
        (r#"{"i":7}"#, "an attribute value"),
        (r#"{"o":{"NULL":false}}"#, "a NULL that is not true"),
        (r#"{"s":{"S":"a"}} x"#, "trailing"),
    ] {
        let error = told(item);
        assert!(
            error.contains(words) && error.contains("column"),
            "{item}: {error}"
        );
    }
}

#[test]
fn one_attribute_can_be_read_by_itself() {
    assert_eq!(
        from_attribute::<Vec<u8>>(br#"{"NS":["1","2"]}"#).unwrap(),
        [1, 2]
    );
    assert!(from_attribute::<u8>(br#"{"N":"1"} {"#).is_err());
}

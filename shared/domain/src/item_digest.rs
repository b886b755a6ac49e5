//! Short proofs that two items are, or are not, the same: a digest of the key and one of the whole item.

use sha2::{Digest, Sha256};

use crate::canonical_item::CanonicalItem;
use crate::key::{KeyAttribute, KeyError, KeySchema, ScalarType};

/// The digests of one item, 128 bits of SHA-256 each.
///
/// Digests of one salt are equal for equal items, in whatever order and spelling they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemDigest {
    /// Of its primary key.
    pub key: u128,
    /// Of all its attributes.
    pub item: u128,
}

/// Makes digests of items.
///
/// Digests that are to be compared need the same salt. It should be new for every comparison: whoever writes a
/// backup then cannot choose items whose digests add up to those of others.
#[derive(Clone, Debug)]
pub struct ItemDigester {
    schema: KeySchema,
    salt: u128,
    canonical: CanonicalItem,
}

impl ItemDigester {
    /// Makes digests of the items of a table with this key.
    #[must_use]
    pub fn new(schema: &KeySchema, salt: u128) -> Self {
        Self {
            schema: schema.clone(),
            salt,
            canonical: CanonicalItem::default(),
        }
    }

    /// The digests of one item, given as DynamoDB JSON (`{"id":{"S":"a"},…}`).
    ///
    /// Two items are equal if they have the same attributes with the same values: numbers compare as numbers,
    /// binaries as bytes, sets without an order, and the escapes of strings do not count.
    pub fn digest(&mut self, item: &[u8]) -> Result<ItemDigest, KeyError> {
        let not_an_item = |error: serde_json::Error| KeyError::NotAnItem(error.to_string());
        self.canonical.read(item).map_err(not_an_item)?;
        let mut key = self.salted(b'K');
        for attribute in self.schema.attributes() {
            key.update(self.key_value(attribute)?);
        }
        let mut whole = self.salted(b'I');
        whole.update(self.canonical.bytes().map_err(not_an_item)?);
        Ok(ItemDigest {
            key: half(key),
            item: half(whole),
        })
    }

    /// The letter keeps digests of keys and of items apart.
    fn salted(&self, letter: u8) -> Sha256 {
        Sha256::new()
            .chain_update(self.salt.to_be_bytes())
            .chain_update([letter])
    }

    /// The canonical bytes of a key attribute, which tell their own length.
    fn key_value(&self, attribute: &KeyAttribute) -> Result<&[u8], KeyError> {
        let name = || attribute.name.clone();
        let value = self.canonical.value_of(&attribute.name);
        let value = value.ok_or_else(|| KeyError::Missing(name()))?;
        let letter = match attribute.scalar_type {
            ScalarType::S => b'S',
            ScalarType::N => b'N',
            ScalarType::B => b'B',
        };
        if value.first() == Some(&letter) {
            return Ok(value);
        }
        Err(KeyError::WrongType {
            name: name(),
            expected: attribute.scalar_type,
        })
    }
}

/// The first half of a SHA-256.
fn half(hash: Sha256) -> u128 {
    let digest: [u8; 32] = hash.finalize().into();
    digest
        .iter()
        .take(16)
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> KeySchema {
        let attribute = |name: &str, scalar_type| KeyAttribute {
            name: name.to_owned(),
            scalar_type,
        };
        KeySchema {
            partition: attribute("id", ScalarType::S),
            sort: Some(attribute("at", ScalarType::N)),
        }
    }

    fn digest(item: &str) -> ItemDigest {
        let digest = ItemDigester::new(&schema(), 7).digest(item.as_bytes());
        digest.unwrap_or_else(|error| panic!("{error}: {item}"))
    }

    /// The digests of an item with these attributes beside its key.
    fn with(attributes: &str) -> ItemDigest {
        digest(&format!(
            r#"{{"id":{{"S":"a"}},"at":{{"N":"1"}},{attributes}}}"#
        ))
    }

    #[test]
    fn spelling_and_order_do_not_count() {
        for [one, other] in [
            [
                r#""x":{"S":"é\n"},"y":{"BOOL":true}"#,
                r#" "\u0079" : {"BOOL":true} , "x":{"S":"\u00E9\u000a"}"#,
            ],
            [r#""x":{"N":"100"}"#, r#""x":{"N":"1.0E2"}"#],
            [r#""x":{"N":"0"}"#, r#""x":{"N":"-0.00"}"#],
            [r#""x":{"B":"/wA="}"#, r#""x":{"B":"\/wA\u003d"}"#],
            [
                r#""x":{"SS":["a","b",""]}"#,
                r#""x":{"SS":["","b","\u0061"]}"#,
            ],
            [
                r#""x":{"NS":["1","10","2"]}"#,
                r#""x":{"NS":["1e1","2.0","01"]}"#,
            ],
            [
                r#""x":{"BS":["AA==","/w=="]}"#,
                r#""x":{"BS":["\/w==","AA=="]}"#,
            ],
            [
                r#""x":{"L":[{"M":{"b":{"NS":["2","1"]},"a":{"NULL":true}}},{"S":""}]}"#,
                r#""x":{"L":[{"M":{"a":{"NULL":true},"b":{"NS":["1","2"]}}},{"S":""}]}"#,
            ],
        ] {
            assert_eq!(with(one), with(other), "{one} {other}");
        }
    }

    #[test]
    fn values_count() {
        let all = [
            r#""x":{"S":"1"}"#,
            r#""x":{"N":"1"}"#,
            r#""x":{"B":"MQ=="}"#,
            r#""x":{"S":"1 "}"#,
            r#""x":{"S":""}"#,
            r#""X":{"S":"1"}"#,
            r#""x":{"N":"-1"}"#,
            r#""x":{"N":"10"}"#,
            r#""x":{"N":"12345678901234567890123456789012345678"}"#,
            r#""x":{"N":"12345678901234567890123456789012345679"}"#,
            r#""x":{"BOOL":true}"#,
            r#""x":{"BOOL":false}"#,
            r#""x":{"NULL":true}"#,
            r#""x":{"SS":["1"]}"#,
            r#""x":{"NS":["1"]}"#,
            r#""x":{"BS":["MQ=="]}"#,
            r#""x":{"SS":["1","1"]}"#,
            r#""x":{"SS":["11"]}"#,
            r#""x":{"SS":["1",""]}"#,
            r#""x":{"L":[]}"#,
            r#""x":{"L":[{"S":"1"}]}"#,
            r#""x":{"L":[{"S":"1"},{"S":"2"}]}"#,
            r#""x":{"L":[{"S":"2"},{"S":"1"}]}"#,
            r#""x":{"L":[{"L":[{"S":"1"}]},{"S":"2"}]}"#,
            r#""x":{"L":[{"L":[{"S":"1"},{"S":"2"}]}]}"#,
            r#""x":{}"#,
            r#""x":{"M":{}}"#,
            r#""x":{"M":{"S":{"S":"1"}}}"#,
            r#""x":{"M":{"x":{"S":"1"}}}"#,
            r#""x":{"M":{"x":{"M":{"y":{"S":"1"}}}}}"#,
            r#""x":{"M":{"x":{"M":{}},"y":{"S":"1"}}}"#,
            r#""x":{"M":{}},"y":{"S":"1"}"#,
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(with(one).item, with(other).item, "{one} {other}");
                assert_eq!(with(one).key, with(other).key, "the key is the same");
            }
        }
    }

    #[test]
    fn the_key_is_its_attributes_in_their_order_and_nothing_else() {
        let one = digest(r#"{"id":{"S":"a"},"at":{"N":"10"},"x":{"M":{"id":{"S":"b"}}}}"#);
        assert_eq!(
            one.key,
            digest(r#"{"at":{"N":"1E1"},"id":{"S":"\u0061"}}"#).key
        );
        for other in [
            r#"{"id":{"S":"a"},"at":{"N":"1"}}"#,
            r#"{"id":{"S":"a1"},"at":{"N":"0"}}"#,
            r#"{"id":{"S":"A"},"at":{"N":"10"}}"#,
        ] {
            assert_ne!(one.key, digest(other).key, "{other}");
        }
        assert_ne!(one.key, one.item);
    }

    #[test]
    fn every_salt_has_digests_of_its_own() {
        let item = br#"{"id":{"S":"a"},"at":{"N":"1"}}"#;
        let of = |salt| ItemDigester::new(&schema(), salt).digest(item).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1).key, of(2).key);
        assert_ne!(of(1).item, of(2).item);
    }

    #[test]
    fn an_item_leaves_nothing_behind_for_the_next() {
        let mut digester = ItemDigester::new(&schema(), 7);
        let item = r#"{"id":{"S":"a"},"at":{"N":"1"},"x":{"SS":["b","a"]}}"#;
        let broken = r#"{"id":{"S":"a"},"y":{"M":{"z":{"SS":["b","a"#;
        for _ in 0..3 {
            assert!(digester.digest(broken.as_bytes()).is_err());
            assert_eq!(digester.digest(item.as_bytes()), Ok(digest(item)));
        }
    }

    #[test]
    fn what_is_no_item_is_refused_by_name() {
        let refused = |item: &str| {
            let digest = ItemDigester::new(&schema(), 7).digest(item.as_bytes());
            digest.expect_err(item).to_string()
        };
        for (attributes, named) in [
            (r#""x":{"N":"1x"}"#, "\"1x\" is not a number"),
            (r#""x":{"B":"AA"}"#, "not base64"),
            (r#""x":{"NS":["1",""]}"#, "\"\" is not a number"),
            (r#""x":{"S":"x","N":"1"}"#, "two types"),
            (
                r#""x":{"S":"1"},"\u0078":{"S":"2"}"#,
                "\"x\" stands there twice",
            ),
            (
                r#""x":{"M":{"y":{"S":"1"},"z":{"S":"1"},"y":{"S":"1"}}}"#,
                "\"y\" stands there twice",
            ),
            (r#""x":{"N":1}"#, "expected a string"),
        ] {
            let item = format!(r#"{{"id":{{"S":"a"}},"at":{{"N":"1"}},{attributes}}}"#);
            let refusal = refused(&item);
            assert!(refusal.contains(named), "{refusal}: {item}");
        }
        for (item, error) in [
            (r#"{"id":{"S":"a"}}"#, KeyError::Missing("at".into())),
            (
                r#"{"id":{"S":"a"},"at":{"S":"1"}}"#,
                KeyError::WrongType {
                    name: "at".into(),
                    expected: ScalarType::N,
                },
            ),
        ] {
            assert_eq!(refused(item), error.to_string());
        }
        for item in ["", "[]", "{", r#"{"id":{"S":"a"},"at":{"N":"1"}} x"#] {
            assert!(refused(item).contains("not DynamoDB JSON"), "{item}");
        }
        let deep = format!("{{\"a\":{}{}}}", "{\"L\":[".repeat(5000), "]}".repeat(5000));
        assert!(refused(&deep).contains("recursion limit"), "bounded depth");
    }
}

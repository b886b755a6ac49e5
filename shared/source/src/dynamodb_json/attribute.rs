//! One attribute value as a deserializer: its type is known, its value is not read yet.

use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};

use super::number::{Digits, NUMBER};
use super::parts::{Entries, List, OneMember, SetOf};
use super::tag::{Tag, Value};
use super::text::{Ask, Text, bytes};

/// An attribute value whose type's name was read.
pub(super) struct Attribute<R> {
    pub(super) tag: Tag,
    pub(super) value: R,
}

impl<'de, R: Value<'de>> Attribute<R> {
    fn expect(&self, tag: Tag) -> Result<(), R::Error> {
        if self.tag == tag {
            return Ok(());
        }
        Err(self.unexpected(tag.words()))
    }

    fn unexpected(&self, expected: &str) -> R::Error {
        let found = self.tag.words();
        R::Error::custom(format!("{found} where {expected} should be"))
    }

    /// A string of DynamoDB's, for whoever takes strings.
    fn string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        self.expect(Tag::S)?;
        self.value.read(Ask::Str(visitor))
    }

    /// The one value that a `NULL` can have.
    fn null(self) -> Result<(), R::Error> {
        self.expect(Tag::Null)?;
        if self.value.read(std::marker::PhantomData::<bool>)? {
            return Ok(());
        }
        Err(R::Error::custom("a NULL that is not true"))
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
            self.expect(Tag::N)?;
            let text = self.value.read(Text)?;
            Digits::new(&text).$method(visitor)
        }
    )*};
}

macro_rules! the_same_as {
    ($($method:ident $as:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
            self.$as(visitor)
        }
    )*};
}

impl<'de, R: Value<'de>> Deserializer<'de> for Attribute<R> {
    type Error = R::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        match self.tag {
            Tag::S => self.deserialize_str(visitor),
            Tag::N => {
                let text = self.value.read(Text)?;
                Digits::new(&text).deserialize_any(visitor)
            }
            Tag::B => self.deserialize_bytes(visitor),
            Tag::Bool => self.deserialize_bool(visitor),
            Tag::Null => self.deserialize_unit(visitor),
            Tag::M => self.deserialize_map(visitor),
            Tag::L | Tag::Ss | Tag::Ns | Tag::Bs => self.deserialize_seq(visitor),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    the_same_as! {
        deserialize_str string
        deserialize_string string
        deserialize_char string
        deserialize_identifier string
        deserialize_byte_buf deserialize_bytes
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        self.expect(Tag::Bool)?;
        self.value.read(Ask::Bool(visitor))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        self.expect(Tag::B)?;
        let text = self.value.read(Text)?;
        visitor.visit_byte_buf(bytes(&text)?)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        self.null()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        if self.tag == Tag::Null {
            self.null()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        if name == NUMBER {
            self.expect(Tag::N)?;
            let text = self.value.read(Text)?;
            return visitor.visit_newtype_struct(StrDeserializer::new(&text));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        match self.tag {
            Tag::L => self.value.read(Ask::Seq(List(visitor))),
            Tag::Ss => self.value.read(Ask::Seq(SetOf::Strings(visitor))),
            Tag::Ns => self.value.read(Ask::Seq(SetOf::Numbers(visitor))),
            Tag::Bs => self.value.read(Ask::Seq(SetOf::Binaries(visitor))),
            _ => Err(self.unexpected("a list or a set")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        self.expect(Tag::M)?;
        self.value.read(Ask::Map(Entries(visitor)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        match self.tag {
            Tag::L => self.deserialize_seq(visitor),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        match self.tag {
            Tag::S => {
                let text = self.value.read(Text)?;
                visitor.visit_enum(StrDeserializer::new(&text))
            }
            Tag::M => self.value.read(Ask::Map(OneMember(visitor))),
            _ => Err(self.unexpected("an enum: a string, or a map with one member")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
        self.value.read(std::marker::PhantomData::<IgnoredAny>)?;
        visitor.visit_unit()
    }
}

//! What lists, sets and maps consist of.
//!
//! A visitor may stop before the end, as that of a pair does with a list of three: what is left is skipped.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::number::Digits;
use super::tag::Typed;
use super::text::{Ask, Text, bytes};

/// The elements of an `L`.
pub(super) struct List<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for List<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of attribute values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<V::Value, A::Error> {
        let read = self.0.visit_seq(TypedElements(&mut elements))?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(read)
    }
}

struct TypedElements<'a, A>(&'a mut A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for TypedElements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Typed(seed))
    }
}

/// The elements of a set.
pub(super) enum SetOf<V> {
    Strings(V),
    Numbers(V),
    Binaries(V),
}

impl<'de, V: Visitor<'de>> Visitor<'de> for SetOf<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<V::Value, A::Error> {
        let members = &mut elements;
        let read = match self {
            Self::Strings(visitor) => visitor.visit_seq(Strings(members)),
            Self::Numbers(visitor) => visitor.visit_seq(Numbers(members)),
            Self::Binaries(visitor) => visitor.visit_seq(Binaries(members)),
        }?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(read)
    }
}

struct Strings<'a, A>(&'a mut A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strings<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(text) = self.0.next_element_seed(Text)? else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::new(&text)).map(Some)
    }
}

struct Numbers<'a, A>(&'a mut A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Numbers<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(text) = self.0.next_element_seed(Text)? else {
            return Ok(None);
        };
        seed.deserialize(Digits::new(&text)).map(Some)
    }
}

struct Binaries<'a, A>(&'a mut A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Binaries<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(text) = self.0.next_element_seed(Text)? else {
            return Ok(None);
        };
        let bytes = OwnedBytes(bytes::<A::Error>(&text)?, std::marker::PhantomData);
        seed.deserialize(bytes).map(Some)
    }
}

/// Bytes for whoever asks for bytes, or takes anything.
struct OwnedBytes<E>(Vec<u8>, std::marker::PhantomData<E>);

impl<'de, E: Error> Deserializer<'de> for OwnedBytes<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_byte_buf(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The members of an `M`.
pub(super) struct Entries<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Entries<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of attribute values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<V::Value, A::Error> {
        let read = self.0.visit_map(TypedEntries(&mut members))?;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(read)
    }
}

struct TypedEntries<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TypedEntries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Typed(seed))
    }
}

/// An enum's variant with its value: the one member of an `M`.
pub(super) struct OneMember<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OneMember<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with one member")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<V::Value, A::Error> {
        let read = self.0.visit_enum(Variant(&mut members))?;
        if members.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("an enum of two variants at once"));
        }
        Ok(read)
    }
}

struct Variant<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Variant<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), A::Error> {
        let name = self.0.next_key_seed(seed)?;
        let name = name.ok_or_else(|| A::Error::custom("an enum without a variant"))?;
        Ok((name, self))
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Variant<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.next_value::<IgnoredAny>().map(|_| ())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Typed(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(Typed(Ask::Seq(visitor)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(Typed(Ask::Map(visitor)))
    }
}

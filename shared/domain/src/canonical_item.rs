//! One spelling for all spellings of an item, written straight from its JSON.
//!
//! DynamoDB promises no order of attributes and of the elements of a set, answers numbers in a spelling of its own,
//! and JSON has many escapes for one character. Here attributes and set elements are sorted, numbers are reduced to
//! their value, strings are decoded and base64 is turned into bytes; every value begins with its type and its
//! length, so that two items have the same bytes exactly if they are the same item. No value is built: what has
//! been read is already in the output, and only sorting moves it.

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::item_size::TypeName;
use crate::number::CanonicalNumber;

/// The canonical bytes of one item after the other. Its buffers are kept, so that they grow only with the largest.
#[derive(Clone, Debug, Default)]
pub(crate) struct CanonicalItem {
    out: Vec<u8>,
    /// What is being sorted moves through here.
    spare: Vec<u8>,
    /// The elements of all maps and sets that are open, innermost last.
    elements: Vec<Element>,
}

/// One attribute of a map or one element of a set, in the output.
#[derive(Clone, Debug)]
struct Element {
    start: usize,
    /// Elements are sorted by what is before this: an attribute's name, a set's element as a whole.
    order_end: usize,
    end: usize,
}

impl CanonicalItem {
    /// Reads an item: DynamoDB JSON. Its attributes are found with [`value_of`](Self::value_of) until they are
    /// put in order with [`bytes`](Self::bytes).
    pub(crate) fn read(&mut self, item: &[u8]) -> Result<(), serde_json::Error> {
        self.out.clear();
        self.elements.clear();
        let mut reader = serde_json::Deserializer::from_slice(item);
        Attributes(self).deserialize(&mut reader)?;
        reader.end()
    }

    /// The canonical bytes of one attribute's value; the first is its type's letter.
    pub(crate) fn value_of(&self, name: &str) -> Option<&[u8]> {
        let element = self.elements.iter().find(|element| {
            self.out[element.start + LENGTH..element.order_end] == *name.as_bytes()
        })?;
        Some(&self.out[element.order_end..element.end])
    }

    /// The bytes of the item that was read. Fails if an attribute stands there twice, which is no item.
    pub(crate) fn bytes(&mut self) -> Result<&[u8], serde_json::Error> {
        self.sort_attributes(0, 0)?;
        Ok(&self.out)
    }

    fn text(&mut self, text: &[u8]) {
        self.length(text.len());
        self.out.extend_from_slice(text);
    }

    fn length(&mut self, length: usize) {
        // No item has 4 GiB, and a length that were cut short would still not make two items equal by accident.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_be_bytes());
    }

    fn number<E: Error>(&mut self, text: &str) -> Result<(), E> {
        let number = CanonicalNumber::parse(text)
            .ok_or_else(|| E::custom(format_args!("{text:?} is not a number")))?;
        self.out.push(u8::from(number.negative));
        self.out.extend_from_slice(&number.exponent.to_be_bytes());
        self.text(number.digits.as_bytes());
        Ok(())
    }

    fn binary<E: Error>(&mut self, text: &str) -> Result<(), E> {
        let length_at = self.out.len();
        self.length(0);
        BASE64
            .decode_vec(text, &mut self.out)
            .map_err(|error| E::custom(format_args!("not base64: {error}")))?;
        self.patch_length(length_at, self.out.len() - length_at - LENGTH);
        Ok(())
    }

    fn patch_length(&mut self, at: usize, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.out[at..at + LENGTH].copy_from_slice(&length.to_be_bytes());
    }

    /// Begins what will be `count` long, once that is known. Gives the place of its length.
    fn begin(&mut self, letter: u8) -> usize {
        self.out.push(letter);
        self.length(0);
        self.out.len() - LENGTH
    }

    /// Puts the elements from `first` on, whose bytes begin at `from`, in order, and closes their map or set.
    fn sort(&mut self, first: usize, from: usize) {
        let Self {
            out,
            spare,
            elements,
        } = self;
        let elements = &mut elements[first..];
        let order = |element: &Element| element.start..element.order_end;
        if elements.is_sorted_by(|a, b| out[order(a)] <= out[order(b)]) {
            return;
        }
        elements.sort_unstable_by(|a, b| out[order(a)].cmp(&out[order(b)]));
        spare.clear();
        for element in elements {
            let moved = from + spare.len();
            spare.extend_from_slice(&out[element.start..element.end]);
            *element = Element {
                start: moved,
                order_end: moved + (element.order_end - element.start),
                end: moved + (element.end - element.start),
            };
        }
        out[from..].copy_from_slice(spare);
    }

    fn sort_attributes<E: Error>(&mut self, first: usize, from: usize) -> Result<(), E> {
        self.sort(first, from);
        let name = |element: &Element| self.name(element);
        let mut pairs = self.elements[first..].windows(2);
        match pairs.find(|pair| self.out[name(&pair[0])] == self.out[name(&pair[1])]) {
            None => Ok(()),
            Some(pair) => {
                let twice = String::from_utf8_lossy(&self.out[name(&pair[0])]);
                Err(E::custom(format_args!(
                    "attribute {twice:?} stands there twice"
                )))
            }
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "it reads as a question about this output"
    )]
    fn name(&self, element: &Element) -> Range<usize> {
        element.start + LENGTH..element.order_end
    }
}

/// Bytes of a length.
const LENGTH: usize = 4;

/// What a JSON string is to be written as.
#[derive(Clone, Copy)]
enum Text {
    Plain,
    Number,
    Binary,
}

/// A JSON string.
struct TextValue<'c>(&'c mut CanonicalItem, Text);

impl<'de> DeserializeSeed<'de> for TextValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for TextValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.1 {
            Text::Plain => self.0.text(text.as_bytes()),
            Text::Number => self.0.number(text)?,
            Text::Binary => self.0.binary(text)?,
        }
        Ok(())
    }
}

/// Names and values of an item, or of a map in it. They are left open, unsorted.
struct Attributes<'c>(&'c mut CanonicalItem);

impl<'de> DeserializeSeed<'de> for Attributes<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Attributes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of attribute values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        loop {
            let start = self.0.out.len();
            if members
                .next_key_seed(TextValue(self.0, Text::Plain))?
                .is_none()
            {
                return Ok(());
            }
            let order_end = self.0.out.len();
            members.next_value_seed(AttributeValue(self.0))?;
            let end = self.0.out.len();
            self.0.elements.push(Element {
                start,
                order_end,
                end,
            });
        }
    }
}

/// One attribute value: an object with one member, named for its type.
struct AttributeValue<'c>(&'c mut CanonicalItem);

impl<'de> DeserializeSeed<'de> for AttributeValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AttributeValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that names one attribute type")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut member: A) -> Result<(), A::Error> {
        let Some(kind) = member.next_key::<TypeName>()? else {
            // What old dyndump wrote for empty lists, maps and binaries: no value at all, and equal to none.
            self.0.out.push(b'?');
            return Ok(());
        };
        self.0.typed(&kind, &mut member)?;
        if member.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("an attribute value of two types"));
        }
        Ok(())
    }
}

impl CanonicalItem {
    fn typed<'de, A: MapAccess<'de>>(
        &mut self,
        kind: &TypeName,
        member: &mut A,
    ) -> Result<(), A::Error> {
        match kind {
            TypeName::S => member.next_value_seed(self.scalar(b'S', Text::Plain)),
            TypeName::N => member.next_value_seed(self.scalar(b'N', Text::Number)),
            TypeName::B => member.next_value_seed(self.scalar(b'B', Text::Binary)),
            TypeName::Bool | TypeName::Null => {
                let letter = if matches!(kind, TypeName::Bool) {
                    b't'
                } else {
                    b'z'
                };
                let value = member.next_value::<bool>()?;
                self.out.extend_from_slice(&[letter, u8::from(value)]);
                Ok(())
            }
            TypeName::M => {
                let (first, length_at) = (self.elements.len(), self.begin(b'M'));
                member.next_value_seed(Attributes(self))?;
                self.sort_attributes(first, length_at + LENGTH)?;
                self.close(first, length_at);
                Ok(())
            }
            TypeName::L => member.next_value_seed(List(self)),
            TypeName::StringSet => member.next_value_seed(Set(self, b's', Text::Plain)),
            TypeName::NumberSet => member.next_value_seed(Set(self, b'n', Text::Number)),
            TypeName::BinarySet => member.next_value_seed(Set(self, b'b', Text::Binary)),
        }
    }

    fn scalar(&mut self, letter: u8, text: Text) -> TextValue<'_> {
        self.out.push(letter);
        TextValue(self, text)
    }

    fn close(&mut self, first: usize, length_at: usize) {
        self.patch_length(length_at, self.elements.len() - first);
        self.elements.truncate(first);
    }
}

/// The elements of an `L`, whose order counts.
struct List<'c>(&'c mut CanonicalItem);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of attribute values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let length_at = self.0.begin(b'L');
        let mut count = 0;
        while elements
            .next_element_seed(AttributeValue(self.0))?
            .is_some()
        {
            count += 1;
        }
        self.0.patch_length(length_at, count);
        Ok(())
    }
}

/// The elements of a set, whose order does not count.
struct Set<'c>(&'c mut CanonicalItem, u8, Text);

impl<'de> DeserializeSeed<'de> for Set<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Set<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self(canonical, letter, text) = self;
        let (first, length_at) = (canonical.elements.len(), canonical.begin(letter));
        loop {
            let start = canonical.out.len();
            let element = elements.next_element_seed(TextValue(canonical, text))?;
            if element.is_none() {
                break;
            }
            let end = canonical.out.len();
            canonical.elements.push(Element {
                start,
                order_end: end,
                end,
            });
        }
        canonical.sort(first, length_at + LENGTH);
        canonical.close(first, length_at);
        Ok(())
    }
}

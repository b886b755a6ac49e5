//! Finds its way in a text that the parser has checked, without building anything from it.

use std::ops::Range;

use memchr::memchr;

use crate::json_nest::end_of_nest;
use crate::json_string::end_of_string;

/// What JSON passes over between its words.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A walk over a text that is known to be JSON. Behind the text's end it finds zeros, and stops.
pub(crate) struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// Begins at the start of the text.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Begins behind the `{` of an object.
    pub(crate) fn into(text: &'a [u8]) -> Self {
        let mut walk = Self::new(text);
        walk.peek();
        walk.at += 1;
        walk
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a [u8] {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// A name for a message, cut if it is long.
    pub(crate) fn shown(&self, name: &Range<usize>) -> String {
        let name = self.slice(name);
        let short = name.get(..64).unwrap_or(name);
        let dots = if short.len() < name.len() { "…" } else { "" };
        format!("{}{dots}", String::from_utf8_lossy(short))
    }

    /// The next byte that is not white space; the walk stops on it.
    fn peek(&mut self) -> u8 {
        // Most JSON has no white space.
        if let Some(byte) = self.text.get(self.at).filter(|byte| **byte > b' ') {
            return *byte;
        }
        let space = |byte: &&u8| is_space(**byte);
        self.at += self.rest().iter().take_while(space).count();
        self.rest().first().copied().unwrap_or(0)
    }

    /// The next member's name with its quotes, the walk behind its `:`; `None`, and the walk behind the `}`, at
    /// the object's end.
    pub(crate) fn name(&mut self) -> Option<Range<usize>> {
        if self.peek() == b',' {
            self.at += 1;
        }
        if self.peek() != b'"' {
            self.at += 1;
            return None;
        }
        let start = self.at;
        self.string();
        let name = start..self.at;
        self.peek();
        self.at += 1;
        Some(name)
    }

    fn string(&mut self) {
        self.at = end_of_string(self.text, self.at + 1).unwrap_or(self.text.len());
    }

    /// Moves behind the value that begins here.
    pub(crate) fn value(&mut self) {
        match self.peek() {
            0 => {}
            b'"' => self.string(),
            b'{' | b'[' => self.at = end_of_nest(self.text, self.at),
            _ => {
                let scalar =
                    |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                self.at += self.rest().iter().take_while(scalar).count().max(1);
            }
        }
    }

    /// Moves behind the `{` of the object that begins here; false if none does.
    pub(crate) fn enter(&mut self) -> bool {
        let is_object = self.peek() == b'{';
        self.at += usize::from(is_object);
        is_object
    }

    /// The value that begins here, whatever it is, and the walk behind it.
    pub(crate) fn any(&mut self) -> &'a [u8] {
        self.peek();
        let start = self.at;
        self.value();
        self.slice(&(start..self.at))
    }

    /// The string that begins here, without its quotes, and the walk behind it; `None` if none does, or if something
    /// in it is escaped.
    pub(crate) fn plain_string(&mut self) -> Option<&'a [u8]> {
        if self.peek() != b'"' {
            return None;
        }
        let start = self.at;
        self.string();
        unquoted(self.slice(&(start..self.at)))
    }

    /// Moves behind the object that begins here.
    pub(crate) fn object(&mut self) -> Result<Range<usize>, String> {
        if self.peek() != b'{' {
            return Err("it is not an object".into());
        }
        let start = self.at;
        self.value();
        Ok(start..self.at)
    }

    /// Moves behind the value of the attribute called `name`, which must be an object.
    pub(crate) fn attribute(&mut self, name: &Range<usize>) -> Result<(), String> {
        if self.peek() == b'{' {
            self.value();
            return Ok(());
        }
        let name = self.shown(name);
        Err(format!(
            "attribute {name} is no attribute value of DynamoDB JSON, as {{\"S\":\"text\"}} would be"
        ))
    }

    /// Moves behind the item that begins here.
    pub(crate) fn item(&mut self) -> Result<Range<usize>, String> {
        if self.peek() != b'{' {
            return Err("the item is not an object".into());
        }
        let start = self.at;
        self.at += 1;
        while let Some(name) = self.name() {
            self.attribute(&name)?;
        }
        Ok(start..self.at)
    }
}

/// What stands between a string's quotes, if nothing in it is escaped.
pub(crate) fn unquoted(string: &[u8]) -> Option<&[u8]> {
    let inner = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    memchr(b'\\', inner).is_none().then_some(inner)
}

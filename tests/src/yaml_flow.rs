//! YAML within one line: `[a, !Ref B]`, `{ a: b }`, `"quoted"`.

use serde_json::{Map, Value};

use crate::yaml::{plain, tagged_value};

/// Text that is being read, from where it is read on.
pub(crate) struct Flow<'a>(&'a str);

type Read<T> = Result<T, String>;

impl<'a> Flow<'a> {
    /// Why a text cannot be read that may go on on the next line.
    pub(crate) const ENDS_EARLY: &'static str = "the text ends in the middle";

    /// A whole text as one value, with a comment behind it at most.
    pub(crate) fn whole(text: &str) -> Read<Value> {
        let mut flow = Flow(text.trim());
        let value = flow.value()?;
        flow.skip_spaces();
        if flow.0.is_empty() || flow.0.starts_with('#') {
            return Ok(value);
        }
        Err(format!("nothing can follow the value: {}", flow.0))
    }

    /// A quoted scalar at the text's beginning, and what follows it.
    pub(crate) fn quoted(text: &'a str) -> Read<(String, &'a str)> {
        let mut flow = Flow(text);
        let value = flow.quotation()?;
        Ok((value, flow.0))
    }

    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start();
    }

    fn takes(&mut self, text: &str) -> bool {
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn value(&mut self) -> Read<Value> {
        self.skip_spaces();
        match self.0.chars().next() {
            None => Err(Self::ENDS_EARLY.to_owned()),
            Some('[') => self.sequence(),
            Some('{') => self.mapping(),
            Some('"' | '\'') => self.quotation().map(Value::String),
            Some('!') => {
                let tag = self.until(|c| c == ' ');
                let value = self.value()?;
                tagged_value(tag.trim_start_matches('!'), value)
            }
            Some(_) => Ok(plain(self.scalar())),
        }
    }

    fn sequence(&mut self) -> Read<Value> {
        self.takes("[");
        let mut items = Vec::new();
        loop {
            self.skip_spaces();
            if self.takes("]") {
                return Ok(Value::Array(items));
            }
            items.push(self.value()?);
            self.separator(']')?;
        }
    }

    fn mapping(&mut self) -> Read<Value> {
        self.takes("{");
        let mut members = Map::new();
        loop {
            self.skip_spaces();
            if self.takes("}") {
                return Ok(Value::Object(members));
            }
            let name = if self.0.starts_with(['"', '\'']) {
                self.quotation()?
            } else {
                self.name()?
            };
            self.skip_spaces();
            if !self.takes(":") {
                return Err(format!("{name} has no value"));
            }
            let value = self.value()?;
            members.insert(name, value);
            self.separator('}')?;
        }
    }

    /// A comma, or the end, which stays.
    fn separator(&mut self, end: char) -> Read<()> {
        self.skip_spaces();
        if self.0.is_empty() {
            return Err(Self::ENDS_EARLY.to_owned());
        }
        if self.takes(",") || self.0.starts_with(end) {
            return Ok(());
        }
        Err(format!("a comma or {end} is missing before {}", self.0))
    }

    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let (text, rest) = self.0.split_at(self.0.find(ends).unwrap_or(self.0.len()));
        self.0 = rest;
        text.trim_end()
    }

    fn scalar(&mut self) -> &'a str {
        self.until(|c| matches!(c, ',' | ']' | '}'))
    }

    /// A plain name: a colon belongs to it unless a space follows.
    fn name(&mut self) -> Read<String> {
        let end = self.0.find(": ").ok_or(Self::ENDS_EARLY)?;
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        Ok(name.to_owned())
    }

    fn quotation(&mut self) -> Read<String> {
        let mut chars = self.0.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            if Some(c) == quote {
                let rest = self.0.get(at + 1..).unwrap_or_default();
                if c == '\'' && rest.starts_with('\'') {
                    chars.next();
                    text.push('\'');
                    continue;
                }
                self.0 = rest;
                return Ok(text);
            }
            if c == '\\' && quote == Some('"') {
                let escaped = chars.next().map(|(_, c)| c);
                text.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(c @ ('"' | '\\' | '/')) => c,
                    Some(c) => return Err(format!("the escape \\{c} is not understood")),
                    None => return Err(Self::ENDS_EARLY.to_owned()),
                });
            } else {
                text.push(c);
            }
        }
        Err(Self::ENDS_EARLY.to_owned())
    }
}

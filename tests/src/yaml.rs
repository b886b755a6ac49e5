//! Reads YAML as CloudFormation templates use it, into JSON: `!Ref X` becomes `{"Ref": "X"}`, `!Sub …` `{"Fn::Sub": …}`.
//!
//! Block and flow collections, plain, quoted, literal and folded scalars, comments, short tags. Anchors, aliases,
//! several documents and quoted scalars over several lines are refused by name, never misread.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::yaml_flow::Flow;

/// Text that is not YAML as far as it is understood here.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads one document.
pub fn read(text: &str) -> Result<Value, YamlError> {
    let lines = text.lines().enumerate().map(|(number, text)| Line {
        number: number + 1,
        indent: text.len() - text.trim_start_matches(' ').len(),
        text: text.trim_start_matches(' ').to_owned(),
    });
    let mut reader = Reader {
        lines: lines.collect(),
        at: 0,
    };
    let value = reader.node(0)?;
    match reader.peek() {
        None => Ok(value),
        Some(line) => Err(line.wrong("it belongs to nothing above it")),
    }
}

/// The members of an object, in the order of their names; none of anything else.
pub fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[derive(Clone, Debug)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

impl Line {
    fn wrong(&self, what: impl Into<String>) -> YamlError {
        YamlError {
            line: self.number,
            what: what.into(),
        }
    }

    fn says_nothing(&self) -> bool {
        self.text.trim().is_empty() || self.text.starts_with('#')
    }
}

struct Reader {
    lines: Vec<Line>,
    at: usize,
}

impl Reader {
    /// The next line that says something.
    fn peek(&mut self) -> Option<Line> {
        while self.lines.get(self.at)?.says_nothing() {
            self.at += 1;
        }
        self.lines.get(self.at).cloned()
    }

    /// What stands on the next lines, if they are indented by `least` or more; else nothing.
    fn node(&mut self, least: usize) -> Result<Value, YamlError> {
        match self.peek() {
            Some(line) if line.indent < least => Ok(Value::Null),
            None => Ok(Value::Null),
            Some(line) if is_item(&line.text) => self.sequence(line.indent),
            Some(line) if split_member(&line.text).is_some() => self.mapping(line.indent),
            Some(line) => {
                self.at += 1;
                self.value(&line, &line.text, line.indent.saturating_sub(1))
            }
        }
    }

    fn sequence(&mut self, indent: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        while let Some(line) = self.peek() {
            if line.indent != indent || !is_item(&line.text) {
                break;
            }
            let rest = line.text.get(1..).unwrap_or_default();
            let inner = rest.trim_start();
            let moved = line.indent + 1 + (rest.len() - inner.len());
            if is_item(inner) || split_member(inner).is_some() {
                // What stands behind the dash is a collection that begins there.
                if let Some(place) = self.lines.get_mut(self.at) {
                    place.indent = moved;
                    inner.clone_into(&mut place.text);
                }
                items.push(self.node(moved)?);
            } else {
                self.at += 1;
                items.push(self.value(&line, inner, indent)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize) -> Result<Value, YamlError> {
        let mut members = Map::new();
        while let Some(line) = self.peek() {
            if line.indent < indent {
                break;
            }
            let member = split_member(&line.text).filter(|_| line.indent == indent);
            let Some((name, rest)) = member else {
                return Err(line.wrong("it is no member of the mapping that it stands in"));
            };
            self.at += 1;
            let value = self.value(&line, rest, indent)?;
            if members.insert(name.clone(), value).is_some() {
                return Err(line.wrong(format!("{name} is there twice")));
            }
        }
        Ok(Value::Object(members))
    }

    /// The value that begins with `text` on `line` and goes on on the lines that are indented deeper than `outer`.
    fn value(&mut self, line: &Line, text: &str, outer: usize) -> Result<Value, YamlError> {
        let text = text.trim();
        if let Some(tagged) = text.strip_prefix('!') {
            let (tag, rest) = tagged.split_once(' ').unwrap_or((tagged, ""));
            let value = self.value(line, rest, outer)?;
            return tagged_value(tag, value).map_err(|what| line.wrong(what));
        }
        match text.chars().next() {
            None | Some('#') => self.below(line, outer),
            Some('|' | '>') => self.block(line, text, outer),
            Some('[' | '{') => self.flow(line, text),
            Some('&' | '*') => Err(line.wrong("anchors and aliases are not understood")),
            Some('"' | '\'') => {
                Flow::whole(text).map_err(|what| line.wrong(format!("{what} in {text}")))
            }
            Some(_) => Ok(plain(&self.continued(text, outer))),
        }
    }

    /// What is nested below `line`: deeper, or, if that is a name, a sequence at the name's own indentation.
    fn below(&mut self, line: &Line, outer: usize) -> Result<Value, YamlError> {
        let is_name = !is_item(&line.text);
        match self.peek() {
            Some(next) if is_name && next.indent == outer && is_item(&next.text) => {
                self.sequence(outer)
            }
            _ => self.node(outer + 1),
        }
    }

    /// A plain scalar with the lines on which it goes on.
    fn continued(&mut self, text: &str, outer: usize) -> String {
        let mut whole = uncommented(text).to_owned();
        while let Some(line) = self.lines.get(self.at) {
            let goes_on = line.indent > outer && !line.says_nothing();
            if !goes_on || split_member(&line.text).is_some() || is_item(&line.text) {
                break;
            }
            whole.push(' ');
            whole.push_str(uncommented(line.text.trim()));
            self.at += 1;
        }
        whole
    }

    /// A literal (`|`) or folded (`>`) scalar.
    fn block(&mut self, line: &Line, header: &str, outer: usize) -> Result<Value, YamlError> {
        let (folded, chomp) = match uncommented(header) {
            "|" => (false, None),
            "|-" => (false, Some('-')),
            ">" => (true, None),
            ">-" => (true, Some('-')),
            other => return Err(line.wrong(format!("a scalar that begins with {other}"))),
        };
        let mut indent = None;
        let mut lines: Vec<String> = Vec::new();
        while let Some(line) = self.lines.get(self.at) {
            if line.text.trim().is_empty() {
                lines.push(String::new());
            } else if line.indent > outer {
                let first = *indent.get_or_insert(line.indent);
                let deeper = " ".repeat(line.indent.saturating_sub(first));
                lines.push(deeper + line.text.trim_end());
            } else {
                break;
            }
            self.at += 1;
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let mut text = if folded {
            fold(&lines)
        } else {
            lines.join("\n")
        };
        if chomp.is_none() && !text.is_empty() {
            text.push('\n');
        }
        Ok(Value::String(text))
    }

    /// A flow collection, over as many lines as it takes.
    fn flow(&mut self, line: &Line, text: &str) -> Result<Value, YamlError> {
        let mut whole = text.to_owned();
        loop {
            match Flow::whole(&whole) {
                Ok(value) => return Ok(value),
                Err(what) if what != Flow::ENDS_EARLY => return Err(line.wrong(what)),
                Err(what) => {
                    let next = self.peek().ok_or_else(|| line.wrong(what))?;
                    self.at += 1;
                    whole.push(' ');
                    whole.push_str(uncommented(&next.text));
                }
            }
        }
    }
}

/// Lines that follow each other become one; an empty line is a line break.
fn fold(lines: &[String]) -> String {
    let mut text = String::new();
    let mut broken = true;
    for line in lines {
        if line.is_empty() {
            text.push('\n');
            broken = true;
        } else {
            if !broken {
                text.push(' ');
            }
            text.push_str(line);
            broken = false;
        }
    }
    text
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// `name: rest` or `name:` as name and rest.
fn split_member(text: &str) -> Option<(String, &str)> {
    let first = text.chars().next()?;
    if matches!(first, '!' | '[' | '{' | '|' | '>' | '&' | '*' | '#') {
        return None;
    }
    let (name, rest) = if matches!(first, '"' | '\'') {
        let (name, rest) = Flow::quoted(text).ok()?;
        (name, rest.trim_start().strip_prefix(':')?)
    } else {
        let end = text.find(": ").or_else(|| {
            let name = uncommented(text).strip_suffix(':')?;
            Some(name.len())
        })?;
        let (name, rest) = text.split_at(end);
        (name.trim_end().to_owned(), rest.strip_prefix(':')?)
    };
    let ends = rest.is_empty() || rest.starts_with(' ');
    let commented = name.contains(" #");
    (ends && !commented).then_some((name, rest))
}

/// The text before a comment.
fn uncommented(text: &str) -> &str {
    text.split(" #").next().unwrap_or_default().trim_end()
}

/// What a plain scalar says: a number, a truth value, nothing, or text.
pub(crate) fn plain(text: &str) -> Value {
    let looks_like_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    // Leading zeros are kept: an account's number is text.
    let zeros = text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    match text {
        "" | "null" | "~" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if looks_like_number && !zeros => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

/// The long form of a short tag.
pub(crate) fn tagged_value(tag: &str, value: Value) -> Result<Value, String> {
    let (name, value) = match (tag, value) {
        ("Ref" | "Condition", value) => (tag.to_owned(), value),
        ("GetAtt", Value::String(text)) => {
            let (resource, attribute) = text
                .split_once('.')
                .ok_or_else(|| format!("!GetAtt {text} names no attribute"))?;
            let parts = [resource, attribute].map(|part| Value::String(part.to_owned()));
            ("Fn::GetAtt".to_owned(), Value::Array(parts.into()))
        }
        ("", _) => return Err("a tag without a name".to_owned()),
        (function, value) => (format!("Fn::{function}"), value),
    };
    Ok(Value::Object([(name, value)].into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        super::read(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn block_collections_nest_by_their_indentation() {
        let text = "# a comment\na:\n  b: 1 # of it\n\n  c:\n    - x\n    - y: 2\n      z: true\n    - - p\n      - q\nd:\n- at the name's own indentation\ne:\nf: last\n";
        let expected = json!({
            "a": {"b": 1, "c": ["x", {"y": 2, "z": true}, ["p", "q"]]},
            "d": ["at the name's own indentation"], "e": null, "f": "last",
        });
        assert_eq!(read(text), expected);
    }

    #[test]
    fn scalars_are_what_they_say() {
        let text = "a: \"x # \\\"y\\\"\"\nb: 'it''s'\nc: 2012-10-17\nd: \"2012-10-17\"\ne: 0123\nf: -1\ng: arn:aws:s3:::b/*\naws:h: 1.5\n\"i:j\": ''\n";
        let expected = json!({
            "a": "x # \"y\"", "b": "it's", "c": "2012-10-17", "d": "2012-10-17", "e": "0123", "f": -1,
            "g": "arn:aws:s3:::b/*", "aws:h": 1.5, "i:j": "",
        });
        assert_eq!(read(text), expected);
    }

    #[test]
    fn long_texts_are_folded_or_kept() {
        let text = "a: >-\n  one\n  two\n\n  three\nb: |\n  one\n    two: [\n  # three\nc: one\n  two\n  three # but not this\nd: 1\n";
        let expected = json!({
            "a": "one two\nthree", "b": "one\n  two: [\n# three\n", "c": "one two three", "d": 1,
        });
        assert_eq!(read(text), expected);
    }

    #[test]
    fn short_tags_become_functions() {
        let text = "a: !Ref X\nb: !GetAtt X.Arn\nc: !Sub >-\n  ${A}\n  b\nd: !If\n  - Has\n  - !Ref X\n  - !Ref AWS::NoValue\ne: !Join [\",\", [!Ref X, !Sub \"${Y}, z\"]]\nf:\n  - !Not [!Equals [!Ref X, \"\"]]\n  - !Select\n    - 0\n    - !Split [\",\", x]\ng: [1,\n  2]\nh: { A: !Ref B, C: [d] }\n";
        let expected = json!({
            "a": {"Ref": "X"}, "b": {"Fn::GetAtt": ["X", "Arn"]}, "c": {"Fn::Sub": "${A} b"},
            "d": {"Fn::If": ["Has", {"Ref": "X"}, {"Ref": "AWS::NoValue"}]},
            "e": {"Fn::Join": [",", [{"Ref": "X"}, {"Fn::Sub": "${Y}, z"}]]},
            "f": [{"Fn::Not": [{"Fn::Equals": [{"Ref": "X"}, ""]}]},
                {"Fn::Select": [0, {"Fn::Split": [",", "x"]}]}],
            "g": [1, 2], "h": {"A": {"Ref": "B"}, "C": ["d"]},
        });
        assert_eq!(read(text), expected);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line, says) in [
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: &x 1\n", 1, "anchors"),
            ("a:\n  b: 1\n c: 2\n", 3, "no member"),
            ("a: [1\n", 1, "ends"),
            ("a: \"x\n", 1, "ends"),
            ("a: !GetAtt X\n", 1, "attribute"),
            ("- a\nb: 1\n", 2, "nothing above"),
        ] {
            let error = super::read(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.what.contains(says), "{text:?}: {error}");
        }
    }
}

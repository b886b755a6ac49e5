//! What one record asks for: the place of the item in it, or of the key.
//!
//! The text is checked to be JSON first, by the parser; the walks here only find their way in it. Nothing is
//! built from the values.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json_walk::{Walk, is_space};

/// Where in the record's text the item or the key is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An item.
    Put(Range<usize>),
    /// The key of an item that is gone.
    Delete(Range<usize>),
}

/// What is wrong with a stream of objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StreamError {
    /// Line breaks before the place.
    pub(super) line: u64,
    pub(super) reason: String,
}

/// Checks that a line is one JSON object and nothing else.
pub(super) fn whole(line: &[u8]) -> Result<(), String> {
    let first = line.iter().copied().find(|byte| !is_space(*byte));
    match first {
        None => Err("the line is blank".into()),
        Some(b'{') => serde_json::from_slice::<&RawValue>(line)
            .map(drop)
            .map_err(|error| words(&error)),
        Some(_) => Err(no_object(line)),
    }
}

/// The length of the object at the start of `text`; `None` if it goes on behind the text.
pub(super) fn first_object(text: &[u8], ended: bool) -> Result<Option<usize>, StreamError> {
    if text.first() != Some(&b'{') {
        let reason = no_object(text);
        return Err(StreamError { line: 0, reason });
    }
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    match stream.next() {
        Some(Ok(object)) => Ok(Some(object.get().len())),
        Some(Err(error)) if !ended && (error.is_eof() || is_at_end(text, &error)) => Ok(None),
        Some(Err(error)) => Err(StreamError {
            line: (error.line() as u64).saturating_sub(1),
            reason: words(&error),
        }),
        None => Ok(None),
    }
}

/// Whether the parser gave up where the text ends: a number that is cut there is not told from a wrong one.
fn is_at_end(text: &[u8], error: &serde_json::Error) -> bool {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    before + error.column() + 4 >= text.len()
}

fn no_object(text: &[u8]) -> String {
    let shown = text.get(..20).unwrap_or(text);
    let shown = String::from_utf8_lossy(shown);
    format!("a JSON object was expected, found {:?}", shown.trim_end())
}

/// The parser's message without its own idea of lines.
fn words(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    match text.strip_suffix(&format!(" at line {line} column {column}")) {
        Some(message) => format!("{message} at column {column}"),
        None => text,
    }
}

/// `{"Item":{…}}`, strictly.
pub(super) fn wrapped(text: &[u8]) -> Result<Found, String> {
    let mut walk = Walk::into(text);
    let Some(name) = walk.name() else {
        return Err("it has no \"Item\"".into());
    };
    if !is_named(walk.slice(&name), "Item") {
        let name = walk.shown(&name);
        return Err(format!("it has {name} where \"Item\" was expected"));
    }
    let item = walk.item()?;
    match walk.name() {
        None => Ok(Found::Put(item)),
        Some(name) => Err(format!("{} follows \"Item\"", walk.shown(&name))),
    }
}

/// An item and nothing around it.
pub(super) fn bare(text: &[u8]) -> Result<Found, String> {
    Walk::new(text).item().map(Found::Put)
}

/// Whether this is an item of a typed dump: its first attribute's value begins with its `type`, and no value of
/// DynamoDB JSON does.
pub(super) fn is_typed(text: &[u8]) -> bool {
    let mut walk = Walk::into(text);
    walk.name().is_some()
        && walk.enter()
        && walk
            .name()
            .is_some_and(|name| is_named(walk.slice(&name), "type"))
}

/// Either of the two. An item may have one attribute, and that may be called `Item`: the grammar of attribute
/// values tells which it is.
pub(super) fn wrapped_or_bare(text: &[u8]) -> Result<Found, String> {
    if let Ok(Found::Put(item)) = wrapped(text) {
        let inner = text.get(item.clone()).unwrap_or_default();
        if !is_map_value(inner) {
            return Ok(Found::Put(item));
        }
    }
    let found = bare(text)?;
    if is_change(text) {
        return Err("it is a change of an incremental export, not an item; \
                    name the export's own folder, the one with its manifest-summary.json"
            .into());
    }
    Ok(found)
}

/// Whether this object of objects is the value of a map: `{"M":{…}}`, all the way down.
///
/// If so, it is no item with an attribute called `M`: the members of that attribute's value would have to be
/// types with values, and they are names with attribute values. One text is never both.
fn is_map_value(inner: &[u8]) -> bool {
    let mut walk = Walk::into(inner);
    let is_map = walk
        .name()
        .is_some_and(|name| is_named(walk.slice(&name), "M"));
    is_map && serde_json::from_slice::<AttributeValue>(inner).is_ok()
}

/// The grammar of an attribute value.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
enum AttributeValue {
    S(String),
    N(String),
    B(String),
    #[serde(rename = "BOOL")]
    Bool(bool),
    #[serde(rename = "NULL")]
    Null(bool),
    #[serde(rename = "SS")]
    Strings(Vec<String>),
    #[serde(rename = "NS")]
    Numbers(Vec<String>),
    #[serde(rename = "BS")]
    Binaries(Vec<String>),
    L(Vec<AttributeValue>),
    M(BTreeMap<String, AttributeValue>),
}

/// Whether an object of objects is a line of an incremental export: no item can look like one, because
/// `WriteTimestampMicros` is no type.
fn is_change(text: &[u8]) -> bool {
    let mut walk = Walk::into(text);
    match walk.name() {
        Some(name) if is_named(walk.slice(&name), "Metadata") => change(text).is_ok(),
        _ => false,
    }
}

/// The `Metadata` of a change.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeMetadata {
    write_timestamp_micros: WriteTimestamp,
}

#[derive(Deserialize)]
struct WriteTimestamp {
    #[serde(rename = "N")]
    micros: String,
}

/// A line of an incremental export: the last state of one item in the export's window. Without a new image the
/// item is gone; members that nobody has heard of are passed over.
pub(super) fn change(text: &[u8]) -> Result<Found, String> {
    let mut walk = Walk::into(text);
    let [mut metadata, mut keys, mut old, mut new] = [const { None::<Range<usize>> }; 4];
    while let Some(name) = walk.name() {
        let slot = match walk.slice(&name) {
            br#""Metadata""# => &mut metadata,
            br#""Keys""# => &mut keys,
            br#""OldImage""# => &mut old,
            br#""NewImage""# => &mut new,
            _ => {
                walk.value();
                continue;
            }
        };
        let shown = walk.shown(&name);
        let span = walk
            .object()
            .map_err(|reason| format!("{shown}: {reason}"))?;
        if slot.replace(span).is_some() {
            return Err(format!("{shown} stands there twice"));
        }
    }
    let metadata = metadata.ok_or("it has no \"Metadata\"")?;
    let keys = keys.ok_or("it has no \"Keys\"")?;
    check_metadata(text.get(metadata).unwrap_or_default())?;
    let names = attribute_names(text, &keys).map_err(|reason| format!("\"Keys\": {reason}"))?;
    if names.is_empty() || names.len() > 2 {
        return Err(format!("\"Keys\" has {} attributes", names.len()));
    }
    let Some(new) = new else {
        return Ok(Found::Delete(keys));
    };
    let attributes =
        attribute_names(text, &new).map_err(|reason| format!("\"NewImage\": {reason}"))?;
    for name in names {
        if !attributes.contains(&name) {
            let name = String::from_utf8_lossy(name);
            return Err(format!("\"NewImage\" lacks the key attribute {name}"));
        }
    }
    Ok(Found::Put(new))
}

fn check_metadata(metadata: &[u8]) -> Result<(), String> {
    let parsed: ChangeMetadata = serde_json::from_slice(metadata)
        .map_err(|error| format!("\"Metadata\": {}", words(&error)))?;
    let micros = parsed.write_timestamp_micros.micros;
    if !micros.is_empty() && micros.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!(
        "\"Metadata\": {micros:?} is no time in microseconds"
    ))
}

/// The names in an object of objects, with their quotes.
fn attribute_names<'a>(text: &'a [u8], span: &Range<usize>) -> Result<Vec<&'a [u8]>, String> {
    let text = text.get(span.clone()).unwrap_or_default();
    let mut walk = Walk::into(text);
    let mut names = Vec::new();
    while let Some(name) = walk.name() {
        walk.attribute(&name)?;
        names.push(text.get(name).unwrap_or_default());
    }
    Ok(names)
}

/// Whether a member's name, given with its quotes, says `word`, escaped or not.
fn is_named(name: &[u8], word: &str) -> bool {
    if name.contains(&b'\\') {
        return serde_json::from_slice::<String>(name).is_ok_and(|name| name == word);
    }
    name.strip_prefix(b"\"")
        .and_then(|name| name.strip_suffix(b"\""))
        == Some(word.as_bytes())
}

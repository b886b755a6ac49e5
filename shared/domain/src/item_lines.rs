//! The records of a file of a backup, one by one, whoever wrote it. Memory is a few records.
//!
//! Files are untrusted input. What is checked is what a loader must be able to rely on: the grammar of JSON,
//! UTF-8, and that an item is an object of objects. Whether the values are ones that DynamoDB takes is not this
//! file's question: such an item is given out as it is, and rejected whole, with a reason, by whoever writes it
//! (old dyndump wrote `{"attr":{}}` for empty lists, maps and binaries).

use std::io::Read;

use bytes::{Buf as _, Bytes};
use memchr::{memchr, memchr_iter, memchr2};

use crate::backup_source::{LineShape, Packing};
use crate::encoding::decode_typed;
use crate::item_finder::compacted;
use crate::json_walk::is_space;
use crate::packing::{UnpackError, Unpacked};
use crate::part_reader::PartError;
use crate::reused_buffers::ReusedBuffers;
use crate::table_writer::WriteOp;

mod record_shape;

use record_shape::Found;

/// The most bytes that one record may have. An item has at most 400 KB by DynamoDB's count; as JSON, with every
/// byte of its text escaped, several times that.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// What text is decompressed into, at least. Records are slices of it: what keeps one keeps all of it.
const BUFFER_BYTES: usize = 192 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One record of a file: an item to put, or a key to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in the file, from 1. Grows by one from record to record: blank lines do not count, and
    /// several objects on one line count each.
    pub line: u64,
    /// Bytes before compression, with the line break.
    pub plain_bytes: u64,
    /// What is to be done with it. On one line, whatever the file's layout.
    pub op: WriteOp,
}

/// Reads the records of one file.
///
/// Full and incremental exports are read strictly, one record per line. [`LineShape::Bare`] and
/// [`LineShape::Any`] are streams of JSON objects as dyndump's decoder takes them: any white space between
/// two objects, or none, and objects may span lines; a UTF-8 byte order mark at the start is passed over.
/// A line break may be `\n` or `\r\n`; the last may be absent.
#[derive(Debug)]
pub struct ItemLines<R> {
    unpacked: Unpacked<R>,
    object: String,
    shape: LineShape,
    /// What is decompressed and not given out yet.
    text: Bytes,
    buffers: ReusedBuffers,
    /// Whether it ends with the file.
    ended: bool,
    /// The physical line at which it begins, from 1.
    line: u64,
    records: u64,
    plain_bytes: u64,
    /// Where `plain_bytes` stood at the end of the last record.
    reported: u64,
    failed: Option<PartError>,
}

impl<R: Read> ItemLines<R> {
    /// The same, which takes what text is decompressed into from `buffers`.
    #[must_use]
    pub fn with_buffers(self, buffers: &ReusedBuffers) -> Self {
        Self {
            buffers: buffers.clone(),
            ..self
        }
    }

    /// Reads `reader`, which gives the stored bytes of `object`.
    #[must_use]
    pub fn new(reader: R, object: String, packing: Packing, shape: LineShape) -> Self {
        Self {
            unpacked: Unpacked::new(reader, packing),
            object,
            shape,
            text: Bytes::new(),
            buffers: ReusedBuffers::default(),
            ended: false,
            line: 1,
            records: 0,
            plain_bytes: 0,
            reported: 0,
            failed: None,
        }
    }

    /// The next record, or `None` at the file's end. After an error every call gives that error.
    ///
    /// Not an [`Iterator`], because the end and an error are both final here.
    #[expect(
        clippy::should_implement_trait,
        reason = "the error is not an item of the file"
    )]
    pub fn next(&mut self) -> Result<Option<Record>, PartError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let record = match self.shape {
            LineShape::Item | LineShape::Change => self.next_line(),
            LineShape::Bare | LineShape::Any => self.next_object(),
        };
        if let Err(error) = &record {
            self.failed = Some(error.clone());
        }
        record
    }

    /// Records given out so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes before compression that were read so far, white space included: at the end, all of the file's.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Reads on, so that a pending record of any length costs a number of reads that grows with its logarithm.
    fn fill(&mut self) -> Result<(), PartError> {
        let kept = self.text.len();
        if kept > MAX_RECORD_BYTES {
            return Err(self.too_long());
        }
        let wanted = BUFFER_BYTES.max(2 * kept);
        let mut buffer = self.buffers.take_long(wanted);
        if let Some(room) = buffer.get_mut(..kept) {
            room.copy_from_slice(&self.text);
        }
        let mut filled = kept;
        while filled < wanted && !self.ended {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            match self.unpacked.read(room) {
                Ok(read) => {
                    filled += read;
                    self.ended = read == 0;
                }
                Err(error) => return Err(self.torn(&error)),
            }
        }
        buffer.truncate(filled);
        self.text = buffer.freeze();
        Ok(())
    }

    fn too_long(&self) -> PartError {
        PartError::TooLong {
            object: self.object.clone(),
            line: self.line,
            limit: MAX_RECORD_BYTES,
        }
    }

    fn torn(&self, error: &UnpackError) -> PartError {
        PartError::Torn {
            object: self.object.clone(),
            line: self.line - 1,
            reason: error.to_string(),
        }
    }

    fn bad(&self, reason: String) -> PartError {
        PartError::Line {
            object: self.object.clone(),
            line: self.line,
            reason,
        }
    }

    /// Moves behind `length` bytes of the text.
    fn pass(&mut self, length: usize) {
        let passed = self.text.get(..length).unwrap_or_default();
        let breaks = memchr_iter(b'\n', passed).count() as u64;
        self.pass_lines(length, breaks);
    }

    /// Moves behind `length` bytes with so many line breaks.
    fn pass_lines(&mut self, length: usize, breaks: u64) {
        self.line += breaks;
        self.text.advance(length.min(self.text.len()));
        self.plain_bytes += length as u64;
    }

    /// A record that is all of the next line.
    fn next_line(&mut self) -> Result<Option<Record>, PartError> {
        let mut searched = 0;
        let length = loop {
            let unseen = self.text.get(searched..).unwrap_or_default();
            if let Some(found) = memchr(b'\n', unseen) {
                break searched + found + 1;
            }
            searched = self.text.len();
            if self.ended {
                break searched;
            }
            self.fill()?;
        };
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_RECORD_BYTES {
            return Err(self.too_long());
        }
        let line = self.text.slice(..length);
        let found = record_shape::whole(&line)
            .and_then(|()| match self.shape {
                LineShape::Change => record_shape::change(&line),
                _ => record_shape::wrapped(&line),
            })
            .map_err(|reason| self.bad(reason))?;
        let op = op(&line, found);
        self.pass_lines(length, u64::from(line.ends_with(b"\n")));
        Ok(Some(self.record(op)))
    }

    /// The next object of the stream, wherever it begins and ends.
    fn next_object(&mut self) -> Result<Option<Record>, PartError> {
        if !self.pass_space()? {
            return Ok(None);
        }
        loop {
            match record_shape::first_object(&self.text, self.ended) {
                Ok(Some(length)) => return self.object_of(length).map(Some),
                Ok(None) => self.fill()?,
                Err(error) => {
                    // Within an object that spans lines, the parser knows the line better.
                    self.line += error.line;
                    return Err(self.bad(error.reason));
                }
            }
        }
    }

    fn object_of(&mut self, length: usize) -> Result<Record, PartError> {
        if length > MAX_RECORD_BYTES {
            return Err(self.too_long());
        }
        let text = self.text.slice(..length);
        let op = match self.shape {
            LineShape::Any if record_shape::is_typed(&text) => typed(&text),
            LineShape::Any => record_shape::wrapped_or_bare(&text).map(|found| op(&text, found)),
            _ => record_shape::bare(&text).map(|found| op(&text, found)),
        };
        let op = op.map_err(|reason| self.bad(reason))?;
        self.pass(length);
        self.pass_line_break();
        Ok(self.record(op))
    }

    /// Moves to the next object; false at the file's end.
    fn pass_space(&mut self) -> Result<bool, PartError> {
        loop {
            let rest = &self.text;
            if self.plain_bytes == 0 && rest.len() < BYTE_ORDER_MARK.len() && !self.ended {
                self.fill()?;
                continue;
            }
            if self.plain_bytes == 0 && rest.starts_with(BYTE_ORDER_MARK) {
                self.pass(BYTE_ORDER_MARK.len());
                continue;
            }
            let space = rest.iter().take_while(|byte| is_space(**byte)).count();
            let at_end = space == rest.len();
            self.pass(space);
            match (at_end, self.ended) {
                (false, _) => return Ok(true),
                (true, true) => return Ok(false),
                (true, false) => self.fill()?,
            }
        }
    }

    /// The line break that is in sight belongs to the record before it.
    fn pass_line_break(&mut self) {
        let space = self.text.iter().take_while(|byte| is_space(**byte));
        if let Some(end) = space.clone().position(|byte| *byte == b'\n') {
            self.pass(end + 1);
        }
    }

    fn record(&mut self, op: WriteOp) -> Record {
        self.records += 1;
        let plain_bytes = self.plain_bytes - self.reported;
        self.reported = self.plain_bytes;
        Record {
            line: self.records,
            plain_bytes,
            op,
        }
    }
}

/// The item of a line of a typed dump.
fn typed(text: &[u8]) -> Result<WriteOp, String> {
    match decode_typed(text) {
        Ok(item) => Ok(WriteOp::Put(item.into())),
        Err(error) => Err(error.to_string()),
    }
}

/// The write that a record asks for, its bytes on one line: a slice of the text, unless it has to be put on one.
fn op(text: &Bytes, found: Found) -> WriteOp {
    let body = |span: std::ops::Range<usize>| {
        let raw = text.get(span).unwrap_or_default();
        // A line break cannot stand inside a JSON string: where there is one, it is layout.
        if memchr2(b'\n', b'\r', raw).is_some() {
            Bytes::from(compacted(raw))
        } else {
            text.slice_ref(raw)
        }
    };
    match found {
        Found::Put(span) => WriteOp::Put(body(span)),
        Found::Delete(span) => WriteOp::Delete(body(span)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives `.1` bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.len().min(self.1).min(out.len());
            self.0.read(&mut out[..length])
        }
    }

    type Ops = Vec<(u64, String)>;

    fn drain<R: Read>(mut lines: ItemLines<R>) -> (Ops, Result<u64, PartError>) {
        let mut ops = Vec::new();
        loop {
            match lines.next() {
                Ok(Some(Record {
                    line,
                    plain_bytes,
                    op,
                })) => {
                    let mark = if matches!(op, WriteOp::Put(_)) {
                        "+"
                    } else {
                        "-"
                    };
                    let body = String::from_utf8(op.body().to_vec()).unwrap();
                    assert!(plain_bytes >= body.len() as u64 || body.len() < 3);
                    ops.push((line, format!("{mark}{body}")));
                }
                Ok(None) => return (ops, Ok(lines.plain_bytes())),
                Err(error) => {
                    assert_eq!(lines.next(), Err(error.clone()), "b8: an error stays");
                    return (ops, Err(error));
                }
            }
        }
    }

    fn read(text: &[u8], shape: LineShape) -> (Ops, Result<u64, PartError>) {
        let lines = |reader| ItemLines::new(reader, "x.json".into(), Packing::None, shape);
        let at_once = drain(lines(Drip(text, usize::MAX)));
        assert_eq!(drain(lines(Drip(text, 1))), at_once);
        at_once
    }

    fn ops(text: &str, shape: LineShape) -> Vec<String> {
        let (ops, end) = read(text.as_bytes(), shape);
        assert_eq!(end, Ok(text.len() as u64));
        let numbers: Vec<u64> = ops.iter().map(|(line, _)| *line).collect();
        assert_eq!(numbers, (1..=ops.len() as u64).collect::<Vec<_>>());
        ops.into_iter().map(|(_, op)| op).collect()
    }

    fn refused(text: &[u8], shape: LineShape) -> String {
        read(text, shape).1.unwrap_err().to_string()
    }

    #[test]
    fn lines_of_a_full_export() {
        let text = "{\"Item\":{\"a\":{\"S\":\"1\"}}}\r\n{\"Item\":{\"a\":{\"M\":{}},\"b\":{}}}";
        assert_eq!(
            ops(text, LineShape::Item),
            [r#"+{"a":{"S":"1"}}"#, r#"+{"a":{"M":{}},"b":{}}"#]
        );
        assert_eq!(ops("", LineShape::Item), [""; 0]);
        for (line, says) in [
            ("\n", "x.json line 2 is not an item: the line is blank"),
            ("{}", "x.json line 2 is not an item: it has no \"Item\""),
            (
                "{\"item\":{}}",
                "x.json line 2 is not an item: it has \"item\" where \"Item\" was expected",
            ),
            (
                "{\"Item\":{},\"Item\":{}}",
                "x.json line 2 is not an item: \"Item\" follows \"Item\"",
            ),
            (
                "{\"Item\":[]}",
                "x.json line 2 is not an item: the item is not an object",
            ),
            (
                "{\"Item\":{\"n\":7}}",
                "x.json line 2 is not an item: attribute \"n\" is no attribute value of DynamoDB JSON, as \
                 {\"S\":\"text\"} would be",
            ),
            (
                "{\"Item\":{}} {\"Item\":{}}",
                "x.json line 2 is not an item: trailing characters at column 13",
            ),
            (
                "{\"Item\":{\n}}",
                "x.json line 2 is not an item: EOF while parsing an object at column 0",
            ),
            (
                "[1]",
                "x.json line 2 is not an item: a JSON object was expected, found \"[1]\"",
            ),
        ] {
            let text = format!("{{\"Item\":{{}}}}\n{line}");
            assert_eq!(refused(text.as_bytes(), LineShape::Item), says);
        }
    }

    #[test]
    fn dd_03_objects_need_no_line_breaks() {
        assert_eq!(
            ops(r#"{"k":{"S":"foo"}}"#, LineShape::Bare),
            [r#"+{"k":{"S":"foo"}}"#]
        );
        let text = "\u{feff}\n {\"a\":{\"S\":\"1\"}}{\"a\":{\"S\":\"2\"}}\t\r\n\n\
                    {\n  \"a\": {\r\n    \"S\": \"} \\\" {\"\n  }\n}\n{}  ";
        for shape in [LineShape::Bare, LineShape::Any] {
            assert_eq!(
                ops(text, shape),
                [
                    r#"+{"a":{"S":"1"}}"#,
                    r#"+{"a":{"S":"2"}}"#,
                    r#"+{"a":{"S":"} \" {"}}"#,
                    "+{}",
                ]
            );
        }
        for (text, says) in [
            (
                &b"{\"a\":{}}\n\n{\"a\":\n {\"S\" 1}}"[..],
                "x.json line 4 is not an item: expected `:` at column 7",
            ),
            (
                b"{\"a\":{}}\n{\"a\":{",
                "x.json line 2 is not an item: EOF while parsing an object at column 6",
            ),
            (
                b"{\"a\":{}}\n,",
                "x.json line 2 is not an item: a JSON object was expected, found \",\"",
            ),
            (
                b"{\"a\":{\"S\":\"\xff\"}}",
                "x.json line 1 is not an item: invalid unicode code point at column 12",
            ),
            (
                b"{\"a\0\":{}}",
                "x.json line 1 is not an item: control character (\\u0000-\\u001F) found while parsing a string at \
                 column 3",
            ),
            (
                b"\0",
                "x.json line 1 is not an item: a JSON object was expected, found \"\\0\"",
            ),
            (
                b"{\"a\":\"text\"}",
                "x.json line 1 is not an item: attribute \"a\" is no attribute value of DynamoDB JSON, as \
                 {\"S\":\"text\"} would be",
            ),
        ] {
            assert_eq!(refused(text, LineShape::Bare), says);
        }
    }

    #[test]
    fn b8_an_error_is_given_again_and_never_taken_for_the_end() {
        let mut lines = ItemLines::new(
            &b"{\"a\":{}}\n{\"a\":1}\n{\"a\":{}}"[..],
            "x".into(),
            Packing::None,
            LineShape::Bare,
        );
        assert!(lines.next().unwrap().is_some());
        let error = lines.next().unwrap_err();
        for _ in 0..3 {
            assert_eq!(lines.next(), Err(error.clone()));
        }
    }

    #[test]
    fn records_across_the_edge_of_the_buffer_are_whole() {
        let item = |n: usize| {
            let text =
                ["é", "\\ud83d\\ude00", "\\\\", "\\\"", "😀", "{", "true"][n % 7].repeat(n % 97);
            format!("{{\"a\":{{\"S\":\"{text}\"}},\"n\":{{\"NULL\":true,\"N\":-1.5e{n}}}}}")
        };
        let items: Vec<String> = (0..1500).map(item).collect();
        for padding in 0..70 {
            let text = format!("{}{}", " ".repeat(padding), items.concat());
            let lines = ItemLines::new(text.as_bytes(), "x".into(), Packing::None, LineShape::Bare);
            let (ops, end) = drain(lines);
            assert_eq!(end, Ok(text.len() as u64));
            assert!(
                ops.iter().map(|(_, op)| &op[1..]).eq(items.iter()),
                "{padding}"
            );
        }
    }

    #[test]
    fn b2_a_value_without_its_type_is_given_out_as_it_is() {
        assert_eq!(
            ops("{\"k\":{\"S\":\"a\"},\"l\":{}}\n", LineShape::Bare),
            [r#"+{"k":{"S":"a"},"l":{}}"#]
        );
    }

    #[test]
    fn an_attribute_called_item_is_told_from_an_item() {
        for (text, op) in [
            (r#"{"Item":{"a":{"S":"1"}}}"#, r#"+{"a":{"S":"1"}}"#),
            (r#"{"\u0049tem":{"a":{"S":"1"}}}"#, r#"+{"a":{"S":"1"}}"#),
            (r#"{"Item":{"S":"1"}}"#, r#"+{"Item":{"S":"1"}}"#),
            (r#"{"Item":{"S":{"S":"1"}}}"#, r#"+{"S":{"S":"1"}}"#),
            (r#"{"Item":{"M":{"S":"1"}}}"#, r#"+{"M":{"S":"1"}}"#),
            (
                r#"{"Item":{"M":{"S":{"S":"1"}}}}"#,
                r#"+{"Item":{"M":{"S":{"S":"1"}}}}"#,
            ),
            (r#"{"Item":{"M":{}}}"#, r#"+{"Item":{"M":{}}}"#),
            (r#"{"Item":{"M":{"M":{}}}}"#, r#"+{"M":{"M":{}}}"#),
            (
                r#"{"Item":{"M":{"M":{"M":{}}}}}"#,
                r#"+{"Item":{"M":{"M":{"M":{}}}}}"#,
            ),
            (
                r#"{"Item":{"M":{"S":"1"},"b":{"S":"2"}}}"#,
                r#"+{"M":{"S":"1"},"b":{"S":"2"}}"#,
            ),
            (
                r#"{"Item":{"M":{}},"b":{"S":"2"}}"#,
                r#"+{"Item":{"M":{}},"b":{"S":"2"}}"#,
            ),
        ] {
            assert_eq!(ops(text, LineShape::Any), [op], "{text}");
        }
    }

    #[test]
    fn lines_of_a_typed_dump_are_items_again() {
        let text = "{\"n\":{\"type\":\"number\",\"value\":1E+2},\"b\":{\"type\":\"binary\",\"value\":\"/wA=\",\"encoding\":\"base64\"}}\n\
                    {\"type\":{\"S\":\"an attribute of that name\"}}\n";
        assert_eq!(
            ops(text, LineShape::Any),
            [
                r#"+{"n":{"N":"1E+2"},"b":{"B":"/wA="}}"#,
                r#"+{"type":{"S":"an attribute of that name"}}"#
            ]
        );
        let wrong = refused(br#"{"n":{"type":"number","value":true}}"#, LineShape::Any);
        assert!(wrong.contains('n'), "{wrong}");
    }

    const CHANGE: &str =
        r#"{"Metadata":{"WriteTimestampMicros":{"N":"1768386096366933"}},"Keys":{"pk":{"S":"2"}},"#;

    #[test]
    fn changes_put_new_images_and_delete_the_rest() {
        let text = format!(
            "{CHANGE}\"NewImage\":{{\"pk\":{{\"S\":\"2\"}},\"t\":{{}}}}}}\n\
             {CHANGE}\"OldImage\":{{\"pk\":{{\"S\":\"2\"}}}},\"New\":[1],\"NewImage\":{{\"pk\":{{\"S\":\"2\"}}}}}}\n\
             {CHANGE}\"OldImage\":{{\"pk\":{{\"S\":\"2\"}}}}}}\n\
             {}}}\n",
            CHANGE.trim_end_matches(',')
        );
        assert_eq!(
            ops(&text, LineShape::Change),
            [
                r#"+{"pk":{"S":"2"},"t":{}}"#,
                r#"+{"pk":{"S":"2"}}"#,
                r#"-{"pk":{"S":"2"}}"#,
                r#"-{"pk":{"S":"2"}}"#
            ]
        );
        assert!(refused(text.as_bytes(), LineShape::Any).contains("incremental export"));
        for (text, says) in [
            (
                r#"{"Keys":{"pk":{"S":"2"}}}"#.to_owned(),
                "it has no \"Metadata\"",
            ),
            (
                r#"{"Metadata":{"WriteTimestampMicros":{"N":"1"}}}"#.to_owned(),
                "it has no \"Keys\"",
            ),
            (
                r#"{"Metadata":{"WriteTimestampMicros":{"N":"x"}},"Keys":{"a":{}}}"#.to_owned(),
                "\"Metadata\": \"x\" is no time in microseconds",
            ),
            (
                r#"{"Metadata":{"WriteTimestampMicros":{"N":"1"}},"Keys":{}}"#.to_owned(),
                "\"Keys\" has 0 attributes",
            ),
            (
                format!("{CHANGE}\"NewImage\":null}}"),
                "\"NewImage\": it is not an object",
            ),
            (
                format!("{CHANGE}\"NewImage\":{{\"x\":{{}}}}}}"),
                "\"NewImage\" lacks the key attribute \"pk\"",
            ),
            (
                format!("{CHANGE}\"Keys\":{{\"pk\":{{}}}}}}"),
                "\"Keys\" stands there twice",
            ),
        ] {
            assert_eq!(
                refused(text.as_bytes(), LineShape::Change),
                format!("x.json line 1 is not an item: {says}")
            );
        }
    }

    #[test]
    fn a_record_beyond_every_item_is_refused_before_it_fills_the_memory() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                let head = b"{\"Item\":{\"a\":{\"S\":\"";
                for byte in out.iter_mut() {
                    *byte = head.get(self.0).copied().unwrap_or(b'x');
                    self.0 += 1;
                }
                assert!(self.0 < 5 * MAX_RECORD_BYTES, "it reads on for ever");
                Ok(out.len())
            }
        }
        for shape in [LineShape::Item, LineShape::Any] {
            let mut lines = ItemLines::new(Endless(0), "x".into(), Packing::None, shape);
            assert_eq!(
                lines.next().unwrap_err(),
                PartError::TooLong {
                    object: "x".into(),
                    line: 1,
                    limit: MAX_RECORD_BYTES
                }
            );
        }
    }

    #[test]
    fn an_item_of_the_largest_size_is_read_among_small_ones() {
        let big = format!("{{\"a\":{{\"S\":\"{}\"}}}}", "\\u0001".repeat(400_000));
        let text = format!("{{\"a\":{{}}}}\n{big}\n{{\"b\":{{}}}}");
        let (ops, end) = drain(ItemLines::new(
            text.as_bytes(),
            "x".into(),
            Packing::None,
            LineShape::Bare,
        ));
        assert_eq!((ops.len(), end), (3, Ok(text.len() as u64)));
        assert_eq!(ops[1].1[1..], big);
    }

    #[test]
    fn deep_nesting_is_passed_through() {
        let deep = format!(
            "{{\"a\":{}{}}}",
            "{\"M\":".repeat(100_000),
            format_args!("1{}", "}".repeat(100_000))
        );
        for shape in [LineShape::Bare, LineShape::Any] {
            assert_eq!(
                drain(ItemLines::new(
                    deep.as_bytes(),
                    "x".into(),
                    Packing::None,
                    shape
                ))
                .0
                .len(),
                1
            );
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(
            prop_oneof![4 => prop::sample::select(b"{}[]\":,\\\n\r aISM10\"{}".to_vec()), 1 => any::<u8>()], 0..200
        )) {
            for shape in [LineShape::Item, LineShape::Bare, LineShape::Change, LineShape::Any] {
                let _ = read(&bytes, shape);
                let change = [CHANGE.as_bytes(), &bytes, b"}"].concat();
                let _ = read(&change, shape);
            }
        }

        #[test]
        fn whatever_is_written_is_read(texts: Vec<String>, breaks in prop::collection::vec("[ \t\r\n]{0,3}", 20)) {
            let item = |text: &String| serde_json::json!({"a": {"S": text}, "b": {"M": {text: {"L": []}}}}).to_string();
            let items: Vec<String> = texts.iter().map(item).collect();
            let mut stream = String::new();
            for (index, item) in items.iter().enumerate() {
                stream += item;
                stream += &breaks[index % breaks.len()];
            }
            let (ops, end) = read(stream.as_bytes(), LineShape::Any);
            prop_assert_eq!(end, Ok(stream.len() as u64));
            let ops: Vec<String> = ops.into_iter().map(|(_, op)| op[1..].to_owned()).collect();
            prop_assert_eq!(ops, items);
        }
    }
}

//! JSON lines in a file: at least once, durable with each flush.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Applied, Sink, SinkError};
use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::record::{Change, Record};

/// Appends one line per record: `{"event_id":…,"key":…,"order":…,"change":"scan|insert|modify|remove","ttl":…,"time":…,"new":…,"old":…}`,
/// the images as DynamoDB sent them.
///
/// A record may come more than once after a crash; who reads the file keeps, per key, the line of the greatest `order`. A line that a crash
/// cut off is ended when the file is opened again, so that it spoils no other.
pub struct JsonLines {
    path: PathBuf,
    lines: Mutex<Lines>,
}

struct Lines {
    file: File,
    /// What was written of it, whole lines.
    length: u64,
    /// Lines that are not written yet.
    waiting: Vec<u8>,
}

/// Lines are written once there are so many bytes of them, or with a flush.
const WRITE_AT: usize = 1 << 20;

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    event_id: &'a str,
    key: Box<RawValue>,
    order: String,
    change: &'static str,
    ttl: bool,
    time: u64,
    new: Option<&'a RawValue>,
    old: Option<&'a RawValue>,
}

impl JsonLines {
    /// Appends to the file at `path`, which is created if it is not there.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let file = open(&path)?;
        let lines = Lines {
            length: file.metadata()?.len(),
            file,
            waiting: Vec::new(),
        };
        Ok(Self {
            path,
            lines: Mutex::new(lines),
        })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Writes what waits, or nothing of it: what a full disk took of it is taken back, so that the next try begins a line.
    fn write(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.waiting) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}

/// Opens a file to append whole lines to.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    if !ends_with_a_line(&file)? {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn ends_with_a_line(file: &File) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = file;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn line<T>(record: &Record<Change<T>>) -> Result<Vec<u8>, serde_json::Error> {
    let raw = record.raw();
    let image = |bytes: Option<&'_ [u8]>| -> Result<Option<Box<RawValue>>, serde_json::Error> {
        bytes.map(serde_json::from_slice).transpose()
    };
    let (new, old) = (image(raw.new)?, image(raw.old)?);
    let line = Line {
        event_id: &record.event_id(),
        key: RawValue::from_string(record.key())?,
        order: record.order().to_string(),
        change: match &record.value {
            Change::Scanned { .. } => "scan",
            Change::Insert { .. } => "insert",
            Change::Modify { .. } => "modify",
            Change::Remove { .. } => "remove",
        },
        ttl: record.value.is_ttl_delete(),
        time: record.event_time.0,
        new: new.as_deref(),
        old: old.as_deref(),
    };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[async_trait]
impl<T: Send + Sync> Sink<T> for JsonLines {
    async fn apply(&self, record: &Record<Change<T>>) -> Result<Applied, SinkError> {
        let line = line(record).map_err(SinkError::refused)?;
        let mut lines = self.lines();
        if lines.waiting.len() >= WRITE_AT {
            lines.write().map_err(SinkError::passing)?;
        }
        lines.waiting.extend_from_slice(&line);
        Ok(Applied::Done)
    }

    async fn flush(&self) -> Result<(), SinkError> {
        let mut lines = self.lines();
        lines.write().map_err(SinkError::passing)?;
        lines.file.sync_data().map_err(SinkError::passing)
    }
}

/// Dead letters as JSON lines in a file, each durable before its record counts as dealt with.
pub struct JsonLinesDeadLetters(Mutex<File>);

impl fmt::Debug for JsonLinesDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLinesDeadLetters")
    }
}

impl JsonLinesDeadLetters {
    /// Appends to the file at `path`, which is created if it is not there.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(Mutex::new(open(path.as_ref())?)))
    }
}

#[async_trait]
impl DeadLetters for JsonLinesDeadLetters {
    async fn bury(
        &self,
        letter: &DeadLetter,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut line = letter.to_json()?;
        line.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        Ok(())
    }
}

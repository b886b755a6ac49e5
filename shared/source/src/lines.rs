//! Snapshots from files instead of a table: JSON lines from a reader, or from every object below a prefix of a bucket or directory.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use highwater_domain::failure::Failure;
use highwater_domain::object_store::ObjectStore;
use thiserror::Error;

use crate::decode::{DecodeError, Decoded};

/// The longest line: an item has at most 400 KB, which JSON may make several times as long.
const LONGEST_LINE: usize = 16 << 20;

/// One line as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRecord<T> {
    /// Where it is from: `<name>:<line>`, from 1; blank lines count, so that an editor finds it.
    pub event_id: String,
    /// The value.
    pub value: T,
}

/// Why lines cannot be read.
#[derive(Debug, Error)]
pub enum LinesError {
    /// Reading failed, or what is there is not what its name says.
    #[error("{name}: {source}")]
    Read {
        /// The file or object.
        name: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Failure),
    /// An object is listed and is not there.
    #[error("{0} was listed and is gone")]
    Gone(String),
    /// A line is no value.
    #[error("{event_id} cannot be decoded: {reason}")]
    Decode {
        /// The line.
        event_id: String,
        /// Why.
        reason: String,
    },
}

type DecodeLine<T> = Arc<dyn Fn(&[u8]) -> Result<Decoded<T>, DecodeError> + Send + Sync>;

/// The lines of one reader. Names that end in `.gz` are read as gzip, of one member or many.
pub struct Lines<T, R> {
    name: String,
    reader: R,
    decode: DecodeLine<T>,
    line: u64,
    buffer: Vec<u8>,
}

impl<T, R> fmt::Debug for Lines<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<T, R: BufRead> Lines<T, R> {
    /// The lines of `reader`, which is called `name` in event ids and errors.
    pub fn new(
        name: impl Into<String>,
        reader: R,
        decode: impl Fn(&[u8]) -> Result<Decoded<T>, DecodeError> + Send + Sync + 'static,
    ) -> Self {
        Self::with(name.into(), reader, Arc::new(decode))
    }

    fn with(name: String, reader: R, decode: DecodeLine<T>) -> Self {
        Self {
            name,
            reader,
            decode,
            line: 0,
            buffer: Vec::new(),
        }
    }

    /// The next line into the buffer. `false` behind the last.
    fn read_line(&mut self) -> Result<bool, LinesError> {
        self.buffer.clear();
        let most = LONGEST_LINE as u64 + 1;
        let mut bounded = io::Read::take(&mut self.reader, most);
        let read = bounded.read_until(b'\n', &mut self.buffer);
        let failed = |source| LinesError::Read {
            name: format!("{}:{}", self.name, self.line + 1),
            source,
        };
        let read = read.map_err(failed)?;
        if read > LONGEST_LINE {
            let message = format!("the line has more than {LONGEST_LINE} bytes");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        self.line += u64::from(read > 0);
        Ok(read > 0)
    }
}

impl<T, R: BufRead> Iterator for Lines<T, R> {
    type Item = Result<LineRecord<T>, LinesError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read_line() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            let line = self.buffer.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let event_id = format!("{}:{}", self.name, self.line);
            return Some(match (self.decode)(line) {
                Ok(Decoded::Skip) => continue,
                Ok(Decoded::Value(value)) => Ok(LineRecord { event_id, value }),
                Err(reason) => Err(LinesError::Decode {
                    event_id,
                    reason: reason.to_string(),
                }),
            });
        }
    }
}

/// The lines of every object below a prefix, so many objects fetched at once. Whole objects are in memory, so they should be of the
/// size of parts; a backup's are.
pub struct ObjectLines<T> {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    takes: Box<dyn Fn(&str) -> bool + Send + Sync>,
    concurrency: usize,
    decode: DecodeLine<T>,
}

impl<T> fmt::Debug for ObjectLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectLines")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl<T> ObjectLines<T> {
    /// The objects of `store` whose keys begin with `prefix`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: impl Into<String>,
        decode: impl Fn(&[u8]) -> Result<Decoded<T>, DecodeError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            prefix: prefix.into(),
            takes: Box::new(|_| true),
            concurrency: 1,
            decode: Arc::new(decode),
        }
    }

    /// Only objects whose keys this function takes.
    #[must_use]
    pub fn keys(mut self, takes: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.takes = Box::new(takes);
        self
    }

    /// Fetches so many objects at once; 1 unless it is said otherwise.
    #[must_use]
    pub fn concurrency(mut self, objects: usize) -> Self {
        self.concurrency = objects.max(1);
        self
    }

    /// Gives every line of every object to `take`, in the order of keys and lines, until one fails. How many there were.
    pub async fn for_each<E: From<LinesError>>(
        &self,
        mut take: impl FnMut(LineRecord<T>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut keys = self.keys_below().await?;
        let mut fetching = FuturesOrdered::new();
        let mut count = 0;
        loop {
            while fetching.len() < self.concurrency
                && let Some(key) = keys.pop_front()
            {
                fetching.push_back(self.fetch(key));
            }
            let Some(fetched) = fetching.next().await else {
                return Ok(count);
            };
            let (key, body) = fetched?;
            let plain: Box<dyn BufRead + Send> = if is_gzip(&key) {
                Box::new(BufReader::new(MultiGzDecoder::new(Cursor::new(body))))
            } else {
                Box::new(Cursor::new(body))
            };
            for line in Lines::with(key, plain, Arc::clone(&self.decode)) {
                take(line?)?;
                count += 1;
            }
        }
    }

    async fn keys_below(&self) -> Result<VecDeque<String>, LinesError> {
        let mut keys = VecDeque::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(&self.prefix, after.as_deref()).await?;
            let wanted = page.objects.into_iter().map(|object| object.key);
            keys.extend(wanted.filter(|key| (self.takes)(key)));
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn fetch(&self, key: String) -> Result<(String, bytes::Bytes), LinesError> {
        let body = self.store.read(&key).await?;
        let body = body.ok_or_else(|| LinesError::Gone(self.store.url(&key)))?;
        Ok((key, body))
    }
}

fn is_gzip(key: &str) -> bool {
    let extension = std::path::Path::new(key).extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

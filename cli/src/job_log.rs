//! A job's log as dyndump kept it (`--log-to`): a line at its begin, every half minute, and at its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_domain::budget::Clock as _;
use highwater_domain::ids::UnixMillis;
use highwater_lambda::SystemClock;
use tokio::task::JoinHandle;

use crate::error::CliError;

/// How often a running job says how far it is.
const INTERVAL: Duration = Duration::from_secs(30);

/// Where the lines go, if anywhere. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct JobLog {
    target: Arc<Target>,
    layout: Arc<str>,
}

#[derive(Debug)]
enum Target {
    Nowhere,
    Stdout,
    Stderr,
    File(Mutex<File>),
}

impl JobLog {
    /// Opens `target`: a file, which is added to, or `stdout`, `-`, `stderr`. `layout` is the time's, in Go's manner.
    pub fn open(target: Option<&str>, layout: &str) -> Result<Self, CliError> {
        let target = match target {
            None | Some("") => Target::Nowhere,
            Some("-" | "stdout") => Target::Stdout,
            Some("stderr") => Target::Stderr,
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|error| {
                    let path = PathBuf::from(path);
                    CliError::Usage(format!(
                        "the log {} cannot be opened: {error}",
                        path.display()
                    ))
                })?;
                Target::File(Mutex::new(file))
            }
        };
        Ok(Self {
            target: Arc::new(target),
            layout: layout.into(),
        })
    }

    /// Whether it shares standard output with whatever else goes there.
    pub fn is_on_stdout(&self) -> bool {
        matches!(*self.target, Target::Stdout)
    }

    /// Writes one line. A log that cannot be written does not stop the job it tells of.
    pub fn line(&self, text: &str) {
        let time = go_time(&self.layout, SystemClock.now());
        let space = if time.is_empty() { "" } else { " " };
        // One write, so that lines of several writers do not mix.
        let line = format!("{time}{space}{}\n", text.replace('\n', " "));
        let _ = match &*self.target {
            Target::Nowhere => Ok(()),
            Target::Stdout => write(&mut io::stdout().lock(), &line),
            Target::Stderr => write(&mut io::stderr().lock(), &line),
            Target::File(file) => write(
                &mut *file.lock().unwrap_or_else(PoisonError::into_inner),
                &line,
            ),
        };
    }

    /// Says how far the job is, every half minute until the result is dropped.
    pub fn progress(&self, state: impl Fn() -> String + Send + 'static) -> Ticking {
        let log = self.clone();
        Ticking(tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                log.line(&state());
            }
        }))
    }
}

fn write(to: &mut impl Write, line: &str) -> io::Result<()> {
    to.write_all(line.as_bytes())?;
    to.flush()
}

/// Lines that come by themselves.
#[derive(Debug)]
pub struct Ticking(JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The parts of Go's layouts that are understood; of two that fit, the longer comes first.
const ELEMENTS: [(&str, Element); 17] = [
    ("January", Element::MonthName),
    ("Monday", Element::DayName),
    ("Z07:00", Element::Utc),
    ("-07:00", Element::Offset("+00:00")),
    ("-0700", Element::Offset("+0000")),
    ("2006", Element::Year),
    ("Jan", Element::MonthShort),
    ("Mon", Element::DayShort),
    ("MST", Element::Offset("UTC")),
    (".000", Element::Millis),
    ("15", Element::Digits(11)),
    ("01", Element::Digits(5)),
    ("02", Element::Digits(8)),
    ("03", Element::Hour12),
    ("04", Element::Digits(14)),
    ("05", Element::Digits(17)),
    ("PM", Element::HalfDay),
];

#[derive(Clone, Copy, Debug)]
enum Element {
    Year,
    MonthName,
    MonthShort,
    DayName,
    DayShort,
    /// Two digits of RFC 3339 from this place on.
    Digits(usize),
    Hour12,
    HalfDay,
    Millis,
    Utc,
    Offset(&'static str),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// 1970-01-01 was a Thursday.
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// A time in UTC as Go's `Format` would write it in this layout.
fn go_time(layout: &str, at: UnixMillis) -> String {
    let rfc3339 = at.to_rfc3339();
    let mut text = String::new();
    let mut rest = layout;
    'layout: while let Some(first) = rest.chars().next() {
        for (sample, element) in ELEMENTS {
            if let Some(after) = rest.strip_prefix(sample) {
                text.push_str(&element.of(&rfc3339, at));
                rest = after;
                continue 'layout;
            }
        }
        text.push(first);
        rest = &rest[first.len_utf8()..];
    }
    text
}

impl Element {
    fn of(self, rfc3339: &str, at: UnixMillis) -> String {
        let cut = |from: usize, to: usize| rfc3339.get(from..to).unwrap_or_default().to_owned();
        let number = |from: usize, to: usize| cut(from, to).parse::<usize>().unwrap_or(0);
        let month = MONTHS[number(5, 7).saturating_sub(1) % 12];
        let days = usize::try_from(at.0 / 86_400_000).unwrap_or(0);
        let day = DAYS[days % 7];
        match self {
            Self::Year => cut(0, 4),
            Self::MonthName => month.to_owned(),
            Self::MonthShort => month[..3].to_owned(),
            Self::DayName => day.to_owned(),
            Self::DayShort => day[..3].to_owned(),
            Self::Digits(from) => cut(from, from + 2),
            Self::Hour12 => format!("{:02}", (number(11, 13) + 11) % 12 + 1),
            Self::HalfDay => if number(11, 13) < 12 { "AM" } else { "PM" }.to_owned(),
            Self::Millis => cut(19, 23),
            Self::Utc => "Z".to_owned(),
            Self::Offset(text) => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let at = UnixMillis::from_rfc3339("2026-11-21T15:04:09.070Z").unwrap();
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z07:00", "2026-11-21T15:04:09Z"),
            (
                "Mon Jan 02 15:04:05 MST 2006",
                "Sat Nov 21 15:04:09 UTC 2026",
            ),
            ("Monday, 02-Jan-06", "Saturday, 21-Nov-06"),
            ("03:04:05.000PM -0700", "03:04:09.070PM +0000"),
            ("", ""),
            ("[15:04]", "[15:04]"),
        ] {
            assert_eq!(go_time(layout, at), expected, "{layout}");
        }
        assert_eq!(go_time("03PM", UnixMillis(0)), "12AM");
    }

    #[test]
    fn a_file_is_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.log");
        for text in ["one\ntwo", "three"] {
            let log = JobLog::open(path.to_str(), "").unwrap();
            log.line(text);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two\nthree\n");
        let timed = JobLog::open(path.to_str(), "2006").unwrap();
        timed.line("four");
        let last = std::fs::read_to_string(&path).unwrap();
        assert!(last.ends_with(" four\n") && last.contains("\n20"), "{last}");
        let nowhere = JobLog::open(folder.path().to_str(), "");
        assert!(matches!(nowhere, Err(CliError::Usage(_))));
    }
}

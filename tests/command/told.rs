//! What a run of the command has told: its exit code, its results, its talk.

use std::process::Output;

use serde_json::Value;

/// A finished run.
#[derive(Debug)]
pub struct Told {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output: results only.
    pub stdout: String,
    /// Standard error: notes, progress, errors.
    pub stderr: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        let told = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("results are UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("talk is UTF-8"),
        };
        assert!(!told.stderr.contains("panicked"), "a panic: {told:?}");
        assert!(!told.stderr.contains("RUST_BACKTRACE"), "a panic: {told:?}");
        told
    }
}

impl Told {
    /// It must have done what it was asked to.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert!(!self.stderr.contains("error:"), "{self:#?}");
        self
    }

    /// It must have failed with this code and an `error:` line that has these words, and without a result.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "a failure has no result: {self:#?}");
        let error = self.error();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
        self
    }

    /// Its `error:` line.
    #[track_caller]
    pub fn error(&self) -> &str {
        self.line("error: ")
    }

    /// Its `hint:` line must have these words.
    #[track_caller]
    pub fn hinted(&self, words: &str) {
        let hint = self.line("hint: ");
        assert!(hint.contains(words), "{words:?} is not in: {hint}");
    }

    #[track_caller]
    fn line(&self, start: &str) -> &str {
        let mut lines = self.stderr.lines().filter(|line| line.starts_with(start));
        let line = lines.next();
        assert_eq!(
            lines.next(),
            None,
            "two lines begin with {start:?}: {self:#?}"
        );
        line.unwrap_or_else(|| panic!("no line begins with {start:?}: {self:#?}"))
    }

    /// Standard output as the one JSON document that it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line: {self:#?}");
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: not one JSON document: {self:#?}"))
    }
}

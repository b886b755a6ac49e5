//! `docs/BENCHMARKS.md`: an introduction that stays, and the sections that the commands make.

use std::fmt::Write as _;
use std::path::Path as FilePath;
use std::process::Command;
use std::{fs, io};

use highwater_domain::ids::UnixMillis;
use thiserror::Error;

use super::machine::{Machine, locked_versions};
use super::sections::with_section;

/// How a document begins that is not there yet.
const INTRODUCTION: &str = include_str!("introduction.md");

/// The packages whose versions matter to the figures.
const PACKAGES: [&str; 12] = [
    "highwater",
    "aws-sdk-dynamodb",
    "aws-sdk-dynamodbstreams",
    "aws-sdk-s3",
    "aws_lambda_events",
    "serde_json",
    "tokio",
    "hyper",
    "flate2",
    "zlib-rs",
    "miniz_oxide",
    "zstd-sys",
];

/// The document could not be written.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Its marks are not in pairs: a person has to look.
    #[error(
        "{path}: the marks of the section {section:?} are not a pair, in order; nothing was written"
    )]
    Marks {
        /// Which.
        path: String,
        /// Its section.
        section: String,
    },
}

/// Puts a section into the document, which is made if it is not there. All else stays.
pub fn write_section(path: &FilePath, name: &str, section: &str) -> Result<(), DocumentError> {
    let failed = |source| DocumentError::File {
        path: path.display().to_string(),
        source,
    };
    let document = match fs::read_to_string(path) {
        Ok(document) => document,
        Err(error) if error.kind() == io::ErrorKind::NotFound => INTRODUCTION.to_owned(),
        Err(error) => return Err(failed(error)),
    };
    let document = with_section(&document, name, section);
    let document = document.ok_or_else(|| DocumentError::Marks {
        path: path.display().to_string(),
        section: name.to_owned(),
    })?;
    fs::write(path, document).map_err(failed)
}

/// When and on what: a table of facts. `peers` are the tools of others with their versions.
#[must_use]
pub fn circumstances(now: UnixMillis, method: &str, peers: &[(&str, String)]) -> String {
    let mut text = String::from("| | |\n|---|---|\n");
    let mut fact = |name: &str, value: &str| {
        let value = value.replace('|', " ");
        let _ = writeln!(text, "| {name} | {value} |");
    };
    fact("date", now.to_rfc3339().get(..10).unwrap_or_default());
    fact("machine", &Machine::this().to_string());
    fact(
        "commit",
        &said("git", &["describe", "--always", "--dirty=, with changes"]),
    );
    fact("compiler", &said("rustc", &["--version"]));
    let packages = locked_versions(&PACKAGES);
    let packages = packages
        .iter()
        .map(|(name, version)| format!("{name} {version}"));
    fact("versions", &packages.collect::<Vec<_>>().join(", "));
    for (name, version) in peers {
        fact(name, version);
    }
    fact("how", method);
    text
}

/// The first line that a program says; `unknown` if it does not.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned));
    line.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_keep_each_others_sections() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("BENCHMARKS.md");
        write_section(&path, "compare", "first").unwrap();
        write_section(&path, "scaling", "second").unwrap();
        write_section(&path, "compare", "third").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(INTRODUCTION.trim_end()), "{text}");
        assert!(text.contains("third") && text.contains("second"), "{text}");
        assert!(!text.contains("first\n"), "{text}");
    }

    #[test]
    fn a_document_with_broken_marks_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("BENCHMARKS.md");
        let broken = "<!-- compare: begin -->\nwords\n";
        fs::write(&path, broken).unwrap();
        let error = write_section(&path, "compare", "x").unwrap_err();
        assert!(error.to_string().contains("compare"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    }

    #[test]
    fn facts_are_a_table() {
        let peers = [("boto3", "1|2".to_owned())];
        let text = circumstances(UnixMillis(1_768_385_930_622), "5 rounds", &peers);
        assert!(text.contains("| date | 2026-01-14 |"), "{text}");
        assert!(text.contains("| boto3 | 1 2 |"), "{text}");
        assert!(text.contains("aws-sdk-dynamodb 1."), "{text}");
    }
}

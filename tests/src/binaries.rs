//! Finds the programs that this workspace builds: `highwater` and the functions' bootstraps.
//!
//! Cargo builds a program for a test of the program's own package only. Each of those packages has such
//! a test, so that `cargo test --workspace` builds them all, into the folder above the test executables.
//! `cargo test -p highwater-tests` alone does not, and would test yesterday's programs in silence: a
//! program that is older than a source that it was made from is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use std::{env, fs, io};

use thiserror::Error;

/// Why a program cannot be tested.
#[derive(Debug, Error)]
pub enum BinaryError {
    /// It was never built in this profile.
    #[error("{0} is not built: run `cargo build --workspace`, or `cargo test --workspace`")]
    NotBuilt(PathBuf),
    /// A source changed since it was built.
    #[error(
        "{program} is older than {source_file}: run `cargo build --workspace`, or `cargo test --workspace`"
    )]
    Stale {
        /// The program.
        program: PathBuf,
        /// The source that is newer.
        source_file: PathBuf,
    },
    /// A file or folder beside it cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The program called `name`, of the profile that this test was built with.
///
/// # Panics
/// If it is not there or not up to date: no test of it can mean anything.
#[must_use]
#[expect(
    clippy::panic,
    reason = "for tests only, and the message is the remedy"
)]
pub fn path(name: &str) -> PathBuf {
    // Looked at once: whoever edits while the tests run does not change what they test.
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = found.get(name) {
        return program.clone();
    }
    let program = find(name).unwrap_or_else(|error| panic!("{error}"));
    found.insert(name.to_owned(), program.clone());
    program
}

/// The program called `name`, or why it cannot be tested.
pub fn find(name: &str) -> Result<PathBuf, BinaryError> {
    let test = env::current_exe().map_err(|source| BinaryError::Io {
        path: name.into(),
        source,
    })?;
    // target/<profile>/deps/<test> and target/<profile>/<program>.
    let profile = test.parent().and_then(Path::parent).unwrap_or(&test);
    let program = profile.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    if !program.is_file() {
        return Err(BinaryError::NotBuilt(program));
    }
    let built = modified(&program)?;
    for source_file in sources(&profile.join(format!("{name}.d")))? {
        // A source that is gone takes another with it that names it; cargo notices both.
        let newer = source_file.is_file() && modified(&source_file)? > built;
        if newer {
            return Err(BinaryError::Stale {
                program,
                source_file,
            });
        }
    }
    Ok(program)
}

/// What cargo says a program was made from: `<program>: <source> <source>…`, spaces in names escaped.
///
/// `cargo build` writes this list and `cargo test` does not. Where it is absent, only `cargo test` has built
/// the program, which builds it anew for every change.
fn sources(dependencies: &Path) -> Result<Vec<PathBuf>, BinaryError> {
    let text = match fs::read_to_string(dependencies) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            let path = dependencies.to_owned();
            return Err(BinaryError::Io { path, source });
        }
    };
    let (_, list) = text.split_once(": ").unwrap_or_default();
    let names = list.trim_end().replace("\\ ", "\0");
    let names = names.split(' ').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('\0', " ").into()).collect())
}

fn modified(path: &Path) -> Result<SystemTime, BinaryError> {
    let modified = fs::metadata(path).and_then(|file| file.modified());
    modified.map_err(|source| BinaryError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_nobody_built_is_named_with_the_remedy() {
        let error = find("no-such-program").unwrap_err().to_string();
        assert!(error.contains("no-such-program is not built"), "{error}");
        assert!(error.contains("cargo build --workspace"), "{error}");
    }

    #[test]
    fn sources_are_read_with_the_spaces_in_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("program.d");
        fs::write(&list, "/t/debug/program: /my\\ code/main.rs /lib.rs\n").unwrap();
        let expected = [Path::new("/my code/main.rs"), Path::new("/lib.rs")];
        assert_eq!(sources(&list).unwrap(), expected);
        let none = folder.path().join("built-by-cargo-test-alone.d");
        assert_eq!(sources(&none).unwrap(), [""; 0].map(Path::new));
    }
}

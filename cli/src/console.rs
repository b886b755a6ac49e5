//! Results on standard output, talk on standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::args::Global;
use crate::error::CliError;

/// Where a command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    json: bool,
    quiet: bool,
    /// Results are notes: somebody else has the last word.
    preliminary: bool,
}

impl Console {
    /// A console that prints results as JSON, or for people; quiet or not.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self {
            json,
            quiet,
            preliminary: false,
        }
    }

    /// The same console without notes and progress.
    pub fn silenced(self) -> Self {
        Self {
            quiet: true,
            ..self
        }
    }

    /// The same console for a job that is a part of another: its result is a note, and no JSON.
    pub fn preliminary(self) -> Self {
        Self {
            preliminary: true,
            ..self
        }
    }

    /// Whether a progress bar makes sense.
    pub fn has_terminal(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// The result: `text` for people, or `value` as one JSON document.
    pub fn result<T: Serialize>(self, text: &str, value: &T) {
        if self.preliminary {
            self.say(text);
            return;
        }
        let line = if self.json {
            serde_json::to_string(value).unwrap_or_default()
        } else {
            text.to_owned()
        };
        // A reader that went away has seen enough.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// The account of a job whose result is elsewhere: `text` for people on standard error, or `value` as one JSON
    /// document, on standard error too if the result itself is on standard output.
    pub fn account<T: Serialize>(self, text: &str, value: &T, stdout_is_taken: bool) {
        if !self.json {
            self.say(text);
        } else if stdout_is_taken {
            self.say(&serde_json::to_string(value).unwrap_or_default());
        } else {
            self.result(text, value);
        }
    }

    /// A note on what is going on.
    pub fn say(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Asks a question that wants yes or no. `None` where nobody can be asked.
    #[expect(
        clippy::unused_self,
        reason = "a console asks; that it needs no state for it is its own affair"
    )]
    pub fn confirm(self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() {
            return None;
        }
        loop {
            let _ = write!(io::stderr().lock(), "{question} (y/n) ");
            let mut answer = String::new();
            if io::stdin().read_line(&mut answer).ok()? == 0 {
                return None;
            }
            match answer.trim().to_ascii_lowercase().as_str() {
                "" => {}
                "y" | "yes" => return Some(true),
                _ => return Some(false),
            }
        }
    }

    /// Tells of an error and of a way out, and gives the exit code that goes with it. `global` are the command's flags.
    pub fn failure(self, error: &CliError, global: &Global) -> ExitCode {
        let hint = error.hint(global);
        let mut stderr = io::stderr().lock();
        if self.json {
            let story = json!({"error": error.name(), "message": error.to_string(), "hint": hint});
            let _ = writeln!(stderr, "{story}");
        } else {
            let _ = writeln!(stderr, "error: {error}");
            if let Some(hint) = hint {
                let _ = writeln!(stderr, "hint: {hint}");
            }
        }
        ExitCode::from(error.exit_code())
    }
}

/// Shows log lines on standard error if somebody asks for them.
pub fn start_log(filter: Option<&str>) {
    let Some(filter) = filter else { return };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}

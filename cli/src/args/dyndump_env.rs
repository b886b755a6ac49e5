//! dyndump's environment variables, as a second choice.
//!
//! A variable of dyndump's counts for the commands that dyndump has (`dump`, `load`, `info`, `delete`) and where
//! neither the flag nor its `HIGHWATER_…` variable is given. Those that name a place (a file, a bucket) count only
//! if no place is named on the command line, because their names are anybody's.

use std::ffi::OsString;

use clap::Command;

/// Arguments of one command by their id, and the variables of dyndump's that they hear.
type Heard = (&'static str, &'static [(&'static str, &'static str)]);

const SETTINGS: [Heard; 4] = [
    (
        "dump",
        &[
            ("consistent_read", "USE_CONSISTENT"),
            ("max_items", "MAXITEMS"),
            ("parallel", "MAX_PARALLEL"),
            ("read_capacity", "READ_CAPACITY"),
            ("silent", "SILENT"),
            ("no_progress", "NO_PROGRESS"),
            ("max_retries", "AWS_MAX_RETRIES"),
            ("log_to", "LOG_TARGET"),
            ("log_timestamp", "LOG_TIMESTAMP"),
        ],
    ),
    (
        "load",
        &[
            ("max_items", "MAXITEMS"),
            ("concurrency", "MAX_PARALLEL"),
            ("write_capacity", "WRITE_CAPACITY"),
            ("allow_overwrite", "ALLOW_OVERWRITE"),
            ("skip_checks", "SKIP_CHECKS"),
            ("silent", "SILENT"),
            ("no_progress", "NO_PROGRESS"),
            ("max_retries", "AWS_MAX_RETRIES"),
            ("log_to", "LOG_TARGET"),
            ("log_timestamp", "LOG_TIMESTAMP"),
        ],
    ),
    ("info", &[("max_retries", "AWS_MAX_RETRIES")]),
    (
        "delete",
        &[
            ("force", "NO_DELETE_PROMPT"),
            ("silent", "SILENT"),
            ("no_progress", "NO_PROGRESS"),
            ("max_retries", "AWS_MAX_RETRIES"),
            ("log_to", "LOG_TARGET"),
            ("log_timestamp", "LOG_TIMESTAMP"),
        ],
    ),
];

const PLACES: [Heard; 4] = [
    (
        "dump",
        &[
            ("file", "FILENAME"),
            ("stdout", "USE_STDOUT"),
            ("s3_bucket", "S3_BUCKET"),
            ("s3_prefix", "S3_PREFIX"),
        ],
    ),
    (
        "load",
        &[
            ("file", "FILENAME"),
            ("stdin", "USE_STDIN"),
            ("s3_bucket", "S3_BUCKET"),
            ("s3_prefix", "S3_PREFIX"),
        ],
    ),
    (
        "info",
        &[("s3_bucket", "S3_BUCKET"), ("s3_prefix", "S3_PREFIX")],
    ),
    (
        "delete",
        &[("s3_bucket", "S3_BUCKET"), ("s3_prefix", "S3_PREFIX")],
    ),
];

/// Flags that name a place.
const PLACE_FLAGS: [&str; 9] = [
    "-f",
    "--file",
    "--filename",
    "--stdout",
    "--stdin",
    "--to",
    "--from",
    "--s3-bucket",
    "--s3-prefix",
];

/// `command`, whose arguments hear dyndump's variables where ours say nothing. `is_set` tells of a variable
/// whether it has a value.
pub fn heard(mut command: Command, line: &[OsString], is_set: impl Fn(&str) -> bool) -> Command {
    let places = !line.iter().any(names_a_place);
    let of_places = PLACES.iter().filter(|_| places);
    for (name, pairs) in SETTINGS.iter().chain(of_places) {
        let known = command.find_subcommand(name).is_some();
        if !known {
            continue;
        }
        command = command.mut_subcommand(name, |mut sub| {
            for (id, theirs) in *pairs {
                let ours = sub.get_arguments().find(|arg| arg.get_id() == id);
                let Some(ours) = ours.map(|arg| arg.get_env().map(ToOwned::to_owned)) else {
                    continue;
                };
                let ours_is_set = ours.is_some_and(|ours| is_set(&ours.to_string_lossy()));
                if !ours_is_set && is_set(theirs) {
                    sub = sub.mut_arg(id, |arg| arg.env(theirs));
                }
            }
            sub
        });
    }
    command
}

fn names_a_place(word: &OsString) -> bool {
    let word = word.to_string_lossy();
    PLACE_FLAGS.iter().any(|flag| {
        let rest = word.strip_prefix(flag);
        // `-fPATH` needs no `=`.
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('=') || *flag == "-f")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Args;

    fn env_of(command: &str, id: &str, set: &[&str], line: &str) -> String {
        let line: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let heard = heard(Args::command(), &line, |name| set.contains(&name));
        let sub = heard.find_subcommand(command).unwrap();
        let arg = sub.get_arguments().find(|arg| arg.get_id() == id).unwrap();
        arg.get_env().unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn dyndumps_variables_are_a_second_choice() {
        let parallel = |set: &[&str]| env_of("dump", "parallel", set, "dump orders");
        assert_eq!(parallel(&[]), "HIGHWATER_CONCURRENCY");
        assert_eq!(parallel(&["MAX_PARALLEL"]), "MAX_PARALLEL");
        let both = ["MAX_PARALLEL", "HIGHWATER_CONCURRENCY"];
        assert_eq!(parallel(&both), "HIGHWATER_CONCURRENCY");
        let force = env_of("delete", "force", &["NO_DELETE_PROMPT"], "delete");
        assert_eq!(force, "NO_DELETE_PROMPT");
        // Commands that dyndump does not have do not hear them.
        let backup = env_of(
            "backup",
            "read_capacity",
            &["READ_CAPACITY"],
            "backup orders",
        );
        assert_eq!(backup, "HIGHWATER_READ_CAPACITY");
    }

    #[test]
    fn a_place_on_the_command_line_hides_places_in_the_environment() {
        let bucket = |line: &str| env_of("dump", "s3_bucket", &["S3_BUCKET"], line);
        assert_eq!(bucket("dump orders"), "S3_BUCKET");
        for line in [
            "dump orders --file=x",
            "dump orders -fx",
            "dump --to s3://b/p orders",
        ] {
            assert_eq!(bucket(line), "HIGHWATER_S3_BUCKET", "{line}");
        }
        assert_eq!(bucket("dump orders --token"), "S3_BUCKET");
    }

    /// A typo in an id would make a variable deaf.
    #[test]
    fn every_argument_is_there() {
        let command = Args::command();
        for (name, pairs) in SETTINGS.iter().chain(&PLACES) {
            let sub = command.find_subcommand(name).unwrap();
            for (id, _) in *pairs {
                let there = sub.get_arguments().any(|arg| arg.get_id() == id);
                assert!(there, "{name} {id}");
            }
        }
    }
}

//! `highwater follow`, and the flags about reading a stream that it shares with `audit`.

use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs};
use highwater_domain::ids::TableRef;
use highwater_domain::layout::Destination;
use highwater_lease::Settings;

use super::yes_or_no;

const EXAMPLES: &str = "\
Examples:
  highwater backup orders --to s3://bkt/backups --with-stream   (first; it enables the stream)
  highwater follow orders --to s3://bkt/backups                 (on as many machines as you like)
  highwater follow orders --to s3://bkt/backups --apply         (and feed its replicas)
  highwater status s3://bkt/backups/orders
  highwater restore orders --from s3://bkt/backups --at -2h --to orders-restored

Every record of the table's stream is written to the change log beside its backups, as DynamoDB
sent it, and only then its position is stored in the control table. Processes that run the same
command with the same control table share the stream's shards; what one leaves behind, however
it ended, the others take over.

The mark is the second up to which the log is complete: `proven` by later records, `rolled` by
the time at which shards were made, `assumed` by silence that has lasted longer than DynamoDB
takes to publish.

SIGTERM and SIGINT end it in order: what was read is written, and its shards are handed over.
Exit codes: 0 ended in order, 1 failed, 2 wrong usage,
130 or 143 by a second signal (at once; nothing is lost).";

/// `highwater follow`.
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Follow {
    /// The table: its name, or its ARN. It must have a stream, best with NEW_AND_OLD_IMAGES.
    pub table: TableRef,
    /// Where the change log goes, the same as the table's backups: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long, env = "HIGHWATER_TO", value_name = "URL")]
    pub to: Destination,
    /// How long records may wait until they are written: 2s, or 60s for fewer and larger objects; 100ms to 60s.
    #[arg(
        long,
        env = "HIGHWATER_FLUSH",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = parse_flush
    )]
    pub flush: Duration,
    /// Give what is in the log to every replica of the table, too: those that `highwater replicate` has begun.
    #[arg(long, env = "HIGHWATER_APPLY", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub apply: bool,
    /// End once every shard is read and silent, and not by a signal only.
    #[arg(long, env = "HIGHWATER_UNTIL_IDLE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub until_idle: bool,
    #[command(flatten)]
    pub stream: StreamFlags,
    /// How often the mark is computed and published.
    #[arg(
        long,
        env = "HIGHWATER_PUBLISH_EVERY",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_interval,
        help_heading = "Stream"
    )]
    pub publish_every: Duration,
    /// How often all shards of the stream are listed, to find what nobody named.
    #[arg(
        long,
        env = "HIGHWATER_SURVEY_EVERY",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = parse_interval,
        help_heading = "Stream"
    )]
    pub survey_every: Duration,
    #[command(flatten)]
    pub sharing: Sharing,
}

/// What is assumed of DynamoDB.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Stream")]
pub struct StreamFlags {
    /// How late DynamoDB publishes a record at most, 120s by default: the mark's grade `assumed` trusts in it.
    #[arg(
        long,
        env = "HIGHWATER_PUBLICATION_DELAY",
        value_name = "DURATION",
        value_parser = parse_duration
    )]
    pub publication_delay: Option<Duration>,
    /// The stream is a local engine's, which publishes at once and lists all of its shards at any time: wait for neither.
    ///
    /// With DynamoDB itself this would lose records in silence.
    #[arg(long, env = "HIGHWATER_LOCAL_ENGINE", value_parser = yes_or_no(), action = ArgAction::SetTrue)]
    pub local_engine: bool,
}

/// How processes share the stream's shards.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Sharing")]
pub struct Sharing {
    /// This process's name in the control table, another one in each process; one of its own by default.
    #[arg(long, env = "HIGHWATER_WORKER", value_name = "NAME", value_parser = parse_worker)]
    pub worker: Option<String>,
    /// How long a process may be silent until others take its shards over; the same in all of them. 1s to 10m.
    #[arg(
        long,
        env = "HIGHWATER_LEASE",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_lease
    )]
    pub lease: Duration,
    /// The most shards that this process reads; no limit by default.
    #[arg(long, env = "HIGHWATER_MAX_SHARDS", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_shards: Option<u32>,
}

impl Default for Sharing {
    /// As nobody has said anything.
    fn default() -> Self {
        Self {
            worker: None,
            lease: Duration::from_secs(30),
            max_shards: None,
        }
    }
}

impl Sharing {
    /// The same as the times and limits of leases: renewed three times in a lease's life, trusted for five sixths of it.
    pub fn settings(&self) -> Settings {
        Settings {
            lease: self.lease,
            renew_every: self.lease / 3,
            margin: self.lease / 6,
            max_leases: self
                .max_shards
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(usize::MAX),
        }
    }
}

/// A time as people write it: `500ms`, `2s`, `120`, `2m`, `1h`. A bare number is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 500ms, 2s, 2m or 1h");
    let (digits, unit) = match text.find(|it: char| !it.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let all = number.checked_mul(milliseconds).ok_or_else(wrong)?;
    if all > A_DAY.as_millis().try_into().unwrap_or(u64::MAX) {
        return Err(format!("{text:?} is longer than a day"));
    }
    Ok(Duration::from_millis(all))
}

/// Records live no longer in a stream.
const A_DAY: Duration = Duration::from_hours(24);

fn within(text: &str, least: Duration, most: Duration, what: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    Err(format!("{text:?} is not {what}"))
}

fn parse_flush(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_millis(100), Duration::from_mins(1));
    within(text, least, most, "between 100ms and 60s")
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(100);
    within(text, least, Duration::from_hours(1), "between 100ms and 1h")
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_secs(1), Duration::from_mins(10));
    within(text, least, most, "between 1s and 10m")
}

fn parse_worker(text: &str) -> Result<String, String> {
    let is_plain = |it: char| it.is_ascii_graphic();
    if (1..=200).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("a name has 1 to 200 letters, digits and signs, and no spaces".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};

    fn parse(line: &str) -> Result<Follow, String> {
        let line = format!("highwater follow {line}");
        match Args::try_read(line.split(' ')) {
            Ok(Args {
                command: Command::Follow(follow),
                ..
            }) => Ok(*follow),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn times_have_units() {
        let read = ["0s", "500ms", "2s", "120", "2m", "24h"].map(parse_duration);
        let expected = [0, 500, 2000, 120_000, 120_000, 86_400_000];
        assert_eq!(read, expected.map(|it| Ok(Duration::from_millis(it))));
        for wrong in ["", "s", "-1s", "1w", "1.5s", "25h", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_flag_named() {
        for (flag, value) in [
            ("--flush", "0s"),
            ("--flush", "61s"),
            ("--lease", "999ms"),
            ("--lease", "11m"),
            ("--max-shards", "0"),
            ("--publish-every", "0s"),
            ("--survey-every", "2h"),
            ("--publication-delay", "soon"),
            ("--publication-delay", "25h"),
            ("--worker", "é"),
        ] {
            let error = parse(&format!("orders --to s3://bucket {flag} {value}")).unwrap_err();
            assert!(error.contains(flag), "{flag} {value}: {error}");
        }
        assert!(parse("orders").unwrap_err().contains("--to"));
    }

    /// Every lease that can be asked for is one that leases take.
    #[test]
    fn leases_of_any_length_are_sound() {
        for lease in ["1s", "2s", "30s", "10m"] {
            let follow = parse(&format!("orders --to s3://bucket --lease {lease}")).unwrap();
            follow.sharing.settings().validate().unwrap();
        }
        let usual = parse("orders --to s3://bucket").unwrap().sharing.settings();
        assert_eq!(usual, Settings::default());
        let few = parse("orders --to s3://bucket --max-shards 3").unwrap();
        assert_eq!(few.sharing.settings().max_leases, 3);
    }
}

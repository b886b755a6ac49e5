//! What a deployment sets: environment variables, read once, at the start.

use thiserror::Error;

/// The configuration of the backup functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `HIGHWATER_CONTROL_TABLE`: the control table's name.
    pub control_table: String,
    /// `HIGHWATER_LOG`: which log lines appear, as levels of all targets and of single ones: `info,highwater_steps=debug`.
    /// Without it `AWS_LAMBDA_LOG_LEVEL`, which Lambda sets to the function's `ApplicationLogLevel`; without that, `info`.
    pub log: String,
    /// `HIGHWATER_STACK`: the stack's name, a dimension of the metrics.
    pub stack: Option<String>,
    /// `AWS_LAMBDA_LOG_LEVEL`: the level below which Lambda itself drops lines.
    pub lambda_log_level: Option<String>,
}

/// An environment that a function cannot start in.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A variable is absent or empty.
    #[error("environment variable {name} is not set: {meaning}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it is for.
        meaning: &'static str,
    },
    /// A variable says nothing that can be used.
    #[error("environment variable {name}: {reason}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

impl Config {
    /// Reads the configuration from pairs of name and value: `std::env::vars()`, or a test's own.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut control_table, mut log, mut stack, mut level) = (None, None, None, None);
        for (name, value) in pairs {
            let value = Some(value).filter(|value| !value.is_empty());
            match name.as_str() {
                "HIGHWATER_CONTROL_TABLE" => control_table = value,
                "HIGHWATER_LOG" => log = value,
                "HIGHWATER_STACK" => stack = value,
                "AWS_LAMBDA_LOG_LEVEL" => level = value,
                _ => {}
            }
        }
        let control_table = control_table.ok_or(ConfigError::Missing {
            name: "HIGHWATER_CONTROL_TABLE",
            meaning: "the name of the control table",
        })?;
        let of_lambda = level.as_deref().map(filter_of);
        Ok(Self {
            control_table,
            log: log.unwrap_or_else(|| of_lambda.unwrap_or("info").to_owned()),
            stack,
            lambda_log_level: level,
        })
    }

    /// The function's `ApplicationLogLevel`, if Lambda drops lines of the level INFO because of it: metrics are such.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>
    #[must_use]
    pub fn level_without_metrics(&self) -> Option<&str> {
        let level = self.lambda_log_level.as_deref()?;
        matches!(filter_of(level), "warn" | "error").then_some(level)
    }
}

/// Lambda's word for a level as a filter; what is none of its words filters nothing that matters.
fn filter_of(level: &str) -> &'static str {
    match level.to_ascii_uppercase().as_str() {
        "TRACE" => "trace",
        "DEBUG" => "debug",
        "WARN" => "warn",
        "ERROR" | "FATAL" => "error",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        )
    }

    #[test]
    fn the_control_table_must_be_named() {
        for pairs in [&[][..], &[("HIGHWATER_CONTROL_TABLE", "")]] {
            let error = read(pairs).unwrap_err().to_string();
            assert!(error.contains("HIGHWATER_CONTROL_TABLE"), "{error}");
        }
        let config = read(&[("PATH", "/bin"), ("HIGHWATER_CONTROL_TABLE", "hw")]).unwrap();
        assert_eq!(
            config,
            Config {
                control_table: "hw".into(),
                log: "info".into(),
                stack: None,
                lambda_log_level: None,
            }
        );
    }

    #[test]
    fn the_logs_own_filter_goes_before_lambdas_level() {
        for (set, lambda, log, drops) in [
            ("", "", "info", false),
            ("", "DEBUG", "debug", false),
            ("", "WARN", "warn", true),
            ("", "FATAL", "error", true),
            ("", "loud", "info", false),
            (
                "warn,highwater_steps=debug",
                "INFO",
                "warn,highwater_steps=debug",
                false,
            ),
            ("debug", "error", "debug", true),
        ] {
            let config = read(&[
                ("HIGHWATER_CONTROL_TABLE", "hw"),
                ("HIGHWATER_STACK", "backups"),
                ("HIGHWATER_LOG", set),
                ("AWS_LAMBDA_LOG_LEVEL", lambda),
            ]);
            let config = config.unwrap();
            assert_eq!(config.log, log, "{set} {lambda}");
            assert_eq!(config.stack.as_deref(), Some("backups"));
            let dropping = config.level_without_metrics();
            assert_eq!(dropping, drops.then_some(lambda), "{set} {lambda}");
        }
    }
}

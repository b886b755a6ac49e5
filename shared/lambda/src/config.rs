//! What a deployment sets: environment variables, read once, at the start.

use thiserror::Error;

/// The configuration of the backup functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `HIGHWATER_CONTROL_TABLE`: the control table's name.
    pub control_table: String,
    /// `HIGHWATER_LOG`: which log lines appear, in `tracing`'s filter syntax; `info` by default.
    pub log: String,
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
        let mut control_table = None;
        let mut log = None;
        for (name, value) in pairs {
            match name.as_str() {
                "HIGHWATER_CONTROL_TABLE" => control_table = Some(value),
                "HIGHWATER_LOG" => log = Some(value),
                _ => {}
            }
        }
        let control_table =
            control_table
                .filter(|name| !name.is_empty())
                .ok_or(ConfigError::Missing {
                    name: "HIGHWATER_CONTROL_TABLE",
                    meaning: "the name of the control table",
                })?;
        Ok(Self {
            control_table,
            log: log.unwrap_or_else(|| "info".into()),
        })
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
                log: "info".into()
            }
        );
    }
}

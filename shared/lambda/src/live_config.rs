//! What a deployment sets for the functions of the live side.

use highwater_domain::layout::Destination;
use highwater_domain::mark::DEFAULT_PUBLICATION_MS;

use crate::config::ConfigError;

/// The configuration of `consume-stream`, `audit-stream` and `apply-log` beyond what every function has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// `HIGHWATER_LOG_TO`: the bucket and prefix of the logs, `s3://BUCKET/PREFIX`.
    pub log_to: Destination,
    /// `HIGHWATER_TABLES`: the tables that are audited, or whose replicas are fed, if the event does not name one: names or
    /// ARNs, separated by commas.
    pub tables: Vec<String>,
    /// `HIGHWATER_PUBLICATION_DELAY`: how late DynamoDB publishes a record at most, for the mark's grade `assumed`; in
    /// milliseconds here and in seconds there, 120 by default.
    pub publication_ms: u64,
    /// `HIGHWATER_REPLICAS`: `true` where the deployment may have replicas. Without it nobody asks whether there are any.
    pub replicas: bool,
}

impl LiveConfig {
    /// Reads the configuration from the process's environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::from_pairs(std::env::vars())
    }

    /// Reads the configuration from pairs of name and value.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut log_to, mut tables, mut delay, mut replicas) = (None, None, None, None);
        for (name, value) in pairs {
            let value = Some(value).filter(|value| !value.is_empty());
            match name.as_str() {
                "HIGHWATER_LOG_TO" => log_to = value,
                "HIGHWATER_TABLES" => tables = value,
                "HIGHWATER_PUBLICATION_DELAY" => delay = value,
                "HIGHWATER_REPLICAS" => replicas = value,
                _ => {}
            }
        }
        let log_to = log_to.ok_or(ConfigError::Missing {
            name: "HIGHWATER_LOG_TO",
            meaning: "the bucket and prefix of the change logs, s3://BUCKET/PREFIX",
        })?;
        Ok(Self {
            log_to: log_to.parse().map_err(
                |error: highwater_domain::layout::DestinationError| ConfigError::Invalid {
                    name: "HIGHWATER_LOG_TO",
                    reason: error.to_string(),
                },
            )?,
            tables: list(tables.as_deref().unwrap_or_default()),
            publication_ms: delay
                .map_or(Ok(DEFAULT_PUBLICATION_MS), |delay| milliseconds(&delay))?,
            replicas: replicas.map_or(Ok(false), |replicas| yes_or_no(&replicas))?,
        })
    }
}

fn list(names: &str) -> Vec<String> {
    let names = names.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn yes_or_no(text: &str) -> Result<bool, ConfigError> {
    text.parse().map_err(|_| ConfigError::Invalid {
        name: "HIGHWATER_REPLICAS",
        reason: format!("{text:?} is neither true nor false"),
    })
}

fn milliseconds(delay: &str) -> Result<u64, ConfigError> {
    let seconds = delay.parse::<u64>().ok();
    let milliseconds = seconds.and_then(|seconds| seconds.checked_mul(1000));
    milliseconds.ok_or_else(|| ConfigError::Invalid {
        name: "HIGHWATER_PUBLICATION_DELAY",
        reason: format!("{delay:?} is no whole number of seconds"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<LiveConfig, ConfigError> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        LiveConfig::from_pairs(owned)
    }

    #[test]
    fn a_deployment_is_read() {
        let config = read(&[
            ("HIGHWATER_LOG_TO", "s3://bucket/live"),
            ("HIGHWATER_TABLES", "orders, customers,"),
            ("HIGHWATER_PUBLICATION_DELAY", "30"),
            ("HIGHWATER_REPLICAS", "true"),
        ]);
        let expected = LiveConfig {
            log_to: "s3://bucket/live".parse().unwrap(),
            tables: vec!["orders".into(), "customers".into()],
            publication_ms: 30_000,
            replicas: true,
        };
        assert_eq!(config, Ok(expected));
        let least = read(&[
            ("HIGHWATER_LOG_TO", "s3://bucket"),
            ("HIGHWATER_PUBLICATION_DELAY", ""),
        ]);
        let least = least.unwrap();
        assert_eq!((least.publication_ms, least.tables.len()), (120_000, 0));
        assert!(!least.replicas);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("HIGHWATER_LOG_TO", ""),
            ("HIGHWATER_LOG_TO", "bucket/live"),
            ("HIGHWATER_PUBLICATION_DELAY", "2m"),
            ("HIGHWATER_REPLICAS", "on"),
            ("HIGHWATER_PUBLICATION_DELAY", "18446744073709551615"),
        ] {
            let error = read(&[("HIGHWATER_LOG_TO", "s3://bucket"), (name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

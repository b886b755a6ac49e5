//! `--s3-bucket` and `--s3-prefix`: a dyndump backup's place as dyndump takes it.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as ClapArgs};
use highwater_domain::backup_source::SourceLocation;
use highwater_domain::layout::Destination;

/// A bucket and a prefix.
#[derive(ClapArgs, Clone, Debug, Default)]
pub struct DyndumpPlace {
    /// The bucket of a dyndump backup; goes with --s3-prefix.
    #[arg(long, env = "HIGHWATER_S3_BUCKET", value_name = "BUCKET")]
    pub s3_bucket: Option<String>,
    /// What the keys of its objects begin with, taken as it is: nothing is added, not even a slash.
    #[arg(long, env = "HIGHWATER_S3_PREFIX", value_name = "PREFIX")]
    pub s3_prefix: Option<String>,
}

impl DyndumpPlace {
    /// Decides between this place and what `other` names, another argument for the same thing.
    ///
    /// What stands on the command line goes before what stands in the environment, which may be meant for other
    /// commands. Two on the command line, or half a place, are refused. Gives whether `other` is in force.
    pub fn settle(
        &mut self,
        matches: &ArgMatches,
        other: &str,
        shown: &str,
    ) -> Result<bool, String> {
        let said = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let given = |id: &str| {
            matches
                .value_source(id)
                .is_some_and(|source| source != ValueSource::DefaultValue)
        };
        let said_here = said("s3_bucket") || said("s3_prefix");
        if said_here && said(other) {
            return Err(format!(
                "{shown} and --s3-bucket/--s3-prefix name the same thing: give one"
            ));
        }
        if given(other) && !said_here {
            *self = Self::default();
            return Ok(true);
        }
        match (&self.s3_bucket, &self.s3_prefix) {
            (Some(_), Some(prefix)) if prefix.is_empty() => {
                Err("--s3-prefix must not be empty: the backup's keys begin with it".into())
            }
            (Some(_), Some(_)) => Ok(false),
            (None, None) => Ok(given(other)),
            _ if said_here => Err("--s3-bucket and --s3-prefix go together".into()),
            _ => {
                *self = Self::default();
                Ok(given(other))
            }
        }
    }

    /// The same as one text.
    pub fn url(&self) -> Option<String> {
        let (bucket, prefix) = (self.s3_bucket.as_ref()?, self.s3_prefix.as_ref()?);
        Some(format!("s3://{bucket}/{prefix}"))
    }

    /// The place, if it is given. The prefix stays as it is: in a URL a slash at its end would be lost.
    pub fn location(&self) -> Option<Result<SourceLocation, String>> {
        let (bucket, prefix) = (self.s3_bucket.as_ref()?, self.s3_prefix.as_ref()?);
        let store = format!("s3://{bucket}").parse::<Destination>();
        Some(match store {
            Ok(store) => Ok(SourceLocation {
                store,
                key: prefix.clone(),
            }),
            Err(error) => Err(error.to_string()),
        })
    }
}

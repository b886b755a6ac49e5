//! The credentials of a role, taken and renewed by STS, under a session name that says what for.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_sts::types::Credentials as Given;
use highwater_domain::failure::{Failure, FailureKind};
use thiserror::Error;

use crate::failure;

/// How the sessions are called in the trail of the role's account.
pub(crate) const SESSION_NAME: &str = "highwater-replica";

/// One attempt of an STS call: all of them are small.
pub(crate) const STS_ATTEMPT: Duration = Duration::from_secs(10);

/// A role that cannot be assumed.
#[derive(Debug, Error)]
#[error("role {role} cannot be assumed: {reason}")]
pub(crate) struct RoleRefused {
    role: String,
    reason: String,
    /// What a caller can do about it.
    pub(crate) kind: FailureKind,
}

/// Assumes a role; whoever keeps what it gives asks again before that expires.
#[derive(Debug)]
pub(crate) struct AssumedRole {
    role: String,
    sts: aws_sdk_sts::Client,
}

impl AssumedRole {
    /// The role of this ARN, assumed with what `config` says of STS: its endpoint, region and credentials.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] if it is no role's ARN.
    pub(crate) fn new(role: &str, config: aws_sdk_sts::Config) -> Result<Self, Failure> {
        check(role)?;
        Ok(Self {
            role: role.to_owned(),
            sts: aws_sdk_sts::Client::from_conf(config),
        })
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let asked = self.sts.assume_role().role_arn(&self.role);
        let answer = asked.role_session_name(SESSION_NAME).send().await;
        let answer = answer.map_err(|error| {
            let (kind, reason) = failure::judge(&error);
            self.refused(kind, reason)
        })?;
        let given = answer.credentials.as_ref().and_then(read);
        given.ok_or_else(|| {
            let reason = "STS answered without credentials".to_owned();
            self.refused(FailureKind::Transient, reason)
        })
    }

    fn refused(&self, kind: FailureKind, reason: String) -> CredentialsError {
        CredentialsError::provider_error(RoleRefused {
            role: self.role.clone(),
            reason,
            kind,
        })
    }
}

fn read(given: &Given) -> Option<Credentials> {
    let expires = SystemTime::try_from(given.expiration).ok()?;
    Some(Credentials::new(
        &given.access_key_id,
        &given.secret_access_key,
        Some(given.session_token.clone()),
        Some(expires),
        "AssumeRole",
    ))
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME`.
fn check(role: &str) -> Result<(), Failure> {
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let is_role = matches!(
        parts.as_slice(),
        ["arn", partition, "iam", "", account, name]
            if !partition.is_empty() && !account.is_empty()
                && name.strip_prefix("role/").is_some_and(|name| !name.is_empty())
    );
    if is_role {
        return Ok(());
    }
    let message = "it is no role: name it like arn:aws:iam::111122223333:role/NAME";
    Err(Failure::new(
        FailureKind::Invalid,
        "AssumeRole",
        role,
        message,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_arn_of_a_role_is_one() {
        for role in [
            "arn:aws:iam::111122223333:role/replica",
            "arn:aws-cn:iam::111122223333:role/path/replica",
        ] {
            check(role).unwrap();
        }
        for role in [
            "replica",
            "arn:aws:iam::111122223333:user/replica",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam:::role/replica",
            "arn:aws:dynamodb:eu-north-1:111122223333:table/orders",
        ] {
            let failure = check(role).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Invalid);
            assert_eq!(failure.resource, role);
        }
        // IAM takes 2 to 64 of these.
        let is_fine = |it: char| it.is_ascii_alphanumeric() || it == '-';
        assert!((2..=64).contains(&SESSION_NAME.len()) && SESSION_NAME.chars().all(is_fine));
    }
}

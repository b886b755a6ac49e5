//! The credentials of a role, taken and renewed by STS, under a session name that says what for.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
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
    inner: AssumeRoleProvider,
}

impl AssumedRole {
    /// The role of this ARN, assumed with what `config` says of STS: its endpoint, region and credentials.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] if it is no role's ARN.
    pub(crate) async fn new(role: &str, config: &SdkConfig) -> Result<Self, Failure> {
        check(role)?;
        let builder = AssumeRoleProvider::builder(role).session_name(SESSION_NAME);
        Ok(Self {
            role: role.to_owned(),
            inner: builder.configure(config).build().await,
        })
    }

    fn refused(&self, error: &CredentialsError) -> CredentialsError {
        type Asked = SdkError<AssumeRoleError, HttpResponse>;
        let (kind, reason) = match failure::find::<Asked>(error) {
            Some(asked) => failure::judge(asked),
            None => (FailureKind::Denied, failure::root_cause(error)),
        };
        CredentialsError::provider_error(RoleRefused {
            role: self.role.clone(),
            reason,
            kind,
        })
    }
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let given = self.inner.provide_credentials().await;
            given.map_err(|error| self.refused(&error))
        })
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

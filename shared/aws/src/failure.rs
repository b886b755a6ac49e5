//! Judges an SDK error, once: what can the caller do about it?
//!
//! The codes are those of DynamoDB
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>) and S3
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>), and the ones that every
//! service shares. An unknown code is judged by its HTTP status.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use highwater_domain::failure::{Failure, FailureKind};

use crate::assumed_role::RoleRefused;
use crate::checked_body::AnswerError;

/// What a failed SDK call means: `operation` in the service's word, on `resource`.
///
/// The message is the service's own, on one line, after its error code. The SDK's error is kept as the source.
pub fn from_sdk<E>(
    operation: &'static str,
    resource: impl Into<String>,
    error: SdkError<E, HttpResponse>,
) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (kind, message) = judge(&error);
    Failure::new(kind, operation, resource, message).with_source(error)
}

/// The class of an SDK's error, and what it says on one line.
pub(crate) fn judge<E>(error: &SdkError<E, HttpResponse>) -> (FailureKind, String)
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let code = context.err().code();
            let text = context.err().message().unwrap_or_default();
            (kind_of(code, status), service_message(code, text, status))
        }
        SdkError::TimeoutError(_) => (FailureKind::Transient, root_cause(error)),
        SdkError::ResponseError(_) => match find::<AnswerError>(error) {
            Some(answer) => (answer.kind(), answer.to_string()),
            None => (FailureKind::Transient, root_cause(error)),
        },
        SdkError::DispatchFailure(_) => dispatch(error),
        SdkError::ConstructionFailure(_) => (FailureKind::Invalid, root_cause(error)),
        _ => (FailureKind::Other, root_cause(error)),
    }
}

/// The class of an error by its code, or else by its HTTP status.
#[must_use]
pub fn kind_of(code: Option<&str>, status: u16) -> FailureKind {
    let code = code.unwrap_or_default();
    kind_of_code(code).unwrap_or(match status {
        429 | 503 => FailureKind::Throttled,
        501 => FailureKind::Invalid,
        507 => FailureKind::NotWritable,
        500..=599 | 408 => FailureKind::Transient,
        401 | 403 => FailureKind::Denied,
        404 => FailureKind::NotFound,
        400..=499 => FailureKind::Invalid,
        _ => FailureKind::Other,
    })
}

/// Codes that ask for a slower pace.
const THROTTLED: &[&str] = &[
    "ProvisionedThroughputExceededException",
    "ProvisionedThroughputExceeded",
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "SlowDown",
    // Step Functions': a million executions at once.
    "ExecutionLimitExceeded",
];

/// Codes of a service in trouble, or of bytes lost on the way.
const TRANSIENT: &[&str] = &[
    "InternalServerError",
    "InternalError",
    "InternalFailure",
    "RequestTimeout",
    "RequestTimeoutException",
    "OperationAborted",
    "ConditionalRequestConflict",
    "TransactionInProgressException",
    "TransactionConflictException",
    "ReplicatedWriteConflictException",
    "IncompleteBody",
    "BadDigest",
    "CrcCheckFailed",
];

/// Codes about who asks, and whether they may.
const DENIED: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AllAccessDisabled",
    "AccountProblem",
    "AuthFailure",
    "Forbidden",
    "UnrecognizedClientException",
    "UnauthorizedAccess",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Codes for what does not exist.
const NOT_FOUND: &[&str] = &[
    "ResourceNotFoundException",
    "TableNotFoundException",
    "ImportNotFoundException",
    "NoSuchBucket",
    "NoSuchKey",
    "NotFound",
    "StateMachineDoesNotExist",
    "ExecutionDoesNotExist",
    "ResourceNotFound",
];

/// Codes of requests that no repetition makes right.
const INVALID: &[&str] = &[
    "ValidationException",
    "SerializationException",
    "UnknownOperationException",
    "NotImplemented",
];

/// Codes of full stores; those of servers beside AWS.
const NOT_WRITABLE: &[&str] = &[
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
];

fn kind_of_code(code: &str) -> Option<FailureKind> {
    [
        (THROTTLED, FailureKind::Throttled),
        (TRANSIENT, FailureKind::Transient),
        (DENIED, FailureKind::Denied),
        (NOT_FOUND, FailureKind::NotFound),
        (INVALID, FailureKind::Invalid),
        (NOT_WRITABLE, FailureKind::NotWritable),
    ]
    .into_iter()
    .find_map(|(codes, kind)| codes.contains(&code).then_some(kind))
}

/// `Code: message`, on one line, of whichever parts there are.
pub(crate) fn service_message(code: Option<&str>, message: &str, status: u16) -> String {
    let message = one_line(message);
    match (code.filter(|code| !code.is_empty()), message.is_empty()) {
        (Some(code), false) => format!("{code}: {message}"),
        (Some(code), true) => code.to_owned(),
        (None, false) => message,
        (None, true) => format!("HTTP status {status}"),
    }
}

/// A request that found no service, or lost it.
fn dispatch<E, R>(error: &SdkError<E, R>) -> (FailureKind, String)
where
    E: Error + 'static,
    R: std::fmt::Debug + 'static,
{
    if let Some(answer) = find::<AnswerError>(error) {
        return (answer.kind(), answer.to_string());
    }
    if let Some(role) = find::<RoleRefused>(error) {
        return (role.kind, role.to_string());
    }
    if let Some(credentials) = find::<CredentialsError>(error) {
        let message = match credentials {
            CredentialsError::CredentialsNotLoaded(_) => {
                "no AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
            }
            _ => root_cause(credentials),
        };
        return (FailureKind::Denied, message);
    }
    let refused = find::<io::Error>(error).is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
        )
    });
    // Names that do not resolve, and certificates that do not fit, have no type to know them by.
    let misdirected = chain(error).any(|cause| {
        let text = cause.to_string();
        text.contains("dns error") || text.contains("invalid peer certificate")
    });
    let kind = if refused || misdirected {
        FailureKind::Unreachable
    } else if matches!(error, SdkError::DispatchFailure(failure) if failure.is_user()) {
        FailureKind::Invalid
    } else {
        FailureKind::Transient
    };
    (kind, root_cause(error))
}

/// The error and what caused it, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost error of a type.
pub(crate) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).filter_map(|cause| cause.downcast_ref()).last()
}

/// The innermost message: the one that says what happened, not who reported it.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    one_line(
        &chain(error)
            .last()
            .map(ToString::to_string)
            .unwrap_or_default(),
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        for (code, status, kind) in [
            (
                "ProvisionedThroughputExceededException",
                400,
                FailureKind::Throttled,
            ),
            ("ThrottlingException", 400, FailureKind::Throttled),
            ("RequestLimitExceeded", 400, FailureKind::Throttled),
            ("SlowDown", 503, FailureKind::Throttled),
            ("ServiceUnavailable", 503, FailureKind::Throttled),
            ("InternalServerError", 500, FailureKind::Transient),
            ("Whatever", 502, FailureKind::Transient),
            ("RequestTimeout", 400, FailureKind::Transient),
            ("AccessDeniedException", 400, FailureKind::Denied),
            ("UnrecognizedClientException", 400, FailureKind::Denied),
            ("ExpiredTokenException", 400, FailureKind::Denied),
            ("InvalidSignatureException", 400, FailureKind::Denied),
            ("ResourceNotFoundException", 400, FailureKind::NotFound),
            ("NoSuchBucket", 404, FailureKind::NotFound),
            ("ValidationException", 400, FailureKind::Invalid),
            ("UnknownOperationException", 400, FailureKind::Invalid),
            ("PermanentRedirect", 301, FailureKind::Other),
            ("", 403, FailureKind::Denied),
            ("", 404, FailureKind::NotFound),
            ("", 400, FailureKind::Invalid),
            ("", 507, FailureKind::NotWritable),
        ] {
            assert_eq!(kind_of(Some(code), status), kind, "{code} {status}");
        }
    }

    #[test]
    fn messages_fit_one_line() {
        assert_eq!(service_message(Some("A"), "b\n  c", 400), "A: b c");
        assert_eq!(service_message(None, "", 503), "HTTP status 503");
        assert_eq!(service_message(Some("A"), " ", 503), "A");
        assert_eq!(service_message(Some(""), "b", 503), "b");
    }
}

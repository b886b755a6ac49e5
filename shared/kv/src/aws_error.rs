//! A failed call to DynamoDB, sorted into the classes that callers act on.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::error::FailureClass;

/// One failed call to DynamoDB.
///
/// `Display` tells the whole story on one line; `source()` is the SDK's error.
#[derive(Debug)]
#[non_exhaustive]
pub struct AwsError {
    /// What a caller can do about it.
    pub class: FailureClass,
    /// The call in DynamoDB's words: `UpdateItem`, `Query`.
    pub operation: &'static str,
    /// The table.
    pub table: String,
    /// DynamoDB's error code, if it answered: `AccessDeniedException`.
    pub code: Option<String>,
    /// DynamoDB's message, or what kept it from answering.
    pub message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl AwsError {
    pub(crate) fn new<E>(operation: &'static str, table: &str, error: SdkError<E>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let (code, message) = match &error {
            SdkError::ServiceError(context) => (
                context.err().code().map(str::to_owned),
                context.err().message().map(str::to_owned),
            ),
            _ => (None, None),
        };
        Self {
            class: classify(&error),
            operation,
            table: table.to_owned(),
            message: message.unwrap_or_else(|| innermost(&error)),
            code,
            source: Some(Box::new(error)),
        }
    }

    /// A batch of which DynamoDB left something undone, again and again.
    pub(crate) fn unprocessed(operation: &'static str, table: &str, count: usize) -> Self {
        Self {
            class: FailureClass::Throttled,
            operation,
            table: table.to_owned(),
            code: None,
            message: format!("{count} items were left unprocessed after many tries"),
            source: None,
        }
    }

    /// An answer that lacks what DynamoDB always sends.
    pub(crate) fn incomplete(operation: &'static str, table: &str, missing: &str) -> Self {
        Self {
            class: FailureClass::Corrupt,
            operation,
            table: table.to_owned(),
            code: None,
            message: format!("the answer lacks {missing}"),
            source: None,
        }
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} failed: ", self.operation, self.table)?;
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl StdError for AwsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// The class of any SDK error of DynamoDB.
pub(crate) fn classify<E>(error: &SdkError<E>) -> FailureClass
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            by_code(context.err().code().unwrap_or_default(), status)
        }
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => FailureClass::Transient,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => FailureClass::Transient,
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(connector) => by_chain(connector),
            None => FailureClass::Transient,
        },
        SdkError::ConstructionFailure(_) => FailureClass::Invalid,
        _ => FailureClass::Other,
    }
}

fn by_code(code: &str, status: u16) -> FailureClass {
    match code {
        "ConditionalCheckFailedException" | "TransactionCanceledException" => {
            FailureClass::Conflict
        }
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "LimitExceededException" => FailureClass::Throttled,
        "TransactionConflictException"
        | "TransactionInProgressException"
        | "ReplicatedWriteConflictException"
        | "InternalServerError"
        | "ServiceUnavailable" => FailureClass::Transient,
        "AccessDeniedException"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "UnrecognizedClientException" => FailureClass::Denied,
        "ResourceNotFoundException" | "TableNotFoundException" => FailureClass::NotFound,
        _ if status == 429 => FailureClass::Throttled,
        _ if status >= 500 => FailureClass::Transient,
        _ if status == 401 || status == 403 => FailureClass::Denied,
        _ if status == 400 => FailureClass::Invalid,
        _ => FailureClass::Other,
    }
}

/// No answer at all: refused and unknown hosts will not get better by themselves, lost connections may.
fn by_chain(error: &(dyn StdError + 'static)) -> FailureClass {
    use std::io::ErrorKind;
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::AddrNotAvailable => return FailureClass::Unreachable,
                _ => {}
            }
        }
        // Neither the resolver nor the credential chain gives its errors a public type here.
        let text = current.to_string().to_lowercase();
        if text.contains("dns error") || text.contains("failed to lookup address") {
            return FailureClass::Unreachable;
        }
        if text.contains("credential") || text.contains("no auth scheme") {
            return FailureClass::Denied;
        }
        cause = current.source();
    }
    FailureClass::Transient
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_class_that_a_caller_acts_on() {
        for (code, status, class) in [
            ("ThrottlingException", 400, FailureClass::Throttled),
            ("InternalServerError", 500, FailureClass::Transient),
            ("TransactionConflictException", 400, FailureClass::Transient),
            ("AccessDeniedException", 400, FailureClass::Denied),
            ("ResourceNotFoundException", 400, FailureClass::NotFound),
            ("ValidationException", 400, FailureClass::Invalid),
            ("SomethingNew", 503, FailureClass::Transient),
            ("SomethingNew", 418, FailureClass::Other),
        ] {
            assert_eq!(by_code(code, status), class, "{code} {status}");
        }
    }
}

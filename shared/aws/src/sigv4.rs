//! AWS Signature Version 4 of a request to `/` without a query, which every call of DynamoDB's is.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write as _;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Where a signature is good: `us-east-1/dynamodb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) region: String,
    pub(crate) service: String,
}

/// What the header `authorization` of a signed request says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorization<'a> {
    pub(crate) scope: Scope,
    /// The names of the headers that were signed, in their order.
    pub(crate) signed: Vec<&'a str>,
}

impl<'a> Authorization<'a> {
    /// Reads a header; `None` if it is of another kind.
    pub(crate) fn read(header: &'a str) -> Option<Self> {
        let rest = header
            .strip_prefix(ALGORITHM)?
            .strip_prefix(" Credential=")?;
        let (credential, rest) = rest.split_once(", SignedHeaders=")?;
        let (signed, _) = rest.split_once(", Signature=")?;
        let mut parts = credential.rsplit('/');
        let [Some("aws4_request"), Some(service), Some(region)] =
            [parts.next(), parts.next(), parts.next()]
        else {
            return None;
        };
        let scope = Scope {
            region: region.to_owned(),
            service: service.to_owned(),
        };
        let signed = signed.split(';').collect();
        Some(Self { scope, signed })
    }
}

/// `20261123T051213Z`: what the header `x-amz-date` says.
pub(crate) fn amz_date(now: SystemTime) -> Option<String> {
    let seconds = DateTime::from_secs(DateTime::from(now).secs());
    let text = seconds.fmt(Format::DateTime).ok()?;
    Some(text.replace(['-', ':'], ""))
}

/// The header `authorization` of a POST to `/`.
///
/// `headers` are those that are signed, their names in lower case and in byte order; `amz_date` is the value of the
/// one of that name.
pub(crate) fn authorization(
    credentials: &Credentials,
    scope: &Scope,
    amz_date: &str,
    headers: &[(&str, &str)],
    body_sha256: &[u8; 32],
) -> String {
    let day = amz_date.get(..8).unwrap_or(amz_date);
    let mut names = String::with_capacity(128);
    for (name, _) in headers {
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(name);
    }
    let request = canonical_request(headers, &names, body_sha256);
    let Scope { region, service } = scope;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!(
        "{ALGORITHM}\n{amz_date}\n{scope}\n{}",
        hex::encode(Sha256::digest(request))
    );
    let secret = format!("AWS4{}", credentials.secret_access_key());
    let key = [day, region, service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| hmac(&key, part).to_vec());
    let signature = hex::encode(hmac(&key, &to_sign));
    let id = credentials.access_key_id();
    format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
}

fn canonical_request(headers: &[(&str, &str)], names: &str, body_sha256: &[u8; 32]) -> String {
    let mut request = String::with_capacity(512);
    request.push_str("POST\n/\n\n");
    for (name, value) in headers {
        // Writing to a string does not fail.
        let _ = writeln!(request, "{name}:{value}");
    }
    let _ = write!(request, "\n{names}\n{}", hex::encode(body_sha256));
    request
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A request of AWS's own test suite, `post-vanilla`:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
    #[test]
    fn a_request_of_aws_own_suite_is_signed_as_it_says() {
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "test",
        );
        let scope = Scope {
            region: "us-east-1".into(),
            service: "service".into(),
        };
        let date = amz_date(SystemTime::UNIX_EPOCH + Duration::from_millis(1_440_938_160_999));
        assert_eq!(date.as_deref(), Some("20150830T123600Z"));
        let headers = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let body: [u8; 32] = Sha256::digest(b"").into();
        let header = authorization(&credentials, &scope, headers[1].1, &headers, &body);
        assert_eq!(
            header,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let read = Authorization::read(&header).unwrap();
        assert_eq!(
            (read.scope, read.signed),
            (scope, vec!["host", "x-amz-date"])
        );
    }

    #[test]
    fn other_headers_are_none_of_ours() {
        for header in [
            "",
            "Bearer x",
            "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/aws4_request, SignedHeaders=host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=a/20150830/r/s/other, SignedHeaders=host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=a/20150830/r/s/aws4_request, Signature=0",
        ] {
            assert_eq!(Authorization::read(header), None, "{header}");
        }
    }
}

//! The ARN of a table's stream, which names the table and the stream.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `arn:aws:dynamodb:<region>:<account>:table/<table>/stream/<label>`: what a Lambda event says of its records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamArn {
    arn: String,
    table: String,
    label: String,
}

/// A text that is no stream's ARN.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not the ARN of a DynamoDB stream: arn:PARTITION:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL"
)]
pub struct StreamArnError(pub String);

impl StreamArn {
    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.arn
    }

    /// The table's bare name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The stream's label: when it was enabled.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl FromStr for StreamArn {
    type Err = StreamArnError;

    /// Table and label become parts of object keys: what could leave its folder there is refused.
    fn from_str(text: &str) -> Result<Self, StreamArnError> {
        let read = || {
            let (head, resource) = text.split_once(":table/")?;
            let mut head = head.split(':');
            let is_dynamodb = head.next() == Some("arn")
                && head.next().is_some_and(|partition| !partition.is_empty())
                && head.next() == Some("dynamodb")
                && head.count() == 2;
            let (table, label) = resource.split_once("/stream/")?;
            (is_dynamodb && is_table(table) && is_label(label)).then(|| Self {
                arn: text.to_owned(),
                table: table.to_owned(),
                label: label.to_owned(),
            })
        };
        read().ok_or_else(|| StreamArnError(text.to_owned()))
    }
}

/// What DynamoDB takes for a table's name; no name of dots alone, which could lead out of a folder.
fn is_table(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (3..=255).contains(&name.len()) && name.bytes().all(plain) && !is_dots(name)
}

/// AWS's labels are times; other engines have their own words.
fn is_label(label: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    (1..=100).contains(&label.len()) && label.bytes().all(plain) && !is_dots(label)
}

fn is_dots(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'.')
}

impl fmt::Display for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_table_and_stream() {
        for text in [
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-14T10:18:50.622",
            "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/orders/stream/2026-01-14T10:18:50.622",
            "arn:aws:dynamodb:ddblocal:000000000000:table/orders/stream/2026-01-14T10:18:50.622",
        ] {
            let arn: StreamArn = text.parse().unwrap();
            assert_eq!(arn.table(), "orders");
            assert_eq!(arn.label(), "2026-01-14T10:18:50.622");
            assert_eq!((arn.as_str(), arn.to_string()), (text, text.to_owned()));
        }
    }

    #[test]
    fn what_names_no_stream_or_could_leave_its_folder_is_refused() {
        for text in [
            "",
            "orders",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/../stream/x",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/.../stream/x",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/..",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/a/b",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/a b c/stream/x",
            "arn:aws:dynamodb:123456789012:table/orders/stream/x",
            "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
            "arn:aws:kinesis:eu-west-1:123456789012:table/orders/stream/x",
        ] {
            assert!(text.parse::<StreamArn>().is_err(), "{text}");
        }
    }
}

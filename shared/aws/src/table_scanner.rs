//! Scans a table page by page, items untouched.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::scan::{Page, ScanRequest, TableScanner};

use crate::answer_capture::{Capture, Slot};
use crate::page_capture::CapturedPage;
use crate::{attribute_value, failure};
use highwater_domain::reused_buffers::ReusedBuffers;

/// The call that everything here is about.
const SCAN: &str = "Scan";

/// Reads tables by DynamoDB's `Scan`.
///
/// Items are slices of the response as it came over the wire, after its length and its `x-amz-crc32`
/// were checked; the SDK parses only what stands around them. It retries as often as its client does:
/// give it one without retries where the caller counts throttles.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html>
#[derive(Clone, Debug)]
pub struct DynamoScanner {
    client: Client,
    buffers: ReusedBuffers,
}

impl DynamoScanner {
    /// A scanner over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            buffers: ReusedBuffers::default(),
        }
    }

    /// The request in the SDK's words.
    fn request(&self, request: &ScanRequest) -> Result<ScanFluentBuilder, Failure> {
        let number = |value: u32| {
            i32::try_from(value)
                .map_err(|_| invalid(request, format!("{value} is more than a segment can be")))
        };
        let selection = &request.selection;
        let mut scan = self
            .client
            .scan()
            .table_name(&request.table)
            .segment(number(request.segment)?)
            .total_segments(number(request.total_segments)?)
            .consistent_read(request.consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .set_exclusive_start_key(
                request
                    .exclusive_start_key
                    .as_ref()
                    .map(attribute_value::from_key),
            )
            // DynamoDB refuses 0, and would read nothing with it.
            .set_limit(
                request
                    .limit
                    .map(|limit| i32::try_from(limit.max(1)).unwrap_or(i32::MAX)),
            )
            .set_filter_expression(selection.filter.clone())
            .set_projection_expression(selection.projection.clone());
        for (placeholder, name) in &selection.names {
            scan = scan.expression_attribute_names(placeholder, name);
        }
        for (placeholder, value) in &selection.values {
            let value = attribute_value::from_json(value)
                .map_err(|error| invalid(request, format!("value {placeholder}: {error}")))?;
            scan = scan.expression_attribute_values(placeholder, value);
        }
        Ok(scan)
    }
}

#[async_trait]
impl TableScanner for DynamoScanner {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let slot = Slot::<CapturedPage>::default();
        let output = self
            .request(request)?
            .customize()
            .interceptor(Capture::with(&slot, &self.buffers))
            .send()
            .await
            .map_err(|error| failure::from_sdk(SCAN, &request.table, error))?;
        let captured = slot
            .take()
            .ok_or_else(|| corrupt(request, "the answer came without a page".to_owned()))?;
        page(request, &output, captured)
    }
}

/// Joins what the SDK parsed with the items that it never saw.
fn page(
    request: &ScanRequest,
    output: &ScanOutput,
    captured: CapturedPage,
) -> Result<Page, Failure> {
    let found = captured.items.len();
    if usize::try_from(output.count()) != Ok(found) {
        let count = output.count();
        return Err(corrupt(
            request,
            format!("Count is {count}, but there are {found} items"),
        ));
    }
    let last_evaluated_key = output
        .last_evaluated_key()
        .filter(|key| !key.is_empty())
        .map(attribute_value::to_key)
        .transpose()
        .map_err(|name| {
            corrupt(
                request,
                format!("LastEvaluatedKey has {name:?}, which no key can be"),
            )
        })?;
    Ok(Page {
        items: captured.items,
        last_evaluated_key,
        scanned_count: u64::try_from(output.scanned_count())
            .unwrap_or(0)
            .max(found as u64),
        consumed_capacity: output
            .consumed_capacity()
            .and_then(ConsumedCapacity::capacity_units)
            .unwrap_or(0.0),
        wire_bytes: captured.wire_bytes,
    })
}

fn invalid(request: &ScanRequest, message: String) -> Failure {
    Failure::new(FailureKind::Invalid, SCAN, &request.table, message)
}

fn corrupt(request: &ScanRequest, message: String) -> Failure {
    Failure::new(FailureKind::Corrupt, SCAN, &request.table, message)
}

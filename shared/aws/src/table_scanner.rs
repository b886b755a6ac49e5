//! Scans a table page by page, items untouched.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use bytes::Bytes;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::key::{Key, KeyValue};
use highwater_domain::reused_buffers::ReusedBuffers;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::page_capture::CapturedPage;
use crate::standing_call::{OwnBytes, StandingCall};
use crate::{attribute_value, failure};

/// The call that everything here is about.
const SCAN: &str = "Scan";

/// Reads tables by DynamoDB's `Scan`.
///
/// Items are slices of the response as it came over the wire, after its length and its `x-amz-crc32`
/// were checked. It retries as often as its client does: give it one without retries where the caller counts throttles.
/// Only its first call on a table is all the SDK's, and those after a failure: the others are made after its pattern.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html>
#[derive(Clone, Debug)]
pub struct DynamoScanner {
    client: Client,
    pages: StandingCall,
    buffers: ReusedBuffers,
}

/// The request as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ScanBody<'a> {
    table_name: &'a str,
    segment: u32,
    total_segments: u32,
    consistent_read: bool,
    return_consumed_capacity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclusive_start_key: Option<&'a Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_expression: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    projection_expression: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expression_attribute_names: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expression_attribute_values: &'a BTreeMap<String, Value>,
}

impl DynamoScanner {
    /// A scanner over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            pages: StandingCall::of(client.config().retry_config()),
            client,
            buffers: ReusedBuffers::default(),
        }
    }
}

/// The request's bytes, or why the service would not take it.
fn body(request: &ScanRequest) -> Result<Bytes, Failure> {
    for number in [request.segment, request.total_segments] {
        if i32::try_from(number).is_err() {
            let what = format!("{number} is more than a segment can be");
            return Err(invalid(request, what));
        }
    }
    let selection = &request.selection;
    for (placeholder, value) in &selection.values {
        attribute_value::from_json(value)
            .map_err(|error| invalid(request, format!("value {placeholder}: {error}")))?;
    }
    let body = serde_json::to_vec(&ScanBody {
        table_name: &request.table,
        segment: request.segment,
        total_segments: request.total_segments,
        consistent_read: request.consistent,
        return_consumed_capacity: "TOTAL",
        exclusive_start_key: request.exclusive_start_key.as_ref(),
        // DynamoDB refuses 0, and would read nothing with it. No page has so many items as it cannot count.
        limit: request.limit.map(|limit| limit.clamp(1, i32::MAX as u32)),
        filter_expression: selection.filter.as_deref(),
        projection_expression: selection.projection.as_deref(),
        expression_attribute_names: &selection.names,
        expression_attribute_values: &selection.values,
    });
    match body {
        Ok(body) => Ok(body.into()),
        Err(error) => Err(invalid(request, error.to_string())),
    }
}

#[async_trait]
impl TableScanner for DynamoScanner {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let table = request.table.as_str();
        let by_sdk = |bytes: OwnBytes<CapturedPage>| {
            // The endpoint may depend on the account in the table's ARN.
            let call = self.client.scan().table_name(table);
            call.customize().interceptor(bytes).send()
        };
        let asked = body(request)?;
        let answer = self.pages.call(table, asked, &self.buffers, by_sdk).await;
        let captured = answer.map_err(|error| failure::from_sdk(SCAN, &request.table, error))?;
        page(request, captured)
    }
}

/// The items with what stands around them, if that is what it must be.
fn page(request: &ScanRequest, captured: CapturedPage) -> Result<Page, Failure> {
    let CapturedPage { items, around, .. } = captured;
    let (found, count) = (items.len() as u64, around.count.unwrap_or(0));
    if count != found {
        let what = format!("Count is {count}, but there are {found} items");
        return Err(corrupt(request, what));
    }
    let position = around.last_evaluated_key.unwrap_or_default();
    let part = |(name, value): (String, Value)| match KeyValue::deserialize(value) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(corrupt(
            request,
            format!("LastEvaluatedKey has {name:?}, which no key can be"),
        )),
    };
    let position: BTreeMap<_, _> = position.into_iter().map(part).collect::<Result<_, _>>()?;
    Ok(Page {
        items,
        last_evaluated_key: (!position.is_empty()).then_some(Key(position)),
        scanned_count: around.scanned_count.unwrap_or(0).max(found),
        consumed_capacity: around.consumed_capacity.map_or(0.0, |it| it.units()),
        wire_bytes: captured.wire_bytes,
    })
}

fn invalid(request: &ScanRequest, message: String) -> Failure {
    Failure::new(FailureKind::Invalid, SCAN, &request.table, message)
}

fn corrupt(request: &ScanRequest, message: String) -> Failure {
    Failure::new(FailureKind::Corrupt, SCAN, &request.table, message)
}

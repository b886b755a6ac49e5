//! Scans of a whole segment, for tests that want its items.

use highwater_domain::failure::Failure;
use highwater_domain::scan::{ScanRequest, TableScanner};

/// A request for a page of a whole segment, strongly consistent, to be changed as a test needs.
#[must_use]
pub fn scan_request(table: &str, segment: u32, total_segments: u32) -> ScanRequest {
    ScanRequest {
        table: table.to_owned(),
        segment,
        total_segments,
        exclusive_start_key: None,
        consistent: true,
        limit: None,
        selection: highwater_domain::selection::Selection::default(),
    }
}

/// Scans a segment to its end from a position; gives the items in scan order.
pub async fn scan_segment(
    scanner: &dyn TableScanner,
    mut request: ScanRequest,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut items = Vec::new();
    loop {
        let page = scanner.scan_page(&request).await?;
        items.extend(page.items.iter().map(<[u8]>::to_vec));
        match page.last_evaluated_key {
            Some(key) => request.exclusive_start_key = Some(key),
            None => return Ok(items),
        }
    }
}

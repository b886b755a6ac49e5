//! A scanner that remembers every item that DynamoDB returned.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use highwater_aws::DynamoScanner;
use highwater_domain::failure::Failure;
use highwater_domain::scan::{Page, ScanRequest, TableScanner};

use super::multiset::Multiset;

/// The real scanner, and a record of what it gave.
#[derive(Debug)]
pub struct Recording {
    scanner: DynamoScanner,
    returned: Mutex<Multiset>,
}

impl Recording {
    pub fn new(scanner: DynamoScanner) -> Self {
        Self {
            scanner,
            returned: Mutex::default(),
        }
    }

    /// What was returned so far; the record starts again.
    pub fn take(&self) -> Multiset {
        std::mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl TableScanner for Recording {
    async fn scan_page(&self, request: &ScanRequest) -> Result<Page, Failure> {
        let page = self.scanner.scan_page(request).await?;
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        page.items.iter().for_each(|item| returned.add(item));
        Ok(page)
    }
}

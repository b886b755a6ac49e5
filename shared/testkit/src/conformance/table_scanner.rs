//! The laws of [`TableScanner`].

use std::collections::BTreeSet;

use highwater_domain::failure::FailureKind;
use highwater_domain::key::{Key, KeySchema};
use highwater_domain::scan::{Page, ScanRequest, TableScanner};

use crate::fake_table::scan_request;

/// What a table that nobody writes to is known to hold.
#[derive(Debug)]
pub struct KnownTable {
    /// The table's name.
    pub name: String,
    /// Its key.
    pub schema: KeySchema,
    /// The keys of all its items.
    pub keys: BTreeSet<Key>,
}

/// Runs every law on a table that nobody writes to. It should hold a few dozen items or more.
pub async fn every_law(scanner: &dyn TableScanner, table: &KnownTable) {
    segments_are_the_table_once(scanner, table).await;
    any_position_resumes_the_rest(scanner, table).await;
    a_limit_is_kept_and_loses_nothing(scanner, table).await;
    a_scan_repeats_itself(scanner, table).await;
    an_unknown_table_is_not_found(scanner).await;
}

/// Fetches a segment's pages from `request`'s position to its end.
async fn pages(scanner: &dyn TableScanner, mut request: ScanRequest) -> Vec<Page> {
    let mut pages = Vec::new();
    loop {
        let page = scanner.scan_page(&request).await.unwrap();
        assert!(page.scanned_count >= page.items.len() as u64);
        request
            .exclusive_start_key
            .clone_from(&page.last_evaluated_key);
        pages.push(page);
        if request.exclusive_start_key.is_none() {
            return pages;
        }
    }
}

fn keys(table: &KnownTable, pages: &[Page]) -> Vec<Key> {
    let items = pages.iter().flat_map(|page| page.items.iter());
    items
        .map(|item| {
            table
                .schema
                .key_of(item)
                .expect("a whole item with its key")
        })
        .collect()
}

/// For any number of segments, their union is the table and no item comes twice.
pub async fn segments_are_the_table_once(scanner: &dyn TableScanner, table: &KnownTable) {
    for total_segments in [1, 2, 3, 8, 64] {
        let mut found = BTreeSet::new();
        for segment in 0..total_segments {
            let request = scan_request(&table.name, segment, total_segments);
            for key in keys(table, &pages(scanner, request).await) {
                assert!(found.insert(key.clone()), "{key:?} came twice");
            }
        }
        assert_eq!(found, table.keys, "{total_segments} segments");
    }
}

/// From the end of any page the rest of the segment follows, exactly.
pub async fn any_position_resumes_the_rest(scanner: &dyn TableScanner, table: &KnownTable) {
    let mut request = scan_request(&table.name, 1, 2);
    request.limit = Some(4);
    let all = pages(scanner, request.clone()).await;
    let whole = keys(table, &all);
    let mut before = 0;
    for (index, page) in all.iter().enumerate() {
        before += page.items.len();
        let Some(position) = &page.last_evaluated_key else {
            assert_eq!(index + 1, all.len(), "only the last page has no key");
            break;
        };
        request.exclusive_start_key = Some(position.clone());
        request.limit = None;
        let rest = keys(table, &pages(scanner, request.clone()).await);
        assert_eq!(rest, whole[before..], "after page {index}");
    }
}

/// No page evaluates more than the limit; pages of any size give the same items.
pub async fn a_limit_is_kept_and_loses_nothing(scanner: &dyn TableScanner, table: &KnownTable) {
    for limit in [1, 2, 7] {
        let mut request = scan_request(&table.name, 0, 1);
        request.limit = Some(limit);
        let pages = pages(scanner, request).await;
        assert!(pages.iter().all(|page| page.items.len() <= limit as usize));
        let found: BTreeSet<Key> = keys(table, &pages).into_iter().collect();
        assert_eq!(found, table.keys, "limit {limit}");
    }
}

/// The same request gives the same items in the same order.
pub async fn a_scan_repeats_itself(scanner: &dyn TableScanner, table: &KnownTable) {
    let request = scan_request(&table.name, 0, 3);
    // The same items in the same order; how an item's attributes are ordered is the service's affair.
    let first = keys(table, &pages(scanner, request.clone()).await);
    assert_eq!(keys(table, &pages(scanner, request).await), first);
}

/// A table that is not there is an error of its own kind, and not an empty table.
pub async fn an_unknown_table_is_not_found(scanner: &dyn TableScanner) {
    let request = scan_request("no-such-table-here", 0, 1);
    let failure = scanner.scan_page(&request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
}

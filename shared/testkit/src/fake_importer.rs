//! DynamoDB's import from S3, over a store in memory, with the quirks that were measured on AWS.
//!
//! `ScyllaDB`'s tests of Alternator's import, which run on AWS too, are where they are written down:
//! `test/alternator/test_import.py`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use flate2::read::MultiGzDecoder;
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::object_store::{Creation, ObjectStore};
use highwater_domain::table_admin::{ImportState, ImportStatus, TableImporter};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fake_admin::FakeAdmin;
use crate::fake_table::FakeTable;
use crate::item_rules::key_of_item;

const IMPORT: &str = "ImportTable";

/// The members of `TableCreationParameters`: no local indexes, tags, streams or table class.
const TAKES: &[&str] = &[
    "TableName",
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "ProvisionedThroughput",
    "OnDemandThroughput",
    "SSESpecification",
    "GlobalSecondaryIndexes",
    "VectorIndexes",
];

/// Imports objects of one store into tables of one account.
///
/// It reads when it ends: at the last of so many looks. Until then the table is being created and all counters
/// are 0. What the service does not check, it does not check either: a prefix of nothing gives an empty table.
pub struct FakeImporter {
    store: Arc<dyn ObjectStore>,
    admin: Arc<FakeAdmin>,
    looks: u64,
    imports: Mutex<BTreeMap<String, Import>>,
}

#[derive(Clone, Debug)]
struct Import {
    request: Value,
    looks_left: u64,
    state: ImportState,
}

/// What an import came to.
#[derive(Debug, Default)]
struct Tally {
    imported: u64,
    processed: u64,
    bytes: u64,
    errors: u64,
}

impl fmt::Debug for FakeImporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeImporter")
            .field("imports", &self.locked().len())
            .finish_non_exhaustive()
    }
}

impl FakeImporter {
    /// An importer that needs two looks for an import, unless told otherwise.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, admin: Arc<FakeAdmin>) -> Self {
        Self {
            store,
            admin,
            looks: 2,
            imports: Mutex::default(),
        }
    }

    /// How often an import is described as in progress before it has ended.
    #[must_use]
    pub fn with_looks(mut self, looks: u64) -> Self {
        self.looks = looks;
        self
    }

    /// The requests that began an import, by its ARN.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, Value> {
        let imports = self.locked();
        let requests = imports.iter();
        requests
            .map(|(arn, import)| (arn.clone(), import.request.clone()))
            .collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Import>> {
        self.imports.lock().unwrap()
    }

    /// The import that a token began, if it did. A token is only held to its table's name.
    fn of_token(&self, request: &Value, name: &str) -> Result<Option<String>, Failure> {
        let imports = self.locked();
        let same = imports
            .iter()
            .find(|(_, import)| import.request["ClientToken"] == request["ClientToken"]);
        match same {
            None => Ok(None),
            Some((arn, import)) if *table_name(&import.request) == *name => Ok(Some(arn.clone())),
            Some(_) => Err(refused(
                name,
                "ImportConflictException: the client token was used for another table",
            )),
        }
    }

    /// Reads everything there is to read; gives the counts, or the code and message of what stopped it.
    async fn run(&self, request: &Value) -> Result<Tally, String> {
        let source = &request["S3BucketSource"];
        if source["S3Bucket"].as_str() != Some(self.store.bucket()) {
            return Err("S3NoSuchBucket: The specified bucket does not exist".to_owned());
        }
        let prefix = source["S3KeyPrefix"].as_str().unwrap_or_default();
        let table = self.admin.table(table_name(request));
        let table = table.ok_or("InternalServerError: the table is gone")?;
        let compression = request["InputCompressionType"].as_str().unwrap_or("NONE");
        let mut tally = Tally::default();
        let mut after = None;
        loop {
            let page = self.store.list(prefix, after.as_deref()).await;
            let page = page.map_err(|failure| format!("S3InternalError: {failure}"))?;
            for object in &page.objects {
                let body = self.store.read(&object.key).await;
                let body = body.map_err(|failure| format!("S3InternalError: {failure}"))?;
                import_object(&table, compression, &body.unwrap_or_default(), &mut tally);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(tally),
            }
        }
    }
}

fn table_name(request: &Value) -> &str {
    let name = &request["TableCreationParameters"]["TableName"];
    name.as_str().unwrap_or_default()
}

fn refused(table: &str, message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, IMPORT, table, message)
}

/// What the service refuses at once.
fn check(request: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    if !text(&request["ClientToken"]) {
        return Err("ClientToken is missing".to_owned());
    }
    if !text(&request["S3BucketSource"]["S3Bucket"]) {
        return Err("S3Bucket is missing".to_owned());
    }
    if request["InputFormat"] != "DYNAMODB_JSON" {
        return Err("the fake reads no other format than DYNAMODB_JSON".to_owned());
    }
    if !matches!(
        request["InputCompressionType"].as_str().unwrap_or("NONE"),
        "NONE" | "GZIP" | "ZSTD"
    ) {
        return Err("unknown InputCompressionType".to_owned());
    }
    let parameters = request["TableCreationParameters"]
        .as_object()
        .ok_or("TableCreationParameters is missing")?;
    let unknown = parameters
        .keys()
        .find(|name| !TAKES.contains(&name.as_str()));
    match unknown {
        Some(name) => Err(format!("{name} is no member of TableCreationParameters")),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "Item")]
    item: &'a RawValue,
}

/// The item of a line. Not even another member beside it is allowed.
fn item_of(line: &[u8]) -> Option<&[u8]> {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_slice(line).ok()?;
    let only_item = members.len() == 1;
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let item = line.item.get();
    (only_item && item.starts_with('{')).then_some(item.as_bytes())
}

/// Imports an object's items; a line that is none ends it.
fn import_object(table: &FakeTable, compression: &str, body: &[u8], tally: &mut Tally) {
    if body.is_empty() {
        return;
    }
    let Some(text) = unpacked(compression, body) else {
        tally.errors += 1;
        return;
    };
    tally.bytes += text.len() as u64;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let Some(item) = item_of(line) else {
            tally.errors += 1;
            return;
        };
        tally.processed += 1;
        let Ok(key) = key_of_item(table.schema(), item) else {
            tally.errors += 1;
            continue;
        };
        tally.imported += 1;
        // Of two items of one key either may win.
        if table.get(&key).is_none() || table.coin(50) {
            table.put(item);
        }
    }
}

fn unpacked(compression: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    match compression {
        "GZIP" => drop(MultiGzDecoder::new(body).read_to_end(&mut text).ok()?),
        "ZSTD" => text = zstd::decode_all(body).ok()?,
        _ => text.extend_from_slice(body),
    }
    Some(text)
}

#[async_trait]
impl TableImporter for FakeImporter {
    async fn import_table(&self, request: &Value) -> Result<String, Failure> {
        let name = table_name(request);
        check(request).map_err(|reason| refused(name, format!("ValidationException: {reason}")))?;
        if let Some(arn) = self.of_token(request, name)? {
            return Ok(arn);
        }
        let parameters = &request["TableCreationParameters"];
        if self.admin.create(IMPORT, parameters, None)? == Creation::Exists {
            let message = format!("ResourceInUseException: Table already exists: {name}");
            return Err(refused(name, message));
        }
        let mut imports = self.locked();
        let arn = format!(
            "arn:aws:dynamodb:eu-north-1:123456789012:table/{name}/import/01768385930622-{:08x}",
            imports.len()
        );
        let import = Import {
            request: request.clone(),
            looks_left: self.looks,
            state: ImportState {
                status: ImportStatus::InProgress,
                imported_items: 0,
                processed_items: 0,
                processed_bytes: 0,
                errors: 0,
                failure: None,
                log_group: Some(
                    "arn:aws:logs:eu-north-1:123456789012:log-group:/aws-dynamodb/imports:*"
                        .to_owned(),
                ),
            },
        };
        imports.insert(arn.clone(), import);
        Ok(arn)
    }

    async fn describe_import(&self, import_arn: &str) -> Result<ImportState, Failure> {
        let import = {
            let mut imports = self.locked();
            let import = imports.get_mut(import_arn).ok_or_else(|| {
                let message = "ImportNotFoundException";
                Failure::new(FailureKind::NotFound, "DescribeImport", import_arn, message)
            })?;
            if import.state.status != ImportStatus::InProgress || import.looks_left > 0 {
                import.looks_left = import.looks_left.saturating_sub(1);
                return Ok(import.state.clone());
            }
            import.clone()
        };
        let state = ended(self.run(&import.request).await, import.state);
        self.admin.set_active(table_name(&import.request));
        if let Some(import) = self.locked().get_mut(import_arn) {
            import.state = state.clone();
        }
        Ok(state)
    }
}

fn ended(run: Result<Tally, String>, before: ImportState) -> ImportState {
    let (tally, failure) = match run {
        Ok(tally) if tally.errors > 0 => {
            let failure = "ItemValidationError: Some of the items failed validation checks and were not imported. Please check CloudWatch error logs for more details.";
            (tally, Some(failure.to_owned()))
        }
        Ok(tally) => (tally, None),
        Err(failure) => (Tally::default(), Some(failure)),
    };
    ImportState {
        status: match failure {
            Some(_) => ImportStatus::Failed,
            None => ImportStatus::Completed,
        },
        imported_items: tally.imported,
        processed_items: tally.processed,
        processed_bytes: tally.bytes,
        errors: tally.errors,
        failure,
        ..before
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bytes::Bytes;
    use highwater_domain::object_store::NewObject;
    use highwater_domain::table::TableDescriber as _;
    use serde_json::json;

    use super::*;
    use crate::fake_store::FakeStore;

    struct Stage {
        store: Arc<FakeStore>,
        admin: Arc<FakeAdmin>,
        importer: FakeImporter,
    }

    fn aws() -> Stage {
        let store = Arc::new(FakeStore::new());
        let admin = Arc::new(FakeAdmin::new());
        Stage {
            importer: FakeImporter::new(store.clone(), admin.clone()),
            store,
            admin,
        }
    }

    impl Stage {
        fn plant(&self, key: &str, body: &[u8]) {
            self.store.plant(NewObject {
                key: key.to_owned(),
                body: Bytes::copy_from_slice(body),
                ..NewObject::default()
            });
        }

        fn request(&self, compression: &str) -> Value {
            json!({
                "ClientToken": "one",
                "InputFormat": "DYNAMODB_JSON",
                "InputCompressionType": compression,
                "S3BucketSource": {"S3Bucket": self.store.bucket(), "S3KeyPrefix": "data/"},
                "TableCreationParameters": {
                    "TableName": "orders",
                    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                    "BillingMode": "PAY_PER_REQUEST"
                }
            })
        }

        async fn import(&self, request: &Value) -> ImportState {
            let arn = self.importer.import_table(request).await.unwrap();
            loop {
                let state = self.importer.describe_import(&arn).await.unwrap();
                if state.status != ImportStatus::InProgress {
                    return state;
                }
                assert_eq!((state.imported_items, state.processed_bytes), (0, 0));
                let settings = self.admin.describe("orders").await.unwrap();
                assert_eq!(settings.status(), Ok("CREATING"));
            }
        }
    }

    fn line(id: &str) -> String {
        format!("{{\"Item\":{{\"id\":{{\"S\":\"{id}\"}}}}}}\n")
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn every_object_of_the_prefix_is_read_in_each_packing() {
        let text = [line("a"), "\n  \n".to_owned(), line("b")].concat();
        let members = [gzip(&line("a")), gzip(&line("b"))].concat();
        for (compression, body) in [
            ("NONE", text.clone().into_bytes()),
            ("GZIP", members),
            ("ZSTD", zstd::encode_all(text.as_bytes(), 1).unwrap()),
        ] {
            let aws = aws();
            aws.plant("data/1", &body);
            aws.plant("data/empty", b"");
            aws.plant("other/2", b"nonsense");
            let state = aws.import(&aws.request(compression)).await;
            assert_eq!(state.status, ImportStatus::Completed, "{state:?}");
            assert_eq!((state.imported_items, state.errors), (2, 0));
            assert_eq!(aws.admin.table("orders").unwrap().items().len(), 2);
            let settings = aws.admin.describe("orders").await.unwrap();
            assert_eq!(settings.status(), Ok("ACTIVE"));
        }
    }

    #[tokio::test]
    async fn a_prefix_of_nothing_completes_with_an_empty_table() {
        let aws = aws();
        let state = aws.import(&aws.request("GZIP")).await;
        assert_eq!(state.status, ImportStatus::Completed);
        assert!(aws.admin.table("orders").unwrap().items().is_empty());
    }

    #[tokio::test]
    async fn a_line_that_is_no_item_abandons_the_rest_of_its_object() {
        let aws = aws();
        aws.plant(
            "data/1",
            [line("a"), "{\"Key\":{}}\n".into(), line("b")]
                .concat()
                .as_bytes(),
        );
        aws.plant(
            "data/2",
            [
                line("c"),
                "{\"Item\":{\"x\":{\"S\":\"\"}}}\n".into(),
                line("d"),
            ]
            .concat()
            .as_bytes(),
        );
        let state = aws.import(&aws.request("NONE")).await;
        assert_eq!(state.status, ImportStatus::Failed);
        assert!(state.failure.unwrap().starts_with("ItemValidationError"));
        assert_eq!(
            (state.imported_items, state.processed_items, state.errors),
            (3, 4, 2)
        );
        let ids = aws.admin.table("orders").unwrap().items();
        assert_eq!(ids.len(), 3, "the good items stay");
    }

    #[tokio::test]
    async fn a_wrong_packing_is_an_error() {
        for (body, compression) in [(line("a").into_bytes(), "GZIP"), (gzip(&line("a")), "NONE")] {
            let aws = aws();
            aws.plant("data/1", &body);
            let state = aws.import(&aws.request(compression)).await;
            assert_eq!((state.status, state.errors), (ImportStatus::Failed, 1));
        }
    }

    #[tokio::test]
    async fn duplicates_count_as_writes_and_either_may_win() {
        let mut winners = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let aws = aws();
            let lines = (0..40).map(|n| {
                let id = n % 8;
                format!("{{\"Item\":{{\"id\":{{\"S\":\"{id}\"}},\"n\":{{\"N\":\"{n}\"}}}}}}\n")
            });
            let text = lines.collect::<Vec<_>>().concat();
            aws.plant("data/1", text.as_bytes());
            let state = aws.import(&aws.request("NONE")).await;
            assert_eq!(
                (state.status, state.imported_items),
                (ImportStatus::Completed, 40)
            );
            let items = aws.admin.table("orders").unwrap().items();
            assert_eq!(items.len(), 8);
            winners.extend(items.into_values());
        }
        assert!(winners.iter().any(|item| !item.ends_with(b"\"32\"}}")));
    }

    #[tokio::test]
    async fn a_token_finds_its_import_again_and_belongs_to_one_table() {
        let aws = aws();
        let mut request = aws.request("NONE");
        let arn = aws.importer.import_table(&request).await.unwrap();
        request["InputCompressionType"] = json!("ZSTD");
        assert_eq!(aws.importer.import_table(&request).await.unwrap(), arn);
        request["TableCreationParameters"]["TableName"] = json!("others");
        let conflict = aws.importer.import_table(&request).await.unwrap_err();
        assert!(conflict.message.contains("ImportConflictException"));
        let mut request = aws.request("NONE");
        request["ClientToken"] = json!("two");
        let taken = aws.importer.import_table(&request).await.unwrap_err();
        assert!(taken.message.contains("ResourceInUseException"), "{taken}");
        assert_eq!(aws.importer.requests().len(), 1);
    }

    #[tokio::test]
    async fn what_an_import_cannot_take_is_refused() {
        let aws = aws();
        for (pointer, value) in [
            ("/ClientToken", json!("")),
            ("/InputFormat", json!("CSV")),
            ("/InputCompressionType", json!("LZ4")),
            ("/S3BucketSource", json!({})),
            ("/TableCreationParameters/KeySchema", json!([])),
        ] {
            let mut request = aws.request("NONE");
            *request.pointer_mut(pointer).unwrap() = value;
            let failure = aws.importer.import_table(&request).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Invalid, "{pointer}");
        }
        let mut request = aws.request("NONE");
        request["TableCreationParameters"]["LocalSecondaryIndexes"] = json!([]);
        assert!(aws.importer.import_table(&request).await.is_err());
        assert!(aws.admin.names().is_empty());
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_there_fails_the_import_later() {
        let aws = aws();
        let mut request = aws.request("NONE");
        request["S3BucketSource"]["S3Bucket"] = json!("no-such-bucket");
        let state = aws.import(&request).await;
        assert_eq!(state.status, ImportStatus::Failed);
        assert!(state.failure.unwrap().starts_with("S3NoSuchBucket"));
    }
}

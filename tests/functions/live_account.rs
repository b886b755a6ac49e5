//! The account with the live side deployed: a stream on the table, and what makes its day bad.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, StreamSpecification, StreamViewType};
use highwater_domain::change_log::{LogName, once_in_order, read_log_object};
use highwater_domain::log_place::LogPlace;
use highwater_domain::object_store::ObjectStore;
use highwater_domain::shard::ShardId;
use highwater_domain::stream_record::StreamRecord;
use highwater_local::StreamShape;
use highwater_steps::audit_tables::AuditTablesReport;
use highwater_testkit::clients;
use highwater_testkit::faults::{Fault, Rule};
use highwater_testkit::runtime_api::Function;

use super::account::{Account, BUCKET, LONG, PREFIX, TABLE, event};
use super::local_mapping::{LocalMapping, Mischief};

const KEYS: u64 = 60;

/// The account, with a stream on its table.
pub struct Live {
    pub account: Account,
    pub stream_arn: String,
    label: String,
}

pub type Log = BTreeMap<ShardId, Vec<StreamRecord>>;

impl Live {
    pub async fn start() -> Self {
        Self::shaped(StreamShape::default()).await
    }

    /// With shards that end as `shape` says.
    pub async fn shaped(shape: StreamShape) -> Self {
        let account = Account::with_streams(shape).await;
        let client = clients::dynamodb(account.dynamodb.endpoint_url());
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages);
        let enabled = client
            .update_table()
            .table_name(TABLE)
            .stream_specification(stream.build().unwrap())
            .send()
            .await
            .unwrap();
        let table = enabled.table_description.unwrap();
        Self {
            account,
            stream_arn: table.latest_stream_arn.unwrap(),
            label: table.latest_stream_label.unwrap(),
        }
    }

    pub fn function(&self, name: &str) -> Function {
        let mut environment = self.account.environment();
        let more = [
            ("HIGHWATER_LOG_TO", format!("s3://{BUCKET}/{PREFIX}")),
            ("HIGHWATER_TABLES", TABLE.to_owned()),
            ("HIGHWATER_PUBLICATION_DELAY", "2".to_owned()),
        ];
        environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
        Account::function_with(name, environment)
    }

    pub async fn mapping(
        &self,
        function: &Arc<Function>,
        mischief: Mischief,
        seed: u64,
    ) -> LocalMapping {
        let source = Arc::new(self.account.clients().await.stream_source());
        LocalMapping::new(
            source,
            &self.stream_arn,
            Arc::clone(function),
            mischief,
            seed,
        )
    }

    /// Inserts, changes and removes at random; `count` changes, each of which has a record.
    pub async fn write(&self, count: u64, seed: u64) {
        let client = clients::dynamodb(self.account.dynamodb.endpoint_url());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut there = BTreeMap::new();
        for number in 0..count {
            let key = AttributeValue::S(format!("key-{}", random.u64(..KEYS)));
            let text = key.as_s().unwrap().clone();
            if random.u8(..4) == 0 && there.remove(&text).is_some() {
                let request = client.delete_item().table_name(TABLE).key("pk", key);
                request.send().await.unwrap();
                continue;
            }
            let filling = "x".repeat(random.usize(..400));
            let request = client.put_item().table_name(TABLE).item("pk", key);
            let request = request.item("n", AttributeValue::N(number.to_string()));
            request
                .item("text", AttributeValue::S(filling))
                .send()
                .await
                .unwrap();
            there.insert(text, number);
        }
    }

    /// The log as it lies in the bucket: each record of a shard once.
    pub async fn log(&self) -> Log {
        let store = self.account.clients().await.s3_store(BUCKET);
        let folder = LogPlace::new(PREFIX, TABLE).stream(&self.label);
        let (mut log, mut after) = (Log::new(), None);
        loop {
            let page = store.list(&folder, after.as_deref()).await.unwrap();
            for object in page.objects {
                if let Some(name) = LogName::parse(&folder, &object.key) {
                    let body = store.read(&object.key).await.unwrap().unwrap();
                    let records = read_log_object(&object.key, &name, &body).unwrap();
                    log.entry(name.shard).or_default().extend(records);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let shards = log.into_iter();
        shards
            .map(|(shard, records)| (shard, once_in_order(records)))
            .collect()
    }
}

/// A bad day.
pub const NASTY: Mischief = Mischief {
    doubled: 10,
    forgotten: 8,
    overlapping: 10,
    disordered: 10,
    killed: 8,
    discarded: 0,
    unplaced: 0,
};

/// S3 in trouble: what the functions ask for fails this often.
pub fn trouble(live: &Live) {
    for (fault, share) in [
        (Fault::Throttle, 0.08),
        (Fault::ServerError, 0.05),
        (Fault::LoseAnswer, 0.04),
        (Fault::DropRequest, 0.04),
        (Fault::Duplicate, 0.04),
    ] {
        live.account
            .s3
            .inject(Rule::rate(fault, share).on("PutObject"));
    }
    live.account
        .s3
        .inject(Rule::rate(Fault::ServerError, 0.1).on("HeadObject"));
}

/// One run of the auditor.
pub async fn audited(audit: &Function) -> AuditTablesReport {
    let answer = audit
        .invoke(event("audit-stream/first"), LONG)
        .await
        .unwrap();
    let report: AuditTablesReport = serde_json::from_value(answer).unwrap();
    assert_eq!(report.tables.len(), 1);
    report
}

//! The account behind proxies that take down who asks for what, and that can stand in for AWS, call by call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use highwater_testkit::clients;
use highwater_testkit::fault_proxy::FaultProxy;
use highwater_testkit::recorded_needs::RecordedNeeds;
use highwater_testkit::runtime_api::Function;
use highwater_testkit::wire_call::{Instead, WireCall};

use super::account::{Account, BUCKET, LONG, PREFIX, Stack, TABLE};
use super::missing_services::MissingServices;
use super::restore_stack::RestoreStack;

/// Something played on the calls that pass; `None` leaves a call to the next one.
pub type Trick = Box<dyn Fn(&WireCall) -> Option<Instead> + Send + Sync>;

pub struct Recorded {
    pub account: Account,
    /// Between the functions and DynamoDB.
    pub dynamodb: FaultProxy,
    /// Between the functions and S3.
    pub s3: FaultProxy,
    pub services: Arc<MissingServices>,
    tricks: Arc<Mutex<Vec<Trick>>>,
}

/// The applier is told the ARNs of its tables, as the template does; all others their names.
fn tables(function: &str) -> String {
    if function == "apply-log" {
        return format!("arn:aws:dynamodb:dynoxide:000000000000:table/{TABLE}");
    }
    TABLE.to_owned()
}

impl Recorded {
    /// An account whose calls from here on are taken down. Every function signs with its own name.
    pub async fn over(account: Account) -> Self {
        let proxy = async |upstream: &str, seed| {
            let proxy = FaultProxy::start(upstream, seed).await.unwrap();
            proxy.record();
            proxy
        };
        let recorded = Self {
            dynamodb: proxy(account.dynamodb.endpoint_url(), 7).await,
            s3: proxy(account.s3.endpoint_url(), 8).await,
            services: MissingServices::beside(account.dynamodb.endpoint_url()),
            tricks: Arc::default(),
            account,
        };
        for proxy in [&recorded.dynamodb, &recorded.s3] {
            let tricks = Arc::clone(&recorded.tricks);
            let services = Arc::clone(&recorded.services);
            proxy.put_in_front(Box::new(move |call| {
                let tricks = tricks.lock().unwrap();
                let played = tricks.iter().find_map(|trick| trick(call));
                let answered = || services.answer(call);
                played.or_else(answered).unwrap_or(Instead::PassOn)
            }));
        }
        recorded
    }

    /// Plays a trick on every call from here on, before all others.
    pub fn play(&self, trick: Trick) {
        self.tricks.lock().unwrap().insert(0, trick);
    }

    /// Plays a trick on the first call of one function that asks for this.
    pub fn play_once(
        &self,
        caller: &'static str,
        operation: &'static str,
        key: &'static str,
        trick: fn(&WireCall) -> Instead,
    ) {
        let played = AtomicBool::new(false);
        self.play(Box::new(move |call| {
            let is_it =
                call.caller == caller && call.operation == operation && call.key.ends_with(key);
            (is_it && !played.swap(true, Ordering::SeqCst)).then(|| trick(call))
        }));
    }

    /// No more tricks, and no more faults.
    pub fn calm(&self) {
        self.tricks.lock().unwrap().clear();
        for proxy in [&self.dynamodb, &self.s3, &self.account.s3] {
            proxy.clear();
        }
    }

    /// What the deployment sets for every function; the live side's variables are no harm to the others.
    pub fn environment(&self, name: &str) -> Vec<(String, String)> {
        let mut environment = self.account.environment();
        let own = [
            (
                "AWS_ENDPOINT_URL_DYNAMODB",
                self.dynamodb.endpoint_url().to_owned(),
            ),
            ("AWS_ENDPOINT_URL_S3", self.s3.endpoint_url().to_owned()),
            ("AWS_ACCESS_KEY_ID", name.to_owned()),
            ("HIGHWATER_LOG_TO", format!("s3://{BUCKET}/{PREFIX}")),
            ("HIGHWATER_TABLES", tables(name)),
            ("HIGHWATER_PUBLICATION_DELAY", "1".to_owned()),
            ("HIGHWATER_REPLICAS", "true".to_owned()),
        ];
        environment.retain(|(name, _)| own.iter().all(|(other, _)| name != other));
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        environment
    }

    pub fn function(&self, name: &str) -> Function {
        Account::function_with(name, self.environment(name))
    }

    /// The backup, deployed.
    pub fn backup(&self) -> Stack {
        Stack {
            plan: self.function("plan-backup"),
            scan: self.function("scan-segment"),
            finalize: self.function("finalize-backup"),
            limit: LONG,
        }
    }

    /// The restore, deployed.
    pub fn restore(&self) -> RestoreStack {
        RestoreStack {
            plan: self.function("plan-restore"),
            scatter: self.function("scatter-log"),
            fold: self.function("fold-log"),
            load: self.function("load-part"),
            finalize: self.function("finalize-restore"),
            limit: LONG,
        }
    }

    /// What everybody has needed so far.
    pub fn needs(&self) -> RecordedNeeds {
        self.dynamodb.recorded().and(self.s3.recorded())
    }

    /// Enables the table's stream, or disables it.
    pub async fn set_stream(&self, view: Option<StreamViewType>) {
        let stream = StreamSpecification::builder()
            .stream_enabled(view.is_some())
            .set_stream_view_type(view);
        let client = clients::dynamodb(self.account.dynamodb.endpoint_url());
        let update = client.update_table().table_name(TABLE);
        let update = update.stream_specification(stream.build().unwrap());
        update.send().await.unwrap();
    }
}

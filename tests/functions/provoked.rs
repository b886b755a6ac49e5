//! A deployment in which something goes wrong on purpose, and what was seen of it: the errors on the wire, the retries, the
//! states, the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::StreamViewType;
use highwater_asl::{
    Event, Execution, ExecutionFailed, Options, StateMachine, TaskError, Tasks, walk,
};
use highwater_domain::budget::Clock as _;
use highwater_lambda::SystemClock;
use highwater_local::StreamShape;
use highwater_testkit::clients;
use highwater_testkit::generate::KeyShape;
use highwater_testkit::runtime_api::Function;
use highwater_testkit::tables::NewTable;
use highwater_testkit::wire_call::{Instead, WireCall};
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::account::{Account, BUCKET, LONG, PREFIX, TABLE, at_once};
use super::recorded_account::Recorded;

/// How many items the table has.
pub const ITEMS: u64 = 40;

/// What is done to the world just before a function is called for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// The table is dropped and made anew.
    RemakeTable,
    /// The first part's object has other bytes.
    OverwritePart,
    /// The first part's object is gone.
    DeletePart,
    /// The stream is disabled and enabled anew.
    ExchangeStream,
    /// A person marks the snapshot as failed.
    MarkFailed,
    /// A segment's checkpoint is not there the first time that it is looked for, as no bug of ours would have it.
    HideSegment,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// Functions with the `errorType` that each of them answered with.
    pub wire: Vec<(String, String)>,
    /// States that were tried again, with the error.
    pub retried: Vec<(String, String)>,
    /// States that were entered.
    pub entered: Vec<String>,
    pub end: Result<Value, ExecutionFailed>,
}

/// What the observer of an execution was told.
#[derive(Debug, Default)]
struct Told {
    retried: Vec<(String, String)>,
    entered: Vec<String>,
}

pub struct Stage {
    pub recorded: Recorded,
    functions: BTreeMap<String, Function>,
    meddling: Option<(&'static str, Meddling)>,
    calls: Mutex<BTreeMap<String, u32>>,
    wire: Mutex<Vec<(String, String)>>,
    snapshot: Mutex<Value>,
}

impl Stage {
    /// A small table, without a stream, and everything deployed. A stream's shards will say that they are as old as this.
    pub async fn set(shards_age: Duration) -> Self {
        let shape = StreamShape {
            lineages: 1,
            made_before: shards_age,
            roll_after: 2 * shards_age,
            ..StreamShape::default()
        };
        let recorded = Recorded::over(Account::with_streams(shape).await).await;
        let item = |n: u64| {
            json!({"pk": {"S": format!("item-{n:05}")}})
                .to_string()
                .into_bytes()
        };
        let items = (0..ITEMS).map(item).collect();
        recorded
            .account
            .dynamodb
            .import(TABLE, items)
            .await
            .unwrap();
        let names = checkout::entries("functions").unwrap();
        let functions = names
            .into_iter()
            .map(|name| (name.clone(), recorded.function(&name)));
        Self {
            functions: functions.collect(),
            recorded,
            meddling: None,
            calls: Mutex::default(),
            wire: Mutex::default(),
            snapshot: Mutex::default(),
        }
    }

    /// Deploys a function with another control table.
    pub fn misconfigure(&mut self, name: &str, control_table: &str) {
        let mut environment = self.recorded.environment(name);
        environment.retain(|(variable, _)| variable != "HIGHWATER_CONTROL_TABLE");
        environment.push(("HIGHWATER_CONTROL_TABLE".into(), control_table.into()));
        self.functions
            .insert(name.into(), Account::function_with(name, environment));
    }

    /// Meddles before `function` is called for the first time.
    pub fn before(&mut self, function: &'static str, meddling: Meddling) {
        self.meddling = Some((function, meddling));
    }

    /// The first `times` calls of a function for this are answered by `answer`.
    pub fn trouble(
        &self,
        caller: &'static str,
        operation: &'static str,
        times: u32,
        answer: fn(&WireCall) -> Instead,
    ) {
        let left = AtomicU32::new(times);
        self.recorded.play(Box::new(move |call| {
            let is_it = call.caller == caller && call.operation == operation;
            let take = |left: u32| left.checked_sub(1);
            let taken = is_it
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                    .is_ok();
            taken.then(|| answer(call))
        }));
    }

    /// An execution of the backup's machine, of one segment unless the request says otherwise.
    pub async fn back_up(&self, more: Value) -> Seen {
        let mut request = json!({
            "table": TABLE, "to": format!("s3://{BUCKET}/{PREFIX}"), "segments": 1, "concurrency": 1,
            "settle_seconds": 0,
        });
        if more["resume"] == true {
            request = json!({});
        }
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.execute("backup", request).await
    }

    /// A backup that must come to its end; gives its URL.
    pub async fn backed_up(&self, more: Value) -> String {
        let output = self.back_up(more).await.end.unwrap();
        super::recorded_backups::url(&output["snapshot_id"])
    }

    /// An execution of the restore's machine.
    pub async fn restore(&self, request: Value) -> Seen {
        self.execute("restore", request).await
    }

    async fn execute(&self, machine: &str, request: Value) -> Seen {
        let text = checkout::text(&format!("statemachine/{machine}.asl.json")).unwrap();
        let arns = self.functions.keys().map(|name| {
            let words = name
                .split('-')
                .map(|word| word[..1].to_uppercase() + &word[1..]);
            (words.collect::<String>() + "FunctionArn", name.clone())
        });
        let arns: BTreeMap<String, String> = arns
            .filter(|(arn, _)| text.contains(arn.as_str()))
            .collect();
        let machine = StateMachine::parse(&text, &arns).unwrap();
        let told: Arc<Mutex<Told>> = Arc::default();
        let hears = Arc::clone(&told);
        let options = Options {
            observer: Some(Arc::new(move |event| {
                let mut told = hears.lock().unwrap();
                match event {
                    Event::Entered { state, .. } => told.entered.push((*state).to_owned()),
                    Event::Retrying { state, failure, .. } => {
                        told.retried
                            .push(((*state).to_owned(), failure.error.clone()));
                    }
                    _ => {}
                }
            })),
            ..at_once()
        };
        let execution = Execution {
            id: format!("execution-{:016x}", fastrand::u64(..)),
            start_time: SystemClock.now().to_rfc3339(),
        };
        self.calls.lock().unwrap().clear();
        self.wire.lock().unwrap().clear();
        let end = walk(&machine, request, &execution, self, &options).await;
        let Told { retried, entered } = std::mem::take(&mut *told.lock().unwrap());
        let wire = self.wire.lock().unwrap().clone();
        Seen {
            wire,
            retried,
            entered,
            end,
        }
    }

    async fn meddle(&self, meddling: Meddling) {
        let dynamodb = clients::dynamodb(self.recorded.account.dynamodb.endpoint_url());
        let s3 = clients::s3(self.recorded.account.s3.endpoint_url());
        match meddling {
            Meddling::RemakeTable => {
                dynamodb
                    .delete_table()
                    .table_name(TABLE)
                    .send()
                    .await
                    .unwrap();
                NewTable::new(TABLE, KeyShape::STRING)
                    .create(&dynamodb)
                    .await
                    .unwrap();
            }
            Meddling::OverwritePart => {
                let put = s3.put_object().bucket(BUCKET).key(self.part().await);
                put.body(b"other bytes".to_vec().into())
                    .send()
                    .await
                    .unwrap();
            }
            Meddling::DeletePart => {
                let delete = s3.delete_object().bucket(BUCKET).key(self.part().await);
                delete.send().await.unwrap();
            }
            Meddling::ExchangeStream => {
                self.recorded.set_stream(None).await;
                self.recorded
                    .set_stream(Some(StreamViewType::NewAndOldImages))
                    .await;
            }
            Meddling::MarkFailed => {
                let failure = json!({"Error": "Stopped", "Cause": "by hand"});
                let mark =
                    json!({"snapshot_id": *self.snapshot.lock().unwrap(), "failure": failure});
                self.functions["finalize-backup"]
                    .invoke(mark, LONG)
                    .await
                    .unwrap();
            }
            Meddling::HideSegment => {
                let hidden = std::sync::atomic::AtomicBool::new(false);
                self.recorded.play(Box::new(move |call| {
                    let is_it = call.caller == "finalize-backup"
                        && call.operation == "Query"
                        && call.text().contains("segment/");
                    (is_it && !hidden.swap(true, Ordering::SeqCst)).then(|| {
                        Instead::Answer(
                            call.answer(&json!({"Items": [], "Count": 0, "ScannedCount": 0})),
                        )
                    })
                }));
            }
        }
    }

    /// The key of a part of the snapshot that is being made.
    async fn part(&self) -> String {
        let id = self.snapshot.lock().unwrap().as_str().unwrap().to_owned();
        let s3 = clients::s3(self.recorded.account.s3.endpoint_url());
        let list = s3.list_objects_v2().bucket(BUCKET);
        let list = list.prefix(format!("{PREFIX}/{TABLE}/AWSDynamoDB/{id}/data/"));
        let objects = list.send().await.unwrap();
        objects.contents()[0].key().unwrap().to_owned()
    }
}

#[async_trait]
impl Tasks for Stage {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let nth = {
            let mut calls = self.calls.lock().unwrap();
            let nth = calls.entry(function.to_owned()).or_default();
            *nth += 1;
            *nth
        };
        if payload["snapshot_id"].is_string() {
            *self.snapshot.lock().unwrap() = payload["snapshot_id"].clone();
        }
        if let Some((of, meddling)) = self.meddling
            && of == function
            && nth == 1
        {
            self.meddle(meddling).await;
        }
        let answer = self.functions[function].invoke(payload, LONG).await;
        answer.map_err(|error| {
            let told = (function.to_owned(), error.error_type.clone());
            self.wire.lock().unwrap().push(told);
            TaskError::new(&error.error_type, error.body().to_string())
        })
    }
}

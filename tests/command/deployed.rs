//! A deployed stack on loopback: Step Functions walks the real definitions over the real functions' programs, and the
//! command finds all of it by names and tags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use highwater_asl::{Execution, Options, SkipPauses, StateMachine, TaskError, Tasks, walk};
use highwater_domain::ids::SnapshotId;
use highwater_domain::stack::{CONTROL_TABLE_TAG, TABLES_TAG, TO_TAG};
use highwater_lambda::SystemClock;
use highwater_testkit::fake_executions::{Begun, Failed, FakeExecutions, Run};
use highwater_testkit::runtime_api::{Function, FunctionSpec};
use highwater_testkit::step_functions::StepFunctionsServer;
use highwater_tests::{binaries, checkout};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::stage::{Stage, TABLE, TO, finish};
use super::told::Told;

/// The stack's name.
pub const STACK: &str = "night";
/// Its control table, which is none that a command would take by itself.
pub const STACK_CONTROL: &str = "night-control";
/// A table of the stack that does not exist.
pub const ABSENT: &str = "customers";

/// The functions' `Timeout`.
const LIMIT: Duration = Duration::from_mins(1);

/// The stage with the stack `night` deployed on it.
pub struct Deployed {
    pub stage: Stage,
    pub account: FakeExecutions,
    server: StepFunctionsServer,
}

impl Deployed {
    /// With so many items in [`TABLE`].
    pub async fn with_items(items: u64) -> Self {
        let stage = Stage::with_items(items).await;
        assert!(stage.control(STACK_CONTROL).ensure().await.unwrap());
        let account = FakeExecutions::new(Arc::new(SystemClock));
        let tables = format!("{TABLE} {ABSENT}");
        let tags = [
            (TO_TAG, TO),
            (CONTROL_TABLE_TAG, STACK_CONTROL),
            (TABLES_TAG, &tables),
        ];
        for machine in ["backup", "restore"] {
            let run = deployed(&stage, machine);
            account.deploy(&format!("{STACK}-{machine}"), &tags, run.clone());
            account.deploy(&format!("old-{machine}"), &tags[..1], run);
        }
        account.paged(1);
        let server = StepFunctionsServer::start(account.clone()).await.unwrap();
        Self {
            stage,
            account,
            server,
        }
    }

    /// The command against this stack.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.args(["--stack", STACK]);
        command
    }

    /// The same, without a word about which stack.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = self.stage.command(arguments);
        command.args(["--sfn-endpoint-url", self.server.endpoint_url()]);
        command
    }

    /// Runs the command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Told {
        finish(self.command(arguments)).await
    }

    /// Starts the command.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Starts a backup of [`TABLE`] in many parts; gives the result.
    pub async fn start(&self, name: &str) -> Value {
        let start = [
            &["start", "backup", TABLE, "--name", name, "--json"],
            &SMALL[..],
        ]
        .concat();
        self.run(&start).await.done().json()
    }

    /// `backup.json` says so.
    pub async fn record_status(&self, id: &SnapshotId) -> Option<String> {
        let record = self.stage.record(STACK_CONTROL, id).await?;
        Some(record.status.as_str().to_owned())
    }
}

/// A backup of many small parts, two segments at once.
pub const SMALL: [&str; 6] = [
    "--segments",
    "12",
    "--concurrency",
    "2",
    "--part-size",
    "4000",
];

/// What a deployed state machine does: its definition, over its functions' programs.
fn deployed(stage: &Stage, machine: &str) -> Run {
    let text = checkout::text(&format!("statemachine/{machine}.asl.json")).unwrap();
    let functions = Arc::new(Functions::of(stage, &text));
    Arc::new(move |begun: Begun| {
        let (text, functions) = (text.clone(), functions.clone());
        let run: BoxFuture<'static, Result<Value, Failed>> = Box::pin(async move {
            let machine = StateMachine::parse(&text, &functions.arns).unwrap();
            let execution = Execution {
                id: begun.arn,
                start_time: begun.started_at.to_rfc3339(),
            };
            let options = Options {
                clock: Arc::new(SkipPauses),
                ..Options::default()
            };
            let outcome = walk(
                &machine,
                begun.input,
                &execution,
                functions.as_ref(),
                &options,
            );
            outcome.await.map_err(|failed| Failed {
                error: failed.error,
                cause: failed.cause,
            })
        });
        run
    })
}

/// The functions that a definition names.
struct Functions {
    arns: BTreeMap<String, String>,
    by_name: BTreeMap<String, Arc<Function>>,
}

impl Functions {
    fn of(stage: &Stage, definition: &str) -> Self {
        let substitutions = definition.split("${").skip(1);
        let arns: BTreeMap<String, String> = substitutions
            .filter_map(|rest| rest.split_once('}'))
            .filter_map(|(name, _)| Some((name, name.strip_suffix("FunctionArn")?)))
            .map(|(substitution, words)| (substitution.to_owned(), kebab(words)))
            .collect();
        let environment = [
            ("AWS_REGION", "eu-north-1"),
            (
                "AWS_ENDPOINT_URL_DYNAMODB",
                stage.dynamodb_proxy.endpoint_url(),
            ),
            ("AWS_ENDPOINT_URL_S3", stage.s3_proxy.endpoint_url()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("HIGHWATER_CONTROL_TABLE", STACK_CONTROL),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let function = |name: &String| {
            Arc::new(Function::new(FunctionSpec {
                name: name.clone(),
                bootstrap: binaries::path(name),
                arguments: Vec::new(),
                memory_mb: 1769,
                environment: environment.to_vec(),
            }))
        };
        Self {
            by_name: arns
                .values()
                .map(|name| (name.clone(), function(name)))
                .collect(),
            arns,
        }
    }
}

/// `PlanBackup` as a program is called: `plan-backup`.
fn kebab(words: &str) -> String {
    let mut name = String::new();
    for letter in words.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[async_trait]
impl Tasks for Functions {
    /// As Lambda does it: an invocation goes on to its own end, whatever becomes of the execution.
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let function = Arc::clone(&self.by_name[function]);
        let invocation = tokio::spawn(async move { function.invoke(payload, LIMIT).await });
        let answer = invocation.await.expect("an invocation does not panic");
        answer.map_err(|error| TaskError::new(&error.error_type, error.body().to_string()))
    }
}

//! State machines and their executions in memory, by Step Functions' rules.
//!
//! What a machine does is the test's: a future per execution, which `StopExecution` drops. What was invoked in
//! between goes on only if the test lets it, by a task of its own; in AWS it always does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures::future::BoxFuture;
use highwater_domain::budget::Clock;
use highwater_domain::executions::{
    ExecutionState, ExecutionStatus, Executions, Listed, Machine, RunningExecution, Start,
};
use highwater_domain::failure::{Failure, FailureKind};
use highwater_domain::ids::UnixMillis;
use highwater_domain::stack::execution_arn;
use serde_json::Value;
use tokio::task::AbortHandle;

/// An execution that begins.
#[derive(Clone, Debug)]
pub struct Begun {
    /// `$$.Execution.Id`.
    pub arn: String,
    /// `$$.Execution.StartTime`.
    pub started_at: UnixMillis,
    /// `$$.Execution.Input`.
    pub input: Value,
}

/// How an execution fails: the error's name, and its cause.
#[derive(Clone, Debug)]
pub struct Failed {
    /// `Error` of the Fail state.
    pub error: String,
    /// `Cause` of the Fail state.
    pub cause: String,
}

/// What a state machine does.
pub type Run = Arc<dyn Fn(Begun) -> BoxFuture<'static, Result<Value, Failed>> + Send + Sync>;

/// Before the names of machines.
const ARN: &str = "arn:aws:states:eu-north-1:111122223333:stateMachine:";

/// The state machines of one account and region.
#[derive(Clone)]
pub struct FakeExecutions {
    clock: Arc<dyn Clock>,
    account: Arc<Mutex<Account>>,
}

struct Deployed {
    name: String,
    tags: BTreeMap<String, String>,
    run: Run,
}

struct Row {
    state: ExecutionState,
    input: String,
    task: Option<AbortHandle>,
}

#[derive(Default)]
struct Account {
    machines: Vec<Deployed>,
    /// By ARN, in the order in which they started.
    executions: Vec<Row>,
    per_page: Option<usize>,
    denied: BTreeSet<String>,
    calls: BTreeMap<&'static str, u64>,
}

impl Drop for Account {
    fn drop(&mut self) {
        for row in &self.executions {
            if let Some(task) = &row.task {
                task.abort();
            }
        }
    }
}

impl FakeExecutions {
    /// No machine yet. Executions start when `clock` says.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            account: Arc::default(),
        }
    }

    /// The ARN of the machine of this name.
    #[must_use]
    pub fn machine_arn(name: &str) -> String {
        format!("{ARN}{name}")
    }

    /// Deploys a machine.
    pub fn deploy(&self, name: &str, tags: &[(&str, &str)], run: Run) {
        let owned = |(tag, value): &(&str, &str)| ((*tag).to_owned(), (*value).to_owned());
        self.locked().machines.push(Deployed {
            name: name.to_owned(),
            tags: tags.iter().map(owned).collect(),
            run,
        });
    }

    /// Makes listings come in pages of so many; all on one by default.
    pub fn paged(&self, per_page: usize) {
        self.locked().per_page = Some(per_page);
    }

    /// Lets a policy forbid an operation, from now on: `StopExecution`.
    pub fn deny(&self, operation: &str) {
        self.locked().denied.insert(operation.to_owned());
    }

    /// Takes back what [`deny`](Self::deny) forbade.
    pub fn allow_all(&self) {
        self.locked().denied.clear();
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u64 {
        self.locked().calls.get(operation).copied().unwrap_or(0)
    }

    /// Every execution there ever was, in the order in which they started.
    #[must_use]
    pub fn all(&self) -> Vec<ExecutionState> {
        let account = self.locked();
        account
            .executions
            .iter()
            .map(|row| row.state.clone())
            .collect()
    }

    fn locked(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap()
    }

    /// The account, if the operation is allowed.
    fn called(
        &self,
        operation: &'static str,
        resource: &str,
    ) -> Result<MutexGuard<'_, Account>, Failure> {
        let mut account = self.locked();
        *account.calls.entry(operation).or_default() += 1;
        if account.denied.contains(operation) {
            let who = "User: arn:aws:iam::111122223333:user/test";
            let message = format!(
                "AccessDeniedException: {who} is not authorized to perform: states:{operation}"
            );
            return Err(Failure::new(
                FailureKind::Denied,
                operation,
                resource,
                message,
            ));
        }
        Ok(account)
    }

    /// Ends an execution, unless it has ended already.
    fn end(&self, arn: &str, status: ExecutionStatus, why: Option<Failed>) {
        let now = self.clock.now();
        let mut account = self.locked();
        let row = account
            .executions
            .iter_mut()
            .find(|row| row.state.arn == arn);
        let Some(row) = row.filter(|row| !row.state.status.has_ended()) else {
            return;
        };
        row.state.status = status;
        row.state.stopped_at = Some(now);
        row.state.error = why.as_ref().map(|why| why.error.clone());
        row.state.cause = why.map(|why| why.cause);
        if let Some(task) = row.task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for FakeExecutions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeExecutions").finish_non_exhaustive()
    }
}

impl Account {
    fn machine(&self, operation: &'static str, arn: &str) -> Result<&Deployed, Failure> {
        let name = arn.strip_prefix(ARN);
        let machine = self
            .machines
            .iter()
            .find(|machine| Some(machine.name.as_str()) == name);
        machine.ok_or_else(|| {
            let code = match operation {
                "ListTagsForResource" => "ResourceNotFound",
                _ => "StateMachineDoesNotExist",
            };
            refused(operation, arn, FailureKind::NotFound, code)
        })
    }

    /// A page, told by the index at which it begins.
    fn page<T>(
        &self,
        operation: &'static str,
        all: Vec<T>,
        after: Option<&str>,
    ) -> Result<Listed<T>, Failure> {
        let from: usize = after
            .map_or(Ok(0), str::parse)
            .map_err(|_| refused(operation, "a page", FailureKind::Invalid, "InvalidToken"))?;
        let per_page = self.per_page.unwrap_or(usize::MAX);
        let until = from.saturating_add(per_page).min(all.len());
        Ok(Listed {
            next: (until < all.len()).then(|| until.to_string()),
            found: all.into_iter().skip(from).take(per_page).collect(),
        })
    }
}

fn refused(operation: &'static str, resource: &str, kind: FailureKind, code: &str) -> Failure {
    Failure::new(kind, operation, resource, format!("{code}: '{resource}'"))
}

#[async_trait]
impl Executions for FakeExecutions {
    async fn machines(&self, after: Option<&str>) -> Result<Listed<Machine>, Failure> {
        const OPERATION: &str = "ListStateMachines";
        let account = self.called(OPERATION, "*")?;
        let machine = |deployed: &Deployed| Machine {
            name: deployed.name.clone(),
            arn: Self::machine_arn(&deployed.name),
        };
        let all = account.machines.iter().map(machine).collect();
        account.page(OPERATION, all, after)
    }

    async fn tags(&self, machine_arn: &str) -> Result<BTreeMap<String, String>, Failure> {
        const OPERATION: &str = "ListTagsForResource";
        let account = self.called(OPERATION, machine_arn)?;
        Ok(account.machine(OPERATION, machine_arn)?.tags.clone())
    }

    async fn start(&self, machine_arn: &str, name: &str, input: &str) -> Result<Start, Failure> {
        const OPERATION: &str = "StartExecution";
        let started_at = self.clock.now();
        let mut account = self.called(OPERATION, machine_arn)?;
        let run = Arc::clone(&account.machine(OPERATION, machine_arn)?.run);
        let Ok(value) = serde_json::from_str(input) else {
            let code = "InvalidExecutionInput";
            return Err(refused(OPERATION, name, FailureKind::Invalid, code));
        };
        let arn = execution_arn(machine_arn, name).unwrap();
        if let Some(row) = account.executions.iter().find(|row| row.state.arn == arn) {
            // An execution that has ended keeps its name.
            if row.state.status.has_ended() || row.input != input {
                return Ok(Start::NameTaken);
            }
            let started_at = row.state.started_at;
            return Ok(Start::Started { arn, started_at });
        }
        let begun = Begun {
            arn: arn.clone(),
            started_at,
            input: value,
        };
        // The account outlives no test: whoever dropped it wants no end of this.
        let account_of_it = Arc::downgrade(&self.account);
        let clock = Arc::clone(&self.clock);
        let ended = arn.clone();
        let work = run(begun);
        let task = tokio::spawn(async move {
            let (status, why) = match work.await {
                Ok(_) => (ExecutionStatus::Succeeded, None),
                Err(why) => (ExecutionStatus::Failed, Some(why)),
            };
            if let Some(account) = account_of_it.upgrade() {
                Self { clock, account }.end(&ended, status, why);
            }
        });
        account.executions.push(Row {
            state: ExecutionState {
                arn: arn.clone(),
                name: name.to_owned(),
                machine_arn: machine_arn.to_owned(),
                status: ExecutionStatus::Running,
                started_at,
                stopped_at: None,
                input: Some(input.to_owned()),
                error: None,
                cause: None,
            },
            input: input.to_owned(),
            task: Some(task.abort_handle()),
        });
        Ok(Start::Started { arn, started_at })
    }

    async fn describe(&self, execution_arn: &str) -> Result<Option<ExecutionState>, Failure> {
        let account = self.called("DescribeExecution", execution_arn)?;
        let mut rows = account.executions.iter();
        let row = rows.find(|row| row.state.arn == execution_arn);
        Ok(row.map(|row| row.state.clone()))
    }

    async fn running(
        &self,
        machine_arn: &str,
        after: Option<&str>,
    ) -> Result<Listed<RunningExecution>, Failure> {
        const OPERATION: &str = "ListExecutions";
        let account = self.called(OPERATION, machine_arn)?;
        account.machine(OPERATION, machine_arn)?;
        let of_machine = account
            .executions
            .iter()
            .filter(|row| row.state.machine_arn == machine_arn && !row.state.status.has_ended());
        let running = |row: &Row| RunningExecution {
            arn: row.state.arn.clone(),
            name: row.state.name.clone(),
            started_at: row.state.started_at,
        };
        // The newest first, as the service lists them.
        let all: Vec<RunningExecution> = of_machine.map(running).collect();
        account.page(OPERATION, all.into_iter().rev().collect(), after)
    }

    async fn stop(&self, execution_arn: &str, error: &str, cause: &str) -> Result<(), Failure> {
        const OPERATION: &str = "StopExecution";
        {
            let account = self.called(OPERATION, execution_arn)?;
            let is_it = |row: &Row| row.state.arn == execution_arn;
            if !account.executions.iter().any(is_it) {
                let code = "ExecutionDoesNotExist";
                let kind = FailureKind::NotFound;
                return Err(refused(OPERATION, execution_arn, kind, code));
            }
        }
        let why = Failed {
            error: error.to_owned(),
            cause: cause.to_owned(),
        };
        self.end(execution_arn, ExecutionStatus::Aborted, Some(why));
        Ok(())
    }
}

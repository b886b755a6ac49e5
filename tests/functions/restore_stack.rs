//! The restore as it is deployed: its definition over its programs.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use highwater_asl::{Execution, ExecutionFailed, Options, StateMachine, TaskError, Tasks, walk};
use highwater_domain::budget::Clock as _;
use highwater_lambda::SystemClock;
use highwater_testkit::runtime_api::Function;
use highwater_tests::checkout;
use serde_json::Value;

use super::account::{Account, LONG};

/// The restore's functions, as Step Functions calls them.
pub struct RestoreStack {
    pub plan: Function,
    pub scatter: Function,
    pub fold: Function,
    pub load: Function,
    pub finalize: Function,
    pub limit: Duration,
}

impl RestoreStack {
    pub fn of(account: &Account) -> Self {
        Self {
            plan: account.function("plan-restore"),
            scatter: account.function("scatter-log"),
            fold: account.function("fold-log"),
            load: account.function("load-part"),
            finalize: account.function("finalize-restore"),
            limit: LONG,
        }
    }

    pub async fn execute(
        &self,
        request: Value,
        options: Options,
    ) -> Result<Value, ExecutionFailed> {
        let text = checkout::text("statemachine/restore.asl.json").unwrap();
        let arns = [
            ("PlanRestoreFunctionArn", "plan-restore"),
            ("ScatterLogFunctionArn", "scatter-log"),
            ("FoldLogFunctionArn", "fold-log"),
            ("LoadPartFunctionArn", "load-part"),
            ("FinalizeRestoreFunctionArn", "finalize-restore"),
        ];
        let arns: BTreeMap<String, String> =
            arns.map(|(name, value)| (name.into(), value.into())).into();
        let machine = StateMachine::parse(&text, &arns).unwrap();
        let execution = Execution {
            id: format!("execution-{:016x}", fastrand::u64(..)),
            start_time: SystemClock.now().to_rfc3339(),
        };
        walk(&machine, request, &execution, self, &options).await
    }
}

#[async_trait]
impl Tasks for RestoreStack {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let function = match function {
            "plan-restore" => &self.plan,
            "scatter-log" => &self.scatter,
            "fold-log" => &self.fold,
            "load-part" => &self.load,
            "finalize-restore" => &self.finalize,
            other => panic!("the state machine calls {other}"),
        };
        let answer = function.invoke(payload, self.limit).await;
        answer.map_err(|error| TaskError::new(&error.error_type, error.body().to_string()))
    }
}

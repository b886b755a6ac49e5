//! The deployed definition `statemachine/start-backups.asl.json`, walked with a scripted backup machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::scripted::{Notes, Scripted, execution, failed, observed};
use highwater_asl::{ExecutionFailed, StateMachine, TaskError, Tasks, walk};
use serde_json::{Value, json};

const START: &str = include_str!("../../../../statemachine/start-backups.asl.json");
const BACKUP: &str = "BackupStateMachineArn";

fn input() -> Value {
    json!({
        "tables": ["orders", "customers", "invoices"], "to": "s3://bucket/prefix",
        "concurrency": 4, "read_capacity": null, "with_stream": false
    })
}

async fn run(input: Value, tasks: &dyn Tasks) -> Result<Value, ExecutionFailed> {
    let machine = StateMachine::parse(START, &BTreeMap::new()).unwrap();
    assert_eq!(machine.machines(), BTreeSet::from([BACKUP]));
    assert!(machine.functions().is_empty());
    let options = observed(&Arc::new(Notes::default())).0;
    walk(&machine, input, &execution(), tasks, &options).await
}

/// The ARN of an execution, as the machine would answer.
fn started(input: &Value) -> Value {
    format!("arn:of:{}", input["table"].as_str().unwrap()).into()
}

#[tokio::test]
async fn every_table_has_an_execution_of_its_own() {
    let tasks = Scripted::new(|_, input, _| Some(Ok(started(input))));
    let output = run(input(), &tasks).await.unwrap();
    assert_eq!(
        output,
        json!([
            {"table": "orders", "execution": "arn:of:orders"},
            {"table": "customers", "execution": "arn:of:customers"},
            {"table": "invoices", "execution": "arn:of:invoices"}
        ])
    );
    let requests = tasks.payloads(BACKUP);
    assert_eq!(
        requests[0],
        json!({
            "table": "orders", "to": "s3://bucket/prefix", "concurrency": 4,
            "read_capacity": null, "with_stream": false
        })
    );
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn a_table_that_cannot_be_started_fails_the_execution_after_the_others_are() {
    let error = "StepFunctions.ExecutionLimitExceededException";
    let tasks = Scripted::new(move |_, input, _| {
        Some(if input["table"] == "orders" {
            failed(error)
        } else {
            Ok(started(input))
        })
    });
    let failure = run(input(), &tasks).await.unwrap_err();
    assert_eq!(
        (failure.state.as_str(), failure.error.as_str()),
        ("StartFailed", error)
    );
    assert_eq!(failure.cause, format!("the story of {error}"));
    let asked = |table: &str| {
        let requests = tasks.payloads(BACKUP).into_iter();
        requests.filter(|request| request["table"] == table).count()
    };
    assert_eq!((asked("orders"), asked("customers")), (6, 1));
    assert_eq!(asked("invoices"), 1);
}

#[tokio::test]
async fn what_fails_in_passing_is_started_once_it_goes() {
    let tasks = Scripted::new(|_, input, call| {
        Some(if call < 2 {
            failed("StepFunctions.ThrottlingException")
        } else {
            Ok(started(input))
        })
    });
    let output = run(input(), &tasks).await.unwrap();
    assert_eq!(output.as_array().unwrap().len(), 3);
    assert_eq!(tasks.calls().len(), 5);
}

/// A member that is left out would be a request with a hole: nothing is started.
#[tokio::test]
async fn an_input_without_a_member_starts_nothing() {
    for member in [
        "tables",
        "to",
        "concurrency",
        "read_capacity",
        "with_stream",
    ] {
        let mut input = input();
        input.as_object_mut().unwrap().remove(member);
        let tasks = Scripted::new(|_, input, _| Some(Ok(started(input))));
        let failure = run(input, &tasks).await.unwrap_err();
        assert_eq!(failure.error, "States.Runtime", "{member}");
        assert!(failure.cause.contains(member), "{failure}");
        assert!(tasks.calls().is_empty(), "{member}");
    }
}

/// Whoever has functions only is told so by name.
#[tokio::test]
async fn where_there_is_no_other_machine_none_is_found() {
    struct Functions;
    #[async_trait::async_trait]
    impl Tasks for Functions {
        async fn invoke(&self, _: &str, _: Value) -> Result<Value, TaskError> {
            panic!("no function is called")
        }
    }
    let failure = run(input(), &Functions).await.unwrap_err();
    let error = "StepFunctions.StateMachineDoesNotExistException";
    assert_eq!(failure.error, error);
    assert!(failure.cause.contains(BACKUP), "{failure}");
}

//! Step Functions' adapter: the port's laws over the wire, and what the service says when it says no.

use std::sync::Arc;

use highwater_aws::{ConnectionSettings, SfnExecutions};
use highwater_domain::executions::{Executions as _, Start};
use highwater_domain::failure::FailureKind;
use highwater_testkit::conformance::executions::{self, WallClock};
use highwater_testkit::fake_executions::FakeExecutions;
use highwater_testkit::step_functions::StepFunctionsServer;

use crate::loopback::{Answer, Loopback};

async fn adapter(url: &str) -> SfnExecutions {
    let settings = ConnectionSettings {
        region: Some("eu-north-1".into()),
        // Step Functions' own goes before everybody's.
        endpoint_url: Some("http://127.0.0.1:9".into()),
        sfn_endpoint_url: Some(url.into()),
        ..ConnectionSettings::default()
    };
    SfnExecutions::connect(&settings).await.unwrap()
}

#[tokio::test]
async fn every_law_holds_over_the_wire() {
    let clock = Arc::new(WallClock);
    let account = FakeExecutions::new(clock.clone());
    executions::deploy(&account);
    let server = StepFunctionsServer::start(account).await.unwrap();
    let adapter = adapter(server.endpoint_url()).await;
    executions::every_law(&adapter, clock.as_ref()).await;
}

#[tokio::test]
async fn refusals_are_judged_by_what_can_be_done() {
    for (status, code, kind) in [
        (400, "AccessDeniedException", FailureKind::Denied),
        (400, "InvalidArn", FailureKind::Invalid),
        (400, "InvalidExecutionInput", FailureKind::Invalid),
        (400, "StateMachineDeleting", FailureKind::Invalid),
        (400, "StateMachineDoesNotExist", FailureKind::NotFound),
        (400, "UnknownOperationException", FailureKind::Invalid),
    ] {
        let server = Loopback::answering([Answer::refusal(status, code, "told so")]).await;
        let adapter = adapter(&server.url).await;
        let failure = adapter.start("arn:m", "nightly", "{}").await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        for word in [code, "told so", "nightly", "StartExecution"] {
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_throttle_is_waited_out() {
    let throttle = Answer::refusal(400, "ThrottlingException", "Rate exceeded");
    let started = Answer::new(
        200,
        r#"{"executionArn":"arn:e","startDate":1768385930.622}"#,
    );
    let server = Loopback::answering([throttle.clone(), throttle, started]).await;
    let begun = adapter(&server.url).await.start("arn:m", "n", "{}").await;
    let Start::Started { started_at, .. } = begun.unwrap() else {
        panic!("it started")
    };
    assert_eq!(started_at.0, 1_768_385_930_622, "not cut to .621");
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|it| it.operation() == "StartExecution"));
    assert_eq!(asked[0].body, asked[2].body, "the name makes it once");
}

#[tokio::test]
async fn a_listing_that_leads_back_to_itself_ends() {
    let page = Answer::new(200, r#"{"stateMachines":[],"nextToken":"again"}"#);
    let server = Loopback::answering([page]).await;
    let adapter = adapter(&server.url).await;
    assert!(adapter.machines(None).await.is_ok());
    let failure = adapter.machines(Some("again")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Corrupt);
}

#[tokio::test]
async fn what_is_no_endpoint_is_refused_before_anything_is_asked() {
    let settings = ConnectionSettings {
        region: Some("eu-north-1".into()),
        sfn_endpoint_url: Some("localhost:8083".into()),
        ..ConnectionSettings::default()
    };
    let failure = SfnExecutions::connect(&settings).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(failure.to_string().contains("localhost:8083"), "{failure}");
}

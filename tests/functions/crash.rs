//! Processes that die in the middle of their work.

use std::sync::{Arc, Mutex};

use highwater_asl::{Event, Options};
use serde_json::json;

use super::account::{Account, at_once, request};

#[tokio::test(flavor = "multi_thread")]
async fn killed_scans_are_retried_and_lose_nothing() {
    let account = Account::with_items(2000).await;
    let stack = account.deploy();
    let request =
        request(json!({"segments": 2, "concurrency": 2, "read_capacity": 0, "part_bytes": 1000}));
    let retried: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&retried);
    let options = Options {
        observer: Some(Arc::new(move |event| {
            if let Event::Retrying { state, failure, .. } = event {
                seen.lock()
                    .unwrap()
                    .push(format!("{state}: {}", failure.error));
            }
        })),
        ..at_once()
    };
    let killing = async {
        stack.scan.wrote("part committed").await;
        stack.scan.kill().await
    };
    let mut execution = Box::pin(stack.execute(request, options));
    let killed = tokio::select! {
        ended = &mut execution => panic!("it ended before it could be killed: {ended:?}"),
        killed = killing => killed,
    };
    let output = execution.await.unwrap();
    assert_eq!(output["status"], "completed");
    assert!(killed >= 1);
    let retried = retried.lock().unwrap().clone();
    assert!(
        !retried.is_empty() && retried.len() <= killed,
        "{killed} killed: {retried:?}"
    );
    assert!(
        retried
            .iter()
            .all(|line| line == "ScanSegment: Runtime.ExitError"),
        "{retried:?}"
    );
    let parts = account
        .assert_backed_up(output["snapshot_id"].as_str().unwrap())
        .await;
    // The first life's part counts. It may have died between a commit and its line in the log.
    let log = stack.scan.output();
    let told = log.matches("part committed").count() + log.matches("attempt adopted").count();
    assert!(
        u64::try_from(told).unwrap() + killed as u64 >= parts,
        "{told} of {parts} parts"
    );
    assert!(
        u64::try_from(told).unwrap() <= parts,
        "{told} of {parts} parts were committed twice"
    );
}

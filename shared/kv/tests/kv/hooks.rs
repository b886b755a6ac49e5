//! Hooks hear of every request, with its cost and its outcome.

use std::sync::{Arc, Mutex};

use highwater_kv::{Call, FailureClass, Hook, Operation, Outcome};

use crate::engine::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Hook for Log {
    fn before(&self, call: &Call<'_>) {
        let line = format!("{} {} {:?}", call.operation, call.request, call.name);
        self.0.lock().unwrap().push(line);
    }

    fn after(&self, call: &Call<'_>, outcome: &Outcome) {
        assert!(!outcome.latency.is_zero());
        assert_eq!(outcome.attempts, 1);
        assert_eq!(call.table, "kv-table");
        let line = format!("{:?} {:?}", outcome.failure, outcome.capacity_units);
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn hooks_hear_the_operation_its_capacity_and_its_outcome() {
    let (_engine, table) = fresh_table().await;
    let log = Log::default();
    let table = table
        .store()
        .clone()
        .with_hook(log.clone())
        .table("kv-table");
    let records = table.partition("p");
    records.create("n", Write::text("v")).await.unwrap();
    assert_eq!(
        log.take(),
        [r#"Create PutItem Some("n")"#, "None Some(1.0)"]
    );
    records.create("n", Write::text("v")).await.unwrap_err();
    assert_eq!(log.take()[1], "Some(Conflict) None");
    records.get("n").await.unwrap();
    assert_eq!(log.take(), [r#"Get GetItem Some("n")"#, "None Some(1.0)"]);
    records
        .clone()
        .eventually_consistent()
        .get("n")
        .await
        .unwrap();
    assert_eq!(log.take()[1], "None Some(0.5)");
    records.list(&List::new()).await.unwrap();
    assert_eq!(log.take()[0], "List Query None");
    let check = Transaction::new().check_absent("p", "m");
    table.transact(check).await.unwrap();
    assert_eq!(log.take()[0], "Transact TransactWriteItems None");
    records.delete_prefix("").await.unwrap();
    let lines = log.take();
    assert_eq!(lines[2], r#"DeletePrefix BatchWriteItem Some("")"#);
    assert!(lines[3].starts_with("None Some("), "{}", lines[3]);
}

#[test]
fn operations_have_distinct_names() {
    assert_eq!(Operation::DeleteIf.to_string(), "DeleteIf");
    assert_ne!(Operation::Get.as_str(), Operation::Exists.as_str());
    assert_ne!(FailureClass::NotFound, FailureClass::Conflict);
}

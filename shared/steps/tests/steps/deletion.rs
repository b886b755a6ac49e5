//! Deleting a snapshot on the fakes: in which order, what stays, and what an interruption leaves.

use std::sync::Arc;

use crate::stage::*;
use highwater_domain::object_store::ObjectStore as _;
use highwater_steps::delete_snapshot;
use highwater_testkit::counting::Counting;
use highwater_testkit::failing::{Failing, Moment};
use highwater_testkit::fake_store::object;
use highwater_testkit::intercepted::Intercepted;

#[tokio::test]
async fn dd_17_deletion_takes_exact_keys_parts_first_and_metadata_last() {
    let stage = Stage::of_items(300);
    stage.back_up(request(2)).await.unwrap();
    let stray = format!("{}ignore-this.json.gz", layout().data());
    stage.store.plant(object(&stray, "x"));
    stage
        .store
        .plant(object("backups/orders-2/AWSDynamoDB/x", "of another table"));
    let counting = Arc::new(Counting::new());
    let store = Intercepted::new(&stage.store, &counting);
    let deletion = delete_snapshot::plan(&store, &layout(), &id(), false)
        .await
        .unwrap();
    assert_eq!(deletion.left_alone, std::slice::from_ref(&stray));
    let now = stage.deps.clock.now();
    delete_snapshot::run(
        &store,
        &layout(),
        Some(stage.control.as_ref()),
        &deletion,
        now,
        |_| (),
    )
    .await
    .unwrap();
    assert_eq!(
        stage.store.keys(),
        ["backups/orders-2/AWSDynamoDB/x".to_owned(), stray]
    );
    assert!(stage.control.is_empty());
    let calls = counting.calls();
    let deletes: Vec<&str> = calls
        .iter()
        .filter(|call| call.operation == "delete")
        .map(|call| call.resource.as_str())
        .collect();
    assert!(
        deletes.first().unwrap().contains("data/s00000-p000000"),
        "{deletes:?}"
    );
    assert!(
        deletes.last().unwrap().ends_with("backup.json"),
        "{deletes:?}"
    );
}

#[tokio::test]
async fn dd_17_a_deletion_that_breaks_off_anywhere_can_be_repeated() {
    for nth in 1.. {
        let stage = Stage::of_items(300);
        stage.back_up(request(2)).await.unwrap();
        let failing = Arc::new(Failing::crash(nth, Moment::After));
        let store = Intercepted::new(&stage.store, &failing);
        let broke_off = match delete_snapshot::plan(&store, &layout(), &id(), false).await {
            Err(_) => true,
            Ok(deletion) => {
                let now = stage.deps.clock.now();
                delete_snapshot::run(
                    &store,
                    &layout(),
                    Some(stage.control.as_ref()),
                    &deletion,
                    now,
                    |_| (),
                )
                .await
                .is_err()
            }
        };
        if !broke_off {
            assert!(nth > 5, "the deletion was broken off at {nth} places");
            return;
        }
        if stage
            .store
            .facts(&layout().metadata())
            .await
            .unwrap()
            .is_some()
        {
            let whole = stage.read().await;
            assert!(
                whole.is_err() || stage.store.keys().len() > 6,
                "half a backup is not read: {}",
                story(&whole)
            );
            let deletion = delete_snapshot::plan(stage.store.as_ref(), &layout(), &id(), false)
                .await
                .unwrap();
            let now = stage.deps.clock.now();
            delete_snapshot::run(
                stage.store.as_ref(),
                &layout(),
                Some(stage.control.as_ref()),
                &deletion,
                now,
                |_| (),
            )
            .await
            .unwrap();
        }
        assert!(
            stage.store.keys().is_empty(),
            "{nth}: {:?}",
            stage.store.keys()
        );
    }
}

#[tokio::test]
async fn a_running_backup_is_not_deleted_unless_forced() {
    let stage = Stage::of_items(30);
    stage.plan(request(1)).await.unwrap();
    let refused = delete_snapshot::plan(stage.store.as_ref(), &layout(), &id(), false).await;
    assert!(matches!(
        refused,
        Err(highwater_steps::StepError::SnapshotRunning(_))
    ));
    assert!(
        delete_snapshot::plan(stage.store.as_ref(), &layout(), &id(), true)
            .await
            .is_ok()
    );
}

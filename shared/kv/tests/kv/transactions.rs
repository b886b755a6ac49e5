//! Several records at once: all or nothing, with a reason per record.

use crate::engine::*;

#[tokio::test]
async fn every_kind_of_action_in_one_transaction() {
    let (_engine, table) = fresh_table().await;
    let (p, q) = (table.partition("p"), table.partition("q"));
    let updated = p
        .create("updated", Write::text("1").field("f", 1))
        .await
        .unwrap();
    let deleted = p.create("deleted", Write::text("1")).await.unwrap();
    let checked = q.create("checked", Write::text("1")).await.unwrap();
    let transaction = Transaction::new()
        .create("q", "created", Write::text("new"))
        .update("p", "updated", updated.version(), Write::text("2"))
        .put_if("p", "by none", None, Write::value(&7).unwrap())
        .delete("p", "deleted", deleted.version())
        .check("q", "checked", checked.version())
        .check_absent("q", "absent");
    assert_eq!(transaction.len(), 6);
    let versions = table.transact(transaction).await.unwrap();

    let now = p.require("updated").await.unwrap();
    assert_eq!(
        (now.text().unwrap(), now.field("f")),
        ("2".into(), Some(1.into()))
    );
    let created = q.require("created").await.unwrap();
    let by_none = p.require("by none").await.unwrap();
    assert_eq!(
        versions,
        [
            Some(created.version()),
            Some(updated.version() + 1),
            Some(by_none.version()),
            None,
            None,
            None
        ]
    );
    assert_eq!(now.version(), updated.version() + 1);
    assert!(!p.exists("deleted").await.unwrap());
    assert_eq!(q.require("checked").await.unwrap(), checked);
    assert!(!q.exists("absent").await.unwrap());
}

#[tokio::test]
async fn a_canceled_transaction_names_every_cause_and_writes_nothing() {
    let (_engine, table) = fresh_table().await;
    let p = table.partition("p");
    let there = p.create("there", Write::text("1")).await.unwrap();
    let version = there.version();
    let transaction = Transaction::new()
        .create("p", "fine", Write::text("new"))
        .create("p", "there", Write::text("again"))
        .update("p", "missing", 5, Write::text("x"))
        .delete("p", "gone", 5)
        .check_absent("q", "fine too");
    let error = table.transact(transaction).await.unwrap_err();
    assert!(error.is_conflict() && !error.is_retryable());
    let Error::TransactionCanceled {
        table: name,
        reasons,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(name, "kv-table");
    let causes: Vec<_> = reasons.iter().map(|reason| reason.cause.clone()).collect();
    assert_eq!(
        causes,
        [
            Cause::Fine,
            Cause::Exists { version },
            Cause::NotFound,
            Cause::NotFound,
            Cause::Fine
        ]
    );
    assert_eq!(
        (
            reasons[1].key.partition.as_str(),
            reasons[1].key.name.as_str()
        ),
        ("p", "there")
    );
    assert!(!p.exists("fine").await.unwrap());

    for stale in [
        Transaction::new().update("p", "there", version - 1, Write::new()),
        Transaction::new().delete("p", "there", version + 1),
        Transaction::new().check("p", "there", 0),
    ] {
        let error = table.transact(stale).await.unwrap_err();
        let Error::TransactionCanceled { reasons, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(reasons[0].cause, Cause::Modified { current: version });
    }
    let occupied = Transaction::new().check_absent("p", "there");
    let Err(Error::TransactionCanceled { reasons, .. }) = table.transact(occupied).await else {
        panic!("the check passed");
    };
    assert_eq!(reasons[0].cause, Cause::Exists { version });
    assert_eq!(p.require("there").await.unwrap(), there);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_steps_from_one_checkpoint_exactly_one_is_taken() {
    let (engine, table) = fresh_table().await;
    let p = table.partition("p");
    let mut seen = None;
    for part in 0..4_u32 {
        let steps: Vec<_> = (0..8_u32)
            .map(|worker| {
                let table = store(&engine).table("kv-table");
                tokio::spawn(async move {
                    let step = Transaction::new()
                        .create("p", format!("part/{part}"), Write::value(&worker)?)
                        .put_if("p", "checkpoint", seen, Write::value(&(part + 1))?);
                    table.transact(step).await
                })
            })
            .collect();
        let mut taken = Vec::new();
        for step in steps {
            match step.await.unwrap() {
                Ok(versions) => taken.push(versions[1]),
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
        assert_eq!(taken.len(), 1);
        let checkpoint = p.require("checkpoint").await.unwrap();
        assert_eq!(checkpoint.value::<u32>().unwrap(), part + 1);
        assert_eq!(taken[0], Some(checkpoint.version()));
        seen = taken[0];
    }
    let parts = p.list(&List::new().prefix("part/")).await.unwrap();
    assert_eq!(parts.records.len(), 4);
}

#[tokio::test]
async fn impossible_transactions_are_refused_before_they_are_sent() {
    let (_engine, table) = fresh_table().await;
    let hundred = |count: u32| {
        (0..count).fold(Transaction::new(), |transaction, number| {
            transaction.create("p", format!("{number}"), Write::new())
        })
    };
    let twice = Transaction::new()
        .create("p", "n", Write::new())
        .check("p", "n", 1);
    for impossible in [Transaction::new(), hundred(101), twice] {
        let result = table.transact(impossible).await;
        assert!(
            matches!(result, Err(Error::Transaction { .. })),
            "{result:?}"
        );
    }
    assert_eq!(table.transact(hundred(100)).await.unwrap().len(), 100);
}

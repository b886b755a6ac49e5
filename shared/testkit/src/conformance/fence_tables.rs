//! The laws of [`FenceTables`].

use std::sync::Arc;

use highwater_domain::failure::FailureKind;
use highwater_domain::fence_tables::FenceTables;
use highwater_domain::fenced_writer::{Fence, FencedTable, FencedWrite, FencedWriter, Transacted};
use highwater_domain::table_writer::WriteOp;
use tokio::task::JoinHandle;

/// An account with a table of the string key `id` that can be written behind fences.
#[derive(Clone, Debug)]
pub struct FencedAccount {
    /// Makes its tables of fences.
    pub tables: Arc<dyn FenceTables>,
    /// Writes its tables.
    pub writer: Arc<dyn FencedWriter>,
    /// The table with the key `id`.
    pub target: String,
}

/// Runs every law. No table's name may begin with `conformance`.
pub async fn every_law(account: &FencedAccount) {
    of_sixteen_claims_one_holder_stays(&account.tables).await;
    a_holder_finds_itself_again(&*account.tables).await;
    a_table_that_is_deleted_stops_every_write(account).await;
}

/// Of sixteen who claim a table that is not there, one holds it; all are told who.
pub async fn of_sixteen_claims_one_holder_stays(tables: &Arc<dyn FenceTables>) {
    let name = "conformance-one-holder";
    assert_eq!(tables.holder(name).await.unwrap(), None);
    let claims: Vec<JoinHandle<String>> = (0..16)
        .map(|n| {
            let tables = Arc::clone(tables);
            tokio::spawn(async move { tables.claim(name, &format!("holder-{n}")).await.unwrap() })
        })
        .collect();
    let mut told = Vec::new();
    for claim in claims {
        told.push(claim.await.unwrap());
    }
    let holder = tables.holder(name).await.unwrap();
    assert!(holder.is_some());
    assert!(
        told.iter().all(|it| Some(it) == holder.as_ref()),
        "{told:?} {holder:?}"
    );
    tables.delete(name).await.unwrap();
}

/// A claim that is repeated, because its answer was lost, is the same claim. Another's changes nothing, until the table is deleted.
pub async fn a_holder_finds_itself_again(tables: &dyn FenceTables) {
    let name = "conformance-again";
    assert_eq!(tables.claim(name, "first").await.unwrap(), "first");
    assert_eq!(tables.claim(name, "first").await.unwrap(), "first");
    assert_eq!(tables.claim(name, "second").await.unwrap(), "first");
    assert_eq!(tables.holder(name).await.unwrap().as_deref(), Some("first"));
    for _ in 0..2 {
        tables.delete(name).await.unwrap();
        assert_eq!(tables.holder(name).await.unwrap(), None);
    }
    assert_eq!(tables.claim(name, "second").await.unwrap(), "second");
    tables.delete(name).await.unwrap();
}

/// Behind fences that are gone nothing can be written: that is how a replica that stands by itself is left alone.
pub async fn a_table_that_is_deleted_stops_every_write(account: &FencedAccount) {
    let name = "conformance-stops";
    account.tables.claim(name, "holder").await.unwrap();
    let put = WriteOp::Put(r#"{"id":{"S":"conformance-stops"}}"#.into());
    let write = |order| FencedWrite {
        op: &put,
        key: br#"{"id":{"S":"conformance-stops"}}"#,
        fence_id: "00112233445566778899aabbccddeeff",
        order,
    };
    let table = FencedTable {
        target: &account.target,
        fence: Fence::Table(name),
    };
    let done = account.writer.transact(table, &[write("1")]).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    // The claim is a row of the table, and no fence.
    let holder = account.tables.holder(name).await.unwrap();
    assert_eq!(holder.as_deref(), Some("holder"));
    account.tables.delete(name).await.unwrap();
    let late = account.writer.transact(table, &[write("2")]).await;
    let failure = late.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound, "{failure}");
}

//! One worker's connection to the table in memory. Each request takes two polls, so that others come in between, and may be
//! lost, or answered in vain, or arrive late.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use highwater_kv as kv;
use highwater_lease::{Change, LeaseId, Outcome, Row, Rows};

use crate::memory::Memory;

/// What becomes of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    LoseRequest,
    /// It is carried out, and the answer is lost.
    LoseAnswer,
    /// The caller is told of a failure, and it is carried out later.
    Delay,
    /// It is carried out, and the connection hangs for ever.
    Hang,
}

#[derive(Clone, Debug, Default)]
pub struct Wire {
    memory: Memory,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    late: Arc<Mutex<Vec<Vec<Change>>>>,
    writes: Arc<AtomicUsize>,
}

impl Wire {
    pub fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            ..Self::default()
        }
    }

    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// Forgets faults that no request has met yet.
    pub fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// A request that was taken for failed arrives now.
    pub fn deliver_late(&self) {
        let changes = self.late.lock().unwrap().pop();
        if let Some(changes) = changes {
            self.memory.write(&changes);
        }
    }

    /// How many writes were sent.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn request<T>(
        &self,
        changes: &[Change],
        carry_out: impl FnOnce() -> T,
    ) -> Result<T, kv::Error> {
        let mut sent = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut sent, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => Ok(carry_out()),
            Some(Fault::LoseRequest) => Err(failure()),
            Some(Fault::LoseAnswer) => {
                carry_out();
                Err(failure())
            }
            Some(Fault::Delay) => {
                if !changes.is_empty() {
                    self.late.lock().unwrap().push(changes.to_vec());
                }
                Err(failure())
            }
            Some(Fault::Hang) => {
                carry_out();
                std::future::pending().await
            }
        }
    }
}

/// An error of the class `Transient`, the only one of them that can be made by hand.
fn failure() -> kv::Error {
    let key = kv::RecordKey {
        table: "memory".into(),
        partition: "leases".into(),
        name: "any".into(),
    };
    kv::Error::Contended { key }
}

#[async_trait]
impl Rows for Wire {
    async fn get(&self, id: &LeaseId) -> Result<Option<Row>, kv::Error> {
        self.request(&[], || self.memory.get(id)).await
    }

    async fn page(&self, after: Option<&LeaseId>) -> Result<Vec<Row>, kv::Error> {
        self.request(&[], || self.memory.page(after, 3)).await
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Outcome, kv::Error> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.request(&changes, || self.memory.write(&changes)).await
    }
}

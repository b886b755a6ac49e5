//! A live replica compared with its source under traffic: what is told is true, and what has gone wrong is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::difference::DifferenceKind;
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::{
    FencedTable, FencedWrite, FencedWriter, Repair, Repaired, Transacted,
};
use highwater_domain::key::Key;
use highwater_domain::live_check::Undecided;
use highwater_domain::mark::Grade;
use highwater_domain::replica::{FENCE_ATTRIBUTE, FenceMode, ReplicaRecord};
use highwater_domain::replica_targets::TargetPorts;
use highwater_steps::compare::SpillLimits;
use highwater_steps::deps::Unobserved;
use highwater_steps::pace::{Pace, Share};
use highwater_steps::replica::advance;
use highwater_steps::replica::live_diff::{
    self, LiveDiffObservers, LiveDiffReport, LiveDiffRequest, LiveTables,
};
use highwater_steps::replica::mend::Mended;
use highwater_steps::replica::plan::{self, ReplicaRequest};
use highwater_steps::replica::recheck::{Found, Recheck, RecheckOptions, Repairing};
use highwater_steps::segment_pages::ScanPorts;
use highwater_steps::table_items::{TableItems, TableReading};
use highwater_steps::{StepError, StopFlag};
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_table::string_key;
use serde_json::{Value, json};

use crate::live_world::{MINUTE, SECOND};
use crate::replica_stage::{ReplicaStage, TARGET};

/// What a replica is compared by.
struct Compared {
    stage: Arc<ReplicaStage>,
    live: ReplicaRecord,
    request: LiveDiffRequest,
    /// In place of the account's own.
    writer: Option<Arc<dyn FencedWriter>>,
    /// Writes to the source while it is compared.
    busy: bool,
    /// Keeps the replica in step.
    fed: bool,
    /// What is written under this key every few seconds.
    hot: Option<&'static str>,
}

impl Compared {
    /// A live replica that has caught up.
    async fn new(request: ReplicaRequest) -> Self {
        let stage = ReplicaStage::backed_up().await;
        let planned = stage.plan(&request).await.unwrap();
        let begun = plan::begin(&stage.deps(), &planned).await.unwrap();
        let loaded = stage.load(&begun).await;
        let live = advance::run(&stage.deps(), loaded).await.unwrap().record;
        for n in 0..10 {
            stage.world.table.put(&format!("first-{n}"), "changed");
        }
        stage.world.table.delete("first-9");
        stage.world.put_many("later-", 10);
        let compared = Self {
            stage: Arc::new(stage),
            live,
            request: LiveDiffRequest {
                limit: 1000,
                spill: SpillLimits::in_folder(std::env::temp_dir()),
                recheck: RecheckOptions {
                    patience: 20 * MINUTE,
                    rounds: 4,
                    repair: Repairing::Never,
                    salt: 7,
                },
            },
            writer: None,
            busy: true,
            fed: true,
            hot: None,
        };
        compared.catch_up().await;
        compared
    }

    async fn usual() -> Self {
        Self::new(ReplicaStage::request()).await
    }

    async fn fenced_by_attributes() -> Self {
        Self::new(ReplicaRequest {
            fence: FenceMode::Attribute,
            ..ReplicaStage::request()
        })
        .await
    }

    fn repairing(mut self, repair: Repairing) -> Self {
        self.request.recheck.repair = repair;
        self
    }

    async fn catch_up(&self) {
        self.stage.world.follow(MINUTE).await;
        self.stage.apply(&self.live).await.unwrap();
    }

    fn target(&self) -> TargetPorts {
        let account = &self.stage.account;
        TargetPorts {
            writer: self.writer.clone().unwrap_or_else(|| account.clone()),
            fences: account.clone(),
            describer: account.clone(),
            scanner: account.clone(),
            reader: account.clone(),
        }
    }

    async fn tables(&self) -> LiveTables {
        let deps = self.stage.deps();
        let ports = |scanner| ScanPorts {
            scanner,
            clock: deps.live.clock.clone(),
            pace: Arc::new(Pace::new(deps.live.clock.clone(), Share::Process)),
            observer: Arc::new(Unobserved),
            stop: StopFlag::default(),
        };
        let (table, account) = (&self.stage.world.table, &self.stage.account);
        let how = TableReading {
            segments: Some(3),
            ..TableReading::default()
        };
        let (source, target) = (ports(table.clone()), ports(account.clone()));
        let (from, to) = (&self.live.source, &self.live.target);
        LiveTables {
            source: TableItems::open(&**table, source, from, &how)
                .await
                .unwrap(),
            replica: TableItems::open(&**account, target, to, &how)
                .await
                .unwrap(),
            reader: table.clone(),
            target: self.target(),
        }
    }

    async fn compare(&self) -> Result<LiveDiffReport, StepError> {
        let observers = LiveDiffObservers {
            compare: Arc::new(Unheard),
            recheck: Arc::new(Unobserved),
        };
        let (deps, tables) = (self.stage.deps(), self.tables().await);
        let request = &self.request;
        live_diff::run(&deps, &self.live, tables, request, &observers).await
    }

    /// Compares while the source is written to and the replica is fed.
    async fn run(&self) -> Result<LiveDiffReport, StepError> {
        // What is not there yet when the comparison begins.
        let table = &self.stage.world.table;
        let now = table.time().now();
        for n in 0..5 {
            table.put(&format!("unseen-{n}"), &now.to_rfc3339());
        }
        tokio::select! {
            biased;
            report = self.compare() => report,
            () = self.write() => unreachable!("it never ends"),
            () = self.heat() => unreachable!("it never ends"),
            () = self.feed() => unreachable!("it never ends"),
        }
    }

    /// Each key once, and some of them deleted after a while.
    async fn write(&self) {
        for n in 0_u64.. {
            if self.busy {
                let table = &self.stage.world.table;
                table.put(&format!("traffic-{n}"), "x");
                if n % 3 == 0 {
                    table.delete(&format!("traffic-{}", n / 2));
                }
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    async fn heat(&self) {
        for n in 0_u64.. {
            if let Some(key) = self.hot {
                self.stage.world.table.put(key, &format!("hot {n}"));
            }
            tokio::time::sleep(2 * SECOND).await;
        }
    }

    async fn feed(&self) {
        loop {
            if self.fed {
                // Long enough to take over from the follower of a comparison before, which was dropped.
                self.stage.world.follow(MINUTE).await;
                self.stage.apply(&self.live).await.unwrap();
            }
            tokio::time::sleep(SECOND).await;
        }
    }

    /// Writes to the replica behind everybody's back.
    fn plant(&self, item: &Value) {
        let table = self.stage.account.table(TARGET).unwrap();
        table.put(item.to_string().as_bytes());
    }

    fn lose(&self, id: &str) {
        let table = self.stage.account.table(TARGET).unwrap();
        table.delete(&key(id));
    }

    fn found(&self, id: &str) -> Value {
        let items = self.stage.items();
        let item = items.get(id).unwrap_or_else(|| panic!("no item {id}"));
        serde_json::from_slice(item).unwrap()
    }

    /// Where the fences stand.
    fn fences(&self) -> BTreeMap<String, String> {
        let fences = self.stage.account.fences(&self.live.fence_table());
        fences.unwrap_or_default()
    }
}

#[derive(Debug)]
struct Unheard;
impl highwater_steps::compare::CompareObserver for Unheard {}

fn key(id: &str) -> Key {
    let key = json!({"id": {"S": id}}).to_string();
    string_key("id").key_of(key.as_bytes()).unwrap()
}

/// What was found, by id.
fn diverged(report: &LiveDiffReport) -> BTreeMap<String, (DifferenceKind, Mended)> {
    let found = report.diverged.iter().map(|(key, it)| {
        let key: Value = serde_json::from_str(key).unwrap();
        let id = key["id"]["S"].as_str().unwrap().to_owned();
        (id, (it.kind, it.mended.clone()))
    });
    found.collect()
}

fn assert_sums(report: &LiveDiffReport) {
    let known = report.cleared + report.not_looked_at;
    let known = known + (report.diverged.len() + report.undecided.len()) as u64;
    assert_eq!(report.suspects, known, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn under_traffic_a_replica_is_equal_to_its_source() {
    for fence in [FenceMode::Table, FenceMode::Attribute] {
        let compared = Compared::new(ReplicaRequest {
            fence,
            ..ReplicaStage::request()
        })
        .await;
        let report = compared.run().await.unwrap();
        assert!(report.is_equal(), "{report:?}");
        assert!(report.suspects >= 5, "{report:?}");
        assert!(report.waited_for.is_some());
        // Each shard has had a later record by then.
        assert_eq!(report.grade, Some(Grade::Proven));
        assert_sums(&report);
    }
}

/// Without traffic there is nothing to look at, and nothing to wait for.
#[tokio::test(start_paused = true)]
async fn two_equal_tables_have_no_suspects() {
    let mut compared = Compared::fenced_by_attributes().await;
    (compared.busy, compared.fed) = (false, false);
    let report = compared.compare().await.unwrap();
    assert!(report.is_equal(), "{report:?}");
    assert_eq!((report.suspects, report.waited_for), (0, None));
    assert_eq!(report.source.items, report.replica.items);
}

/// An item changed, one deleted, one of nobody, one set back to what it was.
fn plant_four(compared: &Compared) {
    compared.plant(&json!({"id": {"S": "first-1"}, "v": {"S": "planted"}}));
    compared.lose("first-2");
    compared.plant(&json!({"id": {"S": "nobodys"}, "v": {"S": "planted"}}));
    compared.plant(&json!({"id": {"S": "first-3"}, "v": {"S": "x"}}));
}

const FOUR: [(&str, DifferenceKind); 4] = [
    ("first-1", DifferenceKind::Differs),
    ("first-2", DifferenceKind::OnlyInA),
    ("first-3", DifferenceKind::Differs),
    ("nobodys", DifferenceKind::OnlyInB),
];

fn four(mended: [Mended; 4]) -> BTreeMap<String, (DifferenceKind, Mended)> {
    let all = FOUR.into_iter().zip(mended);
    all.map(|((id, kind), mended)| (id.to_owned(), (kind, mended)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_behind_the_replicas_back_is_found_and_left_alone() {
    for repair in [Repairing::Never, Repairing::DryRun] {
        let compared = Compared::usual().await.repairing(repair);
        plant_four(&compared);
        let report = compared.run().await.unwrap();
        let [put, delete] = if repair == Repairing::Never {
            [Mended::No, Mended::No]
        } else {
            [Mended::WouldPut, Mended::WouldDelete]
        };
        let expected = [put.clone(), put.clone(), put, delete];
        assert_eq!(diverged(&report), four(expected));
        assert!(!report.is_equal() && report.wrong() == 4);
        assert_eq!(report.undecided, []);
        assert_sums(&report);
        assert_eq!(compared.found("first-1")["v"]["S"], "planted");
        assert_eq!(compared.found("nobodys")["v"]["S"], "planted");
        assert!(!compared.stage.items().contains_key("first-2"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_gone_wrong_is_put_right_under_its_fence() {
    let compared = Compared::usual().await.repairing(Repairing::Write);
    plant_four(&compared);
    let before = compared.fences();
    let report = compared.run().await.unwrap();
    let done = || Mended::Done;
    assert_eq!(diverged(&report), four([done(), done(), done(), done()]));
    assert!(report.is_equal() && report.repaired() == 4, "{report:?}");
    let after = compared.fences();
    for (id, order) in &before {
        assert_eq!(after.get(id), Some(order), "a repair moves no fence");
    }
    compared.catch_up().await;
    compared.stage.assert_equal();
    // Changes go on as if nothing had been.
    compared.stage.world.table.put("first-1", "again");
    compared.stage.world.table.delete("first-2");
    compared.catch_up().await;
    compared.stage.assert_equal();
    let again = compared.run().await.unwrap();
    assert!(again.is_equal() && again.diverged.is_empty(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn fences_in_attributes_are_no_difference_and_survive_a_repair() {
    let compared = Compared::fenced_by_attributes()
        .await
        .repairing(Repairing::Write);
    let mut changed = compared.found("first-1");
    let order = changed[FENCE_ATTRIBUTE].clone();
    changed["v"] = json!({"S": "planted"});
    compared.plant(&changed);
    // One that lost its order, a tombstone that became an item, and one that was never changed.
    compared.plant(&json!({"id": {"S": "first-3"}, "v": {"S": "planted"}}));
    let mut risen = compared.found("first-9");
    risen
        .as_object_mut()
        .unwrap()
        .remove("highwater_deleted")
        .unwrap();
    compared.plant(&risen);
    compared.lose("first-20");
    let report = compared.run().await.unwrap();
    let done = |kind| (kind, Mended::Done);
    let expected = [
        ("first-1", done(DifferenceKind::Differs)),
        ("first-20", done(DifferenceKind::OnlyInA)),
        ("first-3", done(DifferenceKind::Differs)),
        ("first-9", done(DifferenceKind::OnlyInB)),
    ];
    let expected = expected.map(|(id, found)| (id.to_owned(), found));
    assert_eq!(diverged(&report), BTreeMap::from(expected));
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(compared.found("first-1")[FENCE_ATTRIBUTE], order);
    assert_eq!(compared.found("first-1")["v"]["S"], "changed");
    assert_eq!(compared.found("first-9")["highwater_deleted"]["BOOL"], true);
    assert_eq!(compared.found("first-20")[FENCE_ATTRIBUTE], Value::Null);
    let again = compared.run().await.unwrap();
    assert!(again.is_equal() && again.diverged.is_empty(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_leaves_out_belongs_to_neither_side() {
    let compared = Compared::new(ReplicaRequest {
        filter: vec!["id^=first-1".parse().unwrap()],
        ..ReplicaStage::request()
    })
    .await
    .repairing(Repairing::Write);
    assert_eq!(compared.stage.items().len(), 11);
    let report = compared.run().await.unwrap();
    assert!(report.is_equal() && report.suspects == 0, "{report:?}");
    assert_eq!((report.source.items, report.replica.items), (11, 11));
    // One that the source has, and the replica should not.
    compared.plant(&json!({"id": {"S": "first-2"}, "v": {"S": "changed"}}));
    compared.lose("first-11");
    let report = compared.run().await.unwrap();
    let found = diverged(&report);
    assert_eq!(found.len(), 2, "{report:?}");
    assert_eq!(found["first-2"], (DifferenceKind::OnlyInB, Mended::Done));
    assert_eq!(found["first-11"], (DifferenceKind::OnlyInA, Mended::Done));
    assert_eq!(compared.stage.items().len(), 11);
    assert!(!compared.stage.items().contains_key("first-2"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_always_written_to_is_not_judged() {
    let mut compared = Compared::usual().await;
    compared.hot = Some("first-5");
    plant_four(&compared);
    let report = compared.run().await.unwrap();
    let (hot, why) = &report.undecided[0];
    assert!(
        hot.contains("first-5") && report.undecided.len() == 1,
        "{report:?}"
    );
    assert_eq!(*why, Undecided::WrittenTooOften);
    assert_eq!(diverged(&report).len(), 4);
    assert!(!report.is_decided() && !report.is_equal());
    assert_sums(&report);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_nobody_feeds_is_not_judged() {
    let mut compared = Compared::usual().await;
    compared.fed = false;
    compared.request.recheck.patience = 3 * MINUTE;
    plant_four(&compared);
    let begun = tokio::time::Instant::now();
    let report = compared.run().await.unwrap();
    assert_eq!(report.diverged, []);
    assert!(report.undecided.len() >= 9, "{report:?}");
    let is_late = |(_, why): &(String, Undecided)| *why == Undecided::OutOfPatience;
    assert!(report.undecided.iter().all(is_late));
    assert!((3 * MINUTE..5 * MINUTE).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn more_suspects_than_are_looked_at_are_not_called_equal() {
    let mut compared = Compared::usual().await;
    compared.request.limit = 3;
    let report = compared.run().await.unwrap();
    assert!(
        report.suspects > 3 && report.not_looked_at == report.suspects - 3,
        "{report:?}"
    );
    assert!(report.diverged.is_empty() && !report.is_equal());
    assert_sums(&report);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_live_replica_of_this_table_is_refused() {
    let compared = Compared::usual().await;
    compared.stage.world.table.drop_and_create();
    let refused = compared.compare().await.unwrap_err();
    assert!(
        refused.to_string().contains("dropped and created again"),
        "{refused}"
    );

    let compared = Compared::usual().await;
    let deps = compared.stage.deps();
    advance::fail(&deps, &compared.live, "a gap").await.unwrap();
    let refused = compared.compare().await.unwrap_err();
    assert!(
        matches!(refused, StepError::ReplicaFailed { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("phase failed"), "{refused}");
}

/// Between the last look and the repair the source changes, and the change is applied.
#[derive(Debug)]
struct Overtaken {
    stage: Arc<ReplicaStage>,
    live: ReplicaRecord,
    account: Arc<FakeAdmin>,
    is_done: AtomicBool,
    moved: AtomicU64,
}

#[async_trait]
impl FencedWriter for Overtaken {
    async fn transact(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Transacted, Failure> {
        self.account.transact(table, writes).await
    }

    async fn orders(
        &self,
        table: FencedTable<'_>,
        writes: &[FencedWrite<'_>],
    ) -> Result<Vec<Option<String>>, Failure> {
        self.account.orders(table, writes).await
    }

    async fn repair(
        &self,
        table: FencedTable<'_>,
        repair: Repair<'_>,
    ) -> Result<Repaired, Failure> {
        if !self.is_done.swap(true, Ordering::SeqCst) {
            self.stage.world.table.put("first-1", "newer");
            self.stage.world.follow(MINUTE).await;
            self.stage.apply(&self.live).await.unwrap();
        }
        let repaired = self.account.repair(table, repair).await;
        if let Ok(Repaired::Moved) = repaired {
            self.moved.fetch_add(1, Ordering::SeqCst);
        }
        repaired
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_does_not_undo_what_was_applied_meanwhile() {
    let mut compared = Compared::usual().await.repairing(Repairing::Write);
    compared.fed = false;
    let overtaken = Arc::new(Overtaken {
        stage: compared.stage.clone(),
        live: compared.live.clone(),
        account: compared.stage.account.clone(),
        is_done: AtomicBool::new(false),
        moved: AtomicU64::new(0),
    });
    compared.writer = Some(overtaken.clone());
    compared.plant(&json!({"id": {"S": "first-1"}, "v": {"S": "planted"}}));
    // So far that everything that is looked at now is applied, and no further.
    let (deps, target) = (compared.stage.deps(), compared.target());
    let recheck = Recheck {
        deps: &deps,
        record: &compared.live,
        source: compared.stage.world.table.clone(),
        target: &target,
        options: compared.request.recheck.clone(),
        observer: Arc::new(Unobserved),
    };
    let keys = vec![json!({"id": {"S": "first-1"}}).to_string()];
    let waiting = async {
        tokio::time::sleep(4 * MINUTE).await;
        compared.catch_up().await;
        std::future::pending::<()>().await;
    };
    let checked = tokio::select! {
        biased;
        checked = recheck.run(keys) => checked.unwrap(),
        () = waiting => unreachable!("it never ends"),
    };
    assert_eq!(overtaken.moved.load(Ordering::SeqCst), 1);
    assert_eq!(checked.found[0].1, Found::Cleared);
    assert_eq!(compared.found("first-1")["v"]["S"], "newer");
}

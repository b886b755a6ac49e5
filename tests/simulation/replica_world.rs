//! What replicas find in the simulated world: an account with the target, whose every write is checked when it is made, and a
//! worker's ports to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_domain::failure::Failure;
use highwater_domain::fenced_writer::FencedWriter;
use highwater_domain::replica::FenceMode;
use highwater_domain::replica_control::ReplicaControl;
use highwater_domain::replica_targets::{
    FeedPorts, FeedTargets, ReplicaTargets, TargetAccess, TargetPorts,
};
use highwater_domain::table_plan::TargetPlace;
use highwater_domain::table_writer::TableWriter;
use highwater_lease::Leases;
use highwater_steps::deps::Unobserved;
use highwater_steps::known_facts::KnownFacts;
use highwater_steps::live_deps::{LeaseGroups, LogDeps};
use highwater_steps::pace::{Pace, Share};
use highwater_steps::replica::apply::ApplyRequest;
use highwater_steps::replica::plan::ReplicaRequest;
use highwater_steps::replica::{FeedDeps, ReplicaDeps};
use highwater_steps::restore_deps::RestoreDeps;
use highwater_testkit::fake_admin::FakeAdmin;
use highwater_testkit::fake_importer::FakeImporter;
use highwater_testkit::fake_table::{FakeTable, string_key};
use highwater_testkit::simulation::{RowTable, Wired};

use super::backups;
use super::replica_mutations::{ReplicaMutation, Wrong};
use super::replica_watch::{Tally, Watched};
use super::world::{DESTINATION, TABLE, Worker, World};

/// The table that is kept equal.
pub const TARGET: &str = "copy";

/// Everything of a replica that outlives a worker.
#[derive(Clone, Debug)]
pub struct ReplicaWorld {
    pub world: World,
    pub account: Arc<FakeAdmin>,
    pub watched: Arc<Watched>,
    pub fence: FenceMode,
    pub mutation: Option<ReplicaMutation>,
    /// The leases of the replica, where a mutation keeps them apart from those of the log.
    pub own_rows: Arc<RowTable>,
}

impl ReplicaWorld {
    /// A source, and an account in which the target is made, or is there and empty.
    pub fn new(
        world: &World,
        fence: FenceMode,
        is_there: bool,
        mutation: Option<ReplicaMutation>,
        doubtful: bool,
    ) -> Self {
        let unprocessed = 20;
        let make =
            move |name: &str, schema| FakeTable::new(name, schema, 3).with_unprocessed(unprocessed);
        let account = FakeAdmin::new().making(make);
        let account = Arc::new(match mutation {
            Some(ReplicaMutation::FenceInTwoSteps) => account.ignoring_fences(),
            _ => account,
        });
        if is_there {
            account.add(&Arc::new(make(TARGET, string_key("id"))));
        }
        let own_rows = RowTable::default();
        if mutation == Some(ReplicaMutation::UnconditionalCursor) {
            own_rows.ignore_versions();
        }
        Self {
            watched: Arc::new(Watched::new(world, &account, doubtful)),
            world: world.clone(),
            account,
            fence,
            mutation,
            own_rows: Arc::new(own_rows),
        }
    }

    /// What a user asks for, with the snapshot at `snapshot`.
    pub fn request(&self, snapshot: &str) -> ReplicaRequest {
        ReplicaRequest {
            local: false,
            source: TABLE.parse().unwrap(),
            to: TARGET.parse().unwrap(),
            target_region: None,
            target_role: None,
            filter: Vec::new(),
            fence: self.fence,
            log: DESTINATION.to_owned(),
            snapshot: snapshot.to_owned(),
        }
    }

    /// A worker's way to the replicas' records, each write of which is checked.
    fn replicas(&self, worker: &Worker) -> Arc<dyn ReplicaControl> {
        Arc::new(Wired::new(&self.watched, &worker.wire))
    }

    fn lying(&self, replicas: Arc<dyn ReplicaControl>) -> Arc<dyn ReplicaControl> {
        match self.mutation {
            Some(mutation) => Arc::new(Wrong::new(replicas, mutation)),
            None => replicas,
        }
    }

    /// The ports of a loader.
    pub fn loading(&self, worker: &Worker) -> RestoreDeps {
        let account = Arc::new(Wired::new(&self.account, &worker.wire));
        let writer: Arc<dyn TableWriter> = Arc::new(Wired::new(&self.watched, &worker.wire));
        let snapshots = backups::deps(worker).snapshots;
        let clock = snapshots.clock.clone();
        RestoreDeps {
            writer,
            admin: account.clone(),
            importer: Arc::new(FakeImporter::new(
                Arc::clone(&self.world.bucket) as Arc<_>,
                Arc::clone(&self.account),
            )),
            describer: account,
            place: TargetPlace {
                region: "eu-north-1".into(),
                account: None,
            },
            own_table: None,
            own_endpoint: true,
            stores: worker.stores(),
            restores: Arc::new(Wired::new(&self.world.control, &worker.wire)),
            replicas: self.lying(self.replicas(worker)),
            elsewhere: None,
            snapshots,
            pace: Arc::new(Pace::new(clock.clone(), Share::Invocation)),
            clock,
            max_retries: None,
            observer: Arc::new(Unobserved),
            stop: worker.stop.clone(),
        }
    }

    /// The ports of whoever plans, advances and applies.
    pub fn deps(&self, worker: &Worker) -> ReplicaDeps {
        let live = LogDeps {
            leases: Arc::new(OwnLeases {
                worker: worker.clone(),
                rows: Arc::clone(&self.own_rows),
            }),
            ..worker.live().log
        };
        let targets = Arc::new(Targets {
            world: self.clone(),
            worker: worker.clone(),
        });
        ReplicaDeps {
            feed: FeedDeps {
                live,
                replicas: self.lying(self.replicas(worker)),
                restores: Arc::new(Wired::new(&self.world.control, &worker.wire)),
                feeds: targets.clone(),
                known: KnownFacts::default(),
                observer: Arc::new(Tally(Arc::clone(&self.watched))),
            },
            describer: Arc::new(Wired::new(&self.world.table, &worker.wire)),
            targets,
        }
    }

    /// How an applier of this worker applies.
    pub fn applying(worker: &Worker, random: &mut fastrand::Rng) -> ApplyRequest {
        ApplyRequest {
            worker: (random.u8(..3) > 0).then(|| worker.name.clone()),
            survey_every: Duration::from_secs(random.u64(2..20)),
            until_idle: random.u8(..4) == 0,
            looks_first: random.bool(),
            seed: Some(random.u64(..)),
        }
    }
}

/// The leases of the log are everybody's, those of the replica lie in a table of their own.
#[derive(Debug)]
struct OwnLeases {
    worker: Worker,
    rows: Arc<RowTable>,
}

impl LeaseGroups for OwnLeases {
    fn group(&self, group: &str, worker: &str) -> Result<Leases, highwater_lease::Error> {
        if !group.contains("/replicas/") {
            return self.worker.group(group, worker);
        }
        let rows = Arc::new(self.rows.over(group, &self.worker.wire));
        let clock = Arc::clone(&self.worker.monotonic);
        let settings = highwater_lease::Settings::default();
        let leases = Leases::over(rows, clock, worker, settings)?;
        Ok(leases.seeded(self.worker.seed))
    }
}

/// Reaches the account over one worker's connection.
#[derive(Debug)]
struct Targets {
    world: ReplicaWorld,
    worker: Worker,
}

impl Targets {
    fn writer(&self) -> Arc<dyn FencedWriter> {
        let wire = &self.worker.wire;
        let writer: Arc<dyn FencedWriter> = Arc::new(Wired::new(&self.world.watched, wire));
        match self.world.mutation {
            Some(mutation) => Arc::new(Wrong::new(writer, mutation)),
            None => writer,
        }
    }
}

#[async_trait]
impl FeedTargets for Targets {
    async fn open_feed(&self, _access: &TargetAccess) -> Result<FeedPorts, Failure> {
        Ok(FeedPorts {
            writer: self.writer(),
            describer: Arc::new(Wired::new(&self.world.account, &self.worker.wire)),
        })
    }
}

#[async_trait]
impl ReplicaTargets for Targets {
    async fn open(&self, _access: &TargetAccess) -> Result<TargetPorts, Failure> {
        let account = Arc::new(Wired::new(&self.world.account, &self.worker.wire));
        Ok(TargetPorts {
            writer: self.writer(),
            fences: account.clone(),
            describer: account.clone(),
            scanner: account.clone(),
            reader: account,
        })
    }
}

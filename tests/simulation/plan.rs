//! What a seed draws: how the table, the stream, the connections and the workers of one run behave.

use highwater_domain::shard::StreamView;
use highwater_testkit::simulation::{Nastiness, Trouble};

use super::mutations::Mutation;

/// Who reads the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readers {
    /// Processes of `follow`.
    pub followers: u32,
    /// Whether an event-source mapping calls the function.
    pub mapping: Option<Mapping>,
    /// Auditors that run from time to time, at least one where nobody follows.
    pub auditors: u32,
}

/// How the event-source mapping is set up, and how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whether its events name their shard.
    pub windows: bool,
    /// Whether it gives batches up after some failures.
    pub discards: bool,
}

/// What happens once in a run, if anything does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disaster {
    /// Nobody reads for longer than DynamoDB keeps records.
    Outage,
    /// The stream is disabled, and enabled again.
    StreamOff,
    /// The table is dropped and made again.
    TableDropped,
}

/// One run, before it begins.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub view: StreamView,
    pub nasty: Nastiness,
    pub trouble: Trouble,
    pub writes: u32,
    pub keys: u32,
    /// The longest pause between two writes.
    pub pause_ms: u64,
    /// Rolls and splits, at random times.
    pub upheavals: u32,
    pub readers: Readers,
    pub backups: u32,
    /// The longest that a process lives.
    pub life_ms: u64,
    pub disaster: Option<Disaster>,
    /// What is done wrong on purpose.
    pub mutation: Option<Mutation>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let random = &mut random;
        let pick = |random: &mut fastrand::Rng, from: &[u64]| from[random.usize(..from.len())];
        let nasty = Nastiness {
            publish_ms: pick(random, &[50, 1_000, 5_000]),
            straggler_ms: pick(random, &[1_000, 30_000, 90_000]),
            stamp_back: 2,
            lies_ms: pick(random, &[0, 2_000, 8_000]),
            empty_percent: [0, 10, 30, 50][random.usize(..4)],
            page: random.usize(1..40),
            trim_jitter_ms: 600_000,
            enabling_ms: pick(random, &[0, 3_000]),
            stale_ms: 5_000,
            wild: true,
            ..Nastiness::CALM
        };
        let trouble = Trouble {
            delay_ms: pick(random, &[5, 50, 400]),
            per_mille: u32::try_from(pick(random, &[0, 10, 50, 120])).unwrap(),
            late_ms: pick(random, &[2_000, 60_000]),
        };
        let disaster = match random.u32(..100) {
            0..10 => Some(Disaster::Outage),
            10..18 => Some(Disaster::StreamOff),
            18..21 => Some(Disaster::TableDropped),
            _ => None,
        };
        Self {
            seed,
            view: view(seed),
            nasty,
            trouble,
            writes: random.u32(20..160),
            keys: random.u32(3..25),
            pause_ms: pick(random, &[300, 2_000, 6_000]),
            upheavals: random.u32(..5),
            readers: readers(random),
            backups: random.u32(1..3),
            life_ms: pick(random, &[20_000, 90_000, 100_000_000]),
            disaster,
            mutation: None,
        }
    }
}

/// Drawn by itself, so that seeds that were once looked at stay what they are but for this.
fn view(seed: u64) -> StreamView {
    match fastrand::Rng::with_seed(seed ^ 0x71E3).u32(..8) {
        0 => StreamView::NewImage,
        _ => StreamView::NewAndOldImages,
    }
}

fn readers(random: &mut fastrand::Rng) -> Readers {
    let mapping = Mapping {
        windows: random.u8(..4) > 0,
        discards: random.u8(..4) == 0,
    };
    match random.u32(..4) {
        0..2 => Readers {
            followers: random.u32(1..4),
            mapping: None,
            auditors: random.u32(..2),
        },
        2 => Readers {
            followers: 0,
            mapping: Some(mapping),
            auditors: random.u32(1..3),
        },
        _ => Readers {
            followers: 1,
            mapping: Some(mapping),
            auditors: 1,
        },
    }
}

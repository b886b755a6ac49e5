//! Whether an export costs the same per gigabyte, and the same memory, however large the table and however many segments;
//! and what workers buy.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use highwater_domain::item_size::ItemSizeError;
use thiserror::Error;

use super::figures::Spread;
use crate::backup;
use crate::command::{Highwater, RunError};
use crate::data_set::DataSet;
use crate::dynamodb::Tables;
use crate::process::Usage;
use crate::s3::Sink;
use crate::server::ReplayServer;
use crate::table::ReplayTable;

/// The most that a figure may grow.
pub const MOST_GROWTH: f64 = 1.2;

/// The sizes, as far as they are not beyond the largest that is wanted.
const SIZES: [u64; 5] = [
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
];
/// How many segments.
const SEGMENTS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Where all series meet: as many segments as the default has workers.
const USUAL: Shape = Shape {
    bytes: 1_000_000_000,
    segments: 4,
    workers: 4,
};

/// A scaling could not be measured.
#[derive(Debug, Error)]
pub enum ScalingError {
    /// The product failed, or says other sums than were counted.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The server did not start.
    #[error("the replay server cannot be started: {0}")]
    Server(#[from] std::io::Error),
    /// A table could not be made.
    #[error(transparent)]
    Table(#[from] ItemSizeError),
    /// Without a round there are no figures.
    #[error("there must be one round at least")]
    NoRounds,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Of the table on the wire, about.
    pub bytes: u64,
    /// Segments of the scan.
    pub segments: u32,
    /// `--concurrency`.
    pub workers: u32,
}

/// What a shape took: medians of all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The shape.
    pub shape: Shape,
    /// CPU seconds per GB of items, without those that an empty table takes.
    pub cpu_per_gb: f64,
    /// Seconds on the clock.
    pub wall_seconds: f64,
    /// Peak of the memory, in bytes.
    pub peak_bytes: f64,
}

/// One series: what is varied, and its points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What is varied.
    pub title: &'static str,
    /// From the least to the most.
    pub points: Vec<Point>,
    memory_from: usize,
    is_judged: bool,
}

/// How much a series grows at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The highest peak by that of the first point that is judged.
    pub peak: f64,
    /// The highest CPU per GB by the lowest.
    pub cpu: f64,
}

/// A series to be measured.
struct Planned {
    title: &'static str,
    shapes: Vec<Shape>,
    /// Points from this one on are judged by their memory; before it not all workers have something to do.
    memory_from: usize,
    is_judged: bool,
}

/// The series up to tables of so many bytes.
fn plan(most_bytes: u64) -> [Planned; 3] {
    let usual = Shape {
        bytes: USUAL.bytes.min(most_bytes),
        ..USUAL
    };
    let sizes = SIZES.into_iter().filter(|bytes| *bytes <= most_bytes);
    let sizes = sizes.map(|bytes| Shape { bytes, ..USUAL });
    let segments = SEGMENTS.map(|segments| Shape { segments, ..usual });
    let workers = [1, 2].map(|workers| Shape { workers, ..usual });
    let all_busy = SEGMENTS.iter().position(|it| *it == USUAL.workers);
    [
        Planned {
            title: "Size of the table",
            shapes: sizes.collect(),
            memory_from: 0,
            is_judged: true,
        },
        Planned {
            title: "Segments",
            shapes: segments.to_vec(),
            memory_from: all_busy.unwrap_or(0),
            is_judged: true,
        },
        // More workers have more memory, as they should.
        Planned {
            title: "Workers",
            shapes: [&workers[..], &[usual]].concat(),
            memory_from: 0,
            is_judged: false,
        },
    ]
}

/// Measures one data set, in rounds of all shapes. `each` hears of every run.
pub async fn run(
    program: &Path,
    set: DataSet,
    most_bytes: u64,
    rounds: usize,
    mut each: impl FnMut(Shape, &Usage),
) -> Result<Vec<Series>, ScalingError> {
    let plan = plan(most_bytes);
    let empty = Shape { bytes: 0, ..USUAL };
    // The shape where series meet is in each of them, and measured once.
    let shapes = plan.iter().flat_map(|series| series.shapes.iter().copied());
    let shapes: BTreeSet<Shape> = shapes.chain([empty]).collect();
    let stage = Stage::set(program, set, &shapes).await?;
    let mut runs: BTreeMap<Shape, Vec<Run>> = BTreeMap::new();
    for _ in 0..rounds {
        for &shape in &shapes {
            let run = stage.run(shape).await?;
            each(shape, &run.usage);
            runs.entry(shape).or_default().push(run);
        }
    }
    let start_up = median(runs.get(&empty), |run| run.usage.cpu_seconds);
    let start_up = start_up.ok_or(ScalingError::NoRounds)?;
    let point = |shape: &Shape| Point::of(*shape, runs.get(shape), start_up);
    let series = plan.into_iter().map(|planned| Series {
        title: planned.title,
        points: planned.shapes.iter().filter_map(point).collect(),
        memory_from: planned.memory_from,
        is_judged: planned.is_judged,
    });
    Ok(series.collect())
}

/// One export.
#[derive(Clone, Copy, Debug)]
struct Run {
    usage: Usage,
    /// Of the items' JSON.
    bytes: u64,
}

fn median(runs: Option<&Vec<Run>>, of: impl Fn(&Run) -> f64) -> Option<f64> {
    Some(Spread::of(runs?.iter().map(of))?.median)
}

impl Point {
    fn of(shape: Shape, runs: Option<&Vec<Run>>, start_up: f64) -> Option<Self> {
        let cpu = |run: &Run| (run.usage.cpu_seconds - start_up) / run.bytes as f64 * 1e9;
        Some(Self {
            shape,
            cpu_per_gb: median(runs, cpu)?,
            wall_seconds: median(runs, |run| run.usage.wall_seconds)?,
            peak_bytes: median(runs, |run| run.usage.peak_rss_bytes as f64)?,
        })
    }
}

/// Tables of all sizes on one server, which drops what it is sent.
struct Stage {
    server: ReplayServer,
    program: PathBuf,
    set: DataSet,
}

impl Stage {
    async fn set(
        program: &Path,
        set: DataSet,
        shapes: &BTreeSet<Shape>,
    ) -> Result<Self, ScalingError> {
        let mut tables = BTreeMap::new();
        for bytes in shapes.iter().map(|shape| shape.bytes) {
            let table = ReplayTable::new(set, bytes)?.named(&name(set, bytes));
            tables.insert(bytes, table);
        }
        let tables = Tables::new(tables.into_values());
        Ok(Self {
            server: ReplayServer::over(0, tables, Sink::dropping()).await?,
            program: program.to_owned(),
            set,
        })
    }

    async fn run(&self, shape: Shape) -> Result<Run, ScalingError> {
        let highwater = Highwater::new(&self.program, &self.server)?;
        let table = name(self.set, shape.bytes);
        let workers = shape.workers.to_string();
        let flags = ["--compression", "zstd", "--concurrency", &workers].map(OsString::from);
        let run = backup::run(&highwater, &self.server, &table, shape.segments, &flags).await?;
        self.server.forget_objects();
        Ok(Run {
            usage: run.usage,
            bytes: run.item_bytes,
        })
    }
}

/// The name of the table of so many bytes.
fn name(set: DataSet, bytes: u64) -> String {
    format!("{set}-{bytes}")
}

impl Growth {
    /// Whether both are within [`MOST_GROWTH`].
    #[must_use]
    pub fn is_bounded(self) -> bool {
        self.peak <= MOST_GROWTH && self.cpu <= MOST_GROWTH
    }
}

impl Series {
    /// How much it grows; `None` if it is not judged, or has no points.
    #[must_use]
    pub fn growth(&self) -> Option<Growth> {
        let cpu = Spread::of(self.points.iter().map(|point| point.cpu_per_gb))?;
        let judged = self.points.get(self.memory_from..)?;
        let first = judged.first()?.peak_bytes;
        let peak = Spread::of(judged.iter().map(|point| point.peak_bytes))?;
        self.is_judged.then(|| Growth {
            peak: peak.most / first,
            cpu: cpu.most / cpu.least,
        })
    }

    /// The series as a table, and what it says.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "#### {}\n\n| table GB | segments | workers | CPU s/GB | seconds | MB/s | peak MB |\n|---|---|---|---|---|---|---|\n",
            self.title
        );
        for point in &self.points {
            let shape = point.shape;
            let gigabytes = shape.bytes as f64 / 1e9;
            let _ = writeln!(
                text,
                "| {gigabytes} | {} | {} | {:.2} | {:.2} | {:.0} | {:.0} |",
                shape.segments,
                shape.workers,
                point.cpu_per_gb,
                point.wall_seconds,
                gigabytes * 1e3 / point.wall_seconds,
                point.peak_bytes / 1e6,
            );
        }
        if let Some(growth) = self.growth() {
            let word = if growth.is_bounded() {
                "bounded"
            } else {
                "**it grows**"
            };
            let _ = write!(
                text,
                "\nMemory grows {:.2} times, CPU per GB varies {:.2} times; at most {MOST_GROWTH:.2}: {word}.\n",
                growth.peak, growth.cpu
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(f64, f64)], memory_from: usize) -> Series {
        let point = |&(cpu_per_gb, peak_bytes): &(f64, f64)| Point {
            shape: USUAL,
            cpu_per_gb,
            wall_seconds: 1.0,
            peak_bytes,
        };
        Series {
            title: "Segments",
            points: points.iter().map(point).collect(),
            memory_from,
            is_judged: true,
        }
    }

    #[test]
    fn growth_in_memory_or_cpu_is_seen_and_a_cliff_in_the_middle_too() {
        let bounded = |points: &[(f64, f64)], from| {
            let growth = series(points, from).growth().unwrap();
            growth.is_bounded()
        };
        assert!(bounded(&[(2.0, 60e6), (2.3, 70e6), (2.1, 50e6)], 0));
        assert!(!bounded(&[(2.0, 60e6), (2.0, 73e6), (2.0, 60e6)], 0));
        assert!(!bounded(&[(2.0, 60e6), (2.5, 60e6), (2.0, 60e6)], 0));
        assert!(bounded(&[(2.0, 30e6), (2.0, 60e6), (2.0, 61e6)], 1));
        assert!(
            series(&[(2.5, 1.0), (2.0, 9.0)], 0)
                .table()
                .contains("**it grows**")
        );
        let unjudged = Series {
            is_judged: false,
            ..series(&[(1.0, 1.0), (9.0, 9.0)], 0)
        };
        assert_eq!(unjudged.growth(), None);
    }

    #[test]
    fn the_plan_stays_within_the_largest_size() {
        let [sizes, segments, workers] = plan(3_000_000_000);
        let all = sizes.shapes.iter().map(|shape| shape.bytes);
        assert_eq!(all.max(), Some(3_000_000_000));
        assert_eq!(segments.shapes[segments.memory_from].segments, 4);
        assert!(workers.shapes.contains(&USUAL) && segments.shapes.contains(&USUAL));
        let [small, segments, _] = plan(100_000_000);
        assert_eq!(small.shapes.len(), 1);
        assert!(
            segments
                .shapes
                .iter()
                .all(|shape| shape.bytes == 100_000_000)
        );
    }
}

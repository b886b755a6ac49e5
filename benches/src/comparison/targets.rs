//! What is promised, and whether the figures keep it.

use std::collections::BTreeMap;
use std::fmt;

use super::contenders::Contender as C;
use super::contenders::{Contender, Path, Role};
use super::rounds::Outcome;
use crate::data_set::DataSet;

/// All outcomes of a comparison.
pub type Outcomes = BTreeMap<(Path, DataSet), Outcome>;

/// What is measured for a promise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The CPU of the first is at most so many times that of the second.
    AtMost(Contender, Contender, f64),
    /// The CPU of the first is at least so many times that of the second.
    AtLeast(Contender, Contender, f64),
    /// The peak is at most so many bytes.
    Peak(Contender, f64),
}

/// One promise, for one data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Where.
    pub path: Path,
    /// With which items.
    pub set: DataSet,
    /// What.
    pub measure: Measure,
}

/// Whether a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It is; the figure.
    Passed(f64),
    /// It is not.
    Missed(f64),
    /// A tool of others is not here, or failed.
    NobodyThere,
    /// What was to be measured failed.
    NoFigure,
}

impl Verdict {
    /// Whether it counts against the product.
    #[must_use]
    pub fn is_missed(self) -> bool {
        matches!(self, Self::Missed(_) | Self::NoFigure)
    }
}

/// What one worker of an export may take.
const EXPORT_PEAK_BYTES: f64 = 64e6;

/// What a restore may take.
const RESTORE_PEAK_BYTES: f64 = 96e6;

/// What a merge may take, whatever the log's size: as the program `log` judges it, too.
pub const MERGE_PEAK_BYTES: f64 = 300e6;

/// All promises about one path and data set.
#[must_use]
pub fn targets(path: Path, set: DataSet) -> Vec<Target> {
    let measures = match path {
        Path::Export => export(),
        Path::Restore => restore(set),
        Path::EventLog => vec![Measure::AtMost(C::EventLines, C::TypedEventLines, 0.2)],
        Path::RecordLog => vec![Measure::AtMost(C::RecordLines, C::TypedRecordLines, 0.2)],
        Path::Merge => [C::Materialize, C::RestoreSecond]
            .map(|contender| Measure::Peak(contender, MERGE_PEAK_BYTES))
            .to_vec(),
        Path::Verify => Vec::new(),
    };
    let target = |measure| Target { path, set, measure };
    measures.into_iter().map(target).collect()
}

/// Against the limit, against the SDK's types, against every tool, and in memory.
fn export() -> Vec<Measure> {
    let mut measures = vec![
        Measure::AtMost(C::ExportZstd, C::LimitZstd, 1.25),
        Measure::AtMost(C::ExportGzip, C::LimitGzip, 1.35),
        Measure::AtLeast(C::TypedExportMiniz, C::ExportZstd, 12.0),
    ];
    let peers = C::on(Path::Export).filter(|it| it.role() == Role::Peer);
    measures.extend(peers.map(|peer| Measure::AtLeast(peer, C::ExportZstd, 8.0)));
    measures.push(Measure::Peak(C::ExportOneWorker, EXPORT_PEAK_BYTES));
    measures
}

/// Against the SDK's types, and in memory.
fn restore(set: DataSet) -> Vec<Measure> {
    let most = match set {
        DataSet::Small => 0.5,
        DataSet::Medium => 0.25,
        DataSet::Large => 0.35,
    };
    vec![
        Measure::AtMost(C::RestoreZstd, C::TypedRestoreZstd, most),
        Measure::AtMost(C::RestoreGzip, C::TypedRestoreGzip, most),
        Measure::Peak(C::RestoreZstd, RESTORE_PEAK_BYTES),
        Measure::Peak(C::RestoreGzip, RESTORE_PEAK_BYTES),
    ]
}

impl Measure {
    fn contenders(self) -> Vec<Contender> {
        match self {
            Self::AtMost(of, to, _) | Self::AtLeast(of, to, _) => vec![of, to],
            Self::Peak(of, _) => vec![of],
        }
    }

    fn figure(self, outcome: &Outcome) -> Option<f64> {
        match self {
            Self::AtMost(of, to, _) | Self::AtLeast(of, to, _) => {
                let ratio = outcome.of(of)?.over(outcome.of(to)?);
                ratio.map(|ratio| ratio.median)
            }
            Self::Peak(of, _) => outcome.of(of)?.peak_bytes(),
        }
    }

    fn is_kept(self, figure: f64) -> bool {
        match self {
            Self::AtMost(_, _, most) | Self::Peak(_, most) => figure <= most,
            Self::AtLeast(_, _, least) => figure >= least,
        }
    }
}

impl Target {
    /// Holds the promise against the figures; `None` if nothing of it was measured at all.
    #[must_use]
    pub fn judge(&self, outcomes: &Outcomes) -> Option<Verdict> {
        let outcome = outcomes.get(&(self.path, self.set))?;
        if let Some(figure) = self.measure.figure(outcome) {
            let kept = self.measure.is_kept(figure);
            return Some(if kept {
                Verdict::Passed(figure)
            } else {
                Verdict::Missed(figure)
            });
        }
        let contenders = self.measure.contenders();
        let mut lacking = contenders.iter().filter(|it| outcome.of(**it).is_none());
        Some(if lacking.all(|it| it.role() == Role::Peer) {
            Verdict::NobodyThere
        } else {
            Verdict::NoFigure
        })
    }

    /// The figure as the promise counts it.
    #[must_use]
    pub fn shown(&self, figure: f64) -> String {
        match self.measure {
            Measure::Peak(..) => format!("{:.1} MB", figure / 1e6),
            _ => format!("{figure:.2}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.set;
        match self.measure {
            Measure::AtMost(of, to, most) => {
                let (of, to) = (of.title(), to.title());
                write!(f, "{set}: {of}: at most {most} × {to}")
            }
            Measure::AtLeast(of, to, least) => {
                let (of, to) = (of.title(), to.title());
                write!(f, "{set}: {of}: at least {least} × {to}")
            }
            Measure::Peak(of, most) => {
                let (of, most) = (of.title(), most / 1e6);
                write!(f, "{set}: {of}: peak of at most {most} MB")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::figures::{Cost, Pair, Rounds};

    /// So many seconds per GB in every round, and such a peak.
    fn rounds(per_gb: f64, peak: u64) -> Rounds {
        let cost = |bytes: u64| Cost {
            bytes,
            cpu_seconds: per_gb * bytes as f64 / 1e9,
            peak_rss_bytes: peak,
            ..Cost::default()
        };
        let pair = Pair {
            small: cost(1_000_000_000),
            large: cost(2_000_000_000),
        };
        Rounds(vec![pair; 3])
    }

    fn outcomes(of: &[(Contender, f64)]) -> Outcomes {
        let mut outcome = Outcome::default();
        for (contender, per_gb) in of {
            let rounds = rounds(*per_gb, 60_000_000);
            outcome.rounds.insert(*contender, rounds);
        }
        [((Path::Export, DataSet::Small), outcome)].into()
    }

    fn judge(measure: Measure, of: &[(Contender, f64)]) -> Option<Verdict> {
        let target = Target {
            path: Path::Export,
            set: DataSet::Small,
            measure,
        };
        target.judge(&outcomes(of))
    }

    #[test]
    fn a_ratio_is_held_against_its_bound() {
        use Contender::{ExportZstd, LimitZstd, NodeExport};
        let most = Measure::AtMost(ExportZstd, LimitZstd, 1.25);
        let figures = |per_gb| [(ExportZstd, per_gb), (LimitZstd, 2.0)];
        assert_eq!(judge(most, &figures(2.4)), Some(Verdict::Passed(1.2)));
        assert!(judge(most, &figures(2.6)).unwrap().is_missed());
        let least = Measure::AtLeast(NodeExport, ExportZstd, 8.0);
        let figures = |per_gb| [(NodeExport, per_gb), (ExportZstd, 2.0)];
        assert_eq!(judge(least, &figures(16.0)), Some(Verdict::Passed(8.0)));
        assert!(judge(least, &figures(15.0)).unwrap().is_missed());
    }

    #[test]
    fn a_peak_is_held_against_its_bound() {
        let figures = [(Contender::ExportOneWorker, 2.0)];
        let peak = |most| Measure::Peak(Contender::ExportOneWorker, most);
        assert_eq!(judge(peak(60e6), &figures), Some(Verdict::Passed(60e6)));
        assert!(judge(peak(59e6), &figures).unwrap().is_missed());
    }

    /// What others have not installed is no fault; what the product does not show is.
    #[test]
    fn without_figures_it_counts_who_lacks_them() {
        use Contender::{ExportZstd, NodeExport};
        let least = Measure::AtLeast(NodeExport, ExportZstd, 8.0);
        assert_eq!(
            judge(least, &[(ExportZstd, 2.0)]),
            Some(Verdict::NobodyThere)
        );
        assert_eq!(judge(least, &[(NodeExport, 2.0)]), Some(Verdict::NoFigure));
        assert_eq!(judge(least, &[]), Some(Verdict::NoFigure));
        let elsewhere = Target {
            path: Path::Restore,
            set: DataSet::Small,
            measure: least,
        };
        assert_eq!(elsewhere.judge(&outcomes(&[])), None);
    }
}

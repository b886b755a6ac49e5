//! The rounds: in each one every contender, one after the other, on its smaller and on its larger size.

use std::collections::BTreeMap;

use super::contenders::{Contender, Path, Role};
use super::figures::{Pair, Rounds};
use super::stages::{Setup, Stage, Trouble};
use crate::data_set::DataSet;

/// What came of one path with one data set.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The rounds of everyone who ran in all of them.
    pub rounds: BTreeMap<Contender, Rounds>,
    /// Who is not installed here.
    pub absent: Vec<Contender>,
    /// Who failed, and why. Whoever fails once has no figures.
    pub failed: BTreeMap<Contender, String>,
}

impl Outcome {
    /// The rounds of one, if it ran.
    #[must_use]
    pub fn of(&self, contender: Contender) -> Option<&Rounds> {
        self.rounds.get(&contender).filter(|it| !it.0.is_empty())
    }

    /// Whether anything failed that this repository brings along. A tool of others may fail.
    #[must_use]
    pub fn has_own_failures(&self) -> bool {
        self.failed.keys().any(|it| it.role() != Role::Peer)
    }

    fn drop_out(&mut self, contender: Contender, trouble: &Trouble) {
        self.rounds.remove(&contender);
        match trouble {
            Trouble::NotInstalled => self.absent.push(contender),
            trouble => {
                self.failed.insert(contender, trouble.to_string());
            }
        }
    }
}

/// Runs so many rounds. Where the stage cannot be set, everyone has failed. `each` hears of every pair as it ends.
pub async fn run(
    setup: &Setup,
    path: Path,
    set: DataSet,
    rounds: usize,
    with_peers: bool,
    mut each: impl FnMut(usize, Contender, &Result<Pair, Trouble>),
) -> Outcome {
    let mut left: Vec<Contender> = Contender::on(path)
        .filter(|contender| with_peers || contender.role() != Role::Peer)
        .collect();
    let mut outcome = Outcome::default();
    let mut stage = match Stage::set(setup, path, set, &left).await {
        Ok(stage) => stage,
        Err(error) => {
            let failed = left.into_iter().map(|who| (who, error.to_string()));
            outcome.failed = failed.collect();
            return outcome;
        }
    };
    for round in 0..rounds {
        // Everyone comes behind everyone else in some round: what one leaves behind, warm or worn, meets all.
        let turn = round % left.len().max(1);
        left.rotate_left(turn);
        for contender in left.clone() {
            let pair = pair(&mut stage, setup, contender).await;
            each(round, contender, &pair);
            match pair {
                Ok(pair) => outcome.rounds.entry(contender).or_default().0.push(pair),
                Err(trouble) => {
                    left.retain(|other| *other != contender);
                    outcome.drop_out(contender, &trouble);
                }
            }
        }
    }
    outcome
}

async fn pair(stage: &mut Stage, setup: &Setup, contender: Contender) -> Result<Pair, Trouble> {
    Ok(Pair {
        small: stage.run(setup, contender, 0).await?,
        large: stage.run(setup, contender, 1).await?,
    })
}

//! The arithmetic of a comparison: slopes, medians, and ratios that are paired by round.

/// What one run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Bytes that the run was about, before compression.
    pub bytes: u64,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// From start to end.
    pub wall_seconds: f64,
    /// The most memory at once, in bytes.
    pub peak_rss_bytes: u64,
    /// Bytes after compression; 0 if nothing was compressed or it is not known.
    pub stored_bytes: u64,
    /// CPU seconds of the replay server meanwhile.
    pub server_cpu_seconds: f64,
}

/// One contender's run on a smaller and on a larger table, in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// On the smaller.
    pub small: Cost,
    /// On the larger.
    pub large: Cost,
}

impl Pair {
    /// CPU seconds per GB (10^9 bytes): the slope between the two sizes, in which the start-up cancels out.
    ///
    /// `None` if the sizes do not differ.
    #[must_use]
    pub fn cpu_per_gb(&self) -> Option<f64> {
        self.slope(|cost| cost.cpu_seconds)
    }

    /// The same of the replay server's CPU.
    #[must_use]
    pub fn server_cpu_per_gb(&self) -> Option<f64> {
        self.slope(|cost| cost.server_cpu_seconds)
    }

    /// Seconds per GB on the clock.
    #[must_use]
    pub fn wall_per_gb(&self) -> Option<f64> {
        self.slope(|cost| cost.wall_seconds)
    }

    fn slope(&self, of: impl Fn(&Cost) -> f64) -> Option<f64> {
        let bytes = self.large.bytes.checked_sub(self.small.bytes)?;
        (bytes > 0).then(|| (of(&self.large) - of(&self.small)) / bytes as f64 * 1e9)
    }
}

/// The middle of some values, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle; of an even number the mean of the two.
    pub median: f64,
    /// The greatest.
    pub most: f64,
}

impl Spread {
    /// Of these values; `None` if there is none, or one is no number.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[half - 1], values[half])
        } else {
            values[half]
        };
        Some(Self {
            least,
            median,
            most,
        })
    }
}

/// All rounds of one contender, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounds(pub Vec<Pair>);

impl Rounds {
    /// CPU seconds per GB.
    #[must_use]
    pub fn cpu_per_gb(&self) -> Option<Spread> {
        Spread::of(self.0.iter().filter_map(Pair::cpu_per_gb))
    }

    /// The peak on the larger table: the median of the rounds, in bytes.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<f64> {
        let peaks = self.0.iter().map(|pair| pair.large.peak_rss_bytes as f64);
        Spread::of(peaks).map(|peaks| peaks.median)
    }

    /// What is left after compression, of one, as far as it is known.
    #[must_use]
    pub fn stored_share(&self) -> Option<f64> {
        let cost = self.0.last()?.large;
        (cost.stored_bytes > 0).then(|| cost.stored_bytes as f64 / cost.bytes as f64)
    }

    /// How many times the CPU of `other` this took: the ratio in each round, and then their spread.
    ///
    /// A round that either lacks is left out.
    #[must_use]
    pub fn over(&self, other: &Self) -> Option<Spread> {
        let pairs = self.0.iter().zip(&other.0);
        let ratios = pairs.filter_map(|(of, to)| {
            let (of, to) = (of.cpu_per_gb()?, to.cpu_per_gb()?);
            (to > 0.0).then(|| of / to)
        });
        Spread::of(ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start-up of so many seconds, and so many per GB.
    fn pair(start: f64, per_gb: f64) -> Pair {
        let cost = |bytes: u64| Cost {
            bytes,
            cpu_seconds: start + per_gb * bytes as f64 / 1e9,
            wall_seconds: 2.0 * start + bytes as f64 / 1e9,
            ..Cost::default()
        };
        Pair {
            small: cost(200_000_000),
            large: cost(1_000_000_000),
        }
    }

    fn close(a: Option<f64>, b: f64) {
        let a = a.unwrap();
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn start_up_cancels_out() {
        for start in [0.0, 0.5, 20.0] {
            close(pair(start, 2.5).cpu_per_gb(), 2.5);
            close(pair(start, 2.5).wall_per_gb(), 1.0);
        }
        let same = Pair::default();
        assert_eq!(same.cpu_per_gb(), None, "no slope between equal sizes");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        let spread = of(&[5.0, 1.0, 9.0]).unwrap();
        let expected = Spread {
            least: 1.0,
            median: 5.0,
            most: 9.0,
        };
        assert_eq!(spread, expected);
        close(of(&[4.0, 1.0, 2.0, 100.0]).map(|it| it.median), 3.0);
        close(of(&[7.0]).map(|it| it.median), 7.0);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None);
    }

    /// A machine that becomes slower shifts both, and their ratio not at all.
    #[test]
    fn ratios_are_of_one_round_each() {
        let slow = [1.0, 3.0, 10.0];
        let of = |per_gb: f64| Rounds(slow.map(|by| pair(0.1, per_gb * by)).to_vec());
        let spread = of(6.0).over(&of(2.0)).unwrap();
        for value in [spread.least, spread.median, spread.most] {
            close(Some(value), 3.0);
        }
        close(of(2.0).cpu_per_gb().map(|spread| spread.median), 6.0);
        assert_eq!(of(1.0).over(&Rounds::default()), None);
        assert_eq!(of(1.0).over(&of(0.0)), None, "nothing is no measure");
    }
}

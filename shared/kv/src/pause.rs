//! Growing pauses between tries.

use std::time::Duration;

/// Pauses that double up to a longest one, each shortened at random so that competitors drift apart.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    fn step(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_no_further() {
        let (first, longest) = (Duration::from_millis(20), Duration::from_millis(100));
        let mut pauses = Pauses::new(first, longest);
        for expected in [20, 40, 80, 100, 100].map(Duration::from_millis) {
            let pause = pauses.step();
            assert!(pause <= expected && pause >= expected / 2, "{pause:?}");
        }
    }
}

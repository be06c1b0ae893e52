//! How times are distributed.

use std::time::Duration;

/// Times, shortest first.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The arithmetic mean. Zero if there is none.
    pub fn mean(&self) -> Duration {
        self.0.iter().sum::<Duration>().checked_div(self.0.len() as u32).unwrap_or_default()
    }

    /// The time that the part `quantile` of all does not pass. Zero if there is none.
    pub fn at(&self, quantile: f64) -> Duration {
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis));
        assert_eq!([0.5, 0.99, 1.0].map(|quantile| spread.at(quantile).as_millis()), [100, 198, 200]);
        assert_eq!(Spread::of([]).at(0.99), Duration::ZERO);
        assert_eq!((spread.mean().as_micros(), Spread::of([]).mean()), (100_500, Duration::ZERO));
        assert_eq!(Spread::of([Duration::from_secs(1)]).at(0.01), Duration::from_secs(1));
    }
}

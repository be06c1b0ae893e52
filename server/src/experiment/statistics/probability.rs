//! A probability that is neither impossible nor certain: a significance level, a power, a rate.

/// A number greater than 0 and less than 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Probability(f64);

impl Probability {
    /// The usual significance level α: of the intervals at this level 95 % contain the true value.
    pub const FIVE_PERCENT: Self = Self(0.05);

    /// `None` if it isn't greater than 0 and less than 1.
    pub fn new(value: f64) -> Option<Self> {
        (value > 0.0 && value < 1.0).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// That of the contrary.
    pub(super) fn complement(self) -> f64 {
        1.0 - self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_impossible_nor_the_certain_is_one() {
        for value in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Probability::new(value), None);
        }
        assert_eq!(Probability::new(0.05), Some(Probability::FIVE_PERCENT));
    }
}

//! How many units an experiment on a share takes, and what chance it has to tell.

use super::normal;
use super::probability::Probability;

/// A comparison of two shares (conversion, clicks by answers of one each) by the difference of [`Estimate`](super::Estimate)s.
///
/// Variances are not pooled, as in that difference: Chow, Shao, Wang: *Sample Size Calculations in Clinical Research*, chapter 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The share in the control.
    pub control: Probability,
    /// The share in the treatment that is to be told from the control's.
    pub treatment: Probability,
    /// The share of the units of both arms that goes to the treatment.
    pub split: Probability,
    /// The level of the test: so often a difference is found where there is none.
    pub alpha: Probability,
}

impl Plan {
    /// The probability that the p value is below α, with so many units in both arms together.
    pub fn power(&self, units: u64) -> f64 {
        let apart = self.difference().abs() * (units as f64 / self.variance()).sqrt();
        let needed = normal::two_sided_quantile(self.alpha);
        // The second: significant, and the wrong way round.
        normal::upper_tail(needed - apart) + normal::upper_tail(needed + apart)
    }

    /// The units in both arms together, rounded up, with which the probability that the p value is below α is `power`; as usual
    /// without the chance of its being so with the wrong sign. `None` if the shares are the same. 0 units stand for a power
    /// of less than α / 2.
    pub fn units(&self, power: Probability) -> Option<u64> {
        let needed = normal::two_sided_quantile(self.alpha) + normal::upper_quantile(power.complement());
        let apart = needed.max(0.0) / self.difference();
        (self.difference() != 0.0).then(|| (apart * apart * self.variance()).ceil() as u64)
    }

    fn difference(&self) -> f64 {
        self.treatment.get() - self.control.get()
    }

    /// That of the difference, times the number of units.
    fn variance(&self) -> f64 {
        let of = |share: Probability| share.get() * share.complement();
        of(self.control) / self.split.complement() + of(self.treatment) / self.split.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn probability(range: std::ops::Range<f64>) -> impl Strategy<Value = Probability> {
        range.prop_map(|value| Probability::new(value).unwrap())
    }

    fn plan() -> impl Strategy<Value = Plan> {
        (probability(0.01..0.99), probability(0.01..0.99), probability(0.1..0.9), probability(1e-4..0.2))
            .prop_map(|(control, treatment, split, alpha)| Plan { control, treatment, split, alpha })
    }

    proptest! {
        #[test]
        fn the_units_that_a_power_takes_give_that_power(plan in plan(), power in probability(0.5..0.999)) {
            prop_assume!((plan.treatment.get() - plan.control.get()).abs() > 0.001);
            let units = plan.units(power).unwrap();
            prop_assert!(plan.power(units) >= power.get() - 1e-9);
            prop_assert!(plan.power(2 * units) > plan.power(units) - 1e-9);
        }

        #[test]
        fn without_a_difference_the_power_is_the_level(plan in plan(), units in 1_u64..1_000_000) {
            let same = Plan { treatment: plan.control, ..plan };
            prop_assert!((same.power(units) - plan.alpha.get()).abs() < 1e-12);
            prop_assert_eq!(same.units(Probability::FIVE_PERCENT), None);
        }
    }
}

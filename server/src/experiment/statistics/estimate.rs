//! A number that is known up to chance: a metric in an arm, how two arms differ, by what share.

use std::num::NonZeroU64;

use super::cuped::Adjustment;
use super::interval::Interval;
use super::moments::Moments;
use super::normal;
use super::probability::Probability;

/// With fewer units in an arm nothing is said: means are not yet normally distributed, and variances are themselves by chance.
pub(super) const MIN_UNITS: u64 = 30;
/// So many units must have brought something, and so many must have missed something: the usual condition n p ≥ 10 and n (1 − p) ≥ 10
/// for taking a share for normally distributed (Moore: *The Basic Practice of Statistics*).
const MIN_EVENTS: u64 = 10;
/// A lift is by what is so many standard errors above 0, as 10 events of any number are. The delta method takes 1 / x for a straight line
/// over the reach of x, and close to 0 it is anything but that.
const MIN_BASE: f64 = 3.0;

/// The usual number of units, in both arms together, at which always valid intervals are to be narrowest: GrowthBook's default.
pub const TIGHTEST_AT: NonZeroU64 = NonZeroU64::MIN.saturating_add(4_999);

/// Why no figure is given. More units may help.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NotEnough {
    /// Fewer than 30 units in the arm.
    #[error("the arm has {units} units of the {MIN_UNITS} that are needed")]
    Units {
        /// So many.
        units: u64,
    },
    /// Fewer than 10 units in the arm brought anything.
    #[error("{hits} units of the arm count anything at all, {MIN_EVENTS} are needed")]
    Hits {
        /// So many.
        hits: u64,
    },
    /// Fewer than 10 units in the arm missed anything.
    #[error("{misses} units of the arm miss anything at all, {MIN_EVENTS} are needed")]
    Misses {
        /// So many.
        misses: u64,
    },
    /// Fewer than 10 numbers are above a percentile, or below it.
    #[error("{numbers} measurements in the arm are too few for that percentile")]
    Numbers {
        /// So many there are.
        numbers: u64,
    },
    /// All units of the arm are the same, so that nothing tells what is by chance; or numbers were too large to count with.
    #[error("the units of the arm do not differ")]
    Spread,
    /// A lift over something that may as well be 0, or is below.
    #[error("the control's {value} ± {standard_error} is not {MIN_BASE} standard errors above 0")]
    Base {
        /// The control's metric.
        value: f64,
        /// Its standard error.
        standard_error: f64,
    },
}

/// A value that is normally distributed around the true one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// In the units of the metric; of a lift a share, 0.1 for 10 % more.
    pub value: f64,
    /// The standard deviation of `value`; greater than 0.
    pub standard_error: f64,
    /// The number of units that it comes from, in all arms concerned.
    pub units: u64,
}

impl Estimate {
    /// The metric in an arm, adjusted by the pooled [`Adjustment`] of the experiment: R − θ (x̄ − centre), where R is the sum of the
    /// numerators over that of the denominators. Its variance is that of z − θ x over the number of units, where by the delta method
    /// (Deng, Knoblich, Lu: *Applying the delta method in metric analytics*, KDD 2018) z = (y − R d) / d̄. With the denominator 1 it is that
    /// of a mean.
    ///
    /// # Errors
    /// For fewer than 30 units, of which 10 brought anything and 10 missed anything, and if they don't differ.
    pub fn of(arm: &Moments, adjustment: &Adjustment) -> Result<Self, NotEnough> {
        let (units, hits, misses) = (arm.units(), arm.hits(), arm.misses());
        if units < MIN_UNITS {
            return Err(NotEnough::Units { units });
        }
        if hits < MIN_EVENTS {
            return Err(NotEnough::Hits { hits });
        }
        if misses < MIN_EVENTS {
            return Err(NotEnough::Misses { misses });
        }
        let arm = arm.linearised().ok_or(NotEnough::Spread)?;
        let slope = adjustment.slope();
        let squares = arm.zz - 2.0 * slope * arm.zx + slope * slope * arm.xx;
        let value = arm.ratio - slope * (arm.covariate - adjustment.centre());
        let standard_error = (squares / (arm.units * (arm.units - 1.0))).sqrt();
        if standard_error > 0.0 && standard_error.is_finite() && value.is_finite() {
            Ok(Self { value, standard_error, units })
        } else {
            Err(NotEnough::Spread)
        }
    }

    /// How much more this arm has than the control: treatment − control.
    #[must_use]
    pub fn difference_from(&self, control: &Self) -> Self {
        Self {
            value: self.value - control.value,
            standard_error: self.standard_error.hypot(control.standard_error),
            units: self.units + control.units,
        }
    }

    /// By what share this arm has more than the control: treatment / control − 1, its standard error by the delta method (Deng, Knoblich,
    /// Lu: *Applying the delta method in metric analytics*, KDD 2018).
    ///
    /// # Errors
    /// If the control isn't three standard errors above 0.
    pub fn lift_over(&self, control: &Self) -> Result<Self, NotEnough> {
        let Self { value, standard_error, .. } = *control;
        if value < MIN_BASE * standard_error {
            return Err(NotEnough::Base { value, standard_error });
        }
        let ratio = self.value / value;
        Ok(Self {
            value: ratio - 1.0,
            standard_error: self.standard_error.hypot(ratio * standard_error) / value,
            units: self.units + control.units,
        })
    }

    /// The interval that contains the true value in 1 − α of experiments, if it is looked at once, when the units that were planned have
    /// come: value ± z standard errors.
    pub fn interval(&self, alpha: Probability) -> Interval {
        Interval::around(self.value, normal::two_sided_quantile(alpha) * self.standard_error)
    }

    /// The two-sided p value of the true value being 0: less than α just when [`interval`](Self::interval) does not contain 0.
    pub fn p_value(&self) -> f64 {
        2.0 * normal::upper_tail(self.value.abs() / self.standard_error)
    }

    /// The intervals that in 1 − α of experiments contain the true value at all times, however often they are looked at: one may stop as
    /// soon as 0 is out. Wider than [`interval`](Self::interval), and narrowest in proportion to it near `tightest_at` units of all arms
    /// concerned.
    ///
    /// The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: *Time-uniform central limit theory and
    /// asymptotic confidence sequences*, 2021, theorem 2.2, with their approximation of the best ρ. The units of both arms are one sequence,
    /// as in GrowthBook.
    pub fn always_valid_interval(&self, alpha: Probability, tightest_at: NonZeroU64) -> Interval {
        let evidence = -2.0 * alpha.get().ln();
        let rho_squared = (evidence + evidence.ln_1p()) / tightest_at.get() as f64;
        let time = self.units as f64 * rho_squared;
        // In the paper σ̂ / √n is the standard error, and 2 ln(√(n ρ² + 1) / α) is written with one logarithm.
        let reach = ((time + 1.0) / time * (time.ln_1p() + evidence)).sqrt();
        Interval::around(self.value, reach * self.standard_error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Unit;
    use super::*;

    fn estimate() -> impl Strategy<Value = Estimate> {
        (-1e3..1e3_f64, 1e-3..1e3_f64, 30_u64..10_000_000).prop_map(|(value, standard_error, units)| Estimate {
            value,
            standard_error,
            units,
        })
    }

    fn alpha() -> impl Strategy<Value = Probability> {
        (1e-9..0.999_f64).prop_map(|alpha| Probability::new(alpha).unwrap())
    }

    /// `hits` of the units converted.
    fn converted(hits: usize, units: usize) -> Moments {
        (0..units)
            .map(|unit| Unit { numerator: f64::from(u8::from(unit < hits)), denominator: 1.0, covariate: 0.0 })
            .collect()
    }

    fn plain(arm: &Moments) -> Result<Estimate, NotEnough> {
        Estimate::of(arm, &Adjustment::default())
    }

    proptest! {
        #[test]
        fn intervals_contain_the_estimate_and_the_always_valid_one_is_wider(
            estimate in estimate(), alpha in alpha(), tightest_at in 1_u64..1_000_000
        ) {
            let tightest_at = NonZeroU64::new(tightest_at).unwrap();
            let (once, always) = (estimate.interval(alpha), estimate.always_valid_interval(alpha, tightest_at));
            prop_assert!(once.contains(estimate.value) && always.contains(estimate.value));
            prop_assert!(always.low < once.low && once.high < always.high);
        }

        #[test]
        fn a_p_value_is_below_the_level_just_when_the_interval_is_without_0(estimate in estimate(), alpha in alpha()) {
            prop_assume!((estimate.p_value() / alpha.get() - 1.0).abs() > 1e-9);
            prop_assert_eq!(estimate.p_value() < alpha.get(), !estimate.interval(alpha).contains(0.0));
        }

        #[test]
        fn swapped_arms_differ_by_as_much_the_other_way(a in estimate(), b in estimate()) {
            let (there, back) = (a.difference_from(&b), b.difference_from(&a));
            prop_assert_eq!(there, Estimate { value: -back.value, ..back });
        }

        #[test]
        fn a_lift_of_the_same_in_another_currency_is_the_same(
            control in estimate(), error in 1e-3..0.33_f64, treatment in estimate(), factor in 1e-3..1e3_f64
        ) {
            let exchanged = |of: Estimate| Estimate {
                value: of.value * factor,
                standard_error: of.standard_error * factor,
                ..of
            };
            let value = control.standard_error / error;
            let control = Estimate { value, ..control };
            let lift = treatment.lift_over(&control).unwrap();
            let same = exchanged(treatment).lift_over(&exchanged(control)).unwrap();
            prop_assert!((lift.value - same.value).abs() <= 1e-9 * (1.0 + lift.value.abs()));
            prop_assert!((lift.standard_error / same.standard_error - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn nothing_is_said_of_few_units() {
        assert_eq!(plain(&Moments::default()), Err(NotEnough::Units { units: 0 }));
        assert_eq!(plain(&converted(12, 29)), Err(NotEnough::Units { units: 29 }));
        assert_eq!(plain(&converted(9, 1_000)), Err(NotEnough::Hits { hits: 9 }));
        assert_eq!(plain(&converted(991, 1_000)), Err(NotEnough::Misses { misses: 9 }));
        assert!(plain(&converted(10, 1_000)).is_ok());
        assert_eq!(NotEnough::Units { units: 4 }.to_string(), "the arm has 4 units of the 30 that are needed");
    }

    #[test]
    fn nothing_is_said_where_nothing_differs_or_numbers_are_beyond_measure() {
        let all = |numerator: f64, denominator: f64| {
            (0..100).map(|_| Unit { numerator, denominator, covariate: 0.0 }).collect::<Moments>()
        };
        assert_eq!(plain(&all(5.0, 1.0)), Err(NotEnough::Spread));
        assert_eq!(plain(&all(5.0, 0.0)), Err(NotEnough::Spread));
        assert_eq!(plain(&all(f64::NAN, 1.0)), Err(NotEnough::Spread));
        assert_eq!(plain(&all(f64::INFINITY, 1.0)), Err(NotEnough::Spread));
    }

    #[test]
    fn there_is_no_lift_over_what_may_be_nothing_or_less() {
        let treatment = Estimate { value: 1.0, standard_error: 0.1, units: 100 };
        for value in [-5.0, 0.0, 0.29] {
            let control = Estimate { value, ..treatment };
            assert_eq!(treatment.lift_over(&control), Err(NotEnough::Base { value, standard_error: 0.1 }));
        }
        assert!(treatment.lift_over(&Estimate { value: 0.31, ..treatment }).is_ok());
    }
}

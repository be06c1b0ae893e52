//! CUPED: takes from a metric what was known of the units before the experiment, so that fewer units tell as much.
//!
//! Deng, Xu, Kohavi, Walker: *Improving the sensitivity of online controlled experiments by utilizing pre-experiment data*, WSDM 2013.

use super::moments::Moments;

/// How a metric follows its covariate, over all arms of an experiment. The default one adjusts nothing.
///
/// The slope is that within the arms, as in an analysis of covariance: there an effect of the arms can't pass for one of the covariate.
/// A ratio metric is linearised first: see [`Estimate::of`](super::Estimate::of).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Adjustment {
    slope: f64,
    centre: f64,
    correlation: f64,
}

impl Adjustment {
    /// That of one metric, from all arms. It adjusts nothing if the covariate is the same everywhere.
    pub fn pooled<'a>(arms: impl IntoIterator<Item = &'a Moments>) -> Self {
        let (mut units, mut covariates, mut zz, mut zx, mut xx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for arm in arms.into_iter().filter_map(Moments::linearised) {
            units += arm.units;
            covariates += arm.units * arm.covariate;
            zz += arm.zz;
            zx += arm.zx;
            xx += arm.xx;
        }
        if xx > 0.0 && zz > 0.0 {
            Self { slope: zx / xx, centre: covariates / units, correlation: (zx / (xx * zz).sqrt()).clamp(-1.0, 1.0) }
        } else {
            Self::default()
        }
    }

    /// θ: how much more of the metric goes with one more of the covariate.
    pub fn slope(&self) -> f64 {
        self.slope
    }

    /// The mean of the covariate over all units.
    pub(super) fn centre(&self) -> f64 {
        self.centre
    }

    /// ρ, of the metric and the covariate within the arms: -1 to 1.
    pub fn correlation(&self) -> f64 {
        self.correlation
    }

    /// The share of the variance that is taken away, ρ²: intervals become √(1 − ρ²) times as wide.
    pub fn variance_reduction(&self) -> f64 {
        self.correlation * self.correlation
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    fn arm(units: &[(f64, f64)]) -> Moments {
        let unit = |&(numerator, covariate)| Unit { numerator, denominator: 1.0, covariate };
        units.iter().map(unit).collect()
    }

    #[test]
    fn a_covariate_that_is_the_same_everywhere_adjusts_nothing() {
        let arms = [arm(&[(1.0, 5.0), (3.0, 5.0)]), arm(&[(2.0, 5.0), (7.0, 5.0)])];
        assert_eq!(Adjustment::pooled(&arms), Adjustment::default());
        assert_eq!(Adjustment::pooled(&[]), Adjustment::default());
    }

    #[test]
    fn what_the_arms_differ_in_is_not_taken_for_the_covariates_doing() {
        // In both arms 2 more of the metric for 1 more of the covariate; the second is 100 ahead, and has more of the covariate.
        let arms = [arm(&[(0.0, 0.0), (2.0, 1.0), (4.0, 2.0)]), arm(&[(106.0, 3.0), (108.0, 4.0), (110.0, 5.0)])];
        let adjustment = Adjustment::pooled(&arms);
        assert!((adjustment.slope() - 2.0).abs() < 1e-12);
        assert!((adjustment.centre() - 2.5).abs() < 1e-12);
        assert!((adjustment.variance_reduction() - 1.0).abs() < 1e-12);
    }
}

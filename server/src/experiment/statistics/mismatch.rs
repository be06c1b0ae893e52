//! Whether units were split over the arms as they should have been: if not, something loses units of one arm, and no figure of the
//! experiment can be trusted.

use super::normal;

/// The p value of arms having their numbers of units by chance, each `(units, weight)`; weights are finite, not negative and
/// of any sum. Arms of weight 0 are left out. 1 if fewer than two arms or no units are left. An alarm below 0.001 is usual.
///
/// Pearson's χ² test of goodness of fit; for experiments see Fabijan et al.: *Diagnosing sample ratio mismatch in online controlled
/// experiments*, KDD 2019.
pub fn sample_ratio_mismatch(arms: &[(u64, f64)]) -> f64 {
    let arms = || arms.iter().filter(|(_, weight)| *weight > 0.0).map(|&(units, weight)| (units as f64, weight));
    let (units, weights) = arms().fold((0.0, 0.0), |sums, arm| (sums.0 + arm.0, sums.1 + arm.1));
    if units == 0.0 || arms().count() < 2 {
        return 1.0;
    }
    let statistic = arms().map(|(observed, weight)| {
        let expected = units * weight / weights;
        (observed - expected) * (observed - expected) / expected
    });
    chi_squared_upper_tail(statistic.sum(), arms().count() - 1)
}

/// The probability that χ² of so many degrees of freedom exceeds `statistic`.
///
/// Q(χ² | ν) = Q(χ² | ν − 2) + (χ²/2)^(ν/2 − 1) e^(−χ²/2) / Γ(ν/2): Abramowitz, Stegun: *Handbook of Mathematical Functions*, 26.4.8.
fn chi_squared_upper_tail(statistic: f64, degrees: usize) -> f64 {
    // Q and the term that is next to be added to it, for as many degrees as the number of loops so far asks for.
    let half = statistic / 2.0;
    let (mut tail, mut term) = if degrees.is_multiple_of(2) {
        (0.0, (-half).exp())
    } else {
        let root = statistic.sqrt();
        (2.0 * normal::upper_tail(root), 2.0 * root * normal::density(root))
    };
    let mut reached = degrees % 2;
    while reached < degrees {
        tail += term;
        reached += 2;
        term *= statistic / reached as f64;
    }
    tail
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_told_is_no_mismatch() {
        for arms in [&[][..], &[(10, 1.0)], &[(0, 1.0), (0, 1.0)], &[(10, 1.0), (99, 0.0)]] {
            assert!((sample_ratio_mismatch(arms) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn arms_of_no_weight_are_left_out() {
        let [with, without] = [&[(480, 1.0), (7, 0.0), (520, 1.0)][..], &[(480, 1.0), (520, 1.0)]];
        assert!((sample_ratio_mismatch(with) - sample_ratio_mismatch(without)).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn only_the_proportions_of_the_weights_matter(
            arms in prop::collection::vec((0_u64..1_000_000, 1e-3..1.0_f64), 2..12), factor in 1e-3..1e3_f64
        ) {
            let p = sample_ratio_mismatch(&arms);
            let scaled: Vec<_> = arms.iter().map(|&(units, weight)| (units, weight * factor)).collect();
            prop_assert!((0.0..=1.0 + 1e-12).contains(&p));
            prop_assert!((sample_ratio_mismatch(&scaled) - p).abs() < 1e-6);
        }
    }
}

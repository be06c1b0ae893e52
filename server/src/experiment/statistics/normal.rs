//! The standard normal distribution: its upper tail, and the quantiles of that.

use std::f64::consts::{PI, SQRT_2};

use super::Probability;

/// The probability of more than `z`, to 1e-12 of itself.
///
/// Of the complementary error function: Abramowitz, Stegun: *Handbook of Mathematical Functions*, 26.2.29.
pub fn upper_tail(z: f64) -> f64 {
    libm::erfc(z / SQRT_2) / 2.0
}

/// Its density.
pub fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / (2.0 * PI).sqrt()
}

/// The z beyond which the probability is `tail`, to 1e-12; `tail` is greater than 0 and less than 1.
///
/// Newton's method on the logarithm of the tail, which is concave. That is why it comes down to the root from any start to the right
/// of it, and the tail is at most exp(−z²/2) / 2, which gives such a start.
pub fn upper_quantile(tail: f64) -> f64 {
    if tail > 0.5 {
        return -upper_quantile(1.0 - tail);
    }
    let mut z = (-2.0 * (2.0 * tail).ln()).sqrt();
    loop {
        let beyond = upper_tail(z);
        let step = (tail / beyond).ln() * beyond / density(z);
        // The steps are positive until they are down to rounding. Of the tails that are too small for a number, the start is returned.
        if step > 1e-15 * (1.0 + z) {
            z -= step;
        } else {
            return z;
        }
    }
}

/// The z that the distance from the centre exceeds with the probability α: 1.96 for 5 %.
pub fn two_sided_quantile(alpha: Probability) -> f64 {
    upper_quantile(alpha.get() / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_quantile_of_the_tail_beyond_a_number_is_the_number(z in -4.0_f64..37.0) {
            prop_assert!((upper_quantile(upper_tail(z)) - z).abs() < 1e-11);
        }

        #[test]
        fn every_probability_has_a_quantile(tail in 0.0_f64..1.0, shift in 0_i32..300) {
            prop_assume!(tail > 0.0);
            prop_assert!(upper_quantile(tail).is_finite());
            prop_assert!(upper_quantile(tail * 10_f64.powi(-shift)).is_finite());
        }
    }
}

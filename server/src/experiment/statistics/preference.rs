//! What interleaving tells: of two rankings that were shown as one, whose items were chosen.

use super::interval::Interval;
use super::normal;
use super::probability::Probability;

/// How many units preferred which ranking. Those who preferred neither do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Preferred the control's items.
    pub control: u64,
    /// Preferred the treatment's items.
    pub treatment: u64,
}

impl Preferences {
    /// The two-sided p value of both rankings being preferred equally: the exact sign test, which is the binomial test with ½
    /// (Conover: *Practical Nonparametric Statistics*, 3.4). 1 if nobody preferred any.
    ///
    /// Takes about 20 √n steps: the chance of k of n follows from that of k + 1, and far from n / 2 the chances are nothing.
    pub fn p_value(&self) -> f64 {
        let (fewer, decided) = (self.control.min(self.treatment), self.control + self.treatment);
        // All in terms of the chance of the middle count. Those below it are half of the whole, less the middle if there is one.
        let mut count = decided / 2;
        let (mut chance, mut whole, mut tail) = (1.0_f64, 0.0, 0.0);
        // Below the normal numbers products round back to what they were: it would never end.
        while chance.is_normal() {
            let sides = if 2 * count == decided { 1.0 } else { 2.0 };
            whole += sides * chance;
            if count <= fewer {
                tail += sides * chance;
            }
            chance *= count as f64 / (decided - count + 1) as f64;
            count = count.saturating_sub(1);
        }
        tail / whole
    }

    /// The share of those with a preference who preferred the treatment, and the interval that contains the true share in 1 − α of
    /// experiments. `None` if nobody preferred any.
    ///
    /// Wilson's score interval: Wilson: *Probable inference, the law of succession, and statistical inference*, JASA 1927.
    pub fn treatment_share(&self, alpha: Probability) -> Option<(f64, Interval)> {
        let decided = (self.control + self.treatment) as f64;
        if decided == 0.0 {
            return None;
        }
        let share = self.treatment as f64 / decided;
        let z = normal::two_sided_quantile(alpha);
        // As if there were z² more with a preference, half of them for each.
        let all = decided + z * z;
        let centre = (self.treatment as f64 + z * z / 2.0) / all;
        let half_width = z / all * (decided * share * (1.0 - share) + z * z / 4.0).sqrt();
        let Interval { low, high } = Interval::around(centre, half_width);
        // Where all preferred the same, the end of the interval is theirs but for rounding.
        Some((share, Interval { low: low.clamp(0.0, share), high: high.clamp(share, 1.0) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobodys_preference_tells_nothing() {
        let none = Preferences::default();
        assert!((none.p_value() - 1.0).abs() < 1e-12);
        assert_eq!(none.treatment_share(Probability::FIVE_PERCENT), None);
    }

    #[test]
    fn ten_of_ten_are_as_rare_as_ten_heads_or_ten_tails() {
        let all = Preferences { control: 0, treatment: 10 };
        assert!((all.p_value() - 2.0 / 1024.0).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn either_side_may_be_the_treatment(control in 0_u64..10_000, treatment in 0_u64..10_000) {
            let (one, other) = (Preferences { control, treatment }, Preferences { control: treatment, treatment: control });
            prop_assert!((one.p_value() - other.p_value()).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&one.p_value()));
        }

        #[test]
        fn the_share_is_in_its_interval(control in 0_u64..1_000_000, treatment in 0_u64..1_000_000, alpha in 1e-6..0.999_f64) {
            let alpha = Probability::new(alpha).unwrap();
            let Some((share, interval)) = (Preferences { control, treatment }).treatment_share(alpha) else {
                return Ok(());
            };
            prop_assert!(interval.contains(share));
            prop_assert!(interval.low >= 0.0 && interval.high <= 1.0);
        }
    }
}

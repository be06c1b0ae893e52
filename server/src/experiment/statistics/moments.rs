//! The sums over the units of an arm from which all statistics follow.

/// What a unit brought: a unit is what was assigned to the arm by chance, mostly a user. Numbers must be finite.
///
/// A mean per unit (conversion, revenue per user) has the denominator 1. A ratio (clicks by answers) has its own, which is not
/// negative, and a numerator of 0 wherever the denominator is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// What the metric counts.
    pub numerator: f64,
    /// By what it is divided.
    pub denominator: f64,
    /// What is known of the unit from before the experiment, as its metric of that time: no arm can have changed it. 0 if nothing is.
    pub covariate: f64,
}

/// Number, means, and second central moments of the units of an arm. Merging the moments of two halves gives those of the whole.
///
/// Merged by the formula of Chan, Golub, LeVeque: *Updating formulae and a pairwise algorithm for computing sample variances*,
/// 1979, which for a single unit is Welford's: sums of squares would lose the variance of large numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    units: u64,
    hits: u64,
    misses: u64,
    /// Of numerator, denominator and covariate, as in [`Unit`].
    means: [f64; 3],
    /// Σ (a − ā)(b − b̄) for each two of the three.
    products: [[f64; 3]; 3],
}

impl Moments {
    /// Adds a unit.
    pub fn add(&mut self, unit: Unit) {
        self.merge(&Self::from(unit));
    }

    /// Adds the units of another.
    pub fn merge(&mut self, other: &Self) {
        let units = self.units + other.units;
        if units == 0 {
            return;
        }
        let share = other.units as f64 / units as f64;
        let weight = self.units as f64 * share;
        let apart: [f64; 3] = std::array::from_fn(|of| other.means[of] - self.means[of]);
        for (a, row) in self.products.iter_mut().enumerate() {
            for (b, product) in row.iter_mut().enumerate() {
                *product += other.products[a][b] + apart[a] * apart[b] * weight;
            }
            self.means[a] += apart[a] * share;
        }
        self.units = units;
        self.hits += other.hits;
        self.misses += other.misses;
    }

    /// How many units there are.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// How many units have a numerator other than 0: those who converted, bought, or clicked at all.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// How many units have a numerator other than their denominator: those who did not convert, or left an answer without a click.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// The metric as it is: the sum of numerators over that of denominators. `None` without denominators.
    pub fn ratio(&self) -> Option<f64> {
        let [numerator, denominator, _] = self.means;
        (denominator > 0.0).then(|| numerator / denominator)
    }

    /// The metric by units. `None` for fewer than two units and without denominators.
    pub(super) fn linearised(&self) -> Option<Linearised> {
        let [numerator, denominator, covariate] = self.means;
        if self.units < 2 || denominator <= 0.0 {
            return None;
        }
        let [[yy, yd, yx], [_, dd, dx], [_, _, xx]] = self.products;
        let ratio = numerator / denominator;
        Some(Linearised {
            units: self.units as f64,
            ratio,
            covariate,
            zz: (yy - 2.0 * ratio * yd + ratio * ratio * dd) / (denominator * denominator),
            zx: (yx - ratio * dx) / denominator,
            xx,
        })
    }
}

/// A ratio metric as a mean, R + z̄: unit i brings zᵢ = (yᵢ − R dᵢ) / d̄, where R = ȳ / d̄. The mean of z is 0, and its variance over the
/// number of units is that of R. With the denominator 1 it is the mean itself.
///
/// The delta method: Deng, Knoblich, Lu: *Applying the delta method in metric analytics*, KDD 2018.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linearised {
    pub units: f64,
    /// R.
    pub ratio: f64,
    /// x̄.
    pub covariate: f64,
    /// Σ z².
    pub zz: f64,
    /// Σ z (x − x̄).
    pub zx: f64,
    /// Σ (x − x̄)².
    pub xx: f64,
}

impl From<Unit> for Moments {
    fn from(unit: Unit) -> Self {
        let Unit { numerator, denominator, covariate } = unit;
        Self {
            units: 1,
            hits: u64::from(numerator != 0.0),
            misses: u64::from(numerator - denominator != 0.0),
            means: [numerator, denominator, covariate],
            products: [[0.0; 3]; 3],
        }
    }
}

impl FromIterator<Unit> for Moments {
    fn from_iter<I: IntoIterator<Item = Unit>>(units: I) -> Self {
        units.into_iter().fold(Self::default(), |mut moments, unit| {
            moments.add(unit);
            moments
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units() -> impl Strategy<Value = Vec<Unit>> {
        let number = || -1e6..1e6_f64;
        let unit = (number(), number(), number());
        prop::collection::vec(
            unit.prop_map(|(numerator, denominator, covariate)| Unit { numerator, denominator, covariate }),
            0..50,
        )
    }

    fn merged(a: Moments, b: &Moments) -> Moments {
        let mut merged = a;
        merged.merge(b);
        merged
    }

    /// To 1e-9 of the largest number that can come of such units.
    fn same(a: &Moments, b: &Moments) -> bool {
        let close = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-9 * scale;
        let spread = a.units as f64 * 1e12;
        (a.units, a.hits, a.misses) == (b.units, b.hits, b.misses)
            && a.means.iter().zip(&b.means).all(|(a, b)| close(*a, *b, 1e6))
            && a.products.iter().flatten().zip(b.products.iter().flatten()).all(|(a, b)| close(*a, *b, spread))
    }

    proptest! {
        #[test]
        fn in_whatever_order_and_halves_units_come_their_moments_are_the_same(a in units(), b in units(), c in units()) {
            let all: Moments = [a.clone(), b.clone(), c.clone()].concat().into_iter().collect();
            let [a, b, c] = [a, b, c].map(|units| units.into_iter().collect::<Moments>());
            prop_assert!(same(&merged(merged(a, &b), &c), &all));
            prop_assert!(same(&merged(a, &merged(b, &c)), &all));
            prop_assert!(same(&merged(merged(c, &b), &a), &all));
            prop_assert_eq!(merged(a, &Moments::default()), a);
        }

        #[test]
        fn they_are_what_their_definitions_say(units in units()) {
            prop_assume!(!units.is_empty());
            let moments: Moments = units.iter().copied().collect();
            let numbers: Vec<[f64; 3]> =
                units.iter().map(|unit| [unit.numerator, unit.denominator, unit.covariate]).collect();
            let count = units.len() as f64;
            let means: [f64; 3] = std::array::from_fn(|of| numbers.iter().map(|unit| unit[of]).sum::<f64>() / count);
            let product = |a: usize, b: usize| {
                numbers.iter().map(|unit| (unit[a] - means[a]) * (unit[b] - means[b])).sum::<f64>()
            };
            let products = std::array::from_fn(|a| std::array::from_fn(|b| product(a, b)));
            let expected = Moments { means, products, ..moments };
            prop_assert!(same(&moments, &expected), "{moments:?} {expected:?}");
        }
    }

    #[test]
    fn ten_million_large_numbers_keep_nine_digits() {
        // Revenues of 1e6 to 1e6 + 999 in cents, in an order without a trend: sums are exact in whole numbers.
        let (mut moments, mut sum, mut squares) = (Moments::default(), 0_i128, 0_i128);
        let count = 10_000_000_i64;
        for unit in 0..count {
            let above = unit * 7919 % 1_000;
            sum += i128::from(above);
            squares += i128::from(above * above);
            let revenue = 1e6 + above as f64;
            moments.add(Unit { numerator: revenue, denominator: 1.0, covariate: -revenue });
        }
        let mean = 1e6 + sum as f64 / count as f64;
        let spread = (squares * i128::from(count) - sum * sum) as f64 / count as f64;
        assert!((moments.means[0] / mean - 1.0).abs() < 1e-9, "{} {mean}", moments.means[0]);
        assert!((moments.products[0][0] / spread - 1.0).abs() < 1e-9, "{} {spread}", moments.products[0][0]);
        assert!((moments.products[0][2] / spread + 1.0).abs() < 1e-9, "{} {spread}", moments.products[0][2]);
    }
}

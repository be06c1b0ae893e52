//! A percentile of what each unit brings several numbers of, as of the latencies of answers.

use rustc_hash::FxHashMap;

use super::estimate::MIN_UNITS;
use super::moments::{Moments, Unit};
use super::normal;
use super::probability::Probability;
use super::{Estimate, NotEnough};

/// So many numbers must be above the percentile, and so many not.
const MIN_NUMBERS: f64 = 10.0;

impl Estimate {
    /// The smallest of all numbers that a `share` of them is not above. Each comes with its unit, and they are ordered here.
    ///
    /// The numbers of one unit are not independent. What part of all numbers is not above the percentile is a ratio metric, whose standard error σ
    /// units give by the delta method; the percentiles of `share` ± z σ are then as far apart as the ends of the percentile's own
    /// interval (Deng, Knoblich, Lu: *Applying the delta method in metric analytics*, KDD 2018, section 4; z is that of 95 %).
    ///
    /// # Errors
    /// For fewer than 30 units or 10 numbers on either side of the percentile, and if numbers about it do not differ.
    pub fn percentile(numbers: &mut [(u32, f32)], share: Probability) -> Result<Self, NotEnough> {
        let (count, share) = (numbers.len() as f64, share.get());
        let too_few = NotEnough::Numbers { numbers: numbers.len() as u64 };
        if count * share.min(1.0 - share) < MIN_NUMBERS {
            return Err(too_few);
        }
        numbers.sort_unstable_by(|(_, one), (_, other)| one.total_cmp(other));
        let at = |share: f64| {
            let place = ((count * share).ceil() as usize).clamp(1, numbers.len());
            f64::from(numbers[place - 1].1)
        };
        let value = at(share);
        let mut of_units: FxHashMap<u32, Unit> = FxHashMap::default();
        for &(unit, number) in &*numbers {
            let none = Unit { numerator: 0.0, denominator: 0.0, covariate: 0.0 };
            let of_unit = of_units.entry(unit).or_insert(none);
            of_unit.numerator += f64::from(u8::from(f64::from(number) <= value));
            of_unit.denominator += 1.0;
        }
        let units = of_units.len() as u64;
        if units < MIN_UNITS {
            return Err(NotEnough::Units { units });
        }
        let below = of_units.into_values().collect::<Moments>().linearised().ok_or(NotEnough::Spread)?;
        let reach = normal::two_sided_quantile(Probability::FIVE_PERCENT);
        let apart = reach * (below.zz / (below.units * (below.units - 1.0))).sqrt();
        if share - apart <= 0.0 || share + apart >= 1.0 {
            return Err(too_few);
        }
        let standard_error = (at(share + apart) - at(share - apart)) / (2.0 * reach);
        if standard_error > 0.0 && standard_error.is_finite() {
            Ok(Self { value, standard_error, units })
        } else {
            Err(NotEnough::Spread)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

    use super::*;

    fn share(share: f64) -> Probability {
        Probability::new(share).unwrap()
    }

    /// The numbers from 0 on, dealt out to so many units, each of which gets so many.
    fn numbers(units: u32, each: u32) -> Vec<(u32, f32)> {
        let mut numbers: Vec<u32> = (0..units * each).collect();
        numbers.shuffle(&mut StdRng::seed_from_u64(1));
        (0..units * each).zip(numbers).map(|(place, number)| (place / each, number as f32)).collect()
    }

    #[test]
    fn a_percentile_is_a_number_that_was_seen_and_its_error_is_that_of_order_statistics() {
        let half = Estimate::percentile(&mut numbers(1_000, 1), share(0.5)).unwrap();
        assert_eq!((half.value, half.units), (499.0, 1_000));
        // √(p (1 − p) / n) of the rank, of numbers that are one apart.
        assert!((half.standard_error - 1_000.0 * (0.25_f64 / 1_000.0).sqrt()).abs() < 1.0, "{half:?}");
    }

    #[test]
    fn numbers_of_one_unit_that_are_alike_tell_less() {
        let independent = Estimate::percentile(&mut numbers(1_000, 4), share(0.5)).unwrap();
        let mut alike: Vec<(u32, f32)> = (0..4_000).map(|number| (number / 4, (number / 4) as f32)).collect();
        let alike = Estimate::percentile(&mut alike, share(0.5)).unwrap();
        assert!(
            alike.standard_error / 1_000.0 > 1.8 * independent.standard_error / 4_000.0,
            "{alike:?} {independent:?}"
        );
    }

    #[test]
    fn nothing_is_said_of_few_units_or_numbers_nor_where_all_are_the_same() {
        let of = |mut numbers: Vec<(u32, f32)>, at: f64| Estimate::percentile(&mut numbers, share(at));
        assert_eq!(of(numbers(999, 1), 0.99), Err(NotEnough::Numbers { numbers: 999 }));
        assert!(of(numbers(1_000, 1), 0.99).is_ok());
        assert_eq!(of(numbers(29, 40), 0.5), Err(NotEnough::Units { units: 29 }));
        assert_eq!(of(Vec::new(), 0.5), Err(NotEnough::Numbers { numbers: 0 }));
        assert_eq!(of((0..100).map(|unit| (unit, 3.0)).collect(), 0.5), Err(NotEnough::Spread));
    }
}

//! bf16, the upper half of an f32: two of them make a unit.

/// Two bf16, the first in the lower half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Pair(u32);

impl Pair {
    /// Up to two numbers; missing ones are 0.
    pub(super) fn of(numbers: &[f32]) -> Self {
        let at = |index: usize| numbers.get(index).map_or(0, |&number| nearest(number));
        Self(at(0) | at(1) << 16)
    }

    /// Its two numbers.
    pub(super) fn numbers(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0 & 0xffff_0000)]
    }

    /// From one or two rows of pairs to pairs with one number of each row.
    pub(super) fn across(rows: &[&[Self]], to: &mut [Self]) {
        let write = |to: &mut [Self], first: u32, second: u32| {
            to[0] = Self(first & 0xffff | second << 16);
            if let Some(to) = to.get_mut(1) {
                *to = Self(first >> 16 | second & 0xffff_0000);
            }
        };
        match rows {
            [first, second] => {
                for ((to, first), second) in to.chunks_mut(2).zip(*first).zip(*second) {
                    write(to, first.0, second.0);
                }
            }
            _ => {
                for (to, first) in to.chunks_mut(2).zip(rows[0]) {
                    write(to, first.0, 0);
                }
            }
        }
    }
}

/// The nearest bf16, of two equally near the even one; not-a-number stays that.
fn nearest(number: f32) -> u32 {
    let bits = number.to_bits();
    if number.is_nan() { bits >> 16 | 0x40 } else { (bits + 0x7fff + (bits >> 16 & 1)) >> 16 }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "rounding is exact or wrong")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_with_ties_to_even() {
        let rounded = |number: f32| Pair::of(&[number, 1.0]).numbers()[0];
        assert_eq!(rounded(1.0), 1.0);
        assert_eq!(rounded(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(rounded(1.0 + 1.0 / 256.0), 1.0, "between 1 and the next, which is odd");
        assert_eq!(rounded(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(rounded(f32::MAX), f32::INFINITY);
        assert_eq!(rounded(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }

    #[test]
    fn a_missing_number_is_zero() {
        assert_eq!(Pair::of(&[2.0]).numbers(), [2.0, 0.0]);
    }

    #[test]
    fn pairs_across_rows_hold_a_number_of_each() {
        let row = |numbers: &[f32]| numbers.chunks(2).map(Pair::of).collect::<Vec<_>>();
        let (first, second) = (row(&[1.0, 2.0, 3.0]), row(&[4.0, 5.0, 6.0]));
        let mut to = [Pair::default(); 3];
        Pair::across(&[&first, &second], &mut to);
        assert_eq!(to.map(Pair::numbers), [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
        Pair::across(&[&second], &mut to);
        assert_eq!(to.map(Pair::numbers), [[4.0, 0.0], [5.0, 0.0], [6.0, 0.0]]);
    }
}

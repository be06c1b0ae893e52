//! Whole numbers of 16 bits, as a [`Grid`](super::grid::Grid) makes them: two of them make a unit.

use super::grid::whole;

/// Two whole numbers.
pub(super) type Pair = [i16; 2];

/// Up to two whole numbers; missing ones are 0.
pub(super) fn pair(numbers: &[f32]) -> Pair {
    [0, 1].map(|at| numbers.get(at).map_or(0, |number| whole(*number) as i16))
}

/// From one or two rows of pairs to pairs with one number of each row.
pub(super) fn across(rows: &[&[Pair]], to: &mut [Pair]) {
    for (number, to) in to.iter_mut().enumerate() {
        *to = [0, 1].map(|row| rows.get(row).map_or(0, |row| row[number / 2][number % 2]));
    }
}

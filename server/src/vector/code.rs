//! Vectors in 8-bit whole numbers: a quick look, before the rows themselves are read.
//!
//! A code is half as long as the row in half precision, and its products take half the time. What it can be off by is
//! known, so that a search which leaves out only what cannot be among the best is still exact. Sums of whole numbers are
//! the same on every CPU, and so is a graph that is made of them.

use half::f16;

use super::metric::Metric;

/// The largest number of a code.
const LARGEST: f32 = 127.0;
/// Rounding in single precision, of sums of thousands of numbers, as a part of the lengths multiplied.
const ROUNDING: f32 = 1e-5;

/// What a row's code is worth.
#[derive(Clone, Copy, Debug)]
pub struct Worth {
    /// A row is about this times its code.
    pub step: f32,
    /// What [`Metric::offset`] says of the row.
    pub offset: f32,
    /// How long the difference is between the row and what the code says.
    pub error: f32,
}

impl Worth {
    /// Of `row`, whose code is appended to `codes`.
    pub fn encode(row: &[f16], metric: Metric, codes: &mut Vec<i8>) -> Self {
        let numbers = || row.iter().map(|value| value.to_f32());
        let (step, per_step) = steps(numbers(), LARGEST);
        codes.extend(numbers().map(|value| (value * per_step).round() as i8));
        let code = &codes[codes.len() - row.len()..];
        let error = length(numbers().zip(code).map(|(value, &code)| value - step * f32::from(code)));
        Self { step, offset: metric.offset(numbers().map(f64::from)), error }
    }
}

/// A vector to be compared with codes: in 16-bit whole numbers.
#[derive(Debug)]
pub struct CodeProbe {
    /// Whole numbers whose products with any code add up to less than 2³¹.
    pub code: Vec<i16>,
    pub step: f32,
    pub offset: f32,
}

/// A vector to be compared with many rows.
#[derive(Debug)]
pub struct Probe {
    /// As [`Metric::prepared`] made it.
    pub vector: Vec<f32>,
    pub coded: CodeProbe,
    length: f32,
    /// How long the difference is between the vector and what its code says.
    error: f32,
}

impl Probe {
    /// Of a vector that is [prepared](Metric::prepared).
    pub fn new(vector: Vec<f32>, metric: Metric) -> Self {
        let numbers = || vector.iter().copied();
        let room = i32::MAX as f32 / (LARGEST * vector.len().max(1) as f32);
        let (step, per_step) = steps(numbers(), room.min(f32::from(i16::MAX)).floor());
        let code: Vec<i16> = numbers().map(|value| (value * per_step).round() as i16).collect();
        let error = length(numbers().zip(&code).map(|(value, &code)| value - step * f32::from(code)));
        let coded = CodeProbe { code, step, offset: metric.offset(numbers().map(f64::from)) };
        Self { length: length(numbers()), error, coded, vector }
    }

    /// How far a product by codes can be off, with a row of that error where the longest row has length `longest`: by
    /// the Cauchy–Schwarz inequality.
    pub fn margin(&self, error: f32, longest: f32) -> f32 {
        let of_code = self.length * error + self.error * (longest + error);
        of_code + ROUNDING * longest * self.length.max(longest)
    }
}

/// How large a step is, and how many make 1, if `largest` steps are to reach as far as the largest number.
fn steps(numbers: impl Iterator<Item = f32>, largest: f32) -> (f32, f32) {
    let reach = numbers.map(f32::abs).fold(0.0, f32::max);
    if reach > 0.0 { (reach / largest, largest / reach) } else { (0.0, 0.0) }
}

/// The length of a vector.
pub fn length(numbers: impl Iterator<Item = f32>) -> f32 {
    numbers.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

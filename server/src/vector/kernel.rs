//! Vectors in half precision, and their products.
//!
//! A row is a vector of length 1 in 16-bit floats: half the memory of single precision, and half the time, since a scan
//! is bound by memory. The product is written so that the compiler vectorises it, with widening done by integer shifts, as
//! no stable conversion vectorises.

use half::f16;

use super::VectorError;

/// Sums are kept in this many lanes, so that they do not depend on one another.
const LANES: usize = 32;

/// 2¹¹²: what is left between the exponent biases of a half (15) and a single (127) after the bits are moved.
const REBIAS: f32 = f32::from_bits((127 + 112) << 23);

/// The vector at length 1, if it has `dimensions` finite numbers, not all zero.
pub fn normalised(vector: &[f32], dimensions: usize) -> Result<Vec<f32>, VectorError> {
    if vector.len() != dimensions {
        return Err(VectorError::Width { expected: dimensions, actual: vector.len() });
    }
    if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
        return Err(VectorError::NotFinite { position });
    }
    let length = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    if length <= 0.0 {
        return Err(VectorError::Zero);
    }
    Ok(vector.iter().map(|&value| (f64::from(value) / length) as f32).collect())
}

/// The vector in half precision. What is too small for a normal half (below 6.1e-5) becomes 0, which is well below the
/// rounding of the others and keeps denormal numbers, slow on most processors, out of the products.
pub fn to_row(vector: &[f32]) -> Vec<f16> {
    vector
        .iter()
        .map(|&value| f16::from_f32(value))
        .map(|value| if value.is_normal() { value } else { f16::ZERO })
        .collect()
}

/// A vector prepared to be multiplied with many rows.
pub struct Probe {
    /// The vector times [`REBIAS`].
    scaled: Vec<f32>,
}

impl Probe {
    /// Of a vector of length 1.
    pub fn new(vector: &[f32]) -> Self {
        Self { scaled: vector.iter().map(|&value| value * REBIAS).collect() }
    }

    /// Of a row, to compare rows with each other.
    pub fn of_row(row: &[f16]) -> Self {
        Self { scaled: row.iter().map(|&value| value.to_f32() * REBIAS).collect() }
    }

    /// The inner product with `row`, which is the cosine since both have length 1.
    pub fn dot(&self, row: &[f16]) -> f32 {
        let (wide, wide_rest) = self.scaled.as_chunks::<LANES>();
        let (half, half_rest) = row.as_chunks::<LANES>();
        let mut sums = [0.0_f32; LANES];
        for (wide, half) in wide.iter().zip(half) {
            for lane in 0..LANES {
                sums[lane] += wide[lane] * shifted(half[lane]);
            }
        }
        let rest: f32 = wide_rest.iter().zip(half_rest).map(|(&wide, &half)| wide * shifted(half)).sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// A normal half or zero, moved into the bits of a single: its value divided by [`REBIAS`].
#[inline]
fn shifted(value: f16) -> f32 {
    // The sign is spread over the upper bits; the mask keeps one of them, the exponent and the mantissa.
    f32::from_bits(((i32::from(value.to_bits().cast_signed()) << 13) as u32) & 0x8fff_e000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_half_is_widened_to_its_value() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_normal() || bits << 1 == 0 {
                assert_eq!((shifted(half) * REBIAS).to_bits(), half.to_f32().to_bits(), "{half}");
            }
        }
    }

    #[test]
    fn a_vector_that_has_no_direction_or_the_wrong_width_is_refused() {
        assert!(matches!(normalised(&[1.0], 2), Err(VectorError::Width { expected: 2, actual: 1 })));
        assert!(matches!(normalised(&[0.0, 0.0], 2), Err(VectorError::Zero)));
        assert!(matches!(normalised(&[1.0, f32::NAN], 2), Err(VectorError::NotFinite { position: 1 })));
        assert!(matches!(normalised(&[f32::INFINITY, 1.0], 2), Err(VectorError::NotFinite { position: 0 })));
    }

    #[test]
    fn very_large_and_very_small_vectors_have_length_one_after_normalising() {
        for size in [f32::MAX, 1e-38, 1.0] {
            assert_eq!(normalised(&[size, 0.0, 0.0], 3).unwrap(), [1.0, 0.0, 0.0]);
        }
    }

    proptest! {
        #[test]
        fn the_product_is_that_of_plain_arithmetic(
            pairs in proptest::collection::vec((-1.0..1.0_f32, -1.0..1.0_f32), 1..100),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let row = to_row(&b);
            let plain: f64 = a.iter().zip(&row).map(|(&a, b)| f64::from(a) * b.to_f64()).sum();
            prop_assert!((f64::from(Probe::new(&a).dot(&row)) - plain).abs() < 1e-4);
            let squared: f64 = row.iter().map(|b| b.to_f64() * b.to_f64()).sum();
            prop_assert!((f64::from(Probe::of_row(&row).dot(&row)) - squared).abs() < 1e-4);
        }
    }
}

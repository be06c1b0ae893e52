//! How vectors are compared, and what is done to them first.

use half::f16;

use super::VectorError;

/// What makes two vectors near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// A small angle: only directions count. Vectors are kept at length 1.
    #[default]
    Cosine,
    /// A small distance. Vectors are kept as they are, so their numbers must be ones that half precision has: up to
    /// 65,504, and down to 0.00006, below which they are 0.
    Euclidean,
}

impl Metric {
    /// The vector as it is compared, if it has `dimensions` finite numbers, and a direction if only that counts.
    pub fn prepared(self, vector: &[f32], dimensions: usize) -> Result<Vec<f32>, VectorError> {
        if vector.len() != dimensions {
            return Err(VectorError::Width { expected: dimensions, actual: vector.len() });
        }
        let largest = match self {
            Self::Cosine => f32::MAX,
            Self::Euclidean => f16::MAX.to_f32(),
        };
        if let Some(position) = vector.iter().position(|value| value.is_nan() || value.abs() > largest) {
            return Err(VectorError::NotFinite { position });
        }
        if self == Self::Euclidean {
            return Ok(vector.to_vec());
        }
        let length = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
        if length <= 0.0 {
            return Err(VectorError::Zero);
        }
        Ok(vector.iter().map(|&value| (f64::from(value) / length) as f32).collect())
    }

    /// What is taken off an inner product for each of its two vectors, so that the largest is the nearest: half of the
    /// squared length if distances count, since (a - b)² = a² + b² - 2ab.
    pub fn offset(self, vector: impl Iterator<Item = f64>) -> f32 {
        match self {
            Self::Cosine => 0.0,
            Self::Euclidean => (vector.map(|value| value * value).sum::<f64>() / 2.0) as f32,
        }
    }

    /// What is told of a product after offsets: the cosine, or the distance with a minus sign.
    pub fn similarity(self, score: f32) -> f32 {
        match self {
            Self::Cosine => score.clamp(-1.0, 1.0), // rounding
            Self::Euclidean => -(-2.0 * score).max(0.0).sqrt(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_has_no_direction_or_the_wrong_width_is_refused() {
        let prepared = |vector: &[f32]| Metric::Cosine.prepared(vector, 2);
        assert!(matches!(prepared(&[1.0]), Err(VectorError::Width { expected: 2, actual: 1 })));
        assert!(matches!(prepared(&[0.0, 0.0]), Err(VectorError::Zero)));
        assert!(matches!(prepared(&[1.0, f32::NAN]), Err(VectorError::NotFinite { position: 1 })));
        assert!(matches!(prepared(&[f32::INFINITY, 1.0]), Err(VectorError::NotFinite { position: 0 })));
    }

    #[test]
    fn where_distances_count_vectors_stay_as_they_are_within_half_precision() {
        let prepared = |vector: &[f32]| Metric::Euclidean.prepared(vector, 2);
        assert_eq!(prepared(&[0.0, 0.0]).unwrap(), [0.0, 0.0]);
        assert_eq!(prepared(&[255.0, -65_504.0]).unwrap(), [255.0, -65_504.0]);
        assert!(matches!(prepared(&[1.0, 70_000.0]), Err(VectorError::NotFinite { position: 1 })));
        assert!(matches!(prepared(&[f32::NAN, 1.0]), Err(VectorError::NotFinite { position: 0 })));
    }

    #[test]
    fn very_large_and_very_small_vectors_have_length_one_where_directions_count() {
        for size in [f32::MAX, 1e-38, 1.0] {
            assert_eq!(Metric::Cosine.prepared(&[size, 0.0, 0.0], 3).unwrap(), [1.0, 0.0, 0.0]);
        }
    }
}

//! What networks for pictures have in common.

use candle_core::{Result, Tensor};

use crate::training::Mode;

/// A network that sees pictures.
pub trait PictureNetwork: Send + Sync {
    /// The embedding of each picture, f32 `[pictures, dimensions]`, for pictures f32 `[pictures, height, width, channels]` with numbers from
    /// 0 to 1.
    ///
    /// # Errors
    /// The pictures have other channels or are too small, or the device failed.
    fn embed(&self, pictures: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// The logarithm of each class's chance, up to a constant, f32 `[pictures, classes]`, from embeddings.
    ///
    /// # Errors
    /// The device failed.
    fn logits(&self, embeddings: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// Length of an embedding.
    fn dimensions(&self) -> usize;
}

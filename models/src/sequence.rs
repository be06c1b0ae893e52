//! What networks for sequences have in common: histories of item ids in, and from each of their items a vector out that is
//! near the vectors of the items which may come next.

use candle_core::{DType, Device, Result, Tensor};

use crate::training::Mode;

/// The id that is no item. Histories of different lengths begin with it.
pub const PADDING: u32 = 0;

/// A network that reads histories.
pub trait SequenceNetwork: Send + Sync {
    /// From ids u32 `[rows, length]`, each row padded at its beginning, to vectors f32 `[rows, length, width]`. What comes out for
    /// padding has no meaning.
    ///
    /// # Errors
    /// An id is no item, the histories are too long, or the device failed.
    fn forward(&self, ids: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor>;

    /// The vectors of all items, of id 1 first: f32 `[items, width]`. An inner product with one is the item's score.
    ///
    /// # Errors
    /// The device failed.
    fn items(&self) -> Result<Tensor>;
}

/// Histories as ids `[rows, length]`, of each the last `most` items, padded to the longest.
///
/// # Errors
/// There is none, or the device failed.
pub fn padded(histories: &[&[u32]], most: usize, device: &Device) -> Result<Tensor> {
    let ends: Vec<&[u32]> = histories.iter().map(|history| &history[history.len().saturating_sub(most)..]).collect();
    let length = ends.iter().map(|end| end.len()).max().unwrap_or(0).max(1);
    let padding = |end: &[u32]| std::iter::repeat_n(PADDING, length - end.len());
    let ids: Vec<u32> = ends.iter().flat_map(|end| padding(end).chain(end.iter().copied())).collect();
    Tensor::from_vec(ids, (ends.len(), length), device)
}

/// What comes next after histories, of each the last `most` items: a score for each item, of id 1 first; one row for each history, none
/// of them empty.
///
/// # Errors
/// An id is no item, or the device failed.
pub fn last_scores(
    network: &dyn SequenceNetwork,
    histories: &[&[u32]],
    most: usize,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    last_vectors(network, histories, most, device)?.matmul(&network.items()?.t()?)?.to_vec2()
}

/// What comes out for the last items: f32 `[histories, width]`.
pub(crate) fn last_vectors(
    network: &dyn SequenceNetwork,
    histories: &[&[u32]],
    most: usize,
    device: &Device,
) -> Result<Tensor> {
    let ids = padded(histories, most, device)?;
    let vectors = network.forward(&ids, &mut Mode::serving())?;
    vectors.narrow(1, ids.dim(1)? - 1, 1)?.squeeze(1)?.contiguous()
}

/// 1 for items and 0 for padding: f32, of the shape of the ids.
pub(crate) fn known(ids: &Tensor) -> Result<Tensor> {
    ids.ne(PADDING)?.to_dtype(DType::F32)
}

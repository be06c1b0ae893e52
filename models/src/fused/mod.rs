//! Operations with gradients of their own. With a tensor for each step of their formulas, `candle` would read and write their numbers five to
//! twenty times, and on a CPU that is most of the time that learning takes. On other devices they are those steps.

mod add_bias;
mod batch_norm;
mod layer_norm;
mod modulate;
mod rectify;
mod softmax;
mod times;

use std::ops::Range;

use candle_core::{CpuStorage, Layout, Result};
use rayon::prelude::*;

pub(crate) use add_bias::add_bias;
pub(crate) use batch_norm::{Moments, moments, normalize};
pub(crate) use layer_norm::layer_norm;
pub(crate) use modulate::modulate;
pub(crate) use rectify::{Rectify, rectify};
pub(crate) use softmax::masked_softmax;
pub(crate) use times::times;

/// Numbers that one thread takes at a time.
pub(crate) const BLOCK: usize = 1 << 14;

/// Sums are made of so many parts, whatever the number of threads is: the same numbers give the same sum.
const PARTS: usize = 8;

/// A tensor's numbers, which must lie together.
pub(crate) fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice()?[from..to]),
        None => candle_core::bail!("a tensor is not contiguous"),
    }
}

/// Adds up vectors of a length, to which each part of the rows adds its own.
pub(crate) fn sum_of_parts(rows: usize, length: usize, add: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    let part = rows.div_ceil(PARTS).max(1);
    let parts: Vec<Range<usize>> = (0..rows).step_by(part).map(|first| first..(first + part).min(rows)).collect();
    let sums = parts.into_par_iter().map(|part| {
        let mut sum = vec![0.0; length];
        add(part, &mut sum);
        sum
    });
    let sums: Vec<Vec<f32>> = sums.collect();
    let mut total = vec![0.0; length];
    total.par_chunks_mut(BLOCK).enumerate().for_each(|(place, total)| {
        for sum in &sums {
            total.iter_mut().zip(&sum[place * BLOCK..]).for_each(|(total, sum)| *total += sum);
        }
    });
    total
}

/// The sum of each column.
fn sum_of_rows(rows: &[f32], columns: usize) -> Vec<f32> {
    sum_of_parts(rows.len() / columns.max(1), columns, |part, sum| {
        for row in rows[part.start * columns..part.end * columns].chunks_exact(columns) {
            sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
        }
    })
}

/// So many whole rows of a length make a block.
fn rows_of_block(length: usize) -> usize {
    (BLOCK / length.max(1)).max(1)
}

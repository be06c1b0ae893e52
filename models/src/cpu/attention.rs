//! "Attention Is All You Need" (<https://arxiv.org/abs/1706.03762>), section 3.2: one head over one row's tokens.

use std::ops::Range;

use super::finish::{Activation, Store};
use super::kernels::Kernels;
use super::linear::{MOST_SUMS, tiles};
use super::shared::Part;
use super::softmax::Softmax;
use super::tile::Tile;

/// What a thread needs beside the projections; kept from head to head.
pub(super) struct Attention<K: Kernels> {
    /// Keys in panels: a column a key.
    keys: Vec<K::Unit>,
    /// Values in panels: a column a number, a step for [`Kernels::DEPTH`] tokens.
    values: Vec<K::Unit>,
    /// f32 `[panels, ROWS, WIDTH]`.
    scores: Vec<f32>,
    /// `[ROWS, stride]`.
    weights: Vec<K::Unit>,
    shares: Vec<f32>,
}

/// A head's queries, keys and values within the projections of a row's tokens.
pub(super) struct Head<'a, K: Kernels> {
    /// `[tokens, stride]`: queries of all heads, then keys, then values.
    pub(super) projections: &'a [K::Unit],
    pub(super) stride: usize,
    /// Where the head's queries, keys and values begin, in units.
    pub(super) starts: [usize; 3],
    /// Numbers of a head.
    pub(super) size: usize,
}

impl<K: Kernels> Attention<K> {
    pub(super) fn new() -> Self {
        let (keys, values, scores, weights) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { keys, values, scores, weights, shares: vec![0.0; K::ROWS] }
    }

    /// `softmax(queries · keysᵀ / sqrt(size)) · values`, a row of units for each token. `place` gives that of some tokens'
    /// units from a column of the head on, and what makes units.
    pub(super) fn run<'a, U: Kernels<Vector = K::Vector>>(
        &mut self,
        kernels: K,
        head: &Head<'_, K>,
        mut place: impl FnMut(Range<usize>, usize) -> (Part<'a, U::Unit>, Option<&'a [f32]>),
    ) {
        let tokens = head.projections.len() / head.stride;
        self.pack(head, tokens);
        let key_panels = tokens.div_ceil(K::WIDTH);
        let (key_steps, value_steps) = (head.size / K::DEPTH, tokens.div_ceil(K::DEPTH));
        let stride = key_panels * K::WIDTH / K::DEPTH;
        let scale = 1.0 / (head.size as f32).sqrt();
        let mut sums = [0.0; MOST_SUMS];
        for rows in tiles(0..tokens, K::ROWS) {
            let count = rows.len();
            let queries = &head.projections[rows.start * head.stride + head.starts[0]..];
            for (panel, out) in self
                .keys
                .chunks_exact(key_steps * K::WIDTH)
                .zip(self.scores.chunks_exact_mut(K::ROWS * K::WIDTH))
                .take(key_panels)
            {
                kernels.product(Tile { rows: queries, stride: head.stride, count, panel, out, soon: &[] });
            }
            kernels.run(Softmax::<K> {
                scores: &self.scores,
                keys: tokens,
                scale,
                rows: count,
                to: &mut self.weights,
                stride,
                shares: &mut self.shares,
            });
            let value_panels = self.values.chunks_exact(value_steps * K::WIDTH).take(head.size.div_ceil(K::WIDTH));
            for (panel, units) in value_panels.enumerate() {
                let columns = (head.size - panel * K::WIDTH).min(K::WIDTH);
                kernels.product(Tile { rows: &self.weights, stride, count, panel: units, out: &mut sums, soon: &[] });
                let (to, grid) = place(rows.clone(), panel * K::WIDTH);
                kernels.run(Store::<U> {
                    sums: &sums,
                    scale: Some(&self.shares),
                    factors: None,
                    bias: None,
                    activation: Activation::Identity,
                    grid,
                    to,
                    columns,
                });
            }
        }
    }

    /// Brings keys and values into panels.
    fn pack(&mut self, head: &Head<'_, K>, tokens: usize) {
        let (key_panels, value_panels) = (tokens.div_ceil(K::WIDTH), head.size.div_ceil(K::WIDTH));
        let (key_steps, value_steps) = (head.size / K::DEPTH, tokens.div_ceil(K::DEPTH));
        make_room(&mut self.keys, key_panels * key_steps * K::WIDTH);
        make_room(&mut self.values, value_panels * value_steps * K::WIDTH);
        make_room(&mut self.scores, key_panels * K::ROWS * K::WIDTH);
        make_room(&mut self.weights, K::ROWS * key_panels * K::WIDTH / K::DEPTH);
        let rows =
            |start: usize| head.projections.chunks_exact(head.stride).map(move |row| &row[start..start + key_steps]);
        for (key, units) in rows(head.starts[1]).enumerate() {
            let start = key / K::WIDTH * key_steps * K::WIDTH + key % K::WIDTH;
            for (to, unit) in self.keys[start..].iter_mut().step_by(K::WIDTH).zip(units) {
                *to = *unit;
            }
        }
        let values: Vec<&[K::Unit]> = rows(head.starts[2]).collect();
        for (step, rows) in values.chunks(K::DEPTH).enumerate() {
            for panel in 0..value_panels {
                let columns = panel * K::WIDTH..((panel + 1) * K::WIDTH).min(head.size);
                let to = &mut self.values[(panel * value_steps + step) * K::WIDTH..][..columns.len()];
                let units = columns.start / K::DEPTH..columns.end / K::DEPTH;
                match *rows {
                    [first, second] => K::across(&[&first[units.clone()], &second[units]], to),
                    [first] => K::across(&[&first[units]], to),
                    _ => {}
                }
            }
        }
    }
}

fn make_room<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}

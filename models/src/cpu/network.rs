//! The layers of BERT over ragged rows, on the kernels of one instruction set.

use std::ops::Range;

use super::attention::{Attention, Head};
use super::finish::{Activation, Add, Store};
use super::grid::Grid;
use super::kernels::Kernels;
use super::linear::{Linear, Product};
use super::norm::{Norm, NormWeights};
use super::shared::{Part, Shared};
use super::team::{Broken, Member};

/// The network's sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Length of a token's vector.
    pub(super) hidden: usize,
    /// Width of the feed-forward layer.
    pub(super) intermediate: usize,
    pub(super) heads: usize,
}

/// The weights.
pub(super) struct Network<K: Kernels> {
    pub(super) kernels: K,
    pub(super) sizes: Sizes,
    pub(super) embeddings: Embeddings,
    pub(super) layers: Vec<Layer<K>>,
}

/// What tokens start with: f32 `[…, hidden]`.
pub(super) struct Embeddings {
    pub(super) words: Vec<f32>,
    /// The type's vector is in each.
    pub(super) positions: Vec<f32>,
    pub(super) norm: NormWeights,
}

pub(super) struct Layer<K: Kernels> {
    /// Queries, keys and values of all heads in one product.
    pub(super) projections: Linear<K>,
    /// For what the heads make.
    pub(super) heads_grid: Grid,
    pub(super) attention: Linear<K>,
    pub(super) attention_norm: NormWeights,
    pub(super) intermediate: Linear<K>,
    /// For what that makes.
    pub(super) intermediate_grid: Grid,
    pub(super) output: Linear<K>,
    pub(super) output_norm: NormWeights,
}

/// What is between layers, for all tokens of a block. Kept from pass to pass.
pub(super) struct Between<K: Kernels> {
    /// The tokens' vectors, to which each layer adds.
    pub(super) vectors: Shared<f32>,
    /// What the next product takes: the vectors, or what the heads made.
    units: Shared<K::Unit>,
    projections: Shared<<K::Attention as Kernels>::Unit>,
    intermediate: Shared<K::Unit>,
}

impl<K: Kernels> Between<K> {
    pub(super) fn new(sizes: Sizes) -> Self {
        let units = |numbers: usize| Shared::new(numbers.div_ceil(K::DEPTH));
        Self {
            vectors: Shared::new(sizes.hidden),
            units: units(sizes.hidden),
            projections: Shared::new(3 * sizes.hidden / K::Attention::DEPTH),
            intermediate: units(sizes.intermediate),
        }
    }

    pub(super) fn make_room(&mut self, tokens: usize) {
        self.vectors.make_room(tokens);
        self.units.make_room(tokens);
        self.projections.make_room(tokens);
        self.intermediate.make_room(tokens);
    }
}

/// Rows of token ids, each known to the network.
pub(super) type Rows<'a> = [&'a [u32]];

/// A member's view of a pass: all members of the team call the same functions with the same arguments.
///
/// SAFETY of the blocks below: members write different rows, different panels' columns or different heads' columns, as
/// [`Member::share`] hands them out, and read what others wrote in steps that are over.
struct Pass<'a, K: Kernels> {
    network: &'a Network<K>,
    between: &'a Between<K>,
    tokens: Range<usize>,
    member: &'a Member<'a>,
}

impl<K: Kernels> Network<K> {
    /// Takes rows through all layers. [`Between::vectors`] then hold the tokens' vectors, end to end, and there was room
    /// made for them.
    pub(super) fn forward(
        &self,
        rows: &Rows<'_>,
        between: &Between<K>,
        attention: &mut Attention<K::Attention>,
        member: &Member<'_>,
    ) -> Result<(), Broken> {
        let tokens = 0..rows.iter().map(|row| row.len()).sum();
        let pass = Pass { network: self, between, tokens, member };
        pass.embed(rows)?;
        for layer in &self.layers {
            pass.project(&layer.projections)?;
            pass.attend(rows, &layer.heads_grid, attention)?;
            pass.add(&layer.attention, &between.units)?;
            pass.normalize(&layer.attention_norm)?;
            pass.expand(&layer.intermediate, &layer.intermediate_grid)?;
            pass.add(&layer.output, &between.intermediate)?;
            pass.normalize(&layer.output_norm)?;
        }
        Ok(())
    }

    /// How many steps [`Self::forward`] has for members of a team.
    pub(super) fn steps(&self) -> usize {
        1 + 7 * self.layers.len()
    }
}

impl<K: Kernels> Pass<'_, K> {
    fn embed(&self, rows: &Rows<'_>) -> Result<(), Broken> {
        let embeddings = &self.network.embeddings;
        let hidden = self.network.sizes.hidden;
        let vector = |index: usize| index * hidden..(index + 1) * hidden;
        self.member.share(self.tokens.clone(), |mine| {
            let tokens = rows.iter().flat_map(|row| row.iter().enumerate());
            for (token, (position, &id)) in tokens.enumerate().skip(mine.start).take(mine.len()) {
                // SAFETY: see `Pass`.
                let to = unsafe { self.between.vectors.row_mut(token) };
                let word = &embeddings.words[vector(id as usize)];
                let position = &embeddings.positions[vector(position)];
                for ((to, word), position) in to.iter_mut().zip(word).zip(position) {
                    *to = word + position;
                }
            }
            self.normalize_rows(&embeddings.norm, mine);
        })
    }

    fn normalize(&self, weights: &NormWeights) -> Result<(), Broken> {
        self.member.share(self.tokens.clone(), |mine| self.normalize_rows(weights, mine))
    }

    fn normalize_rows(&self, weights: &NormWeights, mine: Range<usize>) {
        let (vectors, units) = (&self.between.vectors, &self.between.units);
        // SAFETY: see `Pass`.
        let (rows, units) =
            unsafe { (vectors.part(mine.clone(), 0..vectors.columns()), units.part(mine, 0..units.columns())) };
        self.network.kernels.run(Norm { weights, rows, units });
    }

    fn project(&self, linear: &Linear<K>) -> Result<(), Broken> {
        self.store::<K::Attention>(linear, &self.between.projections, &Grid::default(), Activation::Identity)
    }

    fn expand(&self, linear: &Linear<K>, grid: &Grid) -> Result<(), Broken> {
        self.store::<K>(linear, &self.between.intermediate, grid, Activation::Gelu)
    }

    /// Stores what a layer makes of the units as those of other kernels.
    fn store<U: Kernels<Vector = K::Vector>>(
        &self,
        linear: &Linear<K>,
        to: &Shared<U::Unit>,
        grid: &Grid,
        activation: Activation,
    ) -> Result<(), Broken> {
        let (kernels, from) = (self.network.kernels, &self.between.units);
        // SAFETY: see `Pass`.
        self.member.share(0..linear.panels(), |mine| unsafe {
            linear.apply(kernels, from, (self.tokens.clone(), mine), |product| {
                let Product { rows, columns, sums, factors, bias } = product;
                let units = columns.start / U::DEPTH..columns.end.div_ceil(U::DEPTH);
                let (factors, bias, grid) = (Some(factors), Some(bias), grid.from(columns.start));
                let (to, columns) = (to.part(rows, units), columns.len());
                kernels.run(Store::<U> { sums, scale: None, factors, bias, activation, grid, to, columns });
            });
        })
    }

    /// Adds a layer's outputs to the tokens' vectors.
    fn add(&self, linear: &Linear<K>, from: &Shared<K::Unit>) -> Result<(), Broken> {
        let kernels = self.network.kernels;
        // SAFETY: see `Pass`.
        self.member.share(0..linear.panels(), |mine| unsafe {
            linear.apply(kernels, from, (self.tokens.clone(), mine), |product| {
                let Product { rows, columns, sums, factors, bias } = product;
                kernels.run(Add { sums, factors, bias, to: self.between.vectors.part(rows, columns) });
            });
        })
    }

    fn attend(&self, rows: &Rows<'_>, grid: &Grid, attention: &mut Attention<K::Attention>) -> Result<(), Broken> {
        let Sizes { hidden, heads, .. } = self.network.sizes;
        let (size, projections) = (hidden / heads, &self.between.projections);
        let kernels = self.network.kernels.attention();
        self.member.share(0..rows.len() * heads, |mine| {
            let mut start = 0;
            for (row, ids) in rows.iter().enumerate() {
                let tokens = start..start + ids.len();
                start = tokens.end;
                let all = row * heads..(row + 1) * heads;
                for head in mine.start.max(all.start)..mine.end.min(all.end) {
                    let head = head - all.start;
                    let starts = [0, 1, 2].map(|part| (part * hidden + head * size) / K::Attention::DEPTH);
                    let place = |rows: Range<usize>, column: usize| -> (Part<'_, K::Unit>, Option<&[f32]>) {
                        let rows = tokens.start + rows.start..tokens.start + rows.end;
                        let columns = head * size + column..(head + 1) * size;
                        let units = columns.start / K::DEPTH..columns.end / K::DEPTH;
                        // SAFETY: see `Pass`.
                        (unsafe { self.between.units.part(rows, units) }, grid.from(columns.start))
                    };
                    // SAFETY: see `Pass`.
                    let projected = unsafe { projections.rows(tokens.clone()) };
                    let stride = projections.columns();
                    attention.run::<K>(kernels, &Head { projections: projected, stride, starts, size }, place);
                }
            }
        })
    }
}

//! "Session-based Recommendations with Recurrent Neural Networks" (Hidasi et al. 2016, <https://arxiv.org/abs/1511.06939>): a
//! recurrent network over a history, whose state after each item scores what comes next.
//!
//! Items have embeddings that are shared between input and output, as Hidasi & Karatzoglou (2018,
//! <https://arxiv.org/abs/1706.03847>) do with "constrained embeddings"; a linear layer brings the state to their length. The cell is a
//! GRU (Cho et al. 2014), or an LSTM (Hochreiter & Schmidhuber 1997).

use candle_core::{Result, Tensor};
use candle_nn::rnn::{GRUConfig, GRUState, LSTMConfig, LSTMState};
use candle_nn::{Embedding, GRU, LSTM, Module as _, RNN as _, VarBuilder, embedding, gru, lstm};
use serde::{Deserialize, Serialize};

use crate::linear::Linear;
use crate::sequence::{PADDING, SequenceNetwork, known};
use crate::training::Mode;

/// The network's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gru4RecConfig {
    /// Number of items; their ids are 1 to that.
    pub items: usize,
    /// The longest history that is looked at.
    pub max_length: usize,
    /// Length of an item's vector.
    pub hidden: usize,
    /// Length of the state.
    pub state: usize,
    /// The recurrent cell.
    #[serde(default)]
    pub cell: CellKind,
    /// The part of the numbers that is dropped while learning.
    pub dropout: f32,
}

/// A recurrent cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Gated recurrent unit.
    #[default]
    Gru,
    /// Long short-term memory.
    Lstm,
}

/// The network.
pub struct Gru4Rec {
    config: Gru4RecConfig,
    items: Embedding,
    cell: Cell,
    output: Linear,
}

enum Cell {
    Gru(GRU),
    Lstm(LSTM),
}

impl Gru4Rec {
    /// The network with weights from `weights`, which may be variables to learn.
    ///
    /// # Errors
    /// A weight is missing or has another shape.
    pub fn new(config: Gru4RecConfig, weights: &VarBuilder<'_>) -> Result<Self> {
        let Gru4RecConfig { items, hidden, state, cell, .. } = config;
        let recurrent = weights.pp("cell");
        let cell = match cell {
            CellKind::Gru => Cell::Gru(gru(hidden, state, GRUConfig::default(), recurrent)?),
            CellKind::Lstm => Cell::Lstm(lstm(hidden, state, LSTMConfig::default(), recurrent)?),
        };
        let items = embedding(items + 1, hidden, weights.pp("items"))?;
        Ok(Self { items, cell, output: Linear::quick(state, hidden, &weights.pp("output"))?, config })
    }
}

impl SequenceNetwork for Gru4Rec {
    fn forward(&self, ids: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let embedded = mode.dropout(&self.items.forward(ids)?, self.config.dropout)?;
        let states = self.cell.states(&embedded, &known(ids)?)?;
        self.output.forward(&mode.dropout(&states, self.config.dropout)?)
    }

    fn items(&self) -> Result<Tensor> {
        self.items.embeddings().narrow(0, PADDING as usize + 1, self.config.items)
    }
}

impl Cell {
    /// The states after each item, f32 `[rows, length, state]`. Padding leaves the state what it is at first.
    fn states(&self, items: &Tensor, known: &Tensor) -> Result<Tensor> {
        let (rows, length, _) = items.dims3()?;
        let at = |place: usize| items.narrow(1, place, 1)?.squeeze(1)?.contiguous();
        let mut states = Vec::with_capacity(length);
        match self {
            Self::Gru(cell) => {
                let mut state = cell.zero_state(rows)?;
                for place in 0..length {
                    let after = cell.step(&at(place)?, &state)?;
                    state = GRUState { h: after.h.broadcast_mul(&known.narrow(1, place, 1)?)? };
                    states.push(state.h.clone());
                }
            }
            Self::Lstm(cell) => {
                let mut state = cell.zero_state(rows)?;
                for place in 0..length {
                    let (after, known) = (cell.step(&at(place)?, &state)?, known.narrow(1, place, 1)?);
                    state = LSTMState { h: after.h.broadcast_mul(&known)?, c: after.c.broadcast_mul(&known)? };
                    states.push(state.h.clone());
                }
            }
        }
        Tensor::stack(&states, 1)
    }
}

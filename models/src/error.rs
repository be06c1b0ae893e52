//! Everything that can go wrong with a model, each with what the caller can do about it.

use std::path::PathBuf;

use crate::DeviceSpec;

/// Why a model could not be loaded, checked or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the version cannot be read: put it there, or make it readable.
    #[error("cannot read {}: {source}{hint}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What the file is for or how to get it; empty, or starts with `; `.
        hint: &'static str,
    },
    /// A file of the version is damaged or contradicts another one: publish the version again from its source.
    #[error("{} is not as it should be: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The version asks for something this build cannot run.
    #[error("{} asks for {what}, which is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file that asks for it.
        path: PathBuf,
        /// What it asks for.
        what: String,
        /// What it could ask for instead.
        supported: &'static str,
    },
    /// The text names no device.
    #[error("`{0}` names no device; use `cpu`, or `cuda:N` with N counted from 0, e.g. `cuda:0`")]
    DeviceName(String),
    /// The device cannot be opened: correct the configuration, or the machine's driver.
    #[error("cannot open device `{device}`: {reason}")]
    Device {
        /// The device asked for.
        device: DeviceSpec,
        /// Why it did not open, and what to do.
        reason: String,
    },
    /// The environment names an instruction set that cannot be used: correct it, or leave the choice open.
    #[error("VITRINE_CPU_ISA: `{name}` {reason}; use one of {available}, or unset it for the quickest of them")]
    Isa {
        /// What the variable says.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// The instruction sets that this CPU has.
        available: String,
    },
    /// The environment names no precision: correct it, or leave the choice open.
    #[error("VITRINE_CUDA_PRECISION: `{0}` is no precision; use one of f32, f16, bf16, or unset it for f32")]
    Precision(String),
    /// The threads that share the work do not start: allow the process more of them.
    #[error("cannot start threads: {0}")]
    Threads(#[source] std::io::Error),
    /// The tokenizer failed on a text.
    #[error("the tokenizer failed on this text: {0}")]
    Tokenize(String),
    /// A row without tokens has no embedding. Even the empty text has special tokens: make rows with the tokenizer.
    #[error("row {row} has no tokens")]
    EmptyRow {
        /// Position among the rows, from 0.
        row: usize,
    },
    /// A row has more tokens than the network has positions: make rows with the tokenizer, which truncates.
    #[error("row {row} has {tokens} tokens; the model takes at most {limit}")]
    LongRow {
        /// Position among the rows, from 0.
        row: usize,
        /// Its length.
        tokens: usize,
        /// The network's number of positions.
        limit: usize,
    },
    /// A token id is outside the vocabulary: the row was made with another version's tokenizer.
    #[error("row {row} holds token id {id}; the model's vocabulary has {vocabulary}")]
    UnknownToken {
        /// Position among the rows, from 0.
        row: usize,
        /// The id.
        id: u32,
        /// Number of tokens the network knows.
        vocabulary: usize,
    },
    /// The network answered with NaN or an infinity: its weights are damaged.
    #[error("the embedding of row {row} is not finite; the weights are damaged")]
    NotFinite {
        /// Position among the rows, from 0.
        row: usize,
    },
    /// The device failed while running, for example out of memory: the batch failed, smaller ones may not.
    #[error("the device failed: {0}")]
    Run(#[from] candle_core::Error),
    /// The golden rows come out differently: weights, configuration or code are not those that recorded them.
    #[error(
        "row {row} of {} comes out {difference:e} away from its recording, more than {tolerance:e}; \
         do not serve this version: its weights or its configuration are not the ones that were published",
        path.display()
    )]
    Golden {
        /// The recording.
        path: PathBuf,
        /// Row with the largest difference, from 0.
        row: usize,
        /// Largest absolute difference of one element.
        difference: f32,
        /// Largest difference allowed.
        tolerance: f32,
    },
}

impl ModelError {
    /// A damaged or contradictory file.
    pub(crate) fn format(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::Format { path: path.into(), reason: reason.to_string() }
    }
}

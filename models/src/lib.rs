//! The networks Vitrine serves: loading one from a version's directory, turning text into rows, running rows.
//!
//! ```text
//! text ── Tokenizer ──▶ Row ─┐
//! text ── Tokenizer ──▶ Row ─┴▶ Ragged ── TextEncoder::embed ──▶ one vector a row
//! ```
//!
//! - [`Tokenizer`]: text to token ids, as the version's `tokenizer.json` says; shared by any number of threads.
//! - [`Ragged`]: rows of different lengths, end to end.
//! - [`TextEncoder`]: a loaded version of task `text-embedding`; kinds: `bert`.
//! - [`SequenceModel`]: a loaded version of task `sequence-recommendation`; kinds: `sasrec` ([`SasRec`]), `gru4rec` ([`Gru4Rec`]).
//! - [`ClickModel`]: a loaded version of task `ctr-ranking`, over [`Fields`]; kinds: `deepfm` ([`DeepFm`]), `dcn-v2` ([`DcnV2`]).
//! - [`Feature`]: what such a network may look at when an item is proposed to somebody, the same for examples and for serving.
//! - [`PictureModel`]: a loaded version of task `image-embedding`; kinds: `cnn` ([`Cnn`]), `efficientnet-lite` ([`EfficientNetLite`]).
//! - [`decode_picture`], [`pixels`]: from a picture's file to what such a network sees.
//! - [`PictureGenerator`]: a loaded version of task `image-generation`, kind `cgan` ([`Generator`], [`Discriminator`]); [`KnownPictures`]: what
//!   it has learnt from, so that copies are known.
//! - [`Diffusion`]: the same task, kind `stable-diffusion`: a folder of diffusers, run step by step from what [`DiffusionStart`] begins with.
//! - [`SequenceNetwork`], [`ClickNetwork`], [`PictureNetwork`]: the same networks, to learn as well; [`Mode`], [`start`], [`cross_entropy`]: what they need for it.
//! - [`write_golden`], [`check_golden`]: recorded rows that prove a loaded version computes what it should.
//! - [`Products`]: inner products of a vector with many stored ones, on the same instruction sets.
//! - [`resting`]: loading that leaves time to those who serve.
//! - [`DeviceSpec`]: where a version runs, `cpu` or `cuda:N`; [`Backend`], [`Isa`], [`Precision`]: on what.
//!
//! What this crate leaves to its neighbours: which version to load and whether its files are whole
//! (`vitrine-registry`), and which rows run together and when (the server's batcher, helped by
//! [`TextEncoder::cost`]).

mod adamw;
mod backend;
mod batch_norm;
mod bert;
mod buckets;
mod cgan;
mod click_model;
mod cnn;
mod convolution;
mod cpu;
mod dcn_v2;
mod deepfm;
mod device;
mod diffusion;
mod efficientnet_lite;
mod error;
mod features;
mod fields;
mod files;
mod fused;
mod golden;
mod gru4rec;
mod head;
mod known_pictures;
mod linear;
mod losses;
mod padded_bert;
mod perceptron;
mod picture;
mod picture_file;
mod picture_generator;
mod picture_model;
mod pooling;
mod precision;
mod ragged;
mod rest;
mod sasrec;
mod sequence;
mod sequence_model;
mod spectral;
mod text_encoder;
mod tokenizer;
mod training;
mod weights;

pub use adamw::AdamW;
pub use backend::Backend;
pub use cgan::{CganConfig, Discriminator, GanLayers, GanLoss, Generator};
pub use click_model::{ClickModel, ClickSpec};
pub use cnn::{Cnn, CnnConfig};
pub use cpu::{Isa, Products};
pub use dcn_v2::{DcnV2, DcnV2Config};
pub use deepfm::{DeepFm, DeepFmConfig};
pub use device::DeviceSpec;
pub use diffusion::{Denoising, Diffusion, DiffusionStart, DiffusionWish, PromptTokens};
pub use efficientnet_lite::{EfficientNetLite, EfficientNetLiteConfig};
pub use error::ModelError;
pub use features::{Column, Feature, MOST_MET, Moment, UnknownFeature, is_met, person};
pub use fields::{ClickNetwork, Encoded, Examples, Field, FieldError, FieldKind, Fields, Value};
pub use golden::{GoldenCheck, check_golden, golden_tolerance, write_golden};
pub use gru4rec::{CellKind, Gru4Rec, Gru4RecConfig};
pub use known_pictures::KnownPictures;
pub use losses::{cross_entropy, cross_entropy_of_odds};
pub use picture::PictureNetwork;
pub use picture_file::{PictureError, check_picture, decode_picture, pixels};
pub use picture_generator::{GeneratorSpec, PictureGenerator, Wish};
pub use picture_model::{PictureModel, PictureSpec, Seen};
pub use precision::Precision;
pub use ragged::{Ragged, Row};
pub use rest::resting;
pub use sasrec::{SasRec, SasRecConfig};
pub use sequence::{PADDING, SequenceNetwork, last_scores, padded};
pub use sequence_model::{SequenceModel, SequenceSpec};
pub use text_encoder::TextEncoder;
pub use tokenizer::Tokenizer;
pub use training::{Mode, by_name, glorot, start};

//! Learns the networks of a shop from what its users did, and measures how good they are. The command `vitrine-trainer` is made of it.
//!
//! - [`train_sequence`] learns what comes next in histories ([`Sequences`]): kinds `sasrec` and `gru4rec`.
//! - [`train_clicks`] learns what will be clicked on ([`Clicks`]): kinds `deepfm` and `dcn-v2`, and the baselines `fm` and `lr`.
//! - [`train_pictures`] learns classes of pictures ([`Pictures`]): kinds `cnn` and `efficientnet-lite`.
//! - [`train_gan`] learns to make new pictures of each class: kind `cgan`.
//! - [`Prepare`], [`PrepareClicks`], [`Train`], [`Evaluate`], [`Publish`], [`Golden`] and [`Loop`] are the subcommands.
//!
//! A folder that was learnt into holds the best weights, what is needed to serve them, the figures, and a checkpoint: learning into it again goes on
//! from there. Every random choice comes from a seed, and the same seed gives the same weights on one machine.

mod baselines;
mod click_metrics;
mod clicks;
mod concurrent;
mod evaluate;
mod gan_metrics;
mod golden;
mod interactions;
mod judge;
mod judgments;
mod learning_loop;
mod metrics;
mod picture_metrics;
mod pictures;
mod prepare;
mod print;
mod publish;
mod reliability;
mod sequences;
mod text_file;
mod train;
mod vary;

pub use click_metrics::ClickScores;
pub use clicks::{ClickFiles, Clicks, Look};
pub use evaluate::Evaluate;
pub use gan_metrics::GanScores;
pub use golden::Golden;
pub use interactions::{Interaction, read as read_interactions};
pub use judge::Judge;
pub use learning_loop::Loop;
pub use metrics::Mean;
pub use picture_metrics::PictureScores;
pub use pictures::{Labelled, PictureFiles, Pictures};
pub use prepare::{Prepare, PrepareClicks};
pub use publish::{Gate, Publish};
pub use sequences::{Case, Sequences, Split};
pub use train::{
    Augment, ClickConfig, ClickKind, ClickReport, GanConfig, GanReport, Learning, Parent, PictureConfig, PictureKind,
    PictureReport, Ranked, SequenceConfig, SequenceKind, SequenceReport, Train, train_clicks, train_gan,
    train_pictures, train_sequence,
};
pub use vary::Vary;

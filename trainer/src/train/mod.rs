//! `vitrine-trainer train`: learns a network from what users did.

mod augment;
mod checkpoint;
mod click;
mod click_config;
mod curve;
pub(crate) mod fit;
mod gan;
mod gan_config;
mod halves;
pub(crate) mod learning;
pub(crate) mod learnt;
mod negatives;
mod optimizer;
mod parent;
mod picture;
mod picture_config;
pub(crate) mod ranking;
mod sequence;
mod sequence_config;

use anyhow::Result;
use clap::Subcommand;

pub use augment::Augment;
pub use click::{ClickReport, train_clicks};
pub use click_config::{ClickConfig, ClickKind};
pub use gan::{GanReport, train_gan};
pub use gan_config::GanConfig;
pub use learning::Learning;
pub use parent::Parent;
pub use picture::{PictureReport, train_pictures};
pub use picture_config::{PictureConfig, PictureKind};
pub use ranking::Ranked;
pub use sequence::{SequenceReport, train_sequence};
pub use sequence_config::{SequenceConfig, SequenceKind};

/// What to learn.
#[derive(Debug, Subcommand)]
pub enum Train {
    /// SASRec, a transformer over histories: what a user does next, beside Pop, Markov and item-kNN
    Sasrec(sequence::Arguments),
    /// GRU4Rec, a recurrent network over histories: what a user does next, beside Pop, Markov and item-kNN
    Gru4rec(sequence::Arguments),
    /// DeepFM, a factorisation machine and a network: what is clicked on, beside LR and FM
    Deepfm(click::Arguments),
    /// DCN V2, cross layers and a network: what is clicked on, beside LR and FM
    DcnV2(click::Arguments),
    /// A small residual network: classes of pictures, and embeddings by which pictures of the same class are near
    Cnn(picture::Arguments),
    /// EfficientNet-Lite0, whose weights come from ImageNet, finely tuned: the same
    EfficientnetLite(picture::Arguments),
    /// A generator and its discriminator: new pictures of each class
    Cgan(gan::Arguments),
}

impl Train {
    /// Learns, and prints how good it is.
    ///
    /// # Errors
    /// What it is to learn from, or the configuration, is not as it should be; or a folder cannot be written.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Sasrec(arguments) => sequence::run(&arguments, SequenceKind::Sasrec),
            Self::Gru4rec(arguments) => sequence::run(&arguments, SequenceKind::Gru4rec),
            Self::Deepfm(arguments) => click::run(&arguments, ClickKind::Deepfm),
            Self::DcnV2(arguments) => click::run(&arguments, ClickKind::DcnV2),
            Self::Cnn(arguments) => picture::run(&arguments, PictureKind::Cnn),
            Self::EfficientnetLite(arguments) => picture::run(&arguments, PictureKind::EfficientnetLite),
            Self::Cgan(arguments) => gan::run(&arguments),
        }
    }
}

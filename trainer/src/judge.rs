//! The network that tells how good made pictures are: one that knows the classes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use vitrine_models::{DeviceSpec, KnownPictures, PictureModel};

use crate::picture_metrics::look;
use crate::pictures::Labelled;
use crate::train::{fit::WEIGHTS, learnt::SPEC};

/// A network that knows the classes, and tells how good pictures are.
pub struct Judge {
    /// Where it was learnt into.
    pub folder: PathBuf,
    /// The network.
    pub model: PictureModel,
}

impl Judge {
    /// Loads it.
    ///
    /// # Errors
    /// The folder has no such network, or the device cannot be opened.
    pub fn load(folder: &Path, device: &DeviceSpec) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), model: PictureModel::load(folder, device)? })
    }

    /// Leaves itself and what it sees in pictures in a folder, so that a version can tell copies of them; `near` is the distance of what nearly is one.
    pub(crate) fn remember(&self, pictures: &Labelled, near: f64, out: &Path) -> Result<()> {
        let folder = out.join(KnownPictures::JUDGE);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for name in [SPEC, WEIGHTS] {
            let from = self.folder.join(name);
            fs::copy(&from, folder.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let embeddings: Vec<_> = look(&self.model, pictures)?.into_iter().map(|seen| seen.embedding).collect();
        KnownPictures::write(out, &embeddings, near as f32)?;
        Ok(())
    }
}

/// Refuses a judge of other pictures or classes.
pub fn check_judge(judge: &PictureModel, shape: [usize; 3], classes: &[String]) -> Result<()> {
    let judge = judge.spec();
    ensure!(judge.shape() == shape, "the judge sees pictures of {:?}; made are {shape:?}", judge.shape());
    ensure!(judge.classes() == classes, "the judge knows {:?}; made are {classes:?}", judge.classes());
    Ok(())
}

//! Networks that make pictures: a [model](crate::model) of the task `image-generation`.
//!
//! - kind `cgan`: a row is a picture: its class and its seed.
//! - kind `stable-diffusion`: a row is one `step` of a picture, so that other lanes of the device have their turns between the steps, and nobody
//!   waits for the rest of a picture that is no longer wanted.

pub mod file;
mod load;
mod step;

use std::{sync::Arc, time::Instant};

use vitrine_models::{CganConfig, DeviceSpec, DiffusionStart, DiffusionWish, Wish};

use crate::{
    batch::{BatchError, Class, Output, Row},
    model::{Loaded, Model, Opened, memory},
};

pub use load::LoadGenerator;

/// The task, as manifests name it.
pub const IMAGE_GENERATION: &str = "image-generation";

/// The longest side of a picture, in pixels.
pub const MOST_PIXELS: usize = 1_024;

/// The picture generators of this server.
pub type Generators = Model<Generator>;

/// One loaded version.
pub struct Generator {
    opened: Opened,
    kind: Kind,
}

/// What it is made for.
pub enum Kind {
    /// Pictures of classes.
    Cgan {
        /// Sizes and classes.
        config: CganConfig,
        /// Whether it tells how near pictures come to those that it has learnt from.
        knows_copies: bool,
    },
    /// Pictures of words.
    Diffusion {
        /// Where they begin.
        start: Arc<DiffusionStart>,
        /// Where they are made.
        device: DeviceSpec,
    },
}

/// What pictures are to be of.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A class, by its number.
    Class(u32),
    /// Words; its seed counts for nothing.
    Words(DiffusionWish),
}

/// A picture that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Line by line from above, `height × width × channels`.
    pub pixels: Vec<u8>,
    /// Width and height.
    pub size: (u32, u32),
    /// 1: it is grey; 3: red, green and blue.
    pub channels: usize,
    /// How real the version's own discriminator thinks it, from 0 to 1, if it has one.
    pub realism: Option<f32>,
    /// How far the nearest picture is that the version has learnt from, if it [tells](Generator::knows_copies).
    pub nearest: Option<f32>,
}

impl Loaded for Generator {
    const TASK: &'static str = IMAGE_GENERATION;
    const KINDS: &'static [&'static str] = &["cgan", "stable-diffusion"];
    const INDEXED: bool = false;

    fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl Generator {
    /// What it is made for.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Height and width of its pictures where nothing else is asked for.
    pub fn side(&self) -> usize {
        match &self.kind {
            Kind::Cgan { config, .. } => config.side,
            Kind::Diffusion { start, .. } => start.side(),
        }
    }

    /// Whether it tells how near pictures come to those that it has learnt from.
    pub fn knows_copies(&self) -> bool {
        matches!(self.kind, Kind::Cgan { knows_copies: true, .. })
    }

    /// How many pictures are asked for at a time: those that run together anyway. The first come soon then, and not many are made for nothing.
    pub fn together(&self) -> usize {
        match self.kind {
            Kind::Cgan { .. } => 4,
            Kind::Diffusion { .. } => 1,
        }
    }

    /// The memory that a picture takes beside the weights, in bytes, and what the device has left, if that is less.
    pub fn lacks_memory(&self, subject: &Subject) -> Option<(u64, u64)> {
        let (Kind::Diffusion { start, device }, Subject::Words(wish)) = (&self.kind, subject) else { return None };
        let needed = start.memory(wish.size);
        memory::free(*device).filter(|&free| free < needed).map(|free| (needed, free))
    }

    /// Makes pictures, one of each seed, in order.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn make(
        &self,
        subject: &Subject,
        seeds: &[u64],
        deadline: Option<Instant>,
    ) -> Result<Vec<Made>, BatchError> {
        match (&self.kind, subject) {
            (Kind::Cgan { config, knows_copies }, &Subject::Class(class)) => {
                let rows = seeds.iter().map(|&seed| row(&Wish { class, seed })).collect();
                let outputs = self.opened.lane.run(rows, Class::Interactive, deadline).await?;
                Ok(outputs.into_iter().map(|output| made(output, config, *knows_copies)).collect())
            }
            (Kind::Diffusion { start, .. }, Subject::Words(wish)) => {
                let mut made = Vec::with_capacity(seeds.len());
                for &seed in seeds {
                    made.push(self.denoise(start, &DiffusionWish { seed, ..wish.clone() }, deadline).await?);
                }
                Ok(made)
            }
            _ => Err(BatchError::Failed("another kind of network was asked".to_owned())),
        }
    }

    /// Asks for one step after the other, and then for the pixels.
    async fn denoise(
        &self,
        start: &DiffusionStart,
        wish: &DiffusionWish,
        deadline: Option<Instant>,
    ) -> Result<Made, BatchError> {
        let mut picture = start.begin(wish);
        let next = async |row| {
            let outputs = self.opened.lane.run(vec![row], Class::Interactive, deadline).await?;
            Ok::<_, BatchError>(outputs.into_iter().next().unwrap_or_default())
        };
        while picture.done < picture.steps {
            picture.latents = next(step::row(&picture)).await?;
            picture.done += 1;
        }
        let [height, width] = wish.size.map(|pixels| pixels as u32);
        let pixels = pixels(next(step::row(&picture)).await?);
        Ok(Made { pixels, size: (width, height), channels: 3, realism: None, nearest: None })
    }
}

/// Its class, and both halves of its seed.
fn row(wish: &Wish) -> Row {
    vec![wish.class, (wish.seed >> 32) as u32, wish.seed as u32]
}

/// Of a row.
fn wish(row: &[u32]) -> Option<Wish> {
    let &[class, high, low] = row else { return None };
    Some(Wish { class, seed: u64::from(high) << 32 | u64::from(low) })
}

/// The pixels, from 0 to 1, and behind them what the discriminator says, and how far the nearest known picture is.
fn made(mut output: Output, config: &CganConfig, knows_copies: bool) -> Made {
    let nearest = if knows_copies { output.pop() } else { None };
    let realism = output.pop();
    let side = config.side as u32;
    Made { pixels: pixels(output), size: (side, side), channels: config.channels, realism, nearest }
}

/// Of numbers from 0 to 1.
fn pixels(numbers: Vec<f32>) -> Vec<u8> {
    numbers.into_iter().map(|number| (number * 255.0).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use vitrine_models::GanLayers;

    use super::*;

    #[test]
    fn a_row_keeps_its_class_and_the_whole_seed() {
        for seed in [0, 7, u64::from(u32::MAX) + 5, u64::MAX] {
            let asked = Wish { class: 3, seed };
            assert_eq!(wish(&row(&asked)), Some(asked));
        }
        assert_eq!(wish(&[1, 2]), None);
    }

    #[test]
    fn numbers_become_pixels() {
        let layers = GanLayers::Dense { widths: Vec::new() };
        let config = CganConfig { side: 1, channels: 3, classes: Vec::new(), noise: 1, layers };
        let first = made(vec![0.0, 0.5, 1.0, 0.25], &config, false);
        let expected =
            Made { pixels: vec![0, 128, 255], size: (1, 1), channels: 3, realism: Some(0.25), nearest: None };
        assert_eq!(first, expected);
        let known = made(vec![0.0, 0.5, 1.0, 0.25, 1.5], &config, true);
        assert_eq!(known, Made { nearest: Some(1.5), ..expected });
    }
}

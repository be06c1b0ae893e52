//! Networks that make pictures: a [model](crate::model) of the task `image-generation`. A row is a picture: its class and its seed.

pub mod file;
mod load;

use std::time::Instant;

use vitrine_models::{CganConfig, Wish};

use crate::{
    batch::{BatchError, Class, Row},
    model::{Loaded, Model, Opened},
};

pub use load::LoadGenerator;

/// The task, as manifests name it.
pub const IMAGE_GENERATION: &str = "image-generation";

/// The picture generators of this server.
pub type Generators = Model<Generator>;

/// One loaded version.
pub struct Generator {
    opened: Opened,
    config: CganConfig,
    knows_copies: bool,
}

/// A picture that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Line by line from above, `side × side × channels`.
    pub pixels: Vec<u8>,
    /// How real the version's own discriminator thinks it, from 0 to 1.
    pub realism: f32,
    /// How far the nearest picture is that the version has learnt from, if it [tells](Generator::knows_copies).
    pub nearest: Option<f32>,
}

impl Loaded for Generator {
    const TASK: &'static str = IMAGE_GENERATION;
    const KINDS: &'static [&'static str] = &["cgan"];
    const INDEXED: bool = false;

    fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl Generator {
    /// What can be asked for, by the number of the class.
    pub fn classes(&self) -> &[String] {
        &self.config.classes
    }

    /// Height and width of its pictures.
    pub fn side(&self) -> usize {
        self.config.side
    }

    /// 1: they are grey; 3: red, green and blue.
    pub fn channels(&self) -> usize {
        self.config.channels
    }

    /// Whether it tells how near pictures come to those that it has learnt from.
    pub fn knows_copies(&self) -> bool {
        self.knows_copies
    }

    /// Makes pictures, in order.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn make(&self, wishes: &[Wish], deadline: Option<Instant>) -> Result<Vec<Made>, BatchError> {
        let outputs = self.opened.lane.run(wishes.iter().map(row).collect(), Class::Interactive, deadline).await?;
        Ok(outputs.into_iter().map(|output| made(output, self.knows_copies)).collect())
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
fn made(mut output: Vec<f32>, knows_copies: bool) -> Made {
    let nearest = if knows_copies { output.pop() } else { None };
    let realism = output.pop().unwrap_or_default();
    Made { pixels: output.into_iter().map(|number| (number * 255.0).round() as u8).collect(), realism, nearest }
}

#[cfg(test)]
mod tests {
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
        let (pixels, realism) = (vec![0, 128, 255], 0.25);
        assert_eq!(made(vec![0.0, 0.5, 1.0, 0.25], false), Made { pixels: pixels.clone(), realism, nearest: None });
        assert_eq!(made(vec![0.0, 0.5, 1.0, 0.25, 1.5], true), Made { pixels, realism, nearest: Some(1.5) });
    }
}

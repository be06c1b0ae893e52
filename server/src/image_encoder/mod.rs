//! Image encoders: a [model](crate::model) that makes vectors of pictures. A row is a picture's pixels, four to a number.

mod load;
pub mod picture;

use std::{fmt, time::Instant};

use image::DynamicImage;
use vitrine_models::pixels;

use crate::{
    batch::{Class, Row},
    encoder::EncoderError,
    model::{Loaded, Model, Opened},
};

pub use load::LoadImageEncoder;

/// The task, as manifests name it.
pub const IMAGE_EMBEDDING: &str = "image-embedding";

/// The image encoders of this server.
pub type ImageEncoders = Model<ImageEncoder>;

/// One loaded version.
pub struct ImageEncoder {
    opened: Opened,
    look: Look,
    dimensions: usize,
}

/// How a version looks at pictures.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Height and width.
    side: usize,
    channels: usize,
}

impl Look {
    /// A picture as a row. Takes a processor for some milliseconds.
    pub fn row(self, picture: &DynamicImage) -> Row {
        packed(&pixels(picture, self.side, self.channels))
    }

    /// A picture to search by, as it is and mirrored: what it shows may face either way.
    pub fn query(self, picture: &DynamicImage) -> Vec<Row> {
        vec![self.row(picture), self.row(&picture.fliph())]
    }
}

impl Loaded for ImageEncoder {
    const TASK: &'static str = IMAGE_EMBEDDING;
    const KINDS: &'static [&'static str] = &["cnn", "efficientnet-lite"];
    const INDEXED: bool = true;

    fn opened(&self) -> &Opened {
        &self.opened
    }
}

impl ImageEncoder {
    /// How many numbers its vectors have.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How it looks at pictures.
    pub fn look(&self) -> Look {
        self.look
    }

    /// The vector of a [query](Look::query): the mean of its rows'.
    ///
    /// # Errors
    /// See [`EncoderError`].
    pub async fn embed_query(
        &self,
        rows: Vec<Row>,
        class: Class,
        deadline: Option<Instant>,
    ) -> Result<Vec<f32>, EncoderError> {
        let count = rows.len().max(1) as f32;
        let outputs = self.opened.lane.run(rows, class, deadline).await?;
        let mut mean = vec![0.0; self.dimensions];
        for output in &outputs {
            mean.iter_mut().zip(output).for_each(|(mean, number)| *mean += number / count);
        }
        Ok(mean)
    }
}

impl fmt::Debug for ImageEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ImageEncoder({}/{})", self.opened.model, self.opened.version)
    }
}

/// Pixels as the numbers of a row.
fn packed(pixels: &[u8]) -> Row {
    let number = |part: &[u8]| {
        let mut bytes = [0; 4];
        bytes[..part.len()].copy_from_slice(part);
        u32::from_le_bytes(bytes)
    };
    pixels.chunks(4).map(number).collect()
}

/// The first `count` pixels of a row, from 0 to 1.
fn unpacked(row: &[u32], count: usize) -> impl Iterator<Item = f32> {
    row.iter().flat_map(|number| number.to_le_bytes()).take(count).map(|byte| f32::from(byte) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_back_from_a_row() {
        for count in 0..10_usize {
            let pixels: Vec<u8> = (0..count).map(|at| (at * 28) as u8).collect();
            let row = packed(&pixels);
            assert_eq!(row.len(), count.div_ceil(4));
            let back: Vec<u8> = unpacked(&row, count).map(|number| (number * 255.0).round() as u8).collect();
            assert_eq!(back, pixels);
        }
    }
}

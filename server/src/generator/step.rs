//! A picture in the making as a row, which is all that is kept of it between its steps: whoever gives up leaves nothing behind on the device.

use vitrine_models::{Denoising, DiffusionStart};

use super::MOST_PIXELS;
use crate::batch::Row;

/// Numbers before the tokens of the prompts, which are equally many, and the latents behind them.
const HEAD: usize = 6;

/// The row.
pub fn row(picture: &Denoising) -> Row {
    let [height, width] = picture.size.map(|latents| latents as u32);
    let tokens = picture.prompt.len() as u32;
    let mut row = Vec::with_capacity(HEAD + 2 * picture.prompt.len() + picture.latents.len());
    row.extend([picture.steps, picture.done, picture.guidance.to_bits(), height, width, tokens]);
    row.extend(picture.prompt.iter().chain(&picture.negative));
    row.extend(picture.latents.iter().map(|latent| latent.to_bits()));
    row
}

/// The picture of a row.
pub fn picture(row: &[u32]) -> Option<Denoising> {
    let (&[steps, done, guidance, height, width, tokens], rest) = row.split_first_chunk::<HEAD>()?;
    let (prompt, rest) = rest.split_at_checked(tokens as usize)?;
    let (negative, latents) = rest.split_at_checked(tokens as usize)?;
    Some(Denoising {
        prompt: prompt.to_vec(),
        negative: negative.to_vec(),
        steps,
        done,
        guidance: f32::from_bits(guidance),
        size: [height, width].map(|latents| latents as usize),
        latents: latents.iter().map(|&bits| f32::from_bits(bits)).collect(),
    })
}

/// How many numbers a row of the largest picture has.
pub fn longest(start: &DiffusionStart) -> usize {
    HEAD + 2 * start.row_tokens() + start.latents([MOST_PIXELS; 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_all_of_a_picture() {
        let asked = Denoising {
            prompt: vec![1, 2, 3],
            negative: vec![4, 5, 6],
            steps: 25,
            done: 7,
            guidance: 7.5,
            size: [1, 2],
            latents: vec![-1.5, f32::MIN_POSITIVE, 0.0, 3e30],
        };
        let row = row(&asked);
        assert_eq!(picture(&row), Some(asked));
        assert_eq!(picture(&row[..HEAD + 5]), None);
        assert_eq!(picture(&[1, 2]), None);
    }
}

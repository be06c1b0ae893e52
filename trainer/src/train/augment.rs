//! What a discriminator sees of pictures: "Differentiable Augmentation for Data-Efficient GAN Training" (Zhao et al. 2020,
//! <https://arxiv.org/abs/2006.10738>). Real and made ones are varied alike, and the generator learns through it: the discriminator cannot
//! learn a few real pictures by heart, and what was only varied is not made.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// How pictures are varied before a discriminator sees them: not at all by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// By how much of its side a picture may be moved, in each direction; what comes in is grey. The paper has 0.125.
    pub shift: f32,
    /// The side of a square that is made grey, in sides of the picture; it may lie partly outside. The paper has 0.5.
    pub cutout: f32,
    /// How far brightness, contrast and saturation may change: 1 as far as the paper has it.
    pub color: f32,
}

/// The number of grey, from 0 to 1.
const GREY: f32 = 0.5;

impl Augment {
    /// Refuses what cannot be, by name.
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("shift", self.shift), ("cutout", self.cutout), ("color", self.color)] {
            ensure!((0.0..=1.0).contains(&value), "augment.{name} is {value}; it must be from 0 to 1");
        }
        Ok(())
    }

    /// Pictures f32 `[pictures, side, side, channels]`, varied; gradients pass through it.
    pub(super) fn apply(&self, pictures: &Tensor, random: &mut StdRng) -> Result<Tensor> {
        let mut varied = pictures.clone();
        if self.color > 0.0 {
            varied = self.colored(&varied, random)?;
        }
        if self.shift > 0.0 || self.cutout > 0.0 {
            varied = self.moved(&varied, random)?;
        }
        Ok(varied)
    }

    /// Each pixel times a matrix of its picture, and a number added.
    fn colored(&self, pictures: &Tensor, random: &mut StdRng) -> Result<Tensor> {
        let (count, side, _, channels) = pictures.dims4()?;
        let mut within = |most: f32| random.random_range(-1.0..=1.0_f32) * most * self.color;
        let (mut matrices, mut added) = (Vec::with_capacity(count * channels * channels), Vec::with_capacity(count));
        for _ in 0..count {
            let (brightness, contrast, saturation) = (within(0.25), 1.0 + within(0.5), 1.0 + within(1.0));
            added.push(brightness + GREY * (1.0 - contrast));
            // Of a channel its own part stays, and all get the rest of their mean.
            let shared = (1.0 - saturation) / channels as f32;
            matrices.extend((0..channels * channels).map(|at| {
                let own = if at % (channels + 1) == 0 { saturation } else { 0.0 };
                contrast * (own + shared)
            }));
        }
        let matrices = Tensor::from_vec(matrices, (count, channels, channels), pictures.device())?;
        let added = Tensor::from_vec(added, (count, 1, 1), pictures.device())?;
        let pixels = pictures.reshape((count, side * side, channels))?;
        Ok(pixels.matmul(&matrices)?.broadcast_add(&added)?.reshape(pictures.shape())?)
    }

    /// Pixels from other places, or grey.
    fn moved(&self, pictures: &Tensor, random: &mut StdRng) -> Result<Tensor> {
        let (count, side, _, channels) = pictures.dims4()?;
        let grey = count * side * side;
        let [most, half] = [self.shift, self.cutout / 2.0].map(|part| (part * side as f32).round() as i32);
        let mut from = Vec::with_capacity(grey);
        for picture in 0..count {
            let [down, right] = [(); 2].map(|()| random.random_range(-most..=most));
            let [middle_line, middle_column] = [(); 2].map(|()| random.random_range(0..side as i32));
            let hidden = |at: usize, middle: i32| (middle - half..middle + half).contains(&(at as i32));
            for line in 0..side {
                for column in 0..side {
                    let [there_line, there_column] = [(line, down), (column, right)]
                        .map(|(at, by)| at.checked_add_signed(by as isize).filter(|at| *at < side));
                    let place = match (there_line, there_column) {
                        _ if hidden(line, middle_line) && hidden(column, middle_column) => grey,
                        (Some(line), Some(column)) => (picture * side + line) * side + column,
                        _ => grey,
                    };
                    from.push(place as u32);
                }
            }
        }
        let pixels = pictures.reshape((grey, channels))?;
        let pixels = Tensor::cat(&[&pixels, &Tensor::full(GREY, (1, channels), pixels.device())?], 0)?;
        Ok(pixels.index_select(&Tensor::new(from, pixels.device())?, 0)?.reshape(pictures.shape())?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rand::SeedableRng as _;

    use super::*;

    const PLAIN: Augment = Augment { shift: 0.0, cutout: 0.0, color: 0.0 };

    /// Two pictures of 8 × 8 pixels, and what becomes of them.
    fn varied(augment: Augment, channels: usize, seed: u64) -> (Var, Tensor) {
        let numbers: Vec<f32> = (0..128 * channels).map(|at| (at % 97) as f32 / 97.0).collect();
        let pictures = Tensor::from_vec(numbers, (2, 8, 8, channels), &Device::Cpu).unwrap();
        let pictures = Var::from_tensor(&pictures).unwrap();
        let varied = augment.apply(&pictures, &mut StdRng::seed_from_u64(seed)).unwrap();
        (pictures, varied)
    }

    /// The same number, to the bit.
    fn is(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits()
    }

    fn numbers(of: &Tensor) -> Vec<f32> {
        of.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn without_anything_to_vary_pictures_stay() {
        let (pictures, same) = varied(PLAIN, 3, 1);
        assert_eq!(numbers(&pictures), numbers(&same));
    }

    #[test]
    fn a_square_is_hidden_and_nothing_else() {
        for seed in 0..20 {
            let (pictures, with) = varied(Augment { cutout: 0.5, ..PLAIN }, 1, seed);
            let (before, after) = (numbers(&pictures), numbers(&with));
            let hidden = (0..before.len()).filter(|&at| is(after[at], GREY)).count();
            assert!((0..before.len()).all(|at| is(after[at], GREY) || is(after[at], before[at])));
            assert!((4..=32).contains(&hidden), "of two squares of 4 × 4, each a quarter inside at least: {hidden}");
        }
    }

    #[test]
    fn moved_pictures_are_the_same_elsewhere() {
        for seed in 0..20 {
            let (pictures, moved) = varied(Augment { shift: 0.25, ..PLAIN }, 1, seed);
            let (before, after) = (numbers(&pictures.get(0).unwrap()), numbers(&moved.get(0).unwrap()));
            let by = |down: i32, right: i32| {
                (0..64).all(|at: i32| {
                    let (line, column) = (at / 8 + down, at % 8 + right);
                    let inside = (0..8).contains(&line) && (0..8).contains(&column);
                    is(after[at as usize], if inside { before[(line * 8 + column) as usize] } else { GREY })
                })
            };
            assert!((-2..=2).any(|down| (-2..=2).any(|right| by(down, right))), "{seed}");
        }
    }

    #[test]
    fn gray_stays_gray_and_colors_keep_their_order() {
        let gray = Tensor::full(GREY, (1, 4, 4, 3), &Device::Cpu).unwrap();
        let only = Augment { color: 1.0, ..PLAIN };
        for seed in 0..20 {
            let now = numbers(&only.apply(&gray, &mut StdRng::seed_from_u64(seed)).unwrap());
            assert!(now.iter().all(|number| (number - now[0]).abs() < 1e-6 && (0.25..=0.75).contains(number)));
            let (pictures, colored) = varied(only, 3, seed);
            let sorted = |of: &[f32]| {
                let mut order = [0, 1, 2];
                order.sort_by(|&a, &b| of[a].total_cmp(&of[b]));
                order
            };
            let pairs = numbers(&pictures).into_iter().zip(numbers(&colored)).collect::<Vec<_>>();
            for pixel in pairs.chunks(3) {
                let (before, after): (Vec<f32>, Vec<f32>) = pixel.iter().copied().unzip();
                assert_eq!(sorted(&before), sorted(&after));
            }
        }
    }

    #[test]
    fn gradients_pass_to_where_pixels_came_from() {
        let (pictures, moved) = varied(Augment { shift: 0.25, cutout: 0.5, color: 0.0 }, 3, 7);
        let slopes = moved.sum_all().unwrap().backward().unwrap();
        let slopes = numbers(slopes.get(&pictures).unwrap());
        assert!(slopes.iter().all(|&slope| is(slope, 0.0) || is(slope, 1.0)));
        let seen = numbers(&moved).into_iter().filter(|&number| !is(number, GREY)).count();
        assert_eq!(slopes.into_iter().filter(|&slope| is(slope, 1.0)).count(), seen);
        let (pictures, colored) = varied(Augment { color: 1.0, ..PLAIN }, 3, 7);
        let slopes = colored.sum_all().unwrap().backward().unwrap();
        assert!(numbers(slopes.get(&pictures).unwrap()).iter().all(|slope| (0.5..=1.5).contains(slope)));
    }
}

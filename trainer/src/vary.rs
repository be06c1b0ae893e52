//! Pictures that are varied while they are learnt, so that what does not matter is not learnt.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::pictures::Labelled;

/// How pictures are varied while they are learnt: what they show stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vary {
    /// Whether left and right may change places.
    pub flip: bool,
    /// By how much of its side a picture may be moved, in each direction; what comes in is 0.
    pub shift: f32,
    /// How often a rectangle is set to random numbers ("Random Erasing Data Augmentation", Zhong et al. 2017).
    pub erase: f32,
}

impl Vary {
    /// Refuses what cannot be, by name.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in [("shift", self.shift), ("erase", self.erase)] {
            ensure!((0.0..=1.0).contains(&value), "vary.{name} is {value}; it must be from 0 to 1");
        }
        Ok(())
    }

    /// Pictures, varied, f32 `[pictures, side, side, channels]`, and their classes.
    pub(crate) fn batch(&self, of: &Labelled, places: &[usize], random: &mut StdRng) -> Result<(Tensor, Vec<u32>)> {
        let mut numbers = Vec::with_capacity(places.len() * of.size());
        for &place in places {
            self.add(of, place, random, &mut numbers);
        }
        let pictures = Tensor::from_vec(numbers, (places.len(), of.side, of.side, of.channels), &Device::Cpu)?;
        Ok((pictures, places.iter().map(|&place| of.labels[place]).collect()))
    }

    /// Adds a varied picture's numbers, from 0 to 1.
    fn add(&self, of: &Labelled, place: usize, random: &mut StdRng, to: &mut Vec<f32>) {
        let (side, channels, picture) = (of.side, of.channels, of.picture(place));
        let first = to.len();
        let most = (self.shift * side as f32).round() as i32;
        let flipped = self.flip && random.random::<bool>();
        let [down, right] = [(); 2].map(|()| random.random_range(-most..=most));
        for line in 0..side {
            for column in 0..side {
                let column = if flipped { side - 1 - column } else { column };
                let from = [(line, down), (column, right)]
                    .map(|(at, by)| at.checked_add_signed(by as isize).filter(|at| *at < side));
                if let [Some(line), Some(column)] = from {
                    let from = (line * side + column) * channels;
                    to.extend(picture[from..from + channels].iter().map(|number| f32::from(*number) / 255.0));
                } else {
                    to.extend(std::iter::repeat_n(0.0, channels));
                }
            }
        }
        if random.random::<f32>() < self.erase {
            let [height, width] = [(); 2].map(|()| random.random_range(side / 8..=side / 2));
            let [top, left] = [height, width].map(|length| random.random_range(0..=side - length));
            for line in top..top + height {
                let line = first + (line * side + left) * channels;
                to[line..line + width * channels].fill_with(|| random.random());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn varied_pictures_are_moved_mirrored_and_in_part_erased() {
        let numbers: Vec<u8> = (0..16).map(|at| if at % 4 == 0 { 255 } else { 0 }).collect();
        let pictures = Labelled { numbers, labels: vec![0], ..Labelled::new(4, 1) };
        let mut random = StdRng::seed_from_u64(1);
        let mut of = |vary: Vary| {
            let mut to = Vec::new();
            vary.add(&pictures, 0, &mut random, &mut to);
            to
        };
        let plain = Vary { flip: false, shift: 0.0, erase: 0.0 };
        assert_eq!(of(plain)[..4], [1.0, 0.0, 0.0, 0.0]);
        let lit = |picture: Vec<f32>| picture[..4].iter().position(|number| *number > 0.5);
        let places = |vary: Vary, of: &mut dyn FnMut(Vary) -> Vec<f32>| {
            (0..50).map(|_| lit(of(vary))).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(places(Vary { flip: true, ..plain }, &mut of).into_iter().collect::<Vec<_>>(), [Some(0), Some(3)]);
        assert!(places(Vary { shift: 0.25, ..plain }, &mut of).contains(&Some(1)));
        assert!((0..50).any(|_| of(Vary { erase: 1.0, ..plain }) != of(plain)));
    }
}

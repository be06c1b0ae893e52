//! "Decoupled Weight Decay Regularization" (Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>): AdamW, its algorithm 2, for the
//! numbers of one variable. As tensors, each step would read and write them fourteen times.

use rayon::prelude::*;

use crate::fused::BLOCK;

/// How a step changes numbers.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Counted from 1: the running means begin at 0, and are too small at first.
    pub step: i32,
    /// The learning rate α.
    pub learning_rate: f64,
    /// How much of the running means of gradients and of their squares is kept: β₁ and β₂.
    pub kept: [f64; 2],
    /// The weight decay λ.
    pub weight_decay: f64,
    /// What gradients are multiplied with first.
    pub shrink: f64,
}

impl AdamW {
    /// ε: what keeps a gradient of nothing from being divided by nothing.
    const EPSILON: f32 = 1e-8;

    /// One step of numbers down their gradient, with its running mean and that of its square.
    // Compiled here, where inner loops are made for speed, and not where it is called.
    #[inline(never)]
    pub fn step(self, numbers: &mut [f32], gradient: &[f32], means: [&mut [f32]; 2]) {
        let [beta_1, beta_2] = self.kept;
        let [scale_1, scale_2] = self.kept.map(|kept| 1.0 / (1.0 - kept.powi(self.step)));
        let [of_gradient, of_square] = [(1.0 - beta_1) * self.shrink, (1.0 - beta_2) * self.shrink * self.shrink];
        let rate = (self.learning_rate * scale_1) as f32;
        let stays = (1.0 - self.learning_rate * self.weight_decay) as f32;
        let [beta_1, beta_2, scale_2, of_gradient, of_square] =
            [beta_1, beta_2, scale_2, of_gradient, of_square].map(|number| number as f32);
        let [first, second] = means.map(|mean| mean.par_chunks_mut(BLOCK));
        let all = numbers.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK)).zip(first.zip(second));
        all.for_each(|((numbers, gradient), (first, second))| {
            for (((number, gradient), first), second) in numbers.iter_mut().zip(gradient).zip(first).zip(second) {
                *first = beta_1 * *first + of_gradient * gradient;
                *second = beta_2 * *second + of_square * gradient * gradient;
                *number = stays * *number - rate * *first / ((scale_2 * *second).sqrt() + Self::EPSILON);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_paper() {
        let rule = AdamW { step: 1, learning_rate: 0.1, kept: [0.9, 0.999], weight_decay: 0.5, shrink: 0.5 };
        let (mut numbers, mut first, mut second) = ([1.0, -2.0], [0.0; 2], [0.0; 2]);
        rule.step(&mut numbers, &[4.0, 0.0], [&mut first, &mut second]);
        // The first step is as long as the learning rate, whatever the gradient is.
        let near = |number: f32, wanted: f32| assert!((number - wanted).abs() < 1e-6, "{number}, not {wanted}");
        near(numbers[0], 1.0 - 0.1 * 0.5 - 0.1);
        near(numbers[1], -2.0 * (1.0 - 0.1 * 0.5));
        AdamW { step: 2, ..rule }.step(&mut numbers, &[-2.0, 0.0], [&mut first, &mut second]);
        near(first[0], 0.9 * 0.2 - 0.1);
        near(second[0], 0.999 * 0.004 + 0.001);
        let direction = (first[0] / 0.19) / (second[0] / (1.0 - 0.999_f32.powi(2))).sqrt();
        near(numbers[0], 0.85 * 0.95 - 0.1 * direction);
    }
}

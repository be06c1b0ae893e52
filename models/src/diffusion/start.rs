//! What a picture begins as: the tokens of its prompts, and seeded noise. Whoever asks for pictures has this, on any thread; the networks have
//! a thread of their own.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::tokens::{PromptTokenizer, PromptTokens};
use crate::ModelError;
use crate::training::normal;

/// Where pictures of a loaded version begin.
pub struct DiffusionStart {
    pub(super) tokenizer: PromptTokenizer,
    pub(super) channels: usize,
    /// Height and width of latents, where nothing else is asked for.
    pub(super) side: usize,
    /// Pixels of a latent's side.
    pub(super) factor: usize,
    pub(super) most_steps: usize,
    /// How often there is a number for each two latents at once.
    pub(super) pairs: usize,
    /// Channels of the features that are as large as the picture.
    pub(super) widest: usize,
}

/// What a picture is to be made of.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffusionWish {
    /// What is to be seen.
    pub prompt: Vec<u32>,
    /// What is not to be seen.
    pub negative: Vec<u32>,
    /// The same seed gives the same noise.
    pub seed: u64,
    /// From noise to picture.
    pub steps: u32,
    /// How much the prompt counts; 1 or less: there is nothing that is not to be seen.
    pub guidance: f32,
    /// Height and width in pixels, which [`takes`](DiffusionStart::takes) has said yes to.
    pub size: [usize; 2],
}

/// A picture in the making.
#[derive(Clone, Debug, PartialEq)]
pub struct Denoising {
    /// What is to be seen.
    pub prompt: Vec<u32>,
    /// What is not to be seen.
    pub negative: Vec<u32>,
    /// From noise to picture.
    pub steps: u32,
    /// How many of them have been done.
    pub done: u32,
    /// How much the prompt counts.
    pub guidance: f32,
    /// Height and width of the latents.
    pub size: [usize; 2],
    /// `[channels, height, width]`.
    pub latents: Vec<f32>,
}

impl DiffusionStart {
    /// Copies of the features as large as the picture, while they are convolved.
    const FEATURES: u64 = 6;

    /// Height and width in pixels of what is made where nothing else is asked for.
    pub fn side(&self) -> usize {
        self.side * self.factor
    }

    /// Height and width are multiples of this, in pixels.
    pub fn unit(&self) -> usize {
        self.factor.max(8)
    }

    /// Whether a height or a width can be made.
    pub fn takes(&self, pixels: usize) -> bool {
        pixels > 0 && pixels.is_multiple_of(self.unit())
    }

    /// The most steps that there can be.
    pub fn most_steps(&self) -> usize {
        self.most_steps
    }

    /// A prompt as the network reads it.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`], as when the text has characters for which there is no token.
    pub fn tokens(&self, prompt: &str) -> Result<PromptTokens, ModelError> {
        self.tokenizer.tokens(prompt)
    }

    /// How many tokens a prompt may have.
    pub fn most_tokens(&self) -> usize {
        self.tokenizer.length() - 2
    }

    /// How many tokens each prompt of a [`DiffusionWish`] has, those that are padding among them.
    pub fn row_tokens(&self) -> usize {
        self.tokenizer.length()
    }

    /// Latents of a picture of that size in pixels.
    pub fn latents(&self, [height, width]: [usize; 2]) -> usize {
        self.channels * (height / self.factor) * (width / self.factor)
    }

    /// A picture before its first step.
    pub fn begin(&self, wish: &DiffusionWish) -> Denoising {
        let mut random = StdRng::seed_from_u64(wish.seed);
        Denoising {
            prompt: wish.prompt.clone(),
            negative: wish.negative.clone(),
            steps: wish.steps,
            done: 0,
            guidance: wish.guidance,
            size: wish.size.map(|pixels| pixels / self.factor),
            latents: (0..self.latents(wish.size)).map(|_| normal(&mut random)).collect(),
        }
    }

    /// About how much memory the making of one picture takes at most beside the weights, in bytes; height and width in pixels. The square of the
    /// pixels counts: every latent looks at every other.
    pub fn memory(&self, [height, width]: [usize; 2]) -> u64 {
        let number = size_of::<f32>() as u64;
        let pixels = height as u64 * width as u64;
        let latents = pixels / (self.factor as u64).pow(2);
        let attention = (self.pairs as u64 * number).saturating_mul(latents.saturating_mul(latents));
        let features = Self::FEATURES * number * pixels * self.widest as u64;
        attention.max(features)
    }
}

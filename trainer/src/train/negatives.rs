//! The loss among a sample of items, for catalogs that are too large to compare all: half of the sample are items that came next
//! elsewhere in the batch, half are drawn from all items alike ("Mixed Negative Sampling for Learning Two-tower Neural Networks in
//! Recommendations", Yang et al. 2020). Each item that was drawn counts so much less as it is drawn more often (logQ: "Sampling-Bias-Corrected
//! Neural Modeling for Large Corpus Item Recommendations", Yi et al. 2019), so that popular items are not unlearnt; the item that came
//! next was not drawn, and counts as it is. The sum over draws then has the sum over all items as its mean.

use candle_core::{Result, Tensor};
use rand::RngExt as _;
use rand::rngs::StdRng;
use vitrine_models::cross_entropy;

/// Draws items.
pub struct Negatives {
    count: usize,
    /// The logarithm of how often each item is drawn, of id 1 first.
    log_counts: Vec<f32>,
}

/// What is added to the score of an item that was drawn, but did come next.
const NEVER: f32 = -1e9;

impl Negatives {
    /// To draw `count` of `items`, for steps of these histories.
    pub fn new(histories: &[&[u32]], items: usize, count: usize) -> Self {
        let mut came = vec![0_u32; items];
        let mut all = 0.0_f32;
        for &item in histories.iter().flat_map(|history| history.iter().skip(1)) {
            came[item as usize - 1] += 1;
            all += 1.0;
        }
        let chance = |came: u32| 0.5 * came as f32 / all.max(1.0) + 0.5 / items as f32;
        Self { count, log_counts: came.into_iter().map(|came| (count as f32 * chance(came)).ln()).collect() }
    }

    /// The mean cross entropy of the items `wanted` (from 0), one for each vector of `[steps, width]`, among those drawn from `items`.
    pub fn loss(&self, vectors: &Tensor, wanted: &[u32], items: &Tensor, random: &mut StdRng) -> Result<Tensor> {
        let mut draw = |at: usize| match at % 2 {
            0 => wanted[random.random_range(0..wanted.len())],
            _ => random.random_range(0..self.log_counts.len() as u32),
        };
        let drawn: Vec<u32> = (0..self.count).map(&mut draw).collect();
        let device = vectors.device();
        let of = |ids: &[u32]| Tensor::new(ids, device).and_then(|ids| items.index_select(&ids, 0));
        let right = (vectors * of(wanted)?)?.sum_keepdim(1)?;
        let log_counts = drawn.iter().map(|&item| self.log_counts[item as usize]).collect();
        let wrong = vectors.matmul(&of(&drawn)?.t()?)?;
        let wrong = wrong.broadcast_sub(&Tensor::from_vec(log_counts, (1, drawn.len()), device)?)?;
        let pairs = wanted.iter().flat_map(|wanted| drawn.iter().map(move |drawn| wanted == drawn));
        let hits: Vec<f32> = pairs.map(|same| if same { NEVER } else { 0.0 }).collect();
        let wrong = (wrong + Tensor::from_vec(hits, (wanted.len(), drawn.len()), device)?)?;
        cross_entropy(&Tensor::cat(&[right, wrong], 1)?, &vec![0; wanted.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use rand::SeedableRng as _;

    #[test]
    fn with_many_draws_it_is_the_loss_among_all_items() {
        let device = &Device::Cpu;
        let histories: [&[u32]; 2] = [&[1, 2, 3, 2], &[4, 2, 5]];
        let wanted = [1, 2, 1, 1, 4];
        let vectors =
            Tensor::new(&[[0.5_f32, -1.0], [0.1, 0.2], [-0.3, 0.9], [1.5, 0.4], [-0.8, -0.6]], device).unwrap();
        let items =
            Tensor::new(&[[1.0_f32, 0.0], [0.3, -0.7], [-0.2, 0.4], [0.0, 1.2], [0.9, 0.1], [-1.0, 0.5]], device);
        let items = items.unwrap();
        let all = cross_entropy(&vectors.matmul(&items.t().unwrap()).unwrap(), &wanted);
        let all = all.unwrap().to_scalar::<f32>().unwrap();
        let negatives = Negatives::new(&histories, 6, 20_000);
        let loss = negatives.loss(&vectors, &wanted, &items, &mut StdRng::seed_from_u64(1)).unwrap();
        let loss = loss.to_scalar::<f32>().unwrap();
        assert!((loss - all).abs() < 0.02, "{loss}, and {all} among all items");
    }
}

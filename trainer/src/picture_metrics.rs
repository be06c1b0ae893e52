//! How good a network sees: classes that are right, and pictures of the same class that are nearest by its embeddings.

use anyhow::Result;
use candle_core::{D, Tensor};
use serde::Serialize;
use vitrine_models::{PictureModel, Seen};

use crate::metrics::{Mean, mean};
use crate::pictures::Labelled;

/// Pictures that are looked at together, or looked for.
const BATCH: usize = 256;

/// How good a network is at pictures that it has not learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PictureScores {
    /// The part whose likeliest class is right.
    pub accuracy: Mean,
    /// Mean average precision: each picture asks for the others of its class, and all others are ranked by the cosine of embeddings.
    pub retrieval: Mean,
}

/// Looks at all pictures.
pub fn look(model: &PictureModel, pictures: &Labelled) -> Result<Vec<Seen>> {
    let mut seen = Vec::with_capacity(pictures.len());
    for part in pictures.chunks(BATCH) {
        seen.extend(model.look(&pictures.tensor(part)?)?);
    }
    Ok(seen)
}

/// Scores what was seen.
pub fn score(seen: &[Seen], labels: &[u32]) -> Result<PictureScores> {
    let right = seen.iter().zip(labels).map(|(seen, label)| f64::from(u8::from(likeliest(&seen.logits) == *label)));
    let embeddings: Vec<&[f32]> = seen.iter().map(|seen| &seen.embedding[..]).collect();
    Ok(PictureScores { accuracy: mean(right), retrieval: retrieval(&rows(&embeddings)?, labels)? })
}

/// Without a network: the class of the nearest picture by the cosine of its numbers.
pub fn score_of_pixels(learning: &Labelled, test: &Labelled) -> Result<PictureScores> {
    let flat =
        |pictures: &Labelled| -> Result<Tensor> { Ok(unit(&pictures.tensor(0..pictures.len())?.flatten_from(1)?)?) };
    let (known, asked) = (flat(learning)?.t()?, flat(test)?);
    let mut right = Vec::with_capacity(test.len());
    for part in test.chunks(BATCH) {
        let nearest = asked.narrow(0, part.start, part.len())?.matmul(&known)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let labels = &test.labels[part];
        right.extend(nearest.iter().zip(labels).map(|(near, label)| learning.labels[*near as usize] == *label));
    }
    let right = right.into_iter().map(|right| f64::from(u8::from(right)));
    Ok(PictureScores { accuracy: mean(right), retrieval: retrieval(&asked, &test.labels)? })
}

/// The class that is likeliest.
pub fn likeliest(logits: &[f32]) -> u32 {
    let most = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    most.map_or(0, |(class, _)| class as u32)
}

/// Vectors as rows of length 1.
pub fn rows(vectors: &[&[f32]]) -> candle_core::Result<Tensor> {
    let columns = vectors.first().map_or(0, |vector| vector.len());
    unit(&Tensor::from_vec(vectors.concat(), (vectors.len(), columns), &candle_core::Device::Cpu)?)
}

fn unit(rows: &Tensor) -> candle_core::Result<Tensor> {
    rows.broadcast_div(&(rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + 1e-12)?)
}

/// The mean average precision of rows of length 1 among each other. What nobody else is of the same class with asks for nothing.
fn retrieval(rows: &Tensor, labels: &[u32]) -> Result<Mean> {
    let (count, all) = (labels.len(), rows.t()?);
    let mut precisions = Vec::with_capacity(count);
    for first in (0..count).step_by(BATCH) {
        let part = rows.narrow(0, first, BATCH.min(count - first))?.matmul(&all)?.to_vec2::<f32>()?;
        for (asking, near) in (first..).zip(part) {
            let mut others: Vec<usize> = (0..count).filter(|other| *other != asking).collect();
            others.sort_unstable_by(|a, b| near[*b].total_cmp(&near[*a]));
            let same = others.iter().map(|other| labels[*other] == labels[asking]);
            let (mut found, mut sum) = (0_u32, 0.0);
            for (place, _) in same.enumerate().filter(|(_, same)| *same) {
                found += 1;
                sum += f64::from(found) / (place + 1) as f64;
            }
            if found > 0 {
                precisions.push(sum / f64::from(found));
            }
        }
    }
    Ok(mean(precisions.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_is_that_of_an_example_by_hand() {
        let vectors: [&[f32]; 4] = [&[1.0, 0.0], &[0.9, 0.1], &[0.8, 0.3], &[0.0, 1.0]];
        let rows = rows(&vectors).unwrap();
        // The one of the same class comes second, third, second and second.
        let wanted = (1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 2.0 + 1.0 / 2.0) / 4.0;
        let found = retrieval(&rows, &[0, 1, 0, 1]).unwrap().value;
        assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    }

    #[test]
    fn the_nearest_picture_has_the_right_class_where_classes_are_apart() {
        let numbers = [[200_u8, 10, 10, 10], [10, 200, 10, 10]].concat();
        let pictures = Labelled { numbers, labels: vec![0, 1], ..Labelled::new(2, 1) };
        assert!((score_of_pixels(&pictures, &pictures).unwrap().accuracy.value - 1.0).abs() < 1e-9);
    }
}

//! How good foretold chances of clicks are: whether clicked examples come before others, and whether chances are what they say.

use std::collections::BTreeMap;

use serde::Serialize;

/// Chances are compared with what happened in so many ranges of equal width ("On Calibration of Modern Neural Networks", Guo et al.
/// 2017, <https://arxiv.org/abs/1706.04599>).
const BINS: usize = 15;

/// No chance is taken to be nearer to 0 or 1.
const NEAREST: f64 = 1e-7;

/// One example that was foretold.
#[derive(Clone, Copy, Debug)]
pub struct Foretold {
    /// Of a click, from 0 to 1.
    pub chance: f32,
    /// Whether there was one.
    pub clicked: bool,
    /// Whose it was.
    pub user: u32,
}

/// Scores of foretold clicks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClickScores {
    /// The chance that an example with a click has a higher one than an example without; equal ones count half. 0.5 where
    /// there are not both.
    pub auc: f64,
    /// The mean of the AUC of each user that has both, by the number of the user's examples ("Deep Interest Network", Zhou et al. 2018).
    pub grouped_auc: f64,
    /// The mean of −ln of the chance that was given to what happened.
    pub log_loss: f64,
    /// The mean difference between chances and clicks in ranges of chances, by the number of their examples (ECE).
    pub calibration_error: f64,
    /// Ranges of chances that have examples, lowest first.
    pub reliability: Vec<Bin>,
}

/// Examples whose chances are alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Number of examples.
    pub examples: usize,
    /// Their mean chance.
    pub chance: f64,
    /// The part of them that was clicked on.
    pub clicked: f64,
}

/// Scores them; all is 0 (AUC: 0.5) for none.
pub fn score(foretold: &[Foretold]) -> ClickScores {
    let count = foretold.len().max(1) as f64;
    let loss = |example: &Foretold| {
        let chance = f64::from(example.chance).clamp(NEAREST, 1.0 - NEAREST);
        -(if example.clicked { chance } else { 1.0 - chance }).ln()
    };
    let reliability = reliability(foretold);
    let off = reliability.iter().map(|bin| bin.examples as f64 * (bin.chance - bin.clicked).abs());
    ClickScores {
        auc: auc(foretold).unwrap_or(0.5),
        grouped_auc: grouped_auc(foretold),
        log_loss: foretold.iter().map(loss).sum::<f64>() / count,
        calibration_error: off.sum::<f64>() / count,
        reliability,
    }
}

/// By ranks (Mann & Whitney 1947), equal chances sharing their mean rank.
fn auc(foretold: &[Foretold]) -> Option<f64> {
    let mut sorted: Vec<&Foretold> = foretold.iter().collect();
    sorted.sort_by(|a, b| a.chance.total_cmp(&b.chance));
    let (mut ranks, mut clicked, mut before) = (0.0, 0.0, 0);
    for equal in sorted.chunk_by(|a, b| a.chance.total_cmp(&b.chance).is_eq()) {
        let clicks = equal.iter().filter(|example| example.clicked).count() as f64;
        ranks += clicks * (before as f64 + (equal.len() + 1) as f64 / 2.0);
        clicked += clicks;
        before += equal.len();
    }
    let others = before as f64 - clicked;
    (clicked > 0.0 && others > 0.0).then(|| (ranks - clicked * (clicked + 1.0) / 2.0) / (clicked * others))
}

fn grouped_auc(foretold: &[Foretold]) -> f64 {
    let mut users: BTreeMap<u32, Vec<Foretold>> = BTreeMap::new();
    for example in foretold {
        users.entry(example.user).or_default().push(*example);
    }
    let of = users.values().filter_map(|examples| Some((examples.len() as f64, auc(examples)?)));
    let (sum, weight) = of.fold((0.0, 0.0), |(sum, weight), (count, auc)| (sum + count * auc, weight + count));
    if weight > 0.0 { sum / weight } else { 0.5 }
}

fn reliability(foretold: &[Foretold]) -> Vec<Bin> {
    let mut sums = [(0_usize, 0.0_f64, 0.0_f64); BINS];
    for example in foretold {
        let bin = ((example.chance * BINS as f32) as usize).min(BINS - 1);
        let (examples, chance, clicked) = &mut sums[bin];
        *examples += 1;
        *chance += f64::from(example.chance);
        *clicked += f64::from(u8::from(example.clicked));
    }
    let filled = sums.into_iter().filter(|(examples, ..)| *examples > 0);
    filled
        .map(|(examples, chance, clicked)| Bin {
            examples,
            chance: chance / examples as f64,
            clicked: clicked / examples as f64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn examples(of: &[(f32, bool, u32)]) -> Vec<Foretold> {
        of.iter().map(|&(chance, clicked, user)| Foretold { chance, clicked, user }).collect()
    }

    #[test]
    fn scores_by_hand() {
        let scores = score(&examples(&[(0.9, true, 1), (0.4, true, 1), (0.4, false, 1), (0.1, false, 2)]));
        // Pairs: 0.9 before both, 0.4 equal to 0.4 (half) and before 0.1: 3.5 of 4. User 2 has no click; of user 1's: 1.5 of 2.
        assert!((scores.auc - 3.5 / 4.0).abs() < 1e-9);
        assert!((scores.grouped_auc - 0.75).abs() < 1e-9);
        let loss = -(0.9_f64.ln() + 0.4_f64.ln() + 0.6_f64.ln() + 0.9_f64.ln()) / 4.0;
        assert!((scores.log_loss - loss).abs() < 1e-6);
        // Ranges: {0.9}: off by 0.1; {0.4, 0.4}: clicked half, off by 0.1; {0.1}: off by 0.1.
        assert!((scores.calibration_error - 0.1).abs() < 1e-6);
        assert_eq!(scores.reliability.iter().map(|bin| bin.examples).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn without_both_kinds_there_is_nothing_to_tell_apart() {
        assert!((score(&[]).auc - 0.5).abs() < 1e-9);
        let scores = score(&examples(&[(1.0, true, 1), (0.0, true, 1)]));
        assert!((scores.auc - 0.5).abs() < 1e-9 && scores.log_loss.is_finite());
    }

    proptest! {
        #[test]
        fn the_auc_is_the_part_of_pairs_in_order(of in vec((0_u8..20, any::<bool>()), 0..40)) {
            let foretold: Vec<Foretold> =
                of.iter().map(|&(chance, clicked)| Foretold { chance: f32::from(chance) / 20.0, clicked, user: 0 }).collect();
            let (mut right, mut pairs) = (0.0, 0.0);
            for a in foretold.iter().filter(|example| example.clicked) {
                for b in foretold.iter().filter(|example| !example.clicked) {
                    pairs += 1.0;
                    right += match a.chance.total_cmp(&b.chance) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            match auc(&foretold) {
                None => prop_assert!(pairs == 0.0),
                Some(auc) => prop_assert!((auc - right / pairs).abs() < 1e-9),
            }
        }
    }
}

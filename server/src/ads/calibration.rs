//! What a ranker's chances are worth. It has learnt from what was shown and chosen beside other things, so that it orders well and may be wrong by
//! a factor: clicks on advertisements tell by which.
//!
//! The chances p become σ(logit p + b), with the one b that makes the clicks that are expected as many as came. Platt scaling (Platt 1999) with
//! a slope of 1: the order stays. Clicks that have not happened yet count too: as if the ranker had been right on 100 advertisements
//! of its average chance.

/// The ranker is believed as if it had been right so often.
const PRIOR: f64 = 100.0;
/// Logits are counted in bins this wide, from -[`REACH`] to [`REACH`].
const BIN: f64 = 0.25;
const REACH: f64 = 12.0;
const BINS: usize = (2.0 * REACH / BIN) as usize;

/// How often advertisements of a ranker's chances were shown and clicked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// By bin of the logit; none before the first.
    pub(crate) shown: Vec<u64>,
    pub(crate) clicks: u64,
}

impl Calibration {
    /// One was shown, of that logit.
    pub fn show(&mut self, logit: f32) {
        self.shown.resize(BINS, 0);
        let bin = ((f64::from(logit) + REACH) / BIN).floor().clamp(0.0, (BINS - 1) as f64);
        self.shown[bin as usize] += 1;
    }

    /// One was clicked.
    pub fn click(&mut self) {
        self.clicks += 1;
    }

    /// What is to be added to logits.
    pub fn shift(&self) -> f64 {
        let shown: u64 = self.shown.iter().sum();
        if shown == 0 {
            return 0.0;
        }
        let bins = || {
            (0..).zip(&self.shown).map(|(bin, &count)| (f64::from(bin).mul_add(BIN, BIN / 2.0 - REACH), count as f64))
        };
        let mean = bins().map(|(logit, count)| logistic(logit) * count).sum::<f64>() / shown as f64;
        let centre = (mean / (1.0 - mean)).ln();
        let wanted = self.clicks.min(shown) as f64 + PRIOR * mean;
        let expected = |shift: f64| {
            bins().map(|(logit, count)| count * logistic(logit + shift)).sum::<f64>() + PRIOR * logistic(centre + shift)
        };
        // It grows with the shift: halving finds the one.
        let (mut low, mut high) = (-2.0 * REACH, 2.0 * REACH);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if expected(middle) < wanted { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    }
}

/// σ.
pub fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shown: usize, clicks: usize, logits: &[f32]) -> Calibration {
        let mut calibration = Calibration::default();
        logits.iter().cycle().take(shown).for_each(|&logit| calibration.show(logit));
        (0..clicks).for_each(|_| calibration.click());
        calibration
    }

    #[test]
    fn without_clicks_to_learn_from_the_ranker_is_believed() {
        assert!(Calibration::default().shift().abs() < 1e-9);
    }

    #[test]
    fn chances_that_are_ten_times_too_high_become_what_is_seen() {
        // It says 18 and 50 %, and one in fifty is clicked.
        let calibration = of(100_000, 2_000, &[-1.5, 0.0]);
        let shift = calibration.shift();
        let mean = f64::midpoint(logistic(shift - 1.5), logistic(shift));
        assert!((mean - 0.02).abs() < 0.002, "{mean}");
    }

    #[test]
    fn a_few_advertisements_say_little() {
        let shift = of(10, 0, &[-2.0]).shift();
        assert!((-0.2..0.0).contains(&shift), "{shift}");
    }

    #[test]
    fn numbers_out_of_reach_break_nothing() {
        let calibration = of(10, 20, &[f32::NAN, f32::INFINITY, -1e9]);
        assert!(calibration.shift().is_finite());
    }
}

//! The statistics of A/B experiments: what the numbers of the arms say, and when they say nothing yet.
//!
//! Pure functions of sums. Who is in which arm and what counts as a metric is for the neighbours to say.
//!
//! - [`Moments`]: the sums over the units of an arm from which everything else follows; they merge.
//! - [`Adjustment`]: CUPED, which takes away what was known before the experiment.
//! - [`Estimate`]: a metric in an arm, a percentile, a difference or a lift, each with its standard error: intervals and p values; or why there is
//!   [`NotEnough`] for one.
//! - [`sample_ratio_mismatch`]: whether the units were split as they should have been.
//! - [`Preferences`]: what interleaving tells.
//! - [`Plan`]: how many units an experiment takes.
//!
//! ```
//! # use vitrine_server::experiment::statistics::{Adjustment, Estimate, Moments, Probability, Unit};
//! // Clicks by answers: of the 200 users of each arm every second one, or two of three, clicked once in 4 answers.
//! let arm = |clickers: u32| (0..200).map(|user| Unit {
//!     numerator: f64::from(u8::from(user % 6 < clickers)),
//!     denominator: 4.0,
//!     covariate: 0.0,
//! }).collect::<Moments>();
//! let (control, treatment) = (arm(3), arm(4));
//! let adjustment = Adjustment::pooled(&[control, treatment]);
//! let control = Estimate::of(&control, &adjustment)?;
//! let lift = Estimate::of(&treatment, &adjustment)?.lift_over(&control)?;
//! assert!((lift.value - 1.0 / 3.0).abs() < 0.01);
//! assert!(lift.interval(Probability::FIVE_PERCENT).low > 0.0);
//! assert!(lift.p_value() < 0.01);
//! # Ok::<(), vitrine_server::experiment::statistics::NotEnough>(())
//! ```

mod cuped;
mod estimate;
mod interval;
mod mismatch;
mod moments;
mod normal;
mod percentile;
mod plan;
mod preference;
mod probability;

#[cfg(test)]
mod tests;

pub use cuped::Adjustment;
pub use estimate::{Estimate, NotEnough, TIGHTEST_AT};
pub use interval::Interval;
pub use mismatch::sample_ratio_mismatch;
pub use moments::{Moments, Unit};
pub use plan::Plan;
pub use preference::Preferences;
pub use probability::Probability;

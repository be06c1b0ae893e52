//! What a running experiment says of its candidate: a pure function, so that it can be tested without one.

use jiff::Timestamp;
use vitrine::v1::{ArmReport, Comparison, ExperimentMetric, ExperimentReport, GuardRailState};

use super::config::{ExperimentConfig, Require};
use super::state::Trial;

/// The arm of the version that answers.
pub const CONTROL: &str = "control";
/// The arm of the version that is tried.
pub const CANDIDATE: &str = "candidate";

/// Of more of its answers than this share another version answered: then figures do not speak of the candidate.
const MOST_FALLBACKS: f64 = 0.01;

/// What to do with the candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing yet, and why.
    Wait(String),
    /// Show it to more people.
    Grow,
    /// Let it answer.
    Promote(String),
    /// Let it go.
    RollBack {
        /// Why.
        why: String,
        /// Whether that speaks against the version.
        reject: bool,
    },
}

/// Judges a candidate by what its experiment led to so far.
pub fn judge(config: &ExperimentConfig, trial: &Trial, report: &ExperimentReport, now: Timestamp) -> Verdict {
    let back = |why: String, reject| Verdict::RollBack { why, reject };
    let arm = |name: &str| report.arms.iter().find(|arm| arm.arm == name);
    let (Some(control), Some(candidate)) = (arm(CONTROL), arm(CANDIDATE)) else {
        return back(format!("the experiment has no arms `{CONTROL}` and `{CANDIDATE}`"), false);
    };
    let broken = report.guard_rails.iter().filter(|rail| rail.arm == CANDIDATE);
    let broken: Vec<String> = broken
        .filter(|rail| rail.state() == GuardRailState::Broken)
        .filter_map(|rail| rail.guard_rail.as_ref())
        .map(|rail| {
            let name = name(rail.metric());
            let by = lift(report, rail.metric()).map(|lift| format!(" {}", percent(lift)));
            format!("{name}{} (tolerated: {})", by.unwrap_or_default(), plain(rail.tolerance))
        })
        .collect();
    if !broken.is_empty() {
        return back(format!("guard rail: {}", broken.join(", ")), true);
    }
    if report.sample_ratio.is_some_and(|ratio| ratio.mismatch) {
        return back("the arms do not have as many shoppers as they should: no figure is to be believed".into(), false);
    }
    let found = comparison(report, config.metric).filter(|found| found.not_enough_data.is_empty());
    let interval = found.and_then(|found| Some((found.lift, found.sequential_interval?)));
    if let Some((lift, interval)) = interval
        && interval.upper < -config.tolerance
    {
        let (metric, most) = (name(config.metric), percent(interval.upper));
        return back(
            format!("{metric} {}, at best {most} (tolerated: {})", percent(lift), plain(config.tolerance)),
            true,
        );
    }
    if candidate.fallbacks as f64 > MOST_FALLBACKS * candidate.answers as f64 {
        let (fallbacks, answers) = (candidate.fallbacks, candidate.answers);
        return Verdict::Wait(format!("another version gave {fallbacks} of the candidate's {answers} answers"));
    }
    let since = trial.since.unwrap_or(now);
    let (lasted, users) = (now.duration_since(since), seen_by_each(control, candidate) - trial.users);
    if users < config.min_step_users {
        return Verdict::Wait(format!("{users} of {} new shoppers in each arm", config.min_step_users));
    }
    if lasted < config.min_step_time {
        return Verdict::Wait(format!("{lasted:#} of {:#}", config.min_step_time));
    }
    let metric = name(config.metric);
    // What cannot be measured yet might be anything: it is shown to no more people.
    let Some((lift, interval)) = interval else {
        let why = found_nothing(report, config.metric);
        let late = lasted >= config.patience;
        return if late { back(format!("{metric}: {why}"), false) } else { Verdict::Wait(format!("{metric}: {why}")) };
    };
    if trial.step < config.last_step() {
        return Verdict::Grow;
    }
    let told = format!("{metric} {}, from {} to {}", percent(lift), percent(interval.lower), percent(interval.upper));
    let (enough, missing) = match config.require {
        Require::UnlessWorse => (true, ""),
        Require::NotWorse => (interval.lower > -config.tolerance, "not shown to be no worse"),
        Require::Better => (interval.lower > 0.0, "not shown to be better"),
    };
    if enough {
        return Verdict::Promote(told);
    }
    let told = format!("{missing}: {told}");
    if lasted >= config.patience { back(told, true) } else { Verdict::Wait(told) }
}

/// How many shoppers each arm has seen at least.
pub fn users(report: &ExperimentReport) -> i64 {
    let arm = |name: &str| report.arms.iter().find(|arm| arm.arm == name);
    arm(CONTROL).zip(arm(CANDIDATE)).map_or(0, |(control, candidate)| seen_by_each(control, candidate))
}

fn seen_by_each(control: &ArmReport, candidate: &ArmReport) -> i64 {
    control.users.min(candidate.users)
}

fn comparison(report: &ExperimentReport, metric: ExperimentMetric) -> Option<&Comparison> {
    report.comparisons.iter().find(|found| found.arm == CANDIDATE && found.metric() == metric)
}

/// By how much the candidate's figure is more than the control's: as the report says, or, where it says nothing for want of data, as it looks.
fn lift(report: &ExperimentReport, metric: ExperimentMetric) -> Option<f64> {
    let told = comparison(report, metric).filter(|found| found.not_enough_data.is_empty()).map(|found| found.lift);
    let estimate = |name: &str| {
        let arm = report.arms.iter().find(|arm| arm.arm == name)?;
        arm.metrics.iter().find(|known| known.metric() == metric)?.estimate
    };
    let looks = || Some(estimate(CANDIDATE)? / estimate(CONTROL).filter(|control| *control > 0.0)? - 1.0);
    told.or_else(looks)
}

fn found_nothing(report: &ExperimentReport, metric: ExperimentMetric) -> String {
    let why = comparison(report, metric).map(|found| found.not_enough_data.as_str()).filter(|why| !why.is_empty());
    why.unwrap_or("nothing to compare yet").to_owned()
}

/// As it is written in a configuration, as `add-to-cart`.
pub fn name(metric: ExperimentMetric) -> String {
    metric.as_str_name().trim_start_matches("EXPERIMENT_METRIC_").replace('_', "-").to_ascii_lowercase()
}

/// As `-31.0 %`.
fn percent(share: f64) -> String {
    format!("{:+.1} %", 100.0 * share)
}

fn plain(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use vitrine::v1::{ConfidenceInterval, GuardRail, GuardRailReport, SampleRatio};

    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn config() -> ExperimentConfig {
        let hour = SignedDuration::from_hours(1);
        ExperimentConfig { min_step_users: 100, min_step_time: hour, patience: 5 * hour, ..ExperimentConfig::default() }
    }

    fn trial(step: usize) -> Trial {
        Trial {
            version: vitrine_registry::Version::FIRST,
            parent: None,
            experiment: "loop-1-1".into(),
            step,
            since: Some(START),
            users: 50,
        }
    }

    /// After so many hours, with so many shoppers each and this interval of the lift.
    fn report(users: i64, lower: f64, upper: f64) -> ExperimentReport {
        let arm = |name: &str| ArmReport { arm: name.into(), users, answers: 10 * users, ..Default::default() };
        let mut compared =
            Comparison { arm: CANDIDATE.into(), lift: f64::midpoint(lower, upper), ..Default::default() };
        compared.set_metric(ExperimentMetric::Ctr);
        compared.sequential_interval = Some(ConfidenceInterval { lower, upper });
        ExperimentReport { arms: vec![arm(CONTROL), arm(CANDIDATE)], comparisons: vec![compared], ..Default::default() }
    }

    fn after(hours: i64) -> Timestamp {
        START + SignedDuration::from_hours(hours)
    }

    fn waits(verdict: &Verdict, for_what: &str) -> bool {
        matches!(verdict, Verdict::Wait(why) if why.contains(for_what))
    }

    #[test]
    fn a_step_ends_when_it_has_lasted_and_been_seen() {
        let (config, good) = (config(), report(150, -0.1, 0.1));
        assert!(waits(&judge(&config, &trial(0), &report(149, -0.1, 0.1), after(1)), "99 of 100 new shoppers"));
        assert!(waits(&judge(&config, &trial(0), &good, START), "of 1h"));
        for (step, wanted) in [(0, Verdict::Grow), (1, Verdict::Grow)] {
            assert_eq!(judge(&config, &trial(step), &good, after(1)), wanted);
        }
        let Verdict::Promote(why) = judge(&config, &trial(2), &good, after(1)) else { panic!() };
        assert_eq!(why, "ctr +0.0 %, from -10.0 % to +10.0 %");
    }

    #[test]
    fn without_times_nothing_waits_for_the_clock() {
        let config = ExperimentConfig { min_step_time: SignedDuration::ZERO, min_step_users: 0, ..config() };
        assert_eq!(judge(&config, &trial(0), &report(50, -0.1, 0.1), START), Verdict::Grow);
    }

    #[test]
    fn what_is_shown_to_be_worse_is_rolled_back_at_any_step() {
        for (step, users, lower, upper) in [(0, 1, -0.5, -0.021), (2, 900, -0.03, -0.025)] {
            let Verdict::RollBack { why, reject: true } =
                judge(&config(), &trial(step), &report(users, lower, upper), START)
            else {
                panic!()
            };
            assert!(why.starts_with("ctr -"), "{why}");
        }
        assert!(waits(&judge(&config(), &trial(0), &report(1, -0.5, -0.019), START), "new shoppers"));
    }

    #[test]
    fn a_broken_guard_rail_rolls_back_and_says_which() {
        let mut seen = report(900, -0.4, -0.2);
        let rail = |metric: ExperimentMetric, state: GuardRailState| GuardRailReport {
            arm: CANDIDATE.into(),
            guard_rail: Some(GuardRail { metric: metric as i32, tolerance: 0.05 }),
            state: state as i32,
        };
        seen.guard_rails = vec![
            rail(ExperimentMetric::Ctr, GuardRailState::Broken),
            rail(ExperimentMetric::Conversion, GuardRailState::Unknown),
            rail(ExperimentMetric::LatencyP99, GuardRailState::Broken),
        ];
        let wanted = "guard rail: ctr -30.0 % (tolerated: 5.0 %), latency-p99 (tolerated: 5.0 %)";
        let verdict = judge(&config(), &trial(0), &seen, START);
        assert_eq!(verdict, Verdict::RollBack { why: wanted.into(), reject: true });
    }

    #[test]
    fn what_cannot_be_believed_does_not_speak_against_the_version() {
        let mut seen = report(900, -0.1, 0.1);
        seen.arms[1].fallbacks = 100;
        assert!(waits(&judge(&config(), &trial(2), &seen, after(9)), "100 of the candidate's 9000 answers"));
        seen.sample_ratio = Some(SampleRatio { p_value: 0.0, mismatch: true });
        let verdict = judge(&config(), &trial(2), &seen, after(9));
        assert!(matches!(verdict, Verdict::RollBack { reject: false, .. }), "{verdict:?}");
        seen.arms.clear();
        let verdict = judge(&config(), &trial(2), &seen, after(9));
        assert!(matches!(verdict, Verdict::RollBack { reject: false, .. }), "{verdict:?}");
    }

    #[test]
    fn what_is_required_has_to_be_shown_in_time() {
        for (require, lower, enough) in [
            (Require::UnlessWorse, -0.5, true),
            (Require::NotWorse, -0.03, false),
            (Require::NotWorse, -0.01, true),
            (Require::Better, -0.01, false),
            (Require::Better, 0.001, true),
        ] {
            let config = ExperimentConfig { require, ..config() };
            let seen = report(900, lower, 0.2);
            let early = judge(&config, &trial(2), &seen, after(4));
            let late = judge(&config, &trial(2), &seen, after(5));
            if enough {
                assert!(matches!(early, Verdict::Promote(_)), "{require:?}: {early:?}");
            } else {
                assert!(waits(&early, "not shown"), "{require:?}: {early:?}");
                assert!(matches!(late, Verdict::RollBack { reject: true, .. }), "{require:?}: {late:?}");
            }
        }
    }

    #[test]
    fn without_figures_it_is_shown_to_no_more_people() {
        let mut seen = report(900, 0.0, 0.0);
        seen.comparisons[0].not_enough_data = "no clicks".into();
        for step in 0..3 {
            assert!(waits(&judge(&config(), &trial(step), &seen, after(1)), "ctr: no clicks"));
            let late = judge(&config(), &trial(step), &seen, after(5));
            assert_eq!(late, Verdict::RollBack { why: "ctr: no clicks".into(), reject: false });
        }
    }
}

//! Experiments whose truth is known: how often the figures find what there is, and how often what there is not.

use std::iter::repeat_with;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::super::{Adjustment, Estimate, Moments, Plan, Probability, TIGHTEST_AT, Unit, sample_ratio_mismatch};

const ALPHA: Probability = Probability::FIVE_PERCENT;
const EXPERIMENTS: usize = 1_000;
const BOTH_SAME: [f64; 2] = [1.0, 1.0];

/// Clicks by answers of a user with own habits: how many answers are seen, and how often one is clicked. From a time before
/// that, clicks in 20 answers are known.
fn user(random: &mut StdRng, factor: f64) -> Unit {
    let rate = 0.4 * random.random::<f64>() * random.random::<f64>();
    let answers = random.random_range(1..=6);
    let mut clicks =
        |answers: u32, rate: f64| f64::from((0..answers).map(|_| u32::from(random.random_bool(rate))).sum::<u32>());
    Unit { covariate: clicks(20, rate), numerator: clicks(answers, factor * rate), denominator: f64::from(answers) }
}

/// Adds users, each to an arm by chance.
fn run(random: &mut StdRng, arms: &mut [Moments; 2], factors: [f64; 2], users: usize) {
    for _ in 0..users {
        let arm = usize::from(random.random::<bool>());
        arms[arm].add(user(random, factors[arm]));
    }
}

/// The lift of clicks by answers, if there is enough for one.
fn lift([control, treatment]: &[Moments; 2], adjustment: &Adjustment) -> Option<Estimate> {
    let [control, treatment] = [control, treatment].map(|arm| Estimate::of(arm, adjustment).ok());
    treatment?.lift_over(&control?).ok()
}

fn share(count: usize) -> f64 {
    count as f64 / EXPERIMENTS as f64
}

#[test]
fn equal_arms_are_found_to_differ_as_often_as_the_level_says_and_watching_needs_always_valid_intervals() {
    let mut random = StdRng::seed_from_u64(1);
    let (mut once, mut watched, mut always, mut mismatches) = (0, 0, 0, 0);
    for _ in 0..EXPERIMENTS {
        let mut arms = [Moments::default(); 2];
        let (mut out, mut out_for_good) = (false, false);
        for _ in 0..20 {
            run(&mut random, &mut arms, BOTH_SAME, 100);
            let Some(lift) = lift(&arms, &Adjustment::default()) else { continue };
            out |= !lift.interval(ALPHA).contains(0.0);
            out_for_good |= !lift.always_valid_interval(ALPHA, TIGHTEST_AT).contains(0.0);
        }
        let lift = lift(&arms, &Adjustment::default()).unwrap();
        once += usize::from(lift.p_value() < ALPHA.get());
        watched += usize::from(out);
        always += usize::from(out_for_good);
        mismatches += usize::from(sample_ratio_mismatch(&arms.map(|arm| (arm.units(), 0.5))) < 0.001);
    }
    assert!((0.035..=0.065).contains(&share(once)), "{once}");
    assert!(share(watched) > 0.15, "{watched}");
    assert!(share(always) <= 0.05, "{always}");
    assert!(share(mismatches) <= 0.002, "{mismatches}");
}

/// Latencies of answers to so many users, to some of whom all take longer.
fn latencies(random: &mut StdRng, users: u32) -> Vec<(u32, f32)> {
    let mut latencies = Vec::new();
    for user in 0..users {
        let usual = -random.random::<f32>().ln();
        latencies.extend((0..random.random_range(1..8)).map(|_| (user, usual - random.random::<f32>().ln())));
    }
    latencies
}

#[test]
fn latencies_of_equal_arms_are_found_to_differ_as_often_as_the_level_says() {
    let mut random = StdRng::seed_from_u64(5);
    for at in [0.5, 0.95] {
        let at = Probability::new(at).unwrap();
        let mut found = 0;
        for _ in 0..EXPERIMENTS {
            let mut arm = || Estimate::percentile(&mut latencies(&mut random, 400), at).unwrap();
            let (control, treatment) = (arm(), arm());
            found += usize::from(treatment.lift_over(&control).unwrap().p_value() < ALPHA.get());
        }
        assert!((0.035..=0.065).contains(&share(found)), "{found} at {at:?}");
    }
}

#[test]
fn a_lift_of_a_tenth_is_found_as_often_as_planned() {
    let [control, treatment, split] = [0.3, 0.33, 0.5].map(|share| Probability::new(share).unwrap());
    let plan = Plan { control, treatment, split, alpha: ALPHA };
    let users = plan.units(Probability::new(0.8).unwrap()).unwrap();
    let mut random = StdRng::seed_from_u64(2);
    let mut arm = |rate: Probability| -> Moments {
        let mut user = || Unit {
            numerator: f64::from(u8::from(random.random_bool(rate.get()))),
            denominator: 1.0,
            covariate: 0.0,
        };
        (0..users / 2).map(|_| user()).collect()
    };
    let found = (0..EXPERIMENTS)
        .filter_map(|_| lift(&[arm(control), arm(treatment)], &Adjustment::default()))
        .filter(|lift| lift.value > 0.0 && lift.p_value() < ALPHA.get())
        .count();
    assert!((share(found) - plan.power(users)).abs() < 0.05, "{found}");
}

#[test]
fn what_was_known_before_makes_intervals_narrower_by_what_its_correlation_foretells() {
    let mut random = StdRng::seed_from_u64(3);
    // Both have the standard deviation √(1/12), and a covariance of 0.8 of its square.
    let mut arm = |effect: f64| -> Moments {
        let user = || {
            let [before, other] = std::array::from_fn(|_| random.random::<f64>());
            Unit { numerator: 1.0 + effect + 0.8 * before + 0.6 * other, denominator: 1.0, covariate: before }
        };
        repeat_with(user).take(20_000).collect()
    };
    let arms = [arm(0.0), arm(0.1)];
    let adjustment = Adjustment::pooled(&arms);
    let width = |adjustment: &Adjustment| lift(&arms, adjustment).unwrap().interval(ALPHA).width();
    let narrower = width(&adjustment) / width(&Adjustment::default());
    assert!((narrower / 0.6 - 1.0).abs() < 0.02, "{narrower}");
    assert!((adjustment.variance_reduction() - 0.64).abs() < 0.01);
}

#[test]
fn adjusted_intervals_of_a_ratio_are_narrower_and_contain_the_truth_as_often() {
    let mut random = StdRng::seed_from_u64(4);
    let (mut contained, mut narrower, mut foretold) = (0, 0.0, 0.0);
    for _ in 0..EXPERIMENTS {
        let mut arms = [Moments::default(); 2];
        run(&mut random, &mut arms, [1.0, 1.2], 2_000);
        let adjustment = Adjustment::pooled(&arms);
        let adjusted = lift(&arms, &adjustment).unwrap();
        let plain = lift(&arms, &Adjustment::default()).unwrap();
        contained += usize::from(adjusted.interval(ALPHA).contains(0.2));
        narrower += adjusted.standard_error / plain.standard_error / EXPERIMENTS as f64;
        foretold += (1.0 - adjustment.variance_reduction()).sqrt() / EXPERIMENTS as f64;
    }
    assert!((0.935..=0.965).contains(&share(contained)), "{contained}");
    assert!((narrower / foretold - 1.0).abs() < 0.02, "{narrower} {foretold}");
    assert!(narrower < 0.95, "{narrower}");
}

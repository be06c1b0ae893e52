//! SciPy and statsmodels come to the same figures: `statistics_peers.py` made `statistics_peers.json`, experiments and what they say of them.

use serde_json::Value;

use super::super::{
    Adjustment, Estimate, Interval, Moments, Plan, Preferences, Probability, TIGHTEST_AT, Unit, normal,
    sample_ratio_mismatch,
};

fn peers() -> Value {
    serde_json::from_str(include_str!("statistics_peers.json")).unwrap()
}

fn number(of: &Value) -> f64 {
    of.as_f64().unwrap()
}

fn probability(of: &Value) -> Probability {
    Probability::new(number(of)).unwrap()
}

fn list(of: &Value) -> &[Value] {
    of.as_array().unwrap()
}

/// To 1e-9 of what is expected.
#[track_caller]
fn assert_same(ours: f64, theirs: &Value) {
    let theirs = number(theirs);
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs(), "{ours} is not {theirs}");
}

#[track_caller]
fn assert_same_interval(ours: Interval, theirs: &Value) {
    assert_same(ours.low, &theirs[0]);
    assert_same(ours.high, &theirs[1]);
}

fn assert_same_figures(ours: &Estimate, theirs: &Value) {
    assert_same(ours.value, &theirs["value"]);
    assert_same(ours.standard_error, &theirs["standard_error"]);
    assert_same(ours.p_value(), &theirs["p_value"]);
    assert_same_interval(ours.interval(Probability::FIVE_PERCENT), &theirs["interval"]);
    let always = ours.always_valid_interval(Probability::FIVE_PERCENT, TIGHTEST_AT);
    assert_same_interval(always, &theirs["always_valid_interval"]);
}

fn assert_same_comparison(arms: &[Moments; 2], adjustment: &Adjustment, theirs: &Value) {
    assert_same_estimates(arms.map(|arm| Estimate::of(&arm, adjustment).unwrap()), theirs);
}

fn assert_same_estimates([control, treatment]: [Estimate; 2], theirs: &Value) {
    for (ours, theirs) in [(control, &theirs["control"]), (treatment, &theirs["treatment"])] {
        assert_same(ours.value, &theirs[0]);
        assert_same(ours.standard_error, &theirs[1]);
    }
    assert_same_figures(&treatment.difference_from(&control), &theirs["difference"]);
    assert_same_figures(&treatment.lift_over(&control).unwrap(), &theirs["lift"]);
}

fn moments(arm: &Value) -> Moments {
    let [numerators, denominators, covariates] = ["numerator", "denominator", "covariate"].map(|of| list(&arm[of]));
    let rows = numerators.iter().zip(denominators).zip(covariates);
    rows.map(|((numerator, denominator), covariate)| Unit {
        numerator: number(numerator),
        denominator: number(denominator),
        covariate: number(covariate),
    })
    .collect()
}

#[test]
fn differences_and_lifts_of_means_and_ratios_are_theirs_with_and_without_a_covariate() {
    let peers = peers();
    let experiments = peers["experiments"].as_object().unwrap();
    assert_eq!(experiments.len(), 3);
    for experiment in experiments.values() {
        let arms: [Moments; 2] = std::array::from_fn(|arm| moments(&experiment["arms"][arm]));
        assert_same_comparison(&arms, &Adjustment::default(), &experiment["plain"]);
        let adjustment = Adjustment::pooled(&arms);
        assert_same(adjustment.slope(), &experiment["adjusted"]["slope"]);
        assert_same(adjustment.correlation(), &experiment["adjusted"]["correlation"]);
        assert_same_comparison(&arms, &adjustment, &experiment["adjusted"]);
    }
}

#[test]
fn percentiles_are_theirs() {
    let peers = peers();
    assert_eq!(list(&peers["percentiles"]).len(), 2);
    for theirs in list(&peers["percentiles"]) {
        let arms = std::array::from_fn(|arm| {
            let arm = &theirs["arms"][arm];
            let numbers = list(&arm["unit"]).iter().zip(list(&arm["number"]));
            let mut numbers: Vec<(u32, f32)> =
                numbers.map(|(unit, took)| (number(unit) as u32, number(took) as f32)).collect();
            Estimate::percentile(&mut numbers, probability(&theirs["share"])).unwrap()
        });
        assert_same_estimates(arms, theirs);
    }
}

#[test]
fn mismatches_are_theirs() {
    for theirs in list(&peers()["mismatches"]) {
        let (observed, weights) = (list(&theirs["observed"]), list(&theirs["weights"]));
        let arms: Vec<_> =
            observed.iter().zip(weights).map(|(units, weight)| (units.as_u64().unwrap(), number(weight))).collect();
        assert_same(sample_ratio_mismatch(&arms), &theirs["p_value"]);
    }
}

#[test]
fn preferences_are_theirs_up_to_ten_million() {
    for theirs in list(&peers()["preferences"]) {
        let [control, treatment] = ["control", "treatment"].map(|of| theirs[of].as_u64().unwrap());
        let ours = Preferences { control, treatment };
        assert_same(ours.p_value(), &theirs["p_value"]);
        assert_same_interval(ours.treatment_share(Probability::FIVE_PERCENT).unwrap().1, &theirs["interval"]);
    }
}

#[test]
fn plans_are_theirs() {
    for theirs in list(&peers()["plans"]) {
        let [control, treatment, split, alpha, wanted] =
            ["control", "treatment", "split", "alpha", "wanted_power"].map(|of| probability(&theirs[of]));
        let plan = Plan { control, treatment, split, alpha };
        assert_eq!(plan.units(wanted), theirs["units"].as_u64());
        assert_same(plan.power(theirs["given_units"].as_u64().unwrap()), &theirs["given_power"]);
    }
}

#[test]
fn the_normal_distribution_is_theirs() {
    let peers = peers();
    for pair in list(&peers["normal_tails"]) {
        assert_same(normal::upper_tail(number(&pair[0])), &pair[1]);
    }
    for pair in list(&peers["normal_quantiles"]) {
        assert_same(normal::upper_quantile(number(&pair[0])), &pair[1]);
    }
}

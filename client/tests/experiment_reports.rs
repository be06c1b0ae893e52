//! What an experiment has led to, in the terminal and as a page.

#![cfg(test)]

mod fake;

use std::fs;

use tempfile::tempdir;
use vitrine::v1::{
    Arm, ArmMetric, ArmReport, Comparison, ConfidenceInterval, CurvePoint, ExperimentMetric, ExperimentReport,
    GuardRail, GuardRailReport, GuardRailState, Preference, SampleRatio, ShadowReport,
};

use crate::fake::{
    experiment::plan,
    terminal::{Terminal, scenario},
};

fn between(lower: f64, upper: f64) -> ConfidenceInterval {
    ConfidenceInterval { lower, upper }
}

fn figure(metric: ExperimentMetric, estimate: f64, standard_error: Option<f64>) -> ArmMetric {
    ArmMetric { metric: metric.into(), estimate: Some(estimate), standard_error }
}

fn arm(name: &str, users: i64, ctr: f64) -> ArmReport {
    ArmReport {
        arm: name.into(),
        users,
        answers: 3 * users,
        metrics: vec![
            figure(ExperimentMetric::Ctr, ctr, Some(0.0021)),
            figure(ExperimentMetric::Revenue, 4.125, Some(0.2)),
            figure(ExperimentMetric::LatencyP99, 31.27, None),
        ],
        fallbacks: 0,
    }
}

/// CTR is up, revenue unknown, and latency has no interval.
fn comparisons(name: &str) -> Vec<Comparison> {
    let of = |metric: ExperimentMetric| Comparison { arm: name.into(), metric: metric.into(), ..Comparison::default() };
    vec![
        Comparison {
            lift: 0.081,
            interval: Some(between(0.042, 0.12)),
            sequential_interval: Some(between(0.013, f64::INFINITY)),
            p_value: 0.000_03,
            variance_reduction: 0.18,
            ..of(ExperimentMetric::Ctr)
        },
        Comparison { not_enough_data: "3 buyers of 100".into(), ..of(ExperimentMetric::Revenue) },
        Comparison { lift: 0.2, ..of(ExperimentMetric::LatencyP99) },
    ]
}

fn report() -> ExperimentReport {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let arms = vec![arm("control", 5_012, 0.0312), arm("canary", 4_988, 0.0337)];
    let point =
        |day: i64| CurvePoint { time: time(day * 86_400), comparisons: comparisons("canary"), arms: arms.clone() };
    ExperimentReport {
        time: time(8 * 86_400),
        alpha: 0.05,
        sequential_tuning: 5_000,
        comparisons: comparisons("canary"),
        sample_ratio: Some(SampleRatio { p_value: 0.81, mismatch: false }),
        guard_rails: vec![GuardRailReport {
            arm: "canary".into(),
            guard_rail: Some(GuardRail { metric: ExperimentMetric::Ctr.into(), tolerance: 0.05 }),
            state: GuardRailState::Holds.into(),
        }],
        curve: (1..=8).map(point).collect(),
        revenue_currency: "EUR".into(),
        arms,
        ..ExperimentReport::default()
    }
}

scenario!(a_report_compares_the_arms, terminal => {
    plan(&terminal, "encoder").await;
    terminal.shop.state().report = report();
    let ran = terminal.run(&["experiments", "report", "encoder", "--alpha", "0.05", "--tuning", "900"]).await.is(0);
    ran.says(&[
        "arm control canary",
        "users 5,012 4,988",
        "ctr 3.12 % 3.37 %",
        "revenue 4.125 EUR 4.125 EUR",
        "latency p99 31.3 ms 31.3 ms",
        "canary lift 95 % interval at any time so far p cuped",
        "ctr +8.1 % +4.2 … +12.0 % +1.3 % … ∞ better 3e-5 18 %",
        "revenue not enough data",
        "latency p99 +20.0 %",
        "not enough data for revenue: 3 buyers of 100",
        "ctr at most 5 % worse canary holds",
    ]);
    assert!(!ran.out.contains('\u{1b}') && !ran.out.contains("!!!"), "{ran:?}");
    let asked = terminal.shop.state().reported.clone();
    assert_eq!((asked.alpha, asked.sequential_tuning, asked.curve_points), (0.05, 900, 0));
    let told = terminal.run(&["experiments", "report", "encoder", "--json", "--curve", "8"]).await.is(0).json();
    assert_eq!(told["comparisons"][0]["sequential_interval"]["upper"], "Infinity");
    assert_eq!(terminal.shop.state().reported.curve_points, 8);
});

scenario!(figures_that_are_not_to_be_believed_are_told_so_first, terminal => {
    plan(&terminal, "encoder").await;
    let strict = ["experiments", "report", "encoder", "--strict"];
    terminal.shop.state().report = ExperimentReport { multiple_exposures: 7, warnings: vec!["the log is old".into()], ..report() };
    let ran = terminal.run(&strict).await.is(0);
    assert!(ran.out.starts_with("warning: the log is old\nencoder of shop"), "{ran:?}");
    assert!(ran.out.contains("7 shoppers had more than one arm shown"), "{ran:?}");
    terminal.shop.state().report.warnings.push("SAMPLE RATIO MISMATCH (p = 3.00e-12)".into());
    terminal.shop.state().report.sample_ratio = Some(SampleRatio { p_value: 3e-12, mismatch: true });
    let ran = terminal.run(&strict).await.is(7);
    assert!(ran.out.starts_with("!!! SAMPLE RATIO MISMATCH") && ran.out.contains("p = 3e-12"), "{ran:?}");
    assert!(ran.out.contains("!!! of 10,000 shoppers: control 50.12 % in place of 50 %, canary 49.88 %"), "{ran:?}");
    assert_eq!(ran.out.matches("SAMPLE RATIO MISMATCH").count(), 1, "{ran:?}");
    terminal.run(&strict[..3]).await.is(0);
    let ran = terminal.run(&["experiments", "report", "encoder", "--color", "always"]).await.is(0);
    assert!(ran.out.starts_with("\u{1b}[1;97;41m SAMPLE RATIO MISMATCH"), "{ran:?}");
});

scenario!(a_broken_guard_rail_has_its_exit_code, terminal => {
    plan(&terminal, "encoder").await;
    let mut broken = report();
    broken.guard_rails[0].set_state(GuardRailState::Broken);
    terminal.shop.state().report = broken;
    assert!(terminal.run(&["experiments", "report", "encoder", "--strict"]).await.is(7).out.contains("BROKEN"));
});

scenario!(a_report_of_nothing_is_no_failure, terminal => {
    plan(&terminal, "encoder").await;
    let folder = tempdir().unwrap();
    let page = folder.path().join("report.html");
    let ran = terminal.run(&["experiments", "report", "encoder", "--strict", "--html", page.to_str().unwrap()]).await.is(0);
    assert!(ran.out.contains("encoder of shop · draft"), "{ran:?}");
});

scenario!(interleaved_rankings_and_shadows_have_figures_of_their_own, terminal => {
    plan(&terminal, "encoder").await;
    let preference = Preference {
        control: 120,
        treatment: 180,
        ties: 700,
        share: Some(0.6),
        interval: Some(between(0.5436, 0.6539)),
        p_value: 0.000_63,
    };
    let shadow = ShadowReport {
        arm: "next".into(),
        answers: 1_500,
        overlap_at_10: 0.82,
        same_first: 0.55,
        latency_p50_ms: 4.0,
        latency_p99_ms: 19.5,
        failures: 2,
    };
    terminal.shop.state().report =
        ExperimentReport { preference: Some(preference), shadows: vec![shadow], comparisons: Vec::new(), ..report() };
    let ran = terminal.run(&["experiments", "report", "encoder"]).await.is(0);
    ran.says(&[
        "60.00 % of those with a preference prefer canary (54.36 % … 65.39 %, p 0.001)",
        "180 shoppers clicked more of canary, 120 more of control, 700 as much of both",
        "next 1,500 82.00 % 55.00 % 4.0 ms 19.5 ms 2",
    ]);
});

scenario!(a_report_is_written_as_a_page_that_needs_nothing_else, terminal => {
    plan(&terminal, "encoder").await;
    terminal.shop.state().report = report();
    let folder = tempdir().unwrap();
    let path = folder.path().join("report.html");
    let ran = terminal.run(&["experiments", "report", "encoder", "--html", path.to_str().unwrap()]).await.is(0);
    assert!(ran.err.contains("wrote the report to ") && ran.out.contains("+8.1 %"), "{ran:?}");
    assert_eq!(terminal.shop.state().reported.curve_points, 60);
    let page = fs::read_to_string(&path).unwrap();
    for part in ["<!DOCTYPE html>", "prefers-color-scheme: dark", "+8.1 %", "not enough data for revenue: 3 buyers of 100", "polyline", "ctr at most 5 % worse"] {
        assert!(page.contains(part), "{part}");
    }
    for needless in ["<script", "http://", "https://", "<link", "<img", "url(", "NaN", "inf"] {
        assert!(!page.contains(needless), "{needless}");
    }
});

scenario!(whatever_a_server_says_cannot_break_out_of_the_page_or_the_terminal, terminal => {
    plan(&terminal, "encoder").await;
    let hostile = "</title></style><script>alert(1)</script>\"'\u{1b}[2J";
    {
        let mut state = terminal.shop.state();
        let experiment = state.experiments.get_mut("experiments/encoder").unwrap();
        experiment.note = hostile.into();
        experiment.seed = hostile.into();
        experiment.changes[0].author = hostile.into();
        experiment.changes[0].summary = hostile.into();
        experiment.arms[1] = Arm { name: hostile.into(), models: [(hostile.into(), hostile.into())].into(), weight: 0.5, ..Arm::default() };
        let mut report = report();
        report.arms[1].arm = hostile.into();
        report.comparisons = comparisons(hostile);
        report.comparisons[1].not_enough_data = hostile.into();
        report.curve.iter_mut().for_each(|point| point.comparisons = comparisons(hostile));
        report.guard_rails[0].arm = hostile.into();
        report.warnings = vec![hostile.into()];
        report.revenue_currency = hostile.into();
        report.shadows = vec![ShadowReport { arm: hostile.into(), ..ShadowReport::default() }];
        state.report = report;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("report.html");
    let ran = terminal.run(&["experiments", "report", "encoder", "--html", path.to_str().unwrap()]).await.is(0);
    assert!(!ran.out.contains('\u{1b}'), "{ran:?}");
    let page = fs::read_to_string(&path).unwrap();
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)"));
    assert_eq!((page.matches("</title></style>").count(), page.matches("</style>").count()), (0, 1));
});

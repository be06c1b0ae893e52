//! A report as tables.

use anyhow::Result;
use vitrine::v1::{ArmReport, Comparison, ExperimentReport};

use super::figures::{
    NOT_ENOUGH_DATA, arms, chance, confidence, estimate, interval, lacking, left_out, lift, measured, mismatch,
    preference, share, standing, verdict, warnings,
};
use crate::{
    command::experiments::words,
    output::{Column, Output, grouped, last_part, line, printable},
};

/// Prints the report: what speaks against it first.
pub fn print(output: Output, report: &ExperimentReport) -> Result<()> {
    for text in mismatch(report).into_iter().flatten() {
        output.alarm(printable(&text))?;
    }
    for text in warnings(report) {
        output.warning(printable(&format!("warning: {text}")))?;
    }
    heading(output, report)?;
    seen(output, report)?;
    for arm in arms(report).skip(1) {
        let beside: Vec<&Comparison> = report.comparisons.iter().filter(|other| other.arm == arm.arm).collect();
        if !beside.is_empty() {
            comparisons(output, report, &beside)?;
        }
    }
    if let Some(preferred) = &report.preference {
        line("")?;
        preference(report, preferred).into_iter().try_for_each(|text| line(printable(&text)))?;
    }
    guard_rails(output, report)?;
    shadows(output, report)
}

fn heading(output: Output, report: &ExperimentReport) -> Result<()> {
    let experiment = report.experiment.clone().unwrap_or_default();
    let mut parts = vec![
        format!("{} of {}", last_part(&experiment.name), last_part(&experiment.catalog)),
        words::state(experiment.state()).to_owned(),
    ];
    parts.extend(experiment.start_time.as_ref().map(|time| format!("since {}", words::when(time))));
    parts.extend(experiment.stop_time.as_ref().map(|time| format!("until {}", words::when(time))));
    parts.extend(report.time.as_ref().map(|time| format!("counted {}", words::when(time))));
    Ok(output.note(printable(&parts.join(" · ")))?)
}

/// What was seen of each arm, side by side.
fn seen(output: Output, report: &ExperimentReport) -> Result<()> {
    let arms = arms(report);
    if arms.clone().next().is_none() {
        return Ok(());
    }
    let row = |name: &str, figure: &dyn Fn(&ArmReport) -> String| {
        [name.to_owned()].into_iter().chain(arms.clone().map(figure)).collect::<Vec<_>>()
    };
    let mut rows = vec![row("users", &|arm| grouped(arm.users)), row("answers", &|arm| grouped(arm.answers))];
    rows.extend(
        measured(report)
            .iter()
            .map(|metric| row(&words::metric((*metric).into()), &|arm| estimate(report, arm, *metric))),
    );
    if arms.clone().any(|arm| arm.fallbacks > 0) {
        rows.push(row("fallbacks", &|arm| grouped(arm.fallbacks)));
    }
    let names = arms.map(|arm| Column::Number(&arm.arm));
    let columns: Vec<Column<'_>> = [Column::Id("arm")].into_iter().chain(names).collect();
    line("")?;
    output.table(&columns, rows)?;
    left_out(report).into_iter().try_for_each(|text| output.note(text))?;
    Ok(())
}

fn comparisons(output: Output, report: &ExperimentReport, beside: &[&Comparison]) -> Result<()> {
    let sure = format!("{} interval", confidence(report));
    let first = beside.first().map(|comparison| comparison.arm.clone()).unwrap_or_default();
    let columns = [
        Column::Id(&first),
        Column::Number("lift"),
        Column::Text(&sure),
        Column::Text("at any time"),
        Column::Text("so far"),
        Column::Number("p"),
        Column::Number("cuped"),
    ];
    let rows = beside.iter().map(|comparison| {
        let metric = words::metric(comparison.metric);
        if !comparison.not_enough_data.is_empty() {
            return vec![metric, String::new(), NOT_ENOUGH_DATA.to_owned()];
        }
        let said = [&comparison.interval, &comparison.sequential_interval];
        let [fixed, sequential] = said.map(|said| said.as_ref().map(interval).unwrap_or_default());
        // Without an interval there was no test either.
        let p = if fixed.is_empty() { String::new() } else { chance(comparison.p_value) };
        let sharper = comparison.variance_reduction;
        let sharper = if sharper > 0.0 { format!("{:.0} %", 100.0 * sharper) } else { String::new() };
        vec![metric, lift(comparison.lift), fixed, sequential, verdict(comparison).to_owned(), p, sharper]
    });
    line("")?;
    output.table(&columns, rows)?;
    for text in lacking(beside.iter().copied()) {
        output.note(printable(&format!("{NOT_ENOUGH_DATA} for {text}")))?;
    }
    Ok(())
}

fn guard_rails(output: Output, report: &ExperimentReport) -> Result<()> {
    if report.guard_rails.is_empty() {
        return Ok(());
    }
    let columns = [Column::Text("guard rail"), Column::Id("arm"), Column::Text("state")];
    let rows = report.guard_rails.iter().map(|rail| {
        let rule = rail.guard_rail.as_ref().map(words::guard_rail).unwrap_or_default();
        vec![rule, rail.arm.clone(), standing(rail.state()).to_owned()]
    });
    line("")?;
    Ok(output.table(&columns, rows)?)
}

fn shadows(output: Output, report: &ExperimentReport) -> Result<()> {
    if report.shadows.is_empty() {
        return Ok(());
    }
    let columns = [
        Column::Id("shadow"),
        Column::Number("answers"),
        Column::Number("first 10 in common"),
        Column::Number("same first"),
        Column::Number("latency p50"),
        Column::Number("latency p99"),
        Column::Number("failures"),
    ];
    let rows = report.shadows.iter().map(|shadow| {
        vec![
            shadow.arm.clone(),
            grouped(shadow.answers),
            share(shadow.overlap_at_10),
            share(shadow.same_first),
            format!("{:.1} ms", shadow.latency_p50_ms),
            format!("{:.1} ms", shadow.latency_p99_ms),
            grouped(shadow.failures),
        ]
    });
    line("")?;
    Ok(output.table(&columns, rows)?)
}

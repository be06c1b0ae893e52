//! A report as one page of HTML that needs nothing else: no network, no script. maud escapes every text in it.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use vitrine::v1::{Comparison, ExperimentMetric, ExperimentReport, GuardRailState};

use super::{
    curves,
    figures::{
        NOT_ENOUGH_DATA, arms, chance, confidence, estimate, interval, lacking, left_out, less_is_better, lift,
        measured, mismatch, preference, share, standard_error, standing, verdict, warnings,
    },
    forest::{class, forest},
};
use crate::{
    command::experiments::words,
    output::{grouped, last_part},
};

/// The page.
pub fn page(report: &ExperimentReport) -> Result<String> {
    let experiment = report.experiment.clone().unwrap_or_default();
    let name = last_part(&experiment.name);
    let counted = report.time.as_ref().map(words::when).unwrap_or_default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing of it may fetch or run anything, whatever stands in it.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (name) " · experiment" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                h1 { (name) }
                p.faint { (words::state(experiment.state())) " · of " (last_part(&experiment.catalog)) " · counted " (counted) }
                (doubts(report))
                (seen(report))
                (preferred(report))
                (rails(report))
                (beside(report))
                (over_time(report))
                (shadows(report))
                h2 { "The experiment" }
                dl { @for (field, value) in words::fields(&experiment)? { dt { (field) } dd { (value) } } }
                (history(report))
                (reading(report))
            }
        }
    };
    Ok(page.into_string())
}

fn doubts(report: &ExperimentReport) -> Markup {
    html! {
        @if let Some(texts) = mismatch(report) { div.alarm role="alert" { @for text in texts { p { (text) } } } }
        @for text in warnings(report) { div.warning { (text) } }
    }
}

/// What was seen of each arm, side by side.
fn seen(report: &ExperimentReport) -> Markup {
    html! {
        h2 { "Arms" }
        div.scroll { table {
            thead { tr {
                th {}
                @for arm in arms(report) { th.number { span class=(format!("arm {}", class(report, &arm.arm))) { i {} (arm.arm) } } }
            } }
            tbody {
                (counts("shoppers", arms(report).map(|arm| arm.users)))
                (counts("answers", arms(report).map(|arm| arm.answers)))
                @for metric in measured(report) { tr {
                    td { (words::metric(metric.into())) }
                    @for arm in arms(report) { td.number {
                        (estimate(report, arm, metric))
                        @if let Some(error) = standard_error(report, arm, metric) { span.error { " ± " (error) } }
                    } }
                } }
                @if arms(report).any(|arm| arm.fallbacks > 0) {
                    (counts("fallbacks", arms(report).map(|arm| arm.fallbacks)))
                }
            }
        } }
        p.faint { "± is one standard error. " (left_out(report).unwrap_or_default()) }
    }
}

fn counts(name: &str, counts: impl Iterator<Item = i64>) -> Markup {
    html! { tr { td { (name) } @for count in counts { td.number { (grouped(count)) } } } }
}

fn legend(report: &ExperimentReport, from: usize) -> Markup {
    html! {
        div.legend {
            @for arm in arms(report).skip(from) { span class=(format!("arm {}", class(report, &arm.arm))) { i {} (arm.arm) } }
        }
    }
}

fn preferred(report: &ExperimentReport) -> Markup {
    let Some(preferred) = &report.preference else { return html! {} };
    html! { h2 { "Which ranking is preferred" } @for text in preference(report, preferred) { p { (text) } } }
}

fn rails(report: &ExperimentReport) -> Markup {
    let class = |state| match state {
        GuardRailState::Broken => "broken",
        GuardRailState::Holds => "holds",
        GuardRailState::Unknown | GuardRailState::Unspecified => "lacking",
    };
    html! {
        @if !report.guard_rails.is_empty() {
            h2 { "Guard rails" }
            table {
                thead { tr { th { "guard rail" } th { "arm" } th { "state" } } }
                tbody { @for rail in &report.guard_rails { tr {
                    td { (rail.guard_rail.as_ref().map(words::guard_rail).unwrap_or_default()) }
                    td { (rail.arm) }
                    td class=(class(rail.state())) { (standing(rail.state())) }
                } } }
            }
        }
    }
}

/// Plots of each metric, and below them all of it in figures.
fn beside(report: &ExperimentReport) -> Markup {
    let all = || (1..).map_while(|number| ExperimentMetric::try_from(number).ok());
    let sure = confidence(report);
    html! {
        @if !report.comparisons.is_empty() {
            h2 { "Beside the control" }
            p.faint {
                "Point: lift over the control. Bar: " (sure) " interval, for one look at an end that was fixed before. Line: "
                (sure) " interval that is valid at any time; an arrow where it goes on beyond the picture. Dashed: a guard rail."
            }
            (legend(report, 1))
            @for metric in all() { @if let Some(plot) = forest(report, metric) {
                figure { figcaption { h3 { (words::metric(metric.into())) } p { (meaning(metric)) } } div.scroll { (plot) } }
            } }
            @for arm in arms(report).skip(1) { (table(report, &arm.arm)) }
        }
    }
}

fn table(report: &ExperimentReport, arm: &str) -> Markup {
    let rows: Vec<&Comparison> = report.comparisons.iter().filter(|row| row.arm == arm).collect();
    let sure = confidence(report);
    html! {
        h2 { (arm) " beside the control" }
        div.scroll { table {
            thead { tr {
                th { "metric" } th.number { "lift" } th { (sure) " interval" } th { (sure) " at any time" }
                th { "so far" } th.number { "p" } th.number { "cuped" }
            } }
            tbody { @for row in &rows { tr { td { (words::metric(row.metric)) } (cells(row)) } } }
        } }
        @for text in lacking(rows.iter().copied()) { p.lacking { (NOT_ENOUGH_DATA) " for " (text) } }
    }
}

fn cells(row: &Comparison) -> Markup {
    if !row.not_enough_data.is_empty() {
        return html! { td {} td.lacking colspan="5" { (NOT_ENOUGH_DATA) } };
    }
    html! {
        td.number { (lift(row.lift)) }
        td.whole { @if let Some(fixed) = &row.interval { (interval(fixed)) } }
        td.whole { @if let Some(always) = &row.sequential_interval { (interval(always)) } }
        td class=(verdict(row)) { (verdict(row)) }
        td.number { @if row.interval.is_some() { (chance(row.p_value)) } }
        td.number { @if row.variance_reduction > 0.0 { (format!("{:.0} %", 100.0 * row.variance_reduction)) } }
    }
}

fn over_time(report: &ExperimentReport) -> Markup {
    let plots: Vec<_> = (1..)
        .map_while(|number| ExperimentMetric::try_from(number).ok())
        .filter_map(|metric| Some((metric, curves::lifts(report, metric)?)))
        .collect();
    let users = curves::users(report);
    html! {
        @if users.is_some() || !plots.is_empty() {
            h2 { "Over time" }
            p.faint {
                "All that had happened by each time. Shaded: the interval that is valid at any time. What leaves a frame is cut off; "
                "its height is that of the second half. Times are UTC."
            }
            (legend(report, 0))
            @if let Some(users) = users { figure { figcaption { h3 { "shoppers" } } div.scroll { (users) } } }
            @for (metric, plot) in plots {
                figure { figcaption { h3 { "lift in " (words::metric(metric.into())) } } div.scroll { (plot) } }
            }
        }
    }
}

fn shadows(report: &ExperimentReport) -> Markup {
    html! {
        @if !report.shadows.is_empty() {
            h2 { "Shadows" }
            p.faint { "Made beside the answers of the control, and shown to nobody." }
            div.scroll { table {
                thead { tr {
                    th { "arm" } th.number { "answers" } th.number { "first 10 in common" } th.number { "same first" }
                    th.number { "latency p50" } th.number { "latency p99" } th.number { "failures" }
                } }
                tbody { @for shadow in &report.shadows { tr {
                    td { (shadow.arm) }
                    td.number { (grouped(shadow.answers)) }
                    td.number { (share(shadow.overlap_at_10)) }
                    td.number { (share(shadow.same_first)) }
                    td.number { (format!("{:.1} ms", shadow.latency_p50_ms)) }
                    td.number { (format!("{:.1} ms", shadow.latency_p99_ms)) }
                    td.number { (grouped(shadow.failures)) }
                } } }
            } }
        }
    }
}

fn history(report: &ExperimentReport) -> Markup {
    let changes = report.experiment.as_ref().map(|experiment| &experiment.changes[..]).unwrap_or_default();
    html! {
        @if !changes.is_empty() {
            h2 { "What was done to it" }
            div.scroll { table {
                thead { tr { th.number { "revision" } th { "when" } th { "who" } th { "what" } } }
                tbody { @for change in changes { tr {
                    td.number { (change.revision) }
                    td.whole { (change.time.as_ref().map(words::when).unwrap_or_default()) }
                    td { (change.author) }
                    td { (change.summary) }
                } } }
            } }
        }
    }
}

/// How the figures came to be, for somebody who reads only this.
fn reading(report: &ExperimentReport) -> Markup {
    html! {
        footer {
            p { "Shoppers are what was shared out, so figures are of shoppers, with standard errors by the delta method where an answer is counted." }
            p { "“At any time”: asymptotic confidence sequences (Waudby-Smith et al. 2021), tightest at "
                (grouped(report.sequential_tuning)) " shoppers. The experiment may be stopped whenever one likes what one sees." }
            p { "“Cuped”: the share of the variance that what shoppers did before took away (Deng et al. 2013)." }
            p { "“Sample ratio mismatch”: Pearson's χ² test says p < 0.001 for the arms' shares of shoppers." }
        }
    }
}

/// What a metric is, in a sentence.
fn meaning(metric: ExperimentMetric) -> String {
    let what = match metric {
        ExperimentMetric::Ctr => "The share of answers of which an item was clicked.",
        ExperimentMetric::AddToCart => "The share of shoppers who put an item of an answer into the cart.",
        ExperimentMetric::Conversion => "The share of shoppers who bought.",
        ExperimentMetric::Revenue => "What a shopper bought for.",
        ExperimentMetric::AdRevenue => "What a shopper's clicks on advertisements brought.",
        ExperimentMetric::Empty => "The share of answers without a result.",
        ExperimentMetric::LatencyP50 => "Half of the answers took at most so long.",
        ExperimentMetric::LatencyP99 => "99 of 100 answers took at most so long.",
        ExperimentMetric::Unspecified => "",
    };
    let better = if less_is_better(metric) { "Less is better." } else { "More is better." };
    format!("{what} {better}")
}

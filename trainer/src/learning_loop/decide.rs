//! What the loop does next: a pure function of what it remembers and what it sees, so that it can be tested without a server, and killed between
//! any two steps.
//!
//! ```text
//! Idle → Learning → Trying → Promoting ──→ Idle
//!   │                 ↑  └→ RollingBack ─→ Idle
//!   └─ somebody put ──┘
//!      the label on a version
//! ```
//!
//! What was done is never remembered, but seen: whether the label names the version, whether the experiment runs, how many it covers. So a step that was
//! done is not done again, whether or not the loop lived to write that down.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use vitrine::v1::{Experiment, ExperimentReport, ExperimentState};
use vitrine_registry::Version;

use super::config::LoopConfig;
use super::state::{Outcome, Phase, State, Trial};
use super::verdict::{self, Verdict};

/// What the loop sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The clock.
    pub now: Timestamp,
    /// The version that the live label names.
    pub live: Option<Version>,
    /// The version that the candidate label names.
    pub candidate: Option<Version>,
    /// Versions that proved bad.
    pub rejected: BTreeSet<Version>,
    /// Events since the last network was learnt; more than are needed are not counted. Only looked at while there is nothing else to do.
    pub new_events: usize,
    /// The experiment of the trial.
    pub experiment: Option<Experiment>,
    /// What it led to, while it runs.
    pub report: Option<ExperimentReport>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing before something happens, and what for.
    Wait(String),
    /// Remember this, and look again.
    Become(Phase),
    /// Learn a network, and publish it if it is good enough.
    Learn {
        /// From what had happened by then.
        until: Timestamp,
        /// The version that answered then.
        parent: Option<Version>,
    },
    /// Put the candidate label on a version that it is not on.
    PutLabel(Version),
    /// Plan the experiment.
    Plan,
    /// Begin it.
    Start,
    /// Let as many shoppers take part as in this step.
    Cover(usize),
    /// Let the live label name the version.
    Promote {
        /// The version.
        version: Version,
        /// What the label names now.
        parent: Option<Version>,
    },
    /// End the experiment.
    Stop(String),
    /// Take the candidate label away from a version.
    TakeLabel(Version),
    /// Take note that a version proved bad.
    Reject(Version, String),
    /// Be done with the candidate.
    End(Outcome, String),
}

/// For the log.
impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(why) => write!(f, "waits: {why}"),
            Self::Become(Phase::Trying(trial)) => write!(f, "tries version {}, step {}", trial.version, trial.step),
            Self::Become(Phase::Promoting { trial, why }) => write!(f, "will promote version {}: {why}", trial.version),
            Self::Become(Phase::RollingBack { trial, why, .. }) => {
                write!(f, "will roll version {} back: {why}", trial.version)
            }
            Self::Become(phase) => write!(f, "is {} now", phase.name()),
            Self::Learn { until, .. } => write!(f, "learns from what happened until {until}"),
            Self::PutLabel(version) => write!(f, "puts the candidate's label on version {version}"),
            Self::Plan => f.write_str("plans the experiment"),
            Self::Start => f.write_str("starts the experiment"),
            Self::Cover(step) => write!(f, "lets as many shoppers take part as in step {step}"),
            Self::Promote { version, .. } => write!(f, "lets version {version} answer"),
            Self::Stop(_) => f.write_str("stops the experiment"),
            Self::TakeLabel(version) => write!(f, "takes the candidate's label from version {version}"),
            Self::Reject(version, why) => write!(f, "rejects version {version}: {why}"),
            Self::End(Outcome::Promoted, _) => f.write_str("is done: promoted"),
            Self::End(_, why) => write!(f, "is done: {why}"),
        }
    }
}

/// Decides.
pub fn next(config: &LoopConfig, state: &State, seen: &Seen) -> Next {
    match &state.phase {
        Phase::Idle => idle(config, state, seen),
        Phase::Learning { until, parent } => Next::Learn { until: *until, parent: *parent },
        Phase::Trying(trial) => trying(config, trial, seen),
        Phase::Promoting { trial, why } => promoting(trial, why, seen),
        Phase::RollingBack { trial, why, reject } => rolling_back(trial, why, *reject, seen),
    }
}

fn idle(config: &LoopConfig, state: &State, seen: &Seen) -> Next {
    match seen.candidate {
        // Somebody was quicker.
        Some(version) if seen.live == Some(version) => return Next::TakeLabel(version),
        Some(version) => return Next::Become(Phase::Trying(begun(config, state.round + 1, version, seen.live))),
        None => {}
    }
    let (new, least) = (seen.new_events, config.data.min_new_events);
    if new < least {
        return Next::Wait(format!("{new} of {least} new events"));
    }
    Next::Become(Phase::Learning { until: seen.now, parent: seen.live })
}

/// A trial that begins.
pub fn begun(config: &LoopConfig, round: u32, version: Version, parent: Option<Version>) -> Trial {
    let experiment = format!("{}-{version}-{round}", config.experiment.prefix);
    Trial { version, parent, experiment, step: 0, since: None, users: 0 }
}

fn trying(config: &LoopConfig, trial: &Trial, seen: &Seen) -> Next {
    let back = |why: String, reject| Next::Become(Phase::RollingBack { trial: trial.clone(), why, reject });
    if seen.live == Some(trial.version) {
        let why = "somebody let it answer".to_owned();
        return Next::Become(Phase::Promoting { trial: trial.clone(), why });
    }
    if let Some(why) = overtaken(trial, seen) {
        return back(why, false);
    }
    if seen.rejected.contains(&trial.version) {
        return back("somebody rejected it".into(), false);
    }
    if seen.candidate != Some(trial.version) {
        // Once it runs, whoever takes the label away wants it to end.
        return match (&seen.experiment, seen.candidate) {
            (None, None) => Next::PutLabel(trial.version),
            _ => back(format!("somebody moved {}", config.candidate_label), false),
        };
    }
    let Some(experiment) = &seen.experiment else { return Next::Plan };
    match experiment.state() {
        ExperimentState::Draft => return Next::Start,
        ExperimentState::Running => {}
        ExperimentState::Stopped | ExperimentState::Unspecified => {
            return back("somebody stopped the experiment".into(), false);
        }
    }
    let Some(report) = &seen.report else { return Next::Wait("there is no report".into()) };
    let at = |step| {
        Next::Become(Phase::Trying(Trial {
            step,
            since: Some(seen.now),
            users: if trial.since.is_some() { verdict::users(report) } else { 0 },
            ..trial.clone()
        }))
    };
    if trial.since.is_none() {
        return at(0);
    }
    // What is covered already was decided before, by this loop or by a person.
    let covered = experiment.coverage.unwrap_or(1.0);
    let reached = (trial.step + 1..=config.experiment.last_step())
        .rev()
        .find(|step| covered >= config.experiment.coverage(*step) - 1e-9);
    if let Some(step) = reached {
        return at(step);
    }
    match verdict::judge(&config.experiment, trial, report, seen.now) {
        Verdict::Wait(why) => Next::Wait(why),
        Verdict::Grow => Next::Cover(trial.step + 1),
        Verdict::Promote(why) => Next::Become(Phase::Promoting { trial: trial.clone(), why }),
        Verdict::RollBack { why, reject } => back(why, reject),
    }
}

fn promoting(trial: &Trial, why: &str, seen: &Seen) -> Next {
    if seen.live != Some(trial.version) {
        return match overtaken(trial, seen) {
            Some(why) => Next::Become(Phase::RollingBack { trial: trial.clone(), why, reject: false }),
            None => Next::Promote { version: trial.version, parent: trial.parent },
        };
    }
    // Only now: until the label names it, whoever was shown it goes on to be.
    tidy(trial, &format!("promoted: {why}"), seen).unwrap_or_else(|| Next::End(Outcome::Promoted, why.to_owned()))
}

fn rolling_back(trial: &Trial, why: &str, reject: bool, seen: &Seen) -> Next {
    if let Some(next) = tidy(trial, &format!("rolled back: {why}"), seen) {
        return next;
    }
    match reject {
        true if !seen.rejected.contains(&trial.version) => Next::Reject(trial.version, why.to_owned()),
        true => Next::End(Outcome::Rejected, why.to_owned()),
        false => Next::End(Outcome::Abandoned, why.to_owned()),
    }
}

/// What is left to be ended.
fn tidy(trial: &Trial, why: &str, seen: &Seen) -> Option<Next> {
    if seen.experiment.as_ref().is_some_and(|experiment| experiment.state() == ExperimentState::Running) {
        return Some(Next::Stop(why.to_owned()));
    }
    (seen.candidate == Some(trial.version)).then_some(Next::TakeLabel(trial.version))
}

/// Whether what the candidate is compared with answers no more.
fn overtaken(trial: &Trial, seen: &Seen) -> Option<String> {
    (seen.live != trial.parent).then(|| {
        let now = seen.live.map_or_else(|| "no version".to_owned(), |live| format!("version {live}"));
        format!("{now} answers since, which it was not compared with")
    })
}

//! The life of an experiment as pure functions: from what it was and what is asked of it to what it is then.

use std::time::SystemTime;

use vitrine::v1::{Arm, Experiment, ExperimentChange, ExperimentState};

use super::buckets::{self, Ranges};

/// Who does something, and when.
#[derive(Clone, Debug)]
pub struct Doing<'a> {
    /// As the call says.
    pub author: &'a str,
    /// The moment.
    pub now: SystemTime,
}

/// Why an experiment cannot become what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is in another state.
    #[error("it is {0}; {1}")]
    State(&'static str, &'static str),
    /// This may not change any more.
    #[error("{0} cannot be changed: it is {1}; plan another one")]
    Frozen(&'static str, &'static str),
}

/// A new draft of a definition that was checked.
pub fn planned(experiment: Experiment, doing: &Doing<'_>) -> Experiment {
    let mut planned = Experiment {
        revision: 0,
        start_time: None,
        stop_time: None,
        weights_time: None,
        changes: Vec::new(),
        ..experiment
    };
    planned.set_state(ExperimentState::Draft);
    share_out(&mut planned, None);
    done(&mut planned, doing, "planned".to_owned());
    planned
}

/// What `before` becomes with a new definition that was checked.
pub fn updated(before: &Experiment, asked: Experiment, doing: &Doing<'_>) -> Result<Experiment, Refused> {
    let state = before.state();
    let mut after = Experiment {
        state: before.state,
        revision: before.revision,
        start_time: before.start_time,
        stop_time: before.stop_time,
        weights_time: before.weights_time,
        changes: before.changes.clone(),
        ..asked
    };
    let same = |field: &'static str, same: bool| if same { Ok(()) } else { Err(Refused::Frozen(field, name(state))) };
    same("catalog", before.catalog == after.catalog)?;
    if state != ExperimentState::Draft {
        let shape = |arms: &[Arm]| -> Vec<Arm> {
            arms.iter().map(|arm| Arm { weight: 0.0, ranges: Vec::new(), ..arm.clone() }).collect()
        };
        same("arms", shape(&before.arms) == shape(&after.arms))?;
        same("design", before.design == after.design)?;
        same("namespace", before.namespace == after.namespace)?;
        same("placements", before.placements == after.placements)?;
        same("covariate_days", before.covariate_days == after.covariate_days)?;
        same("attribution_window_seconds", before.attribution_window_seconds == after.attribution_window_seconds)?;
        same("bucket_version", before.bucket_version <= after.bucket_version)?;
        same("seed", before.seed == after.seed || before.bucket_version < after.bucket_version)?;
    }
    let weights = |arms: &[Arm]| arms.iter().map(|arm| arm.weight).collect::<Vec<_>>();
    let shares = weights(&before.arms) != weights(&after.arms);
    let coverage = coverage(before).total_cmp(&coverage(&after)).is_ne();
    if state == ExperimentState::Stopped {
        same("weights", !shares)?;
        same("coverage", !coverage)?;
        same("guard_rails", before.guard_rails == after.guard_rails)?;
        same("sticky", before.sticky == after.sticky)?;
        same("bucket_version", before.bucket_version == after.bucket_version)?;
    }
    let anew = state == ExperimentState::Draft || before.bucket_version != after.bucket_version;
    share_out(&mut after, (!anew).then_some(before));
    if state == ExperimentState::Running && (shares || coverage || before.bucket_version != after.bucket_version) {
        after.weights_time = Some(doing.now.into());
    }
    let summary = differences(before, &after);
    if !summary.is_empty() {
        done(&mut after, doing, summary);
    }
    Ok(after)
}

/// Begins, or goes on.
pub fn started(before: &Experiment, doing: &Doing<'_>) -> Result<Experiment, Refused> {
    if before.state() == ExperimentState::Running {
        return Err(Refused::State(name(before.state()), "there is nothing to start"));
    }
    let mut after = before.clone();
    after.set_state(ExperimentState::Running);
    after.start_time = before.start_time.or(Some(doing.now.into()));
    after.stop_time = None;
    done(&mut after, doing, "started".to_owned());
    Ok(after)
}

/// Ends.
pub fn stopped(before: &Experiment, reason: &str, doing: &Doing<'_>) -> Result<Experiment, Refused> {
    if before.state() != ExperimentState::Running {
        return Err(Refused::State(name(before.state()), "only a running one can be stopped"));
    }
    let mut after = before.clone();
    after.set_state(ExperimentState::Stopped);
    after.stop_time = Some(doing.now.into());
    done(&mut after, doing, if reason.is_empty() { "stopped".to_owned() } else { format!("stopped: {reason}") });
    Ok(after)
}

/// Whether it may be removed.
pub fn removable(before: &Experiment) -> Result<(), Refused> {
    match before.state() {
        ExperimentState::Running => Err(Refused::State(name(before.state()), "stop it first")),
        _ => Ok(()),
    }
}

/// The share of shoppers that take part.
pub fn coverage(experiment: &Experiment) -> f64 {
    experiment.coverage.unwrap_or(1.0)
}

fn share_out(experiment: &mut Experiment, before: Option<&Experiment>) {
    let weights: Vec<f64> = experiment.arms.iter().map(|arm| arm.weight).collect();
    let coverage = coverage(experiment);
    let ranges: Ranges = match before {
        Some(before) => {
            let ranges: Ranges = before.arms.iter().map(|arm| arm.ranges.clone()).collect();
            buckets::moved(&ranges, &weights, coverage)
        }
        None => buckets::fresh(&weights, coverage),
    };
    for (arm, ranges) in experiment.arms.iter_mut().zip(ranges) {
        arm.ranges = ranges;
    }
}

fn done(experiment: &mut Experiment, doing: &Doing<'_>, summary: String) {
    experiment.revision += 1;
    let (time, author, revision) = (Some(doing.now.into()), doing.author.to_owned(), experiment.revision);
    experiment.changes.push(ExperimentChange { time, author, summary, revision });
}

/// What changed, for people.
fn differences(before: &Experiment, after: &Experiment) -> String {
    let weights = |experiment: &Experiment| {
        experiment.arms.iter().map(|arm| format!("{} {}", arm.name, arm.weight)).collect::<Vec<_>>().join(", ")
    };
    let numbers = [
        ("weights", weights(before), weights(after)),
        ("coverage", coverage(before).to_string(), coverage(after).to_string()),
        ("bucket_version", before.bucket_version.to_string(), after.bucket_version.to_string()),
        ("sticky", before.sticky.to_string(), after.sticky.to_string()),
    ];
    let told = numbers.into_iter().filter(|(_, was, is)| was != is);
    let told = told.map(|(field, was, is)| format!("{field}: {was} → {is}"));
    let others = [
        (
            "arms",
            before
                .arms
                .iter()
                .map(|arm| (&arm.models, &arm.parameters, arm.shadow))
                .ne(after.arms.iter().map(|arm| (&arm.models, &arm.parameters, arm.shadow))),
        ),
        ("design", before.design != after.design),
        ("seed", before.seed != after.seed),
        ("namespace", before.namespace != after.namespace),
        ("placements", before.placements != after.placements),
        ("guard_rails", before.guard_rails != after.guard_rails),
        ("covariate_days", before.covariate_days != after.covariate_days),
        ("attribution_window_seconds", before.attribution_window_seconds != after.attribution_window_seconds),
        ("note", before.note != after.note),
    ];
    let others = others.into_iter().filter(|(_, changed)| *changed).map(|(field, _)| format!("{field} changed"));
    told.chain(others).collect::<Vec<_>>().join("; ")
}

fn name(state: ExperimentState) -> &'static str {
    match state {
        ExperimentState::Running => "running",
        ExperimentState::Stopped => "stopped",
        _ => "a draft",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOING: Doing<'static> = Doing { author: "ann", now: SystemTime::UNIX_EPOCH };

    fn arm(name: &str, weight: f64) -> Arm {
        Arm { name: name.to_owned(), weight, ..Arm::default() }
    }

    fn draft() -> Experiment {
        let arms = vec![arm("control", 0.5), arm("canary", 0.5)];
        let coverage = Some(0.1);
        planned(Experiment { name: "experiments/x".into(), arms, coverage, ..Experiment::default() }, &DOING)
    }

    #[test]
    fn an_experiment_is_planned_started_changed_and_stopped() {
        let running = started(&draft(), &DOING).unwrap();
        assert_eq!((running.state(), running.revision), (ExperimentState::Running, 2));
        let changed = updated(&running, Experiment { coverage: Some(0.4), ..running.clone() }, &DOING).unwrap();
        assert_eq!(changed.changes.last().unwrap().summary, "coverage: 0.1 → 0.4");
        assert_eq!(changed.weights_time, Some(SystemTime::UNIX_EPOCH.into()));
        let over = stopped(&changed, "guard rail", &DOING).unwrap();
        assert_eq!((over.state(), over.changes.len()), (ExperimentState::Stopped, 4));
        assert_eq!(started(&over, &DOING).unwrap().start_time, running.start_time);
        assert!(
            started(&running, &DOING).is_err() && stopped(&over, "", &DOING).is_err() && removable(&running).is_err()
        );
    }

    #[test]
    fn what_people_are_shown_stays_while_it_runs() {
        let running = started(&draft(), &DOING).unwrap();
        let mut other = running.clone();
        other.arms[1].models.insert("text-embedding".into(), "9".into());
        assert_eq!(updated(&running, other, &DOING), Err(Refused::Frozen("arms", "running")));
        let seed = Experiment { seed: "again".into(), ..running.clone() };
        assert!(updated(&running, seed.clone(), &DOING).is_err());
        let anew = updated(&running, Experiment { bucket_version: 1, ..seed }, &DOING).unwrap();
        assert_eq!((anew.seed.as_str(), anew.bucket_version), ("again", 1));
    }

    #[test]
    fn an_update_that_changes_nothing_leaves_no_trace() {
        assert_eq!(updated(&draft(), draft(), &DOING).unwrap(), draft());
    }
}

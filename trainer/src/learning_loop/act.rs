//! Eyes and hands of the loop: what it sees of server and registry, and how it does what was decided. Whatever it does it may do again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use vitrine::v1::{
    Arm, ArmParameters, CreateExperimentRequest, Experiment, ExperimentState, GetExperimentRequest, GuardRail,
    ReportExperimentRequest, SetLabelRequest, StartExperimentRequest, StopExperimentRequest, UpdateExperimentRequest,
};
use vitrine_client::{Client, Code, Options};
use vitrine_registry::{Label, Labels, Registry, RegistryError, Version};

use super::config::LoopConfig;
use super::decide::{Next, Seen, begun};
use super::learn::{Came, Lesson, blocking, count};
use super::state::{Ended, Outcome, Phase, State, Trial};
use super::verdict::{CANDIDATE, CONTROL};
use crate::publish;

/// What sequence models are for.
const TASK: &str = "sequence-recommendation";
/// What recommends to a person where no sequence model does.
const WITHOUT_NETWORK: [&str; 5] = ["follows", "bought_together", "similar", "buy_again", "popular"];
/// How long a version may take to be loaded.
const LOADING: Duration = Duration::from_hours(1);
/// The longest reason that the server takes.
const LONGEST_REASON: usize = 1_000;

/// What the loop has to do with.
pub struct World {
    config: Arc<LoopConfig>,
    client: Client,
    registry: Registry,
}

impl World {
    /// Connects.
    ///
    /// # Errors
    /// Nothing answers, or there is no registry.
    pub async fn reach(config: Arc<LoopConfig>) -> Result<Self> {
        let options = Options { server: config.server.clone(), timeout: Duration::from_mins(1), ..Options::default() };
        let client = Client::connect(options).await?;
        let of = Arc::clone(&config);
        let open = move || publish::open(&of.registry, of.registry_cache.as_deref(), "registry_cache");
        Ok(Self { config, client, registry: blocking(open).await? })
    }

    /// Looks at everything that what is next depends on.
    pub async fn see(&self, state: &State) -> Result<Seen> {
        let (registry, model) = (self.registry.clone(), self.config.model.clone());
        let read = move || match registry.current_labels(&model) {
            Err(RegistryError::UnknownModel(_)) => Ok(Labels::default()),
            labels => Ok(labels?),
        };
        let labels = blocking(read).await?;
        let candidate = labels.get(&self.config.candidate_label);
        let is_idle = state.phase == Phase::Idle && candidate.is_none();
        let (now, least) = (Timestamp::now(), self.config.data.min_new_events);
        let new_events =
            if is_idle { count(&self.client, self.config.catalog(), state.watermark, least).await? } else { 0 };
        let experiment = match state.trial() {
            Some(trial) => self.experiment(trial).await?,
            None => None,
        };
        let running = experiment.as_ref().filter(|experiment| experiment.state() == ExperimentState::Running);
        let report = match (&state.phase, running) {
            (Phase::Trying(_), Some(experiment)) => {
                let request = ReportExperimentRequest {
                    name: experiment.name.clone(),
                    alpha: self.config.experiment.alpha,
                    sequential_tuning: self.config.experiment.sequential_tuning,
                    curve_points: 0,
                };
                Some(self.client.report_experiment(request).await?)
            }
            _ => None,
        };
        let rejected: BTreeSet<Version> = labels.rejected.keys().copied().collect();
        Ok(Seen { now, live: labels.get(&self.config.live_label), candidate, rejected, new_events, experiment, report })
    }

    async fn experiment(&self, trial: &Trial) -> Result<Option<Experiment>> {
        match self.client.get_experiment(GetExperimentRequest { name: name(trial) }).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what was decided. What is to be remembered of it is in the state.
    ///
    /// # Errors
    /// It could not be done; doing it again may go better.
    pub async fn perform(&self, next: Next, seen: &Seen, state: &mut State) -> Result<()> {
        match next {
            Next::Wait(_) => {}
            Next::Become(phase) => take_up(state, phase),
            Next::Learn { until, parent } => self.learn(until, parent, state).await?,
            Next::PutLabel(version) => drop(self.put_label(version, None, state).await?),
            Next::Plan => self.plan(state).await?,
            Next::Start => {
                // Who put the label on the version need not have waited until the server has it.
                let trial = state.trial().map(|trial| (trial.version, name(trial)));
                if let Some((version, name)) = trial
                    && self.put_label(version, Some(version), state).await?
                {
                    let request = StartExperimentRequest { name, author: author() };
                    self.client.start_experiment(request).await?;
                }
            }
            Next::Cover(step) => {
                if let Some(experiment) = &seen.experiment {
                    let coverage = Some(self.config.experiment.coverage(step));
                    let experiment = Experiment { coverage, ..experiment.clone() };
                    let request = UpdateExperimentRequest { experiment: Some(experiment), author: author() };
                    self.client.update_experiment(request).await?;
                }
            }
            Next::Promote { version, parent } => self.set_label(&self.config.live_label, version, parent).await?,
            Next::Stop(reason) => {
                if let Some(trial) = state.trial() {
                    let reason = reason.chars().take(LONGEST_REASON).collect();
                    let request = StopExperimentRequest { name: name(trial), author: author(), reason };
                    self.client.stop_experiment(request).await?;
                }
            }
            Next::TakeLabel(version) => {
                let (registry, config) = (self.registry.clone(), Arc::clone(&self.config));
                let take = move || Ok(registry.remove_label(&config.model, &config.candidate_label, version)?);
                blocking(take).await?;
            }
            Next::Reject(version, why) => {
                let (registry, model) = (self.registry.clone(), self.config.model.clone());
                blocking(move || Ok(registry.reject(&model, version, &why)?)).await?;
            }
            Next::End(outcome, why) => {
                let version = state.trial().map(|trial| trial.version);
                state.end(Ended { version, outcome, why });
            }
        }
        Ok(())
    }

    async fn learn(&self, until: Timestamp, parent: Option<Version>, state: &mut State) -> Result<()> {
        let folder = round_folder(&self.config, state.round);
        let (config, client, registry) = (Arc::clone(&self.config), self.client.clone(), self.registry.clone());
        let lesson = Arc::new(Lesson { config, client, registry, folder, until, parent });
        let Came { figures, version } = lesson.learn().await?;
        state.watermark = Some(until);
        state.figures = figures;
        match version {
            Ok(version) => state.phase = Phase::Trying(begun(&self.config, state.round, version, parent)),
            Err(why) => state.end(Ended { version: None, outcome: Outcome::HeldBack, why }),
        }
        Ok(())
    }

    /// Waits until the candidate label answers with a version. False: the version cannot be loaded, and so has no trial.
    async fn put_label(&self, version: Version, expected: Option<Version>, state: &mut State) -> Result<bool> {
        let put = self.set_label(&self.config.candidate_label, version, expected).await;
        let Err(error) = put else { return Ok(true) };
        let refused = error.downcast_ref::<vitrine_client::Error>();
        if !refused.is_some_and(|error| error.code() == Code::FailedPrecondition) {
            return Err(error);
        }
        if let Phase::Trying(trial) = &state.phase {
            let why = format!("it cannot be loaded: {error}");
            state.phase = Phase::RollingBack { trial: trial.clone(), why, reject: true };
        }
        Ok(false)
    }

    async fn set_label(&self, label: &Label, version: Version, expected: Option<Version>) -> Result<()> {
        let request = SetLabelRequest {
            name: format!("models/{}", self.config.model),
            label: label.as_str().to_owned(),
            version: version.get(),
            expected_version: expected.map_or(0, Version::get),
            unload_first: false,
        };
        self.client.with_timeout(LOADING).set_label(request).await?;
        Ok(())
    }

    async fn plan(&self, state: &State) -> Result<()> {
        let trial = state.trial().context("there is no candidate to plan for")?;
        let arm = |name: &str, label: Option<&Label>, sources: &[&str]| Arm {
            name: name.to_owned(),
            weight: 0.5,
            models: label.map(|label| (TASK.to_owned(), label.as_str().to_owned())).into_iter().collect(),
            parameters: (!sources.is_empty()).then(|| ArmParameters {
                sources: sources.iter().map(|&source| source.to_owned()).collect(),
                ..ArmParameters::default()
            }),
            ..Arm::default()
        };
        let control = match trial.parent {
            Some(_) => arm(CONTROL, Some(&self.config.live_label), &[]),
            None => arm(CONTROL, None, &WITHOUT_NETWORK),
        };
        let plan = &self.config.experiment;
        let guard_rails = plan.guard_rails.iter();
        let guard_rails =
            guard_rails.map(|rail| GuardRail { metric: rail.metric as i32, tolerance: rail.tolerance }).collect();
        let against = trial.parent.map_or("no version".to_owned(), |parent| format!("version {parent}"));
        let experiment = Experiment {
            name: name(trial),
            catalog: self.config.catalog(),
            arms: vec![control, arm(CANDIDATE, Some(&self.config.candidate_label), &[])],
            coverage: Some(plan.coverage(0)),
            guard_rails,
            note: format!("version {} of {} against {against}", trial.version, self.config.model),
            ..Experiment::default()
        };
        let request = CreateExperimentRequest { experiment: Some(experiment), author: author(), validate_only: false };
        self.client.create_experiment(request).await?;
        Ok(())
    }
}

/// Who does it, in the history of experiments.
fn author() -> String {
    "vitrine-trainer loop".to_owned()
}

/// What is learnt anew, or tried, begins a round.
pub fn take_up(state: &mut State, phase: Phase) {
    let is_new = state.phase == Phase::Idle && matches!(phase, Phase::Learning { .. } | Phase::Trying(_));
    state.round += u32::from(is_new);
    state.phase = phase;
}

/// Where a round leaves what it learns.
pub fn round_folder(config: &LoopConfig, round: u32) -> PathBuf {
    config.folder.join(format!("round-{round}"))
}

fn name(trial: &Trial) -> String {
    format!("experiments/{}", trial.experiment)
}

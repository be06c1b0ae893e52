//! Experiments: shoppers are split over arms, each arm answers in its own way, and a report tells what it led to.
//!
//! - [`Experiments`]: those of the registry, followed, and changed by compare-and-set. `store`: their files. [`life`]: what may become of one.
//! - [`hash`], [`buckets`]: who is in which arm, as a pure function. [`Running`]: one that answers. [`interleave`]: two rankings in one.
//! - [`exposures`]: what was shown to whom. [`report`]: what it led to. [`statistics`]: what that says.

pub mod buckets;
pub mod exposures;
pub mod hash;
pub mod interleave;
pub mod life;
pub mod report;
pub mod statistics;
mod store;

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use vitrine::v1::{Arm, Experiment, ExperimentDesign, ExperimentState, Placement};
use vitrine_registry::{Label, RegistryError};

use crate::registry_source::RegistrySource;

pub use exposures::Exposures;

/// How often the registry is looked at: a change made elsewhere takes effect within a second.
const LOOK: Duration = Duration::from_millis(400);
/// How often a change is decided anew when others were faster.
const ATTEMPTS: usize = 20;

/// The experiments of the registry, by their ids.
pub struct Experiments {
    source: RegistrySource,
    all: ArcSwap<BTreeMap<String, Arc<Running>>>,
}

/// Why an experiment was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The change is refused.
    #[error("{0}")]
    Refused(E),
    /// The registry cannot be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its file cannot be understood.
    #[error("experiments/{0}.json: {1}")]
    Malformed(String, String),
    /// Others change it all the time.
    #[error("others are changing it; try again")]
    Busy,
}

/// An experiment, ready to answer by.
#[derive(Debug)]
pub struct Running {
    /// It.
    pub experiment: Experiment,
    /// The last part of its name.
    pub id: String,
    /// What its file says.
    text: Vec<u8>,
    /// By bucket.
    owners: Vec<Option<usize>>,
    placements: Vec<Placement>,
}

impl Running {
    fn new(id: &str, text: Vec<u8>) -> Result<Self, String> {
        let experiment = store::from_text(&text)?;
        let ranges: Vec<_> = experiment.arms.iter().map(|arm| arm.ranges.clone()).collect();
        let placements = experiment.placements().collect();
        Ok(Self { id: id.to_owned(), owners: buckets::owners(&ranges), placements, text, experiment })
    }

    /// Whether shoppers take part in it now.
    pub fn is_running(&self) -> bool {
        self.experiment.state() == ExperimentState::Running
    }

    /// Whether it mixes two rankings.
    pub fn is_interleaved(&self) -> bool {
        self.experiment.design() == ExperimentDesign::Interleaved
    }

    /// What the assignment is drawn from.
    pub fn seed(&self) -> &str {
        if self.experiment.seed.is_empty() { &self.id } else { &self.experiment.seed }
    }

    /// The arms' answers are told apart here.
    pub fn concerns(&self, placement: Placement) -> bool {
        if !self.placements.is_empty() {
            return self.placements.contains(&placement);
        }
        let says_nothing = |arm: &Arm| arm.models.is_empty() && arm.parameters.is_none();
        // An experiment of arms that are all the same is about how equal they are, everywhere.
        self.experiment.arms.iter().all(says_nothing)
            || self.experiment.arms.iter().any(|arm| concerns(arm, placement, self.is_interleaved()))
    }

    /// The arm that a unit is in by its hash.
    pub fn assigned(&self, unit: &str) -> Option<usize> {
        let inside =
            self.experiment.namespace.as_ref().is_none_or(|namespace| {
                (namespace.start..namespace.end).contains(&hash::place_in(&namespace.name, unit))
            });
        self.owners[hash::bucket(self.seed(), unit)].filter(|_| inside)
    }

    /// The arm of that name.
    pub fn arm(&self, name: &str) -> Option<usize> {
        self.experiment.arms.iter().position(|arm| arm.name == name)
    }

    /// Whether both take the same shoppers, of the same part of the same namespace.
    pub fn overlaps(&self, other: &Experiment) -> bool {
        match (&self.experiment.namespace, &other.namespace) {
            (Some(one), Some(two)) => one.name == two.name && one.start < two.end && two.start < one.end,
            _ => false,
        }
    }
}

/// Whether an arm says something about answers there.
fn concerns(arm: &Arm, placement: Placement, interleaved: bool) -> bool {
    use crate::{
        encoder::TEXT_EMBEDDING, generator::IMAGE_GENERATION, image_encoder::IMAGE_EMBEDDING, ranker::CTR_RANKING,
        sequence::SEQUENCE_RECOMMENDATION,
    };
    let tasks: &[&str] = match placement {
        Placement::Search | Placement::SimilarToItems => &[TEXT_EMBEDDING, IMAGE_EMBEDDING],
        Placement::ForUser | Placement::ForSession => &[SEQUENCE_RECOMMENDATION, CTR_RANKING, TEXT_EMBEDDING],
        Placement::Ads => &[CTR_RANKING],
        Placement::GenerateImage => &[IMAGE_GENERATION],
        _ => &[],
    };
    if interleaved {
        return placement == Placement::Search;
    }
    let by_model = arm.models.keys().any(|task| tasks.contains(&task.as_str()));
    let Some(parameters) = &arm.parameters else { return by_model };
    let lists = !matches!(placement, Placement::Search | Placement::GenerateImage | Placement::Unspecified);
    let by_parameters = match placement {
        Placement::Search => parameters.fusion.is_some() || parameters.mode != 0 || parameters.personalize.is_some(),
        Placement::ForUser | Placement::ForSession => !parameters.sources.is_empty() || parameters.ranked.is_some(),
        _ => false,
    };
    let differs =
        parameters.diversity.is_some() && placement != Placement::Ads && placement != Placement::GenerateImage;
    let explores = parameters.exploration.is_some() && lists && placement != Placement::Ads;
    let controls = !parameters.without_controls.is_empty() && placement != Placement::GenerateImage;
    by_model || by_parameters || differs || explores || controls
}

impl Experiments {
    /// Begins to follow the experiments of the registry.
    pub fn start(source: RegistrySource) -> std::io::Result<Arc<Self>> {
        let experiments = Arc::new(Self { source, all: ArcSwap::default() });
        experiments.look();
        let following = Arc::downgrade(&experiments);
        std::thread::Builder::new().name("experiments".to_owned()).spawn(move || follow(&following))?;
        Ok(experiments)
    }

    /// All of them, by their ids.
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<Running>>> {
        self.all.load_full()
    }

    /// The one of that id.
    pub fn get(&self, id: &str) -> Option<Arc<Running>> {
        self.all.load().get(id).cloned()
    }

    /// Makes of the experiment of that id what `change` says: none is that there is none. It takes effect here at once. Waits for the
    /// registry.
    pub fn change<E>(
        &self,
        id: &Label,
        change: impl Fn(Option<&Experiment>) -> Result<Option<Experiment>, E>,
    ) -> Result<Option<Experiment>, ChangeError<E>> {
        let registry = self.source.make()?;
        let malformed = |problem| ChangeError::Malformed(id.to_string(), problem);
        for _ in 0..ATTEMPTS {
            let text = registry.current_experiment(id)?;
            let before = text.as_deref().map(store::from_text).transpose().map_err(malformed)?;
            let after = change(before.as_ref()).map_err(ChangeError::Refused)?;
            if after == before {
                return Ok(after);
            }
            let written = after.as_ref().map(store::to_text).transpose().map_err(malformed)?;
            if registry.change_experiment(id, text.as_deref(), written.as_deref())? {
                self.look();
                return Ok(after);
            }
        }
        Err(ChangeError::Busy)
    }

    /// Takes note of what the registry says. What cannot be read stays as it was.
    fn look(&self) {
        let found = match self.source.registry().and_then(|registry| registry.experiments()) {
            Ok(found) => found,
            // The models' following says so.
            Err(error) => return tracing::debug!(%error, "the experiments cannot be read"),
        };
        let before = self.all.load_full();
        let mut all = BTreeMap::new();
        for (name, text) in found {
            let known = before.get(name.as_str());
            if let Some(known) = known.filter(|known| known.text == text) {
                all.insert(name.to_string(), Arc::clone(known));
                continue;
            }
            match Running::new(name.as_str(), text) {
                Ok(running) => {
                    tracing::info!(experiment = %name, revision = running.experiment.revision, state = running.experiment.state().as_str_name(), "an experiment changed");
                    all.insert(name.to_string(), Arc::new(running));
                }
                Err(error) => {
                    tracing::warn!(experiment = %name, error, "an experiment is not understood; what it was before stands");
                    all.extend(known.map(|known| (name.to_string(), Arc::clone(known))));
                }
            }
        }
        self.all.store(Arc::new(all));
    }
}

fn follow(experiments: &Weak<Experiments>) {
    loop {
        std::thread::sleep(LOOK);
        match experiments.upgrade() {
            Some(experiments) => experiments.look(),
            None => return,
        }
    }
}

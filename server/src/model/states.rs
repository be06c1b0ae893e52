//! What this server does with each version, for those who ask.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::sync::{broadcast, watch};
use vitrine::v1::VersionState;
use vitrine_registry::lifecycle::Phase;

/// How many changes a slow watcher may be behind before it misses some.
const TRANSITIONS: usize = 256;

/// What this server does with a version.
#[derive(Clone, Debug)]
pub struct VersionStatus {
    /// The model's name.
    pub model: String,
    /// The version's number.
    pub version: u32,
    /// Where in its life it is.
    pub state: VersionState,
    /// For `FAILED`: why.
    pub failure: String,
    /// Where it runs, as `cpu`. Empty when it is not loaded.
    pub device: String,
    /// The memory it takes, or would take, in bytes.
    pub memory_bytes: u64,
    /// When it came into its state.
    pub since: SystemTime,
    /// Requests it was given since it was loaded.
    pub requests: Requests,
}

/// Counts the requests of a version.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<AtomicU64>);

impl Requests {
    /// One more.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A version that came into another state.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The state it left; unspecified when it was in none.
    pub previous: VersionState,
    /// What it is now.
    pub now: VersionStatus,
}

/// The states, shared by those who change them and those who ask.
#[derive(Clone)]
pub(crate) struct States {
    model: Arc<str>,
    inner: Arc<watch::Sender<Inner>>,
    transitions: broadcast::Sender<Transition>,
}

#[derive(Default)]
pub(crate) struct Inner {
    versions: BTreeMap<u32, VersionStatus>,
    problem: Option<String>,
}

impl States {
    /// Of no version of a model so far.
    pub fn new(model: &str) -> Self {
        Self { model: model.into(), inner: Arc::default(), transitions: broadcast::channel(TRANSITIONS).0 }
    }

    /// Takes note of what is done with a version now.
    pub fn set(&self, now: VersionStatus) {
        let mut previous = VersionState::Unspecified;
        self.inner.send_modify(|inner| {
            if let Some(before) = inner.versions.insert(now.version, now.clone()) {
                previous = before.state;
            }
        });
        // Fails when nobody watches.
        let _ = self.transitions.send(Transition { previous, now });
    }

    /// Takes note that a version is wanted no more, and is nothing to speak of.
    pub fn forget(&self, version: u32) {
        self.inner.send_modify(|inner| {
            inner.versions.remove(&version);
        });
    }

    /// Says why the registry cannot be followed; `None` when it can.
    pub fn set_problem(&self, problem: Option<String>) {
        self.inner.send_if_modified(|inner| {
            let new = inner.problem != problem;
            if let Some(problem) = problem.as_ref().filter(|_| new) {
                tracing::warn!(model = &*self.model, problem, "the model's labels cannot be followed");
            }
            inner.problem = problem;
            new
        });
    }

    pub fn list(&self) -> Vec<VersionStatus> {
        self.inner.borrow().versions.values().cloned().collect()
    }

    pub fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    pub fn problem(&self) -> Option<String> {
        self.inner.borrow().problem.clone()
    }

    /// In words, why nothing answers.
    pub fn explain(&self) -> String {
        let inner = self.inner.borrow();
        if let Some(problem) = &inner.problem {
            return problem.clone();
        }
        let told = |status: &&VersionStatus| !matches!(status.state, VersionState::Draining | VersionState::Ended);
        match inner.versions.values().rev().find(told) {
            Some(VersionStatus { model, version, state: VersionState::Failed, failure, .. }) => {
                format!("version {version} of {model} failed: {failure}")
            }
            Some(VersionStatus { model, version, .. }) => format!("version {version} of {model} is being loaded"),
            None => "the registry has not been read yet, or everything is being unloaded".to_owned(),
        }
    }

    /// Resolves when `condition` holds.
    #[cfg(test)]
    pub async fn until(&self, mut condition: impl FnMut(&Inner) -> bool) {
        let _ = self.inner.subscribe().wait_for(|inner| condition(inner)).await;
    }
}

/// As the API names it.
pub(super) fn state_of(phase: Phase) -> VersionState {
    match phase {
        Phase::Start => VersionState::Start,
        Phase::Loading => VersionState::Loading,
        Phase::Warming => VersionState::Warming,
        Phase::Indexing => VersionState::Indexing,
        Phase::Available => VersionState::Available,
        Phase::Draining => VersionState::Draining,
        Phase::Ended => VersionState::Ended,
        Phase::Failed => VersionState::Failed,
    }
}

#[cfg(test)]
impl Inner {
    pub fn state(&self, version: u32) -> Option<VersionState> {
        self.versions.get(&version).map(|status| status.state)
    }

    pub fn problem(&self) -> &str {
        self.problem.as_deref().unwrap_or_default()
    }
}

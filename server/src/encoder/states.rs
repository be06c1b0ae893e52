//! What this server does with each version, for those who ask.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;
use vitrine::v1::VersionState;

/// What this server does with a version.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderState {
    /// The model's name.
    pub model: String,
    /// The version's number.
    pub version: u32,
    /// What is being done with it. `WARMING` as well while its vectors are being made.
    pub state: VersionState,
    /// For `FAILED`: why.
    pub failure: String,
    /// Where it runs, as `cpu`. Empty when it is not loaded.
    pub device: String,
}

/// The states, shared by those who change them and those who ask.
#[derive(Clone, Default)]
pub(super) struct States {
    inner: Arc<watch::Sender<Inner>>,
}

#[derive(Default)]
pub(super) struct Inner {
    versions: BTreeMap<u32, (Attempt, EncoderState)>,
    attempts: u64,
    problem: Option<String>,
}

/// One attempt to load a version. It may be loaded anew while what an earlier attempt loaded still drains: then only the
/// later one is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt(u64);

impl States {
    /// Begins an attempt to load a version.
    pub fn begin(&self, loading: EncoderState) -> Attempt {
        let mut attempt = Attempt(0);
        self.inner.send_modify(|inner| {
            inner.attempts += 1;
            attempt = Attempt(inner.attempts);
            inner.versions.insert(loading.version, (attempt, loading));
        });
        attempt
    }

    /// Changes the state of what an attempt loaded. What has failed or left memory stays so.
    pub fn set(&self, of: Attempt, new: EncoderState) {
        self.inner.send_modify(|inner| {
            if let Some((attempt, state)) = inner.versions.get_mut(&new.version)
                && *attempt == of
                && !matches!(state.state, VersionState::Failed | VersionState::Ended)
            {
                *state = new;
            }
        });
    }

    /// Says why the label cannot be followed; `None` when it can.
    pub fn set_problem(&self, problem: Option<String>) {
        self.inner.send_if_modified(|inner| {
            let new = inner.problem != problem;
            if let Some(problem) = problem.as_ref().filter(|_| new) {
                tracing::warn!(problem, "the text encoder's label cannot be followed");
            }
            inner.problem = problem;
            new
        });
    }

    pub fn list(&self) -> Vec<EncoderState> {
        self.inner.borrow().versions.values().map(|(_, state)| state.clone()).collect()
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
        let telling = |state: &&EncoderState| {
            matches!(state.state, VersionState::Loading | VersionState::Warming | VersionState::Failed)
        };
        match inner.versions.values().rev().map(|(_, state)| state).find(telling) {
            Some(EncoderState { model, version, state: VersionState::Failed, failure, .. }) => {
                format!("version {version} of {model} failed: {failure}")
            }
            Some(EncoderState { model, version, .. }) => format!("version {version} of {model} is being loaded"),
            None => "the registry has not been read yet, or everything is being unloaded".to_owned(),
        }
    }

    /// Resolves when `condition` holds.
    #[cfg(test)]
    pub async fn until(&self, mut condition: impl FnMut(&Inner) -> bool) {
        let _ = self.inner.subscribe().wait_for(|inner| condition(inner)).await;
    }
}

#[cfg(test)]
impl Inner {
    pub fn state(&self, version: u32) -> Option<VersionState> {
        self.versions.get(&version).map(|(_, state)| state.state)
    }

    pub fn problem(&self) -> &str {
        self.problem.as_deref().unwrap_or_default()
    }
}

//! What an operator sets for a model.

use std::{path::PathBuf, time::Duration};

use vitrine_models::DeviceSpec;
use vitrine_registry::lifecycle::Policy;

use super::Ready;
use crate::{batch::LaneOptions, registry_source::RegistrySource};

/// Which model's versions run, where, and within which bounds.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// The registry. It may be missing: it is looked for again every [`registry_retry`](Self::registry_retry).
    pub registry: RegistrySource,
    /// The model's name in the registry.
    pub model: String,
    /// The label whose version answers by default.
    pub label: String,
    /// Which versions are loaded beside those that labels name.
    pub policy: Policy,
    /// How long a version stays loaded after a label has left it, for a quick way back.
    pub keep_previous: Duration,
    /// The memory that versions may take together, in bytes. 0: what the device has.
    pub memory_budget_bytes: u64,
    /// Where to write down what labels answer with, so that they do so again after a restart.
    pub state_file: Option<PathBuf>,
    /// Where it runs.
    pub device: DeviceSpec,
    /// The most rows that run together.
    pub max_batch_rows: usize,
    /// The most tokens that run together. Raised to the model's longest row if that is more.
    pub max_batch_tokens: usize,
    /// The most rows that may wait, interactive and bulk each. More interactive ones are refused; more of the others wait outside.
    pub max_queue_rows: usize,
    /// How long to wait before looking again for a registry that is missing or cannot be read.
    pub registry_retry: Duration,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            registry: RegistrySource::Folder(PathBuf::from("vitrine-registry")),
            model: "minilm".to_owned(),
            label: "stable".to_owned(),
            policy: Policy::Labels,
            keep_previous: Duration::from_mins(10),
            memory_budget_bytes: 0,
            state_file: None,
            device: DeviceSpec::Cpu,
            max_batch_rows: 256,
            max_batch_tokens: 4_096,
            max_queue_rows: 2_048,
            registry_retry: Duration::from_secs(5),
        }
    }
}

impl ModelOptions {
    /// The bounds of a version. The queue holds that many rows of the length of its longest.
    pub(super) fn lane_options<L>(&self, ready: &Ready<L>) -> LaneOptions {
        let max_tokens = ready.max_tokens;
        LaneOptions {
            max_batch_rows: self.max_batch_rows.min(ready.runner.most_rows()),
            max_batch_tokens: self.max_batch_tokens.max(max_tokens),
            max_queue_rows: self.max_queue_rows,
            max_queue_tokens: self.max_queue_rows.saturating_mul(max_tokens),
            cost: ready.cost.clone(),
        }
    }
}

//! The versions of a model on this server, whatever its task.
//!
//! [`Model`] brings up the versions that are wanted: each is checked, loaded, warmed up, waits for its vectors of every catalog if it has
//! any, and only then do labels answer with it; the version before answers until then, and leaves with its last request. A version that
//! fails never takes the place of a good one. Without any version, or without a registry, nothing answers: the reason is in
//! [`Model::states`] and in [`NotLoaded`].
//!
//! - [`served`]: what is loaded, for those who ask. `answering`: which version answers for what.
//! - [`lifecycle`]: the thread that decides. `loader`: the thread that loads.
//! - [`states`]: what is done with each version. [`options`]: what an operator sets. [`memory`]: what there is room for.

pub mod answering;
pub mod lifecycle;
mod loader;
pub mod memory;
pub mod options;
pub mod served;
pub mod states;

use vitrine_models::{GoldenCheck, ModelError};
use vitrine_registry::VersionDir;

use crate::batch::{BatchError, Class, Lane, Output, Row, RowCost, Runner};

pub use answering::Pinned;
pub use lifecycle::{Refused, Wish};
pub use options::ModelOptions;
pub use served::{Managed, Model, StartError};
pub use states::{Requests, Transition, VersionStatus};

/// The version that a label answers with on this server, 0 for none. By model and label.
pub const LABEL_VERSION: &str = "vitrine_label_version";

/// A loaded version, as requests use it. It stays loaded as long as anyone holds it.
pub trait Loaded: Send + Sync + Sized + 'static {
    /// The task, as manifests name it.
    const TASK: &'static str;

    /// The networks of this task that can be loaded, as manifests name them.
    const KINDS: &'static [&'static str];

    /// Whether it answers only when its vectors of every catalog are there: see [`Model::indexed`].
    const INDEXED: bool;

    /// What it was given when it was loaded.
    fn opened(&self) -> &Opened;
}

/// What a loaded version is given: its names, and its place on the device.
pub struct Opened {
    /// The model's name.
    pub model: String,
    /// The version's number.
    pub version: u32,
    /// When it was published: another version that is given the same number has another time.
    pub published: String,
    /// Its queue.
    pub lane: Lane,
    /// Rows and tokens that one bulk request may have.
    pub bulk_limits: (usize, usize),
    /// Counts the requests that it is given.
    pub requests: Requests,
}

impl Opened {
    /// Runs rows for nobody who waits, in order: when others leave room, and waiting where they would be refused.
    ///
    /// # Errors
    /// The version leaves, or cannot run a row.
    pub async fn run_bulk(&self, rows: Vec<Row>) -> Result<Vec<Output>, BatchError> {
        let (most_rows, most_tokens) = self.bulk_limits;
        let mut outputs = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut request: Vec<Row> = Vec::new();
            let mut tokens = 0;
            while let Some(row) = rows
                .next_if(|row| request.is_empty() || (request.len() < most_rows && tokens + row.len() <= most_tokens))
            {
                tokens += row.len();
                request.push(row);
            }
            outputs.extend(self.run_with_room(request).await?);
        }
        Ok(outputs)
    }

    async fn run_with_room(&self, rows: Vec<Row>) -> Result<Vec<Output>, BatchError> {
        loop {
            match self.lane.run(rows.clone(), Class::Bulk, None).await {
                Err(BatchError::QueueFull { retry_after }) => tokio::time::sleep(retry_after).await,
                other => return other,
            }
        }
    }
}

/// No such version answers now: which, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotLoaded(pub String);

/// A version in memory, warm and checked.
pub struct Ready<L> {
    /// What runs its rows.
    pub runner: Box<dyn Runner>,
    /// The longest row in tokens.
    pub max_tokens: usize,
    /// What a row of so many tokens is thought to take.
    pub cost: RowCost,
    /// When the version was published.
    pub published: String,
    /// Makes of it what requests use.
    pub open: Box<dyn FnOnce(Opened) -> L + Send>,
}

/// Is told before a version's first run.
pub type Warming<'a> = dyn Fn() -> Result<(), String> + Sync + 'a;

/// Loads the versions of a task.
pub trait Load<L>: Send + Sync {
    /// Loads a version of a known kind whose files have been verified, and tells `warming` before its first run, which may end it.
    ///
    /// # Errors
    /// Why not.
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<L>, String>;
}

/// Takes note of what came of running a version's recorded rows.
///
/// # Errors
/// A row did not come out as recorded, or could not be run.
pub(crate) fn checked(outcome: Result<GoldenCheck, ModelError>, version: &VersionDir) -> Result<(), String> {
    match outcome.map_err(|error| error.to_string())? {
        GoldenCheck::Matched { rows, difference } => tracing::debug!(rows, difference, "golden rows match"),
        GoldenCheck::NotRecorded => {
            tracing::warn!(path = %version.path.display(), "no golden rows: the weights are not checked by running them");
        }
    }
    Ok(())
}

//! What is loaded, for those who ask.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc},
};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, oneshot, watch};
use vitrine_registry::{Label, ModelName, NameError, Version};

use super::{
    Load, Loaded, ModelOptions, NotLoaded, Pinned, Refused, Transition, VersionStatus, Wish,
    answering::Answering,
    lifecycle::{
        Event, Lifecycle, Start,
        wishes::{Setting, Wishes},
    },
    loader,
    states::States,
};
use crate::batch::Batcher;

/// The versions of one model on this server. Dropping it, or [`stop`](Managed::stop), unloads them.
pub struct Model<L> {
    name: String,
    answering: Arc<ArcSwap<Answering<L>>>,
    loaded: watch::Receiver<Vec<Arc<L>>>,
    pub(crate) states: States,
    events: mpsc::Sender<Event<L>>,
}

/// Why a model could not be started. A registry that is missing is no reason: see [`Model::problem`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not a model's name.
    #[error("the model: {0}")]
    Model(NameError),
    /// Not a label.
    #[error("the label: {0}")]
    Label(NameError),
    /// The system gives no thread.
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
}

impl<L: Loaded> Model<L> {
    /// Starts to bring up what is wanted on a device, and returns at once: loading goes on behind.
    ///
    /// # Errors
    /// Names that are none, and a system without threads to give.
    pub fn start(options: ModelOptions, load: Box<dyn Load<L>>, device: Arc<Batcher>) -> Result<Self, StartError> {
        let model: ModelName = options.model.parse().map_err(StartError::Model)?;
        let default: Label = options.label.parse().map_err(StartError::Label)?;
        let answering = Arc::new(ArcSwap::default());
        let (publish, loaded) = watch::channel(Vec::new());
        let states = States::new(&options.model);
        let (events, arriving) = mpsc::channel();
        let wishes = Wishes::new(Setting {
            model,
            policy: options.policy.clone(),
            default,
            keep: options.keep_previous,
            memory: options.state_file.clone(),
        });
        let name = options.model.clone();
        let lifecycle = Lifecycle::new(Start {
            options,
            wishes,
            jobs: loader::start(load, Arc::clone(&device), events.clone())?,
            device,
            states: states.clone(),
            answering: Arc::clone(&answering),
            loaded: publish,
            events: events.clone(),
        });
        std::thread::Builder::new().name("model-lifecycle".to_owned()).spawn(move || lifecycle.run(&arriving))?;
        Ok(Self { name, answering, loaded, states, events })
    }

    /// The version that a request is to use, for as long as it holds it. `selector` is a label or a version's number;
    /// none: the label that answers by default.
    ///
    /// # Errors
    /// With the reason, or with what is loaded.
    pub fn resolve(&self, selector: Option<&str>) -> Result<Pinned<L>, NotLoaded> {
        self.answering.load().resolve(selector, &self.states)
    }

    /// Why the labels cannot be followed now: no registry, no such model, no such label. `None` when they can.
    pub fn problem(&self) -> Option<String> {
        self.states.problem()
    }

    /// The loaded versions, and each change: a version is here before it answers, while its vectors are made, and is gone
    /// from here once it is to unload.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Arc<L>>> {
        self.loaded.clone()
    }

    /// Says that the vectors of a version are there, or why they never will be.
    pub fn indexed(&self, version: u32, outcome: Result<(), String>) {
        if let Some(version) = Version::new(version) {
            self.send(Event::Indexed(version, outcome));
        }
    }

    fn send(&self, event: Event<L>) {
        // The thread ends only when it is told to.
        let _ = self.events.send(event);
    }
}

/// A model, whatever its task, for those who watch and steer its versions.
#[tonic::async_trait]
pub trait Managed: Send + Sync {
    /// Its name in the registry.
    fn name(&self) -> &str;

    /// What it is for.
    fn task(&self) -> &'static str;

    /// Whether a version answers here for this label, or of this number.
    fn has(&self, selector: &str) -> bool;

    /// What each label answers with here.
    fn labels(&self) -> BTreeMap<String, u32>;

    /// What is done with each version that was ever wanted here, by number.
    fn states(&self) -> Vec<VersionStatus>;

    /// Every change of a version's state from now on.
    fn transitions(&self) -> broadcast::Receiver<Transition>;

    /// Resolves when a wish is fulfilled. Whoever stops waiting does not take the wish back.
    ///
    /// # Errors
    /// Why it will not be fulfilled.
    async fn wish(&self, wish: Wish) -> Result<(), Refused>;

    /// Lets nothing more in, and begins to unload everything: see [`Devices::shutdown`](crate::batch::Devices::shutdown).
    fn stop(&self);
}

#[tonic::async_trait]
impl<L: Loaded> Managed for Model<L> {
    fn name(&self) -> &str {
        &self.name
    }

    fn task(&self) -> &'static str {
        L::TASK
    }

    fn has(&self, selector: &str) -> bool {
        self.answering.load().has(selector)
    }

    fn labels(&self) -> BTreeMap<String, u32> {
        let answering = self.answering.load();
        answering.labels.iter().map(|(label, loaded)| (label.clone(), loaded.opened().version)).collect()
    }

    fn states(&self) -> Vec<VersionStatus> {
        self.states.list()
    }

    fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.states.transitions()
    }

    async fn wish(&self, wish: Wish) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(Event::Asked(wish, reply));
        answer.await.unwrap_or(Err(Refused::Ending))
    }

    fn stop(&self) {
        self.send(Event::Stop);
        self.answering.store(Arc::default());
    }
}

impl<L> Drop for Model<L> {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
    }
}

//! What is loaded, for those who ask.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, oneshot, watch};
use vitrine_registry::{Label, ModelName, NameError, Version};

use super::{
    Encoder, EncoderError, EncoderOptions, Pinned, Refused, Transition, VersionStatus, Wish,
    answering::Answering,
    lifecycle::{
        Event, Lifecycle, Start,
        wishes::{Setting, Wishes},
    },
    load::{Load, LoadNetwork},
    loader,
    states::States,
};
use crate::batch::{Batcher, ShutdownTimedOut};

/// The text encoders of this server. Dropping it, or [`shutdown`](Self::shutdown), unloads them.
pub struct Encoders {
    model: String,
    answering: Arc<ArcSwap<Answering>>,
    loaded: watch::Receiver<Vec<Arc<Encoder>>>,
    pub(super) states: States,
    events: mpsc::Sender<Event>,
    device: Arc<Batcher>,
}

/// Why encoders could not be started. A registry that is missing is no reason: see [`Encoders::problem`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not a model's name.
    #[error("the text encoder's model: {0}")]
    Model(NameError),
    /// Not a label.
    #[error("the text encoder's label: {0}")]
    Label(NameError),
    /// The system gives no thread.
    #[error("no thread for the text encoder: {0}")]
    Thread(#[from] io::Error),
}

impl Encoders {
    /// Starts to bring up what is wanted, and returns at once: loading goes on behind.
    ///
    /// # Errors
    /// Names that are none, and a system without threads to give.
    pub fn start(options: EncoderOptions) -> Result<Self, StartError> {
        let load = LoadNetwork { device: options.device };
        Self::start_with(options, Box::new(load))
    }

    pub(super) fn start_with(options: EncoderOptions, load: Box<dyn Load>) -> Result<Self, StartError> {
        let model: ModelName = options.model.parse().map_err(StartError::Model)?;
        let default: Label = options.label.parse().map_err(StartError::Label)?;
        let device = Arc::new(Batcher::start(&options.device.to_string(), options.sharing.clone())?);
        let answering = Arc::new(ArcSwap::default());
        let (publish, loaded) = watch::channel(Vec::new());
        let states = States::default();
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
            device: Arc::clone(&device),
            jobs: loader::start(load, events.clone())?,
            states: states.clone(),
            answering: Arc::clone(&answering),
            loaded: publish,
            events: events.clone(),
        });
        std::thread::Builder::new().name("encoder-lifecycle".to_owned()).spawn(move || lifecycle.run(&arriving))?;
        Ok(Self { model: name, answering, loaded, states, events, device })
    }

    /// The name of the model whose versions these are.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The version that a request is to use, for as long as it holds it. `selector` is a label or a version's number;
    /// none: the label that answers by default.
    ///
    /// # Errors
    /// [`EncoderError::NotLoaded`], with the reason, or with what is loaded.
    pub fn resolve(&self, selector: Option<&str>) -> Result<Pinned, EncoderError> {
        self.answering.load().resolve(selector, &self.states)
    }

    /// What each label answers with here.
    pub fn labels(&self) -> BTreeMap<String, u32> {
        let answering = self.answering.load();
        answering.labels.iter().map(|(label, encoder)| (label.clone(), encoder.version)).collect()
    }

    /// What is done with each version that was ever wanted here, by number.
    pub fn states(&self) -> Vec<VersionStatus> {
        self.states.list()
    }

    /// Every change of a version's state from now on.
    pub fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.states.transitions()
    }

    /// Why the labels cannot be followed now: no registry, no such model, no such label. `None` when they can.
    pub fn problem(&self) -> Option<String> {
        self.states.problem()
    }

    /// The loaded encoders, and each change: a version is here before it answers, while its vectors are made, and is gone
    /// from here once it is to unload.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Arc<Encoder>>> {
        self.loaded.clone()
    }

    /// Says that the vectors of a version are there, or why they never will be.
    pub fn indexed(&self, version: u32, outcome: Result<(), String>) {
        if let Some(version) = Version::new(version) {
            self.send(Event::Indexed(version, outcome));
        }
    }

    /// Resolves when a wish is fulfilled. Whoever stops waiting does not take the wish back.
    ///
    /// # Errors
    /// Why it will not be fulfilled.
    pub async fn wish(&self, wish: Wish) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(Event::Asked(wish, reply));
        answer.await.unwrap_or(Err(Refused::Ending))
    }

    /// Lets nothing more in, answers what has been let in for at most `within`, and unloads everything.
    ///
    /// # Errors
    /// When a batch still runs at the end of that time.
    pub async fn shutdown(&self, within: Duration) -> Result<(), ShutdownTimedOut> {
        self.send(Event::Stop);
        self.answering.store(Arc::default());
        self.device.shutdown(within).await
    }

    fn send(&self, event: Event) {
        // The thread ends only when it is told to.
        let _ = self.events.send(event);
    }
}

impl Drop for Encoders {
    fn drop(&mut self) {
        self.send(Event::Stop);
    }
}

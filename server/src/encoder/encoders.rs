//! What is loaded, for those who ask.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use vitrine_registry::{Label, ModelName, NameError};

use super::{
    Encoder, EncoderError, EncoderOptions, EncoderState,
    follow::{Event, Follower},
    load::{Load, LoadNetwork},
    states::States,
};
use crate::batch::{Batcher, ShutdownTimedOut};

/// The loaded text encoders of this server. Dropping it, or [`shutdown`](Self::shutdown), unloads them.
pub struct Encoders {
    label: String,
    answering: Arc<ArcSwapOption<Encoder>>,
    loaded: watch::Receiver<Vec<Arc<Encoder>>>,
    pub(super) states: States,
    events: mpsc::Sender<Event>,
    device: Arc<Batcher>,
}

/// Why encoders could not be started. A registry that is missing is no reason: see [`Encoders::states`].
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
    /// Starts to follow the label, and returns at once: loading goes on behind.
    ///
    /// # Errors
    /// Names that are none, and a system without threads to give.
    pub fn start(options: EncoderOptions) -> Result<Self, StartError> {
        let load = LoadNetwork { device: options.device };
        Self::start_with(options, Box::new(load))
    }

    pub(super) fn start_with(options: EncoderOptions, load: Box<dyn Load>) -> Result<Self, StartError> {
        let model: ModelName = options.model.parse().map_err(StartError::Model)?;
        let label: Label = options.label.parse().map_err(StartError::Label)?;
        let device = Arc::new(Batcher::start(&options.device.to_string(), options.device_options())?);
        let answering = Arc::new(ArcSwapOption::empty());
        let (publish, loaded) = watch::channel(Vec::new());
        let states = States::default();
        let (events, arriving) = mpsc::channel();
        let follower = Follower {
            model,
            label,
            load,
            device: Arc::clone(&device),
            answering: Arc::clone(&answering),
            publish,
            states: states.clone(),
            wake: events.clone(),
            waiting: None,
            options: options.clone(),
        };
        std::thread::Builder::new().name("encoder-loader".to_owned()).spawn(move || follower.run(&arriving))?;
        Ok(Self { label: options.label, answering, loaded, states, events, device })
    }

    /// The encoder that a request is to use, for as long as it holds it. `selector` is a label or a version's number;
    /// none: the label that is followed.
    ///
    /// # Errors
    /// [`EncoderError::NotLoaded`], with the reason.
    pub fn resolve(&self, selector: Option<&str>) -> Result<Arc<Encoder>, EncoderError> {
        let Some(selector) = selector.filter(|selector| *selector != self.label) else {
            return self.answering.load_full().ok_or_else(|| EncoderError::NotLoaded { detail: self.states.explain() });
        };
        let loaded = self.loaded.borrow();
        let found = loaded.iter().find(|encoder| selector.parse() == Ok(encoder.version));
        found.cloned().ok_or_else(|| EncoderError::NotLoaded {
            detail: format!("`{selector}` is neither the label `{}` nor the number of a loaded version", self.label),
        })
    }

    /// What is done with each version that was ever wanted here, by number.
    pub fn states(&self) -> Vec<EncoderState> {
        self.states.list()
    }

    /// Why the label cannot be followed now: no registry, no such model, no such label. `None` when it can.
    pub fn problem(&self) -> Option<String> {
        self.states.problem()
    }

    /// The loaded encoders, and each change: a version is here before it answers (see
    /// [`EncoderOptions::index_first`]) and is gone from here once it is to unload.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Arc<Encoder>>> {
        self.loaded.clone()
    }

    /// Says that the vectors of a version are there: it may take the place of the one that answers.
    pub fn indexed(&self, version: u32) {
        self.send(Event::Indexed(version));
    }

    /// Lets nothing more in, answers what has been let in for at most `within`, and unloads everything.
    ///
    /// # Errors
    /// When a batch still runs at the end of that time.
    pub async fn shutdown(&self, within: Duration) -> Result<(), ShutdownTimedOut> {
        self.send(Event::Stop);
        self.answering.store(None);
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

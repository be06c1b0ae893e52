//! The thread that follows the label: it loads, lets the new version answer, and lets the old one go.
//!
//! Nothing here runs on a thread that serves. A version is tried once for each change of the registry, so one that fails
//! costs nothing until something changes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use vitrine::v1::VersionState;
use vitrine_registry::{Label, ModelName, Registry, RegistryError, Version, VersionDir, Watch, WatchOptions};

use super::{
    Encoder, EncoderOptions, EncoderState,
    load::{Load, Model},
    loaded::EncoderParts,
    states::{Attempt, States},
};
use crate::batch::{Batcher, RunError, Runner};

/// What the thread waits for.
pub(super) enum Event {
    /// The model or its labels changed.
    Changed,
    /// The vectors of a version are there.
    Indexed(u32),
    /// Time to end.
    Stop,
}

/// The thread's possessions.
pub(super) struct Follower {
    pub model: ModelName,
    pub label: Label,
    pub load: Box<dyn Load>,
    pub device: Arc<Batcher>,
    pub answering: Arc<ArcSwapOption<Encoder>>,
    pub publish: watch::Sender<Vec<Arc<Encoder>>>,
    pub states: States,
    pub wake: Sender<Event>,
    /// Loaded, and not answering before its vectors are there.
    pub waiting: Option<Arc<Encoder>>,
    pub options: EncoderOptions,
}

impl Follower {
    /// Follows until told to stop.
    pub fn run(mut self, events: &Receiver<Event>) {
        let mut watched = None;
        loop {
            if watched.is_none() {
                watched = self.watch().map_err(|error| self.states.set_problem(Some(error.to_string()))).ok();
                if let Some((registry, _)) = &watched {
                    self.follow(registry);
                }
            }
            let event = match &watched {
                Some(_) => events.recv().map_err(RecvTimeoutError::from),
                None => events.recv_timeout(self.options.registry_retry),
            };
            match (event, &watched) {
                (Ok(Event::Changed), Some((registry, _))) => self.follow(registry),
                (Ok(Event::Indexed(version)), _) => self.indexed(version),
                (Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected), _) => break,
                (Ok(Event::Changed) | Err(RecvTimeoutError::Timeout), _) => {}
            }
        }
        for encoder in self.answering.swap(None).into_iter().chain(self.waiting.take()) {
            self.drain(&encoder);
        }
        self.publish_loaded();
    }

    /// Opens the registry, and is woken by its changes from then on.
    fn watch(&self) -> Result<(Registry, Watch), RegistryError> {
        let registry = Registry::open(&self.options.registry)?;
        let (model, wake) = (self.model.clone(), self.wake.clone());
        let watch = registry.watch(WatchOptions::default(), move |models| {
            if models.contains(&model) {
                // Fails only while everything ends.
                let _ = wake.send(Event::Changed);
            }
        })?;
        Ok((registry, watch))
    }

    /// Does what the label says now.
    fn follow(&mut self, registry: &Registry) {
        let wanted = match self.wanted(registry) {
            Ok(wanted) => wanted,
            // What answers goes on answering.
            Err(problem) => return self.states.set_problem(Some(problem)),
        };
        self.states.set_problem(None);
        let is_wanted = |encoder: &Arc<Encoder>| encoder.version == wanted.get();
        if self.waiting.as_ref().is_some_and(is_wanted) {
            return;
        }
        if let Some(unwanted) = self.waiting.take() {
            self.drain(&unwanted);
            self.publish_loaded();
        }
        if self.answering.load().as_ref().is_some_and(is_wanted) {
            return;
        }
        let attempt = self.states.begin(self.state(wanted.get(), VersionState::Loading));
        match self.open(registry, wanted, attempt) {
            Ok(encoder) => self.welcome(Arc::new(encoder)),
            Err(failure) => {
                tracing::error!(model = self.model.as_str(), version = wanted.get(), failure, "a version failed");
                self.states.set(attempt, EncoderState { failure, ..self.state(wanted.get(), VersionState::Failed) });
            }
        }
    }

    fn wanted(&self, registry: &Registry) -> Result<Version, String> {
        let labels = registry.labels(&self.model).map_err(|error| error.to_string())?;
        let (model, label) = (self.model.as_str(), self.label.as_str());
        labels.get(&self.label).copied().ok_or_else(|| {
            format!("label \"{label}\" of model \"{model}\" names no version; `vitrine-registry label` sets it")
        })
    }

    /// Verifies, loads and warms a version, and gives it a lane.
    fn open(&self, registry: &Registry, version: Version, attempt: Attempt) -> Result<Encoder, String> {
        let folder = registry.version(&self.model, version).map_err(|error| error.to_string())?;
        let problems = folder.verify().map_err(|error| error.to_string())?;
        if let Some(problem) = problems.first() {
            return Err(format!("{problem} ({} problems)", problems.len()));
        }
        let model = self.load_caught(&folder, attempt)?;
        let (model_name, label) = (self.model.as_str().to_owned(), self.label.as_str().to_owned());
        let lane_options = self.options.lane_options(model.max_tokens, model.cost);
        // Half a queue, so that the next request can wait while this one runs.
        let bulk_limits = (lane_options.max_queue_rows.div_ceil(2), lane_options.max_queue_tokens.div_ceil(2));
        let ended = self.state(version.get(), VersionState::Ended);
        let end = End { states: self.states.clone(), attempt, ended };
        let runner = Guarded { runner: model.runner, _end: end };
        let lane = self
            .device
            .open_lane(&format!("{model_name}/{version}"), Box::new(runner), lane_options)
            .map_err(|error| error.to_string())?;
        Ok(Encoder::new(EncoderParts {
            model: model_name,
            version: version.get(),
            label,
            dimensions: model.dimensions,
            attempt,
            bulk_limits,
            tokenize: model.tokenize,
            lane,
            query_cache_bytes: self.options.query_cache_bytes,
        }))
    }

    /// A model that panics while it is loaded is a version that fails, and not the end of this thread.
    fn load_caught(&self, folder: &VersionDir, attempt: Attempt) -> Result<Model, String> {
        let warming = || self.states.set(attempt, self.state(folder.version.get(), VersionState::Warming));
        catch_unwind(AssertUnwindSafe(|| self.load.load(folder, &warming)))
            .unwrap_or_else(|_| Err("loading it panicked; the log has the message".to_owned()))
    }

    /// A version that is ready to answer does so now, or once its vectors are there.
    fn welcome(&mut self, encoder: Arc<Encoder>) {
        let version = encoder.version;
        self.waiting = Some(encoder);
        self.publish_loaded();
        if !self.options.index_first || self.answering.load().is_none() {
            self.indexed(version);
        }
    }

    fn indexed(&mut self, version: u32) {
        if let Some(encoder) = self.waiting.take_if(|encoder| encoder.version == version) {
            self.switch_to(&encoder);
        }
    }

    fn switch_to(&mut self, encoder: &Arc<Encoder>) {
        let version = encoder.version;
        tracing::info!(model = self.model.as_str(), version, "the text encoder answers");
        let before = self.answering.swap(Some(Arc::clone(encoder)));
        self.set_state(encoder, VersionState::Available);
        if let Some(before) = &before {
            self.drain(before);
        }
        self.publish_loaded();
    }

    /// Lets a version go. It is unloaded, and its state `ENDED`, when the last request that holds it has ended.
    fn drain(&self, encoder: &Encoder) {
        self.set_state(encoder, VersionState::Draining);
    }

    fn publish_loaded(&self) {
        let answering = self.answering.load_full();
        self.publish.send_replace(answering.into_iter().chain(self.waiting.clone()).collect());
    }

    fn set_state(&self, encoder: &Encoder, state: VersionState) {
        self.states.set(encoder.attempt(), self.state(encoder.version, state));
    }

    fn state(&self, version: u32, state: VersionState) -> EncoderState {
        let loaded = !matches!(state, VersionState::Failed | VersionState::Ended);
        EncoderState {
            model: self.model.as_str().to_owned(),
            version,
            state,
            failure: String::new(),
            device: if loaded { self.device.device().to_owned() } else { String::new() },
        }
    }
}

/// A model whose state becomes `ENDED` once its memory is free: fields are dropped in order.
struct Guarded {
    runner: Box<dyn Runner>,
    _end: End,
}

impl Runner for Guarded {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.runner.run(rows)
    }
}

struct End {
    states: States,
    attempt: Attempt,
    ended: EncoderState,
}

impl Drop for End {
    fn drop(&mut self) {
        self.states.set(self.attempt, self.ended.clone());
    }
}

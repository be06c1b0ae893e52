//! The thread that decides: it compares what is wanted with what is there, asks [`plan`] what to do next, and does it.
//!
//! It never waits for the disk or a network: loading is the loader's, vectors are made by the catalogs' generations. What they report
//! comes here as an `Event`, as do changes of the registry and the wishes of callers.

mod versions;
pub(super) mod wishes;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use metrics::gauge;
use tokio::sync::{oneshot, watch};
use vitrine_registry::{
    Label, Registry, RegistryError, Version, Watch, WatchOptions,
    lifecycle::{Action, Observed, Phase, plan},
};

pub use self::wishes::Wish;
use self::{versions::Versions, wishes::Wishes};
use super::{
    LABEL_VERSION, Loaded, ModelOptions, Ready,
    answering::{Answering, Pinned},
    loader::Job,
    states::States,
};
use crate::batch::Batcher;

/// What the thread waits for.
pub(super) enum Event<L> {
    /// The model or its labels changed.
    Changed,
    /// A version's files are in memory; its recorded rows are run.
    Warming(Version),
    /// A version is ready to run, or why not.
    Loaded(Version, Result<Ready<L>, String>),
    /// The vectors of a version are there, or why they will never be.
    Indexed(Version, Result<(), String>),
    /// A version's memory is free.
    Ended(Version),
    /// Somebody wants something, and waits for it.
    Asked(Wish, oneshot::Sender<Result<(), Refused>>),
    /// Time to end.
    Stop,
}

/// Why a wish cannot be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The version cannot be used here.
    #[error("version {version} cannot be used on this server: {reason}")]
    Failed {
        /// The version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// The label was moved by somebody else meanwhile.
    #[error("label \"{label}\" was moved by somebody else meanwhile; it names {}", match now {
        Some(version) => format!("version {version}"),
        None => "no version".to_owned(),
    })]
    Moved {
        /// The label.
        label: Label,
        /// What it names.
        now: Option<Version>,
    },
    /// A label names the version, or answers with it.
    #[error("label \"{label}\" needs version {version}; move it first")]
    Needed {
        /// The label.
        label: Label,
        /// The version.
        version: Version,
    },
    /// Somebody asked for the contrary.
    #[error("version {version} is not wanted any more")]
    Unwanted {
        /// The version.
        version: Version,
    },
    /// The server ends.
    #[error("the server is shutting down")]
    Ending,
}

/// What the thread is given.
pub(super) struct Start<L> {
    pub options: ModelOptions,
    pub wishes: Wishes,
    pub device: Arc<Batcher>,
    pub jobs: Sender<Job>,
    pub states: States,
    pub answering: Arc<ArcSwap<Answering<L>>>,
    pub loaded: watch::Sender<Vec<Arc<L>>>,
    pub events: Sender<Event<L>>,
}

/// The thread's possessions.
pub(super) struct Lifecycle<L> {
    options: ModelOptions,
    wishes: Wishes,
    versions: Versions<L>,
    /// What each label answers with here.
    labels: BTreeMap<Label, Version>,
    registry: Option<(Registry, Watch)>,
    waiting: Vec<(Wish, oneshot::Sender<Result<(), Refused>>)>,
    answering: Arc<ArcSwap<Answering<L>>>,
    loaded: watch::Sender<Vec<Arc<L>>>,
    states: States,
    events: Sender<Event<L>>,
}

impl<L: Loaded> Lifecycle<L> {
    pub fn new(start: Start<L>) -> Self {
        let Start { options, wishes, device, jobs, states, answering, loaded, events } = start;
        let model = wishes.model().clone();
        let versions = Versions::new(model, options.clone(), device, jobs, states.clone(), events.clone());
        let (labels, waiting) = (BTreeMap::new(), Vec::new());
        Self { options, wishes, versions, labels, registry: None, waiting, answering, loaded, states, events }
    }

    /// Works until told to stop.
    pub fn run(mut self, events: &Receiver<Event<L>>) {
        loop {
            if self.registry.is_none() {
                self.open_registry();
            }
            self.settle();
            let event = match self.patience() {
                None => events.recv().map_err(RecvTimeoutError::from),
                Some(until) => events.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            // Everything that happened by now is looked at together: a version that is wanted no more need not begin.
            let happened = event.into_iter().chain(events.try_iter());
            for event in happened {
                match event {
                    Event::Stop => return self.end(events),
                    event => self.happen(event),
                }
            }
        }
    }

    /// When to look again although nothing happened.
    fn patience(&self) -> Option<Instant> {
        let retry = self.registry.is_none().then(|| Instant::now() + self.options.registry_retry);
        [retry, self.wishes.next_expiry()].into_iter().flatten().min()
    }

    fn happen(&mut self, event: Event<L>) {
        match event {
            Event::Changed => self.read_registry(),
            Event::Warming(version) => self.versions.warming(version),
            Event::Loaded(version, Ok(ready)) => self.versions.arrived(version, ready),
            Event::Loaded(version, Err(failure)) | Event::Indexed(version, Err(failure)) => {
                self.versions.fail(version, &failure);
            }
            Event::Indexed(version, Ok(())) => self.versions.indexed(version),
            Event::Ended(version) => {
                self.versions.ended(version);
                // Its vectors are needed no longer.
                self.loaded.send_modify(|_| {});
            }
            Event::Asked(wish, reply) => {
                // Whoever asks has changed the registry before.
                self.read_registry();
                match self.wishes.take(&wish, &self.labels) {
                    Ok(()) => {
                        if let Wish::Switched { version, .. } | Wish::Loaded { version, .. } = wish {
                            self.versions.retry(version);
                        }
                        self.waiting.push((wish, reply));
                    }
                    // Whoever no longer waits is not told.
                    Err(refused) => drop(reply.send(Err(refused))),
                }
            }
            Event::Stop => {}
        }
    }

    /// Opens the registry, and is woken by its changes from then on.
    fn open_registry(&mut self) {
        let (model, events) = (self.wishes.model().clone(), self.events.clone());
        let source = self.options.registry.clone();
        let opened = source.registry().and_then(|registry| {
            let options = WatchOptions { poll_interval: source.poll_interval(), ..WatchOptions::default() };
            let watch = registry.watch(options, move |looked| {
                let Ok(models) = looked else { return };
                source.note_read();
                if models.contains(&model) {
                    // Fails only while everything ends.
                    let _ = events.send(Event::Changed);
                }
            })?;
            Ok((registry, watch))
        });
        match opened {
            Ok(opened) => {
                self.registry = Some(opened);
                self.options.registry.note_read();
                self.read_registry();
            }
            Err(error) => self.states.set_problem(Some(error.to_string())),
        }
    }

    /// Takes note of what the registry says. While it cannot be read, what it said before stands.
    fn read_registry(&mut self) {
        let Some((registry, _)) = &self.registry else { return };
        let model = self.wishes.model();
        let read = registry.labels(model).and_then(|labels| Ok((labels, registry.versions(model)?)));
        match read {
            Ok((labels, found)) => {
                self.versions.found(&found);
                self.wishes.read(labels, &found, &self.versions.in_memory());
                self.states.set_problem(self.wishes.problem());
            }
            Err(error @ RegistryError::UnknownModel(_)) => self.states.set_problem(Some(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "the registry cannot be read; what it said before stands");
                self.states.set_problem(Some(error.to_string()));
            }
        }
    }

    /// Does what there is to do, until only time or somebody else can bring more.
    fn settle(&mut self) {
        self.wishes.expire();
        while let Some((registry, _)) = &self.registry {
            let wanted = self.wishes.wanted();
            self.versions.want(&wanted, registry);
            let observed = Observed {
                versions: self.versions.seen(),
                labels: self.labels.clone(),
                memory: self.versions.memory_allowed(),
            };
            let actions = plan(&wanted, &observed);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.perform(action);
            }
            self.publish();
        }
        self.publish();
        self.answer();
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Load(version) => {
                if let Some((registry, _)) = &self.registry {
                    self.versions.load(version, registry);
                }
            }
            Action::Cancel(version) => self.versions.cancel(version),
            Action::Refuse { version, needed, free } => self.versions.refuse(version, needed, free),
            Action::Admit(version) => self.versions.indexed(version),
            Action::Unload(version) => self.versions.unload(version),
            Action::Point(label, version) => {
                tracing::info!(model = self.wishes.model().as_str(), label = label.as_str(), %version, "the label answers");
                let before = self.labels.insert(label.clone(), version);
                self.wishes.moved(&label, before, version);
                self.tell_label(&label, version.get());
            }
            Action::Unpoint(label) => {
                self.labels.remove(&label);
                self.tell_label(&label, 0);
            }
        }
    }

    fn tell_label(&self, label: &Label, version: u32) {
        let model = self.wishes.model().as_str().to_owned();
        gauge!(LABEL_VERSION, "model" => model, "label" => label.as_str().to_owned()).set(version);
        self.wishes.remember(&self.labels);
    }

    /// Makes everything visible at once.
    fn publish(&self) {
        let versions = self.versions.loaded();
        let labelled = self.labels.iter().filter_map(|(label, version)| {
            Some((label.as_str().to_owned(), Arc::clone(versions.get(&version.get())?)))
        });
        let labels: BTreeMap<String, Arc<L>> = labelled.collect();
        let default = self.options.label.clone();
        let default = match labels.get(&default) {
            Some(loaded) => Some(Pinned { loaded: Arc::clone(loaded), label: default }),
            None if self.wishes.newest_by_default() => {
                let newest = self.versions.newest_available(|version| self.wishes.is_rejected(version));
                newest.map(|loaded| Pinned { loaded, label: String::new() })
            }
            None => None,
        };
        let loaded: Vec<Arc<L>> = versions.values().cloned().collect();
        self.answering.store(Arc::new(Answering { labels, versions, default }));
        self.loaded.send_if_modified(|before| {
            let same = before.len() == loaded.len() && before.iter().zip(&loaded).all(|(a, b)| Arc::ptr_eq(a, b));
            *before = loaded;
            !same
        });
    }

    /// Answers those whose wish is fulfilled, or cannot be.
    fn answer(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for (wish, reply) in waiting {
            match self.outcome(&wish) {
                Some(outcome) => drop(reply.send(outcome)),
                None => self.waiting.push((wish, reply)),
            }
        }
    }

    fn outcome(&self, wish: &Wish) -> Option<Result<(), Refused>> {
        let failed = |version| self.versions.failure(version).map(|reason| Err(Refused::Failed { version, reason }));
        match *wish {
            Wish::Switched { ref label, version, .. } => {
                let now = self.wishes.named(label);
                if now != Some(version) {
                    return Some(Err(Refused::Moved { label: label.clone(), now }));
                }
                (self.labels.get(label) == Some(&version)).then_some(Ok(())).or_else(|| failed(version))
            }
            Wish::Loaded { version, .. } => match self.versions.phase(version) {
                Phase::Available => Some(Ok(())),
                _ if !self.wishes.wants(version) => Some(Err(Refused::Unwanted { version })),
                _ => failed(version),
            },
            Wish::Unloaded { version } => match self.versions.phase(version) {
                _ if self.wishes.wants(version) => Some(Err(Refused::Unwanted { version })),
                phase => (!phase.takes_memory()).then_some(Ok(())),
            },
        }
    }

    /// Lets everything go, and stays until it has gone.
    fn end(mut self, events: &Receiver<Event<L>>) {
        self.labels.clear();
        self.versions.unload_all();
        self.publish();
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(Refused::Ending));
        }
        while self.versions.seen().values().any(|seen| seen.phase.takes_memory()) {
            match events.recv() {
                Ok(Event::Ended(version) | Event::Loaded(version, _)) => self.versions.ended(version),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

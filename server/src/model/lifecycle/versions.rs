//! The versions of the model on this server, and what is done with each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::SystemTime,
};

use vitrine_registry::{
    ModelName, Registry, Version, Versions as Found,
    lifecycle::{Phase, Seen, Wanted},
};

use super::Event;
use crate::{
    batch::{Batcher, RunError, Runner},
    model::{
        Loaded, ModelOptions, Opened, Ready, VersionStatus,
        loader::Job,
        memory,
        states::{Requests, States, state_of},
    },
};

/// Everything that was ever wanted here.
pub(super) struct Versions<L> {
    model: ModelName,
    options: ModelOptions,
    device: Arc<Batcher>,
    jobs: Sender<Job>,
    states: States,
    events: Sender<Event<L>>,
    entries: BTreeMap<Version, Entry<L>>,
    /// What the registry holds: a version's time of publication, or why it cannot be used.
    found: BTreeMap<Version, String>,
}

struct Entry<L> {
    phase: Phase,
    memory: u64,
    failure: String,
    /// Of its files when it failed: it is tried again when they are others.
    failed_with: Option<String>,
    /// It failed for want of memory: it is tried again when some is free.
    refused: bool,
    loaded: Option<Arc<L>>,
    cancelled: Arc<AtomicBool>,
    requests: Requests,
}

impl<L: Loaded> Versions<L> {
    pub fn new(
        model: ModelName,
        options: ModelOptions,
        device: Arc<Batcher>,
        jobs: Sender<Job>,
        states: States,
        events: Sender<Event<L>>,
    ) -> Self {
        let (entries, found) = (BTreeMap::new(), BTreeMap::new());
        Self { model, options, device, jobs, states, events, entries, found }
    }

    /// Takes note of what the registry holds.
    pub fn found(&mut self, found: &Found) {
        let usable = found.usable.iter().map(|version| (version.version, version.manifest.created.to_string()));
        let unusable = found.unusable.iter().map(|version| (version.version, version.reason.clone()));
        self.found = usable.chain(unusable).collect();
        let changed = |(version, entry): (&Version, &Entry<L>)| {
            let files = self.found.get(version)?;
            (entry.phase == Phase::Failed && entry.failed_with.as_ref() != Some(files)).then_some(*version)
        };
        for version in self.entries.iter().filter_map(changed).collect::<Vec<_>>() {
            self.retry(version);
        }
    }

    /// Lets a version that failed be tried again.
    pub fn retry(&mut self, version: Version) {
        if self.phase(version) == Phase::Failed {
            self.entries.remove(&version);
        }
    }

    /// Begins to know the versions that are wanted, and forgets those that no longer are and were never begun, or are over and
    /// no longer in the registry.
    pub fn want(&mut self, wanted: &Wanted, registry: &Registry) {
        let all: Vec<Version> =
            wanted.versions.iter().chain(wanted.labels.values()).chain(wanted.restored.values()).copied().collect();
        for &version in &all {
            if matches!(self.phase_of(version), None | Some(Phase::Ended)) {
                let need = registry.version(&self.model, version).map_or(0, |folder| folder.memory_need());
                self.entries.insert(version, Entry::new(need));
                self.tell(version);
            }
        }
        let idle = |(version, entry): (&Version, &Entry<L>)| {
            let over = match entry.phase {
                Phase::Start => true,
                Phase::Ended | Phase::Failed => !self.found.contains_key(version),
                Phase::Loading | Phase::Warming | Phase::Indexing | Phase::Available | Phase::Draining => false,
            };
            (over && !all.contains(version)).then_some(*version)
        };
        for version in self.entries.iter().filter_map(idle).collect::<Vec<_>>() {
            self.entries.remove(&version);
            self.states.forget(version.get());
        }
    }

    /// Those that can run, whatever has become of their files.
    pub fn in_memory(&self) -> BTreeSet<Version> {
        let running = |entry: &Entry<L>| matches!(entry.phase, Phase::Indexing | Phase::Available);
        self.entries.iter().filter(|(_, entry)| running(entry)).map(|(version, _)| *version).collect()
    }

    /// For the plan.
    pub fn seen(&self) -> BTreeMap<Version, Seen> {
        let seen = |entry: &Entry<L>| Seen { phase: entry.phase, memory: entry.memory };
        self.entries.iter().map(|(version, entry)| (*version, seen(entry))).collect()
    }

    /// The memory that versions may take together, in bytes.
    pub fn memory_allowed(&self) -> u64 {
        let used = self.entries.values().filter(|entry| entry.phase.takes_memory()).map(|entry| entry.memory).sum();
        memory::allowed(self.options.device, self.options.memory_budget_bytes, used)
    }

    pub fn phase(&self, version: Version) -> Phase {
        self.phase_of(version).unwrap_or(Phase::Start)
    }

    fn phase_of(&self, version: Version) -> Option<Phase> {
        self.entries.get(&version).map(|entry| entry.phase)
    }

    /// Why a version failed, if it did.
    pub fn failure(&self, version: Version) -> Option<String> {
        let entry = self.entries.get(&version)?;
        (entry.phase == Phase::Failed).then(|| entry.failure.clone())
    }

    /// The loaded versions by number, those included whose vectors are being made.
    pub fn loaded(&self) -> BTreeMap<u32, Arc<L>> {
        let loaded = self.entries.values().filter_map(|entry| entry.loaded.clone());
        loaded.map(|loaded| (loaded.opened().version, loaded)).collect()
    }

    /// The available version with the highest number.
    pub fn newest_available(&self, is_rejected: impl Fn(Version) -> bool) -> Option<Arc<L>> {
        let available = self.entries.iter().filter(|(_, entry)| entry.phase == Phase::Available);
        let newest = available.max_by_key(|(version, _)| (!is_rejected(**version), **version));
        newest?.1.loaded.clone()
    }

    /// Begins to load a version.
    pub fn load(&mut self, version: Version, registry: &Registry) {
        let Some(entry) = self.entries.get_mut(&version) else { return };
        let (model, registry, cancelled) = (self.model.clone(), registry.clone(), Arc::clone(&entry.cancelled));
        if self.jobs.send(Job { registry, model, version, cancelled }).is_ok() {
            self.set(version, Phase::Loading);
        } else {
            self.fail(version, "the thread that loads versions has ended");
        }
    }

    /// Gives up loading a version; it has ended when the loader says so.
    pub fn cancel(&mut self, version: Version) {
        if let Some(entry) = self.entries.get(&version) {
            entry.cancelled.store(true, Ordering::Relaxed);
            self.set(version, Phase::Draining);
        }
    }

    /// There is no room for a version.
    pub fn refuse(&mut self, version: Version, needed: u64, free: u64) {
        let mebibytes = |bytes: u64| bytes >> 20;
        let bound = match self.options.memory_budget_bytes {
            0 => String::new(),
            budget => format!(" of a budget of {} MiB", mebibytes(budget)),
        };
        // A need is rounded up and room is rounded down, so that the message never contradicts itself.
        let (needed, free) = (needed.div_ceil(1 << 20), mebibytes(free));
        self.fail(version, &format!("it needs {needed} MiB of memory, and {free} MiB{bound} are free"));
        if let Some(entry) = self.entries.get_mut(&version) {
            entry.refused = true;
        }
    }

    /// A version's recorded rows are run.
    pub fn warming(&mut self, version: Version) {
        if self.phase(version) == Phase::Loading {
            self.set(version, Phase::Warming);
        }
    }

    /// A version can run: it gets a lane.
    pub fn arrived(&mut self, version: Version, ready: Ready<L>) {
        if !matches!(self.phase(version), Phase::Loading | Phase::Warming) {
            drop(ready);
            return self.ended(version);
        }
        match self.open(version, ready) {
            Ok(loaded) => {
                if let Some(entry) = self.entries.get_mut(&version) {
                    entry.loaded = Some(Arc::new(loaded));
                }
                self.set(version, if L::INDEXED { Phase::Indexing } else { Phase::Available });
            }
            Err(failure) => self.fail(version, &failure),
        }
    }

    fn open(&self, version: Version, ready: Ready<L>) -> Result<L, String> {
        let lane_options = self.options.lane_options(&ready);
        // Half a queue, so that the next request can wait while this one runs.
        let bulk_limits = (lane_options.max_queue_rows.div_ceil(2), lane_options.max_queue_tokens.div_ceil(2));
        let runner = Guarded { runner: ready.runner, _end: End { version, events: self.events.clone() } };
        let name = format!("{}/{version}", self.model);
        let lane = self.device.open_lane(&name, Box::new(runner), lane_options).map_err(|error| error.to_string())?;
        Ok((ready.open)(Opened {
            model: self.model.as_str().to_owned(),
            version: version.get(),
            published: ready.published,
            requests: self.entries.get(&version).map(|entry| entry.requests.clone()).unwrap_or_default(),
            bulk_limits,
            lane,
        }))
    }

    /// A version's vectors are there, or it does not wait for them.
    pub fn indexed(&mut self, version: Version) {
        if self.phase(version) == Phase::Indexing {
            self.set(version, Phase::Available);
        }
    }

    /// A version cannot be used. One that is available already stays.
    pub fn fail(&mut self, version: Version, failure: &str) {
        match self.phase(version) {
            Phase::Draining => return self.ended(version),
            Phase::Available | Phase::Ended | Phase::Failed => return,
            Phase::Start | Phase::Loading | Phase::Warming | Phase::Indexing => {}
        }
        tracing::error!(model = self.model.as_str(), %version, failure, "a version failed");
        let failed_with = self.found.get(&version).cloned();
        if let Some(entry) = self.entries.get_mut(&version) {
            failure.clone_into(&mut entry.failure);
            entry.failed_with = failed_with;
            entry.loaded = None;
            self.set(version, Phase::Failed);
        }
    }

    /// Lets a version go: it has ended when the last request that holds it has.
    pub fn unload(&mut self, version: Version) {
        if let Some(entry) = self.entries.get_mut(&version) {
            entry.loaded = None;
            self.set(version, Phase::Draining);
        }
    }

    /// A version's memory is free: others that had no room may have it now.
    pub fn ended(&mut self, version: Version) {
        if self.phase(version) == Phase::Draining {
            self.set(version, Phase::Ended);
        }
        let refused = self.entries.iter().filter(|(_, entry)| entry.refused).map(|(version, _)| *version);
        for version in refused.collect::<Vec<_>>() {
            self.retry(version);
        }
    }

    pub fn unload_all(&mut self) {
        for version in self.entries.keys().copied().collect::<Vec<_>>() {
            match self.phase(version) {
                Phase::Loading | Phase::Warming => self.cancel(version),
                Phase::Indexing | Phase::Available => self.unload(version),
                Phase::Start | Phase::Draining | Phase::Ended | Phase::Failed => {}
            }
        }
    }

    fn set(&mut self, version: Version, phase: Phase) {
        if let Some(entry) = self.entries.get_mut(&version) {
            entry.phase = phase;
            self.tell(version);
        }
    }

    fn tell(&self, version: Version) {
        let Some(entry) = self.entries.get(&version) else { return };
        let device = if entry.phase.takes_memory() { self.device.device() } else { "" };
        tracing::debug!(model = self.model.as_str(), %version, phase = ?entry.phase, "a version's state");
        self.states.set(VersionStatus {
            model: self.model.as_str().to_owned(),
            version: version.get(),
            state: state_of(entry.phase),
            failure: entry.failure.clone(),
            device: device.to_owned(),
            memory_bytes: entry.memory,
            since: SystemTime::now(),
            requests: entry.requests.clone(),
        });
    }
}

impl<L> Entry<L> {
    fn new(memory: u64) -> Self {
        Self {
            phase: Phase::Start,
            memory,
            failure: String::new(),
            failed_with: None,
            refused: false,
            loaded: None,
            cancelled: Arc::default(),
            requests: Requests::default(),
        }
    }
}

/// A model that says when its memory is free: fields are dropped in order.
struct Guarded<L> {
    runner: Box<dyn Runner>,
    _end: End<L>,
}

impl<L: Loaded> Runner for Guarded<L> {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.runner.run(rows)
    }

    fn most_rows(&self) -> usize {
        self.runner.most_rows()
    }
}

struct End<L> {
    version: Version,
    events: Sender<Event<L>>,
}

impl<L> Drop for End<L> {
    fn drop(&mut self) {
        // Fails only while everything ends.
        let _ = self.events.send(Event::Ended(self.version));
    }
}

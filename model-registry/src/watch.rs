//! Tells when models change: a version appears, becomes usable or goes, or a label moves.
//!
//! The file system's notifications only wake the watcher; what changed is found by comparing what the registry says now
//! with what it said before. So nothing is missed on file systems that send none (NFS, some container mounts): the
//! same comparison is made at every poll.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::{
    error::RegistryError,
    labels::Labels,
    name::{ModelName, Version},
    registry::Registry,
};

/// How to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Whether to ask the file system for notifications. Where it cannot give them, polling alone goes on.
    pub notifications: bool,
    /// The longest time until a change is seen without a notification.
    pub poll_interval: Duration,
    /// How long nothing must have happened before the registry is read: many changes become one. Where changes never stop,
    /// it is read whenever five times that has passed.
    pub debounce: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { notifications: true, poll_interval: Duration::from_millis(900), debounce: Duration::from_millis(100) }
    }
}

/// See [`WatchOptions::debounce`].
const MOST_DEBOUNCES: u32 = 5;

/// A running watcher; ends when dropped.
pub struct Watch {
    wake: mpsc::Sender<Wake>,
    thread: Option<JoinHandle<()>>,
    // Sends to the thread as long as it lives.
    _notifications: Option<RecommendedWatcher>,
}

enum Wake {
    Changed,
    Stop,
}

/// What is compared: the labels, and for each version when it was published, or why it cannot be used.
type Snapshot = BTreeMap<ModelName, ModelState>;

#[derive(PartialEq, Eq)]
struct ModelState {
    labels: Result<Labels, String>,
    versions: Vec<(Version, Result<String, String>)>,
}

impl Registry {
    /// Calls `looked` after each look at the registry with the models that changed since the one before (or since this
    /// call), or with what kept it from being read; from a thread of its own, until dropped.
    pub fn watch(
        &self,
        options: WatchOptions,
        looked: impl Fn(Result<&BTreeSet<ModelName>, &RegistryError>) + Send + 'static,
    ) -> Result<Watch, RegistryError> {
        let refused = |reason: String| RegistryError::Watch { path: self.root().to_owned(), reason };
        let (wake, woken) = mpsc::channel();
        let notifications =
            options.notifications.then(|| notifications(self.root(), wake.clone())).and_then(|result| {
                result.inspect_err(|error| tracing::warn!(%error, "no file notifications: the registry is polled")).ok()
            });
        let mut before = snapshot(self)?;
        let registry = self.clone();
        let follow = move || {
            while wait(&woken, &options) {
                match snapshot(&registry) {
                    Ok(now) => {
                        let models = difference(&before, &now);
                        before = now;
                        looked(Ok(&models));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the registry cannot be read; what it said before stands");
                        looked(Err(&error));
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("registry-watch".to_owned()).spawn(follow);
        let thread = thread.map_err(|error| refused(error.to_string()))?;
        Ok(Watch { wake, thread: Some(thread), _notifications: notifications })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Neither fails unless the thread has ended already.
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn notifications(root: &Path, wake: mpsc::Sender<Wake>) -> notify::Result<RecommendedWatcher> {
    let inside = root.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| concerns_us(&inside, &event)) {
            // The receiver is gone only while the watcher is being dropped.
            let _ = wake.send(Wake::Changed);
        }
    })?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Reading is no change, and neither is what happens in hidden folders: locks and staging.
fn concerns_us(root: &Path, event: &Event) -> bool {
    let hidden = |path: &PathBuf| {
        let inside = path.strip_prefix(root).unwrap_or(path);
        inside.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
    };
    let seen = event.need_rescan() || !event.paths.iter().all(hidden);
    seen && !matches!(event.kind, EventKind::Access(_))
}

/// Waits for a reason to read the registry; false when it is time to stop.
fn wait(woken: &mpsc::Receiver<Wake>, options: &WatchOptions) -> bool {
    match woken.recv_timeout(options.poll_interval) {
        Err(RecvTimeoutError::Timeout) => return true,
        Err(RecvTimeoutError::Disconnected) | Ok(Wake::Stop) => return false,
        Ok(Wake::Changed) => {}
    }
    let latest = Instant::now() + MOST_DEBOUNCES * options.debounce;
    while Instant::now() < latest {
        match woken.recv_timeout(options.debounce) {
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) | Ok(Wake::Stop) => return false,
            Ok(Wake::Changed) => {}
        }
    }
    true
}

fn snapshot(registry: &Registry) -> Result<Snapshot, RegistryError> {
    let mut snapshot = Snapshot::new();
    for model in registry.models()? {
        let labels = registry.labels(&model).map_err(|error| error.to_string());
        let found = match registry.versions(&model) {
            Ok(found) => found,
            Err(RegistryError::UnknownModel(_)) => continue,
            Err(error) => return Err(error),
        };
        let usable = found.usable.into_iter().map(|v| (v.version, Ok(v.manifest.created.to_string())));
        let unusable = found.unusable.into_iter().map(|v| (v.version, Err(v.reason)));
        snapshot.insert(model, ModelState { labels, versions: usable.chain(unusable).collect() });
    }
    Ok(snapshot)
}

fn difference(before: &Snapshot, now: &Snapshot) -> BTreeSet<ModelName> {
    let names = before.keys().chain(now.keys());
    names.filter(|name| before.get(name) != now.get(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::publish::PublishRequest;

    /// Long enough to never be reached: a test that needs it has failed.
    const NEVER: Duration = Duration::from_mins(1);

    fn publish(registry: &Registry, model: &str) -> Version {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("config.json"), "{}").unwrap();
        let request =
            PublishRequest::from_folder(&model.parse().unwrap(), "bert", "text-embedding", source.path()).unwrap();
        registry.publish(&request).unwrap().version
    }

    /// Publishes, and moves a label, and expects to be told of each.
    fn sees_both(options: WatchOptions) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        publish(&registry, "other");
        publish(&registry, "minilm");
        let (sender, changes) = mpsc::channel();
        let tell = move |models: Result<&BTreeSet<ModelName>, &RegistryError>| {
            let models = models.unwrap();
            if !models.is_empty() {
                sender.send(models.clone()).unwrap();
            }
        };
        let watch = registry.watch(options, tell).unwrap();
        let model: ModelName = "minilm".parse().unwrap();
        let version = publish(&registry, "minilm");
        assert_eq!(changes.recv_timeout(NEVER).unwrap(), [model.clone()].into());
        registry.set_label(&model, &"stable".parse().unwrap(), version, None).unwrap();
        assert_eq!(changes.recv_timeout(NEVER).unwrap(), [model].into());
        drop(watch);
        assert!(changes.try_recv().is_err(), "told of a change that was none");
    }

    #[test]
    fn a_publish_and_a_moved_label_are_seen_by_notification() {
        sees_both(WatchOptions { notifications: true, poll_interval: 2 * NEVER, debounce: Duration::from_millis(5) });
    }

    #[test]
    fn a_publish_and_a_moved_label_are_seen_by_polling() {
        let poll_interval = Duration::from_millis(5);
        sees_both(WatchOptions { notifications: false, poll_interval, debounce: Duration::ZERO });
    }

    #[test]
    fn a_registry_that_never_rests_is_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        publish(&registry, "minilm");
        let (sender, changes) = mpsc::channel();
        let tell = move |models: Result<&BTreeSet<ModelName>, &RegistryError>| {
            let _ = sender.send(models.unwrap().clone());
        };
        let (poll_interval, debounce) = (2 * NEVER, Duration::from_millis(100));
        let watch = registry.watch(WatchOptions { notifications: true, poll_interval, debounce }, tell).unwrap();
        let restless = dir.path().join("models/restless");
        let seen = loop {
            fs::write(&restless, "").unwrap();
            match changes.recv_timeout(Duration::from_millis(1)) {
                Err(RecvTimeoutError::Timeout) => {}
                seen => break seen,
            }
        };
        assert_eq!(seen.unwrap(), BTreeSet::new(), "it is no model");
        drop(watch);
    }

    #[test]
    fn a_version_that_becomes_whole_is_a_change_and_rest_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(dir.path()).unwrap();
        publish(&registry, "minilm");
        let config = dir.path().join("models/minilm/1/config.json");
        fs::write(&config, "{").unwrap();
        let half = snapshot(&registry).unwrap();
        fs::write(&config, "{}").unwrap();
        let whole = snapshot(&registry).unwrap();
        assert_eq!(difference(&half, &whole).len(), 1);
        assert!(difference(&whole, &snapshot(&registry).unwrap()).is_empty());
    }

    #[test]
    fn staging_and_reading_wake_nobody() {
        use notify::event::{AccessKind, CreateKind};
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let create = EventKind::Create(CreateKind::Any);
        let concerns = |event| concerns_us(Path::new("/.hidden/r"), &event);
        assert!(concerns(event(create, "/.hidden/r/models/minilm/3")));
        assert!(!concerns(event(create, "/.hidden/r/models/minilm/.staging-x/version/config.json")));
        assert!(!concerns(event(EventKind::Access(AccessKind::Any), "/.hidden/r/models/minilm/3")));
    }
}

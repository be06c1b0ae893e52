//! Synchronising from a thread, and how far behind the folder is.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use super::{LeftOut, Mirror, Synced, error::StoreError};
use crate::error::{Context as _, RegistryError};

/// How far a mirror is behind its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorStatus {
    /// The time since the last synchronisation that went through, also before the mirror was opened; none if there was none.
    pub behind: Option<Duration>,
    /// Why the last one did not go through; none if it did.
    pub failure: Option<String>,
    /// What the last one that went through left out.
    pub left_out: Vec<LeftOut>,
}

/// A mirror that is kept in step; dropping it ends that, within the time of one request.
#[derive(Debug)]
pub struct Following {
    mirror: Mirror,
    poll_interval: Duration,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How synchronisations went.
#[derive(Debug, Default)]
pub(super) struct Progress {
    succeeded: Option<SystemTime>,
    failure: Option<String>,
    left_out: Vec<LeftOut>,
}

/// Wakes the thread before its time.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Following {
    pub(super) fn start(mirror: Mirror, poll_interval: Duration) -> Result<Self, RegistryError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (followed, told) = (mirror.clone(), Arc::clone(&stop));
        let follow = move || {
            let mut failing = None;
            while !told.load(Ordering::Relaxed) {
                let failure = followed.sync_until(&told).err().filter(|error| !is_stop(error));
                let failure = failure.map(|error| error.to_string());
                if failure != failing {
                    if let Some(error) = &failure {
                        tracing::warn!(error, "the registry's mirror is not in step; it stays as it is");
                    } else {
                        tracing::info!("the registry's mirror is in step again");
                    }
                    failing = failure;
                }
                followed.remote.bell.wait(poll_interval);
            }
        };
        let thread = thread::Builder::new().name("registry-mirror".to_owned()).spawn(follow);
        let thread = thread.context("starting a thread for", mirror.registry.root())?;
        Ok(Self { mirror, poll_interval, stop, thread: Some(thread) })
    }

    /// How long it waits between synchronisations.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.mirror.remote.bell.ring();
        if let Some(thread) = self.thread.take() {
            // Fails only if it panicked, which it has told.
            let _ = thread.join();
        }
    }
}

fn is_stop(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Store(StoreError::Stopped { .. }))
}

impl Progress {
    /// Of a mirror that is opened, and was in step then.
    pub fn since(succeeded: Option<SystemTime>) -> Self {
        Self { succeeded, ..Self::default() }
    }

    pub fn note(&mut self, done: &Result<Synced, RegistryError>) {
        match done {
            Ok(synced) => {
                let left_out = synced.left_out.clone();
                *self = Self { succeeded: Some(SystemTime::now()), failure: None, left_out };
            }
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    pub fn status(&self) -> MirrorStatus {
        // A clock that was set back counts as none.
        let behind = self.succeeded.map(|succeeded| succeeded.elapsed().unwrap_or_default());
        MirrorStatus { behind, failure: self.failure.clone(), left_out: self.left_out.clone() }
    }
}

impl Bell {
    pub fn ring(&self) {
        *locked(&self.rung) = true;
        self.heard.notify_all();
    }

    /// Waits until it is rung, or the time has passed.
    fn wait(&self, time: Duration) {
        let rung = locked(&self.rung);
        let waited = self.heard.wait_timeout_while(rung, time, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What a thread that panicked left behind is whole: each change to it is one assignment.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

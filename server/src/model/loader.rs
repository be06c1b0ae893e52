//! The thread that loads: verifies a version's files, reads them, and runs its recorded rows.
//!
//! It has the lowest priority, and so has the pool on which it computes, which is not the one that serves. While the device serves, it
//! rests most of the time.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use vitrine_models::resting;
use vitrine_registry::{ModelName, Registry, Version};

use super::{Load, Loaded, Ready, Warming, lifecycle::Event};
use crate::{
    batch::Batcher,
    priority::{self, Pace},
};

/// A version to load.
pub(super) struct Job {
    pub registry: Registry,
    pub model: ModelName,
    pub version: Version,
    pub cancelled: Arc<AtomicBool>,
}

/// Starts the thread. It takes jobs until their sender is gone, and tells `events` what becomes of them.
pub(super) fn start<L: Loaded>(
    load: Box<dyn Load<L>>,
    device: Arc<Batcher>,
    events: Sender<Event<L>>,
) -> io::Result<Sender<Job>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "model-warmup".to_owned())
        .start_handler(|_| priority::lower())
        .build()
        .map_err(io::Error::other)?;
    let (jobs, taken) = mpsc::channel();
    let work = move || {
        priority::lower();
        run(&taken, &pool, load.as_ref(), &device, &events);
    };
    thread::Builder::new().name("model-loader".to_owned()).spawn(work)?;
    Ok(jobs)
}

fn run<L: Loaded>(
    jobs: &Receiver<Job>,
    pool: &rayon::ThreadPool,
    load: &dyn Load<L>,
    device: &Arc<Batcher>,
    events: &Sender<Event<L>>,
) {
    for job in jobs {
        let version = job.version;
        let warming = || {
            job.go_on()?;
            // Whoever no longer listens has ended.
            let _ = events.send(Event::Warming(version));
            Ok(())
        };
        // A model that panics while it is loaded is a version that fails, and not the end of this thread.
        let loaded = catch_unwind(AssertUnwindSafe(|| pool.install(|| job.load(load, &warming, device))))
            .unwrap_or_else(|_| Err("loading it panicked; the log has the message".to_owned()));
        if events.send(Event::Loaded(version, loaded)).is_err() {
            return;
        }
    }
}

impl Job {
    fn load<L: Loaded>(
        &self,
        load: &dyn Load<L>,
        warming: &Warming,
        device: &Arc<Batcher>,
    ) -> Result<Ready<L>, String> {
        self.go_on()?;
        let folder = self.registry.version(&self.model, self.version).map_err(|error| error.to_string())?;
        let device = Arc::clone(device);
        let pace = Pace::new(move || device.serves());
        let problems = folder.verify_resting(&|| pace.rest()).map_err(|error| error.to_string())?;
        if let Some(problem) = problems.first() {
            return Err(format!("{problem} ({} problems)", problems.len()));
        }
        let (task, kind) = (&folder.manifest.task, &folder.manifest.kind);
        if task != L::TASK {
            return Err(format!("its task is {task}, not {}", L::TASK));
        }
        if !L::KINDS.contains(&kind.as_str()) {
            return Err(format!("its kind is {kind}; supported: {}", L::KINDS.join(", ")));
        }
        self.go_on()?;
        resting(move || pace.rest(), || load.load(&folder, warming))
    }

    /// The error is never shown: who cancelled does not wait for it.
    fn go_on(&self) -> Result<(), String> {
        if self.cancelled.load(Ordering::Relaxed) { Err("cancelled".to_owned()) } else { Ok(()) }
    }
}

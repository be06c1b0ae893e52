//! The threads that make graphs, in the background as everything that only makes later searches quicker.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::priority;

/// Does `work` where rayon shares it between as many threads as there are cores, all of low priority.
pub fn share<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static THREADS: OnceLock<Option<ThreadPool>> = OnceLock::new();
    match THREADS.get_or_init(start) {
        Some(threads) => threads.install(work),
        None => work(),
    }
}

fn start() -> Option<ThreadPool> {
    let threads = ThreadPoolBuilder::new()
        .num_threads(available_parallelism().map_or(1, NonZero::get))
        .thread_name(|n| format!("graph-{n}"))
        .start_handler(|_| priority::lower())
        .build();
    threads.inspect_err(|error| tracing::warn!(%error, "no threads of their own for graphs")).ok()
}

//! The priority of threads that work behind the serving ones.

/// As `nice 10`: about a tenth of a serving thread's share when both want the same core, and never nothing.
const LOWER: i32 = 10;

/// Gives the calling thread a lower priority. Where the system knows none for threads, it stays as it is.
pub fn lower() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LOWER) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

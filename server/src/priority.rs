//! The priority of threads that work behind the serving ones.

/// Lets the calling thread run only where a core has nothing else to do (`SCHED_IDLE` of Linux): a serving thread that
/// wakes up takes the core at once. With mere niceness it may have to wait for milliseconds. Where nothing is ever idle,
/// a few thousandths of a core are left to it. Systems other than Linux know nothing like it; there it stays as it is.
pub fn lower() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy, unix};

        let (thread, policy) = (unix::thread_native_id(), ThreadSchedulePolicy::Normal(Idle));
        if let Err(error) = unix::set_thread_priority_and_policy(thread, ThreadPriority::Min, policy) {
            tracing::debug!(?error, "a background thread keeps its priority");
        }
    }
}

//! What a loaded model offers its device worker.

/// A loaded model. It lives on the worker's thread: it is used and dropped there, and nowhere else.
///
/// A panic in [`run`](Runner::run) fails that batch only. The runner is **kept** and gets the next batch, so it must not
/// depend on anything that an earlier call left half done: weights are read only, scratch space is written before it is
/// read. (Loading a second copy of the weights instead would need memory and seconds that the next batch does not have.)
pub trait Runner: Send {
    /// Runs a batch; answers with one output for each row, in order. `rows` is never empty and stays within the lane's
    /// bounds.
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError>;

    /// The most rows that are worth running together, whatever the lane allows: where they are no quicker together, others
    /// would wait longer for nothing.
    fn most_rows(&self) -> usize {
        usize::MAX
    }
}

/// A batch that could not be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

impl RunError {
    /// Whether a run failed, or panicked, for want of memory, by what was said about it: what devices and allocators say
    /// comes through several crates that keep nothing but the text.
    #[must_use]
    pub fn is_out_of_memory(text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        ["out of memory", "out_of_memory", "memory allocation of", "capacity overflow"]
            .iter()
            .any(|said| text.contains(said))
    }
}

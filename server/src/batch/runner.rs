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
}

/// A batch that could not be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

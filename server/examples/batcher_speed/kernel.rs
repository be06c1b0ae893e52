//! The encoder as a runner, which keeps a record of every batch.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use vitrine_models::{Ragged, TextEncoder};
use vitrine_server::batch::{RunError, Runner};

/// A batch that was run.
pub struct Ran {
    pub rows: Ragged,
    /// By the encoder alone.
    pub took: Duration,
}

/// What was run. Clones are the same.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Ran>>>);

impl Log {
    /// What was run since this was last asked.
    pub fn take(&self) -> Vec<Ran> {
        mem::take(&mut *self.0.lock())
    }
}

/// The encoder.
pub struct Kernel {
    encoder: Arc<TextEncoder>,
    log: Log,
}

impl Kernel {
    pub fn new(encoder: Arc<TextEncoder>, log: Log) -> Self {
        Self { encoder, log }
    }
}

impl Runner for Kernel {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let rows: Ragged = rows.iter().collect();
        let started = Instant::now();
        let vectors = self.encoder.embed(&rows).map_err(|error| RunError(error.to_string()))?;
        self.log.0.lock().push(Ran { rows, took: started.elapsed() });
        Ok(vectors)
    }
}

//! One request on its way through a device: its rows, the outputs so far, and the caller who waits.

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{BatchError, Output, Row, request::Ticket};

/// A request's rows and its answer.
pub(super) struct Job {
    pub rows: Vec<Row>,
    answer: Mutex<Option<Answer>>,
}

struct Answer {
    to: oneshot::Sender<Result<Vec<Output>, BatchError>>,
    outputs: Vec<Output>,
}

impl Job {
    /// The job, and where its answer will arrive.
    pub fn new(rows: Vec<Row>) -> (Arc<Self>, oneshot::Receiver<Result<Vec<Output>, BatchError>>) {
        let (to, answer) = oneshot::channel();
        let outputs = Vec::with_capacity(rows.len());
        (Arc::new(Self { rows, answer: Mutex::new(Some(Answer { to, outputs })) }), answer)
    }

    /// The rows of a part.
    pub fn part(&self, rows: Range<usize>) -> impl Iterator<Item = &[u32]> {
        self.rows.iter().skip(rows.start).take(rows.len()).map(Vec::as_slice)
    }

    /// Takes the outputs of the next rows, in order; answers when they are the last.
    pub fn add(&self, outputs: impl Iterator<Item = Output>) {
        let mut answer = self.answer.lock();
        let Some(waiting) = answer.as_mut() else { return };
        waiting.outputs.extend(outputs);
        if waiting.outputs.len() >= self.rows.len()
            && let Some(Answer { to, outputs }) = answer.take()
        {
            // The caller may have gone in the meantime: then nobody wants to know.
            let _ = to.send(Ok(outputs));
        }
    }

    /// Answers with an error, unless it has been answered. Rows that have not been launched will not be.
    pub fn fail(&self, error: BatchError) {
        if let Some(answer) = self.answer.lock().take() {
            let _ = answer.to.send(Err(error));
        }
    }
}

impl Ticket for Arc<Job> {
    fn is_cancelled(&self) -> bool {
        self.answer.lock().as_ref().is_none_or(|answer| answer.to.is_closed())
    }
}

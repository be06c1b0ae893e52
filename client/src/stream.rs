//! Answers that come one after the other.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use crate::{Error, connection::expired};

/// The answers of a streaming call, in the order the server sends them.
///
/// It ends with an error when the server falls silent for longer than [`Options::timeout`](crate::Options::timeout).
pub struct Answers<T> {
    method: &'static str,
    inner: Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>,
}

impl<T: Send + 'static> Answers<T> {
    pub(crate) fn new(method: &'static str, answers: Streaming<T>, silence: Duration) -> Self {
        let inner = answers.timeout(silence).map(move |next| next.unwrap_or_else(|_| Err(expired(silence))));
        Self { method, inner: Box::pin(inner) }
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let method = self.method;
        self.inner
            .as_mut()
            .poll_next(context)
            .map(|next| next.map(|answer| answer.map_err(|status| Error::from_status(method, &status, 1))))
    }
}

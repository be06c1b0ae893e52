//! A tower layer that records how long each call took and how it ended.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tonic::{Code, codegen::http};
use tower::{Layer, Service};

use crate::telemetry::RPC_SECONDS;

/// Wraps every service of the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeasureLayer;

impl<S> Layer<S> for MeasureLayer {
    type Service = Measure<S>;

    fn layer(&self, inner: S) -> Measure<S> {
        Measure { inner }
    }
}

/// A service that records its calls.
#[derive(Debug, Clone)]
pub struct Measure<S> {
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Measure<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let start = Instant::now();
        let path = request.uri().path().to_owned();
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await;
            // A status in the head is an error or an empty answer; otherwise the call went well up to its first message.
            let code = response
                .as_ref()
                .ok()
                .and_then(|response| response.headers().get("grpc-status"))
                .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
            // Names of calls that do not exist come from clients: they must not fill the memory.
            let rpc = if code == Code::Unimplemented { "unknown".to_owned() } else { path };
            tracing::debug!(rpc, ?code, took = ?start.elapsed(), "call");
            metrics::histogram!(RPC_SECONDS, "rpc" => rpc, "code" => format!("{code:?}")).record(start.elapsed());
            response
        })
    }
}

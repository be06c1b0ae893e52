//! The connection to a server, and how one call is made over it: deadline, attempts, errors.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use vitrine::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    v1::{
        catalog_service_client::CatalogServiceClient, experiment_service_client::ExperimentServiceClient,
        model_service_client::ModelServiceClient, privacy_service_client::PrivacyServiceClient,
        storefront_service_client::StorefrontServiceClient,
    },
};

use crate::{
    Error, Options,
    retry::{Repeat, jitter, wait_before_retry},
};

/// A connection to one server. Cheap to clone; clones share the connection, which mends itself when it breaks.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    options: Arc<Options>,
}

impl Client {
    /// Connects to the server, trying as often as [`Options::retries`] says.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when the address is malformed, [`Error::Unreachable`] when nothing answers there.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let endpoint = endpoint(&options)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match endpoint.connect().await {
                Ok(channel) => return Ok(Self::from_channel(channel, options)),
                Err(error) if attempt > options.retries => {
                    return Err(Error::Unreachable { server: options.server, reason: root_cause(&error) });
                }
                Err(_) => {}
            }
            let again = wait_before_retry(&Status::unavailable(""), attempt, options.backoff, jitter);
            sleep(again.unwrap_or_default()).await;
        }
    }

    /// A client that connects when the first call is made.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when the address is malformed.
    pub fn connect_lazy(options: Options) -> Result<Self, Error> {
        let channel = endpoint(&options)?.connect_lazy();
        Ok(Self::from_channel(channel, options))
    }

    /// A client over a channel that was made elsewhere, as one through a proxy or inside a test.
    pub fn from_channel(channel: Channel, options: Options) -> Self {
        Self { channel, options: Arc::new(options) }
    }

    /// The same connection with another time limit a call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let options = Options { timeout, ..(*self.options).clone() };
        Self { channel: self.channel.clone(), options: Arc::new(options) }
    }

    /// What this client was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn storefront(&self) -> StorefrontServiceClient<Channel> {
        let limit = self.options.max_message_bytes;
        StorefrontServiceClient::new(self.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    pub(crate) fn catalog(&self) -> CatalogServiceClient<Channel> {
        let limit = self.options.max_message_bytes;
        CatalogServiceClient::new(self.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    pub(crate) fn experiment(&self) -> ExperimentServiceClient<Channel> {
        let limit = self.options.max_message_bytes;
        ExperimentServiceClient::new(self.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    pub(crate) fn privacy(&self) -> PrivacyServiceClient<Channel> {
        let limit = self.options.max_message_bytes;
        PrivacyServiceClient::new(self.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    pub(crate) fn inference(&self) -> GrpcInferenceServiceClient<Channel> {
        let limit = self.options.max_message_bytes;
        GrpcInferenceServiceClient::new(self.channel())
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
    }

    pub(crate) fn model(&self) -> ModelServiceClient<Channel> {
        let limit = self.options.max_message_bytes;
        ModelServiceClient::new(self.channel()).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    /// Makes one call: sends it, and sends it again while that is safe, promising and within the deadline.
    pub(crate) async fn call<Q, A, F>(
        &self,
        method: &'static str,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + self.options.timeout;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut message = Request::new(request.clone());
            message.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let status = match timeout_at(deadline, send(message)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => expired_or(status, deadline, self.options.timeout),
                Err(_) => expired(self.options.timeout),
            };
            let again = (repeat == Repeat::Safe && attempt <= self.options.retries)
                .then(|| wait_before_retry(&status, attempt, self.options.backoff, jitter))
                .flatten()
                // A wait that ends after the deadline helps nobody: say at once what is wrong.
                .filter(|wait| Instant::now() + *wait < deadline);
            match again {
                Some(wait) => sleep(wait).await,
                None => return Err(Error::from_status(method, &status, attempt)),
            }
        }
    }
}

fn endpoint(options: &Options) -> Result<Endpoint, Error> {
    let refuse = |reason: &str| Error::Address { server: options.server.clone(), reason: reason.to_owned() };
    if options.server.starts_with("https://") {
        return Err(refuse("this client speaks plain HTTP/2 only; put a proxy that ends TLS beside it"));
    }
    if !options.server.starts_with("http://") {
        return Err(refuse("it does not start with http://"));
    }
    let endpoint = Endpoint::from_shared(options.server.clone())
        .and_then(|e| e.user_agent(concat!("vitrine-client/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| refuse(&root_cause(&error)))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20)))
}

/// The last error of the chain: the ones before it say "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

pub(crate) fn expired(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {timeout:?}"))
}

/// tonic says CANCELLED when `grpc-timeout` runs out, on either side; nobody else cancels a call that we wait for.
fn expired_or(status: Status, deadline: Instant, timeout: Duration) -> Status {
    let timed_out = status.code() == Code::Cancelled
        && (Instant::now() >= deadline || status.message().eq_ignore_ascii_case("timeout expired"));
    if timed_out { expired(timeout) } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address_error(server: &str) -> String {
        let options = Options { server: server.to_owned(), ..Options::default() };
        endpoint(&options).unwrap_err().to_string()
    }

    #[test]
    fn an_address_without_scheme_is_refused_with_the_reason() {
        assert!(address_error("localhost:7700").contains("http://"));
        assert!(address_error("https://shop.example").contains("plain HTTP/2"));
        assert!(address_error("http://a b").contains("`http://a b`"));
    }

    #[tokio::test]
    async fn a_closed_port_is_reported_with_its_address_and_cause() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = Options { server: format!("http://{closed}"), retries: 0, ..Options::default() };
        let error = Client::connect(options).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }));
        assert!(error.to_string().contains(&closed.to_string()) && error.to_string().contains("refused"), "{error}");
    }
}

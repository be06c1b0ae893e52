//! How to reach a server, how long to wait, and how often to try.

use std::time::Duration;

/// How a [`Client`](crate::Client) reaches its server and how patient it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the server listens: `http://HOST:PORT`.
    pub server: String,
    /// Maximum time a call may take, all its retries included. The server is told (`grpc-timeout`) and does not
    /// work for longer. Streams are not bounded by it: it bounds the silence on them instead.
    pub timeout: Duration,
    /// Maximum time one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How often a call that failed for a passing reason is sent again. Only calls that change nothing when they are
    /// sent twice are retried. 0: never.
    pub retries: u32,
    /// How long to wait before a retry.
    pub backoff: Backoff,
    /// The largest answer accepted and the largest request sent, in bytes.
    pub max_message_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: "http://127.0.0.1:7700".to_owned(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            retries: 3,
            backoff: Backoff::default(),
            max_message_bytes: 16 << 20,
        }
    }
}

/// How long to wait before a retry: a random time up to a bound that doubles with each attempt ("full jitter").
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The bound before the first retry.
    pub initial: Duration,
    /// What the bound never passes.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(5) }
    }
}

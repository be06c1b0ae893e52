//! Logs and metrics: the subscriber, the recorder, and the HTTP page that Prometheus reads.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Seconds that one call took, by `rpc` and `code`.
pub const RPC_SECONDS: &str = "vitrine_rpc_seconds";
/// Seconds that one stage of a pipeline took, by `stage`.
pub const STAGE_SECONDS: &str = "vitrine_stage_seconds";
/// Events by `type` and `status`.
pub const EVENTS: &str = "vitrine_events_total";
/// Attribution tokens that were not good, by `reason`.
pub const BAD_ATTRIBUTION: &str = "vitrine_bad_attribution_tokens_total";

/// Answers of experiments that were shown and could not be logged.
pub const EXPOSURES_LOST: &str = "vitrine_exposures_lost_total";

/// How often what histograms were given goes into their buckets: until then, every number takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Upper ends of the buckets of every histogram of seconds: from 50 µs, doubling, to 26 s.
fn buckets() -> Vec<f64> {
    (0..20).map(|exponent| 50e-6 * f64::from(1 << exponent)).collect()
}

/// Starts logging to standard error.
pub fn init_logs(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter).with_context(|| format!("`log.filter` is `{}`", log.filter))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Starts collecting metrics, on a runtime of tokio. There is one recorder in a process.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &buckets())?
        .install_recorder()
        .context("cannot collect metrics")?;
    let kept = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.run_upkeep();
        }
    });
    Ok(handle)
}

/// Serves the metrics at `/metrics` until `shutdown` resolves.
pub async fn serve_metrics(
    address: SocketAddr,
    handle: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("`metrics_listen`: cannot use {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "metrics are served");
    let page = Router::new().route("/metrics", get(move || std::future::ready(handle.render())));
    axum::serve(listener, page).with_graceful_shutdown(shutdown).await.context("the metrics page broke off")
}

/// Runs one stage of a pipeline and records how long it took.
pub fn timed<T>(stage: &'static str, work: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let result = work();
    metrics::histogram!(STAGE_SECONDS, "stage" => stage).record(start.elapsed());
    result
}

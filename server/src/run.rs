//! The life of a server: open what it serves, listen, and on shutdown say so, answer for a while, drain, and close.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::Semaphore, sync::oneshot, time::timeout};
use tonic::{
    codec::CompressionEncoding,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use vitrine::{
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    v1::{
        catalog_service_server::CatalogServiceServer, experiment_service_server::ExperimentServiceServer,
        model_service_server::ModelServiceServer, privacy_service_server::PrivacyServiceServer,
        storefront_service_server::StorefrontServiceServer,
    },
};

use crate::{
    batch::{self, Devices},
    config::{Config, ModelSection},
    encoder::{Encoders, LoadEncoder},
    experiment::Experiments,
    generator::LoadGenerator,
    image_encoder::LoadImageEncoder,
    model::{Load, Loaded, Managed, Model, ModelOptions, Wish},
    ranker::LoadRanker,
    registry_source::RegistrySource,
    rpc::{App, MeasureLayer},
    sequence::LoadSequencer,
    serving::Shops,
    telemetry,
    token::Tokens,
};

/// Serves until `shutdown` resolves, and then drains within the configured time.
pub async fn run(config: Config, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("`listen`: cannot use {}; is another server running there?", config.listen))?;
    serve(config, listener, shutdown).await
}

/// As [`run`], on a socket that listens already.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("`data_dir`: cannot make {}", config.data_dir.display()))?;
    let metrics = telemetry::init_metrics().ok();
    batch::metrics::describe();
    let tokens = Tokens::open(&config.data_dir.join("token.key")).context("`data_dir`: cannot open the tokens' key")?;
    let registry = RegistrySource::open(&config.registry, &config.registry_cache, config.registry_poll)
        .context("`registry`: cannot begin to follow it")?;
    let load =
        LoadEncoder { device: config.text_encoder.device, query_cache_bytes: config.text_encoder.query_cache_bytes };
    let devices = Devices::default();
    let device = devices.get(&config.text_encoder.device.to_string()).context("cannot start a device")?;
    let encoders = Encoders::start(encoder_options(&config, &registry), Box::new(load), device);
    let encoders = Arc::new(encoders.context("`text_encoder`: cannot start")?);
    let mut models = vec![Arc::clone(&encoders) as Arc<dyn Managed>];
    let section = &config.image_encoder;
    let load = Box::new(LoadImageEncoder { device: section.device });
    let image_encoders = start(section, &config, &registry, &devices, load).context("`image_encoder`: cannot start")?;
    models.extend(image_encoders.clone().map(|model| model as Arc<dyn Managed>));
    let section = &config.sequence_model;
    let load = Box::new(LoadSequencer { device: section.device });
    let sequencers = start(section, &config, &registry, &devices, load).context("`sequence_model`: cannot start")?;
    models.extend(sequencers.clone().map(|model| model as Arc<dyn Managed>));
    let section = &config.ranker;
    let load = Box::new(LoadRanker { device: section.device });
    let rankers = start(section, &config, &registry, &devices, load).context("`ranker`: cannot start")?;
    models.extend(rankers.clone().map(|model| model as Arc<dyn Managed>));
    let section = &config.image_generator;
    let load = Box::new(LoadGenerator { device: section.device });
    let generators = start(section, &config, &registry, &devices, load).context("`image_generator`: cannot start")?;
    models.extend(generators.clone().map(|model| model as Arc<dyn Managed>));
    let experiments = Experiments::start(registry.clone()).context("cannot follow the experiments")?;
    let data_dir = config.data_dir.clone();
    let (texts, pictures) = (Arc::clone(&encoders), image_encoders.clone());
    let shops = tokio::task::spawn_blocking(move || Shops::open(&data_dir, &texts, pictures.as_ref())).await??;
    tokio::spawn(tidy(Arc::downgrade(&shops), config.experiments.keep_exposures));
    let queries = Arc::new(Semaphore::new(config.limits.max_concurrent_queries));
    let ready = Arc::new(AtomicBool::new(true));
    let app = App {
        config: Arc::new(config),
        registry,
        shops,
        models: models.into(),
        encoders,
        image_encoders,
        sequencers,
        rankers,
        generators,
        experiments,
        shadows: Arc::new(Semaphore::new(SHADOWS)),
        tokens: Arc::new(tokens),
        queries,
        ready: Arc::clone(&ready),
    };
    tokio::spawn(load_arms(Arc::downgrade(&app.experiments), Arc::clone(&app.models)));
    let (config, shops, models) = (Arc::clone(&app.config), Arc::clone(&app.shops), Arc::clone(&app.models));

    let (stop_metrics, metrics_stopped) = oneshot::channel::<()>();
    if let (Some(address), Some(metrics)) = (config.metrics_listen, metrics) {
        let stopped = async move { _ = metrics_stopped.await };
        tokio::spawn(async move {
            if let Err(error) = telemetry::serve_metrics(address, metrics, stopped).await {
                tracing::error!(error = format!("{error:#}"), "metrics are not served");
            }
        });
    }

    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    // Many tools still speak the older reflection only.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vitrine::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reflection, older_reflection) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let limit = config.limits.max_message_bytes;
    let (drain, draining) = oneshot::channel::<()>();
    let address = listener.local_addr()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .layer(MeasureLayer)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(older_reflection)
        .add_service(
            StorefrontServiceServer::new(app.clone())
                .max_decoding_message_size(limit)
                .accept_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(CatalogServiceServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(ModelServiceServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(ExperimentServiceServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(PrivacyServiceServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(GrpcInferenceServiceServer::new(app).max_decoding_message_size(limit))
        .serve_with_incoming_shutdown(incoming, async move { _ = draining.await });
    let mut server = tokio::spawn(server);
    tracing::info!(%address, "serving");

    tokio::select! {
        () = shutdown => {}
        ended = &mut server => return ended?.context("the gRPC server ended"),
    }
    ready.store(false, Ordering::Relaxed);
    set_health(&health, ServingStatus::NotServing).await;
    tokio::time::sleep(config.shutdown.grace).await;
    _ = drain.send(());
    if let Ok(ended) = timeout(config.shutdown.drain, &mut server).await {
        ended?.context("the gRPC server ended")?;
    } else {
        tracing::warn!("calls were still in flight after `shutdown.drain`; closing all the same");
        server.abort();
    }
    drop(stop_metrics);
    tokio::task::spawn_blocking(move || shops.close()).await?;
    for model in &*models {
        model.stop();
    }
    if let Err(error) = devices.shutdown(config.shutdown.drain).await {
        tracing::warn!(%error, "a model was still running");
    }
    tracing::info!("stopped");
    Ok(())
}

/// How often it is seen to that versions of running experiments are loaded.
const SEE_TO_VERSIONS: Duration = Duration::from_secs(2);

/// Loads the versions that arms of running experiments name by their numbers, on this server as on that where the experiment was started. (Those
/// that a label names are loaded for its sake.) What cannot be loaded is asked for again when the experiment changes.
async fn load_arms(experiments: Weak<Experiments>, models: Arc<[Arc<dyn Managed>]>) {
    let mut asked = BTreeSet::new();
    loop {
        tokio::time::sleep(SEE_TO_VERSIONS).await;
        let Some(all) = experiments.upgrade().map(|experiments| experiments.all()) else { return };
        for running in all.values().filter(|running| running.is_running()) {
            for (task, selector) in running.experiment.arms.iter().flat_map(|arm| &arm.models) {
                let model = models.iter().find(|model| model.task() == task && !model.has(selector));
                let (Some(model), Ok(version)) = (model.cloned(), selector.parse()) else { continue };
                if asked.insert((running.id.clone(), running.experiment.revision, task.clone(), version)) {
                    let experiment = running.id.clone();
                    tokio::spawn(async move {
                        let wish = Wish::Loaded { version, unload_first: false };
                        if let Err(refused) = model.wish(wish).await {
                            tracing::warn!(%refused, experiment, "a version of a running experiment is not loaded");
                        }
                    });
                }
            }
        }
    }
}

/// How many shadows of experiments answer at the same time.
const SHADOWS: usize = 2;
/// How often what experiments have shown is brought to the disk.
const TIDY: Duration = Duration::from_secs(2);

/// Brings what experiments have shown to the disk, and forgets what is old.
async fn tidy(shops: Weak<Shops>, keep: Duration) {
    loop {
        tokio::time::sleep(TIDY).await;
        let Some(shops) = shops.upgrade() else { return };
        let tidied = tokio::task::spawn_blocking(move || {
            let now_ms = jiff::Timestamp::now().as_millisecond();
            shops.list().iter().try_for_each(|shop| shop.exposures().tidy(keep, now_ms))
        });
        if let Ok(Err(error)) = tidied.await {
            tracing::warn!(%error, "what experiments have shown was not brought to the disk");
        }
    }
}

/// The health of the server as a whole, and of each service by its name.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    let services = [
        "",
        <StorefrontServiceServer<App> as NamedService>::NAME,
        <CatalogServiceServer<App> as NamedService>::NAME,
        <ModelServiceServer<App> as NamedService>::NAME,
        <ExperimentServiceServer<App> as NamedService>::NAME,
        <PrivacyServiceServer<App> as NamedService>::NAME,
        <GrpcInferenceServiceServer<App> as NamedService>::NAME,
    ];
    for service in services {
        health.set_service_status(service, status).await;
    }
}

/// A model beside the text encoder, if the configuration names one.
fn start<L: Loaded>(
    section: &ModelSection,
    config: &Config,
    registry: &RegistrySource,
    devices: &Devices,
    load: Box<dyn Load<L>>,
) -> anyhow::Result<Option<Arc<Model<L>>>> {
    if section.model.is_empty() {
        return Ok(None);
    }
    let options = ModelOptions {
        registry: registry.clone(),
        model: section.model.clone(),
        label: section.label.clone(),
        policy: section.policy.clone(),
        keep_previous: section.keep_previous,
        memory_budget_bytes: section.memory_budget_bytes,
        state_file: Some(config.data_dir.join(format!("serving-labels-{}.json", L::TASK))),
        device: section.device,
        max_batch_rows: section.max_batch_rows,
        // Rows are what bounds them.
        max_batch_tokens: usize::MAX,
        max_queue_rows: section.max_queue_rows,
        ..ModelOptions::default()
    };
    let device = devices.get(&section.device.to_string())?;
    Ok(Some(Arc::new(Model::start(options, load, device)?)))
}

fn encoder_options(config: &Config, registry: &RegistrySource) -> ModelOptions {
    let encoder = &config.text_encoder;
    ModelOptions {
        registry: registry.clone(),
        model: encoder.model.clone(),
        label: encoder.label.clone(),
        policy: encoder.policy.clone(),
        keep_previous: encoder.keep_previous,
        memory_budget_bytes: encoder.memory_budget_bytes,
        state_file: Some(config.data_dir.join("serving-labels.json")),
        device: encoder.device,
        max_batch_tokens: encoder.max_batch_tokens,
        max_queue_rows: encoder.max_queue_rows,
        ..ModelOptions::default()
    }
}

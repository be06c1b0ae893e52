//! The gRPC services: each checks every field of its request, calls what is below, and turns errors into statuses.
//!
//! One thin file a service or call; [`App`] is what they share.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime},
};

use prost_types::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};
use vitrine::v1::{
    Event, FeedbackRequest, FeedbackResponse, GenerateImageRequest, GeneratedImage, Item, ItemView, RecommendRequest,
    RecommendResponse, RequestContext, SearchRequest, SearchResponse, ServedBy,
    storefront_service_server::StorefrontService,
};

use crate::{
    batch::BatchError,
    catalog::CatalogId,
    check,
    config::Config,
    encoder::{EncoderError, Encoders},
    error::{self, exhausted, internal, invalid, no_model, not_found, out_of_time, unavailable},
    experiment::Experiments,
    generator::Generators,
    image_encoder::{IMAGE_EMBEDDING, ImageEncoders},
    log::LogError,
    model::{Managed, Model},
    ranker::Rankers,
    registry_source::RegistrySource,
    search::{Indexed, Pictorial, SearchError, Semantic},
    sequence::Sequencers,
    serving::{Embedder, Shop, Shops},
    telemetry,
    token::{Attribution, Page, ServedItem, TokenError, Tokens, stable_hash},
    vector::VectorError,
};

mod advertised;
mod alike;
mod arms;
mod catalog;
mod control;
mod deadline;
mod experiment;
mod experiment_fields;
mod feedback;
mod generate;
mod generate_subject;
mod import;
mod inference;
mod measure;
mod model;
mod next;
mod pictures;
mod privacy;
mod ranked;
mod recommend;
mod recommend_fields;
mod recommend_target;
mod recommended;
mod search;
mod search_fields;

pub use measure::MeasureLayer;

/// What the services share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// What the operator set.
    pub config: Arc<Config>,
    /// The catalogs with their indexes.
    pub shops: Arc<Shops>,
    /// Where versions come from.
    pub registry: RegistrySource,
    /// Every model that this server runs.
    pub models: Arc<[Arc<dyn Managed>]>,
    /// The loaded text encoders.
    pub encoders: Arc<Encoders>,
    /// The loaded image encoders, if there is a model for it.
    pub image_encoders: Option<Arc<ImageEncoders>>,
    /// The loaded sequence models, if there is one.
    pub sequencers: Option<Arc<Sequencers>>,
    /// The loaded rankers, if there is a model for it.
    pub rankers: Option<Arc<Rankers>>,
    /// The loaded generators of pictures, if there is a model for it.
    pub generators: Option<Arc<Generators>>,
    /// The experiments that decide what answers.
    pub experiments: Arc<Experiments>,
    /// Bounds what shadows of experiments do at the same time.
    pub shadows: Arc<Semaphore>,
    /// Makes and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Bounds the searches and recommendations that run at the same time.
    pub queries: Arc<Semaphore>,
    /// Whether calls are wanted: not while it shuts down.
    pub ready: Arc<AtomicBool>,
}

type ImageStream = Pin<Box<dyn Stream<Item = Result<GeneratedImage, Status>> + Send>>;

#[tonic::async_trait]
impl StorefrontService for App {
    type GenerateImageStream = ImageStream;

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        search::search(self, request).await
    }

    async fn recommend(&self, request: Request<RecommendRequest>) -> Result<Response<RecommendResponse>, Status> {
        recommend::recommend(self, request).await
    }

    async fn generate_image(&self, request: Request<GenerateImageRequest>) -> Result<Response<ImageStream>, Status> {
        generate::generate(self, request)
    }

    async fn feedback(&self, request: Request<FeedbackRequest>) -> Result<Response<FeedbackResponse>, Status> {
        feedback::feedback(self, request).await
    }
}

impl App {
    /// The catalog of the name `catalogs/{catalog}` found in `field`.
    fn shop(&self, field: &str, name: &str) -> Result<Arc<Shop>, Status> {
        self.shop_of(&check::catalog_name(field, name)?)
    }

    fn shop_of(&self, id: &CatalogId) -> Result<Arc<Shop>, Status> {
        self.shops.get(id).ok_or_else(|| {
            let name = format!("catalogs/{id}");
            not_found("catalog", &name, "create it with CreateCatalog, or import into it with `create_catalog`")
        })
    }

    /// The page that a request's token leads to; without a token the first.
    fn open_page(&self, token: &str, request: u64) -> Result<Page, Status> {
        if token.is_empty() {
            return Ok(Page::default());
        }
        self.tokens.open_page(token, request).map_err(|error| invalid("page_token", error.to_string()))
    }

    /// The text encoder that answers and its vectors of this shop: see [`indexed`].
    fn semantic(&self, shop: &Shop, context: &RequestContext) -> Result<Result<Semantic, EncoderError>, Status> {
        indexed(&self.encoders, shop, context)
    }

    /// The image encoder that answers and its vectors of this shop: see [`indexed`]. No model for it is an error.
    fn pictorial(&self, shop: &Shop, context: &RequestContext) -> Result<Result<Pictorial, EncoderError>, Status> {
        let encoders = self.image_encoders.as_ref().ok_or_else(|| {
            no_model(
                IMAGE_EMBEDDING,
                "publish a version of such a model, and name it in `image_encoder.model` of the configuration",
            )
        })?;
        indexed(encoders, shop, context)
    }

    /// Waits for a place among the queries that run, up to the deadline.
    async fn admit_query(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Status> {
        let permit = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.queries).acquire_owned()).await;
        permit.map_err(|_| out_of_time())?.map_err(internal)
    }

    /// How long a token ties events to its answer, in milliseconds.
    fn attribution_ttl_ms(&self) -> i64 {
        self.config.tokens.attribution_ttl.as_millis() as i64
    }

    /// The token that ties events to the answer of that number.
    fn attribution(
        &self,
        answer: u64,
        shop: &Shop,
        served_by: &[ServedBy],
        served: &[&str],
        items: Vec<ServedItem>,
        now_ms: i64,
    ) -> String {
        self.tokens.attribution(&Attribution {
            catalog: shop.catalog().id.as_str().to_owned(),
            request_id: answer,
            time_ms: now_ms,
            versions: served_by.iter().map(|by| format!("{}/{}", by.model, by.version)).collect(),
            list: stable_hash(served),
            items,
        })
    }

    /// The answer of ours that an event names, if it is not too old. What is not good is counted, never an error.
    fn attributed(&self, catalog: &str, event: &Event, now_ms: i64) -> Option<Attribution> {
        if event.attribution_token.is_empty() {
            return None;
        }
        let ttl_ms = self.attribution_ttl_ms();
        let reason = match self.tokens.open_attribution(&event.attribution_token, catalog, now_ms, ttl_ms) {
            Ok(attribution) => return Some(attribution),
            Err(TokenError::Forged) => "forged",
            Err(TokenError::OtherRequest) => "other_catalog",
            Err(TokenError::Expired) => "expired",
        };
        metrics::counter!(telemetry::BAD_ATTRIBUTION, "reason" => reason).increment(1);
        None
    }
}

/// The version of a model that answers and its vectors of this shop, resolved once for a whole answer.
/// The outer error is the caller's: it selected a version that is not loaded.
fn indexed<E: Embedder>(
    model: &Model<E>,
    shop: &Shop,
    context: &RequestContext,
) -> Result<Result<Indexed<E>, EncoderError>, Status> {
    let selector = context.model_selector.get(E::TASK).map(String::as_str);
    match model.resolve(selector).map_err(EncoderError::from) {
        Ok(encoder) => match shop.generation(&*encoder) {
            Some(generation) => Ok(Ok((encoder, generation))),
            None => Ok(Err(EncoderError::NotLoaded { detail: "its vectors of this catalog are not open yet".into() })),
        },
        Err(error) if selector.is_some() => Err(not_found(
            "model version",
            selector.unwrap_or_default(),
            &format!("{error}; `vitrine models list` shows what is loaded"),
        )),
        Err(error) => Ok(Err(error)),
    }
}

/// The context of a request, and the catalog it names.
fn context<'a>(app: &App, context: Option<&'a RequestContext>) -> Result<(&'a RequestContext, Arc<Shop>), Status> {
    let context = context.ok_or_else(|| invalid("context", "is required, with a `catalog`"))?;
    Ok((context, app.shop("context.catalog", &context.catalog)?))
}

/// An item as much as `view` asks for.
fn present(item: &Item, view: ItemView) -> Item {
    if view == ItemView::Full {
        return item.clone();
    }
    // Each field by itself: what is not asked for is most of an item, and would be copied to be thrown away.
    Item {
        id: item.id.clone(),
        title: item.title.clone(),
        description: String::new(),
        categories: item.categories.clone(),
        brand: item.brand.clone(),
        price: item.price.clone(),
        tags: item.tags.clone(),
        image: item.image.clone(),
        available: item.available,
        attributes: None,
        created: item.created,
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}

fn encoder_status(error: EncoderError) -> Status {
    match error {
        EncoderError::NotLoaded { .. } => unavailable("ENCODER_NOT_LOADED", error.to_string()),
        EncoderError::Overloaded { retry_after } => exhausted("ENCODER_OVERLOADED", error.to_string(), retry_after),
        EncoderError::DeadlineExceeded => out_of_time(),
        EncoderError::Failed { .. } => internal(error),
    }
}

fn batch_status(error: BatchError) -> Status {
    match error {
        BatchError::QueueFull { retry_after } => exhausted("MODEL_OVERLOADED", error.to_string(), retry_after),
        BatchError::DeadlineExceeded => out_of_time(),
        BatchError::Unavailable => unavailable("MODEL_NOT_LOADED", error.to_string()),
        BatchError::OutOfMemory(_) => error::status(Code::ResourceExhausted, "OUT_OF_MEMORY", error.to_string()),
        BatchError::TooLarge { .. } | BatchError::Failed(_) => internal(error),
    }
}

fn vector_status(error: VectorError) -> Status {
    match error {
        VectorError::Width { .. } | VectorError::NotFinite { .. } | VectorError::Zero => {
            invalid("vector.values", error.to_string())
        }
        error => internal(error),
    }
}

fn search_status(error: SearchError) -> Status {
    match error {
        SearchError::Encoder(error) => encoder_status(error),
        SearchError::Vector(error) => vector_status(error),
        // A picture is told by its field where that is known.
        error @ (SearchError::Lexical(_) | SearchError::Thread(_) | SearchError::Picture(_)) => internal(error),
    }
}

fn log_status(error: LogError) -> Status {
    const RETRY: std::time::Duration = std::time::Duration::from_secs(1);
    match error {
        LogError::Full => exhausted("DISK_FULL", error.to_string(), RETRY),
        LogError::Closed => unavailable("SHUTTING_DOWN", error.to_string()),
        error => {
            tracing::error!(%error, "the log failed");
            error::unavailable("LOG_FAILED", "nothing was recorded: the log could not be written; try again")
        }
    }
}

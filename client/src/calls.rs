//! One method for each call of the API. Which of them may be sent twice is decided here.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Response, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use vitrine::inference::{ModelInferRequest, ModelInferResponse};
use vitrine::v1::{
    Campaign, Catalog, Control, CreateCatalogRequest, CreateExperimentRequest, DeleteControlRequest,
    DeleteExperimentRequest, DeleteExperimentResponse, DeleteItemRequest, DeletePictureRequest, EraseUserRequest,
    EraseUserResponse, Event, Experiment, ExperimentReport, ExportEventsRequest, ExportExposuresRequest,
    ExportUserRequest, Exposure, FeedbackRequest, FeedbackResponse, GenerateImageRequest, GeneratedImage,
    GetCampaignRequest, GetCatalogRequest, GetControlRequest, GetExperimentRequest, GetItemRequest, GetModelRequest,
    GetModelVersionRequest, GetPictureRequest, Item, ListCatalogsRequest, ListCatalogsResponse, ListControlsRequest,
    ListControlsResponse, ListExperimentsRequest, ListExperimentsResponse, ListItemsRequest, ListItemsResponse,
    ListModelsRequest, ListModelsResponse, LoadVersionRequest, Model, ModelVersion, Picture, PutControlRequest,
    PutPictureRequest, RecommendRequest, RecommendResponse, ReportExperimentRequest, RollbackRequest, SearchRequest,
    SearchResponse, SetLabelRequest, StartExperimentRequest, StopExperimentRequest, UnloadVersionRequest,
    UpdateExperimentRequest, UpsertItemsRequest, UpsertItemsResponse, WatchVersionsRequest, WatchVersionsResponse,
};

use crate::{Answers, Client, Error, connection::expired, retry::Repeat};

/// Of a stream that says something only when something happens. Lost connections are found by keep-alive.
const LONG_SILENCE: Duration = Duration::from_hours(24 * 365);

/// Writes one method of [`Client`] for a call with one request and one answer.
macro_rules! call {
    ($(#[$doc:meta])* $service:ident.$method:ident($type:ty) -> $answer:ty, $name:literal, |$request:ident| $repeat:expr) => {
        $(#[$doc])*
        pub async fn $method(&self, $request: $type) -> Result<$answer, Error> {
            let repeat = $repeat;
            let service = self.$service();
            let send = |request| {
                let mut service = service.clone();
                async move { service.$method(request).await }
            };
            self.call($name, repeat, $request, send).await
        }
    };
    ($(#[$doc:meta])* $service:ident.$method:ident($type:ty) -> $answer:ty, $name:literal, $repeat:expr) => {
        call! { $(#[$doc])* $service.$method($type) -> $answer, $name, |request| $repeat }
    };
}

/// Whether a removal may be sent twice.
fn deletion(allow_missing: bool) -> Repeat {
    if allow_missing { Repeat::Safe } else { Repeat::Unsafe }
}

impl Client {
    call! {
        /// Finds items. Retried.
        storefront.search(SearchRequest) -> SearchResponse, "Search", Repeat::Safe
    }
    call! {
        /// Proposes items. Retried.
        storefront.recommend(RecommendRequest) -> RecommendResponse, "Recommend", Repeat::Safe
    }
    call! {
        /// Records events. Retried: an event counts once however often its `event_id` is sent.
        storefront.feedback(FeedbackRequest) -> FeedbackResponse, "Feedback", Repeat::Safe
    }
    call! {
        /// Makes an empty catalog. Sent once: a second attempt would find its own work and fail.
        catalog.create_catalog(CreateCatalogRequest) -> Catalog, "CreateCatalog", Repeat::Unsafe
    }
    call! {
        /// Counts and index progress of a catalog. Retried.
        catalog.get_catalog(GetCatalogRequest) -> Catalog, "GetCatalog", Repeat::Safe
    }
    call! {
        /// A page of catalogs. Retried.
        catalog.list_catalogs(ListCatalogsRequest) -> ListCatalogsResponse, "ListCatalogs", Repeat::Safe
    }
    call! {
        /// One item. Retried.
        catalog.get_item(GetItemRequest) -> Item, "GetItem", Repeat::Safe
    }
    call! {
        /// A page of items. Retried.
        catalog.list_items(ListItemsRequest) -> ListItemsResponse, "ListItems", Repeat::Safe
    }
    call! {
        /// Adds or replaces items, all or none. Retried: the second time changes nothing.
        catalog.upsert_items(UpsertItemsRequest) -> UpsertItemsResponse, "UpsertItems", Repeat::Safe
    }
    call! {
        /// Removes an item. Retried only with `allow_missing`: otherwise a second attempt would find its own work and fail.
        catalog.delete_item(DeleteItemRequest) -> (), "DeleteItem", |request| deletion(request.allow_missing)
    }
    call! {
        /// Gives an item its picture. Retried: the second time changes nothing.
        catalog.put_picture(PutPictureRequest) -> (), "PutPicture", Repeat::Safe
    }
    call! {
        /// An item's picture. Retried.
        catalog.get_picture(GetPictureRequest) -> Picture, "GetPicture", Repeat::Safe
    }
    call! {
        /// Takes an item's picture away. Retried as [`delete_item`](Self::delete_item) is.
        catalog.delete_picture(DeletePictureRequest) -> (), "DeletePicture", |request| deletion(request.allow_missing)
    }
    call! {
        /// One control. Retried.
        catalog.get_control(GetControlRequest) -> Control, "GetControl", Repeat::Safe
    }
    call! {
        /// A page of controls. Retried.
        catalog.list_controls(ListControlsRequest) -> ListControlsResponse, "ListControls", Repeat::Safe
    }
    call! {
        /// Adds or replaces a control. Retried: the second time changes nothing.
        catalog.put_control(PutControlRequest) -> Control, "PutControl", Repeat::Safe
    }
    call! {
        /// What a campaign spent and reached. Retried.
        catalog.get_campaign(GetCampaignRequest) -> Campaign, "GetCampaign", Repeat::Safe
    }
    call! {
        /// Removes a control. Retried as [`delete_item`](Self::delete_item) is.
        catalog.delete_control(DeleteControlRequest) -> (), "DeleteControl", |request| deletion(request.allow_missing)
    }
    call! {
        /// A page of models. Retried.
        model.list_models(ListModelsRequest) -> ListModelsResponse, "ListModels", Repeat::Safe
    }
    call! {
        /// One model. Retried.
        model.get_model(GetModelRequest) -> Model, "GetModel", Repeat::Safe
    }
    call! {
        /// One version. Retried.
        model.get_model_version(GetModelVersionRequest) -> ModelVersion, "GetModelVersion", Repeat::Safe
    }
    call! {
        /// Loads a version on the server, and answers when it is available. Retried: the second time changes nothing.
        model.load_version(LoadVersionRequest) -> ModelVersion, "LoadVersion", Repeat::Safe
    }
    call! {
        /// Unloads a version on the server, and answers when it is gone. Retried: the second time changes nothing.
        model.unload_version(UnloadVersionRequest) -> ModelVersion, "UnloadVersion", Repeat::Safe
    }
    call! {
        /// Moves a label by compare-and-set, and answers when the server has switched. Sent once: a second attempt would
        /// compare with its own work.
        model.set_label(SetLabelRequest) -> Model, "SetLabel", Repeat::Unsafe
    }
    call! {
        /// Moves a label to where it was before. Sent once: a second attempt would move it forth again.
        model.rollback(RollbackRequest) -> Model, "Rollback", Repeat::Unsafe
    }

    /// What the server does with versions, now and at each change. Sent once; ends when it is dropped.
    pub async fn watch_versions(&self, request: WatchVersionsRequest) -> Result<Answers<WatchVersionsResponse>, Error> {
        let mut service = self.model();
        self.stream("WatchVersions", LONG_SILENCE, service.watch_versions(request)).await
    }

    call! {
        /// Plans an experiment. Sent once: a second attempt would find its own work and fail.
        experiment.create_experiment(CreateExperimentRequest) -> Experiment, "CreateExperiment", Repeat::Unsafe
    }
    call! {
        /// One experiment, with what was done to it. Retried.
        experiment.get_experiment(GetExperimentRequest) -> Experiment, "GetExperiment", Repeat::Safe
    }
    call! {
        /// A page of experiments. Retried.
        experiment.list_experiments(ListExperimentsRequest) -> ListExperimentsResponse, "ListExperiments", Repeat::Safe
    }
    call! {
        /// Changes an experiment by compare-and-set. Sent once: a second attempt would compare with its own work.
        experiment.update_experiment(UpdateExperimentRequest) -> Experiment, "UpdateExperiment", Repeat::Unsafe
    }
    call! {
        /// Begins an experiment. Sent once: a second attempt would find that it runs.
        experiment.start_experiment(StartExperimentRequest) -> Experiment, "StartExperiment", Repeat::Unsafe
    }
    call! {
        /// Ends an experiment. Sent once: a second attempt would find that it is over.
        experiment.stop_experiment(StopExperimentRequest) -> Experiment, "StopExperiment", Repeat::Unsafe
    }
    call! {
        /// Removes an experiment. Sent once: a second attempt would find its own work and fail.
        experiment.delete_experiment(DeleteExperimentRequest) -> DeleteExperimentResponse, "DeleteExperiment",
        Repeat::Unsafe
    }
    call! {
        /// What an experiment has led to. Retried.
        experiment.report_experiment(ReportExperimentRequest) -> ExperimentReport, "ReportExperiment", Repeat::Safe
    }

    /// What was logged of a catalog's experiments, oldest first. Sent once; it takes as long as it takes.
    pub async fn export_exposures(&self, request: ExportExposuresRequest) -> Result<Answers<Exposure>, Error> {
        let mut service = self.experiment();
        self.stream("ExportExposures", self.options().timeout, service.export_exposures(request)).await
    }

    call! {
        /// Erases every event of one person. Sent once: a second attempt would find nothing to count.
        privacy.erase_user(EraseUserRequest) -> EraseUserResponse, "EraseUser", Repeat::Unsafe
    }

    call! {
        /// What a model by itself makes of its input (Open Inference Protocol).
        inference.model_infer(ModelInferRequest) -> ModelInferResponse, "ModelInfer", Repeat::Safe
    }

    /// Makes pictures; each comes when it is done. Sent once.
    pub async fn generate_image(&self, request: GenerateImageRequest) -> Result<Answers<GeneratedImage>, Error> {
        let service = self.storefront();
        let send = |request| {
            let mut service = service.clone();
            async move { service.generate_image(request).await }
        };
        let answers = self.call("GenerateImage", Repeat::Unsafe, request, send).await?;
        Ok(Answers::new("GenerateImage", answers, self.options().timeout))
    }

    /// Every event of a catalog, oldest first. Sent once; it takes as long as it takes.
    pub async fn export_events(&self, request: ExportEventsRequest) -> Result<Answers<Event>, Error> {
        let mut service = self.catalog();
        self.stream("ExportEvents", self.options().timeout, service.export_events(request)).await
    }

    /// Every event of one person, in the order of their recording. Sent once.
    pub async fn export_user(&self, request: ExportUserRequest) -> Result<Answers<Event>, Error> {
        let mut service = self.privacy();
        self.stream("ExportUser", self.options().timeout, service.export_user(request)).await
    }

    /// Waits for a stream to begin; it may be silent for `silence`. Without `grpc-timeout`: it would end the whole stream,
    /// not only a silence.
    async fn stream<A: Send + 'static>(
        &self,
        name: &'static str,
        silence: Duration,
        call: impl Future<Output = Result<Response<Streaming<A>>, Status>>,
    ) -> Result<Answers<A>, Error> {
        let timeout = self.options().timeout;
        let answers = tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(expired(timeout)))
            .map_err(|status| Error::from_status(name, &status, 1))?;
        Ok(Answers::new(name, answers.into_inner(), silence))
    }

    /// Asks the server how it is. `service` is empty for the server as a whole.
    pub async fn health(&self, service: &str) -> Result<Health, Error> {
        let started = Instant::now();
        let health = HealthClient::new(self.channel());
        let send = |request| {
            let mut health = health.clone();
            async move { health.check(request).await }
        };
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = self.call("Check", Repeat::Safe, request, send).await?;
        Ok(Health { serving: answer.status() == ServingStatus::Serving, round_trip: started.elapsed() })
    }
}

/// How a server says it is.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Whether it takes requests: every model it needs is available, and it is not shutting down.
    pub serving: bool,
    /// How long the question took, there and back.
    pub round_trip: Duration,
}

//! The fake's side of `ModelService`.

use tonic::{Request, Response, Status, async_trait};
use vitrine::v1::{
    GetModelRequest, GetModelVersionRequest, ListModelsRequest, ListModelsResponse, LoadVersionRequest, Model,
    ModelVersion, RollbackRequest, SetLabelRequest, UnloadVersionRequest, VersionState, WatchVersionsRequest,
    WatchVersionsResponse, model_service_server::ModelService,
};

use super::FakeShop;

fn model(state: &super::State) -> Model {
    let version = ModelVersion {
        version: 1,
        kind: "bert".into(),
        task: "text-embedding".into(),
        state: VersionState::Available.into(),
        size_bytes: 90_868_376,
        metrics: [("ndcg@10".to_owned(), 0.7034)].into(),
        device: "cpu".into(),
        ..Default::default()
    };
    let failed = ModelVersion {
        version: 2,
        state: VersionState::Failed.into(),
        failure: "golden rows differ by 0.2".into(),
        ..version.clone()
    };
    Model {
        name: "models/minilm".into(),
        versions: vec![failed, version],
        labels: state.labels.clone(),
        ..Model::default()
    }
}

#[async_trait]
impl ModelService for FakeShop {
    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        self.arrive("ListModels", &request).await?;
        let models = vec![model(&self.state())];
        Ok(Response::new(ListModelsResponse { models, ..Default::default() }))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        self.arrive("GetModel", &request).await?;
        Ok(Response::new(model(&self.state())))
    }

    async fn set_label(&self, request: Request<SetLabelRequest>) -> Result<Response<Model>, Status> {
        self.arrive("SetLabel", &request).await?;
        let request = request.into_inner();
        let mut state = self.state();
        let now = state.labels.get(&request.label).copied().unwrap_or(0);
        if now != request.expected_version {
            return Err(Status::aborted(format!("`{}` names version {now}", request.label)));
        }
        state.labels.insert(request.label, request.version);
        Ok(Response::new(model(&state)))
    }

    async fn get_model_version(&self, _: Request<GetModelVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        Err(Status::unimplemented("not of this fake"))
    }

    type WatchVersionsStream = tokio_stream::Empty<Result<WatchVersionsResponse, Status>>;

    async fn watch_versions(
        &self,
        _: Request<WatchVersionsRequest>,
    ) -> Result<Response<Self::WatchVersionsStream>, Status> {
        Err(Status::unimplemented("not of this fake"))
    }

    async fn load_version(&self, _: Request<LoadVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        Err(Status::unimplemented("not of this fake"))
    }

    async fn unload_version(&self, _: Request<UnloadVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        Err(Status::unimplemented("not of this fake"))
    }

    async fn rollback(&self, _: Request<RollbackRequest>) -> Result<Response<Model>, Status> {
        Err(Status::unimplemented("not of this fake"))
    }
}

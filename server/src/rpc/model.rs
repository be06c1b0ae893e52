//! `ModelService`: what the registry holds, what this server does with it, and moving labels.

use std::cmp::Reverse;

use tonic::{Code, Request, Response, Status};
use vitrine::v1::{
    GetModelRequest, ListModelsRequest, ListModelsResponse, Model, ModelVersion, SetLabelRequest, VersionState,
    model_service_server::ModelService,
};
use vitrine_registry::{Label, ModelName, Registry, RegistryError, Version};

use super::{App, check};
use crate::{
    error::{Violations, internal, invalid, not_found, status, unavailable},
    token::stable_hash,
};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;

#[tonic::async_trait]
impl ModelService for App {
    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let size = check::page_size(&mut violations, "page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
        violations.into_result()?;
        let hash = stable_hash("ListModels");
        let after = self.list_position(&request.page_token, hash)?;
        let app = self.clone();
        blocking(move || {
            let registry = app.registry()?;
            let mut names = registry.models().map_err(registry_status)?;
            names.retain(|name| after.as_deref().is_none_or(|after| name.as_str() > after));
            let more = names.len() > size;
            names.truncate(size);
            let last = names.last().filter(|_| more).map(|last| last.as_str().to_owned());
            let next_page_token = app.list_token(hash, last);
            let models = names.iter().map(|name| app.model(&registry, name)).collect::<Result<_, _>>()?;
            Ok(ListModelsResponse { models, next_page_token })
        })
        .await
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        let name = model_name(&request.into_inner().name)?;
        let app = self.clone();
        blocking(move || app.model(&app.registry()?, &name)).await
    }

    async fn set_label(&self, request: Request<SetLabelRequest>) -> Result<Response<Model>, Status> {
        let request = request.into_inner();
        let name = model_name(&request.name)?;
        let label: Label = request.label.parse().map_err(|error| invalid("label", format!("{error}")))?;
        let version = Version::new(request.version).ok_or_else(|| invalid("version", "is required, from 1"))?;
        let expected = Version::new(request.expected_version);
        let app = self.clone();
        blocking(move || {
            let registry = app.registry()?;
            registry.set_label(&name, &label, version, expected).map_err(registry_status)?;
            app.model(&registry, &name)
        })
        .await
    }
}

impl App {
    fn registry(&self) -> Result<Registry, Status> {
        Registry::open(&self.config.registry).map_err(registry_status)
    }

    fn model(&self, registry: &Registry, name: &ModelName) -> Result<Model, Status> {
        let found = registry.versions(name).map_err(registry_status)?;
        let labels = registry.labels(name).map_err(registry_status)?;
        let states = self.encoders.states();
        let state_of = |version: Version| {
            states.iter().find(|state| state.model == name.as_str() && state.version == version.get())
        };
        let usable = found.usable.iter().map(|version| {
            let (manifest, state) = (&version.manifest, state_of(version.version));
            ModelVersion {
                version: version.version.get(),
                kind: manifest.kind.clone(),
                task: manifest.task.clone(),
                state: state.map_or(0, |state| state.state as i32),
                failure: state.map(|state| state.failure.clone()).unwrap_or_default(),
                size_bytes: manifest.size_bytes() as i64,
                metrics: manifest.metrics.clone(),
                device: state.map(|state| state.device.clone()).unwrap_or_default(),
            }
        });
        let unusable = found.unusable.iter().map(|version| ModelVersion {
            version: version.version.get(),
            state: VersionState::Failed as i32,
            failure: version.reason.clone(),
            ..ModelVersion::default()
        });
        let mut versions: Vec<ModelVersion> = usable.chain(unusable).collect();
        versions.sort_by_key(|version| Reverse(version.version));
        let labels = labels.into_iter().map(|(label, version)| (label.as_str().to_owned(), version.get())).collect();
        Ok(Model { name: format!("models/{}", name.as_str()), versions, labels })
    }
}

fn model_name(name: &str) -> Result<ModelName, Status> {
    let id = name.strip_prefix("models/").ok_or_else(|| invalid("name", "must look like `models/NAME`"))?;
    id.parse().map_err(|error| invalid("name", format!("{error}")))
}

/// The registry is a directory: it is read on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<Response<T>, Status> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?.map(Response::new)
}

fn registry_status(error: RegistryError) -> Status {
    match error {
        RegistryError::UnknownModel(_) | RegistryError::UnknownVersion { .. } => {
            not_found("model", &error.to_string(), "`vitrine models list` shows what there is")
        }
        RegistryError::LabelMoved { .. } => status(Code::Aborted, "LABEL_CHANGED", error.to_string()),
        error => {
            tracing::warn!(%error, "the registry cannot be used");
            unavailable("REGISTRY_UNAVAILABLE", error.to_string())
        }
    }
}

//! `ModelService`: what the registry holds, what this server does with it, loading, unloading, and moving labels.

use std::{cmp::Reverse, collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::interval};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status};
use vitrine::v1::{
    GetModelRequest, GetModelVersionRequest, ListModelsRequest, ListModelsResponse, LoadVersionRequest, Model,
    ModelVersion, RollbackRequest, SetLabelRequest, UnloadVersionRequest, VersionState, WatchVersionsRequest,
    WatchVersionsResponse, model_service_server::ModelService,
};
use vitrine_registry::{Label, ModelName, Registry, RegistryError, Version, labels::Before};

use super::App;
use crate::{
    check,
    error::{Violations, internal, invalid, not_found, status, unavailable},
    model::{Managed, Refused, Transition, VersionStatus, Wish},
    token::stable_hash,
};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;
/// How often a watcher is told how far a version is that is being indexed.
const PROGRESS: Duration = Duration::from_secs(1);
/// Changes that a slow watcher may be behind.
const WATCH_BUFFER: usize = 64;

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
        let answer = blocking(move || {
            let registry = app.registry()?;
            let mut names = registry.models().map_err(registry_status)?;
            names.retain(|name| after.as_deref().is_none_or(|after| name.as_str() > after));
            let more = names.len() > size;
            names.truncate(size);
            let last = names.last().filter(|_| more).map(|last| last.as_str().to_owned());
            let next_page_token = app.list_token(hash, last);
            let models = names.iter().map(|name| app.model(&registry, name)).collect::<Result<_, _>>()?;
            Ok(ListModelsResponse { models, next_page_token })
        });
        answer.await.map(Response::new)
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        let name = model_name(&request.into_inner().name)?;
        self.read_model(name).await.map(Response::new)
    }

    async fn get_model_version(
        &self,
        request: Request<GetModelVersionRequest>,
    ) -> Result<Response<ModelVersion>, Status> {
        let (name, version) = version_name(&request.into_inner().name)?;
        self.read_version(name, version).await.map(Response::new)
    }

    type WatchVersionsStream = Pin<Box<dyn Stream<Item = Result<WatchVersionsResponse, Status>> + Send>>;

    async fn watch_versions(
        &self,
        request: Request<WatchVersionsRequest>,
    ) -> Result<Response<Self::WatchVersionsStream>, Status> {
        let name = request.into_inner().name;
        let runs =
            if name.is_empty() { self.models.to_vec() } else { vec![Arc::clone(self.must_run(&model_name(&name)?)?)] };
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        for run in runs {
            let (app, sender) = (self.clone(), sender.clone());
            // Ends when the caller does, or the model.
            tokio::spawn(async move { app.watch(&*run, sender).await });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn load_version(&self, request: Request<LoadVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        let LoadVersionRequest { name, unload_first } = request.into_inner();
        let (name, version) = version_name(&name)?;
        let run = self.must_run(&name)?;
        let (source, model) = (self.registry.clone(), name.clone());
        blocking(move || source.bring(&model, version).map_err(registry_status)).await?;
        // Before anything is asked for: is it there?
        self.read_version(name.clone(), version).await?;
        run.wish(Wish::Loaded { version, unload_first }).await.map_err(|refused| refused_status(&refused))?;
        self.read_version(name, version).await.map(Response::new)
    }

    async fn unload_version(&self, request: Request<UnloadVersionRequest>) -> Result<Response<ModelVersion>, Status> {
        let (name, version) = version_name(&request.into_inner().name)?;
        let run = self.must_run(&name)?;
        self.read_version(name.clone(), version).await?;
        run.wish(Wish::Unloaded { version }).await.map_err(|refused| refused_status(&refused))?;
        self.read_version(name, version).await.map(Response::new)
    }

    async fn set_label(&self, request: Request<SetLabelRequest>) -> Result<Response<Model>, Status> {
        let request = request.into_inner();
        let (name, label) = (model_name(&request.name)?, label(&request.label)?);
        let version = Version::new(request.version).ok_or_else(|| invalid("version", "is required, from 1"))?;
        let expected = Version::new(request.expected_version);
        let (source, unload_first) = (self.registry.clone(), request.unload_first);
        self.move_label(name, label, unload_first, move |registry, name, label| {
            source.bring(name, version)?;
            registry.set_label(name, label, version, expected).map(|before| (version, before))
        })
        .await
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Model>, Status> {
        let request = request.into_inner();
        let (name, label) = (model_name(&request.name)?, label(&request.label)?);
        let source = self.registry.clone();
        self.move_label(name, label, false, move |registry, name, label| {
            if let Some(previous) = registry.current_labels(name)?.previous.get(label) {
                source.bring(name, *previous)?;
            }
            registry.roll_back(name, label)
        })
        .await
    }
}

impl App {
    /// Moves a label in the registry, and waits until this server follows; if it cannot, takes the move back.
    async fn move_label(
        &self,
        name: ModelName,
        label: Label,
        unload_first: bool,
        change: impl FnOnce(&Registry, &ModelName, &Label) -> Result<(Version, Before), RegistryError> + Send + 'static,
    ) -> Result<Response<Model>, Status> {
        let app = self.clone();
        // A move that was begun is brought to its end, whether or not the caller waits for it.
        let moving = tokio::spawn(async move {
            let (source, model, moved) = (app.clone(), name.clone(), label.clone());
            let (registry, (version, before)) = blocking(move || {
                let registry = source.registry()?;
                let outcome = change(&registry, &model, &moved).map_err(registry_status)?;
                Ok((registry, outcome))
            })
            .await?;
            if let Some(run) = app.run(&name) {
                let wish = Wish::Switched { label: label.clone(), version, unload_first };
                if let Err(refused) = run.wish(wish).await {
                    if matches!(refused, Refused::Failed { .. }) {
                        let model = name.clone();
                        let undone =
                            move || registry.undo_label(&model, &label, version, before).map_err(registry_status);
                        if let Err(error) = blocking(undone).await {
                            tracing::warn!(%error, "a label still names a version that cannot be used here");
                        }
                    }
                    return Err(refused_status(&refused));
                }
            }
            app.read_model(name).await
        });
        moving.await.map_err(internal)?.map(Response::new)
    }

    /// Sends what this server does with a model's versions, and what becomes of it.
    async fn watch(&self, run: &dyn Managed, sender: mpsc::Sender<Result<WatchVersionsResponse, Status>>) {
        // First the subscription, so that nothing is missed between.
        let mut transitions = run.transitions();
        let mut ticks = interval(PROGRESS);
        let mut all = true;
        loop {
            let told: Vec<(VersionState, VersionStatus)> = if all {
                run.states().into_iter().map(|now| (VersionState::Unspecified, now)).collect()
            } else {
                tokio::select! {
                    transition = transitions.recv() => match transition {
                        Ok(Transition { previous, now }) => vec![(previous, now)],
                        // Too many at once: what is now says more than what was missed.
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => { all = true; continue; }
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    },
                    _ = ticks.tick() => {
                        let indexing = |now: &VersionStatus| now.state == VersionState::Indexing;
                        run.states().into_iter().filter(indexing).map(|now| (now.state, now)).collect()
                    }
                    () = sender.closed() => return,
                }
            };
            all = false;
            for (previous, now) in told {
                let version = self.with_status(ModelVersion::default(), &now);
                let previous_state = previous as i32;
                if sender.send(Ok(WatchVersionsResponse { version: Some(version), previous_state })).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Only the models that this server runs can be loaded on it.
    fn must_run(&self, name: &ModelName) -> Result<&Arc<dyn Managed>, Status> {
        self.run(name).ok_or_else(|| {
            let runs: Vec<String> = self.models.iter().map(|run| format!("\"{}\"", run.name())).collect();
            let runs = runs.join(", ");
            let message = format!("this server does not run model \"{name}\"; its configuration names {runs}");
            status(Code::FailedPrecondition, "MODEL_NOT_RUN", message)
        })
    }

    /// The model, if this server runs it.
    fn run(&self, name: &ModelName) -> Option<&Arc<dyn Managed>> {
        self.models.iter().find(|run| run.name() == name.as_str())
    }

    fn registry(&self) -> Result<Registry, Status> {
        self.registry.registry().map_err(registry_status)
    }

    async fn read_model(&self, name: ModelName) -> Result<Model, Status> {
        let app = self.clone();
        blocking(move || app.model(&app.registry()?, &name)).await
    }

    async fn read_version(&self, name: ModelName, version: Version) -> Result<ModelVersion, Status> {
        let model = self.read_model(name.clone()).await?;
        let found = model.versions.into_iter().find(|found| found.version == version.get());
        found.ok_or_else(|| registry_status(RegistryError::UnknownVersion { model: name, version }))
    }

    fn model(&self, registry: &Registry, name: &ModelName) -> Result<Model, Status> {
        let found = registry.versions(name).map_err(registry_status)?;
        let labels = registry.labels(name).map_err(registry_status)?;
        let run = self.run(name);
        let states = run.map(|run| run.states()).unwrap_or_default();
        let with_status = |mut version: ModelVersion| {
            let number = Version::new(version.version);
            version.rejected = number.and_then(|number| labels.rejected.get(&number).cloned()).unwrap_or_default();
            match states.iter().find(|status| status.version == version.version) {
                Some(status) => self.with_status(version, status),
                None => ModelVersion { name: format!("models/{name}/versions/{}", version.version), ..version },
            }
        };
        let usable = found.usable.iter().map(|version| {
            let manifest = &version.manifest;
            with_status(ModelVersion {
                version: version.version.get(),
                kind: manifest.kind.clone(),
                task: manifest.task.clone(),
                size_bytes: manifest.size_bytes() as i64,
                metrics: manifest.metrics.clone(),
                memory_bytes: manifest.memory_bytes as i64,
                ..ModelVersion::default()
            })
        });
        let unusable = found.unusable.iter().map(|version| {
            let version = ModelVersion {
                version: version.version.get(),
                state: VersionState::Failed as i32,
                failure: version.reason.clone(),
                ..ModelVersion::default()
            };
            let told = with_status(version.clone());
            // In memory it is as good as it was.
            let loaded = !told.device.is_empty() && told.state() != VersionState::Loading;
            if loaded { told } else { ModelVersion { name: told.name, rejected: told.rejected, ..version } }
        });
        // What serves, or should, and whose files are gone.
        let wanted: BTreeSet<u32> = labels.named.values().map(|version| version.get()).collect();
        let there: BTreeSet<u32> = found.numbers().map(Version::get).collect();
        let lost = states.iter().filter(|status| {
            let matters =
                !status.device.is_empty() || (status.state == VersionState::Failed && wanted.contains(&status.version));
            matters && !there.contains(&status.version)
        });
        let lost = lost.map(|status| self.with_status(ModelVersion::default(), status));
        let mut versions: Vec<ModelVersion> = usable.chain(unusable).chain(lost).collect();
        versions.sort_by_key(|version| Reverse(version.version));
        let named = |labels: std::collections::BTreeMap<Label, Version>| {
            labels.into_iter().map(|(label, version)| (label.as_str().to_owned(), version.get())).collect()
        };
        Ok(Model {
            name: format!("models/{name}"),
            versions,
            labels: named(labels.named),
            previous_labels: named(labels.previous),
            serving_labels: run.map(|run| run.labels().into_iter().collect()).unwrap_or_default(),
        })
    }

    /// A version with what this server does with it.
    fn with_status(&self, version: ModelVersion, status: &VersionStatus) -> ModelVersion {
        let indexing = status.state == VersionState::Indexing;
        ModelVersion {
            name: format!("models/{}/versions/{}", status.model, status.version),
            version: status.version,
            state: status.state as i32,
            failure: status.failure.clone(),
            device: status.device.clone(),
            memory_bytes: status.memory_bytes as i64,
            state_time: Some(status.since.into()),
            requests: status.requests.get() as i64,
            indexing: indexing.then(|| self.shops.indexing(&status.model, status.version)),
            ..version
        }
    }
}

fn model_name(name: &str) -> Result<ModelName, Status> {
    let id = name.strip_prefix("models/").ok_or_else(|| invalid("name", "must look like `models/NAME`"))?;
    id.parse().map_err(|error| invalid("name", format!("{error}")))
}

fn version_name(name: &str) -> Result<(ModelName, Version), Status> {
    let (model, version) =
        name.split_once("/versions/").ok_or_else(|| invalid("name", "must look like `models/NAME/versions/NUMBER`"))?;
    let version = version.parse().map_err(|error| invalid("name", format!("{error}")))?;
    Ok((model_name(model)?, version))
}

fn label(text: &str) -> Result<Label, Status> {
    text.parse().map_err(|error| invalid("label", format!("{error}")))
}

/// The registry is a directory, or in a store: it is read and changed on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?
}

fn registry_status(error: RegistryError) -> Status {
    const HINT: &str = "`vitrine models list` shows what there is";
    match error {
        RegistryError::UnknownModel(model) => not_found("model", &format!("models/{model}"), HINT),
        RegistryError::UnknownVersion { model, version } => {
            not_found("model version", &format!("models/{model}/versions/{version}"), HINT)
        }
        RegistryError::LabelMoved { .. } => status(Code::Aborted, "LABEL_CHANGED", error.to_string()),
        RegistryError::NoPrevious { .. } => status(Code::FailedPrecondition, "NO_PREVIOUS", error.to_string()),
        RegistryError::Rejected { .. } => status(Code::FailedPrecondition, "VERSION_REJECTED", error.to_string()),
        RegistryError::Unusable { .. } => status(Code::FailedPrecondition, "VERSION_UNUSABLE", error.to_string()),
        error => {
            tracing::warn!(%error, "the registry cannot be used");
            unavailable("REGISTRY_UNAVAILABLE", error.to_string())
        }
    }
}

fn refused_status(refused: &Refused) -> Status {
    let (code, reason) = match refused {
        Refused::Failed { .. } => (Code::FailedPrecondition, "VERSION_UNUSABLE"),
        Refused::Needed { .. } => (Code::FailedPrecondition, "VERSION_NEEDED"),
        Refused::Moved { .. } => (Code::Aborted, "LABEL_CHANGED"),
        Refused::Unwanted { .. } => (Code::Aborted, "VERSION_UNWANTED"),
        Refused::Ending => return unavailable("SHUTTING_DOWN", refused.to_string()),
    };
    status(code, reason, refused.to_string())
}

//! `ExperimentService`: plans experiments, starts and stops them, and tells what came of them.

use std::time::{Duration, SystemTime};

use tokio::{sync::mpsc, task};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use vitrine::v1::{
    CreateExperimentRequest, DeleteExperimentRequest, DeleteExperimentResponse, Experiment, ExperimentReport,
    ExportExposuresRequest, Exposure, GetExperimentRequest, ListExperimentsRequest, ListExperimentsResponse,
    ReportExperimentRequest, StartExperimentRequest, StopExperimentRequest, UpdateExperimentRequest,
    experiment_service_server::ExperimentService,
};
use vitrine_registry::Label;

use super::{App, catalog::Sent, experiment_fields as fields, log_status, privacy::who};
use crate::{
    check,
    error::{Violations, exhausted, internal, invalid, not_found, status, unavailable},
    experiment::{
        ChangeError,
        life::{self, Doing, Refused},
        report,
    },
    token::stable_hash,
    unix_ms,
};

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;
const MAX_AUTHOR_CHARS: usize = 128;
const MAX_REASON_CHARS: usize = 1_000;
const MAX_CURVE_POINTS: i32 = 200;
const DEFAULT_ALPHA: f64 = 0.05;
const DEFAULT_TUNING: i64 = 5_000;
/// Exposures that wait to be sent.
const EXPORT_BUFFER: usize = 1_024;
/// Each is read at every look at the registry, and at every request.
const MAX_EXPERIMENTS: usize = 1_000;

#[tonic::async_trait]
impl ExperimentService for App {
    async fn create_experiment(
        &self,
        request: Request<CreateExperimentRequest>,
    ) -> Result<Response<Experiment>, Status> {
        let CreateExperimentRequest { experiment, author, validate_only } = request.into_inner();
        let (id, experiment) = self.checked(experiment, &author)?;
        if validate_only {
            return Ok(Response::new(life::planned(experiment, &doing(&author))));
        }
        if self.experiments.all().len() >= MAX_EXPERIMENTS {
            let message = format!("there are {MAX_EXPERIMENTS} experiments; delete some that are over");
            return Err(status(Code::FailedPrecondition, "TOO_MANY_EXPERIMENTS", message));
        }
        let name = experiment.name.clone();
        let create = move |before: Option<&Experiment>, doing: &Doing<'_>| match before {
            None => Ok(Some(life::planned(experiment.clone(), doing))),
            Some(_) => Err(status(
                Code::AlreadyExists,
                "EXPERIMENT_EXISTS",
                format!("there is an experiment `{name}` already"),
            )),
        };
        self.change(id, author, create).await
    }

    async fn get_experiment(&self, request: Request<GetExperimentRequest>) -> Result<Response<Experiment>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(self.experiment(&name)?.experiment.clone()))
    }

    async fn list_experiments(
        &self,
        request: Request<ListExperimentsRequest>,
    ) -> Result<Response<ListExperimentsResponse>, Status> {
        let request = request.into_inner();
        if !request.catalog.is_empty() {
            self.shop("catalog", &request.catalog)?;
        }
        let mut violations = Violations::default();
        let size = check::page_size(&mut violations, "page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
        violations.into_result()?;
        let hash = stable_hash(("ListExperiments", &request.catalog));
        let after = self.list_position(&request.page_token, hash)?;
        let all = self.experiments.all();
        let wanted = all.iter().filter(|(id, running)| {
            after.as_ref().is_none_or(|after| *id > after)
                && (request.catalog.is_empty() || running.experiment.catalog == request.catalog)
        });
        let mut left = wanted.peekable();
        let page: Vec<_> = left.by_ref().take(size).collect();
        let last = page.last().filter(|_| left.peek().is_some()).map(|(id, _)| (*id).clone());
        let without_changes = |experiment: &Experiment| Experiment { changes: Vec::new(), ..experiment.clone() };
        let experiments = page.iter().map(|(_, running)| without_changes(&running.experiment)).collect();
        Ok(Response::new(ListExperimentsResponse { experiments, next_page_token: self.list_token(hash, last) }))
    }

    async fn update_experiment(
        &self,
        request: Request<UpdateExperimentRequest>,
    ) -> Result<Response<Experiment>, Status> {
        let UpdateExperimentRequest { experiment, author } = request.into_inner();
        let (id, experiment) = self.checked(experiment, &author)?;
        let update = move |before: Option<&Experiment>, doing: &Doing<'_>| {
            let before = before.ok_or_else(|| missing(&experiment.name))?;
            if before.revision != experiment.revision {
                let last = before
                    .changes
                    .last()
                    .map(|change| format!(" ({}: {})", change.author, change.summary))
                    .unwrap_or_default();
                let message = format!(
                    "its revision is {}, not {}; it was changed meanwhile{last}",
                    before.revision, experiment.revision
                );
                return Err(status(Code::Aborted, "EXPERIMENT_CHANGED", message));
            }
            life::updated(before, experiment.clone(), doing).map(Some).map_err(refused)
        };
        self.change(id, author, update).await
    }

    async fn start_experiment(&self, request: Request<StartExperimentRequest>) -> Result<Response<Experiment>, Status> {
        let StartExperimentRequest { name, author } = request.into_inner();
        let id = named(&name, &author)?;
        let app = self.clone();
        let start = move |before: Option<&Experiment>, doing: &Doing<'_>| {
            let before = before.ok_or_else(|| missing(&name))?;
            let after = life::started(before, doing).map_err(refused)?;
            app.can_start(&after)?;
            Ok(Some(after))
        };
        self.change(id, author, start).await
    }

    async fn stop_experiment(&self, request: Request<StopExperimentRequest>) -> Result<Response<Experiment>, Status> {
        let StopExperimentRequest { name, author, reason } = request.into_inner();
        let id = named(&name, &author)?;
        let mut violations = Violations::default();
        check::text(&mut violations, "reason", &reason, MAX_REASON_CHARS);
        violations.into_result()?;
        let stop = move |before: Option<&Experiment>, doing: &Doing<'_>| {
            life::stopped(before.ok_or_else(|| missing(&name))?, &reason, doing).map(Some).map_err(refused)
        };
        self.change(id, author, stop).await
    }

    async fn delete_experiment(
        &self,
        request: Request<DeleteExperimentRequest>,
    ) -> Result<Response<DeleteExperimentResponse>, Status> {
        let name = request.into_inner().name;
        let id = named(&name, "")?;
        let delete = move |before: Option<&Experiment>, _: &Doing<'_>| {
            life::removable(before.ok_or_else(|| missing(&name))?).map(|()| None).map_err(refused)
        };
        self.change(id, String::new(), delete).await?;
        Ok(Response::new(DeleteExperimentResponse {}))
    }

    async fn report_experiment(
        &self,
        request: Request<ReportExperimentRequest>,
    ) -> Result<Response<ExperimentReport>, Status> {
        let request = request.into_inner();
        let running = self.experiment(&request.name)?;
        let mut violations = Violations::default();
        let alpha = if request.alpha == 0.0 { DEFAULT_ALPHA } else { request.alpha };
        if !(alpha > 0.0 && alpha < 0.5) {
            violations.add("alpha", format!("is {alpha}; it must be above 0 and below 0.5"));
        }
        let tuning = if request.sequential_tuning == 0 { DEFAULT_TUNING } else { request.sequential_tuning };
        if tuning < 1 {
            violations.add("sequential_tuning", format!("is {tuning}; it must be 1 or more"));
        }
        if !(0..=MAX_CURVE_POINTS).contains(&request.curve_points) {
            violations.add("curve_points", format!("is {}; it must be 0 to {MAX_CURVE_POINTS}", request.curve_points));
        }
        violations.into_result()?;
        let shop = self.shop("experiment.catalog", &running.experiment.catalog)?;
        let asked =
            report::Asked { alpha, tuning, curve_points: usize::try_from(request.curve_points).unwrap_or_default() };
        let app = self.clone();
        let report = move || report::report(&running, &shop, &app.tokens, app.attribution_ttl_ms(), &asked);
        let report = task::spawn_blocking(report).await.map_err(internal)?.map_err(log_status)?;
        Ok(Response::new(report))
    }

    type ExportExposuresStream = Sent<Exposure>;

    async fn export_exposures(
        &self,
        request: Request<ExportExposuresRequest>,
    ) -> Result<Response<Sent<Exposure>>, Status> {
        let ExportExposuresRequest { catalog, experiment, start_time, person } = request.into_inner();
        let shop = self.shop("catalog", &catalog)?;
        let who = person.map(|person| who(Some(person))).transpose()?;
        let from = start_time.as_ref().map_or(0, unix_ms);
        let (sender, receiver) = mpsc::channel(EXPORT_BUFFER);
        task::spawn_blocking(move || {
            let concerns = |exposure: &Exposure| {
                let of_experiment = experiment.is_empty()
                    || exposure.arms.iter().any(|arm| arm.experiment == experiment)
                    || exposure.shadow.as_ref().is_some_and(|shadow| shadow.experiment == experiment);
                of_experiment && who.as_ref().is_none_or(|who| who.is(&exposure.user_id, &exposure.visitor_id))
            };
            let read = shop
                .exposures()
                .read(from, |exposure| !concerns(&exposure) || sender.blocking_send(Ok(exposure)).is_ok());
            if let Err(error) = read {
                // Whoever no longer listens need not know.
                let _ = sender.blocking_send(Err(log_status(error)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl App {
    fn experiment(&self, name: &str) -> Result<std::sync::Arc<crate::experiment::Running>, Status> {
        let id = named(name, "")?;
        self.experiments.get(id.as_str()).ok_or_else(|| missing(name))
    }

    /// A definition whose every field was checked.
    fn checked(&self, experiment: Option<Experiment>, author: &str) -> Result<(Label, Experiment), Status> {
        let experiment = experiment.ok_or_else(|| invalid("experiment", "is required"))?;
        self.shop("experiment.catalog", &experiment.catalog)?;
        let mut violations = Violations::default();
        let id = fields::id(&mut violations, "experiment.name", &experiment.name);
        fields::experiment(&mut violations, &experiment, &self.config);
        check::text(&mut violations, "author", author, MAX_AUTHOR_CHARS);
        match id {
            Some(id) if violations.is_empty() => Ok((id, experiment)),
            _ => Err(violations.into_status()),
        }
    }

    /// Changes the experiment of that id, and answers what it is then.
    async fn change<F>(&self, id: Label, author: String, change: F) -> Result<Response<Experiment>, Status>
    where
        F: Fn(Option<&Experiment>, &Doing<'_>) -> Result<Option<Experiment>, Status> + Send + 'static,
    {
        let experiments = std::sync::Arc::clone(&self.experiments);
        let changed = task::spawn_blocking(move || experiments.change(&id, |before| change(before, &doing(&author))));
        match changed.await.map_err(internal)? {
            Ok(after) => Ok(Response::new(after.unwrap_or_default())),
            Err(ChangeError::Refused(status)) => Err(status),
            Err(ChangeError::Busy) => {
                Err(exhausted("EXPERIMENT_BUSY", ChangeError::<Status>::Busy.to_string(), Duration::from_millis(100)))
            }
            Err(ChangeError::Registry(error)) => {
                tracing::warn!(%error, "an experiment cannot be changed");
                Err(unavailable("REGISTRY_UNAVAILABLE", format!("the registry cannot be changed: {error}")))
            }
            Err(error @ ChangeError::Malformed(..)) => {
                Err(status(Code::FailedPrecondition, "EXPERIMENT_MALFORMED", error.to_string()))
            }
        }
    }

    /// Whether shoppers can be answered by all of its arms.
    fn can_start(&self, experiment: &Experiment) -> Result<(), Status> {
        for arm in &experiment.arms {
            for (task, selector) in &arm.models {
                if !self.models.iter().any(|model| model.task() == task && model.has(selector)) {
                    let message = format!(
                        "arm `{}` names {task} `{selector}`, which is not AVAILABLE on this server; `vitrine models load` loads a version",
                        arm.name
                    );
                    return Err(status(Code::FailedPrecondition, "VERSION_NOT_AVAILABLE", message));
                }
            }
        }
        let id = experiment.name.trim_start_matches("experiments/");
        let overlaps = self
            .experiments
            .all()
            .values()
            .find(|other| {
                other.id != id
                    && other.is_running()
                    && other.experiment.catalog == experiment.catalog
                    && other.overlaps(experiment)
            })
            .cloned();
        match overlaps {
            Some(other) => {
                let message = format!("experiment `{}` takes a part of the same namespace", other.id);
                Err(status(Code::FailedPrecondition, "NAMESPACE_TAKEN", message))
            }
            None => Ok(()),
        }
    }
}

fn doing(author: &str) -> Doing<'_> {
    Doing { author, now: SystemTime::now() }
}

fn named(name: &str, author: &str) -> Result<Label, Status> {
    let mut violations = Violations::default();
    let id = fields::id(&mut violations, "name", name);
    check::text(&mut violations, "author", author, MAX_AUTHOR_CHARS);
    match id {
        Some(id) if violations.is_empty() => Ok(id),
        _ => Err(violations.into_status()),
    }
}

fn missing(name: &str) -> Status {
    not_found("experiment", name, "`vitrine experiments list` shows those there are")
}

fn refused(refused: Refused) -> Status {
    status(Code::FailedPrecondition, "EXPERIMENT_STATE", refused.to_string())
}

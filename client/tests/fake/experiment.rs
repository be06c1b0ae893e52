//! The fake's side of `ExperimentService`.

use tokio_stream::Iter;
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_types::{ErrorDetails, StatusExt as _};
use vitrine::v1::{
    CreateExperimentRequest, DeleteExperimentRequest, DeleteExperimentResponse, Experiment, ExperimentChange,
    ExperimentReport, ExperimentState, ExportExposuresRequest, Exposure, GetExperimentRequest, ListExperimentsRequest,
    ListExperimentsResponse, ReportExperimentRequest, StartExperimentRequest, StopExperimentRequest,
    UpdateExperimentRequest, experiment_service_server::ExperimentService,
};

use super::{FakeShop, State, terminal::Terminal};

/// Enough of a plan.
pub const TWO_ARMS: [&str; 4] = ["--arm", "control:0.5", "--arm", "canary:0.5,text-embedding=canary"];

/// Plans an experiment with two arms.
pub async fn plan(terminal: &Terminal, id: &str) {
    terminal.run(&[&["experiments", "create", id, "--author", "ana"], TWO_ARMS.as_slice()].concat()).await.is(0);
}

impl FakeShop {
    /// Changes an experiment, and writes down who did what.
    fn alter(
        &self,
        name: &str,
        author: &str,
        summary: &str,
        change: impl FnOnce(&mut Experiment),
    ) -> Result<Response<Experiment>, Status> {
        let mut state = self.state();
        let experiment = known(&mut state, name)?;
        change(experiment);
        record(experiment, author, summary);
        Ok(Response::new(experiment.clone()))
    }
}

fn known<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Experiment, Status> {
    state.experiments.get_mut(name).ok_or_else(|| Status::not_found(format!("there is no experiment `{name}`")))
}

fn record(experiment: &mut Experiment, author: &str, summary: &str) {
    experiment.revision += 1;
    experiment.changes.push(ExperimentChange {
        time: None,
        author: author.into(),
        summary: summary.into(),
        revision: experiment.revision,
    });
}

#[async_trait]
impl ExperimentService for FakeShop {
    type ExportExposuresStream = Iter<std::vec::IntoIter<Result<Exposure, Status>>>;

    async fn create_experiment(
        &self,
        request: Request<CreateExperimentRequest>,
    ) -> Result<Response<Experiment>, Status> {
        self.arrive("CreateExperiment", &request).await?;
        let request = request.into_inner();
        let mut experiment = request.experiment.ok_or_else(|| Status::invalid_argument("experiment is required"))?;
        if experiment.arms.len() < 2 {
            let details = ErrorDetails::with_bad_request_violation("experiment.arms", "must be 2 to 20");
            return Err(Status::with_error_details(Code::InvalidArgument, "the request is malformed", details));
        }
        if self.state().experiments.contains_key(&experiment.name) {
            return Err(Status::already_exists(format!("there is an experiment `{}` already", experiment.name)));
        }
        experiment.set_state(ExperimentState::Draft);
        record(&mut experiment, &request.author, "created");
        if !request.validate_only {
            self.state().experiments.insert(experiment.name.clone(), experiment.clone());
        }
        Ok(Response::new(experiment))
    }

    async fn get_experiment(&self, request: Request<GetExperimentRequest>) -> Result<Response<Experiment>, Status> {
        self.arrive("GetExperiment", &request).await?;
        known(&mut self.state(), &request.into_inner().name).cloned().map(Response::new)
    }

    /// Two on a page, however many are asked for.
    async fn list_experiments(
        &self,
        request: Request<ListExperimentsRequest>,
    ) -> Result<Response<ListExperimentsResponse>, Status> {
        self.arrive("ListExperiments", &request).await?;
        let request = request.into_inner();
        let state = self.state();
        let of = |experiment: &&Experiment| request.catalog.is_empty() || experiment.catalog == request.catalog;
        let after = |experiment: &&Experiment| experiment.name > request.page_token;
        let mut experiments: Vec<Experiment> = state.experiments.values().filter(of).filter(after).cloned().collect();
        let more = experiments.len() > 2;
        experiments.truncate(2);
        let last = experiments.last().filter(|_| more).map(|experiment| experiment.name.clone());
        Ok(Response::new(ListExperimentsResponse { experiments, next_page_token: last.unwrap_or_default() }))
    }

    async fn update_experiment(
        &self,
        request: Request<UpdateExperimentRequest>,
    ) -> Result<Response<Experiment>, Status> {
        self.arrive("UpdateExperiment", &request).await?;
        let request = request.into_inner();
        let wanted = request.experiment.unwrap_or_default();
        if std::mem::take(&mut self.state().rival) {
            self.alter(&wanted.name, "mallory", "coverage: 1 → 0.1", |_| {})?;
        }
        if known(&mut self.state(), &wanted.name)?.revision != wanted.revision {
            return Err(Status::aborted("the experiment has another revision"));
        }
        let name = wanted.name.clone();
        self.alter(&name, &request.author, "changed", |experiment| *experiment = wanted)
    }

    async fn start_experiment(&self, request: Request<StartExperimentRequest>) -> Result<Response<Experiment>, Status> {
        self.arrive("StartExperiment", &request).await?;
        let request = request.into_inner();
        let start = |experiment: &mut Experiment| experiment.set_state(ExperimentState::Running);
        self.alter(&request.name, &request.author, "started", start)
    }

    async fn stop_experiment(&self, request: Request<StopExperimentRequest>) -> Result<Response<Experiment>, Status> {
        self.arrive("StopExperiment", &request).await?;
        let request = request.into_inner();
        let stop = |experiment: &mut Experiment| experiment.set_state(ExperimentState::Stopped);
        self.alter(&request.name, &request.author, &format!("stopped: {}", request.reason), stop)
    }

    async fn delete_experiment(
        &self,
        request: Request<DeleteExperimentRequest>,
    ) -> Result<Response<DeleteExperimentResponse>, Status> {
        self.arrive("DeleteExperiment", &request).await?;
        let name = request.into_inner().name;
        let mut state = self.state();
        if known(&mut state, &name)?.state() == ExperimentState::Running {
            return Err(Status::failed_precondition("it is running: stop it first"));
        }
        state.experiments.remove(&name);
        Ok(Response::new(DeleteExperimentResponse {}))
    }

    async fn report_experiment(
        &self,
        request: Request<ReportExperimentRequest>,
    ) -> Result<Response<ExperimentReport>, Status> {
        self.arrive("ReportExperiment", &request).await?;
        let request = request.into_inner();
        let mut state = self.state();
        state.reported = request.clone();
        let experiment = known(&mut state, &request.name)?.clone();
        Ok(Response::new(ExperimentReport { experiment: Some(experiment), ..state.report.clone() }))
    }

    async fn export_exposures(
        &self,
        request: Request<ExportExposuresRequest>,
    ) -> Result<Response<Self::ExportExposuresStream>, Status> {
        self.arrive("ExportExposures", &request).await?;
        let mut state = self.state();
        state.exported = request.into_inner();
        let exposures: Vec<_> = state.exposures.iter().cloned().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(exposures)))
    }
}

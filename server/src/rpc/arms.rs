//! The arms of experiments that answer a request: chosen before anything else, told in the answer, and logged before it is sent.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::Status;
use vitrine::v1::{
    ArmParameters, Degraded, DegradedReason, ExposedArm, ExposedItem, Exposure, Placement, RecommendRequest,
    RequestContext, SearchRequest, ServedArm, ServedBy, ShadowAnswer, search_request::Query,
};

use super::{App, now_ms, timestamp};
use crate::{
    batch::Class,
    error::not_found,
    experiment::{Running, exposures::Kept},
    serving::Shop,
    telemetry,
};

/// How long a shadow may take.
pub const SHADOW_TIME: Duration = Duration::from_secs(10);

/// A call, whatever arms make of its request.
#[derive(Clone, Copy)]
pub struct Call {
    /// Binds page tokens to the request as it came.
    pub hash: u64,
    /// The answer's number.
    pub answer: u64,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// The arms that answer one request.
#[derive(Clone)]
pub struct Arms {
    placement: Placement,
    unit: String,
    chosen: Vec<Chosen>,
    /// It is not for anybody to see, but for its only arm to be compared.
    is_shadow: bool,
    started: Instant,
}

/// An experiment, and what answers of it.
#[derive(Clone)]
struct Chosen {
    running: Arc<Running>,
    /// None: both, interleaved.
    arm: Option<usize>,
    /// The caller wants to see it; nobody is shown it.
    forced: bool,
    /// A version that the arm names was not there.
    fallback: bool,
    /// They were shown this arm before, and keep it.
    kept: bool,
}

/// An answer as it is logged.
pub struct Shown<'a> {
    /// The answer's number.
    pub answer: u64,
    /// What it is answered with.
    pub served_by: &'a [ServedBy],
    /// The items, best first.
    pub items: Vec<ExposedItem>,
    /// The place of the first of them, from 1.
    pub first_position: usize,
}

impl App {
    /// The arms for who asks, there.
    pub(super) fn arms(&self, shop: &Shop, context: &RequestContext, placement: Placement) -> Result<Arms, Status> {
        let unit = if context.user_id.is_empty() { &context.visitor_id } else { &context.user_id };
        let mut arms =
            Arms { placement, unit: unit.clone(), chosen: Vec::new(), is_shadow: false, started: Instant::now() };
        for (id, name) in &context.force_arms {
            let running = self.experiments.get(id).filter(|running| running.experiment.catalog == context.catalog);
            let running = running
                .ok_or_else(|| not_found("experiment", id, "`vitrine experiments list` shows those of the catalog"))?;
            let arm = running
                .arm(name)
                .ok_or_else(|| not_found("arm", name, &format!("experiment `{id}` has other arms")))?;
            arms.chosen.push(Chosen { forced: true, ..Chosen::new(running, Some(arm)) });
        }
        if unit.is_empty() {
            return Ok(arms);
        }
        let looking = Instant::now();
        for running in self.experiments.all().values() {
            let concerned = running.is_running()
                && running.experiment.catalog == context.catalog
                && !context.force_arms.contains_key(&running.id)
                && running.concerns(placement);
            if !concerned {
                continue;
            }
            let kept = kept(shop, running, unit);
            if let Some(arm) = kept.or_else(|| running.assigned(unit)) {
                let arm = (!running.is_interleaved()).then_some(arm);
                arms.chosen.push(Chosen { kept: kept.is_some(), ..Chosen::new(Arc::clone(running), arm) });
            }
        }
        metrics::histogram!(telemetry::STAGE_SECONDS, "stage" => "arms").record(looking.elapsed());
        Ok(arms)
    }

    /// Lets the arms choose versions, where the caller does not. A version that is not there is none of the caller's faults: the answer comes
    /// without it, and says so.
    pub(super) fn choose_versions(&self, arms: &mut Arms, context: &mut RequestContext) -> Vec<Degraded> {
        let mut degraded = Vec::new();
        for chosen in &mut arms.chosen {
            let Some(arm) = chosen.arm.map(|arm| &chosen.running.experiment.arms[arm]) else { continue };
            for (task, selector) in &arm.models {
                if context.model_selector.contains_key(task) {
                    continue;
                }
                if self.models.iter().any(|model| model.task() == task && model.has(selector)) {
                    context.model_selector.insert(task.clone(), selector.clone());
                } else {
                    chosen.fallback = true;
                    degraded.push(Degraded {
                        reason: DegradedReason::ArmUnavailable as i32,
                        detail: format!(
                            "arm {} of {} names {task} {selector}, which is not loaded",
                            arm.name, chosen.running.id
                        ),
                    });
                }
            }
        }
        degraded
    }
}

/// The arm that somebody was shown and keeps.
fn kept(shop: &Shop, running: &Running, unit: &str) -> Option<usize> {
    if !running.experiment.sticky {
        return None;
    }
    let kept = shop.exposures().kept(&running.id, running.experiment.bucket_version, unit);
    let kept = kept.inspect_err(|error| tracing::warn!(%error, "cannot look up who keeps which arm"));
    running.arm(&kept.ok()??)
}

impl Arms {
    /// The experiment that mixes two rankings, if there is one.
    pub fn interleaved(&self) -> Option<&Arc<Running>> {
        self.chosen.iter().find(|chosen| chosen.arm.is_none()).map(|chosen| &chosen.running)
    }

    /// As if that arm of the experiment that mixes two answered alone.
    pub fn alone(&self, arm: usize) -> Self {
        let mut alone = self.clone();
        alone.chosen.iter_mut().filter(|chosen| chosen.arm.is_none()).for_each(|chosen| chosen.arm = Some(arm));
        alone
    }

    /// What the draft of two rankings is drawn from.
    pub fn draft_seed(&self) -> (&str, &str) {
        (self.interleaved().map_or("", |running| running.seed()), &self.unit)
    }

    /// The arm that an item of the draft counts for.
    pub fn name_of_team(&self, team: usize) -> String {
        let arms = self.interleaved().map(|running| &running.experiment.arms);
        arms.and_then(|arms| arms.get(team)).map(|arm| arm.name.clone()).unwrap_or_default()
    }

    /// Takes note that one of two rankings lacked a version of its own.
    pub fn note_fallbacks(&mut self, degraded: &[Degraded]) {
        let fallback = degraded.iter().any(|why| why.reason() == DegradedReason::ArmUnavailable);
        self.chosen.iter_mut().filter(|chosen| chosen.arm.is_none()).for_each(|chosen| chosen.fallback |= fallback);
    }

    /// Without what mixes two rankings.
    pub fn without_interleaving(mut self) -> Self {
        self.chosen.retain(|chosen| chosen.arm.is_some());
        self
    }

    /// For each arm that answers in the shadow: the same request as it would answer it.
    pub fn shadows(&self) -> Vec<Self> {
        let running = self.chosen.iter().filter(|chosen| !chosen.forced).map(|chosen| &chosen.running);
        let shadows = running.flat_map(|running| {
            let arms = running.experiment.arms.iter().enumerate().filter(|(_, arm)| arm.shadow);
            arms.map(move |(arm, _)| (running, arm))
        });
        let shadow = |(running, arm): (&Arc<Running>, usize)| Self {
            chosen: vec![Chosen::new(Arc::clone(running), Some(arm))],
            is_shadow: true,
            started: Instant::now(),
            ..self.clone()
        };
        shadows.map(shadow).collect()
    }

    /// Who waits for the answer: nobody, if it is a shadow's.
    pub fn class(&self) -> Class {
        if self.is_shadow { Class::Bulk } else { Class::Interactive }
    }

    /// Sets what the arms say of a search.
    pub fn search(&self, request: &mut SearchRequest) {
        for parameters in self.parameters() {
            request.fusion = parameters.fusion.or(request.fusion);
            request.diversity = parameters.diversity.clone().or(request.diversity.take());
            request.personalize = parameters.personalize.or(request.personalize);
            // Pictures and vectors have no words to search by.
            if parameters.mode != 0 && matches!(request.query, Some(Query::Text(_))) {
                request.mode = parameters.mode;
            }
        }
    }

    /// Sets what the arms say of a recommendation.
    pub fn recommend(&self, request: &mut RecommendRequest) {
        for parameters in self.parameters().filter(|_| self.placement != Placement::Ads) {
            request.diversity = parameters.diversity.clone().or(request.diversity.take());
            request.exploration = parameters.exploration.or(request.exploration);
        }
    }

    /// Whether candidates may come from the source of that name.
    pub fn may_propose(&self, source: &str) -> bool {
        self.parameters()
            .all(|parameters| parameters.sources.is_empty() || parameters.sources.iter().any(|name| name == source))
    }

    /// Whether a ranker may put candidates in order.
    pub fn may_rank(&self) -> bool {
        self.parameters().all(|parameters| parameters.ranked != Some(false))
    }

    /// The ids of controls that are left out.
    pub fn without_controls(&self) -> BTreeSet<&str> {
        self.parameters().flat_map(|parameters| parameters.without_controls.iter().map(String::as_str)).collect()
    }

    /// As the answer tells them.
    pub fn told(&self) -> Vec<ServedArm> {
        let told = self.chosen.iter().map(|chosen| ServedArm {
            experiment: chosen.running.id.clone(),
            arm: chosen.arm_name().to_owned(),
            forced: chosen.forced,
        });
        told.collect()
    }

    /// Whether it is logged what they show.
    pub fn are_logged(&self) -> bool {
        self.logged().next().is_some()
    }

    /// Logs what is about to be shown, and waits for the operating system only. An answer is not kept back because it cannot be logged.
    pub fn log(&self, shop: &Shop, shown: Shown<'_>, context: Option<&RequestContext>) {
        self.write(shop, shown, context, String::new());
    }

    /// Has a shadow answer, where not too many do. That it does not is logged as well.
    pub async fn cast<T>(
        &self,
        app: &App,
        shop: &Shop,
        answer: u64,
        context: Option<&RequestContext>,
        answering: impl Future<Output = Result<T, Status>>,
    ) {
        let failure = match app.shadows.try_acquire() {
            Ok(_permit) => answering.await.err().map(|status| status.message().to_owned()),
            Err(_) => Some("too many shadows were answering".to_owned()),
        };
        if let Some(why) = failure {
            self.write(shop, Shown { answer, served_by: &[], items: Vec::new(), first_position: 1 }, context, why);
        }
    }

    fn write(&self, shop: &Shop, shown: Shown<'_>, context: Option<&RequestContext>, failure: String) {
        let writing = Instant::now();
        let shadow = self.chosen.first().filter(|_| self.is_shadow).map(|chosen| ShadowAnswer {
            experiment: chosen.running.id.clone(),
            arm: chosen.arm_name().to_owned(),
            failure,
        });
        let arms = self.logged().map(|chosen| ExposedArm {
            experiment: chosen.running.id.clone(),
            arm: chosen.arm_name().to_owned(),
            bucket_version: chosen.running.experiment.bucket_version,
            fallback: chosen.fallback,
        });
        let is_to_keep = |chosen: &&Chosen| chosen.running.experiment.sticky && chosen.arm.is_some() && !chosen.kept;
        let kept = self.logged().filter(|chosen| !self.is_shadow && is_to_keep(chosen)).map(|chosen| Kept {
            experiment: chosen.running.id.clone(),
            bucket_version: chosen.running.experiment.bucket_version,
            unit: self.unit.clone(),
            arm: chosen.arm_name().to_owned(),
        });
        let kept = kept.collect();
        let now = now_ms();
        let exposure = Exposure {
            answer: shown.answer,
            time: Some(timestamp(now)),
            user_id: context.map(|context| context.user_id.clone()).unwrap_or_default(),
            visitor_id: context.map(|context| context.visitor_id.clone()).unwrap_or_default(),
            placement: self.placement as i32,
            arms: arms.collect(),
            versions: shown.served_by.iter().map(|by| format!("{}/{}", by.model, by.version)).collect(),
            items: shown.items,
            first_position: u32::try_from(shown.first_position).unwrap_or(u32::MAX),
            latency_ms: self.started.elapsed().as_secs_f64() * 1_000.0,
            shadow,
        };
        if let Err(error) = shop.exposures().log(&exposure, now, kept) {
            metrics::counter!(telemetry::EXPOSURES_LOST).increment(1);
            tracing::warn!(%error, "an exposure was not logged");
        }
        metrics::histogram!(telemetry::STAGE_SECONDS, "stage" => "exposure").record(writing.elapsed());
    }

    fn logged(&self) -> impl Iterator<Item = &Chosen> {
        self.chosen.iter().filter(|chosen| !chosen.forced)
    }

    fn parameters(&self) -> impl Iterator<Item = &ArmParameters> {
        self.chosen.iter().filter_map(|chosen| chosen.running.experiment.arms[chosen.arm?].parameters.as_ref())
    }
}

impl Chosen {
    fn new(running: Arc<Running>, arm: Option<usize>) -> Self {
        Self { running, arm, forced: false, fallback: false, kept: false }
    }

    fn arm_name(&self) -> &str {
        self.arm.map_or("", |arm| &self.running.experiment.arms[arm].name)
    }
}

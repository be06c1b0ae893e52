//! The fake's side of `StorefrontService`.

use tokio_stream::Iter;
use tonic::{Request, Response, Status, async_trait};
use vitrine::v1::{
    Ad, Degraded, DegradedReason, EventResult, EventStatus, Facet, FacetValue, FeedbackRequest, FeedbackResponse,
    FieldViolation, GenerateImageRequest, GeneratedImage, Item, Likeness, Money, Reason, ReasonCode, RecommendRequest,
    RecommendResponse, Recommendation, RequestContext, SearchRequest, SearchResponse, SearchResult, ServedArm,
    ServedBy, StageScore, TotalSizeRelation, Variant, control::Action, recommend_request::Target,
    search_request::Query, storefront_service_server::StorefrontService,
};

use super::{FakeShop, png};

/// The arms that were asked for, and with them an experiment that shows both of its arms.
fn arms(context: Option<&RequestContext>) -> Vec<ServedArm> {
    let forced = context.into_iter().flat_map(|context| &context.force_arms);
    let both = ServedArm { experiment: "layout".into(), arm: String::new(), forced: false };
    forced
        .map(|(experiment, arm)| ServedArm { experiment: experiment.clone(), arm: arm.clone(), forced: true })
        .flat_map(|served| [served, both.clone()])
        .collect()
}

fn served_by() -> Vec<ServedBy> {
    vec![ServedBy { task: "text-embedding".into(), model: "minilm".into(), version: 1, label: "stable".into() }]
}

fn stage(stage: &str, score: f64, rank: i32) -> StageScore {
    StageScore { stage: stage.into(), score, rank }
}

#[async_trait]
impl StorefrontService for FakeShop {
    type GenerateImageStream = Iter<std::vec::IntoIter<Result<GeneratedImage, Status>>>;

    /// Finds the items whose title has the text, and by a picture alone those that have one.
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        self.arrive("Search", &request).await?;
        let request = request.into_inner();
        self.state().searched = request.clone();
        if request.context.as_ref().is_none_or(|context| context.catalog != "catalogs/shop") {
            return Err(Status::not_found("there is no such catalog"));
        }
        if request.page_size < 0 {
            return Err(Status::invalid_argument("page_size must not be negative"));
        }
        let state = self.state();
        let matches = |item: &&Item| match &request.query {
            Some(Query::Text(text)) => item.title.contains(text),
            Some(Query::Multimodal(query)) => item.title.contains(&query.text),
            Some(Query::Image(_)) => state.pictures.contains_key(&item.id),
            _ => false,
        };
        let found: Vec<_> = state.items.values().filter(matches).cloned().collect();
        let total_size = found.len() as i64;
        // With `group_by` everything is of one group.
        let in_groups = !request.group_by.is_empty();
        let shown = if in_groups { 1 } else { 10 };
        let variants = found
            .iter()
            .skip(1)
            .take(request.group_size.max(1) as usize - 1)
            .zip(2..)
            .map(|(item, rank)| Variant { item: Some(item.clone()), score: 1.0 / f64::from(60 + rank) });
        let variants: Vec<_> = if in_groups { variants.collect() } else { Vec::new() };
        let results = found.iter().take(shown).zip(1..).map(|(item, rank)| SearchResult {
            item: Some(item.clone()),
            score: 1.0 / f64::from(60 + rank),
            rank,
            variants: variants.clone(),
            group_total: if in_groups { total_size } else { 0 },
            stages: vec![
                stage("lexical", 12.3456 / f64::from(rank), rank),
                stage("semantic", 0.8 / f64::from(rank), rank + 1),
                stage("fused", 1.0 / f64::from(60 + rank), rank),
            ],
            highlights: Vec::new(),
        });
        let value = |value: &str, count| FacetValue { value: value.into(), count, interval: None };
        let facets = request.facets.iter().map(|facet| Facet {
            key: facet.key.clone(),
            values: vec![value("ACME", 1_204), value("Globex", 87)],
            ..Default::default()
        });
        let redirect = state.controls.values().find_map(|control| match &control.action {
            Some(Action::Redirect(redirect)) => Some(redirect.uri.clone()),
            _ => None,
        });
        let degraded = Degraded {
            reason: DegradedReason::IndexIncomplete.into(),
            detail: "40,000 of 92,353 items have their vector".into(),
        };
        Ok(Response::new(SearchResponse {
            results: results.collect(),
            facets: facets.collect(),
            total_size,
            total_size_relation: TotalSizeRelation::Exact.into(),
            served_by: served_by(),
            attribution_token: "token".into(),
            degraded: vec![degraded],
            next_page_token: if total_size > 10 { "page2".into() } else { String::new() },
            applied_controls: state.applied_controls(),
            redirect_uri: redirect.unwrap_or_default(),
            experiments: arms(request.context.as_ref()),
            ..Default::default()
        }))
    }

    async fn recommend(&self, request: Request<RecommendRequest>) -> Result<Response<RecommendResponse>, Status> {
        self.arrive("Recommend", &request).await?;
        let request = request.into_inner();
        self.state().recommended = request.clone();
        let (code, because) = match request.likeness() {
            Likeness::Picture => (ReasonCode::LooksLike, "looks like"),
            _ => (ReasonCode::BoughtTogether, "bought with"),
        };
        let advertised = matches!(request.target, Some(Target::Ads(_)));
        let sources = match request.target {
            Some(Target::BoughtTogether(list) | Target::SimilarToItems(list)) => list.ids,
            _ => Vec::new(),
        };
        let euros = |amount: &str| Some(Money { amount: amount.into(), currency: "EUR".into() });
        let state = self.state();
        let others = state.items.values().filter(|item| !sources.contains(&item.id)).take(10).cloned();
        let results = others.zip(1..).map(|(item, rank)| Recommendation {
            item: Some(item),
            score: 1.0 / f64::from(rank),
            rank,
            stages: vec![stage("bought-together", 0.5, rank)],
            reason: request.explain.then(|| Reason {
                code: code.into(),
                source_items: sources.clone(),
                text: format!("{because} {}", sources.join(", ")),
                ..Reason::default()
            }),
            ad: advertised.then(|| Ad {
                campaign: "catalogs/shop/controls/spring".into(),
                bid: euros("0.40"),
                predicted_ctr: 0.021,
                rank_score: 0.0084,
                price: euros("0.23"),
            }),
            propensity: None,
        });
        Ok(Response::new(RecommendResponse {
            results: results.collect(),
            served_by: served_by(),
            applied_controls: state.applied_controls(),
            experiments: arms(request.context.as_ref()),
            ..Default::default()
        }))
    }

    /// One grey picture for each wanted.
    async fn generate_image(
        &self,
        request: Request<GenerateImageRequest>,
    ) -> Result<Response<Self::GenerateImageStream>, Status> {
        self.arrive("GenerateImage", &request).await?;
        let request = request.into_inner();
        let picture = png(0x80);
        let images = (0..request.count).map(|index| {
            Ok(GeneratedImage {
                index,
                data: picture.clone(),
                content_type: "image/png".into(),
                width: 8,
                height: 8,
                seed: request.seed.unwrap_or(7) + index as u64,
                discriminator_score: Some(0.42),
                nearest_training_distance: Some(3.5),
                ..Default::default()
            })
        });
        Ok(Response::new(tokio_stream::iter(images.collect::<Vec<_>>())))
    }

    /// Rejects events without a user or visitor.
    async fn feedback(&self, request: Request<FeedbackRequest>) -> Result<Response<FeedbackResponse>, Status> {
        self.arrive("Feedback", &request).await?;
        let mut state = self.state();
        let results = request.into_inner().events.into_iter().map(|event| {
            let mut result = EventResult { event_id: event.event_id.clone(), ..Default::default() };
            if event.user_id.is_empty() && event.visitor_id.is_empty() {
                let description = "this or `visitor_id` is required".into();
                result.violations.push(FieldViolation { field: "user_id".into(), description });
                result.set_status(EventStatus::Rejected);
            } else if state.events.iter().any(|known| known.event_id == event.event_id) {
                result.set_status(EventStatus::Duplicate);
            } else {
                let known = |id: &String| state.items.contains_key(id);
                result.unknown_items = event.items.iter().map(|item| item.id.clone()).filter(|id| !known(id)).collect();
                result.set_status(EventStatus::Accepted);
                state.events.push(event);
            }
            result
        });
        Ok(Response::new(FeedbackResponse { results: results.collect() }))
    }
}

//! A recommended item as the API has it.

use std::sync::Arc;

use vitrine::v1::{Ad, FeatureShare, Item, Reason, RecommendRequest, Recommendation, StageScore};

use super::present;
use crate::{catalog::items::Table, recommend::Recommended};

/// What is told of an item beside how it was found.
pub struct Told {
    /// What speaks for it.
    pub features: Vec<FeatureShare>,
    /// What it costs.
    pub ad: Option<Ad>,
}

/// An item at its rank. `None`: it is gone.
pub fn describe(
    table: &Table,
    request: &RecommendRequest,
    result: &Recommended,
    rank: i32,
    told: Told,
) -> Option<Recommendation> {
    let item: &Arc<Item> = table.item(result.doc)?;
    let reason = request.explain.then(|| Reason {
        code: result.reason.code as i32,
        source_items: result.reason.sources.iter().filter_map(|&doc| Some(table.id(doc)?.to_string())).collect(),
        text: result.reason.text(|doc| table.item(doc).map(|item| item.title.as_str())),
        features: told.features,
    });
    let stages = result.stages.iter().map(|stage| StageScore {
        stage: stage.source.stage().to_owned(),
        score: stage.score,
        rank: stage.rank as i32,
    });
    Some(Recommendation {
        item: Some(present(item, request.view())),
        score: result.score,
        rank,
        stages: stages.collect(),
        reason,
        ad: told.ad,
        propensity: result.propensity,
    })
}

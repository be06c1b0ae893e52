//! What makes items alike for a recommendation, and the vectors that tell.

use std::sync::Arc;

use tonic::Status;
use vitrine::v1::{Degraded, DegradedReason, Likeness, RecommendRequest, RequestContext, ServedBy};

use super::App;
use crate::{
    encoder::EncoderError,
    recommend::Source,
    search::Indexed,
    serving::{Embedder, Shop},
    vector::VectorIndex,
};

/// Vectors by which items are alike.
pub struct Alike {
    /// As a source of candidates.
    pub source: Source,
    /// The vectors, and who made them.
    pub vectors: Option<(Arc<VectorIndex>, ServedBy)>,
    /// What an answer by them alone lacks.
    pub degraded: Option<Degraded>,
}

/// What a request wants items to be alike in. An error is the caller's.
pub fn alike(app: &App, shop: &Shop, context: &RequestContext, request: &RecommendRequest) -> Result<Alike, Status> {
    Ok(if request.likeness() == Likeness::Picture {
        Alike::new(Source::LooksLike, app.pictorial(shop, context)?)
    } else {
        Alike::new(Source::Similar, app.semantic(shop, context)?)
    })
}

impl Alike {
    fn new<E: Embedder>(source: Source, resolved: Result<Indexed<E>, EncoderError>) -> Self {
        let (vectors, degraded) = match resolved {
            Ok((encoder, generation)) => {
                (Some((Arc::clone(generation.index()), encoder.served_by())), generation.incomplete())
            }
            Err(error) => {
                let detail = format!("similar items are found by vectors, and there are none: {error}");
                (None, Some(Degraded { reason: DegradedReason::EncoderUnavailable as i32, detail }))
            }
        };
        Self { source, vectors, degraded }
    }
}

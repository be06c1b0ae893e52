//! Loaded versions that make vectors of items, whatever of an item they take.

use std::{future::Future, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use vitrine_models::PictureError;

use super::{Generations, Shop};
use crate::{
    Doc,
    batch::Row,
    catalog::Catalog,
    encoder::{Encoder, EncoderError},
    image_encoder::{ImageEncoder, picture},
    model::Loaded,
    vector::{Changes, Pictures, Texts},
};

/// A loaded version that makes vectors of items.
pub trait Embedder: Loaded {
    /// What it takes of an item.
    type Contents: Changes;

    /// What answers lack as long as vectors are missing.
    const LACKING: &str;

    /// How many numbers its vectors have.
    fn dimensions(&self) -> usize;

    /// What it is to make vectors of.
    fn contents(catalog: Arc<Catalog>) -> Self::Contents;

    /// How many items of a catalog are to have a vector. Waits for nobody.
    fn due(catalog: &Catalog) -> usize;

    /// Makes vectors, in order. An empty one: of this content none can be made.
    fn embed_contents(
        &self,
        catalog: &Catalog,
        contents: Vec<<Self::Contents as Changes>::Content>,
    ) -> impl Future<Output = Result<Vec<Vec<f32>>, EncoderError>> + Send;

    /// A shop's vectors by such versions.
    fn generations(shop: &Shop) -> &Generations<Self>;
}

impl Embedder for Encoder {
    type Contents = Texts;

    const LACKING: &str = "the others are found by words only";

    fn dimensions(&self) -> usize {
        self.dimensions()
    }

    fn contents(catalog: Arc<Catalog>) -> Texts {
        Texts(catalog)
    }

    fn due(catalog: &Catalog) -> usize {
        catalog.item_count()
    }

    async fn embed_contents(&self, _: &Catalog, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EncoderError> {
        self.embed_bulk(texts).await
    }

    fn generations(shop: &Shop) -> &Generations<Self> {
        &shop.texts
    }
}

impl Embedder for ImageEncoder {
    type Contents = Pictures;

    const LACKING: &str = "the others are not found by their pictures yet";

    fn dimensions(&self) -> usize {
        self.dimensions()
    }

    fn contents(catalog: Arc<Catalog>) -> Pictures {
        Pictures(catalog)
    }

    fn due(catalog: &Catalog) -> usize {
        catalog.picture_count()
    }

    async fn embed_contents(&self, catalog: &Catalog, docs: Vec<Doc>) -> Result<Vec<Vec<f32>>, EncoderError> {
        let look = self.look();
        let rows = docs.into_iter().map(|doc| async move {
            let file = catalog.picture(doc).map_err(|error| EncoderError::Failed { detail: error.to_string() })?;
            let row = picture::decoded_aside(file.unwrap_or_default(), move |picture| look.row(&picture));
            let row: Option<Row> = match row.await {
                Ok(row) => Some(row),
                // It is gone: its removal follows.
                Err(PictureError::Empty) => None,
                // It was decoded before it was kept.
                Err(error) => {
                    tracing::warn!(doc, %error, "a picture that is kept cannot be read");
                    None
                }
            };
            Ok::<_, EncoderError>(row)
        });
        let rows: Vec<Option<Row>> = stream::iter(rows).buffered(picture::AT_ONCE).try_collect().await?;
        let readable: Vec<bool> = rows.iter().map(Option::is_some).collect();
        let mut vectors = self.opened().run_bulk(rows.into_iter().flatten().collect()).await?.into_iter();
        let vector = |readable| if readable { vectors.next().unwrap_or_default() } else { Vec::new() };
        Ok(readable.into_iter().map(vector).collect())
    }

    fn generations(shop: &Shop) -> &Generations<Self> {
        &shop.pictures
    }
}

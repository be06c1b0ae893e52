//! What of a catalog's items vectors are made of: what is written of them, or their pictures.

use std::error::Error;
use std::future::pending;
use std::sync::Arc;

use super::{Changes, content_hash, item_text};
use crate::Doc;
use crate::catalog::Catalog;
use crate::log::{Followed, Seq};

/// The texts of a catalog's items.
pub struct Texts(pub Arc<Catalog>);

/// The pictures of a catalog's items. They are large: whoever embeds one asks the catalog for it.
pub struct Pictures(pub Arc<Catalog>);

impl Changes for Texts {
    type Content = String;

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Doc)>, Box<dyn Error + Send + Sync>> {
        changed(&self.0, Followed::Items, after, limit)
    }

    fn content(&self, doc: Doc) -> Option<(u64, String)> {
        let item = self.0.items.read().item(doc).cloned()?;
        let text = item_text(&item);
        Some((content_hash(&text), text))
    }

    fn head(&self) -> u64 {
        self.0.head().borrow().0
    }

    async fn beyond(&self, position: u64) {
        beyond(&self.0, position).await;
    }
}

impl Changes for Pictures {
    type Content = Doc;

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Doc)>, Box<dyn Error + Send + Sync>> {
        changed(&self.0, Followed::Pictures, after, limit)
    }

    fn content(&self, doc: Doc) -> Option<(u64, Doc)> {
        Some((self.0.items.read().picture(doc)?, doc))
    }

    fn head(&self) -> u64 {
        self.0.head().borrow().0
    }

    async fn beyond(&self, position: u64) {
        beyond(&self.0, position).await;
    }
}

fn changed(
    catalog: &Catalog,
    what: Followed,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Doc)>, Box<dyn Error + Send + Sync>> {
    Ok(catalog.changed(what, Seq(after), limit)?.into_iter().map(|(seq, doc)| (seq.0, doc)).collect())
}

async fn beyond(catalog: &Catalog, position: u64) {
    if catalog.head().wait_for(|head| head.0 > position).await.is_err() {
        pending::<()>().await; // nothing will be written any more
    }
}

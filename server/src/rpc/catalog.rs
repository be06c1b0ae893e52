//! `CatalogService`: catalogs and the items in them. Imports are in [`super::import`], controls in [`super::control`],
//! pictures in [`super::pictures`].

use std::{pin::Pin, sync::Arc};

use prost_types::FieldMask;
use tokio::{sync::mpsc, task};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use vitrine::v1::{
    Campaign, Catalog, Control, CreateCatalogRequest, DeleteControlRequest, DeleteItemRequest, DeletePictureRequest,
    Event, ExportEventsRequest, GetCampaignRequest, GetCatalogRequest, GetControlRequest, GetItemRequest,
    GetPictureRequest, ImportEventsRequest, ImportItemsRequest, ImportProgress, IndexStatus, Item, ListCatalogsRequest,
    ListCatalogsResponse, ListControlsRequest, ListControlsResponse, ListItemsRequest, ListItemsResponse, Picture,
    PutControlRequest, PutPictureRequest, UpsertItemsRequest, UpsertItemsResponse,
    catalog_service_server::CatalogService,
};

use super::{App, control, import, log_status, now_ms, pictures, timestamp};
use crate::{
    catalog::{catalogs::CatalogsError, export::EventPages, items::Table},
    check,
    error::{Violations, internal, invalid, not_found, status},
    log::{Appended, Change, Field, Patch},
    serving::{ServingError, Shop},
    token::{Page, stable_hash},
    unix_ms,
};

pub(super) const DEFAULT_PAGE: usize = 50;
pub(super) const MAX_PAGE: usize = 1_000;
const EXPORT_CHUNK: usize = 1_000;

pub(super) type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl CatalogService for App {
    type ImportItemsStream = Sent<ImportProgress>;
    type ImportEventsStream = Sent<ImportProgress>;
    type ExportEventsStream = Sent<Event>;

    async fn create_catalog(&self, request: Request<CreateCatalogRequest>) -> Result<Response<Catalog>, Status> {
        let id = check::catalog_name("name", &request.into_inner().name)?;
        let shops = Arc::clone(&self.shops);
        let shop = task::spawn_blocking(move || shops.create(&id)).await.map_err(internal)?.map_err(create_status)?;
        Ok(Response::new(describe(&shop)))
    }

    async fn get_catalog(&self, request: Request<GetCatalogRequest>) -> Result<Response<Catalog>, Status> {
        Ok(Response::new(describe(&*self.shop("name", &request.into_inner().name)?)))
    }

    async fn list_catalogs(
        &self,
        request: Request<ListCatalogsRequest>,
    ) -> Result<Response<ListCatalogsResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let size = check::page_size(&mut violations, "page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
        violations.into_result()?;
        let hash = stable_hash("ListCatalogs");
        let after = self.list_position(&request.page_token, hash)?;
        let mut shops = self.shops.list();
        shops.retain(|shop| after.as_deref().is_none_or(|after| shop.catalog().id.as_str() > after));
        let more = shops.len() > size;
        shops.truncate(size);
        let last = shops.last().filter(|_| more).map(|shop| shop.catalog().id.as_str().to_owned());
        let catalogs = shops.iter().map(|shop| describe(shop)).collect();
        Ok(Response::new(ListCatalogsResponse { catalogs, next_page_token: self.list_token(hash, last) }))
    }

    async fn get_item(&self, request: Request<GetItemRequest>) -> Result<Response<Item>, Status> {
        let (shop, id) = self.item(&request.into_inner().name)?;
        let table = shop.catalog().items.read();
        let item = table.doc(&id).and_then(|doc| table.item(doc)).ok_or_else(|| no_item(&id))?;
        Ok(Response::new(Item::clone(item)))
    }

    async fn list_items(&self, request: Request<ListItemsRequest>) -> Result<Response<ListItemsResponse>, Status> {
        let request = request.into_inner();
        let shop = self.shop("parent", &request.parent)?;
        let mut violations = Violations::default();
        let size = check::page_size(&mut violations, "page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
        let filter = check::filter(&mut violations, "filter", &request.filter, self.config.limits.max_filter_chars)
            .unwrap_or_default();
        violations.into_result()?;
        let hash = stable_hash(("ListItems", &request.parent, &request.filter));
        let after = self.list_position(&request.page_token, hash)?;
        let table = shop.catalog().items.read();
        let matching = (!filter.is_empty()).then(|| table.columns().evaluate(&filter) & table.live());
        let mut items: Vec<Item> = table
            .list(after.as_deref())
            .filter(|&doc| matching.as_ref().is_none_or(|matching| matching.contains(doc)))
            .filter_map(|doc| table.item(doc).map(|item| Item::clone(item)))
            .take(size + 1)
            .collect();
        let more = items.len() > size;
        items.truncate(size);
        let total_size = matching.map_or(table.len() as u64, |matching| matching.len()) as i64;
        let last = items.last().filter(|_| more).map(|item| item.id.clone());
        Ok(Response::new(ListItemsResponse { items, total_size, next_page_token: self.list_token(hash, last) }))
    }

    async fn upsert_items(
        &self,
        request: Request<UpsertItemsRequest>,
    ) -> Result<Response<UpsertItemsResponse>, Status> {
        let request = request.into_inner();
        let shop = self.shop("parent", &request.parent)?;
        let (count, limit) = (request.items.len(), self.config.limits.max_items_per_call);
        if count == 0 {
            return Err(invalid("items", "is required: at least one item"));
        }
        if count > limit {
            return Err(invalid("items", format!("has {count} entries; at most {limit} are allowed in one call")));
        }
        let changes = match request.update_mask {
            None => whole(request.items)?,
            Some(mask) => partial(request.items, &mask, &shop.catalog().items.read())?,
        };
        let patched: Vec<String> = changes
            .iter()
            .filter_map(|change| if let Change::PatchItem(patch) = change { Some(patch.item.id.clone()) } else { None })
            .collect();
        let appended = shop.catalog().append(changes).await.map_err(log_status)?;
        // Removed by somebody else while the call came here.
        if let Some((id, _)) = patched.iter().zip(&appended).find(|(_, result)| !result.existed()) {
            return Err(no_item(id));
        }
        let replaced = appended.iter().filter(|result| result.existed()).count();
        Ok(Response::new(UpsertItemsResponse {
            created_count: (appended.len() - replaced) as i64,
            replaced_count: replaced as i64,
        }))
    }

    async fn delete_item(&self, request: Request<DeleteItemRequest>) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let (shop, id) = self.item(&request.name)?;
        let appended = shop.catalog().append(vec![Change::DeleteItem(id.clone())]).await.map_err(log_status)?;
        let existed = appended.iter().any(Appended::existed);
        if existed || request.allow_missing { Ok(Response::new(())) } else { Err(no_item(&id)) }
    }

    async fn put_picture(&self, request: Request<PutPictureRequest>) -> Result<Response<()>, Status> {
        pictures::put(self, request.into_inner()).await
    }

    async fn get_picture(&self, request: Request<GetPictureRequest>) -> Result<Response<Picture>, Status> {
        pictures::get(self, request.into_inner()).await
    }

    async fn delete_picture(&self, request: Request<DeletePictureRequest>) -> Result<Response<()>, Status> {
        pictures::delete(self, request.into_inner()).await
    }

    async fn import_items(
        &self,
        request: Request<Streaming<ImportItemsRequest>>,
    ) -> Result<Response<Sent<ImportProgress>>, Status> {
        import::start(self, request.into_inner()).await
    }

    async fn import_events(
        &self,
        request: Request<Streaming<ImportEventsRequest>>,
    ) -> Result<Response<Sent<ImportProgress>>, Status> {
        import::start(self, request.into_inner()).await
    }

    async fn export_events(&self, request: Request<ExportEventsRequest>) -> Result<Response<Sent<Event>>, Status> {
        let request = request.into_inner();
        let shop = self.shop("catalog", &request.catalog)?;
        let start = request.start_time.as_ref().map_or(i64::MIN, unix_ms);
        let end = request.end_time.as_ref().map_or(i64::MAX, unix_ms);
        Ok(Response::new(export(shop.catalog().events(start..end))))
    }

    async fn get_control(&self, request: Request<GetControlRequest>) -> Result<Response<Control>, Status> {
        control::get(self, request.get_ref())
    }

    async fn list_controls(
        &self,
        request: Request<ListControlsRequest>,
    ) -> Result<Response<ListControlsResponse>, Status> {
        control::list(self, request.get_ref())
    }

    async fn put_control(&self, request: Request<PutControlRequest>) -> Result<Response<Control>, Status> {
        control::put(self, request.into_inner()).await
    }

    async fn get_campaign(&self, request: Request<GetCampaignRequest>) -> Result<Response<Campaign>, Status> {
        control::campaign(self, request.get_ref())
    }

    async fn delete_control(&self, request: Request<DeleteControlRequest>) -> Result<Response<()>, Status> {
        control::delete(self, request.into_inner()).await
    }
}

impl App {
    /// The catalog and the id of an item's name.
    pub(super) fn item(&self, name: &str) -> Result<(Arc<Shop>, String), Status> {
        let (catalog, id) = check::item_name("name", name)?;
        Ok((self.shop_of(&catalog)?, id))
    }

    /// The id after which a list goes on.
    pub(super) fn list_position(&self, token: &str, hash: u64) -> Result<Option<String>, Status> {
        let after = self.open_page(token, hash)?.after;
        Ok((!after.is_empty()).then_some(after))
    }

    /// The token of the page after `last`; empty when there is none.
    pub(super) fn list_token(&self, hash: u64, last: Option<String>) -> String {
        last.map_or_else(String::new, |after| self.tokens.page(&Page { request: hash, after, ..Page::default() }))
    }
}

/// Sends pages of events as the client takes them.
pub(super) fn export(pages: EventPages) -> Sent<Event> {
    let (sender, receiver) = mpsc::channel(EXPORT_CHUNK);
    task::spawn_blocking(move || {
        for page in pages {
            let answers = match page {
                Ok(events) => events.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(log_status(error))],
            };
            // Refused, the client is gone.
            if !answers.into_iter().all(|answer| sender.blocking_send(answer).is_ok()) {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Items that are recorded as they are.
fn whole(items: Vec<Item>) -> Result<Vec<Change>, Status> {
    check_items(&items)?;
    Ok(items.into_iter().map(Change::UpsertItem).collect())
}

/// Items of which only the fields of the mask are recorded. Checked is what comes of them as things stand.
fn partial(items: Vec<Item>, mask: &FieldMask, table: &Table) -> Result<Vec<Change>, Status> {
    let mut violations = Violations::default();
    if mask.paths.is_empty() {
        violations
            .add("update_mask.paths", "is required: at least one field; leave the mask out to replace whole items");
    }
    let mut fields = Vec::with_capacity(mask.paths.len());
    for (index, path) in mask.paths.iter().enumerate() {
        match Field::parse(path) {
            Some(field) => fields.push(field),
            None => violations.add(
                format!("update_mask.paths[{index}]"),
                format!("names no field of an item that can be replaced: `{path}`"),
            ),
        }
    }
    violations.into_result()?;
    let fields: Arc<[Field]> = fields.into();
    let patches: Vec<Patch> = items.into_iter().map(|item| Patch { item, fields: Arc::clone(&fields) }).collect();
    let merged = patches.iter().map(|patch| {
        let stored = table.doc(&patch.item.id).and_then(|doc| table.item(doc));
        let mut item = Item::clone(stored.ok_or_else(|| no_item(&patch.item.id))?);
        patch.apply(&mut item);
        Ok(item)
    });
    check_items(&merged.collect::<Result<Vec<_>, Status>>()?)?;
    Ok(patches.into_iter().map(Change::PatchItem).collect())
}

fn check_items(items: &[Item]) -> Result<(), Status> {
    let mut violations = Violations::default();
    let now = now_ms();
    for (index, item) in items.iter().enumerate() {
        check::item(&mut violations, &format!("items[{index}]"), item, now);
    }
    violations.into_result()
}

fn describe(shop: &Shop) -> Catalog {
    let catalog = shop.catalog();
    let (item_count, created) = (catalog.item_count(), catalog.created_ms());
    Catalog {
        name: format!("catalogs/{}", catalog.id.as_str()),
        item_count: item_count as i64,
        event_count: catalog.event_count() as i64,
        lexical_index: Some(IndexStatus { indexed_items: shop.lexical().len() as i64, lag: shop.lexical_lag() as i64 }),
        vector_indexes: shop.vector_statuses(),
        created: Some(timestamp(created)),
        picture_count: catalog.picture_count() as i64,
    }
}

pub(super) fn no_item(id: &str) -> Status {
    not_found("item", id, "`vitrine items list` shows what there is")
}

/// What making a catalog can fail with.
pub(super) fn create_status(error: ServingError) -> Status {
    match error {
        ServingError::Catalog(CatalogsError::Exists(_)) => {
            status(tonic::Code::AlreadyExists, "CATALOG_EXISTS", error.to_string())
        }
        ServingError::Catalog(CatalogsError::Log { source, .. }) => log_status(source),
        error => internal(error),
    }
}

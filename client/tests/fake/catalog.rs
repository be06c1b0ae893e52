//! The fake's side of `CatalogService`.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use tonic_types::{ErrorDetails, StatusExt as _};
use vitrine::v1::{
    Campaign, CampaignState, Catalog, Control, CreateCatalogRequest, DeleteControlRequest, DeleteItemRequest,
    DeletePictureRequest, Event, ExportEventsRequest, FieldViolation, GetCampaignRequest, GetCatalogRequest,
    GetControlRequest, GetItemRequest, GetPictureRequest, ImportError, ImportEventsRequest, ImportItemsRequest,
    ImportProgress, ImportStart, IndexStatus, Item, ListCatalogsRequest, ListCatalogsResponse, ListControlsRequest,
    ListControlsResponse, ListItemsRequest, ListItemsResponse, Money, Picture, PutControlRequest, PutPictureRequest,
    UpsertItemsRequest, UpsertItemsResponse, VectorIndexStatus, catalog_service_server::CatalogService,
    import_events_request, import_items_request,
};

use super::FakeShop;

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// One message of either import.
enum Message {
    Start(ImportStart),
    Item(i64, Item, Bytes),
    Event(i64, Event),
}

impl FakeShop {
    /// Takes rows as they come and confirms every tenth, and the rest at the end.
    async fn take<T>(
        &self,
        mut messages: Streaming<T>,
        read: fn(T) -> Message,
        answers: mpsc::Sender<Result<ImportProgress, Status>>,
    ) -> Result<(), Status> {
        let Some(Message::Start(start)) = messages.message().await?.map(read) else {
            return Err(Status::invalid_argument("the first message must be `start`"));
        };
        let position = self.state().positions.get(&start.import_id).copied().unwrap_or(0);
        let mut progress = ImportProgress { durable_position: position, ..Default::default() };
        let _ = answers.send(Ok(progress.clone())).await;
        let mut taken = 0;
        while let Some(message) = messages.message().await? {
            let cut = {
                let mut state = self.state();
                let left = state.break_after_rows.as_mut().map(|left| {
                    *left -= 1;
                    *left
                });
                left == Some(0)
            };
            if cut {
                self.state().break_after_rows = None;
                self.cut();
                return Ok(());
            }
            self.take_row(read(message), &start.import_id, &mut progress);
            taken += 1;
            if taken % 10 == 0 {
                let _ = answers.send(Ok(progress.clone())).await;
                progress.errors.clear();
            }
        }
        let _ = answers.send(Ok(progress)).await;
        Ok(())
    }

    fn take_row(&self, row: Message, import_id: &str, progress: &mut ImportProgress) {
        let mut state = self.state();
        match row {
            Message::Item(position, item, _) if item.title.is_empty() => {
                let violations = vec![FieldViolation { field: "title".into(), description: "is required".into() }];
                progress.errors.push(ImportError { position, violations });
                progress.durable_position = position;
            }
            Message::Item(position, item, picture) => {
                if !picture.is_empty() {
                    match recognised(&picture) {
                        Ok(_) => _ = state.pictures.insert(item.id.clone(), picture),
                        Err(violation) => {
                            progress.errors.push(ImportError { position, violations: vec![violation] });
                        }
                    }
                }
                state.items.insert(item.id.clone(), item);
                progress.accepted_count += 1;
                progress.durable_position = position;
            }
            Message::Event(position, event) => {
                if state.events.iter().any(|known| known.event_id == event.event_id) {
                    progress.duplicate_count += 1;
                } else {
                    state.events.push(event);
                    progress.accepted_count += 1;
                }
                progress.durable_position = position;
            }
            Message::Start(_) => {}
        }
        if !import_id.is_empty() {
            state.positions.insert(import_id.to_owned(), progress.durable_position);
        }
    }

    fn import<T: Send + 'static>(&self, messages: Streaming<T>, read: fn(T) -> Message) -> Answers<ImportProgress> {
        let (answers, receiver) = mpsc::channel(16);
        let shop = self.clone();
        tokio::spawn(async move {
            if let Err(status) = shop.take(messages, read, answers.clone()).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        ReceiverStream::new(receiver)
    }
}

fn catalog(state: &super::State) -> Catalog {
    let vectors = VectorIndexStatus {
        model: "minilm".into(),
        version: 1,
        indexed_items: 40_000,
        pending_items: 52_353,
        items_per_second: 310.4,
        algorithm: "hnsw".into(),
        task: "text-embedding".into(),
    };
    Catalog {
        name: "catalogs/shop".into(),
        item_count: state.items.len() as i64,
        event_count: state.events.len() as i64,
        lexical_index: Some(IndexStatus { indexed_items: state.items.len() as i64, lag: 0 }),
        vector_indexes: vec![vectors],
        created: None,
        picture_count: state.pictures.len() as i64,
    }
}

/// The content type of a picture, or what is wrong with it.
fn recognised(picture: &[u8]) -> Result<&'static str, FieldViolation> {
    let format = image::load_from_memory(picture).and_then(|_| image::guess_format(picture));
    let violation =
        |error: image::ImageError| FieldViolation { field: "picture".into(), description: error.to_string() };
    format.map(|format| format.to_mime_type()).map_err(violation)
}

/// `a1` of `catalogs/shop/items/a1`, if there is that item.
fn known_item<'a>(state: &super::State, name: &'a str) -> Result<&'a str, Status> {
    let id = name.rsplit('/').next().unwrap_or_default();
    if state.items.contains_key(id) { Ok(id) } else { Err(Status::not_found(format!("there is no item `{id}`"))) }
}

#[async_trait]
impl CatalogService for FakeShop {
    type ImportItemsStream = Answers<ImportProgress>;
    type ImportEventsStream = Answers<ImportProgress>;
    type ExportEventsStream = Answers<Event>;

    async fn create_catalog(&self, request: Request<CreateCatalogRequest>) -> Result<Response<Catalog>, Status> {
        self.arrive("CreateCatalog", &request).await?;
        Ok(Response::new(Catalog { name: request.into_inner().name, ..Default::default() }))
    }

    async fn get_catalog(&self, request: Request<GetCatalogRequest>) -> Result<Response<Catalog>, Status> {
        self.arrive("GetCatalog", &request).await?;
        let name = request.into_inner().name;
        if name != "catalogs/shop" {
            return Err(Status::not_found(format!("there is no catalog `{name}`")));
        }
        Ok(Response::new(catalog(&self.state())))
    }

    async fn list_catalogs(
        &self,
        request: Request<ListCatalogsRequest>,
    ) -> Result<Response<ListCatalogsResponse>, Status> {
        self.arrive("ListCatalogs", &request).await?;
        let catalogs = vec![catalog(&self.state())];
        Ok(Response::new(ListCatalogsResponse { catalogs, ..Default::default() }))
    }

    async fn get_item(&self, request: Request<GetItemRequest>) -> Result<Response<Item>, Status> {
        self.arrive("GetItem", &request).await?;
        let name = request.into_inner().name;
        let id = name.rsplit('/').next().unwrap_or_default();
        let item = self.state().items.get(id).cloned();
        item.map(Response::new).ok_or_else(|| Status::not_found(format!("there is no item `{id}`")))
    }

    async fn list_items(&self, request: Request<ListItemsRequest>) -> Result<Response<ListItemsResponse>, Status> {
        self.arrive("ListItems", &request).await?;
        let request = request.into_inner();
        let state = self.state();
        let size = if request.page_size == 0 { 50 } else { request.page_size as usize };
        let after = |id: &&String| id.as_str() > request.page_token.as_str();
        let ids: Vec<&String> = state.items.keys().filter(after).take(size + 1).collect();
        let items: Vec<Item> = ids.iter().take(size).map(|id| state.items[*id].clone()).collect();
        let last = items.last().map(|item| item.id.clone()).unwrap_or_default();
        let next_page_token = if ids.len() > size { last } else { String::new() };
        Ok(Response::new(ListItemsResponse { items, next_page_token, total_size: state.items.len() as i64 }))
    }

    async fn upsert_items(
        &self,
        request: Request<UpsertItemsRequest>,
    ) -> Result<Response<UpsertItemsResponse>, Status> {
        self.arrive("UpsertItems", &request).await?;
        let items = request.into_inner().items;
        let created_count = items.len() as i64;
        self.state().items.extend(items.into_iter().map(|item| (item.id.clone(), item)));
        Ok(Response::new(UpsertItemsResponse { created_count, replaced_count: 0 }))
    }

    async fn delete_item(&self, request: Request<DeleteItemRequest>) -> Result<Response<()>, Status> {
        self.arrive("DeleteItem", &request).await?;
        let request = request.into_inner();
        let id = request.name.rsplit('/').next().unwrap_or_default();
        if self.state().items.remove(id).is_none() && !request.allow_missing {
            return Err(Status::not_found(format!("there is no item `{id}`")));
        }
        Ok(Response::new(()))
    }

    async fn put_picture(&self, request: Request<PutPictureRequest>) -> Result<Response<()>, Status> {
        self.arrive("PutPicture", &request).await?;
        let request = request.into_inner();
        let mut state = self.state();
        let id = known_item(&state, &request.name)?;
        recognised(&request.data).map_err(|violation| Status::invalid_argument(violation.description))?;
        state.pictures.insert(id.to_owned(), request.data);
        Ok(Response::new(()))
    }

    async fn get_picture(&self, request: Request<GetPictureRequest>) -> Result<Response<Picture>, Status> {
        self.arrive("GetPicture", &request).await?;
        let name = request.into_inner().name;
        let state = self.state();
        let id = known_item(&state, &name)?;
        let data = state.pictures.get(id).cloned();
        let data = data.ok_or_else(|| Status::not_found(format!("item `{id}` has no picture")))?;
        let content_type = recognised(&data).map_err(|violation| Status::internal(violation.description))?.to_owned();
        Ok(Response::new(Picture { data, content_type }))
    }

    async fn delete_picture(&self, request: Request<DeletePictureRequest>) -> Result<Response<()>, Status> {
        self.arrive("DeletePicture", &request).await?;
        let request = request.into_inner();
        let mut state = self.state();
        let id = known_item(&state, &request.name)?;
        if state.pictures.remove(id).is_none() && !request.allow_missing {
            return Err(Status::not_found(format!("item `{id}` has no picture")));
        }
        Ok(Response::new(()))
    }

    async fn import_items(
        &self,
        request: Request<Streaming<ImportItemsRequest>>,
    ) -> Result<Response<Self::ImportItemsStream>, Status> {
        self.arrive("ImportItems", &request).await?;
        let read = |request: ImportItemsRequest| match request.message.unwrap() {
            import_items_request::Message::Start(start) => Message::Start(start),
            import_items_request::Message::Item(row) => Message::Item(row.position, row.item.unwrap(), row.picture),
        };
        Ok(Response::new(self.import(request.into_inner(), read)))
    }

    async fn import_events(
        &self,
        request: Request<Streaming<ImportEventsRequest>>,
    ) -> Result<Response<Self::ImportEventsStream>, Status> {
        self.arrive("ImportEvents", &request).await?;
        let read = |request: ImportEventsRequest| match request.message.unwrap() {
            import_events_request::Message::Start(start) => Message::Start(start),
            import_events_request::Message::Event(event) => Message::Event(event.position, event.event.unwrap()),
        };
        Ok(Response::new(self.import(request.into_inner(), read)))
    }

    async fn export_events(
        &self,
        request: Request<ExportEventsRequest>,
    ) -> Result<Response<Self::ExportEventsStream>, Status> {
        self.arrive("ExportEvents", &request).await?;
        let events = self.state().events.clone();
        let (answers, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            for event in events {
                let _ = answers.send(Ok(event)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_campaign(&self, request: Request<GetCampaignRequest>) -> Result<Response<Campaign>, Status> {
        self.arrive("GetCampaign", &request).await?;
        let euros = |amount: &str| Some(Money { amount: amount.into(), currency: "EUR".into() });
        Ok(Response::new(Campaign {
            name: request.into_inner().name,
            state: CampaignState::Waiting.into(),
            spent: euros("12.40"),
            spent_today: euros("2.10"),
            impressions: 1_234,
            clicks: 31,
        }))
    }

    async fn get_control(&self, request: Request<GetControlRequest>) -> Result<Response<Control>, Status> {
        self.arrive("GetControl", &request).await?;
        let name = request.into_inner().name;
        let control = self.state().controls.get(&name).cloned();
        control.map(Response::new).ok_or_else(|| Status::not_found(format!("there is no control `{name}`")))
    }

    async fn list_controls(
        &self,
        request: Request<ListControlsRequest>,
    ) -> Result<Response<ListControlsResponse>, Status> {
        self.arrive("ListControls", &request).await?;
        let request = request.into_inner();
        let state = self.state();
        let after = |control: &&Control| control.name > request.page_token;
        let mut controls: Vec<Control> = state.controls.values().filter(after).cloned().collect();
        let more = controls.len() > request.page_size as usize;
        controls.truncate(request.page_size as usize);
        let last = controls.last().filter(|_| more).map(|control| control.name.clone());
        Ok(Response::new(ListControlsResponse { controls, next_page_token: last.unwrap_or_default() }))
    }

    async fn put_control(&self, request: Request<PutControlRequest>) -> Result<Response<Control>, Status> {
        self.arrive("PutControl", &request).await?;
        let request = request.into_inner();
        let control = request.control.ok_or_else(|| Status::invalid_argument("control is required"))?;
        if control.action.is_none() {
            let details = ErrorDetails::with_bad_request_violation("control.action", "is required");
            return Err(Status::with_error_details(Code::InvalidArgument, "the request is malformed", details));
        }
        if !request.validate_only {
            self.state().controls.insert(control.name.clone(), control.clone());
        }
        Ok(Response::new(control))
    }

    async fn delete_control(&self, request: Request<DeleteControlRequest>) -> Result<Response<()>, Status> {
        self.arrive("DeleteControl", &request).await?;
        let request = request.into_inner();
        if self.state().controls.remove(&request.name).is_none() && !request.allow_missing {
            return Err(Status::not_found(format!("there is no control `{}`", request.name)));
        }
        Ok(Response::new(()))
    }
}

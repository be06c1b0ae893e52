//! Streamed imports of items and events: what has arrived is checked and appended together, and each answer names the
//! position up to which everything is on disk.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};
use vitrine::v1::{
    Event, ImportError, ImportEventsRequest, ImportItemsRequest, ImportProgress, ImportStart, Item,
    import_events_request, import_items_request,
};

use super::{App, catalog::create_status, log_status, now_ms};
use crate::{
    check,
    error::{Violations, internal, invalid},
    image_encoder::picture,
    log::{Appended, Change, ImportPosition},
    serving::Shop,
};

/// How many lines are appended together at the most,
const CHUNK: usize = 2_000;
/// and how many bytes of pictures, before the last.
const CHUNK_BYTES: usize = 16 << 20;
const MAX_IMPORT_ID_CHARS: usize = 256;

/// A message of either import: its start, or a line and its position.
pub enum Message {
    /// The first message.
    Start(ImportStart),
    /// A line and its position.
    Line(i64, Line),
    /// A message with nothing in it.
    Empty,
}

/// What a line holds.
pub enum Line {
    /// An item and its picture. Absent: the message lacked it.
    Item(Option<Box<Item>>, Bytes),
    /// An event. Absent: the message lacked it.
    Event(Option<Box<Event>>),
}

impl From<ImportItemsRequest> for Message {
    fn from(request: ImportItemsRequest) -> Self {
        match request.message {
            Some(import_items_request::Message::Start(start)) => Self::Start(start),
            Some(import_items_request::Message::Item(line)) => {
                Self::Line(line.position, Line::Item(line.item.map(Box::new), line.picture))
            }
            None => Self::Empty,
        }
    }
}

impl From<ImportEventsRequest> for Message {
    fn from(request: ImportEventsRequest) -> Self {
        match request.message {
            Some(import_events_request::Message::Start(start)) => Self::Start(start),
            Some(import_events_request::Message::Event(line)) => {
                Self::Line(line.position, Line::Event(line.event.map(Box::new)))
            }
            None => Self::Empty,
        }
    }
}

/// Takes the start message, and goes on with the lines behind the answer.
pub async fn start<R>(
    app: &App,
    mut requests: Streaming<R>,
) -> Result<Response<std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ImportProgress, Status>> + Send>>>, Status>
where
    R: Into<Message> + Send + 'static,
{
    let Some(Message::Start(start)) = requests.message().await?.map(Into::into) else {
        return Err(invalid("start", "is required as the first message"));
    };
    let shop = open(app, &start).await?;
    let import_id = (!start.import_id.is_empty()).then_some(start.import_id);
    let reached = match &import_id {
        Some(id) => shop.catalog().import_position(id).map_err(log_status)?,
        None => 0,
    };
    let (answers, stream) = mpsc::channel(4);
    let import = Import {
        shop,
        resumable: import_id,
        progress: ImportProgress { durable_position: reached as i64, ..Default::default() },
    };
    tokio::spawn(async move {
        if let Err(status) = import.run(requests, &answers).await {
            // The client may be gone; then nobody waits for the status either.
            _ = answers.send(Err(status)).await;
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
}

async fn open(app: &App, start: &ImportStart) -> Result<Arc<Shop>, Status> {
    let mut violations = Violations::default();
    check::text(&mut violations, "start.import_id", &start.import_id, MAX_IMPORT_ID_CHARS);
    violations.into_result()?;
    let id = check::catalog_name("start.catalog", &start.catalog)?;
    if start.create_catalog && app.shops.get(&id).is_none() {
        let shops = Arc::clone(&app.shops);
        return tokio::task::spawn_blocking(move || shops.get_or_create(&id))
            .await
            .map_err(internal)?
            .map_err(create_status);
    }
    app.shop("start.catalog", &start.catalog)
}

/// An import under way.
struct Import {
    shop: Arc<Shop>,
    /// The name under which the position reached is kept.
    resumable: Option<String>,
    progress: ImportProgress,
}

/// Lines that were read together.
#[derive(Default)]
struct Chunk {
    changes: Vec<Change>,
    /// Each with its position and its item's id.
    pictures: Vec<(i64, String, Bytes)>,
    picture_bytes: usize,
    errors: Vec<ImportError>,
    lines: usize,
    last: i64,
}

impl Import {
    async fn run<R: Into<Message>>(
        mut self,
        mut requests: Streaming<R>,
        answers: &mpsc::Sender<Result<ImportProgress, Status>>,
    ) -> Result<(), Status> {
        let resumed_at = self.progress.durable_position;
        if answers.send(Ok(self.progress.clone())).await.is_err() {
            return Ok(());
        }
        let mut position = 0;
        while let Some(first) = requests.next().await {
            let mut chunk = Chunk::default();
            let mut next = Some(first);
            // Take what has arrived, without waiting for more.
            while let Some(request) = next {
                let (at, line) = match request?.into() {
                    Message::Line(at, line) => (at, line),
                    Message::Start(_) => return Err(invalid("start", "is allowed as the first message only")),
                    Message::Empty => return Err(invalid("message", "is required")),
                };
                if at <= position {
                    return Err(invalid("position", format!("is {at} after {position}; positions must grow, from 1")));
                }
                position = at;
                // Lines that an earlier attempt has recorded.
                if at > resumed_at {
                    chunk.add(at, line);
                }
                let room = chunk.lines < CHUNK && chunk.picture_bytes < CHUNK_BYTES;
                next = if room { requests.next().now_or_never().flatten() } else { None };
            }
            if chunk.lines > 0 {
                let progress = self.append(chunk).await?;
                if answers.send(Ok(progress)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn append(&mut self, mut chunk: Chunk) -> Result<ImportProgress, Status> {
        let lines = chunk.changes.len();
        chunk.read_pictures().await;
        let import = self.resumable.clone().map(|id| ImportPosition { id, position: chunk.last as u64 });
        let appended = self.shop.catalog().append_import(chunk.changes, import).await.map_err(log_status)?;
        let progress = &mut self.progress;
        progress.durable_position = chunk.last;
        // A picture is counted with its item.
        for result in appended.into_iter().take(lines) {
            match result {
                Appended::Accepted { unknown, .. } => {
                    progress.accepted_count += 1;
                    progress.unknown_item_count += i64::from(!unknown.is_empty());
                }
                Appended::Duplicate => progress.duplicate_count += 1,
            }
        }
        Ok(ImportProgress { errors: chunk.errors, ..progress.clone() })
    }
}

impl Chunk {
    /// Puts the pictures behind the items. An item whose picture cannot be used is recorded without it.
    async fn read_pictures(&mut self) {
        let pictures = std::mem::take(&mut self.pictures).into_iter();
        let read = pictures.map(|(position, id, data)| async move { (position, id, picture::kept(data).await) });
        let read: Vec<_> = stream::iter(read).buffered(picture::AT_ONCE).collect().await;
        for (position, id, kept) in read {
            match kept {
                Ok(data) => self.changes.push(Change::PutPicture(id, data)),
                Err(error) => {
                    let mut violations = Violations::default();
                    violations.add("picture", error.to_string());
                    self.errors.push(ImportError { position, violations: violations.into_messages() });
                }
            }
        }
        self.errors.sort_by_key(|error| error.position);
    }

    fn add(&mut self, position: i64, line: Line) {
        let now = now_ms();
        let mut violations = Violations::default();
        let change = match line {
            Line::Item(Some(item), picture) => {
                check::item(&mut violations, "", &item, now);
                if violations.is_empty() && !picture.is_empty() {
                    self.picture_bytes += picture.len();
                    self.pictures.push((position, item.id.clone(), picture));
                }
                Some(Change::UpsertItem(*item))
            }
            Line::Event(Some(mut event)) => {
                event.items.iter_mut().for_each(|item| item.served = None);
                check::event(&mut violations, "", &event, check::EventUse::Recorded, now);
                Some(Change::Event(*event))
            }
            Line::Item(None, _) | Line::Event(None) => {
                violations.add("", "is empty");
                None
            }
        };
        if violations.is_empty() {
            self.changes.extend(change);
        } else {
            self.errors.push(ImportError { position, violations: violations.into_messages() });
        }
        self.lines += 1;
        self.last = position;
    }
}

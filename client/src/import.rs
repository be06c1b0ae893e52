//! Long uploads of items and events.
//!
//! Rows go up in order, each with its position in the source. What the server has not yet confirmed is kept, so that
//! after a broken connection the upload goes on from the server's durable position, from any source, a pipe included.
//! With an [`ImportOptions::import_id`] even a later process goes on from there.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Response, Status, Streaming};
use vitrine::v1::{
    Event, ImportError, ImportEventsRequest, ImportItemsRequest, ImportProgress, ImportStart, ImportedEvent,
    ImportedItem, Item, import_events_request, import_items_request,
};

use crate::{
    Client, Error,
    retry::{jitter, wait_before_retry},
};

/// Where an import goes and how it is carried.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// `catalogs/{catalog}`.
    pub catalog: String,
    /// Names the source: the server keeps the position reached under this name. Empty: it does not.
    pub import_id: String,
    /// Make the catalog if there is none.
    pub create_catalog: bool,
    /// How many rows may be on their way without the server's confirmation. They are kept in memory.
    pub window: usize,
    /// How many bytes of pictures may be among them; one more picture may exceed it.
    pub window_bytes: usize,
    /// The longest silence of the server while rows are on their way.
    pub patience: Duration,
}

impl ImportOptions {
    /// An import into `catalog` with the defaults: not resumable by name, the catalog must exist, 20,000 rows on
    /// their way with 64 MiB of pictures, one minute of patience.
    pub fn into_catalog(catalog: impl Into<String>) -> Self {
        Self {
            catalog: catalog.into(),
            import_id: String::new(),
            create_catalog: false,
            window: 20_000,
            window_bytes: 64 << 20,
            patience: Duration::from_mins(1),
        }
    }
}

/// What an import has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// The position after which it began: what lies before was imported earlier, under the same `import_id`.
    pub resumed_after: i64,
    /// Everything up to this position is on disk, or was rejected.
    pub durable_position: i64,
    /// How many rows were recorded.
    pub accepted: i64,
    /// How many were known already.
    pub duplicates: i64,
    /// How many events name an item that the catalog lacks.
    pub unknown_items: i64,
    /// How many the server rejected.
    pub rejected: i64,
    /// How many items were recorded without the picture sent along: the server cannot use it.
    pub without_picture: i64,
    /// How often the connection broke and was made again.
    pub reconnects: u32,
}

/// Something an import has to tell on its way.
#[derive(Debug)]
pub enum ImportUpdate<'a> {
    /// The server confirmed more rows.
    Progress(&'a ImportSummary),
    /// The server rejected a row; the others go on.
    Rejected(&'a ImportError),
    /// The server recorded an item, but cannot use the picture sent along.
    WithoutPicture(&'a ImportError),
    /// The connection broke; it is made again after `wait`.
    Reconnecting {
        /// Why.
        error: &'a Error,
        /// How long to wait first.
        wait: Duration,
    },
}

/// An item to upload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PicturedItem {
    /// The item.
    pub item: Item,
    /// Its picture: a PNG, JPEG or WebP file of at most 10 MiB. Empty: the item keeps the one it has.
    pub picture: Bytes,
}

impl From<Item> for PicturedItem {
    fn from(item: Item) -> Self {
        Self { item, picture: Bytes::new() }
    }
}

impl Client {
    /// Uploads items, with their pictures if they are [`PicturedItem`]s, each with its position (growing, from 1).
    ///
    /// # Errors
    ///
    /// The first failure that a new attempt cannot mend; everything up to
    /// [`durable_position`](ImportSummary::durable_position) of the last update is on disk.
    pub async fn import_items<T: Into<PicturedItem>>(
        &self,
        options: ImportOptions,
        items: impl Stream<Item = (i64, T)> + Unpin,
        update: impl FnMut(ImportUpdate<'_>),
    ) -> Result<ImportSummary, Error> {
        let items = items.map(|(position, item)| (position, item.into()));
        Upload::new(self, options, items, update).run().await
    }

    /// Uploads events, as [`import_items`](Self::import_items) does items.
    pub async fn import_events(
        &self,
        options: ImportOptions,
        events: impl Stream<Item = (i64, Event)> + Unpin,
        update: impl FnMut(ImportUpdate<'_>),
    ) -> Result<ImportSummary, Error> {
        Upload::new(self, options, events, update).run().await
    }
}

type Opened = Result<Response<Streaming<ImportProgress>>, Status>;

/// What can be uploaded.
trait Row: Clone {
    type Message: Send + 'static;
    const METHOD: &'static str;
    /// What counts towards [`ImportOptions::window_bytes`].
    fn bytes(&self) -> usize;
    fn start(start: ImportStart) -> Self::Message;
    fn carry(self, position: i64) -> Self::Message;
    fn open(client: &Client, messages: mpsc::Receiver<Self::Message>) -> impl Future<Output = Opened>;
}

impl Row for PicturedItem {
    type Message = ImportItemsRequest;
    const METHOD: &'static str = "ImportItems";

    fn bytes(&self) -> usize {
        self.picture.len()
    }

    fn start(start: ImportStart) -> Self::Message {
        ImportItemsRequest { message: Some(import_items_request::Message::Start(start)) }
    }

    fn carry(self, position: i64) -> Self::Message {
        let item = ImportedItem { position, item: Some(self.item), picture: self.picture };
        ImportItemsRequest { message: Some(import_items_request::Message::Item(item)) }
    }

    async fn open(client: &Client, messages: mpsc::Receiver<Self::Message>) -> Opened {
        client.catalog().import_items(ReceiverStream::new(messages)).await
    }
}

impl Row for Event {
    type Message = ImportEventsRequest;
    const METHOD: &'static str = "ImportEvents";

    fn bytes(&self) -> usize {
        0
    }

    fn start(start: ImportStart) -> Self::Message {
        ImportEventsRequest { message: Some(import_events_request::Message::Start(start)) }
    }

    fn carry(self, position: i64) -> Self::Message {
        let event = ImportedEvent { position, event: Some(self) };
        ImportEventsRequest { message: Some(import_events_request::Message::Event(event)) }
    }

    async fn open(client: &Client, messages: mpsc::Receiver<Self::Message>) -> Opened {
        client.catalog().import_events(ReceiverStream::new(messages)).await
    }
}

/// One import, over as many connections as it takes.
struct Upload<'a, R, S, U> {
    client: &'a Client,
    options: ImportOptions,
    source: S,
    source_ended: bool,
    /// Read from the source, not confirmed yet.
    window: VecDeque<(i64, R)>,
    /// The bytes of the window's pictures.
    bytes: usize,
    /// How many of the window's rows were sent on this connection.
    sent: usize,
    /// Rows whose errors were told already: one that is sent again after a break is told once.
    told: HashSet<i64>,
    /// The sums of the connections before this one.
    before: ImportSummary,
    summary: ImportSummary,
    update: U,
}

/// Why a connection's part of the upload ended early.
enum Broken {
    /// Try again.
    Status(Status),
    /// Do not.
    Error(Error),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl<'a, R, S, U> Upload<'a, R, S, U>
where
    R: Row,
    S: Stream<Item = (i64, R)> + Unpin,
    U: FnMut(ImportUpdate<'_>),
{
    fn new(client: &'a Client, options: ImportOptions, source: S, update: U) -> Self {
        Self {
            client,
            options,
            source,
            source_ended: false,
            window: VecDeque::new(),
            bytes: 0,
            sent: 0,
            told: HashSet::new(),
            before: ImportSummary::default(),
            summary: ImportSummary::default(),
            update,
        }
    }

    async fn run(mut self) -> Result<ImportSummary, Error> {
        let mut attempt = 0;
        loop {
            let reached = self.summary.durable_position;
            let status = match self.carry_on().await {
                Ok(()) => return Ok(self.summary),
                Err(Broken::Error(error)) => return Err(error),
                Err(Broken::Status(status)) => status,
            };
            if self.summary.durable_position > reached {
                attempt = 0;
            }
            attempt += 1;
            let options = self.client.options();
            let error = Error::from_status(R::METHOD, &status, attempt);
            let wait = wait_before_retry(&status, attempt, options.backoff, jitter);
            let Some(wait) = wait.filter(|_| attempt <= options.retries) else { return Err(error) };
            (self.update)(ImportUpdate::Reconnecting { error: &error, wait });
            sleep(wait).await;
            self.summary.reconnects += 1;
            self.before = self.summary;
        }
    }

    /// Uploads over one connection until everything is confirmed or the connection breaks.
    async fn carry_on(&mut self) -> Result<(), Broken> {
        let (messages, receiver) = mpsc::channel(256);
        let start = ImportStart {
            catalog: self.options.catalog.clone(),
            import_id: self.options.import_id.clone(),
            create_catalog: self.options.create_catalog,
        };
        // The channel is new and has room.
        messages.try_send(R::start(start)).map_err(|_| Status::internal("the upload did not start"))?;
        let patience = self.options.patience;
        let begun = tokio::time::timeout(patience, async {
            let mut answers = R::open(self.client, receiver).await?.into_inner();
            let first = answers.message().await?;
            Ok::<_, Status>((answers, first))
        });
        let (mut answers, first) = begun.await.map_err(|_| silence(patience))??;
        self.resume(&first.ok_or_else(ended_early)?)?;

        let mut messages = Some(messages);
        let mut heard = true;
        loop {
            if !heard || self.source_ended && self.sent == self.window.len() {
                messages = None; // Everything is sent: the server confirms the rest and ends.
            }
            let open = messages.as_ref();
            let has_row = self.sent < self.window.len();
            let has_room = self.window.len() < self.options.window && self.bytes < self.options.window_bytes;
            tokio::select! {
                biased;
                answer = answers.message() => match answer? {
                    Some(progress) => self.confirm(&progress),
                    None if messages.is_none() && self.window.is_empty() => return Ok(()),
                    None => return Err(ended_early().into()),
                },
                permit = reserve(open), if open.is_some() && has_row => match (permit, self.window.get(self.sent)) {
                    (Some(permit), Some((position, row))) => {
                        permit.send(row.clone().carry(*position));
                        self.sent += 1;
                    }
                    // The server listens no more; its last answer says why.
                    _ => heard = false,
                },
                row = self.source.next(), if open.is_some() && !has_row && has_room && !self.source_ended => match row {
                    Some((position, row)) if position > self.summary.durable_position => {
                        self.bytes += row.bytes();
                        self.window.push_back((position, row));
                    }
                    Some(_) => {} // Imported before this run.
                    None => self.source_ended = true,
                },
                () = sleep(patience), if !self.window.is_empty() => return Err(silence(patience).into()),
            }
        }
    }

    /// Takes the server's first answer: where it stands.
    fn resume(&mut self, first: &ImportProgress) -> Result<(), Broken> {
        let stands = first.durable_position;
        if self.summary.reconnects == 0 {
            self.summary.resumed_after = stands;
            self.summary.durable_position = stands;
        } else if !self.options.import_id.is_empty() && stands < self.summary.durable_position {
            let detail = format!(
                "it had everything up to position {} and now has {stands}: what is between must be imported again",
                self.summary.durable_position
            );
            return Err(Broken::Error(Error::Protocol { method: R::METHOD, detail }));
        }
        // Recorded before the break, though the answer that said so was lost.
        self.before.accepted += self.forget_up_to(stands);
        self.sent = 0;
        self.confirm(first);
        Ok(())
    }

    fn confirm(&mut self, progress: &ImportProgress) {
        for error in progress.errors.iter().filter(|error| self.told.insert(error.position)) {
            let mut fields = error.violations.iter().map(|violation| violation.field.as_str()).peekable();
            if fields.peek().is_some() && fields.all(|field| field == "picture") {
                self.summary.without_picture += 1;
                (self.update)(ImportUpdate::WithoutPicture(error));
            } else {
                self.summary.rejected += 1;
                (self.update)(ImportUpdate::Rejected(error));
            }
        }
        self.summary.accepted = self.before.accepted + progress.accepted_count;
        self.summary.duplicates = self.before.duplicates + progress.duplicate_count;
        self.summary.unknown_items = self.before.unknown_items + progress.unknown_item_count;
        self.forget_up_to(progress.durable_position);
        (self.update)(ImportUpdate::Progress(&self.summary));
    }

    fn forget_up_to(&mut self, durable: i64) -> i64 {
        let count = self.window.iter().take_while(|(position, _)| *position <= durable).count();
        self.bytes -= self.window.drain(..count).map(|(_, row)| row.bytes()).sum::<usize>();
        self.sent = self.sent.saturating_sub(count);
        self.summary.durable_position = self.summary.durable_position.max(durable);
        count as i64
    }
}

/// A place in the channel; `None` when nobody listens any more.
async fn reserve<T>(messages: Option<&mpsc::Sender<T>>) -> Option<mpsc::Permit<'_, T>> {
    messages?.reserve().await.ok()
}

fn ended_early() -> Status {
    Status::unavailable("the server ended the import before everything was confirmed")
}

fn silence(patience: Duration) -> Status {
    Status::unavailable(format!("the server did not answer for {patience:?}"))
}

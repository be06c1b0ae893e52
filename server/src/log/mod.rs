//! The ordered, durable log of a catalog's changes: the one source of everything else.
//!
//! [`Log`] is what a catalog needs from an engine; [`sqlite`] is the embedded one.

pub mod sqlite;

mod error;
mod patch;
mod schema;

use std::sync::Arc;

use bytes::Bytes;
use vitrine::v1::{Control, Event, Item};

use crate::Doc;

pub use error::LogError;
pub use patch::{Field, Patch};

/// A position in the log, from 1. 0 is before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Something that happens to a catalog.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An item is added, or replaces the one with its id.
    UpsertItem(Item),
    /// Some fields of an item that exists are replaced. The log holds the whole item that comes of it.
    PatchItem(Patch),
    /// The item with this id is removed.
    DeleteItem(String),
    /// A user did something.
    Event(Event),
    /// A control is added, or replaces the one with its id.
    PutControl(ControlId, Control),
    /// The control with this id is removed.
    DeleteControl(ControlId),
    /// The item with this id gets this picture, a file's bytes, in place of the one it has; an item that does not exist gets none.
    PutPicture(String, Bytes),
    /// The item with this id has no picture any more.
    DeletePicture(String),
}

/// The last part of a control's name.
pub type ControlId = Arc<str>;

/// A change as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its position.
    pub seq: Seq,
    /// When it was recorded, in unix milliseconds.
    pub recorded_ms: i64,
    /// The change.
    pub change: Change,
}

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable and shows.
    Accepted {
        /// The position at which it shows. For a change that changed nothing (an item as it already was, the removal
        /// of no item) nothing is recorded, and this is the position of the record before.
        seq: Seq,
        /// Of an event: its items, in their order. Of an item or its picture: itself. Empty for the removal of an id never seen.
        docs: Vec<Doc>,
        /// Of an item or a control: whether it was there before. A patch of one that was not changed nothing. Of a picture that is put:
        /// whether its item is there; of one that is removed: whether it was.
        existed: bool,
        /// Of an event: ids that the catalog has no item of, each once.
        unknown: Vec<String>,
    },
    /// An event of that id was recorded before; nothing changed.
    Duplicate,
}

impl Appended {
    /// Whether the item or control was there before.
    pub fn existed(&self) -> bool {
        matches!(self, Self::Accepted { existed: true, .. })
    }
}

/// How far an import has come, in positions of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportPosition {
    /// The source's name.
    pub id: String,
    /// Everything up to here is recorded. It never goes back.
    pub position: u64,
}

/// A change as the catalog wants it recorded: it does change something, and its ids have their docs.
#[derive(Clone, Debug)]
pub enum Entry {
    /// An item is added or replaced.
    Upsert(Doc, Arc<Item>),
    /// The item of this doc and id is removed.
    Delete(Doc, Arc<str>),
    /// A user did something.
    Event(Box<Event>),
    /// A control is added or replaced.
    PutControl(ControlId, Arc<Control>),
    /// A control is removed.
    DeleteControl(ControlId),
    /// The item of this doc and id gets a picture.
    PutPicture(Doc, Arc<str>, Picture),
    /// The item of this doc and id loses its picture.
    DeletePicture(Doc, Arc<str>),
}

/// An item's picture: a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its bytes.
    pub data: Bytes,
    /// Tells it from other pictures.
    pub hash: u64,
}

/// What is recorded together, all or none.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// When, in unix milliseconds.
    pub recorded_ms: i64,
    /// Ids that get their doc now.
    pub docs: Vec<(Doc, Arc<str>)>,
    /// The changes, in their order.
    pub entries: Vec<Entry>,
    /// The imports they come from.
    pub imports: Vec<ImportPosition>,
}

/// What a log holds, as a catalog needs it to start.
#[derive(Debug, Default)]
pub struct Contents {
    /// The last position.
    pub head: Seq,
    /// How many events there are.
    pub event_count: u64,
    /// When the log was made, in unix milliseconds.
    pub created_ms: i64,
    /// All ids, by doc.
    pub ids: Vec<String>,
    /// The items that exist.
    pub items: Vec<Item>,
    /// The controls that exist, by id.
    pub controls: Vec<(ControlId, Control)>,
    /// The pictures that exist, by the hashes they were recorded with.
    pub pictures: Vec<(Doc, u64)>,
}

/// What is followed by the position of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Items.
    Items,
    /// Pictures of items; the removal of an item that has one is a change of it.
    Pictures,
}

/// Which records to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// All of them.
    All,
    /// Only events.
    Events,
    /// Only the events of one person.
    Of(Who),
}

/// One person. An event that names a user and a visitor is the user's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The known user of that id.
    User(String),
    /// The anonymous visitor of that id.
    Visitor(String),
}

impl Who {
    /// Who is meant by both ids, of which one may be empty.
    pub fn of(user_id: &str, visitor_id: &str) -> Self {
        if user_id.is_empty() { Self::Visitor(visitor_id.to_owned()) } else { Self::User(user_id.to_owned()) }
    }

    /// Whether they are meant by both ids.
    pub fn is(&self, user_id: &str, visitor_id: &str) -> bool {
        match self {
            Self::User(id) => user_id == id,
            Self::Visitor(id) => user_id.is_empty() && visitor_id == id,
        }
    }

    /// Whether the event is theirs.
    pub fn did(&self, event: &Event) -> bool {
        self.is(&event.user_id, &event.visitor_id)
    }
}

/// An engine that keeps one catalog's log. One thread appends, any number read meanwhile; they never wait for it.
pub trait Log: Send + Sync {
    /// Everything a catalog starts with.
    fn load(&self) -> Result<Contents, LogError>;

    /// Records a group; it is durable on return. Of a picture that is replaced or removed only the position is kept. On an error nothing of it is recorded, and the next group may succeed.
    /// Answers the position of each entry, `None` for an event whose id is recorded already (or twice in the group).
    fn append(&self, group: &Group) -> Result<Vec<Option<Seq>>, LogError>;

    /// The records after `after`, at most `limit`, in their order.
    fn read(&self, after: Seq, limit: usize, which: &Records) -> Result<Vec<Record>, LogError>;

    /// Removes what these records hold, events all of them, so that the disk no longer has it; their positions stay
    /// taken. It is durable on return. On an error nothing is removed. Answers how many were not removed before.
    fn erase_events(&self, seqs: &[Seq]) -> Result<u64, LogError>;

    /// Of what changed last after `after` and not after `until`: the positions and items, in the order of those changes, at most
    /// `limit`.
    fn changed(&self, what: Followed, after: Seq, until: Seq, limit: usize) -> Result<Vec<(Seq, Doc)>, LogError>;

    /// The picture of an item, if it has one.
    fn picture(&self, doc: Doc) -> Result<Option<Bytes>, LogError>;

    /// How far the import of this id has come. 0: it is not known.
    fn import_position(&self, import_id: &str) -> Result<u64, LogError>;
}

//! The embedded log: one SQLite file in WAL mode.
//!
//! A transaction is durable when its commit returns (`synchronous = FULL`: the WAL is synced). Readers have connections
//! of their own and see the last commit; a write in progress neither blocks them nor shows.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use rusqlite::{
    CachedStatement, Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
    params_from_iter, types::Value,
};
use vitrine::v1::{Control, Event, Item};

use super::schema::{self, DELETE, DELETE_CONTROL, DELETE_PICTURE, ERASED, EVENT, PUT_CONTROL, PUT_PICTURE, UPSERT};
use super::{Change, Contents, Entry, Followed, Group, Log, LogError, Record, Records, Seq, Who};
use crate::Doc;

/// Idle read connections that are kept.
const IDLE_READERS: usize = 4;

/// A log in a SQLite file.
pub struct SqliteLog {
    path: PathBuf,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
}

struct Writer {
    connection: Connection,
    head: Seq,
}

impl SqliteLog {
    /// Opens the log at `path`, or makes an empty one. Its directory must exist.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let connection = schema::open_writer(path)?;
        let head = connection
            .query_row("SELECT coalesce(max(seq), 0) FROM log", [], |row| row.get(0).map(position))
            .map_err(|error| LogError::sqlite(path, error))?;
        // Opened now, so that reading needs no new file when the disk is full.
        let readers = Mutex::new(vec![schema::open_reader(path)?]);
        Ok(Self { path: path.to_path_buf(), writer: Mutex::new(Writer { connection, head }), readers })
    }

    /// Limits the file's size in pages, so that a test can fill it.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, free: Option<u32>) {
        let writer = self.writer.lock();
        let used: u32 = writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let limit = free.map_or(u32::MAX - 1, |free| used + free);
        writer.connection.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(())).unwrap();
    }

    /// Runs `read` on a connection that only reads.
    fn reading<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LogError> {
        let idle = self.readers.lock().pop();
        let connection = idle.map_or_else(|| schema::open_reader(&self.path), Ok)?;
        let answer = read(&connection).map_err(|error| self.sorted(error))?;
        let mut readers = self.readers.lock();
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        Ok(answer)
    }

    fn sorted(&self, error: rusqlite::Error) -> LogError {
        LogError::sqlite(&self.path, error)
    }

    fn corrupt(&self, detail: String) -> LogError {
        LogError::Corrupt { path: self.path.clone(), detail }
    }

    fn record(&self, row: RawRecord) -> Result<Record, LogError> {
        let RawRecord { seq, recorded_ms, kind, key, payload } = row;
        let undecodable = |error| self.corrupt(format!("record {seq}: {error}"));
        let change = match kind {
            UPSERT => Change::UpsertItem(Item::decode(payload.as_slice()).map_err(undecodable)?),
            DELETE => Change::DeleteItem(key),
            EVENT => Change::Event(Event::decode(payload.as_slice()).map_err(undecodable)?),
            PUT_CONTROL => Change::PutControl(key.into(), Control::decode(payload.as_slice()).map_err(undecodable)?),
            DELETE_CONTROL => Change::DeleteControl(key.into()),
            PUT_PICTURE => Change::PutPicture(key, payload.into()),
            DELETE_PICTURE => Change::DeletePicture(key),
            _ => return Err(self.corrupt(format!("record {seq}: kind {kind}"))),
        };
        Ok(Record { seq: position(seq), recorded_ms, change })
    }
}

impl Log for SqliteLog {
    fn load(&self) -> Result<Contents, LogError> {
        // One read transaction: all of one moment.
        let (contents, items, controls) = self.reading(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let meta = |key: &str| {
                transaction.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, i64>(0))
            };
            let contents = Contents {
                head: transaction
                    .query_row("SELECT coalesce(max(seq), 0) FROM log", [], |row| row.get(0).map(position))?,
                event_count: meta("event_count")? as u64,
                created_ms: meta("created_ms")?,
                ids: transaction
                    .prepare("SELECT id FROM docs ORDER BY doc")?
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?,
                pictures: transaction
                    .prepare("SELECT doc, hash FROM pictures WHERE hash IS NOT NULL")?
                    .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?
                    .collect::<rusqlite::Result<_>>()?,
                ..Contents::default()
            };
            let items = transaction
                .prepare("SELECT payload FROM items JOIN log USING (seq) WHERE kind = ?1 ORDER BY seq")?
                .query_map([UPSERT], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<Vec<u8>>>>()?;
            let controls = transaction
                .prepare("SELECT id, payload FROM controls JOIN log USING (seq) ORDER BY id")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, Vec<u8>)>>>()?;
            Ok((contents, items, controls))
        })?;
        let items = items
            .iter()
            .map(|payload| Item::decode(payload.as_slice()).map_err(|error| self.corrupt(format!("an item: {error}"))))
            .collect::<Result<_, _>>()?;
        let decoded = |(id, payload): &(String, Vec<u8>)| {
            let control = Control::decode(payload.as_slice());
            Ok((id.as_str().into(), control.map_err(|error| self.corrupt(format!("control {id}: {error}")))?))
        };
        let controls = controls.iter().map(decoded).collect::<Result<_, _>>()?;
        Ok(Contents { items, controls, ..contents })
    }

    fn append(&self, group: &Group) -> Result<Vec<Option<Seq>>, LogError> {
        let mut writer = self.writer.lock();
        let Writer { connection, head } = &mut *writer;
        // Dropping the transaction on an early return rolls it back.
        let (last, seqs) = write(connection, *head, group).map_err(|error| self.sorted(error))?;
        *head = last;
        Ok(seqs)
    }

    fn read(&self, after: Seq, limit: usize, which: &Records) -> Result<Vec<Record>, LogError> {
        let wanted = match which {
            Records::All => "kind != 4",
            Records::Events => "kind = 3",
            Records::Of(_) => "kind = 3 AND instr(payload, ?3) > 0",
        };
        let query = format!(
            "SELECT seq, recorded_ms, kind, key, payload FROM log WHERE seq > ?1 AND {wanted} ORDER BY seq LIMIT ?2"
        );
        let named = if let Records::Of(who) = which { Some(encoded(who)) } else { None };
        let mut after = after;
        let mut records = Vec::new();
        loop {
            let wanted = limit - records.len();
            let values = [after.0 as i64, wanted as i64].map(Value::Integer);
            let values = values.into_iter().chain(named.clone().map(Value::Blob));
            let rows = self.reading(|connection| {
                connection
                    .prepare_cached(&query)?
                    .query_map(params_from_iter(values), RawRecord::read)?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })?;
            let read = rows.len();
            for row in rows {
                let record = self.record(row)?;
                after = record.seq;
                match (which, &record.change) {
                    // The bytes that name a person may stand for something else.
                    (Records::Of(who), Change::Event(event)) if !who.did(event) => {}
                    _ => records.push(record),
                }
            }
            if read < wanted || records.len() == limit {
                return Ok(records);
            }
        }
    }

    fn erase_events(&self, seqs: &[Seq]) -> Result<u64, LogError> {
        let mut writer = self.writer.lock();
        let connection = &mut writer.connection;
        // What is removed is overwritten (`secure_delete`), and does not stay behind in the WAL.
        let erase = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut erased = 0;
            {
                let mut erase = transaction
                    .prepare("UPDATE log SET kind = ?1, key = '', payload = NULL WHERE seq = ?2 AND kind = ?3")?;
                for seq in seqs {
                    erased += erase.execute(params![ERASED, seq.0 as i64, EVENT])?;
                }
                transaction.execute("UPDATE meta SET value = value - ?1 WHERE key = 'event_count'", [erased as i64])?;
            }
            transaction.commit()?;
            let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))?;
            Ok((erased as u64, busy != 0))
        };
        let (erased, busy) = erase(connection).map_err(|error| self.sorted(error))?;
        if busy {
            tracing::warn!("a reader keeps erased events in the log's WAL until its next checkpoint");
        }
        Ok(erased)
    }

    fn changed(&self, what: Followed, after: Seq, until: Seq, limit: usize) -> Result<Vec<(Seq, Doc)>, LogError> {
        let table = match what {
            Followed::Items => "items",
            Followed::Pictures => "pictures",
        };
        let query = format!("SELECT seq, doc FROM {table} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3");
        self.reading(|connection| {
            connection
                .prepare_cached(&query)?
                .query_map([after.0 as i64, until.0 as i64, limit as i64], |row| {
                    Ok((position(row.get(0)?), row.get(1)?))
                })?
                .collect()
        })
    }

    fn picture(&self, doc: Doc) -> Result<Option<Bytes>, LogError> {
        let data: Option<Vec<u8>> = self.reading(|connection| {
            connection
                .prepare_cached(
                    "SELECT payload FROM pictures JOIN log USING (seq) WHERE doc = ?1 AND hash IS NOT NULL",
                )?
                .query_row([doc], |row| row.get(0))
                .optional()
        })?;
        Ok(data.map(Bytes::from))
    }

    fn import_position(&self, import_id: &str) -> Result<u64, LogError> {
        let position: Option<i64> = self.reading(|connection| {
            connection
                .prepare_cached("SELECT position FROM imports WHERE id = ?1")?
                .query_row([import_id], |row| row.get(0))
                .optional()
        })?;
        Ok(position.unwrap_or(0) as u64)
    }
}

/// How an event names a person, as a part of its encoding.
fn encoded(who: &Who) -> Vec<u8> {
    let named = match who {
        Who::User(id) => Event { user_id: id.clone(), ..Event::default() },
        Who::Visitor(id) => Event { visitor_id: id.clone(), ..Event::default() },
    };
    named.encode_to_vec()
}

/// One transaction. Answers the new head and the entries' positions.
fn write(connection: &mut Connection, mut head: Seq, group: &Group) -> rusqlite::Result<(Seq, Vec<Option<Seq>>)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut seqs = Vec::with_capacity(group.entries.len());
    let mut events = 0;
    {
        let mut add_doc = transaction.prepare_cached("INSERT INTO docs (doc, id) VALUES (?1, ?2)")?;
        let mut add_record = transaction.prepare_cached(
            "INSERT INTO log (seq, recorded_ms, kind, key, payload) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key) WHERE kind = 3 DO NOTHING",
        )?;
        let mut set_item = transaction.prepare_cached(
            "INSERT INTO items (doc, seq) VALUES (?1, ?2) ON CONFLICT (doc) DO UPDATE SET seq = excluded.seq",
        )?;
        let mut set_control = transaction.prepare_cached(
            "INSERT INTO controls (id, seq) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET seq = excluded.seq",
        )?;
        let mut drop_control = transaction.prepare_cached("DELETE FROM controls WHERE id = ?1")?;
        let mut pictures = Pictures::of(&transaction)?;
        for (doc, id) in &group.docs {
            add_doc.execute(params![doc, id])?;
        }
        let mut payload = Vec::new();
        for entry in &group.entries {
            let seq = (head.0 + 1) as i64;
            payload.clear();
            let written = match entry {
                Entry::Upsert(doc, item) => {
                    item.encode_raw(&mut payload);
                    set_item.execute(params![doc, seq])?;
                    add_record.execute(params![seq, group.recorded_ms, UPSERT, item.id, payload])?
                }
                Entry::Delete(doc, id) => {
                    pictures.remove(*doc, seq)?;
                    set_item.execute(params![doc, seq])?;
                    add_record.execute(params![seq, group.recorded_ms, DELETE, id, payload])?
                }
                Entry::Event(event) => {
                    event.encode_raw(&mut payload);
                    let written =
                        add_record.execute(params![seq, group.recorded_ms, EVENT, event.event_id, payload])?;
                    events += written as i64;
                    written
                }
                Entry::PutControl(id, control) => {
                    control.encode_raw(&mut payload);
                    set_control.execute(params![id, seq])?;
                    add_record.execute(params![seq, group.recorded_ms, PUT_CONTROL, id, payload])?
                }
                Entry::DeleteControl(id) => {
                    drop_control.execute([id])?;
                    add_record.execute(params![seq, group.recorded_ms, DELETE_CONTROL, id, payload])?
                }
                Entry::PutPicture(doc, id, picture) => {
                    pictures.put(*doc, seq, picture.hash)?;
                    add_record.execute(params![seq, group.recorded_ms, PUT_PICTURE, id, &picture.data[..]])?
                }
                Entry::DeletePicture(doc, id) => {
                    pictures.remove(*doc, seq)?;
                    add_record.execute(params![seq, group.recorded_ms, DELETE_PICTURE, id, payload])?
                }
            };
            seqs.push((written > 0).then_some(position(seq)));
            head.0 += written as u64;
        }
        if events > 0 {
            transaction
                .prepare_cached("UPDATE meta SET value = value + ?1 WHERE key = 'event_count'")?
                .execute([events])?;
        }
        let mut set_import = transaction.prepare_cached(
            "INSERT INTO imports (id, position) VALUES (?1, ?2)
             ON CONFLICT (id) DO UPDATE SET position = max(position, excluded.position)",
        )?;
        for import in &group.imports {
            set_import.execute(params![import.id, import.position as i64])?;
        }
    }
    transaction.commit()?;
    Ok((head, seqs))
}

/// Keeps the table of pictures in step with the log, which forgets those that are replaced.
struct Pictures<'a> {
    forget: CachedStatement<'a>,
    put: CachedStatement<'a>,
    remove: CachedStatement<'a>,
}

impl<'a> Pictures<'a> {
    fn of(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            forget: transaction.prepare_cached(
                "UPDATE log SET kind = ?1, key = '', payload = NULL
                 WHERE seq = (SELECT seq FROM pictures WHERE doc = ?2 AND hash IS NOT NULL)",
            )?,
            put: transaction.prepare_cached("INSERT OR REPLACE INTO pictures (doc, seq, hash) VALUES (?1, ?2, ?3)")?,
            remove: transaction
                .prepare_cached("UPDATE pictures SET seq = ?2, hash = NULL WHERE doc = ?1 AND hash IS NOT NULL")?,
        })
    }

    fn put(&mut self, doc: Doc, seq: i64, hash: u64) -> rusqlite::Result<usize> {
        self.forget.execute(params![ERASED, doc])?;
        self.put.execute(params![doc, seq, hash.cast_signed()])
    }

    fn remove(&mut self, doc: Doc, seq: i64) -> rusqlite::Result<usize> {
        self.forget.execute(params![ERASED, doc])?;
        self.remove.execute(params![doc, seq])
    }
}

/// A row of `log`, before its payload is decoded (outside of the connection's use).
struct RawRecord {
    seq: i64,
    recorded_ms: i64,
    kind: i64,
    key: String,
    payload: Vec<u8>,
}

impl RawRecord {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            recorded_ms: row.get(1)?,
            kind: row.get(2)?,
            key: row.get(3)?,
            payload: row.get(4)?,
        })
    }
}

fn position(seq: i64) -> Seq {
    Seq(seq as u64)
}

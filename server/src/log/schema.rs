//! The tables of the embedded log, and how its file is opened.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use super::LogError;

/// The format this code writes, and the newest it reads.
const FORMAT: i64 = 3;

/// Values of `log.kind`.
pub(super) const UPSERT: i64 = 1;
pub(super) const DELETE: i64 = 2;
pub(super) const EVENT: i64 = 3;
/// An event that was erased, or a picture that was replaced or removed: `key` is empty and `payload` is null.
pub(super) const ERASED: i64 = 4;
pub(super) const PUT_CONTROL: i64 = 5;
pub(super) const DELETE_CONTROL: i64 = 6;
pub(super) const PUT_PICTURE: i64 = 7;
pub(super) const DELETE_PICTURE: i64 = 8;

// `log` is the truth; `docs`, `items`, `controls` and `pictures` are kept in the same transactions so that a start need not
// read all of it. `log.key` is the id of the item, event or control, `log.payload` itself as protocol buffer, or a picture's file.
// `items` holds the position of each item's last change, so also of its removal.
const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE log (
        seq INTEGER PRIMARY KEY,
        recorded_ms INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        key TEXT NOT NULL,
        payload BLOB
    ) STRICT;
    CREATE UNIQUE INDEX log_event_id ON log (key) WHERE kind = 3;
    CREATE TABLE docs (doc INTEGER PRIMARY KEY, id TEXT NOT NULL) STRICT;
    CREATE TABLE items (doc INTEGER PRIMARY KEY, seq INTEGER NOT NULL UNIQUE) STRICT;
    CREATE TABLE imports (id TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";
/// What later formats have beside them: controls that exist, each with the position where it was put; the position of each picture's
/// last change, so also of its removal, when `hash` is null.
const ADDED: [(i64, &str); 2] = [
    (2, "CREATE TABLE controls (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;"),
    (3, "CREATE TABLE pictures (doc INTEGER PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, hash INTEGER) STRICT;"),
];

/// Opens the one connection that writes; makes the tables if the file is new.
pub(super) fn open_writer(path: &Path) -> Result<Connection, LogError> {
    let sorted = |error| LogError::sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sorted)?;
    // 64 MiB of cache: event ids arrive in no order, and their index should stay in memory.
    // Always `secure_delete`: rows that were moved to another page before they are erased leave no copy behind.
    // A checkpoint of the WAL each 16 MiB: a bulk import then writes each page of that index less often.
    connection
        .execute_batch(
            "PRAGMA secure_delete = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;
             PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(sorted)?;
    connection.set_prepared_statement_cache_capacity(32);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sorted)?;
    let found = format(&transaction).map_err(sorted)?;
    if let Some(found) = found.filter(|found| !(1..=FORMAT).contains(found)) {
        return Err(LogError::Newer { path: path.to_path_buf(), found, known: FORMAT });
    }
    if found.is_none() {
        transaction.execute_batch(TABLES).map_err(sorted)?;
        let created_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        for (key, value) in [("format", FORMAT), ("created_ms", created_ms), ("event_count", 0)] {
            transaction.execute("INSERT INTO meta VALUES (?1, ?2)", (key, value)).map_err(sorted)?;
        }
    }
    if found != Some(FORMAT) {
        for (_, tables) in ADDED.iter().filter(|(format, _)| found.is_none_or(|found| found < *format)) {
            transaction.execute_batch(tables).map_err(sorted)?;
        }
        transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'format'", [FORMAT]).map_err(sorted)?;
    }
    transaction.commit().map_err(sorted)?;
    Ok(connection)
}

/// Opens a connection that only reads, and never waits for the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, LogError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| LogError::sqlite(path, error))
}

/// The file's format; `None` if there are no tables yet.
fn format(transaction: &Transaction<'_>) -> rusqlite::Result<Option<i64>> {
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(None);
    }
    let format =
        transaction.query_row("SELECT value FROM meta WHERE key = 'format'", [], |row| row.get(0)).optional()?;
    Ok(Some(format.unwrap_or(0)))
}

//! The vectors of one generation on disk: a SQLite table with a checksum in every row, and the watermark, changed together.
//!
//! Everything here can be made again from the catalogue, so commits are not synced one by one: after a power cut the file
//! holds an earlier state with that state's watermark. A damaged file never keeps a server from starting: what can be
//! read and has the right checksum is kept, and the watermark goes back to 0, so that every item is looked at again.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::VectorError;
use crate::Doc;
use crate::hash::fnv1a;

/// Raised when the table changes; a file of another format is made anew.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE vectors (doc INTEGER PRIMARY KEY, hash INTEGER NOT NULL, row BLOB NOT NULL, sum INTEGER NOT NULL);
    CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// One vector with what it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The item.
    pub doc: Doc,
    /// Of the text that was embedded.
    pub content_hash: u64,
    /// The vector.
    pub row: Vec<f16>,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
}

/// What was found in the file.
#[derive(Debug, Default)]
pub struct Found {
    /// In order of `doc`.
    pub entries: Vec<Entry>,
    /// The position in the log up to which the entries are complete.
    pub watermark: u64,
}

/// Why a file is not used as it is.
enum Unfit {
    Damaged,
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // The last two: a column of the wrong type, a table that is not there.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => Self::Damaged,
            Some(_) => Self::Failed(error),
        }
    }
}

impl Store {
    /// Opens or makes `path` and reads all that is in it, for vectors of `dimensions` numbers.
    pub fn open(path: &Path, dimensions: usize) -> Result<(Self, Found), VectorError> {
        let failed = |source| VectorError::Store { path: path.to_owned(), source };
        let mut found = Found::default();
        let store = Self { db: Connection::open(path).map_err(failed)?, path: path.to_owned() };
        match store.read(dimensions, &mut found) {
            Ok(()) => Ok((store, found)),
            Err(Unfit::Failed(source)) => Err(failed(source)),
            Err(Unfit::Damaged) => {
                tracing::warn!(path = %path.display(), kept = found.entries.len(), "vector file is damaged: made anew");
                drop(store);
                found.watermark = 0;
                let store = Self::make_anew(path, dimensions, &found.entries)?;
                Ok((store, found))
            }
        }
    }

    /// Stores what became of some documents, and the watermark, in one transaction.
    pub fn write<'a>(
        &mut self,
        changes: impl Iterator<Item = (Doc, Option<(u64, &'a [f16])>)>,
        watermark: u64,
    ) -> Result<(), VectorError> {
        write(&mut self.db, changes, watermark).map_err(|source| VectorError::Store { path: self.path.clone(), source })
    }

    /// Reads into `found` all that is good, even if the answer is that the file is damaged.
    fn read(&self, dimensions: usize, found: &mut Found) -> Result<(), Unfit> {
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        let format: i64 = self.db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if format == 0 && self.db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)) == Ok(0_i64) {
            return Ok(self.make_tables(dimensions)?);
        }
        if format != FORMAT || self.state("dimensions")? != dimensions as u64 {
            return Err(Unfit::Damaged);
        }
        let mut whole = true;
        let mut statement = self.db.prepare("SELECT doc, hash, row, sum FROM vectors ORDER BY doc")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (doc, hash, sum): (Doc, i64, i64) = (row.get(0)?, row.get(1)?, row.get(3)?);
            let bytes = row.get_ref(2)?.as_bytes().map_err(|_| Unfit::Damaged)?;
            if bytes.len() == dimensions * 2 && checksum(doc, hash, bytes) == sum {
                let row = bytes.as_chunks::<2>().0.iter().map(|&pair| f16::from_le_bytes(pair)).collect();
                found.entries.push(Entry { doc, content_hash: hash.cast_unsigned(), row });
            } else {
                whole = false;
            }
        }
        // Pages that went missing can shorten the table without any other sign.
        if !whole || self.state("len")? != found.entries.len() as u64 {
            return Err(Unfit::Damaged);
        }
        found.watermark = self.state("watermark")?;
        Ok(())
    }

    fn state(&self, name: &str) -> Result<u64, Unfit> {
        let value: Option<i64> =
            self.db.query_row("SELECT value FROM state WHERE name = ?", [name], |row| row.get(0)).optional()?;
        value.map(i64::cast_unsigned).ok_or(Unfit::Damaged)
    }

    fn make_tables(&self, dimensions: usize) -> rusqlite::Result<()> {
        self.db.execute_batch(&format!(
            "BEGIN; {SCHEMA}
             INSERT INTO state VALUES ('dimensions', {dimensions}), ('watermark', 0), ('len', 0);
             PRAGMA user_version = {FORMAT}; COMMIT;"
        ))
    }

    fn make_anew(path: &Path, dimensions: usize, entries: &[Entry]) -> Result<Self, VectorError> {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match fs::remove_file(&name) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(VectorError::Io { path: name.into(), source });
                }
                _ => {}
            }
        }
        let make = || -> Result<Connection, Unfit> {
            let mut store = Self { db: Connection::open(path)?, path: path.to_owned() };
            store.read(dimensions, &mut Found::default())?;
            let all = entries.iter().map(|entry| (entry.doc, Some((entry.content_hash, entry.row.as_slice()))));
            write(&mut store.db, all, 0)?;
            Ok(store.db)
        };
        match make() {
            Ok(db) => Ok(Self { db, path: path.to_owned() }),
            Err(Unfit::Failed(source)) => Err(VectorError::Store { path: path.to_owned(), source }),
            Err(Unfit::Damaged) => Err(VectorError::Unusable { path: path.to_owned() }),
        }
    }
}

fn write<'a>(
    db: &mut Connection,
    changes: impl Iterator<Item = (Doc, Option<(u64, &'a [f16])>)>,
    watermark: u64,
) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)")?;
        let mut delete = transaction.prepare_cached("DELETE FROM vectors WHERE doc = ?")?;
        let mut exists = transaction.prepare_cached("SELECT 1 FROM vectors WHERE doc = ?")?;
        let mut grown = 0_i64;
        for (doc, change) in changes {
            let existed = exists.exists([doc])?;
            if let Some((hash, row)) = change {
                let hash = hash.cast_signed();
                let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                put.execute(params![doc, hash, bytes, checksum(doc, hash, &bytes)])?;
                grown += i64::from(!existed);
            } else {
                delete.execute([doc])?;
                grown -= i64::from(existed);
            }
        }
        transaction.execute("UPDATE state SET value = value + ? WHERE name = 'len'", [grown])?;
        transaction.execute("UPDATE state SET value = ? WHERE name = 'watermark'", [watermark.cast_signed()])?;
    }
    transaction.commit()
}

fn checksum(doc: Doc, hash: i64, bytes: &[u8]) -> i64 {
    fnv1a(&[&doc.to_le_bytes(), &hash.to_le_bytes(), bytes]).cast_signed()
}

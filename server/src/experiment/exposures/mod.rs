//! What was shown to whom in experiments: a table of its own beside a catalog's log, since it grows with answers and not with what people do.
//!
//! A row is in the operating system's hands before the answer is sent, so that a killed server loses none; it is on the disk within seconds. Who
//! answers writes it to a journal only; from there it comes into the table with many others. Of the two journals one is written to while the
//! rows of the other are on their way.

mod journal;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use rustc_hash::FxHashMap;
use vitrine::v1::Exposure;

use self::journal::Journal;
use crate::log::{LogError, Who};

/// Rows read at once.
const PAGE: usize = 4_096;
/// Rows have their time in milliseconds in the upper bits of their number, and are told apart by so many below.
const TIME_SHIFT: u32 = 20;

/// The exposures of one catalog.
pub struct Exposures {
    path: PathBuf,
    /// The last row's number.
    last: AtomicI64,
    recent: Mutex<Recent>,
    table: Mutex<Table>,
    /// Looks up who keeps which arm.
    reader: Mutex<Connection>,
}

/// What is not in the table yet.
struct Recent {
    journal: Journal,
    rows: Vec<Row>,
    /// Who keeps an arm, by [`key`]; also of rows that are on their way.
    kept: FxHashMap<String, String>,
}

struct Table {
    connection: Connection,
    /// The journal of the rows that are on their way.
    journal: Journal,
    moving: Vec<Row>,
}

/// A row as a journal has it.
#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(bytes = "vec", tag = "2")]
    exposure: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    kept: Vec<Kept>,
}

/// An arm that somebody keeps.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Kept {
    /// The experiment's id.
    #[prost(string, tag = "1")]
    pub experiment: String,
    /// Its bucket version.
    #[prost(uint32, tag = "2")]
    pub bucket_version: u32,
    /// Who.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// Which.
    #[prost(string, tag = "4")]
    pub arm: String,
}

impl Kept {
    fn key(&self) -> String {
        key(&self.experiment, self.bucket_version, &self.unit)
    }
}

impl Exposures {
    /// Opens those kept in `dir`, or begins to keep some.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("exposures.db");
        let failed = |error| LogError::sqlite(&path, error);
        let connection = connect(&path).map_err(failed)?;
        let reader = Connection::open_with_flags(&path, READ_ONLY).map_err(failed)?;
        let (first, mut moving) = journal(&dir.join("exposures-1.journal"))?;
        let (second, more) = journal(&dir.join("exposures-2.journal"))?;
        moving.extend(more);
        let exposures = Self {
            recent: Mutex::new(Recent { journal: first, rows: Vec::new(), kept: FxHashMap::default() }),
            table: Mutex::new(Table { connection, journal: second, moving }),
            reader: Mutex::new(reader),
            last: AtomicI64::default(),
            path,
        };
        {
            let mut table = exposures.table.lock();
            exposures.wipe(&mut table)?;
            let last = table.connection.query_row("SELECT coalesce(max(id), 0) FROM exposures", [], |row| row.get(0));
            exposures.last.store(last.map_err(|error| exposures.failed(error))?, Ordering::Relaxed);
        }
        Ok(exposures)
    }

    /// Logs what is about to be shown, at a time in unix milliseconds; who keeps an arm that they are shown for the first time, keeps it from
    /// now on.
    pub fn log(&self, exposure: &Exposure, time_ms: i64, kept: Vec<Kept>) -> Result<(), LogError> {
        let next = |last: i64| (time_ms << TIME_SHIFT).max(last + 1);
        let before = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        // It always gives one.
        let id = next(before.unwrap_or_else(|last| last));
        let row = Row { id, exposure: exposure.encode_to_vec(), kept };
        let record = row.encode_to_vec();
        let mut recent = self.recent.lock();
        recent.journal.add(&record).map_err(|error| LogError::io(&self.path, error))?;
        for kept in &row.kept {
            recent.kept.entry(kept.key()).or_insert_with(|| kept.arm.clone());
        }
        recent.rows.push(row);
        Ok(())
    }

    /// The arm that somebody keeps in an experiment, if they were shown one.
    pub fn kept(&self, experiment: &str, bucket_version: u32, unit: &str) -> Result<Option<String>, LogError> {
        let read = || {
            self.reader
                .lock()
                .prepare_cached("SELECT arm FROM kept WHERE experiment = ?1 AND bucket_version = ?2 AND unit = ?3")?
                .query_row(params![experiment, bucket_version, unit], |row| row.get(0))
                .optional()
        };
        let read = || read().map_err(|error| self.failed(error));
        if let Some(arm) = read()? {
            return Ok(Some(arm));
        }
        let recent = self.recent.lock().kept.get(&key(experiment, bucket_version, unit)).cloned();
        // What went from there meanwhile is in the table now.
        if recent.is_some() { Ok(recent) } else { read() }
    }

    /// Hands over those logged from a time on (unix milliseconds), in their order, until told not to go on. Others log meanwhile.
    pub fn read(&self, from_ms: i64, mut each: impl FnMut(Exposure) -> bool) -> Result<(), LogError> {
        self.flush(&mut self.table.lock())?;
        let connection = Connection::open_with_flags(&self.path, READ_ONLY).map_err(|error| self.failed(error))?;
        let mut after = (from_ms.clamp(0, i64::MAX >> TIME_SHIFT) << TIME_SHIFT) - 1;
        loop {
            let page = self.page(&connection, after)?;
            let is_last = page.len() < PAGE;
            for (id, exposure) in page {
                after = id;
                if !each(exposure) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes what was shown to a person, so that the disk no longer has it. Answers how many answers that were.
    pub fn erase(&self, who: &Who) -> Result<u64, LogError> {
        let (Who::User(unit) | Who::Visitor(unit)) = who;
        let mut table = self.table.lock();
        self.flush(&mut table)?;
        let mut theirs = Vec::new();
        let mut after = i64::MIN;
        loop {
            let page = self.page(&table.connection, after)?;
            after = page.last().map_or(after, |(id, _)| *id);
            theirs.extend(
                page.iter().filter(|(_, exposure)| who.is(&exposure.user_id, &exposure.visitor_id)).map(|(id, _)| *id),
            );
            if page.len() < PAGE {
                break;
            }
        }
        let erase = || {
            for id in &theirs {
                table.connection.prepare_cached("DELETE FROM exposures WHERE id = ?1")?.execute([id])?;
            }
            table.connection.execute("DELETE FROM kept WHERE unit = ?1", [unit])?;
            table.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        erase().map_err(|error| self.failed(error))?;
        self.wipe(&mut table)?;
        Ok(theirs.len() as u64)
    }

    /// Brings what was logged to the disk, and removes what is older than `keep` at a time in unix milliseconds. Blocks; others log meanwhile.
    pub fn tidy(&self, keep: Duration, now_ms: i64) -> Result<(), LogError> {
        let oldest = now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let mut table = self.table.lock();
        self.flush(&mut table)?;
        let tidy = || {
            table.connection.execute("DELETE FROM exposures WHERE id < ?1", [oldest.max(0) << TIME_SHIFT])?;
            table.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        };
        tidy().map_err(|error| self.failed(error))
    }

    /// Brings what was logged so far into the table.
    fn flush(&self, table: &mut Table) -> Result<(), LogError> {
        // What did not come there the last time: its journal cannot be written to before.
        self.settle(table)?;
        {
            let recent = &mut *self.recent.lock();
            std::mem::swap(&mut recent.journal, &mut table.journal);
            std::mem::swap(&mut recent.rows, &mut table.moving);
        }
        self.settle(table)
    }

    /// Brings rows that are on their way into the table.
    fn settle(&self, table: &mut Table) -> Result<(), LogError> {
        if table.moving.is_empty() {
            return Ok(());
        }
        let insert = || {
            let transaction = table.connection.unchecked_transaction()?;
            for Row { id, exposure, kept } in &table.moving {
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO exposures (id, payload) VALUES (?1, ?2)")?
                    .execute(params![id, exposure])?;
                for Kept { experiment, bucket_version, unit, arm } in kept {
                    transaction
                        .prepare_cached(
                            "INSERT OR IGNORE INTO kept (experiment, bucket_version, unit, arm) VALUES (?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![experiment, bucket_version, unit, arm])?;
                }
            }
            transaction.commit()
        };
        insert().map_err(|error| self.failed(error))?;
        table.journal.begin().map_err(|error| LogError::io(&self.path, error))?;
        let mut recent = self.recent.lock();
        for kept in table.moving.drain(..).flat_map(|row| row.kept) {
            recent.kept.remove(&kept.key());
        }
        Ok(())
    }

    /// Overwrites what both journals had so far, one after the other: nobody who logs waits for the disk.
    fn wipe(&self, table: &mut Table) -> Result<(), LogError> {
        for _ in 0..2 {
            self.flush(table)?;
            table.journal.wipe().map_err(|error| LogError::io(&self.path, error))?;
        }
        Ok(())
    }

    fn page(&self, connection: &Connection, after: i64) -> Result<Vec<(i64, Exposure)>, LogError> {
        let read = || {
            connection
                .prepare_cached("SELECT id, payload FROM exposures WHERE id > ?1 ORDER BY id LIMIT ?2")?
                .query_map(params![after, PAGE as i64], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(|error| self.failed(error))?;
        let decoded = rows.into_iter().map(|(id, payload)| {
            let exposure = Exposure::decode(payload.as_slice());
            let exposure =
                exposure.map_err(|error| LogError::Corrupt { path: self.path.clone(), detail: error.to_string() });
            Ok((id, exposure?))
        });
        decoded.collect()
    }

    fn failed(&self, error: rusqlite::Error) -> LogError {
        LogError::sqlite(&self.path, error)
    }
}

const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// A journal, and the rows of its last round.
fn journal(path: &Path) -> Result<(Journal, Vec<Row>), LogError> {
    let (journal, records) = Journal::open(path).map_err(|error| LogError::io(path, error))?;
    let rows = records.iter().map(|record| Row::decode(record.as_slice())).collect::<Result<_, _>>();
    Ok((journal, rows.map_err(|error| LogError::Corrupt { path: path.to_owned(), detail: error.to_string() })?))
}

fn key(experiment: &str, bucket_version: u32, unit: &str) -> String {
    format!("{experiment}/{bucket_version}/{unit}")
}

/// A connection that writes. Checkpoints are left to [`Exposures::tidy`]: nobody who is waiting for an answer waits for the disk.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA secure_delete = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         CREATE TABLE IF NOT EXISTS exposures (id INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS kept (experiment TEXT, bucket_version INTEGER, unit TEXT, arm TEXT NOT NULL,
             PRIMARY KEY (experiment, bucket_version, unit)) STRICT, WITHOUT ROWID;",
    )?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: u64, user: &str) -> Exposure {
        Exposure { answer, user_id: user.to_owned(), ..Exposure::default() }
    }

    fn kept(arm: &str) -> Kept {
        Kept { experiment: "x".to_owned(), bucket_version: 0, unit: "u".to_owned(), arm: arm.to_owned() }
    }

    fn answers(exposures: &Exposures, from_ms: i64) -> Vec<u64> {
        let mut answers = Vec::new();
        exposures
            .read(from_ms, |exposure| {
                answers.push(exposure.answer);
                true
            })
            .unwrap();
        answers
    }

    #[test]
    fn what_is_logged_is_read_in_its_order_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        for (answer, time) in [(1, 1_000), (2, 3_000), (3, 2_000), (4, 3_000)] {
            exposures.log(&shown(answer, "u"), time, Vec::new()).unwrap();
        }
        assert_eq!(answers(&exposures, 0), [1, 2, 3, 4]);
        assert_eq!(answers(&exposures, 1_001), [2, 3, 4]);
        drop(exposures);
        let exposures = Exposures::open(dir.path()).unwrap();
        exposures.log(&shown(5, "u"), 500, Vec::new()).unwrap();
        assert_eq!(answers(&exposures, i64::MIN), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_a_killed_server_had_only_in_its_journals_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        exposures.log(&shown(1, "u"), 1, Vec::new()).unwrap();
        assert_eq!(answers(&exposures, 0), [1]);
        exposures.log(&shown(2, "u"), 2, vec![kept("a")]).unwrap();
        // As a process that ends now leaves its files.
        let left = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), left.path().join(file.file_name())).unwrap();
        }
        let again = Exposures::open(left.path()).unwrap();
        assert_eq!(answers(&again, 0), [1, 2]);
        assert_eq!(again.kept("x", 0, "u").unwrap().as_deref(), Some("a"));
        again.log(&shown(3, "u"), 1, vec![kept("b")]).unwrap();
        assert_eq!(answers(&again, 0), [1, 2, 3]);
        assert_eq!(again.kept("x", 0, "u").unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn of_an_erased_person_no_file_has_anything() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        for answer in 0..100 {
            exposures.log(&shown(answer, if answer % 2 == 0 { "annabella" } else { "bob" }), 1, Vec::new()).unwrap();
            if answer % 30 == 0 {
                exposures.tidy(Duration::from_secs(1), 1).unwrap();
            }
        }
        exposures.erase(&Who::User("annabella".into())).unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            let bytes = std::fs::read(file.path()).unwrap();
            assert!(!bytes.windows(9).any(|window| window == b"annabella"), "{:?}", file.path());
        }
    }

    #[test]
    fn who_keeps_an_arm_keeps_the_first_one() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        exposures.log(&shown(1, "u"), 1, vec![kept("a")]).unwrap();
        assert_eq!(exposures.kept("x", 0, "u").unwrap().as_deref(), Some("a"));
        exposures.tidy(Duration::from_secs(1), 1).unwrap();
        exposures.log(&shown(2, "u"), 2, vec![kept("b")]).unwrap();
        assert_eq!(exposures.kept("x", 0, "u").unwrap().as_deref(), Some("a"));
        assert_eq!(exposures.kept("x", 1, "u").unwrap(), None);
    }

    #[test]
    fn a_person_is_erased_and_what_is_old_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        for answer in 0..10_000 {
            exposures
                .log(&shown(answer, if answer % 2 == 0 { "ann" } else { "bob" }), answer as i64, Vec::new())
                .unwrap();
        }
        assert_eq!(exposures.erase(&Who::User("ann".into())).unwrap(), 5_000);
        assert_eq!(exposures.erase(&Who::Visitor("bob".into())).unwrap(), 0);
        assert_eq!(answers(&exposures, 0).len(), 5_000);
        exposures.tidy(Duration::from_millis(100), 10_000).unwrap();
        assert_eq!(answers(&exposures, 0).len(), 50);
    }
}

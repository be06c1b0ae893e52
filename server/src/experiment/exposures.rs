//! What was shown to whom in experiments: a table of its own beside a catalog's log, since it grows with answers and not with what people do.
//!
//! A row is in the operating system's hands before the answer is sent, so that a killed server loses none; it is on the disk within seconds.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message as _;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use vitrine::v1::Exposure;

use crate::log::{LogError, Who};

/// Rows read at once.
const PAGE: usize = 4_096;
/// Rows have their time in milliseconds in the upper bits of their number, and are told apart by so many below.
const TIME_SHIFT: u32 = 20;

/// The exposures of one catalog.
pub struct Exposures {
    path: PathBuf,
    writer: Mutex<Writer>,
}

struct Writer {
    connection: Connection,
    last: i64,
}

/// An arm that somebody keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The experiment's id.
    pub experiment: &'a str,
    /// Its bucket version.
    pub bucket_version: u32,
    /// Who.
    pub unit: &'a str,
    /// Which.
    pub arm: &'a str,
}

impl Exposures {
    /// Opens those kept in `dir`, or begins to keep some.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("exposures.db");
        let connection = connect(&path).map_err(|error| LogError::sqlite(&path, error))?;
        let last = connection.query_row("SELECT coalesce(max(id), 0) FROM exposures", [], |row| row.get(0));
        let last = last.map_err(|error| LogError::sqlite(&path, error))?;
        Ok(Self { path, writer: Mutex::new(Writer { connection, last }) })
    }

    /// Logs what is about to be shown, at a time in unix milliseconds; who keeps an arm that they are shown for the first time, keeps it from
    /// now on.
    pub fn log(&self, exposure: &Exposure, time_ms: i64, kept: &[Kept<'_>]) -> Result<(), LogError> {
        let mut payload = Vec::new();
        exposure.encode_raw(&mut payload);
        let mut writer = self.writer.lock();
        let id = (time_ms << TIME_SHIFT).max(writer.last + 1);
        let add = || {
            writer
                .connection
                .prepare_cached("INSERT INTO exposures (id, payload) VALUES (?1, ?2)")?
                .execute(params![id, payload])
        };
        let write = || {
            if kept.is_empty() {
                return add().map(drop);
            }
            let transaction = writer.connection.unchecked_transaction()?;
            for Kept { experiment, bucket_version, unit, arm } in kept {
                transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO kept (experiment, bucket_version, unit, arm) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![experiment, bucket_version, unit, arm])?;
            }
            add()?;
            transaction.commit()
        };
        write().map_err(|error| self.failed(error))?;
        writer.last = id;
        Ok(())
    }

    /// The arm that somebody keeps in an experiment, if they were shown one.
    pub fn kept(&self, experiment: &str, bucket_version: u32, unit: &str) -> Result<Option<String>, LogError> {
        let writer = self.writer.lock();
        let read = || {
            writer
                .connection
                .prepare_cached("SELECT arm FROM kept WHERE experiment = ?1 AND bucket_version = ?2 AND unit = ?3")?
                .query_row(params![experiment, bucket_version, unit], |row| row.get(0))
                .optional()
        };
        read().map_err(|error| self.failed(error))
    }

    /// Hands over those logged from a time on (unix milliseconds), in their order, until told not to go on. Others log meanwhile.
    pub fn read(&self, from_ms: i64, mut each: impl FnMut(Exposure) -> bool) -> Result<(), LogError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| self.failed(error))?;
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
        let writer = self.writer.lock();
        let mut theirs = Vec::new();
        let mut after = i64::MIN;
        loop {
            let page = self.page(&writer.connection, after)?;
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
                writer.connection.prepare_cached("DELETE FROM exposures WHERE id = ?1")?.execute([id])?;
            }
            writer.connection.execute("DELETE FROM kept WHERE unit = ?1", [unit])?;
            writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        erase().map_err(|error| self.failed(error))?;
        Ok(theirs.len() as u64)
    }

    /// Brings what was logged to the disk, and removes what is older than `keep` at a time in unix milliseconds. Blocks; others log meanwhile.
    pub fn tidy(&self, keep: Duration, now_ms: i64) -> Result<(), LogError> {
        let oldest = now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let tidy = || {
            let connection = connect(&self.path)?;
            // A few at a time: who logs waits for none of them.
            let mut remove = connection.prepare(
                "DELETE FROM exposures WHERE id IN (SELECT id FROM exposures WHERE id < ?1 ORDER BY id LIMIT 1000)",
            )?;
            while remove.execute([oldest.max(0) << TIME_SHIFT])? > 0 {}
            drop(remove);
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        };
        tidy().map_err(|error| self.failed(error))
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
            exposures.log(&shown(answer, "u"), time, &[]).unwrap();
        }
        assert_eq!(answers(&exposures, 0), [1, 2, 3, 4]);
        assert_eq!(answers(&exposures, 1_001), [2, 3, 4]);
        drop(exposures);
        let exposures = Exposures::open(dir.path()).unwrap();
        exposures.log(&shown(5, "u"), 500, &[]).unwrap();
        assert_eq!(answers(&exposures, i64::MIN), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn who_keeps_an_arm_keeps_the_first_one() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        let kept = Kept { experiment: "x", bucket_version: 0, unit: "u", arm: "a" };
        exposures.log(&shown(1, "u"), 1, std::slice::from_ref(&kept)).unwrap();
        exposures.log(&shown(2, "u"), 2, &[Kept { arm: "b", ..kept }]).unwrap();
        assert_eq!(exposures.kept("x", 0, "u").unwrap().as_deref(), Some("a"));
        assert_eq!(exposures.kept("x", 1, "u").unwrap(), None);
    }

    #[test]
    fn a_person_is_erased_and_what_is_old_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let exposures = Exposures::open(dir.path()).unwrap();
        for answer in 0..10_000 {
            exposures.log(&shown(answer, if answer % 2 == 0 { "ann" } else { "bob" }), answer as i64, &[]).unwrap();
        }
        assert_eq!(exposures.erase(&Who::User("ann".into())).unwrap(), 5_000);
        assert_eq!(exposures.erase(&Who::Visitor("bob".into())).unwrap(), 0);
        assert_eq!(answers(&exposures, 0).len(), 5_000);
        exposures.tidy(Duration::from_millis(100), 10_000).unwrap();
        assert_eq!(answers(&exposures, 0).len(), 50);
    }
}

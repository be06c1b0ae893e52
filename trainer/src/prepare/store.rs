//! Interactions on disk while they are cleaned: in a temporary database, so that a log of any length needs little memory.

use std::io::Write;

use anyhow::{Context as _, Result, anyhow};
use rusqlite::{Connection, params};
use vitrine::v1::EventType;
use vitrine_client::json::short_name;

use crate::evaluate::event_type;

/// One line of what is prepared.
#[derive(Clone, Debug)]
pub struct Met<'a> {
    /// The event's number; it may have several items.
    pub event: i64,
    /// The item's place among them.
    pub place: i64,
    pub user: &'a str,
    pub item: &'a str,
    pub kind: &'a str,
    /// Seconds since 1970.
    pub time: f64,
    /// How it was shown, if by an answer that explored.
    pub explored: Option<Explored>,
}

/// An item in an answer that explored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explored {
    /// The answer's number.
    pub answer: u64,
    /// How likely the item was to come to its place, given those before it.
    pub propensity: f64,
}

/// The same, as it is read back.
#[derive(Clone, Debug)]
pub struct Happened {
    pub user: String,
    pub item: String,
    pub kind: EventType,
    /// Seconds since 1970.
    pub time: f64,
    /// How it was shown, if by an answer that explored.
    pub explored: Option<Explored>,
}

/// Interactions that are left.
pub struct Store {
    // Of a file that has no name: it goes with this.
    database: Connection,
}

const TABLES: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA temp_store = FILE;
    PRAGMA cache_size = -65536;
    CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE kinds (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE met (user INTEGER, item INTEGER, kind INTEGER, time REAL, event INTEGER, place INTEGER, answer INTEGER, propensity REAL,
        PRIMARY KEY (user, time, item, kind)) WITHOUT ROWID;
    BEGIN;";

impl Store {
    pub fn new() -> Result<Self> {
        // SQLite gives a nameless database a file of its own when it outgrows the cache.
        let database = Connection::open("").context("cannot make a temporary database")?;
        database.execute_batch(TABLES).context("cannot make a temporary database")?;
        Ok(Self { database })
    }

    /// Gives an event a number; none if one of that id was there already.
    pub fn begin(&self, event: &str) -> Result<Option<i64>> {
        let mut insert = self.database.prepare_cached("INSERT OR IGNORE INTO events (name) VALUES (?)")?;
        Ok((insert.execute([event])? == 1).then(|| self.database.last_insert_rowid()))
    }

    /// Adds an interaction; false if the same user met the same item in the same way at the same time already.
    pub fn add(&self, met: &Met<'_>) -> Result<bool> {
        let [user, item, kind] = [("users", met.user), ("items", met.item), ("kinds", met.kind)]
            .map(|(table, name)| self.number(table, name));
        let mut insert = self.database.prepare_cached("INSERT OR IGNORE INTO met VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
        // SQLite's numbers have a sign.
        let answer = met.explored.map(|explored| explored.answer.cast_signed());
        let propensity = met.explored.map(|explored| explored.propensity);
        Ok(insert.execute(params![user?, item?, kind?, met.time, met.event, met.place, answer, propensity])? == 1)
    }

    fn number(&self, table: &str, name: &str) -> Result<i64> {
        let mut find = self.database.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?"))?;
        if let Some(row) = find.query([name])?.next()? {
            return Ok(row.get(0)?);
        }
        self.database.prepare_cached(&format!("INSERT INTO {table} (name) VALUES (?)"))?.execute([name])?;
        Ok(self.database.last_insert_rowid())
    }

    /// Removes users who had more than `most` events within a minute of the clock. Users, and their interactions.
    pub fn remove_hasty(&self, most: u32) -> Result<(usize, usize)> {
        self.database.execute(
            "CREATE TEMP TABLE hasty AS SELECT DISTINCT user FROM
             (SELECT user FROM met GROUP BY user, CAST(time / 60 AS INTEGER) HAVING count(DISTINCT event) > ?)",
            [most],
        )?;
        let users: u32 = self.database.query_row("SELECT count(*) FROM hasty", [], |row| row.get(0))?;
        let removed = self.database.execute("DELETE FROM met WHERE user IN (SELECT user FROM hasty)", [])?;
        Ok((users as usize, removed))
    }

    /// Removes users with fewer than `least` interactions and items with fewer than `least` users, again and again, until there are
    /// none (the k-core: Seidman 1983). Interactions removed.
    pub fn keep_core(&self, least: u32) -> Result<usize> {
        let mut removed = 0;
        loop {
            let users = self.database.execute(
                "DELETE FROM met WHERE user IN (SELECT user FROM met GROUP BY user HAVING count(*) < ?)",
                [least],
            )?;
            let items = self.database.execute(
                "DELETE FROM met WHERE item IN (SELECT item FROM met GROUP BY item HAVING count(DISTINCT user) < ?)",
                [least],
            )?;
            if users + items == 0 {
                return Ok(removed);
            }
            removed += users + items;
        }
    }

    /// Interactions, users and items that are left.
    pub fn counts(&self) -> Result<[usize; 3]> {
        let count = "SELECT count(*), count(DISTINCT user), count(DISTINCT item) FROM met";
        let counts: [u32; 3] = self.database.query_row(count, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
        Ok(counts.map(|count| count as usize))
    }

    /// Hands them out in order of time.
    pub fn each(&self, mut take: impl FnMut(&Happened) -> Result<()>) -> Result<()> {
        let mut query = self.database.prepare(
            "SELECT users.name, items.name, kinds.name, time, answer, propensity FROM met
             JOIN users ON users.id = user JOIN items ON items.id = item JOIN kinds ON kinds.id = kind
             ORDER BY time, event, place",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let kind: String = row.get(2)?;
            let kind = event_type(&kind).map_err(|problem| anyhow!(problem))?;
            let (answer, propensity): (Option<i64>, Option<f64>) = (row.get(4)?, row.get(5)?);
            let explored = answer.zip(propensity);
            let explored = explored.map(|(answer, propensity)| Explored { answer: answer.cast_unsigned(), propensity });
            take(&Happened { user: row.get(0)?, item: row.get(1)?, kind, time: row.get(3)?, explored })?;
        }
        Ok(())
    }

    /// Writes them in order of time, as a file of RecBole.
    pub fn write(&self, to: &mut impl Write) -> Result<()> {
        writeln!(to, "user_id:token\titem_id:token\ttype:token\ttimestamp:float")?;
        self.each(|Happened { user, item, kind, time, .. }| {
            writeln!(to, "{}\t{}\t{}\t{time}", cell(user), cell(item), short_name(*kind))?;
            Ok(())
        })
    }
}

/// Tabs and ends of lines would end the cell.
fn cell(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

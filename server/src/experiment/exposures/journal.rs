//! A file in front of a table: a record is one write of the operating system, so that whoever waits for it waits for microseconds, and a killed
//! process loses none that was written.
//!
//! The file is used again from its beginning once its records are in the table. A record is 8 bytes of the round of use that it belongs to, 4 of
//! its length, 8 of its checksum, all little-endian, and its content. Behind the last record of a round there may be some of earlier ones.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use crate::hash::fnv1a;

const HEAD: usize = 20;
/// Zeros written at once.
const ZEROS: [u8; 4_096] = [0; 4_096];

/// Such a file.
pub struct Journal {
    file: File,
    round: u64,
    end: u64,
}

impl Journal {
    /// Opens the file, or makes it. With the contents of its last round's records: once they are in the table, [`wipe`](Self::wipe) it.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut records, mut rest, mut last) = (Vec::new(), bytes.as_slice(), None);
        while let Some((round, content)) = take(&mut rest) {
            if round == 0 || last.is_some_and(|last| round != last) {
                break;
            }
            last = Some(round);
            records.push(content.to_vec());
        }
        let round = last.unwrap_or(0) + 1;
        file.rewind()?;
        Ok((Self { file, round, end: 0 }, records))
    }

    /// Writes a record behind those of this round. If it cannot be written, it is as if it had never been tried.
    pub fn add(&mut self, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        let mut record = Vec::with_capacity(HEAD + content.len());
        record.extend(self.round.to_le_bytes());
        record.extend(length.to_le_bytes());
        record.extend(checksum(self.round, content).to_le_bytes());
        record.extend(content);
        if let Err(error) = self.file.write_all(&record) {
            self.file.seek(SeekFrom::Start(self.end))?;
            return Err(error);
        }
        self.end += record.len() as u64;
        Ok(())
    }

    /// Begins the next round: what was written is in the table.
    pub fn begin(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.round += 1;
        self.end = 0;
        Ok(())
    }

    /// Overwrites what earlier rounds have left, on the disk too.
    pub fn wipe(&mut self) -> io::Result<()> {
        let mut left = self.file.metadata()?.len().saturating_sub(self.end);
        while left > 0 {
            let zeros = &ZEROS[..left.min(ZEROS.len() as u64) as usize];
            self.file.write_all(zeros)?;
            left -= zeros.len() as u64;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.sync_data()
    }
}

/// The next record's round and content, if there is a whole one.
fn take<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (round, behind) = rest.split_first_chunk::<8>()?;
    let (length, behind) = behind.split_first_chunk::<4>()?;
    let (sum, behind) = behind.split_first_chunk::<8>()?;
    let (content, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    let round = u64::from_le_bytes(*round);
    (checksum(round, content) == u64::from_le_bytes(*sum)).then_some((round, content))
}

fn checksum(round: u64, content: &[u8]) -> u64 {
    fnv1a(&[&round.to_le_bytes(), content])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn records(path: &Path) -> Vec<Vec<u8>> {
        Journal::open(path).unwrap().1
    }

    proptest! {
        #[test]
        fn what_was_written_last_is_read_and_nothing_of_earlier_rounds(
            rounds in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8), 1..5),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.journal");
            let mut journal = Journal::open(&path).unwrap().0;
            for round in &rounds {
                journal.begin().unwrap();
                for content in round {
                    journal.add(content).unwrap();
                }
                prop_assert_eq!(&records(&path), round);
            }
            drop(journal);
            // Opened again, the next round is told from the last one too.
            let mut journal = Journal::open(&path).unwrap().0;
            journal.add(b"next").unwrap();
            prop_assert_eq!(records(&path), [b"next"]);
        }
    }

    #[test]
    fn a_torn_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.journal");
        let mut journal = Journal::open(&path).unwrap().0;
        journal.add(b"whole").unwrap();
        journal.add(b"torn").unwrap();
        let bytes = fs::read(&path).unwrap();
        for kept in HEAD + 5..bytes.len() {
            fs::write(&path, &bytes[..kept]).unwrap();
            assert_eq!(records(&path), [b"whole"]);
        }
        let mut other = bytes;
        *other.last_mut().unwrap() ^= 1;
        fs::write(&path, &other).unwrap();
        assert_eq!(records(&path), [b"whole"]);
    }

    #[test]
    fn nothing_of_earlier_rounds_is_left_when_it_was_wiped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.journal");
        let mut journal = Journal::open(&path).unwrap().0;
        for _ in 0..1_000 {
            journal.add(b"a secret").unwrap();
        }
        journal.begin().unwrap();
        journal.add(b"news").unwrap();
        journal.wipe().unwrap();
        journal.add(b"more").unwrap();
        assert_eq!(records(&path), [b"news", b"more"]);
        assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("secret"));
    }
}

//! Keeping a [`Behaviour`] in a file, so that a start needs only the events since.
//!
//! A fixed head (format, position in the log), then every list as its length and its numbers, all little-endian, then
//! SHA-256 of everything before. The numbers are read back only as far as the file has them: a damaged length cannot ask
//! for more memory than the file is long. A checkpoint is never converted: one that cannot be read is rebuilt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::ads::calibration::Calibration;
use crate::ads::ledger::{Account, Ledger, Shown};

use super::basket::{Baskets, OrderId, Placed};
use super::history::{Entry, Lists, People, Person};
use super::popularity::Popularity;
use super::recent::Recent;
use super::weight::Strength;
use super::{Behaviour, BehaviourOptions, Visit};

/// Changes whenever what is written changes, or means something else.
const FORMAT: &[u8; 8] = b"vitbhv02";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be written or read.
    #[error("checkpoint: {0}")]
    Io(#[from] io::Error),
    /// It is of another format. Rebuild from the log.
    #[error("the checkpoint is of another format")]
    Format,
    /// It is cut off or altered. Rebuild from the log.
    #[error("the checkpoint is damaged")]
    Damaged,
}

impl Behaviour {
    /// Writes everything, and the position in the log up to which events are in it. Buffers by itself; syncing the file
    /// and putting it in place is the caller's.
    pub fn save(&self, writer: impl Write, seq: u64) -> Result<(), CheckpointError> {
        let mut out = Out { writer, hash: Sha256::new(), buffer: Vec::with_capacity(Out::<Vec<u8>>::BLOCK + 64) };
        out.buffer.extend_from_slice(FORMAT);
        seq.put(&mut out)?;
        self.put(&mut out)?;
        out.finish()
    }

    /// Reads what [`save`](Self::save) wrote, with its position.
    pub fn load(reader: impl Read) -> Result<(Self, u64), CheckpointError> {
        let mut input = In { reader, hash: Sha256::new(), buffer: Vec::new(), at: 0 };
        if input.take::<8>()? != *FORMAT {
            return Err(CheckpointError::Format);
        }
        let seq = u64::get(&mut input)?;
        let behaviour = Behaviour::get(&mut input)?;
        input.finish()?;
        Ok((behaviour, seq))
    }
}

/// Something that can be written and read back.
trait Column: Sized {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError>;
    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError>;
}

struct Out<W> {
    writer: W,
    hash: Sha256,
    buffer: Vec<u8>,
}

impl<W: Write> Out<W> {
    const BLOCK: usize = 1 << 16;

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CheckpointError> {
        self.hash.update(&self.buffer);
        self.writer.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), CheckpointError> {
        self.flush()?;
        self.writer.write_all(&self.hash.finalize())?;
        Ok(self.writer.flush()?)
    }
}

struct In<R> {
    reader: R,
    hash: Sha256,
    /// What is read and not yet taken, from `at`. The last bytes of the file are its checksum.
    buffer: Vec<u8>,
    at: usize,
}

impl<R: Read> In<R> {
    const BLOCK: usize = 1 << 16;
    /// No list reserves more than so many entries before they are read.
    const RESERVE: usize = 1 << 12;

    /// Has at least `count` bytes in the buffer.
    fn fill(&mut self, count: usize) -> Result<(), CheckpointError> {
        if self.buffer.len() - self.at >= count {
            return Ok(());
        }
        self.hash.update(&self.buffer[..self.at]);
        self.buffer.drain(..self.at);
        self.at = 0;
        let missing = count.max(Self::BLOCK) - self.buffer.len();
        self.reader.by_ref().take(missing as u64).read_to_end(&mut self.buffer)?;
        if self.buffer.len() < count { Err(CheckpointError::Damaged) } else { Ok(()) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        self.fill(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.at..self.at + N]);
        self.at += N;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize, CheckpointError> {
        usize::try_from(u64::get(self)?).map_err(|_| CheckpointError::Damaged)
    }

    fn finish(mut self) -> Result<(), CheckpointError> {
        self.hash.update(&self.buffer[..self.at]);
        self.buffer.drain(..self.at);
        self.reader.by_ref().take(64).read_to_end(&mut self.buffer)?;
        if self.hash.finalize().as_slice() == self.buffer { Ok(()) } else { Err(CheckpointError::Damaged) }
    }
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Column for $number {
            fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
                out.bytes(&self.to_le_bytes())
            }
            fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
                Ok(Self::from_le_bytes(input.take()?))
            }
        }
    )*};
}

number!(i8, u8, u16, u32, i32, i64, u64, f64);

macro_rules! columns {
    ($($kind:ident { $($field:ident),* })*) => {$(
        impl Column for $kind {
            fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
                $(self.$field.put(out)?;)*
                Ok(())
            }
            fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
                Ok(Self { $($field: Column::get(input)?),* })
            }
        }
    )*};
}

columns! {
    Entry { seconds, order, doc, millis, kind, strength }
    Visit { seconds, person }
    Placed { seconds, order }
    Lists { actions, shown, refused }
    People { users, visitors, lists }
    Baskets { names, orders, placed, days }
    Popularity { landmark, decayed, hours, days, newest_day }
    Behaviour { options, people, baskets, visits, popularity, ads, events }
    Ledger { accounts, items, all, predictors, clicked }
    Account { spent, shown, days }
    Shown { impressions, clicks }
    Calibration { shown, clicks }
    BehaviourOptions {
        actions_per_person, impressions_per_person, refusals_per_person, visits_per_item, orders_per_item,
        items_per_order, popularity_half_life_seconds
    }
}

macro_rules! wrappers {
    ($($kind:ident)*) => {$(
        impl Column for $kind {
            fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
                self.0.put(out)
            }
            fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
                Ok(Self(Column::get(input)?))
            }
        }
    )*};
}

wrappers! { Person OrderId Strength }

impl Column for usize {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        (*self as u64).put(out)
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        input.length()
    }
}

impl Column for Option<i64> {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        u8::from(self.is_some()).put(out)?;
        self.unwrap_or_default().put(out)
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        let some = u8::get(input)? != 0;
        let value = i64::get(input)?;
        Ok(some.then_some(value))
    }
}

impl<A: Column, B: Column> Column for (A, B) {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        self.0.put(out)?;
        self.1.put(out)
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        Ok((A::get(input)?, B::get(input)?))
    }
}

impl<T: Column> Column for Vec<T> {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        self.len().put(out)?;
        self.iter().try_for_each(|entry| entry.put(out))
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        let length = input.length()?;
        let mut entries = Vec::with_capacity(length.min(In::<R>::RESERVE));
        for _ in 0..length {
            entries.push(T::get(input)?);
        }
        entries.shrink_to_fit();
        Ok(entries)
    }
}

impl<T: Column> Column for Recent<T> {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        self.total().put(out)?;
        let entries = self.newest(usize::MAX);
        entries.len().put(out)?;
        entries.iter().try_for_each(|entry| entry.put(out))
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        let total = u32::get(input)?;
        Ok(Self::restore(Vec::get(input)?, total))
    }
}

impl<T: Column, S: BuildHasher + Default> Column for HashMap<Box<str>, T, S> {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        self.len().put(out)?;
        self.iter().try_for_each(|(name, number)| {
            name.len().put(out)?;
            out.bytes(name.as_bytes())?;
            number.put(out)
        })
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        let length = input.length()?;
        let mut names = Self::with_capacity_and_hasher(length.min(In::<R>::RESERVE), S::default());
        for _ in 0..length {
            let bytes = Vec::<u8>::get(input)?;
            let name = String::from_utf8(bytes).map_err(|_| CheckpointError::Damaged)?;
            names.insert(name.into(), T::get(input)?);
        }
        Ok(names)
    }
}

impl<S: BuildHasher + Default> Column for HashSet<u64, S> {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        self.len().put(out)?;
        self.iter().try_for_each(|entry| entry.put(out))
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        (0..input.length()?).map(|_| u64::get(input)).collect()
    }
}

impl<T: Column> Column for BTreeMap<u32, T> {
    fn put<W: Write>(&self, out: &mut Out<W>) -> Result<(), CheckpointError> {
        self.len().put(out)?;
        self.iter().try_for_each(|(time, value)| {
            time.put(out)?;
            value.put(out)
        })
    }

    fn get<R: Read>(input: &mut In<R>) -> Result<Self, CheckpointError> {
        (0..input.length()?).map(|_| Ok((u32::get(input)?, T::get(input)?))).collect()
    }
}

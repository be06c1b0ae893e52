//! The graph on disk, so that a restart need not work it out again.
//!
//! A file of little-endian 32-bit words: magic, dimensions, length; for each node the hash of its row (two words); the
//! graph's own words; a checksum (two words). It may lag behind the vectors: nodes whose row is gone lead nowhere, and
//! rows it lacks are looked at one by one until the graph has caught up.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use rustc_hash::FxHashMap;

use super::graph::Graph;
use super::rows::Shape;
use super::state::{State, hash_row};
use super::store::Entry;
use crate::hash::fnv1a;

/// `VGR1`: raised when the layout or the meaning of the links changes.
const MAGIC: u32 = u32::from_le_bytes(*b"VGR1");

/// Writes the graph and what its nodes stand for, all or nothing.
pub fn save(path: &Path, state: &State) -> io::Result<()> {
    let nodes = state.graph().len();
    let mut words = vec![MAGIC, state.rows().shape().dimensions as u32, nodes as u32];
    for slot in &state.slots()[..nodes] {
        words.extend([slot.row_hash as u32, (slot.row_hash >> 32) as u32]);
    }
    state.graph().write(&mut words);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sum = fnv1a(&[&bytes]);
    bytes.extend(sum.to_le_bytes());

    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    fs::rename(&staged, path)
}

/// The state of `entries` with the graph in the file, or without one if the file does not fit or is damaged.
pub fn load(path: &Path, shape: Shape, entries: &[Entry]) -> State {
    read(path)
        .and_then(|words| with_graph(&words, shape, entries))
        .unwrap_or_else(|| with_entries(State::new(shape), entries))
}

fn read(path: &Path) -> Option<Vec<u32>> {
    let bytes = fs::read(path).ok()?;
    let (content, sum) = bytes.split_last_chunk::<8>()?;
    let (words, []) = content.as_chunks::<4>() else { return None };
    (fnv1a(&[content]) == u64::from_le_bytes(*sum))
        .then(|| words.iter().map(|&word| u32::from_le_bytes(word)).collect())
}

fn with_graph(words: &[u32], shape: Shape, entries: &[Entry]) -> Option<State> {
    let [magic, width, nodes, words @ ..] = words else { return None };
    if *magic != MAGIC || *width as usize != shape.dimensions {
        return None;
    }
    let (hashes, links) = words.split_at_checked(*nodes as usize * 2)?;
    let mut rows: FxHashMap<u64, &Entry> = entries.iter().map(|entry| (hash_row(&entry.row), entry)).collect();
    let mut state = State::new(shape);
    let mut lost = 0;
    for &[low, high] in hashes.as_chunks::<2>().0 {
        if let Some(entry) = rows.remove(&(u64::from(high) << 32 | u64::from(low))) {
            state.slot_of(&entry.row);
        } else {
            lost += 1;
            state.push_lost();
        }
    }
    if lost * 10 > *nodes {
        return None;
    }
    state.set_graph(Graph::read(links, *nodes as usize)?);
    Some(with_entries(state, entries))
}

fn with_entries(mut state: State, entries: &[Entry]) -> State {
    for entry in entries {
        state.upsert(entry.doc, entry.content_hash, &entry.row);
    }
    state
}

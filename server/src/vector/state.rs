//! The vectors of a generation in memory, and the choice between looking at all of them and walking the graph.
//!
//! Documents with equal vectors share a row: shops have many items that differ in nothing a customer reads, and a graph
//! over hundreds of equal rows is hard to leave or to get through.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use half::f16;
use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;

use super::code::Probe;
use super::graph::{Graph, Reach};
use super::rows::{BATCH, Near, Rows, Shape};
use crate::Doc;
use crate::hash::fnv1a;

/// What a walk costs for each candidate it keeps, in rows of a scan: it compares 8 to 11 rows at 60,000, which are anywhere
/// in memory.
const WALKED: f64 = 32.0;
/// Documents are looked up one by one if there are so many times as many rows: that takes about as long as so many rows.
const FOUND_BY_DOC: usize = 4;
/// With fewer obsolete rows than this it is not worth making everything anew.
const FEW: usize = 1000;

/// What is wanted of a search.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How many documents.
    pub k: usize,
    /// How many candidates a walk through the graph keeps at least (efSearch of the paper).
    pub width: usize,
    /// Which documents; all, if absent.
    pub allowed: Option<&'a RoaringBitmap>,
}

impl Wanted<'_> {
    fn allows(&self, doc: Doc) -> bool {
        self.allowed.is_none_or(|allowed| allowed.contains(doc))
    }
}

/// A row's place, and who shares it.
#[derive(Debug)]
pub struct Slot {
    /// Tells rows apart, also after a restart.
    pub row_hash: u64,
    /// None: the row is obsolete, and kept only as a way through the graph.
    docs: Vec<Doc>,
}

/// All vectors, and the graph over the first of them.
#[derive(Debug)]
pub struct State {
    rows: Rows,
    slots: Vec<Slot>,
    /// A document's slot and content hash.
    by_doc: FxHashMap<Doc, (u32, u64)>,
    by_row: FxHashMap<u64, u32>,
    /// What was made from a content. Rows are never changed in place, so this stays true when documents go.
    by_content: FxHashMap<u64, u32>,
    obsolete: usize,
    /// Over slots from 0; rows after its end are looked at one by one.
    graph: Graph,
}

impl State {
    /// No vectors yet.
    pub fn new(shape: Shape) -> Self {
        Self {
            rows: Rows::new(shape),
            slots: Vec::new(),
            by_doc: FxHashMap::default(),
            by_row: FxHashMap::default(),
            by_content: FxHashMap::default(),
            obsolete: 0,
            graph: Graph::default(),
        }
    }

    /// How many documents have a vector.
    pub fn len(&self) -> usize {
        self.by_doc.len()
    }

    /// The documents that have a vector.
    pub fn docs(&self) -> RoaringBitmap {
        self.by_doc.keys().copied().collect()
    }

    /// A document's content hash and row.
    pub fn get(&self, doc: Doc) -> Option<(u64, &[f16])> {
        self.by_doc.get(&doc).map(|&(slot, content_hash)| (content_hash, self.rows.row(slot)))
    }

    /// Gives a document its vector.
    pub fn upsert(&mut self, doc: Doc, content_hash: u64, row: &[f16]) {
        let slot = self.slot_of(row);
        self.attach(doc, content_hash, slot);
    }

    /// Gives a document the vector that was made from the same content before; says whether there is one.
    pub fn share(&mut self, doc: Doc, content_hash: u64) -> bool {
        let slot = self.by_content.get(&content_hash).copied();
        if let Some(slot) = slot {
            self.attach(doc, content_hash, slot);
        }
        slot.is_some()
    }

    /// Takes a document's vector away; says whether it had one.
    pub fn remove(&mut self, doc: Doc) -> bool {
        let Some((slot, _)) = self.by_doc.remove(&doc) else { return false };
        let docs = &mut self.slots[slot as usize].docs;
        docs.retain(|other| *other != doc);
        self.obsolete += usize::from(docs.is_empty());
        true
    }

    /// The slot of a row, an old one if there is an equal row.
    pub fn slot_of(&mut self, row: &[f16]) -> u32 {
        let row_hash = hash_row(row);
        match self.by_row.get(&row_hash) {
            Some(&slot) if self.rows.row(slot) == row => slot,
            _ => {
                let slot = self.push(row, row_hash);
                self.by_row.insert(row_hash, slot);
                slot
            }
        }
    }

    /// Adds a row that nothing finds, to stand where the graph knows one that is lost.
    pub fn push_lost(&mut self) {
        self.push(&vec![f16::ZERO; self.rows.shape().dimensions], 0);
    }

    fn push(&mut self, row: &[f16], row_hash: u64) -> u32 {
        self.slots.push(Slot { row_hash, docs: Vec::new() });
        self.obsolete += 1;
        self.rows.push(row)
    }

    fn attach(&mut self, doc: Doc, content_hash: u64, slot: u32) {
        self.remove(doc);
        let docs = &mut self.slots[slot as usize].docs;
        self.obsolete -= usize::from(docs.is_empty());
        docs.push(doc);
        self.by_doc.insert(doc, (slot, content_hash));
        self.by_content.insert(content_hash, slot);
    }

    /// How near a document's vector is to that of the probe, if it has one.
    pub fn score(&self, probe: &Probe, doc: Doc) -> Option<f32> {
        let (slot, _) = *self.by_doc.get(&doc)?;
        let mut near = Vec::with_capacity(1);
        self.rows.compare(probe, &[slot], &mut near);
        near.pop().map(|near| near.score)
    }

    /// The nearest documents with their scores, best first, equal ones by number.
    pub fn nearest(&self, probe: &Probe, wanted: Wanted<'_>) -> Vec<(Doc, f32)> {
        let candidates = wanted.allowed.map_or(self.len(), |allowed| self.len().min(allowed.len() as usize));
        if candidates == 0 || wanted.k == 0 {
            return Vec::new();
        }
        self.walk(probe, wanted, candidates).unwrap_or_else(|| self.scan(probe, wanted))
    }

    /// By the graph, if that is likely to be quicker than looking at `candidates` rows.
    fn walk(&self, probe: &Probe, wanted: Wanted<'_>, candidates: usize) -> Option<Vec<(Doc, f32)>> {
        let width = wanted.width.max(wanted.k + wanted.k / 2);
        let selectivity = candidates as f64 / self.rows.len() as f64;
        let cost = width as f64 * WALKED / selectivity + self.after_graph() as f64;
        if cost >= candidates as f64 {
            return None;
        }
        let accept = |slot: u32| self.slots[slot as usize].docs.iter().any(|&doc| wanted.allows(doc));
        // A walk that has seen as many rows as a scan would is one through the wrong part of the graph.
        let near = self.graph.search(&self.rows, &probe.coded, Reach { width, budget: candidates }, accept)?;
        let mut best = Best::of(wanted.k);
        for near in near.chunks(BATCH) {
            self.refine(probe, near, wanted, &mut best);
        }
        self.scan_slots(probe, self.graph.len() as u32..self.rows.len() as u32, wanted, &mut best);
        (best.heap.len() >= wanted.k.min(candidates)).then(|| best.into_ranking())
    }

    /// By looking at every allowed document's row.
    fn scan(&self, probe: &Probe, wanted: Wanted<'_>) -> Vec<(Doc, f32)> {
        let mut best = Best::of(wanted.k);
        match wanted.allowed {
            Some(allowed) if allowed.len() as usize * FOUND_BY_DOC < self.rows.len() => {
                let mut slots: Vec<u32> =
                    allowed.iter().filter_map(|doc| self.by_doc.get(&doc)).map(|&(slot, _)| slot).collect();
                slots.sort_unstable();
                slots.dedup();
                self.scan_slots(probe, slots.into_iter(), wanted, &mut best);
            }
            _ => self.scan_slots(probe, 0..self.rows.len() as u32, wanted, &mut best),
        }
        best.into_ranking()
    }

    fn scan_slots(&self, probe: &Probe, slots: impl Iterator<Item = u32>, wanted: Wanted<'_>, best: &mut Best) {
        let mut slots = slots.filter(|&slot| !self.slots[slot as usize].docs.is_empty());
        let (mut batch, mut near) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            batch.clear();
            batch.extend(slots.by_ref().take(BATCH));
            if batch.is_empty() {
                return;
            }
            near.clear();
            self.rows.compare_codes(&probe.coded, &batch, &mut near);
            self.refine(probe, &near, wanted, best);
        }
    }

    /// Offers the allowed documents of slots compared by their codes, but for those that cannot be among the best.
    fn refine(&self, probe: &Probe, by_codes: &[Near], wanted: Wanted<'_>, best: &mut Best) {
        let worst = best.worst();
        let docs = |slot: u32| self.slots[slot as usize].docs.iter().copied().filter(move |&doc| wanted.allows(doc));
        let may_be = |near: &Near| self.rows.at_most(probe, *near) >= worst && docs(near.slot).next().is_some();
        let slots: Vec<u32> = by_codes.iter().filter(|near| may_be(near)).map(|near| near.slot).collect();
        let mut near = Vec::with_capacity(slots.len());
        self.rows.compare(probe, &slots, &mut near);
        for near in near {
            best.offer(docs(near.slot), near.score);
        }
    }

    /// How many rows the graph does not hold yet.
    pub fn after_graph(&self) -> usize {
        self.rows.len() - self.graph.len()
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, to put a node into that [`Graph::place`] has placed among [`State::rows`].
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// Takes a graph over exactly the first rows.
    pub fn set_graph(&mut self, graph: Graph) {
        self.graph = graph;
    }

    /// The rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What the slots hold, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether a third of the rows is obsolete.
    pub fn is_worn(&self) -> bool {
        self.obsolete > FEW && self.obsolete * 3 > self.rows.len()
    }

    /// The same vectors without obsolete rows, and without a graph.
    pub fn compacted(&self) -> Self {
        let mut fresh = Self::new(self.rows.shape());
        for (slot, held) in self.slots.iter().enumerate() {
            for &doc in &held.docs {
                if let Some(&(_, content_hash)) = self.by_doc.get(&doc) {
                    fresh.upsert(doc, content_hash, self.rows.row(slot as u32));
                }
            }
        }
        fresh
    }
}

/// A hash of a row that is the same on every machine.
pub fn hash_row(row: &[f16]) -> u64 {
    let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
    fnv1a(&[&bytes])
}

/// The `k` best documents so far.
struct Best {
    k: usize,
    /// Of documents, not slots; the worst on top.
    heap: BinaryHeap<Reverse<Near>>,
}

impl Best {
    fn of(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// What a document must at least have to be one of them.
    fn worst(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.0.score,
            _ => f32::NEG_INFINITY,
        }
    }

    fn offer(&mut self, docs: impl IntoIterator<Item = Doc>, score: f32) {
        for doc in docs {
            let near = Near { score, slot: doc };
            if self.heap.len() < self.k {
                self.heap.push(Reverse(near));
            } else if let Some(mut worst) = self.heap.peek_mut().filter(|worst| near > worst.0) {
                *worst = Reverse(near);
            }
        }
    }

    /// Best first, equal ones by number.
    fn into_ranking(self) -> Vec<(Doc, f32)> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(near)| (near.slot, near.score)).collect()
    }
}

#[cfg(test)]
mod tests;

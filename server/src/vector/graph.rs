//! Hierarchical navigable small world graph over rows: approximate nearest neighbours, found by walking from row to row.
//!
//! Malkov, Yashunin: *Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
//! graphs*, IEEE TPAMI 2020 (arXiv 1603.09320); algorithm numbers below are the paper's. The graph holds the slots from 0
//! to its length; what is deleted stays in it as a way through, and is left out of the results by `accept`. Rows are
//! compared by their codes only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::code::CodeProbe;
use super::rows::{BATCH, Near, Rows};

/// Links a new node is given on each level (M of the paper), and the most it keeps on levels above the ground.
const LINKS: usize = 16;
/// The most links a node keeps on the ground level.
const GROUND_LINKS: usize = 2 * LINKS;
/// No node is given a higher level than this.
const TOP_LEVEL: usize = 12;

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// How many of the best nodes are kept, and returned; more finds more of the true neighbours (ef of the paper).
    pub width: usize,
    /// After about this many rows it gives up.
    pub budget: usize,
}

/// The links between rows.
#[derive(Debug, Default, PartialEq)]
pub struct Graph {
    /// [`GROUND_LINKS`] places a node, of which the first `counts[node]` are used.
    ground: Vec<u32>,
    counts: Vec<u8>,
    /// Links on levels 1 and up, of the few nodes that reach there.
    upper: FxHashMap<u32, Vec<Vec<u32>>>,
    /// Where every walk begins: a node on the highest level.
    entry: Option<u32>,
}

impl Graph {
    /// How many slots, from 0, are in the graph.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// The slots nearest to `probe` that `accept` allows, best first. `None` if that goes beyond the budget.
    pub fn search(
        &self,
        rows: &Rows,
        probe: &CodeProbe,
        reach: Reach,
        accept: impl Fn(u32) -> bool,
    ) -> Option<Vec<Near>> {
        let Some(entry) = self.entry else { return Some(Vec::new()) };
        let nearest = self.descend(rows, probe, entry, 0);
        self.explore(rows, probe, &nearest, 0, reach, accept)
    }

    /// Appends the graph as 32-bit words: the entry; for each node the number of its links and the links; for each
    /// node above the ground its number, its level, and the same for each level.
    pub fn write(&self, words: &mut Vec<u32>) {
        let put = |links: &[u32], words: &mut Vec<u32>| {
            words.push(links.len() as u32);
            words.extend(links);
        };
        words.push(self.entry.unwrap_or(u32::MAX));
        for node in 0..self.len() as u32 {
            put(self.links(node, 0), words);
        }
        let mut upper: Vec<_> = self.upper.iter().collect();
        upper.sort_unstable_by_key(|(node, _)| **node);
        for (&node, levels) in upper {
            words.extend([node, levels.len() as u32]);
            for links in levels {
                put(links, words);
            }
        }
    }

    /// What [`Graph::write`] wrote for `nodes` nodes; `None` if it cannot be that.
    pub fn read(words: &[u32], nodes: usize) -> Option<Self> {
        let mut rest = words;
        let mut graph =
            Self { ground: vec![0; nodes.checked_mul(GROUND_LINKS)?], counts: vec![0; nodes], ..Self::default() };
        let entry = *rest.split_off_first()?;
        let take = |rest: &mut &[u32], most: usize| {
            let count = *rest.split_off_first()? as usize;
            let links = rest.split_off(..count)?;
            (count <= most && links.iter().all(|&link| (link as usize) < nodes)).then(|| links.to_vec())
        };
        for node in 0..nodes as u32 {
            let links = take(&mut rest, GROUND_LINKS)?;
            graph.set_links(node, 0, links);
        }
        while let Some(&node) = rest.split_off_first() {
            let level = *rest.split_off_first()? as usize;
            if node as usize >= nodes || level > TOP_LEVEL {
                return None;
            }
            let levels = (0..level).map(|_| take(&mut rest, LINKS)).collect::<Option<Vec<_>>>()?;
            graph.upper.insert(node, levels);
        }
        graph.entry = (entry != u32::MAX).then_some(entry);
        (graph.entry.is_none_or(|entry| (entry as usize) < nodes) && graph.entry.is_some() == (nodes > 0))
            .then_some(graph)
    }

    /// Walks greedily down to just above `level`.
    fn descend(&self, rows: &Rows, probe: &CodeProbe, entry: u32, level: usize) -> Vec<Near> {
        let mut near = Vec::with_capacity(BATCH);
        rows.compare_codes(probe, &[entry], &mut near);
        let Some(mut best) = near.pop() else { return Vec::new() };
        for level in (level + 1..=self.level(entry)).rev() {
            loop {
                near.clear();
                rows.compare_codes(probe, self.links(best.slot, level), &mut near);
                match near.iter().max().filter(|next| **next > best) {
                    Some(next) => best = *next,
                    None => break,
                }
            }
        }
        vec![best]
    }

    /// The `width` accepted nodes nearest to `probe` on one level, best first (algorithm 2).
    fn explore(
        &self,
        rows: &Rows,
        probe: &CodeProbe,
        entries: &[Near],
        level: usize,
        Reach { width, budget }: Reach,
        accept: impl Fn(u32) -> bool,
    ) -> Option<Vec<Near>> {
        let mut seen = Seen::new(self.len());
        let mut frontier = BinaryHeap::new();
        let mut found: BinaryHeap<Reverse<Near>> = BinaryHeap::new();
        for &near in entries {
            if seen.insert(near.slot) {
                frontier.push(near);
                if accept(near.slot) {
                    found.push(Reverse(near));
                }
            }
        }
        let mut looked_at = 0;
        let (mut fresh, mut compared) = (Vec::with_capacity(GROUND_LINKS), Vec::with_capacity(GROUND_LINKS));
        while let Some(nearest) = frontier.pop() {
            if found.len() >= width && found.peek().is_some_and(|worst| nearest < worst.0) {
                break;
            }
            fresh.clear();
            fresh.extend(self.links(nearest.slot, level).iter().filter(|&&slot| seen.insert(slot)));
            looked_at += fresh.len();
            compared.clear();
            rows.compare_codes(probe, &fresh, &mut compared);
            for &near in &compared {
                if found.len() < width || found.peek().is_some_and(|worst| near > worst.0) {
                    frontier.push(near);
                    if accept(near.slot) {
                        found.push(Reverse(near));
                        if found.len() > width {
                            found.pop();
                        }
                    }
                }
            }
            if looked_at > budget {
                return None;
            }
        }
        Some(found.into_sorted_vec().into_iter().map(|near| near.0).collect())
    }

    fn level(&self, node: u32) -> usize {
        self.upper.get(&node).map_or(0, Vec::len)
    }

    fn links(&self, node: u32, level: usize) -> &[u32] {
        if level == 0 {
            let start = node as usize * GROUND_LINKS;
            &self.ground[start..start + usize::from(self.counts[node as usize])]
        } else {
            self.upper.get(&node).and_then(|levels| levels.get(level - 1)).map_or(&[], Vec::as_slice)
        }
    }

    fn set_links(&mut self, node: u32, level: usize, links: Vec<u32>) {
        if level == 0 {
            let start = node as usize * GROUND_LINKS;
            let (used, unused) = self.ground[start..start + GROUND_LINKS].split_at_mut(links.len());
            used.copy_from_slice(&links);
            unused.fill(0); // so that equal graphs are equal
            self.counts[node as usize] = links.len() as u8;
        } else if let Some(own) = self.upper.get_mut(&node).and_then(|levels| levels.get_mut(level - 1)) {
            *own = links;
        }
    }
}

/// Which slots a walk has come by.
struct Seen(Vec<u64>);

impl Seen {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }

    /// Marks a slot; says whether it was new.
    fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

mod place;
#[cfg(test)]
pub mod tests;

//! Hierarchical navigable small world graph over rows: approximate nearest neighbours, found by walking from row to row.
//!
//! Malkov, Yashunin: *Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
//! graphs*, IEEE TPAMI 2020 (arXiv 1603.09320); algorithm numbers below are the paper's. The graph holds the slots from 0
//! to its length; what is deleted stays in it as a way through, and is left out of the results by `accept`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::kernel::Probe;
use super::rows::Rows;

/// Links a new node is given on each level (M of the paper), and the most it keeps on levels above the ground.
const LINKS: usize = 16;
/// The most links a node keeps on the ground level.
const GROUND_LINKS: usize = 2 * LINKS;
/// How many candidates are kept while the place of a new node is sought (efConstruction).
const BUILD_WIDTH: usize = 128;
/// No node is given a higher level than this.
const TOP_LEVEL: usize = 12;

/// A row and how near it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Cosine to the vector sought.
    pub score: f32,
    /// Where the row is.
    pub slot: u32,
}

impl Eq for Near {}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.slot.cmp(&self.slot))
    }
}

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

/// What putting a node into the graph will change, worked out beforehand so that the change itself is quick.
#[derive(Debug)]
pub struct Placement {
    slot: u32,
    /// The new node's links, by level.
    links: Vec<Vec<u32>>,
    /// Nodes whose links change: node, level, all its links.
    changed: Vec<(u32, usize, Vec<u32>)>,
}

impl Graph {
    /// How many slots, from 0, are in the graph.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Works out where the next slot, `self.len()`, belongs (algorithm 1). Only one placement may be in the making.
    pub fn place(&self, rows: &Rows) -> Placement {
        let slot = self.len() as u32;
        let level = level_of(slot);
        let mut links = vec![Vec::new(); level + 1];
        let mut changed = Vec::new();
        if let Some(entry) = self.entry {
            let probe = Probe::of_row(rows.row(slot));
            let mut nearest = self.descend(rows, &probe, entry, level);
            for level in (0..=level.min(self.level(entry))).rev() {
                let found = self.explore(
                    rows,
                    &probe,
                    &nearest,
                    level,
                    Reach { width: BUILD_WIDTH, budget: usize::MAX },
                    |_| true,
                );
                let Some(found) = found else { continue };
                links[level] = select(rows, &found, LINKS);
                for &neighbour in &links[level] {
                    changed.push((neighbour, level, self.with_link(rows, neighbour, slot, level)));
                }
                nearest = found;
            }
        }
        Placement { slot, links, changed }
    }

    /// Puts a node where [`Graph::place`] said.
    pub fn put(&mut self, placement: Placement) {
        let Placement { slot, links, changed } = placement;
        let level = links.len() - 1;
        self.counts.push(0);
        self.ground.resize(self.counts.len() * GROUND_LINKS, 0);
        if level > 0 {
            self.upper.insert(slot, vec![Vec::new(); level]);
        }
        for (level, links) in links.into_iter().enumerate() {
            self.set_links(slot, level, links);
        }
        for (node, level, links) in changed {
            self.set_links(node, level, links);
        }
        if self.entry.is_none_or(|entry| self.level(entry) < level) {
            self.entry = Some(slot);
        }
    }

    /// The slots nearest to `probe` that `accept` allows, best first. `None` if that goes beyond the budget.
    pub fn search(&self, rows: &Rows, probe: &Probe, reach: Reach, accept: impl Fn(u32) -> bool) -> Option<Vec<Near>> {
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
    fn descend(&self, rows: &Rows, probe: &Probe, entry: u32, level: usize) -> Vec<Near> {
        let mut best = Near { score: probe.dot(rows.row(entry)), slot: entry };
        for level in (level + 1..=self.level(entry)).rev() {
            loop {
                let next = self
                    .links(best.slot, level)
                    .iter()
                    .map(|&slot| Near { score: probe.dot(rows.row(slot)), slot })
                    .max()
                    .filter(|next| *next > best);
                match next {
                    Some(next) => best = next,
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
        probe: &Probe,
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
        while let Some(nearest) = frontier.pop() {
            if found.len() >= width && found.peek().is_some_and(|worst| nearest < worst.0) {
                break;
            }
            for &slot in self.links(nearest.slot, level) {
                if !seen.insert(slot) {
                    continue;
                }
                looked_at += 1;
                let near = Near { score: probe.dot(rows.row(slot)), slot };
                if found.len() < width || found.peek().is_some_and(|worst| near > worst.0) {
                    frontier.push(near);
                    if accept(slot) {
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

    /// The links of `node` when it gets one more, chosen anew if that is too many.
    fn with_link(&self, rows: &Rows, node: u32, link: u32, level: usize) -> Vec<u32> {
        let most = if level == 0 { GROUND_LINKS } else { LINKS };
        let mut links = self.links(node, level).to_vec();
        links.push(link);
        if links.len() <= most {
            return links;
        }
        let probe = Probe::of_row(rows.row(node));
        let mut near: Vec<Near> =
            links.into_iter().map(|slot| Near { score: probe.dot(rows.row(slot)), slot }).collect();
        near.sort_unstable_by(|a, b| b.cmp(a));
        select(rows, &near, most)
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
            self.ground[start..start + links.len()].copy_from_slice(&links);
            self.counts[node as usize] = links.len() as u8;
        } else if let Some(own) = self.upper.get_mut(&node).and_then(|levels| levels.get_mut(level - 1)) {
            *own = links;
        }
    }
}

/// Chooses up to `most` links among `candidates` (best first): those nearer to the node than to any link chosen before,
/// so that links lead in different directions (algorithm 4); then, for nodes in dense places, the best of the rest.
fn select(rows: &Rows, candidates: &[Near], most: usize) -> Vec<u32> {
    let mut chosen: Vec<u32> = Vec::with_capacity(most);
    let mut passed_over = Vec::new();
    for candidate in candidates {
        if chosen.len() == most {
            return chosen;
        }
        let probe = Probe::of_row(rows.row(candidate.slot));
        if chosen.iter().all(|&link| probe.dot(rows.row(link)) < candidate.score) {
            chosen.push(candidate.slot);
        } else {
            passed_over.push(candidate.slot);
        }
    }
    let room = most - chosen.len();
    chosen.extend(passed_over.into_iter().take(room));
    chosen
}

/// The level of a node, exponentially distributed and always the same for the same slot.
fn level_of(slot: u32) -> usize {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut bits = (u64::from(slot) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let uniform = ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    let level = -(1.0 - uniform).ln() / (LINKS as f64).ln();
    (level as usize).min(TOP_LEVEL)
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

#[cfg(test)]
pub mod tests;

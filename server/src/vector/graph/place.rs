//! Where new nodes belong in the graph, and putting them there.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{GROUND_LINKS, Graph, LINKS, Reach, TOP_LEVEL};
use crate::vector::code::CodeProbe;
use crate::vector::rows::{Near, Rows};

/// How many candidates are kept while the place of a new node is sought (efConstruction).
const BUILD_WIDTH: usize = 128;

/// A node's links, by level.
type Levels = Vec<Vec<u32>>;

/// What putting nodes into the graph will change, worked out beforehand so that the change itself is quick.
#[derive(Debug)]
pub struct Placement {
    /// Of the new nodes, which are the next slots.
    new: Vec<Levels>,
    /// Nodes whose links change: node, level, all its links.
    changed: Vec<(u32, usize, Vec<u32>)>,
}

impl Graph {
    /// Works out where the next `count` slots, from `self.len()` on, belong (algorithm 1), on all threads of the pool
    /// that it is called in. Only one placement may be in the making.
    ///
    /// New nodes do not lead to each other yet while their places are sought; so each is compared with those before it.
    pub fn place(&self, rows: &Rows, count: usize) -> Placement {
        let first = self.len() as u32;
        let slots = first..first + count as u32;
        let new: Vec<Levels> = slots.into_par_iter().map(|slot| self.links_of_new(rows, first, slot)).collect();
        let mut back: BTreeMap<(u32, usize), Vec<u32>> = BTreeMap::new();
        for (slot, levels) in (first..).zip(&new) {
            for (level, links) in levels.iter().enumerate() {
                for &node in links {
                    back.entry((node, level)).or_default().push(slot);
                }
            }
        }
        let changed = back.into_par_iter().map(|((node, level), more)| {
            let mut links = match node.checked_sub(first) {
                Some(place) => new[place as usize][level].clone(),
                None => self.links(node, level).to_vec(),
            };
            links.extend(more);
            (node, level, fitting(rows, node, links, if level == 0 { GROUND_LINKS } else { LINKS }))
        });
        let changed = changed.collect();
        Placement { new, changed }
    }

    /// Puts nodes where [`Graph::place`] said.
    pub fn put(&mut self, placement: Placement) {
        for levels in placement.new {
            let (slot, level) = (self.len() as u32, levels.len() - 1);
            self.counts.push(0);
            self.ground.resize(self.counts.len() * GROUND_LINKS, 0);
            if level > 0 {
                self.upper.insert(slot, vec![Vec::new(); level]);
            }
            for (level, links) in levels.into_iter().enumerate() {
                self.set_links(slot, level, links);
            }
            if self.entry.is_none_or(|entry| self.level(entry) < level) {
                self.entry = Some(slot);
            }
        }
        for (node, level, links) in placement.changed {
            self.set_links(node, level, links);
        }
    }

    /// The links of a new node to nodes of the graph and to new ones from `first` to it.
    fn links_of_new(&self, rows: &Rows, first: u32, slot: u32) -> Levels {
        let probe = rows.code_probe(slot);
        let mut mates = Vec::with_capacity((slot - first) as usize);
        rows.compare_codes(&probe, &(first..slot).collect::<Vec<_>>(), &mut mates);
        let own_level = level_of(slot);
        let top = self.entry.map(|entry| self.level(entry));
        let mut nearest = self.entry.map_or_else(Vec::new, |entry| self.descend(rows, &probe, entry, own_level));
        let mut links = vec![Vec::new(); own_level + 1];
        for level in (0..=own_level).rev() {
            if top.is_some_and(|top| level <= top) {
                let reach = Reach { width: BUILD_WIDTH, budget: usize::MAX };
                nearest = self.explore(rows, &probe, &nearest, level, reach, |_| true).unwrap_or_default();
            }
            let mut candidates: Vec<Near> = mates.iter().copied().filter(|mate| level_of(mate.slot) >= level).collect();
            candidates.extend(if top.is_some_and(|top| level <= top) { &nearest[..] } else { &[] });
            candidates.sort_unstable_by(|a, b| b.cmp(a));
            let Selected { apart, beside } = select(rows, &candidates, LINKS);
            // In dense places few are apart.
            links[level] = apart.into_iter().chain(beside).take(LINKS).collect();
        }
        links
    }
}

/// The links of a node, chosen anew if they are too many: only those that are apart, so that there is room for a while.
fn fitting(rows: &Rows, node: u32, links: Vec<u32>, most: usize) -> Vec<u32> {
    if links.len() <= most {
        return links;
    }
    let mut near = Vec::with_capacity(links.len());
    rows.compare_codes(&rows.code_probe(node), &links, &mut near);
    near.sort_unstable_by(|a, b| b.cmp(a));
    select(rows, &near, most).apart
}

/// Links chosen among candidates.
#[derive(Default)]
struct Selected {
    /// Nearer to the node than to any chosen before, so that they lead in different directions.
    apart: Vec<u32>,
    /// The others that were looked at, best first.
    beside: Vec<u32>,
}

/// Chooses up to `most` links among `candidates`, which are best first (algorithm 4).
fn select(rows: &Rows, candidates: &[Near], most: usize) -> Selected {
    let mut probes: Vec<CodeProbe> = Vec::with_capacity(most);
    let mut compared = Vec::with_capacity(1);
    let mut selected = Selected::default();
    for candidate in candidates {
        if probes.len() == most {
            break;
        }
        let mut is_nearer_to = |link: &CodeProbe| {
            compared.clear();
            rows.compare_codes(link, &[candidate.slot], &mut compared);
            compared.iter().any(|near| near.score >= candidate.score)
        };
        if probes.iter().any(&mut is_nearer_to) {
            selected.beside.push(candidate.slot);
        } else {
            selected.apart.push(candidate.slot);
            probes.push(rows.code_probe(candidate.slot));
        }
    }
    selected
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

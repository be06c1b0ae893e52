//! One pass over rows: alone, or shared between the threads of a team.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::CpuNetwork;
use super::attention::Attention;
use super::blocks::{self, Block};
use super::kernels::Kernels;
use super::network::{Between, Network};
use super::rates::{Rates, Way, Work};
use super::shared::Shared;
use super::team::{Member, Team};
use crate::Ragged;
use crate::buckets::Cost;
use crate::pooling::Pooling;

/// A network, and what it keeps between passes.
pub(super) struct Runner<K: Kernels> {
    network: Network<K>,
    cost: Cost,
    team: Option<Team>,
    rates: Rates,
    /// One for each thread.
    desks: Vec<Mutex<Desk<K>>>,
    /// For passes in which all threads work on each layer.
    common: Between<K>,
}

/// Where one thread works.
struct Desk<K: Kernels> {
    attention: Attention<K::Attention>,
    between: Between<K>,
}

/// A pass's rows in, and one vector a row out.
struct Batch<'a> {
    rows: &'a Ragged,
    pooling: Pooling,
    out: Shared<f32>,
}

impl<K: Kernels> Runner<K> {
    pub(super) fn new(network: Network<K>, cost: Cost) -> Self {
        let sizes = network.sizes;
        let mut runner =
            Self { network, cost, team: None, rates: Rates::default(), desks: Vec::new(), common: Between::new(sizes) };
        runner.seat(1);
        runner
    }

    fn seat(&mut self, threads: usize) {
        let sizes = self.network.sizes;
        let desk = || Mutex::new(Desk { attention: Attention::new(), between: Between::new(sizes) });
        self.desks.resize_with(threads, desk);
    }

    /// Shares the pass in one of the ways that there are for it.
    fn run(&mut self, way: Way, batch: &Batch<'_>, blocks: &[Block]) {
        let (network, desks) = (&self.network, &self.desks);
        match (way, &mut self.team) {
            (Way::Rows, Some(team)) => {
                let next = AtomicUsize::new(0);
                team.run(0, &|member| {
                    let mut desk = sit(&desks[member.index]);
                    while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        desk.run(network, batch, block);
                    }
                });
            }
            (Way::Layers, Some(team)) => {
                let all: Vec<usize> = (0..batch.rows.len()).collect();
                self.common.make_room(batch.rows.tokens());
                let common = &self.common;
                team.run(network.steps() + 1, &|member| {
                    let mut desk = sit(&desks[member.index]);
                    batch.layer_by_layer(network, common, &mut desk.attention, (&all, member));
                });
            }
            _ => {
                let mut desk = sit(&desks[0]);
                for block in blocks {
                    desk.run(network, batch, block);
                }
            }
        }
    }
}

impl<K: Kernels> CpuNetwork for Runner<K> {
    fn embed(&mut self, rows: &Ragged, pooling: Pooling) -> Vec<f32> {
        let hidden = self.network.sizes.hidden;
        let mut batch = Batch { rows, pooling, out: Shared::new(hidden) };
        batch.out.make_room(rows.len());
        let lengths: Vec<usize> = rows.iter().map(<[u32]>::len).collect();
        let threads = self.team.as_ref().map_or(1, Team::members);
        let blocks = blocks::plan(&lengths, &self.cost, threads);
        if threads == 1 {
            self.run(Way::Alone, &batch, &blocks);
        } else {
            let all = blocks.iter().map(|block| block.cost).sum();
            let work: Work =
                [Some(all), Some(all / threads as f32), (blocks.len() > 1).then(|| blocks::busiest(&blocks, threads))];
            let way = self.rates.choose(rows.tokens(), &work);
            let started = Instant::now();
            self.run(way, &batch, &blocks);
            self.rates.learn(rows.tokens(), way, &work, started.elapsed());
        }
        batch.out.into_rows(rows.len())
    }

    fn share_work(&mut self, threads: usize) -> io::Result<()> {
        self.team = None;
        if threads > 1 {
            self.team = Some(Team::start(threads - 1)?);
        }
        self.seat(threads.max(1));
        Ok(())
    }
}

/// A panic at a desk leaves nothing behind that the next pass reads before it writes it.
fn sit<K: Kernels>(desk: &Mutex<Desk<K>>) -> MutexGuard<'_, Desk<K>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Kernels> Desk<K> {
    /// Takes a block through all layers.
    fn run(&mut self, network: &Network<K>, batch: &Batch<'_>, block: &Block) {
        let tokens = block.rows.iter().map(|&row| batch.rows.row(row).len()).sum();
        self.between.make_room(tokens);
        batch.layer_by_layer(network, &self.between, &mut self.attention, (&block.rows, &Member::alone()));
    }
}

impl Batch<'_> {
    /// Takes rows through all layers, and pools them.
    fn layer_by_layer<K: Kernels>(
        &self,
        network: &Network<K>,
        between: &Between<K>,
        attention: &mut Attention<K::Attention>,
        (rows, member): (&[usize], &Member<'_>),
    ) {
        let ids: Vec<&[u32]> = rows.iter().map(|&row| self.rows.row(row)).collect();
        let pool = |mine: Range<usize>| {
            let mut start = 0;
            for (at, (&row, ids)) in rows.iter().zip(&ids).enumerate() {
                let tokens = start..start + ids.len();
                start = tokens.end;
                if mine.contains(&at) {
                    // SAFETY: after the last layer nobody writes vectors, and a row is one member's.
                    let (vectors, out) = unsafe { (between.vectors.rows(tokens), self.out.row_mut(row)) };
                    self.pooling.pool(vectors, out);
                }
            }
        };
        // A member that panicked says so itself.
        let _ = network.forward(&ids, between, attention, member).and_then(|()| member.share(0..rows.len(), pool));
    }
}

//! Measures vector search: `cargo run --release -p vitrine-server --example vector_speed -- 100000`.
//!
//! On made-up vectors, since making real ones takes longer than searching them: 384 numbers, 1,000 clusters in 40 groups.

use std::time::Instant;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use roaring::RoaringBitmap;
use vitrine_server::Doc;
use vitrine_server::vector::{VectorIndex, VectorOptions};

const WIDTH: usize = 384;
const QUERIES: usize = 100;

fn vectors(count: usize) -> Vec<Vec<f32>> {
    let mut random = StdRng::seed_from_u64(7);
    let mut around = |centre: &[f32], size: f32| -> Vec<f32> {
        // The sum of four uniform numbers is near enough to a normal one.
        let mut normal = || (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>() * 1.73;
        centre.iter().map(|x| x + size * normal()).collect()
    };
    let groups: Vec<_> = (0..40).map(|_| around(&[0.0; WIDTH], 1.0)).collect();
    let clusters: Vec<_> = (0..1000).map(|n| around(&groups[n % 40], 0.9)).collect();
    (0..count).map(|n| around(&clusters[n * 617 % 1000], 0.6)).collect()
}

fn main() -> Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |count| count.parse())?;
    let mut items = vectors(count + QUERIES);
    let queries = items.split_off(count);
    let dir = tempfile::tempdir()?;
    let open = |name: &str, exact_below| {
        VectorIndex::open(&dir.path().join(name), VectorOptions { exact_below, ..VectorOptions::new(WIDTH) })
    };
    let (exact, graph) = (open("exact", usize::MAX)?, open("graph", 0)?);
    for (doc, vector) in (0..).zip(&items) {
        exact.upsert(doc, u64::from(doc), vector)?;
        graph.upsert(doc, u64::from(doc), vector)?;
    }
    let began = Instant::now();
    while graph.tend(1000)? {}
    println!("{count} vectors, graph made in {:.1} s", began.elapsed().as_secs_f64());

    println!("| allowed | k | exact µs | {} µs | recall |\n|---|---|---|---|---|", graph.algorithm());
    for (one_in, k) in [(1, 10), (1, 100), (2, 10), (10, 10), (100, 10), (1000, 10)] {
        let allowed: RoaringBitmap =
            (0..count as Doc).filter(|doc| doc.wrapping_mul(2_654_435_761) % one_in == 0).collect();
        let allowed = (one_in > 1).then_some(&allowed);
        let timed = |index: &VectorIndex| -> Result<_> {
            let began = Instant::now();
            let found = queries.iter().map(|query| index.search(query, k, allowed)).collect::<Result<Vec<_>, _>>()?;
            Ok((began.elapsed().as_micros() / QUERIES as u128, found))
        };
        let ((exact_us, truth), (graph_us, found)) = (timed(&exact)?, timed(&graph)?);
        let wanted: usize = truth.iter().map(Vec::len).sum();
        let right: usize =
            truth.iter().zip(&found).map(|(truth, found)| found.iter().filter(|hit| truth.contains(hit)).count()).sum();
        println!("| 1 in {one_in} | {k} | {exact_us} | {graph_us} | {:.4} |", right as f64 / wanted as f64);
    }
    Ok(())
}

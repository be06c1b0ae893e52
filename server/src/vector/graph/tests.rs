//! The graph finds what a scan would, and only that.

use super::*;
use crate::vector::metric::{Metric, to_row};
use crate::vector::rows::Shape;
use crate::vector::rows::tests::shape;
use vitrine_models::{Isa, Products};

/// `count` vectors around `count / 50` centres, always the same ones.
pub fn clustered(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut bits = seed;
    let mut random = move || {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (bits >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut vector = |size: f32| (0..dimensions).map(|_| size * random()).collect::<Vec<f32>>();
    let centres: Vec<Vec<f32>> = (0..count.div_ceil(50)).map(|_| vector(1.0)).collect();
    (0..count)
        .map(|n| {
            let centre = &centres[n * 7 % centres.len()];
            let around: Vec<f32> = centre.iter().zip(vector(0.7)).map(|(a, b)| a + b).collect();
            Metric::Cosine.prepared(&around, dimensions).unwrap()
        })
        .collect()
}

pub fn graph_over(rows: &Rows) -> Graph {
    let mut graph = Graph::default();
    while graph.len() < rows.len() {
        let placement = graph.place(rows, 32.min(rows.len() - graph.len()));
        graph.put(placement);
    }
    graph
}

fn rows_of(vectors: &[Vec<f32>]) -> Rows {
    let mut rows = Rows::new(shape(vectors[0].len()));
    for vector in vectors {
        rows.push(&to_row(vector));
    }
    rows
}

const FAR: Reach = Reach { width: 64, budget: usize::MAX };

/// How many of the ten nearest to each of a hundred vectors.
fn found_of_a_thousand(rows: &Rows, graph: &Graph) -> usize {
    let found = |query: Vec<f32>| {
        let probe = rows.probe(query).coded;
        let mut all = Vec::new();
        rows.compare_codes(&probe, &(0..rows.len() as u32).collect::<Vec<_>>(), &mut all);
        all.sort_unstable_by(|a, b| b.cmp(a));
        let near = graph.search(rows, &probe, FAR, |_| true).unwrap();
        assert!(near.is_sorted_by(|a, b| a >= b));
        near[..10].iter().filter(|near| all[..10].contains(near)).count()
    };
    clustered(100, 32, 2).into_iter().map(found).sum()
}

#[test]
fn nearly_all_of_the_true_neighbours_are_found() {
    let rows = rows_of(&clustered(3000, 32, 1));
    let found = found_of_a_thousand(&rows, &graph_over(&rows));
    assert!(found >= 950, "recall@10 is {}", found as f64 / 1000.0);
}

#[test]
fn where_distances_count_nearly_all_are_found_as_well() {
    let vectors: Vec<Vec<f32>> = clustered(3000, 32, 1);
    // Of lengths from 1 to 2.
    let longer = |n: usize, vector: &Vec<f32>| vector.iter().map(|x| x * (1.0 + n as f32 / 3000.0)).collect();
    let vectors: Vec<Vec<f32>> = vectors.iter().enumerate().map(|(n, vector)| longer(n, vector)).collect();
    let mut rows = Rows::new(Shape { metric: Metric::Euclidean, ..shape(32) });
    for vector in &vectors {
        rows.push(&to_row(vector));
    }
    let found = found_of_a_thousand(&rows, &graph_over(&rows));
    assert!(found >= 950, "recall@10 is {}", found as f64 / 1000.0);
}

#[test]
fn the_graph_is_the_same_on_every_instruction_set_and_on_any_number_of_threads() {
    let vectors = clustered(500, 33, 7);
    let graph = graph_over(&rows_of(&vectors));
    let mut portable = Rows::new(Shape { products: Products::on(Isa::Portable), ..shape(33) });
    for vector in &vectors {
        portable.push(&to_row(vector));
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| graph_over(&portable)), graph);
    }
}

#[test]
fn only_what_is_accepted_is_found() {
    let rows = rows_of(&clustered(1000, 16, 3));
    let graph = graph_over(&rows);
    for query in clustered(20, 16, 4) {
        let near = graph.search(&rows, &rows.probe(query).coded, FAR, |slot| slot % 5 == 0).unwrap();
        assert_eq!(near.len(), 64);
        assert!(near.iter().all(|near| near.slot % 5 == 0));
    }
}

#[test]
fn a_walk_that_goes_too_far_gives_up() {
    let vectors = clustered(1000, 16, 5);
    let rows = rows_of(&vectors);
    let graph = graph_over(&rows);
    let reach = Reach { width: 64, budget: 100 };
    assert!(graph.search(&rows, &rows.probe(vectors[0].clone()).coded, reach, |_| false).is_none());
}

#[test]
fn the_graph_is_read_back_as_it_was_written() {
    let graph = graph_over(&rows_of(&clustered(500, 8, 8)));
    let mut words = Vec::new();
    graph.write(&mut words);
    assert_eq!(Graph::read(&words, 500), Some(graph));
    assert_eq!(Graph::read(&words[..words.len() - 1], 500), None);
    assert_eq!(Graph::read(&words, 499), None);
    assert_eq!(Graph::read(&[], 0), None);
}

#[test]
fn an_empty_graph_finds_nothing() {
    let rows = Rows::new(shape(4));
    let found = Graph::default().search(&rows, &rows.probe(vec![1.0, 0.0, 0.0, 0.0]).coded, FAR, |_| true);
    assert_eq!(found, Some(Vec::new()));
    let mut words = Vec::new();
    Graph::default().write(&mut words);
    assert_eq!(Graph::read(&words, 0), Some(Graph::default()));
}

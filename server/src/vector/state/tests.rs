//! Whichever way is taken, the answer is that of comparing with every vector.

use super::*;
use crate::vector::graph::tests::{clustered, graph_over};
use crate::vector::metric::to_row;
use crate::vector::rows::tests::shape;
use proptest::prelude::*;

fn state_of(vectors: &[Vec<f32>]) -> State {
    let mut state = State::new(shape(vectors[0].len()));
    for (doc, vector) in vectors.iter().enumerate() {
        state.upsert(doc as Doc, 0, &to_row(vector));
    }
    state
}

fn asked(k: usize, allowed: Option<&RoaringBitmap>) -> Wanted<'_> {
    Wanted { k, width: 128, allowed }
}

fn naive(state: &State, probe: &Probe, k: usize, allowed: impl Fn(Doc) -> bool) -> Vec<(Doc, f32)> {
    let mut all: Vec<(Doc, f32)> =
        state.docs().iter().filter(|&doc| allowed(doc)).map(|doc| (doc, state.score(probe, doc).unwrap())).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

#[test]
fn with_a_graph_filtered_searches_find_nearly_what_a_scan_finds_and_only_what_is_allowed() {
    let vectors = clustered(7000, 16, 11);
    let mut state = state_of(&vectors);
    state.set_graph(graph_over(state.rows()));
    for doc in (0..7000).step_by(13) {
        state.remove(doc);
    }
    for (n, vector) in clustered(50, 16, 12).iter().enumerate() {
        state.upsert(20_000 + n as Doc, 0, &to_row(vector));
    }
    // Every document, nine in ten (both by the graph), and fewer and fewer.
    let filters: [fn(Doc) -> bool; 5] =
        [|_| true, |doc| doc % 10 != 0, |doc| doc % 2 == 0, |doc| doc % 100 == 0, |doc| doc % 1000 == 0];
    for (n, filter) in filters.into_iter().enumerate() {
        let allowed: RoaringBitmap = (0..21_000).filter(|&doc| filter(doc)).collect();
        let (mut found, mut wanted) = (0, 0);
        for query in clustered(20, 16, 13) {
            let probe = state.rows().probe(query);
            let truth = naive(&state, &probe, 10, |doc| allowed.contains(doc));
            let nearest = state.nearest(&probe, asked(10, Some(&allowed)));
            assert_eq!(nearest.len(), truth.len());
            assert!(nearest.iter().all(|(doc, _)| allowed.contains(*doc) && state.get(*doc).is_some()));
            found += nearest.iter().filter(|hit| truth.contains(hit)).count();
            wanted += truth.len();
        }
        assert!(found * 100 >= wanted * 95, "filter {n}: {found} of {wanted}");
    }
}

#[test]
fn compacting_changes_no_answer() {
    let vectors = clustered(3000, 8, 14);
    let mut state = state_of(&vectors);
    for doc in 0..2000 {
        state.remove(doc);
    }
    assert!(state.is_worn());
    let fresh = state.compacted();
    assert!(!fresh.is_worn() && fresh.rows().len() == 1000);
    let probe = state.rows().probe(vectors[5].clone());
    assert_eq!(fresh.nearest(&probe, asked(20, None)), state.nearest(&probe, asked(20, None)));
}

#[test]
fn documents_with_equal_vectors_share_a_row_and_are_all_found() {
    let vectors = clustered(5000, 16, 15);
    let mut state = state_of(&vectors);
    for doc in 10_000..10_500 {
        state.upsert(doc, 0, &to_row(&vectors[77]));
    }
    assert_eq!(state.rows().len(), 5000);
    state.set_graph(graph_over(state.rows()));
    let probe = state.rows().probe(vectors[77].clone());
    let nearest = state.nearest(&probe, asked(501, None));
    assert_eq!(nearest, naive(&state, &probe, 501, |_| true));
    assert_eq!((nearest[0].0, nearest[500].0), (77, 10_499));
    for doc in (10_000..10_500).chain([77]) {
        assert!(state.remove(doc));
    }
    assert!(state.nearest(&probe, asked(10, None)).iter().all(|hit| hit.0 < 5000 && hit.0 != 77));
}

#[test]
fn what_was_made_from_a_content_is_shared_with_all_of_that_content() {
    let vectors = clustered(2, 16, 16);
    let mut state = State::new(shape(16));
    state.upsert(1, 100, &to_row(&vectors[0]));
    assert!(state.share(2, 100) && !state.share(2, 200));
    assert_eq!(state.get(2), state.get(1));
    state.upsert(1, 200, &to_row(&vectors[1]));
    assert_ne!(state.get(2), state.get(1));
    state.remove(2);
    assert!(state.share(3, 100));
    assert_eq!(state.get(3).unwrap().1, to_row(&vectors[0]));
}

proptest! {
    #[test]
    fn without_a_graph_the_answer_is_that_of_comparing_with_all(
        vectors in proptest::collection::vec(proptest::collection::vec(-1.0..1.0_f32, 5), 1..60),
        removed in proptest::collection::vec(0..60_u32, 0..10),
        allowed in proptest::option::of(proptest::collection::btree_set(0..80_u32, 0..60)),
        k in 0..70_usize,
    ) {
        let mut state = state_of(&vectors);
        for doc in removed {
            state.remove(doc);
        }
        let allowed: Option<RoaringBitmap> = allowed.map(|docs| docs.into_iter().collect());
        let probe = state.rows().probe(vectors[0].clone());
        let truth = naive(&state, &probe, k, |doc| allowed.as_ref().is_none_or(|allowed| allowed.contains(doc)));
        prop_assert_eq!(state.nearest(&probe, asked(k, allowed.as_ref())), truth);
    }
}

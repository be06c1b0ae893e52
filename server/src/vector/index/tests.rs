//! A generation through changes, restarts and damage.

use super::*;
use crate::vector::graph::tests::clustered;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use tempfile::TempDir;

const WIDTH: usize = 16;

fn options() -> VectorOptions {
    VectorOptions { exact_below: 200, ..VectorOptions::new(WIDTH) }
}

fn open(dir: &TempDir) -> VectorIndex {
    VectorIndex::open(dir.path(), options()).unwrap()
}

fn filled(dir: &TempDir, count: usize) -> (VectorIndex, Vec<Vec<f32>>) {
    let index = open(dir);
    let vectors = clustered(count, WIDTH, 21);
    for (doc, vector) in vectors.iter().enumerate() {
        index.upsert(doc as Doc, doc as u64, vector).unwrap();
    }
    index.flush(count as u64).unwrap();
    (index, vectors)
}

fn overwrite(path: &Path, at: u64, count: usize) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    let mut bytes = vec![0; count];
    let count = file.read(&mut bytes).unwrap();
    bytes.truncate(count);
    for byte in &mut bytes {
        *byte = !*byte;
    }
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&bytes).unwrap();
}

#[test]
fn a_vector_is_its_own_nearest_whatever_its_length() {
    let dir = TempDir::new().unwrap();
    let (index, vectors) = filled(&dir, 100);
    let long: Vec<f32> = vectors[42].iter().map(|value| value * 1000.0).collect();
    let nearest = index.search(&long, 3, None).unwrap();
    assert_eq!(nearest.len(), 3);
    assert!(nearest[0].0 == 42 && nearest[0].1 > 0.999 && nearest[0].1 <= 1.0);
    assert_eq!(index.content_hash(42), Some(42));
    assert_eq!(index.vector(42).unwrap().len(), WIDTH);
}

#[test]
fn bad_vectors_are_refused_and_change_nothing() {
    let dir = TempDir::new().unwrap();
    let index = open(&dir);
    for bad in [vec![0.0; WIDTH], vec![f32::NAN; WIDTH], vec![f32::INFINITY; WIDTH], vec![1.0; 3], vec![]] {
        assert!(index.upsert(1, 1, &bad).is_err());
        assert!(index.search(&bad, 1, None).is_err());
    }
    assert!(index.is_empty() && !index.has_changes());
    assert!(index.search(&[1.0; WIDTH], 10, None).unwrap().is_empty());
}

#[test]
fn what_was_flushed_is_there_after_a_restart_and_what_was_not_is_not() {
    let dir = TempDir::new().unwrap();
    let (index, vectors) = filled(&dir, 10);
    index.remove(3);
    index.flush(11).unwrap();
    index.upsert(10, 0, &vectors[0]).unwrap();
    index.remove(4);
    drop(index); // as if killed
    let index = open(&dir);
    assert_eq!((index.len(), index.watermark()), (9, 11));
    assert_eq!(index.docs(), (0..10).filter(|doc| *doc != 3).collect());
    assert_eq!(index.content_hash(4), Some(4));
}

#[test]
fn where_distances_count_the_nearest_need_not_be_in_the_same_direction() {
    let dir = TempDir::new().unwrap();
    let metric = Metric::Euclidean;
    let index = VectorIndex::open(dir.path(), VectorOptions { metric, ..options() }).unwrap();
    index.upsert(1, 1, &[10.0; WIDTH]).unwrap();
    index.upsert(2, 2, &[0.0; WIDTH]).unwrap();
    assert_eq!(index.search(&[1.0; WIDTH], 2, None).unwrap(), [(2, -4.0), (1, -36.0)]);
    assert_eq!(index.similarities(&[10.0; WIDTH], [1, 2, 3]).unwrap(), [(1, 0.0), (2, -40.0)]);
    assert_eq!(index.vector(1).unwrap(), [10.0; WIDTH]);
}

#[test]
fn a_removed_document_is_not_found_any_more_also_by_the_graph() {
    let dir = TempDir::new().unwrap();
    let (index, vectors) = filled(&dir, 4000);
    while index.tend(1000).unwrap() {}
    assert_eq!(index.algorithm(), "hnsw");
    assert_eq!(index.search(&vectors[7], 1, None).unwrap()[0].0, 7);
    index.remove(7);
    assert!(index.search(&vectors[7], 50, None).unwrap().iter().all(|hit| hit.0 != 7));
    index.upsert(7, 8, &vectors[8]).unwrap();
    let nearest = index.search(&vectors[8], 2, None).unwrap();
    assert_eq!([nearest[0].0, nearest[1].0], [7, 8]);
    assert_eq!(index.search(&vectors[7], 4000, None).unwrap().len(), 4000);
}

#[test]
fn the_graph_is_there_after_a_restart_and_takes_up_what_it_lacks() {
    let dir = TempDir::new().unwrap();
    let (index, vectors) = filled(&dir, 1000);
    while index.tend(100).unwrap() {}
    let fresh = clustered(20, WIDTH, 23);
    for (doc, vector) in fresh.iter().enumerate() {
        index.upsert(doc as Doc, 5000 + doc as u64, vector).unwrap();
    }
    index.remove(30);
    index.flush(2000).unwrap();
    drop(index); // the graph on disk does not know of the last changes
    let index = open(&dir);
    assert_eq!(index.algorithm(), "hnsw");
    assert_eq!(index.state.read().graph().len(), 1000);
    assert_eq!(index.state.read().after_graph(), 20);
    assert_eq!(index.len(), 999);
    assert_eq!(index.search(&fresh[7], 1, None).unwrap()[0].0, 7);
    assert_eq!(index.search(&vectors[999], 1, None).unwrap()[0].0, 999);
    while index.tend(100).unwrap() {}
    assert_eq!(index.state.read().after_graph(), 0);
}

#[test]
fn a_damaged_graph_is_made_again() {
    let dir = TempDir::new().unwrap();
    let (index, vectors) = filled(&dir, 500);
    while index.tend(100).unwrap() {}
    drop(index);
    overwrite(&dir.path().join(GRAPH_FILE), 5000, 4);
    let index = open(&dir);
    assert_eq!((index.algorithm(), index.len()), ("exact", 500));
    while index.tend(100).unwrap() {}
    assert_eq!(index.algorithm(), "hnsw");
    assert_eq!(index.search(&vectors[9], 1, None).unwrap()[0].0, 9);
}

#[test]
fn of_a_damaged_file_the_good_vectors_are_kept_and_the_watermark_is_lost() {
    let dir = TempDir::new().unwrap();
    drop(filled(&dir, 2000));
    overwrite(&dir.path().join(VECTORS_FILE), 60_000, 30);
    let index = open(&dir);
    assert_eq!(index.watermark(), 0);
    assert!(index.len() > 500 && index.len() < 2000, "{} left", index.len());
    index.flush(7).unwrap();
    let kept = index.len();
    drop(index);
    let index = open(&dir);
    assert_eq!((index.len(), index.watermark()), (kept, 7));
}

#[test]
fn a_file_cut_off_or_of_something_else_never_keeps_it_from_opening() {
    for keep in [0, 1, 100, 4096, 30_000, 60_000] {
        let dir = TempDir::new().unwrap();
        drop(filled(&dir, 1000));
        let path = dir.path().join(VECTORS_FILE);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(keep).unwrap();
        let index = open(&dir);
        assert!(index.len() < 1000);
        assert_eq!(index.watermark(), 0);
        index.upsert(1, 1, &[1.0; WIDTH]).unwrap();
        index.flush(1).unwrap();
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(VECTORS_FILE), "no database, but long enough to be one ".repeat(100)).unwrap();
    assert!(open(&dir).is_empty());
}

#[test]
fn searches_go_on_while_vectors_change() {
    let dir = TempDir::new().unwrap();
    let (index, vectors) = filled(&dir, 600);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (doc, vector) in vectors.iter().enumerate().take(300) {
                index.remove(doc as Doc);
                index.upsert(1000 + doc as Doc, 0, vector).unwrap();
                index.tend(4).unwrap();
            }
            index.flush(1).unwrap();
        });
        for _ in 0..200 {
            let nearest = index.search(&vectors[450], 5, None).unwrap();
            assert_eq!(nearest.len(), 5);
            assert_eq!(nearest[0].0, 450);
        }
    });
    assert_eq!(index.len(), 600);
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(Doc, usize),
    Remove(Doc),
    Flush,
    Tend,
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..30_u32, 0..40_usize).prop_map(|(doc, vector)| Step::Upsert(doc, vector)),
        2 => (0..30_u32).prop_map(Step::Remove),
        1 => Just(Step::Flush),
        1 => Just(Step::Tend),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_holds_what_a_plain_map_would(steps in proptest::collection::vec(any_step(), 1..80)) {
        let dir = TempDir::new().unwrap();
        let options = VectorOptions { exact_below: 10, ..VectorOptions::new(WIDTH) };
        let vectors = clustered(40, WIDTH, 22);
        let mut index = VectorIndex::open(dir.path(), options).unwrap();
        let (mut now, mut on_disk) = (BTreeMap::new(), BTreeMap::new());
        for (step, watermark) in steps.into_iter().zip(1..) {
            match step {
                Step::Upsert(doc, vector) => {
                    index.upsert(doc, vector as u64, &vectors[vector]).unwrap();
                    now.insert(doc, vector);
                }
                Step::Remove(doc) => {
                    index.remove(doc);
                    now.remove(&doc);
                }
                Step::Flush => {
                    index.flush(watermark).unwrap();
                    on_disk.clone_from(&now);
                }
                Step::Tend => drop(index.tend(5).unwrap()),
                Step::Restart => {
                    drop(index);
                    index = VectorIndex::open(dir.path(), options).unwrap();
                    now.clone_from(&on_disk);
                }
            }
            prop_assert_eq!(index.len(), now.len());
            for (&doc, &vector) in &now {
                prop_assert_eq!(index.content_hash(doc), Some(vector as u64));
            }
            let found: RoaringBitmap =
                index.search(&vectors[0], 100, None).unwrap().into_iter().map(|hit| hit.0).collect();
            prop_assert_eq!(found, now.keys().copied().collect::<RoaringBitmap>());
        }
    }
}

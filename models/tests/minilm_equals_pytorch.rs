//! all-MiniLM-L6-v2 computes what the original in Python does. `reference.py` made the reference. And texts are cut into the
//! tokens that the `tokenizers` crate cuts them into.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::Device;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use vitrine_models::{GoldenCheck, Isa, Ragged, TextEncoder, Tokenizer, check_golden, golden_tolerance};
use vitrine_registry::Registry;
use vitrine_registry::pull::{Progress, PullOptions, pull, recipe};

/// The largest difference of one number, and the least cosine.
fn bounds(isa: Isa) -> (f32, f32) {
    if isa.rounds() { (3e-3, 0.999) } else { (1e-4, 0.999_999) }
}

/// The version, pulled once into the cache, with the rows that `reference.py` recorded.
fn minilm() -> PathBuf {
    let cache = PullOptions::default_cache();
    let registry = Registry::create(cache.join("test-registry")).unwrap();
    let request = recipe::request("all-MiniLM-L6-v2").unwrap();
    pull(&registry, &request, &PullOptions::new(cache), &Progress::on_stderr()).unwrap().version.path
}

struct Reference {
    texts: Vec<String>,
    rows: Ragged,
    embeddings: Vec<Vec<f32>>,
}

fn reference(version: &Path) -> Reference {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let texts = serde_json::from_slice(&std::fs::read(data.join("texts.json")).unwrap()).unwrap();
    let tensors = candle_core::safetensors::load(version.join("golden.safetensors"), &Device::Cpu).unwrap();
    let rows = Ragged::from_parts(tensors["ids"].to_vec1().unwrap(), &tensors["offsets"].to_vec1::<u32>().unwrap());
    Reference { texts, rows: rows.unwrap(), embeddings: tensors["embeddings"].to_vec2().unwrap() }
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn assert_equal(what: &str, isa: Isa, ours: &[Vec<f32>], expected: &[Vec<f32>]) {
    let (most, least) = bounds(isa);
    let difference = largest_difference(ours, expected);
    assert!(difference <= most, "{isa}, {what}: {difference:e}");
    for (row, (a, b)) in ours.iter().zip(expected).enumerate() {
        let cosine = a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!(cosine >= least, "{isa}, {what}, row {row}: cosine {cosine}");
    }
}

/// Every text of the data sets, where they are: fields of films and products, and what people searched for.
fn real_texts() -> BTreeSet<String> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("VITRINE_TEST_DATA").map_or_else(beside, PathBuf::from);
    let packed = |name: &str| {
        let mut text = String::new();
        let read = File::open(data.join(name)).and_then(|file| MultiGzDecoder::new(file).read_to_string(&mut text));
        read.map(|_| text).unwrap_or_default()
    };
    let films = packed("movies/movies-corpus.jsonl.gz");
    let searches = packed("movies/judgments-train.tsv.gz");
    let products = ["products/products.json", "products/products-ecommerce.json"].map(|name| data.join(name));
    let products: Vec<String> = products.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let mut texts: BTreeSet<String> =
        searches.lines().filter_map(|line| line.split('\t').nth(1)).map(str::to_owned).collect();
    for json in films.lines().chain(products.iter().map(String::as_str)) {
        collect(serde_json::from_str(json).unwrap(), &mut texts);
    }
    texts
}

fn collect(json: Value, texts: &mut BTreeSet<String>) {
    match json {
        Value::String(text) => _ = texts.insert(text),
        Value::Array(values) => values.into_iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| collect(value, texts)),
        _ => {}
    }
}

fn assert_cut_as_by_the_crate(dir: &Path, tokenizer: &Tokenizer) {
    let mut theirs = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    theirs.with_padding(None);
    let texts = real_texts();
    if texts.is_empty() {
        eprintln!("the data sets are not there: only {} texts are compared", PLAIN.len());
    } else {
        assert!(texts.len() > 100_000, "{}", texts.len());
    }
    for text in texts.iter().map(String::as_str).chain(PLAIN) {
        let expected = theirs.encode_fast(text, true).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), expected.get_ids(), "{text:?}");
    }
}

const PLAIN: [&str; 8] = [
    "",
    " \t\r\n ",
    "Star Wars: Episode IV - A New Hope",
    "it's #1!!! [not] [SEP] [sep] a_b",
    "caf\u{e9} na\u{ef}ve \u{4e2d}\u{6587}",
    "bell\u{7}bell vertical\u{b}tab delete\u{7f}d",
    "antidisestablishmentarianism zzzzqqqqxxxx",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b",
];

// One test, so that the weights are fetched once: nextest gives every test its own process.
#[test]
fn tokens_and_embeddings_equal_pytorchs_and_texts_are_cut_as_by_the_crate() {
    let dir = minilm();
    let reference = reference(&dir);
    assert_eq!(reference.texts.len(), 32);
    for isa in Isa::available() {
        let encoder = TextEncoder::load_for(&dir, isa).unwrap();
        let tokenizer = encoder.tokenizer();
        assert_eq!((encoder.dimensions(), tokenizer.max_tokens()), (384, 128));
        let rows: Ragged = reference.texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
        assert_eq!(rows, reference.rows, "the tokenizer differs");

        let together = encoder.embed(&rows).unwrap();
        assert_equal("together", isa, &together, &reference.embeddings);
        let one_by_one = |row| encoder.embed(&[row].into_iter().collect()).unwrap().remove(0);
        assert!(rows.iter().map(one_by_one).collect::<Vec<_>>() == together, "{isa}: neighbours matter");
        encoder.share_work(2).unwrap();
        assert!(encoder.embed(&rows).unwrap() == together, "{isa}: the number of threads matters");
    }
    assert_cut_as_by_the_crate(&dir, &TextEncoder::load_for(&dir, Isa::Portable).unwrap().tokenizer());
    let quickest = TextEncoder::load_for(&dir, Isa::available().next().unwrap()).unwrap();
    let check = check_golden(&dir, &quickest, golden_tolerance(&quickest)).unwrap();
    assert!(matches!(check, GoldenCheck::Matched { rows: 32, .. }), "{check:?}");
}

//! Measures vector search: recall@10 and searches a second on one thread, with a graph and without.
//!
//! `cargo run -p vitrine-server --example vector_speed -- [--pictures FOLDER] [--vectors FILE] [--made-up N] [--json]`
//!
//! - `--pictures`: the folder of Fashion-MNIST's `*-images-idx3-ubyte.gz`: 784 numbers, the distance of pixels.
//! - `--vectors`: an index generation's `vectors.db`: directions. A thousand vectors are held out to search by.
//! - `--made-up`: so many vectors of 384 numbers in clusters.
//! - `--widths 16,32`: search widths to try. `--runs N`: how often each is timed; the median counts. `--sizes`: how
//!   long searches take with ever more of the items, to see from where on a graph is quicker.
//!
//! `--json` ends with a line of all figures. `VITRINE_CPU_ISA` forces an instruction set.

mod data;
mod truth;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use vitrine_models::Products;
use vitrine_server::Doc;
use vitrine_server::vector::{VectorIndex, VectorOptions};

use self::data::Data;
use self::truth::Truth;

const K: usize = 10;
/// Filters that allow one item in so many.
const FILTERS: [u32; 3] = [2, 100, 10_000];
/// Searches without a graph are timed on so many of the queries.
const FEWER: usize = 1000;

/// Documents with their similarities, as a search returns them.
type Hits = Vec<(Doc, f32)>;

struct Options {
    data: Vec<(String, Data)>,
    widths: Vec<usize>,
    runs: usize,
    sizes: bool,
    json: bool,
}

fn options() -> Result<Options> {
    let widths = vec![16, 24, 32, 48, 64, 96, 128, 192];
    let mut options = Options { data: Vec::new(), widths, runs: 3, sizes: false, json: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        let data = match word.as_str() {
            "--pictures" => Some(data::pictures(value()?.as_ref())?),
            "--vectors" => Some(data::generation(value()?.as_ref())?),
            "--made-up" => Some(data::made_up(value()?.parse()?)),
            _ => None,
        };
        match word.as_str() {
            _ if data.is_some() => options.data.extend(data.map(|data| (word[2..].to_owned(), data))),
            "--widths" => options.widths = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--runs" => options.runs = value()?.parse()?,
            "--sizes" => options.sizes = true,
            "--json" => options.json = true,
            _ => anyhow::bail!("{word} is not known"),
        }
    }
    Ok(options)
}

fn main() -> Result<()> {
    let options = options()?;
    let isa = Products::chosen()?.isa();
    let mut figures = json!({ "isa": isa.to_string() });
    for (name, data) in &options.data {
        let dir = tempfile::tempdir()?;
        println!("{name}: {} × {}, {isa}", data.items.len(), data.dimensions());
        figures[name] = measure(data, &options, dir.path())?;
        if options.sizes {
            figures[name]["sizes"] = sizes(data, &options, dir.path())?;
        }
    }
    if options.json {
        println!("{figures}");
    }
    Ok(())
}

/// One index, searched in all ways.
fn measure(data: &Data, options: &Options, dir: &Path) -> Result<Value> {
    let defaults = VectorOptions { metric: data.metric, ..VectorOptions::new(data.dimensions()) };
    let index = VectorIndex::open(dir, VectorOptions { exact_below: 0, ..defaults })?;
    let build_s = fill(&index, data)?;
    index.flush(1)?;
    drop(index);
    println!(
        "graph made in {build_s:.1} s\n\n| what | recall@{K} | searches/s | of {} runs |\n|---|---|---|---|",
        options.runs
    );
    let mut figures = json!({ "items": data.items.len(), "build_s": build_s });
    let truth = Truth::of(data, K, |_| true)?;
    let all = Asked { data, truth: &truth, allowed: None, queries: data.queries.len(), runs: options.runs };
    for &width in &options.widths {
        let index = VectorIndex::open(dir, VectorOptions { exact_below: 0, width, ..defaults })?;
        figures["widths"][width.to_string()] = all.timed(&index, &format!("width {width}"))?;
    }
    let graph = VectorIndex::open(dir, VectorOptions { exact_below: 0, ..defaults })?;
    figures["default"] = all.timed(&graph, &format!("width {} (default)", defaults.width))?;
    for one_in in FILTERS {
        let is_allowed = |doc: Doc| doc.wrapping_mul(2_654_435_761).is_multiple_of(one_in);
        let allowed: RoaringBitmap = (0..data.items.len() as Doc).filter(|doc| is_allowed(*doc)).collect();
        let truth = Truth::of(data, K, is_allowed)?;
        let filtered = Asked { truth: &truth, allowed: Some(&allowed), ..all };
        figures["filtered"][one_in.to_string()] = filtered.timed(&graph, &format!("one in {one_in} allowed"))?;
    }
    drop(graph);
    std::fs::remove_file(dir.join("graph.bin"))?;
    let exact = VectorIndex::open(dir, VectorOptions { exact_below: usize::MAX, ..defaults })?;
    figures["exact"] = Asked { queries: FEWER, ..all }.timed(&exact, "exact")?;
    Ok(figures)
}

/// Microseconds a search with and without a graph, of the first so many items.
fn sizes(data: &Data, options: &Options, dir: &Path) -> Result<Value> {
    println!("\n| items | exact µs | graph µs | recall@{K} |\n|---|---|---|---|");
    let mut figures = json!({});
    let sizes = (0..).map(|n| 1000 << n).take_while(|&size| size <= data.items.len());
    for size in sizes {
        let data = data.first(size);
        let defaults = VectorOptions { metric: data.metric, ..VectorOptions::new(data.dimensions()) };
        let open = |name, exact_below| {
            VectorIndex::open(&dir.join(format!("{name}-{size}")), VectorOptions { exact_below, ..defaults })
        };
        let (exact, graph) = (open("exact", usize::MAX)?, open("graph", 0)?);
        fill(&exact, &data)?;
        fill(&graph, &data)?;
        let truth = Truth::of(&data, K, |_| true)?;
        let asked = Asked { data: &data, truth: &truth, allowed: None, queries: FEWER, runs: options.runs };
        let micros = |index| -> Result<_> {
            let mut times = asked.times(index)?;
            Ok((1e6 / times.median(), times.found))
        };
        let ((exact_us, _), (graph_us, found)) = (micros(&exact)?, micros(&graph)?);
        let recall = truth.recall(&data, &found);
        println!("| {size} | {exact_us:.0} | {graph_us:.0} | {recall:.4} |");
        figures[size.to_string()] = json!({ "exact_us": exact_us, "graph_us": graph_us, "recall": recall });
    }
    Ok(figures)
}

/// Seconds until everything is in the graph, if there is to be one.
fn fill(index: &VectorIndex, data: &Data) -> Result<f64> {
    for (doc, vector) in (0..).zip(&data.items) {
        index.upsert(doc, u64::from(doc), vector)?;
    }
    let began = Instant::now();
    while index.tend(1000)? {}
    index.save_graph()?;
    Ok(began.elapsed().as_secs_f64())
}

/// What an index is asked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    data: &'a Data,
    truth: &'a Truth,
    allowed: Option<&'a RoaringBitmap>,
    /// How many of the queries.
    queries: usize,
    runs: usize,
}

/// Searches a second of each run, and what was found.
struct Times {
    rates: Vec<f64>,
    found: Vec<Hits>,
}

impl Times {
    fn median(&mut self) -> f64 {
        self.rates.sort_unstable_by(f64::total_cmp);
        self.rates[self.rates.len() / 2]
    }
}

impl Asked<'_> {
    fn times(&self, index: &VectorIndex) -> Result<Times> {
        let queries = &self.data.queries[..self.queries.min(self.data.queries.len())];
        let mut times = Times { rates: Vec::new(), found: Vec::new() };
        for _ in 0..self.runs {
            let began = Instant::now();
            times.found = queries.iter().map(|query| index.search(query, K, self.allowed)).collect::<Result<_, _>>()?;
            times.rates.push(queries.len() as f64 / began.elapsed().as_secs_f64());
        }
        Ok(times)
    }

    fn timed(&self, index: &VectorIndex, what: &str) -> Result<Value> {
        let mut times = self.times(index)?;
        let (median, recall) = (times.median(), self.truth.recall(self.data, &times.found));
        let (least, most) = (times.rates[0], times.rates[times.rates.len() - 1]);
        println!("| {what} | {recall:.4} | {median:.0} | {least:.0} to {most:.0} |");
        Ok(json!({ "recall": recall, "per_second": median, "least": least, "most": most }))
    }
}

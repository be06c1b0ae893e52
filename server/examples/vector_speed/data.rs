//! What is searched, and by what.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use half::f16;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::{Connection, OpenFlags};
use vitrine_server::vector::Metric;

/// Queries held out of a set that has none of its own.
const HELD_OUT: usize = 1000;
/// Numbers in a vector that is made up, as many as all-MiniLM-L6-v2 makes.
const MADE_UP: usize = 384;

/// Vectors to be found, and vectors to find them by.
pub struct Data {
    pub metric: Metric,
    pub items: Vec<Vec<f32>>,
    pub queries: Vec<Vec<f32>>,
}

impl Data {
    /// The first of the items.
    pub fn first(&self, count: usize) -> Self {
        Self { metric: self.metric, items: self.items[..count].to_vec(), queries: self.queries.clone() }
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.queries.first().map_or(0, Vec::len)
    }
}

/// Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): 60,000 pictures to be found by 10,000 others, by the distance of pixels.
pub fn pictures(folder: &Path) -> Result<Data> {
    let read = |name: &str| {
        let path = folder.join(format!("{name}-images-idx3-ubyte.gz"));
        pixels(&path).with_context(|| path.display().to_string())
    };
    Ok(Data { metric: Metric::Euclidean, items: read("train")?, queries: read("t10k")? })
}

/// A file in the format of MNIST: magic, number, height and width as big-endian words, then the pixels.
fn pixels(path: &Path) -> Result<Vec<Vec<f32>>> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
    let (head, pixels) = bytes.split_at_checked(16).context("too short")?;
    let words: Vec<usize> = head.as_chunks::<4>().0.iter().map(|&word| u32::from_be_bytes(word) as usize).collect();
    let (magic, size) = (words[0], words[2] * words[3]);
    ensure!(magic == 0x803 && pixels.len() == words[1] * size, "not a file of pictures");
    Ok(pixels.chunks_exact(size).map(|picture| picture.iter().map(|&pixel| f32::from(pixel)).collect()).collect())
}

/// The distinct vectors of an index generation's `vectors.db`; a thousand of them, spread evenly, are held out to search by.
pub fn generation(file: &Path) -> Result<Data> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = db.prepare("SELECT row FROM vectors ORDER BY doc")?;
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    let vectors: Vec<Vec<f32>> = rows
        .iter()
        .filter(|row| seen.insert(*row))
        .map(|row| row.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect())
        .collect();
    ensure!(vectors.len() > 2 * HELD_OUT, "only {} distinct vectors", vectors.len());
    Ok(hold_out(vectors))
}

/// Vectors in 1,000 clusters of 40 groups.
pub fn made_up(count: usize) -> Data {
    let mut random = StdRng::seed_from_u64(7);
    let mut around = |centre: &[f32], size: f32| -> Vec<f32> {
        // The sum of four uniform numbers is near enough to a normal one.
        let mut normal = || (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>() * 1.73;
        centre.iter().map(|x| x + size * normal()).collect()
    };
    let groups: Vec<_> = (0..40).map(|_| around(&[0.0; MADE_UP], 1.0)).collect();
    let clusters: Vec<_> = (0..1000).map(|n| around(&groups[n % 40], 0.9)).collect();
    hold_out((0..count + HELD_OUT).map(|n| around(&clusters[n * 617 % 1000], 0.6)).collect())
}

fn hold_out(vectors: Vec<Vec<f32>>) -> Data {
    let every = vectors.len() / HELD_OUT;
    let (mut items, mut queries) = (Vec::new(), Vec::new());
    for (n, vector) in vectors.into_iter().enumerate() {
        if n % every == 0 && queries.len() < HELD_OUT { queries.push(vector) } else { items.push(vector) }
    }
    Data { metric: Metric::Cosine, items, queries }
}

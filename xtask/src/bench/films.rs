//! The films of the Movie Search Ranking Dataset, and the queries that real people asked for them.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::movies;

/// Where it lies when nothing else is said.
pub const FOLDER: &str = "../shared/data/movies";

/// The data set's files.
pub struct Films {
    corpus: PathBuf,
    judgments: PathBuf,
}

impl Films {
    /// Finds the files. Without them there is nothing to measure: that is said, and no error.
    pub fn find(folder: &Path) -> Option<Self> {
        let films =
            Self { corpus: folder.join("movies-corpus.jsonl.gz"), judgments: folder.join("judgments-train.tsv.gz") };
        let missing = [&films.corpus, &films.judgments].into_iter().find(|path| !path.exists());
        if let Some(missing) = missing {
            println!(
                "skipped: {} is not there. It is of the Movie Search Ranking Dataset (metarank/msrd on GitHub, CC BY 4.0); \
                 --movies names the folder",
                missing.display()
            );
        }
        missing.is_none().then_some(films)
    }

    /// Writes the first `count` films as items.
    pub fn write_items(&self, count: usize, to: &Path) -> Result<usize> {
        movies::write_items(&self.corpus, count, to)
    }

    /// What people asked for: each query once, in no order.
    pub fn queries(&self) -> Result<Vec<String>> {
        let path = self.judgments.display();
        let file = File::open(&self.judgments).with_context(|| format!("cannot open {path}"))?;
        let mut queries = BTreeSet::new();
        // The first line names the columns: id, query, film, grade.
        for line in BufReader::new(MultiGzDecoder::new(file)).lines().skip(1) {
            let line = line.with_context(|| format!("cannot read {path}"))?;
            queries.extend(line.split('\t').nth(1).filter(|query| !query.trim().is_empty()).map(str::to_owned));
        }
        let mut queries: Vec<String> = queries.into_iter().collect();
        queries.shuffle(&mut StdRng::seed_from_u64(1));
        Ok(queries)
    }
}

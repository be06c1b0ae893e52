//! `cargo xtask bench search`: searches by more and more callers who wait for each answer, on a server of its own. Every search
//! runs the encoder: no vector of a query is kept.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use super::shop::{self, CATALOG, Shop};
use crate::programs::{self, Interrupted, say};

const NO_QUERY_CACHE: &str = "text_encoder.query_cache_bytes=0";

#[derive(Args)]
pub struct Search {
    /// How many callers there are; each number is measured by itself.
    #[arg(long, value_delimiter = ',', default_value = "1,8,64", value_name = "N,…")]
    callers: Vec<u32>,
    /// How long to measure each.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = super::duration)]
    duration: Duration,
    /// How many items there are, of the 4,000 most bought.
    #[arg(long, default_value_t = 4000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// A value of the server's configuration, as `search.min_similarity=0.3`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

pub fn run(search: &Search) -> Result<()> {
    if !search.no_build {
        programs::build()?;
    }
    let interrupted = Interrupted::watch()?;
    let settings = [&[NO_QUERY_CACHE.to_owned()], &search.settings[..]].concat();
    let shop = Shop::open(search.items, &settings, &interrupted)?;
    say("Waiting for the vectors of all items");
    super::measure(&interrupted, async { shop::indexed(&shop.connect().await?, CATALOG, |_, _| {}).await })?;

    let queries = tempfile::NamedTempFile::new().context("cannot make a file for the queries")?;
    fs::write(queries.path(), shop.queries.join("\n")).context("cannot write the queries")?;
    for callers in &search.callers {
        say(&format!("{callers} callers"));
        let mut bench = shop.server.client()?;
        bench.args(["bench", "search", "--catalog", CATALOG, "--concurrency", &callers.to_string()]);
        bench.args(["--duration", &format!("{}ms", search.duration.as_millis())]).arg("--queries").arg(queries.path());
        programs::run(bench, Some(&interrupted))?;
    }
    shop.close()
}

//! `cargo xtask bench pictures`: pictures that no item has, as searches, on a server of its own: how many of what is found are of the
//! class that the picture shows, and how long it takes.

use std::{
    collections::HashMap,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use image::ImageFormat;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;
use vitrine::v1::{
    CreateCatalogRequest, ImageQuery, Item, PutPictureRequest, RequestContext, SearchRequest, UpsertItemsRequest,
    search_request::Query,
};
use vitrine_client::Client;

use super::{
    millis, rounded,
    shop::{self, KEPT},
    spread::Spread,
};
use crate::{
    demo::fashion::Pictures as Mnist,
    fashion_mnist::{self, CLASSES},
    programs::{self, Interrupted, say},
    server::{Server, Start},
};

const CATALOG: &str = "catalogs/pictures";
/// Results that are looked at.
const DEPTH: usize = 100;
/// Calls under way at once while the catalogue is filled.
const AT_ONCE: usize = 16;
const ITEMS_A_CALL: usize = 1_000;

#[derive(Args)]
pub struct Pictures {
    /// A folder with `train`, whose pictures the items get, and `validation`, whose pictures are searched by, each with a folder for every
    /// class. Absent: Fashion-MNIST.
    #[arg(long = "pictures", value_name = "FOLDER", requires = "registry")]
    folder: Option<PathBuf>,
    /// The registry that has the model. Absent: the committed one.
    #[arg(long, value_name = "FOLDER")]
    registry: Option<PathBuf>,
    /// The model that embeds pictures.
    #[arg(long, default_value = programs::IMAGE_ENCODER.model, value_name = "NAME")]
    model: String,
    /// How many items there are at most.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true, value_name = "N")]
    items: usize,
    /// How many searches, drawn by chance.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    searches: usize,
    /// Print the figures as JSON in the end.
    #[arg(long)]
    json: bool,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// A picture's file and what it shows.
struct Labelled {
    file: Vec<u8>,
    class: String,
}

/// What was measured.
struct Measured {
    filled: Duration,
    times: Spread,
    /// Of each search.
    average_precision: Vec<f64>,
    precision_at_10: Vec<f64>,
}

pub fn run(pictures: &Pictures) -> Result<()> {
    if !pictures.no_build {
        programs::build()?;
    }
    let interrupted = Interrupted::watch()?;
    let (mut goods, mut searches) = match &pictures.folder {
        Some(folder) => (classes(&folder.join("train"))?, classes(&folder.join("validation"))?),
        None => (mnist("train")?, mnist("t10k")?),
    };
    goods.truncate(pictures.items);
    searches.shuffle(&mut StdRng::seed_from_u64(1));
    searches.truncate(pictures.searches);
    ensure!(!goods.is_empty() && !searches.is_empty(), "there are no pictures");

    fs::create_dir_all(KEPT).with_context(|| format!("cannot make {KEPT}"))?;
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(KEPT).context("cannot make a folder")?;
    let (data, log) = (folder.path().join("data"), folder.path().join("server.log"));
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model-registry/starter");
    let registry = pictures.registry.as_deref().unwrap_or(&committed);
    let settings = [format!("image_encoder.model={}", pictures.model)];
    let start = Start { listen: shop::free_port()?, registry, data: &data, log: &log, settings: &settings };
    let server = Server::start(start, &interrupted)?;
    let (items, asked) = (goods.len(), searches.len());
    say(&format!("{items} items with pictures, {asked} searches by others"));
    let measured = super::measure(&interrupted, measure(&server, goods, &searches))?;
    server.stop()?;
    report(pictures, items, &measured);
    Ok(())
}

async fn measure(server: &Server, goods: Vec<Labelled>, searches: &[Labelled]) -> Result<Measured> {
    let client = shop::connect(server).await?;
    let of_class = goods.iter().fold(HashMap::new(), |mut counts: HashMap<String, usize>, picture| {
        *counts.entry(picture.class.clone()).or_default() += 1;
        counts
    });
    let begun = Instant::now();
    fill(&client, goods).await?;
    shop::indexed(&client, CATALOG, |_, _| {}).await?;
    let mut measured = Measured {
        filled: begun.elapsed(),
        times: Spread::default(),
        average_precision: Vec::new(),
        precision_at_10: Vec::new(),
    };
    let mut times = Vec::with_capacity(searches.len());
    for picture in searches {
        let query = Some(Query::Image(ImageQuery { data: picture.file.clone().into() }));
        let context = Some(RequestContext { catalog: CATALOG.to_owned(), ..Default::default() });
        let request = SearchRequest { context, query, page_size: DEPTH as i32, ..Default::default() };
        let asked = Instant::now();
        let answer = client.search(request).await?;
        times.push(asked.elapsed());
        ensure!(answer.degraded.is_empty(), "an answer lacks something: {:?}", answer.degraded);
        let items = answer.results.into_iter().filter_map(|result| result.item);
        let right: Vec<bool> = items.map(|item| item.categories.contains(&picture.class)).collect();
        let relevant = of_class.get(&picture.class).copied().unwrap_or_default();
        measured.average_precision.push(average_precision(&right, relevant));
        measured.precision_at_10.push(right.iter().take(10).filter(|right| **right).count() as f64 / 10.0);
    }
    measured.times = Spread::of(times);
    Ok(measured)
}

/// Makes the catalogue.
async fn fill(client: &Client, goods: Vec<Labelled>) -> Result<()> {
    client.create_catalog(CreateCatalogRequest { name: CATALOG.to_owned() }).await?;
    let item = |(at, picture): (usize, &Labelled)| Item {
        id: at.to_string(),
        title: format!("Picture {at}"),
        categories: vec![picture.class.clone()],
        ..Default::default()
    };
    let items: Vec<Item> = goods.iter().enumerate().map(item).collect();
    for items in items.chunks(ITEMS_A_CALL) {
        let request = UpsertItemsRequest { parent: CATALOG.to_owned(), items: items.to_vec(), update_mask: None };
        client.upsert_items(request).await?;
    }
    let mut at_once = tokio::task::JoinSet::new();
    for (at, picture) in goods.into_iter().enumerate() {
        if at_once.len() >= AT_ONCE {
            at_once.join_next().await.transpose()?.transpose()?;
        }
        let client = client.clone();
        let request = PutPictureRequest { name: format!("{CATALOG}/items/{at}"), data: picture.file.into() };
        at_once.spawn(async move { client.put_picture(request).await });
    }
    while let Some(put) = at_once.join_next().await {
        put??;
    }
    Ok(())
}

/// The mean of the precisions at the places of what is right, of those that could be there.
fn average_precision(right: &[bool], relevant: usize) -> f64 {
    let mut found = 0.0;
    let precisions = (1..).zip(right).filter(|(_, right)| **right).map(|(place, _)| {
        found += 1.0;
        found / f64::from(place)
    });
    precisions.sum::<f64>() / relevant.clamp(1, DEPTH) as f64
}

fn mnist(part: &str) -> Result<Vec<Labelled>> {
    let pictures = Mnist::read(&fashion_mnist::folder()?, part)?;
    let labelled = |(at, class): (usize, &u8)| {
        let mut file = Cursor::new(Vec::new());
        pictures.picture(at)?.write_to(&mut file, ImageFormat::Png)?;
        Ok(Labelled { file: file.into_inner(), class: CLASSES[usize::from(*class)].to_owned() })
    };
    pictures.classes.iter().enumerate().map(labelled).collect()
}

/// The pictures in the folders of a folder, which are called as their classes.
fn classes(folder: &Path) -> Result<Vec<Labelled>> {
    let entries = |folder: &Path| -> Result<Vec<PathBuf>> {
        let place = || folder.display().to_string();
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder).with_context(place)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        entries.sort();
        Ok(entries)
    };
    let mut pictures = Vec::new();
    for class in entries(folder)?.iter().filter(|path| path.is_dir()) {
        let name = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for path in entries(class)? {
            let file = fs::read(&path).with_context(|| path.display().to_string())?;
            pictures.push(Labelled { file, class: name.clone() });
        }
    }
    Ok(pictures)
}

fn report(pictures: &Pictures, items: usize, measured: &Measured) {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (average, at_10) = (mean(&measured.average_precision), mean(&measured.precision_at_10));
    let per_second = items as f64 / measured.filled.as_secs_f64();
    let [p50, p99] = [0.5, 0.99].map(|quantile| measured.times.at(quantile));
    println!("mAP@{DEPTH}           {average:.4}");
    println!("precision@10      {at_10:.4}");
    println!("search, p50, p99  {}, {}", millis(p50), millis(p99));
    println!("pictures taken in {per_second:.0}/s, to the last vector");
    if pictures.json {
        let figures = json!({
            "model": pictures.model, "items": items, "searches": measured.average_precision.len(),
            "map_at_100": average, "precision_at_10": at_10, "p50_ms": rounded(p50.as_secs_f64() * 1e3),
            "p99_ms": rounded(p99.as_secs_f64() * 1e3), "pictures_per_second": rounded(per_second),
        });
        println!("{figures}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_averaged_over_what_could_be_found() {
        let thousandths = |right: &[bool], relevant| (1e3 * average_precision(right, relevant)).round();
        assert_eq!(thousandths(&[true, false, true, false], 2) as i32, 833);
        assert_eq!(thousandths(&[true; 100], 6_000) as i32, 1_000);
        assert_eq!(thousandths(&[false, true], 6_000) as i32, 5);
        assert_eq!(thousandths(&[], 0) as i32, 0);
    }
}

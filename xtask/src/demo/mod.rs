//! `cargo demo`: from an empty machine to a running shop. Builds, fetches the model and the data, makes the catalogue's files,
//! starts the server, imports, and says what to try, or tries it.

mod columns;
pub mod fashion;
mod lines;
pub mod prepare;
pub mod retail;
pub mod source;
mod titles;
mod tries;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    programs::{self, Interrupted},
    server::{Server, Start},
};
use fashion::Fashion;
use prepare::{Cut, Prepared};

/// The catalogue's name; the other's is [`fashion::CATALOG`].
const CATALOG: &str = "grocery";
/// How many clothes there are, and in the small cut.
const CLOTHES: usize = 6_000;
const SOME_CLOTHES: usize = 1_000;

#[derive(Args)]
pub struct Demo {
    /// Try everything, print what comes back, and stop.
    #[arg(long)]
    check: bool,
    /// Where the registry, the catalogue and the prepared files are kept.
    #[arg(long, default_value = "demo", value_name = "DIR")]
    data_dir: PathBuf,
    /// Only the 4,000 most bought products and what 150 households bought of them.
    #[arg(long)]
    small: bool,
    /// Where the server listens.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// Where things are in the data folder.
struct Layout {
    registry: PathBuf,
    data: PathBuf,
    prepared: PathBuf,
    log: PathBuf,
    pictures: PathBuf,
}

impl Layout {
    fn new(dir: &Path, cut: Cut) -> Self {
        // The small cut is another shop: neither is served from the files of the other.
        let files = match cut {
            Cut::Full => dir.to_owned(),
            Cut::Small => dir.join("small"),
        };
        Self {
            registry: dir.join("registry"),
            data: files.join("data"),
            log: files.join("server.log"),
            pictures: dir.join("pictures"),
            prepared: files,
        }
    }
}

pub fn run(demo: &Demo) -> Result<()> {
    if !demo.no_build {
        programs::build()?;
    }
    let built = Instant::now();
    let interrupted = Interrupted::watch()?;
    let cut = if demo.small { Cut::Small } else { Cut::Full };
    let layout = Layout::new(&demo.data_dir, cut);
    fs::create_dir_all(&layout.prepared).with_context(|| format!("cannot make {}", layout.prepared.display()))?;

    programs::say("Getting the text encoder all-MiniLM-L6-v2");
    programs::run(programs::pull_encoder(&layout.registry)?, Some(&interrupted))?;
    programs::say("Getting the networks for pictures of clothes, and for what is bought next");
    for starter in [programs::GENERATOR, programs::IMAGE_ENCODER, programs::SEQUENCER] {
        programs::run(programs::pull_starter(starter, &layout.registry)?, Some(&interrupted))?;
    }

    let prepared = Prepared::make(&layout.prepared, cut, &interrupted)?;
    let clothes = if demo.small { SOME_CLOTHES } else { CLOTHES };
    let fashion = Fashion::make(&layout.prepared.join("fashion"), &layout.data, clothes)?;

    programs::say("Starting the server");
    let settings = [
        format!("image_generator.model={}", programs::GENERATOR.model),
        format!("image_encoder.model={}", programs::IMAGE_ENCODER.model),
        format!("sequence_model.model={}", programs::SEQUENCER.model),
    ];
    let (registry, data, log) = (&layout.registry, &layout.data, &layout.log);
    let server = Server::start(Start { listen: demo.listen, registry, data, log, settings: &settings }, &interrupted)?;
    programs::say(&format!(
        "The server answers at {}, {:.1} s after the build",
        server.url(),
        built.elapsed().as_secs_f64()
    ));
    if let Some(fashion) = &fashion {
        fashion.import(&server, &interrupted)?;
    }
    import(&layout, &prepared, &server, &interrupted)?;

    let tries = tries::tries(&prepared.sample, fashion.as_ref(), &layout.pictures);
    if demo.check {
        tries::check(&tries, &server)?;
        server.stop()?;
        println!("demo: ok");
    } else {
        tries::print(&tries, &server.url());
        println!("The server's log is {}. Ctrl-C stops the server.", layout.log.display());
        server.serve(&interrupted)?;
    }
    Ok(())
}

/// Imports what the catalogue does not have yet. The marker lies with the data it speaks of, so that they go together.
fn import(layout: &Layout, prepared: &Prepared, server: &Server, interrupted: &Interrupted) -> Result<()> {
    let marker = layout.data.join("demo-imported.json");
    let wanted = prepared.stamp()?;
    if fs::read_to_string(&marker).is_ok_and(|imported| imported == wanted) {
        programs::say("The catalogue has its items and events already");
        return Ok(());
    }
    for (what, file) in [("items", prepared.items.as_path()), ("events", prepared.events.as_path())] {
        programs::say(&format!("Importing {what}"));
        let mut import = server.client()?;
        import
            .args([what, "import", "--catalog", CATALOG, "--create", "--import-id"])
            .arg(prepared.import_id(what))
            .arg(file);
        programs::run(import, Some(interrupted))?;
    }
    fs::write(&marker, wanted).with_context(|| format!("cannot write {}", marker.display()))
}

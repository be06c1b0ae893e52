//! The command `vitrine-trainer`: learns networks from what users did, measures how good a shop's answers are, and publishes
//! versions.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use vitrine_trainer::{Evaluate, Golden, Loop, Prepare, PrepareClicks, Publish, Train};

/// Tensors come and go: with the system's allocator half of the time would go into fetching their pages anew.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pages stay, those of large tensors too: each step asks for as many as the one before, and a page that is new to the process costs more than
/// what is computed on it. With large pages, jemalloc sets memory to zero itself, and does not exchange pages for new ones.
#[used]
#[allow(unsafe_code, reason = "jemalloc reads it by this name")]
#[unsafe(export_name = "malloc_conf")]
static PAGES_STAY: &[u8] = b"dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,thp:always\0";

/// Learns networks, measures how good a shop's answers are, and publishes versions.
#[derive(Debug, Parser)]
#[command(name = "vitrine-trainer", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure against data that says what was right
    #[command(subcommand)]
    Evaluate(Evaluate),
    /// Clean what users did: leave out what is impossible, double, a machine's, or rare
    Prepare(Prepare),
    /// Make examples of what was proposed to whom, and what came of it, with the features by which a server ranks
    PrepareClicks(PrepareClicks),
    /// Learn a network from what users did
    #[command(subcommand)]
    Train(Train),
    /// Make a version of what was learnt, if it is good enough
    Publish(Publish),
    /// Record what a text encoder answers, before its folder is published: every server that loads it checks it by that
    Golden(Golden),
    /// Learn, try and promote versions, again and again, from what happens in a shop
    Loop(Loop),
}

fn main() -> ExitCode {
    // Where nothing says otherwise, candle's own threads are left out: they wait by spinning, and take the cores from those of the operations
    // beside them.
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: there is no other thread yet.
        #[allow(unsafe_code, reason = "candle offers no other way")]
        unsafe {
            std::env::set_var("CANDLE_NUM_THREADS", "1");
        }
    }
    run()
}

/// What the loop does is logged, as `RUST_LOG` says.
fn log() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

#[tokio::main]
async fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Evaluate(evaluate) => evaluate.run().await,
        Command::Prepare(prepare) => prepare.run(),
        Command::PrepareClicks(prepare) => prepare.run(),
        Command::Train(train) => train.run(),
        Command::Publish(publish) => publish.run(),
        Command::Golden(golden) => golden.run(),
        Command::Loop(learning) => {
            log();
            learning.run().await
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = error.downcast_ref::<vitrine_client::Error>().and_then(vitrine_client::Error::hint) {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

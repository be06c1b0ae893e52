//! The server command: reads the configuration, serves, and drains on SIGTERM or Ctrl-C.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use vitrine_server::{
    config::{Config, DEFAULTS},
    run, telemetry,
};

/// Of the C code as well (SQLite): libc's allocator keeps an arena for each thread that opened a database.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `EX_CONFIG` of sysexits.h: the configuration is bad, and starting again will not help.
const BAD_CONFIG: u8 = 78;

/// Serves a shop's search, recommendations and feedback over gRPC.
///
/// Every value of the configuration file can also be set by the environment, as `VITRINE_LISTEN` or
/// `VITRINE_LIMITS__MAX_PAGE_SIZE`. Flags win over the environment, which wins over the file.
#[derive(Parser)]
#[command(name = "vitrine-server", version)]
struct Arguments {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port on which gRPC listens
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Directory for catalogs: their logs, indexes and keys
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The registry directory of model versions
    #[arg(long, value_name = "DIR")]
    registry: Option<String>,
    /// Sets any value by its path, as `search.min_similarity=0.3`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    values: Vec<(String, String)>,
    /// Prints the commented default configuration, and exits
    #[arg(long)]
    print_config: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("must look like PATH=VALUE")?;
    Ok((path.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_config {
        print!("{DEFAULTS}");
        return ExitCode::SUCCESS;
    }
    let named = [("listen", arguments.listen), ("data_dir", arguments.data_dir), ("registry", arguments.registry)];
    let mut flags: Vec<(&str, String)> = named.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    flags.extend(arguments.values.iter().map(|(path, value)| (path.as_str(), value.clone())));
    let config = match Config::load(arguments.config.as_deref(), &flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("vitrine-server: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vitrine-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::init_logs(&config.log)?;
    // What runs beside the calls takes a processor, or waits for the disk or the registry. tokio's own limit (512) lets a burst
    // start a thread for each query that waits; under load none of them ever ends, and each keeps a part of the memory.
    let beside = 16 + 4 * std::thread::available_parallelism()?.get();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .max_blocking_threads(beside)
        .build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
                _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
            }
        };
        run(config, shutdown).await
    })
}

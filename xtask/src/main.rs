//! Chores of the project: `cargo demo` starts a shop on real data, `cargo ci` runs every check, `cargo xtask bench` measures.
//! One file a chore.

#[cfg(feature = "bench")]
mod bench;
mod cache;
mod ci;
mod demo;
mod fashion_mnist;
mod gpu;
mod movies;
mod programs;
mod rotate;
mod server;
mod starter;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the project.
#[derive(Parser)]
#[command(name = "cargo", bin_name = "cargo", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Start a shop's search, recommendation and feedback over 92,000 real products.
    Demo(demo::Demo),
    /// Measure, for the figures in docs.
    #[cfg(feature = "bench")]
    Bench(bench::Bench),
    /// Run every check that a change has to pass.
    Ci(ci::Ci),
    /// Build programs for NVIDIA's GPUs, on a machine that needs none.
    GpuBuild(gpu::build::GpuBuild),
    /// Try those programs on a machine with a GPU: parity with the CPU, and speed.
    GpuCheck(gpu::check::GpuCheck),
    /// Make another version of a text encoder, to try swaps with.
    Rotate(rotate::Rotate),
    /// Turn the films of the Movie Search Ranking Dataset into items.
    Movies(movies::Movies),
    /// Learn the networks again that a new shop may start with.
    Starter(starter::Starter),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Demo(demo) => demo::run(&demo),
        Chore::Ci(ci) => ci::run(&ci),
        #[cfg(feature = "bench")]
        Chore::Bench(bench) => bench::run(&bench),
        Chore::GpuBuild(build) => gpu::build::run(&build),
        Chore::GpuCheck(check) => gpu::check::run(&check),
        Chore::Rotate(rotate) => rotate::run(&rotate),
        Chore::Movies(movies) => movies::run(&movies),
        Chore::Starter(starter) => starter::run(&starter),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

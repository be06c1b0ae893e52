//! The command `vitrine-trainer`: measures how good a shop's answers are, and records what a version must answer.

mod baselines;
mod concurrent;
mod evaluate;
mod golden;
mod interactions;
mod judgments;
mod metrics;
mod text_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures how good a shop's answers are, and records what a version of a model must answer.
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
    Evaluate(evaluate::Evaluate),
    /// Record what a text encoder answers, before its folder is published: every server that loads it checks it by that
    Golden(golden::Golden),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Evaluate(evaluate) => evaluate.run().await,
        Command::Golden(golden) => golden.run(),
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

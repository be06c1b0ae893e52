//! The command `vitrine-trainer`: measures how good a shop's answers are.

mod baselines;
mod concurrent;
mod evaluate;
mod interactions;
mod judgments;
mod metrics;
mod text_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures how good a shop's answers are.
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Evaluate(evaluate) = Cli::parse().command;
    match evaluate.run().await {
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

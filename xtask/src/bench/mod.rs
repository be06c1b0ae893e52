//! `cargo xtask bench`: figures, measured. One file a bench.

mod encoder;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Time the text encoder's forward pass, by rows × tokens.
    Encoder(encoder::Encoder),
}

pub fn run(bench: &Bench) -> Result<()> {
    match &bench.what {
        What::Encoder(encoder) => encoder::run(encoder),
    }
}

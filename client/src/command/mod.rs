//! The subcommands, one file each.

mod bench;
mod catalogs;
mod controls;
mod diverse;
mod event_file;
mod events;
mod experiments;
mod export;
mod feedback;
mod health;
mod image;
mod import;
mod item_import;
mod item_picture;
mod items;
mod models;
mod place;
mod recommend;
mod search;
mod users;

use anyhow::Result;
use clap::{CommandFactory as _, Subcommand};

use crate::{arguments::Cli, exit, output::line};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Search(search::Search),
    Recommend(recommend::Recommend),
    /// Tell what users did
    Feedback(feedback::Feedback),
    /// Import, look at and delete items
    #[command(subcommand)]
    Items(items::Items),
    /// The shop's own rules: pin, boost, bury, hide, synonyms, redirect
    #[command(subcommand)]
    Controls(controls::Controls),
    /// Import and export events
    #[command(subcommand)]
    Events(events::Events),
    /// Hand out or erase what is recorded of one person
    #[command(subcommand)]
    Users(users::Users),
    /// Compare versions and parameters on the shop's own shoppers
    #[command(subcommand)]
    Experiments(Box<experiments::Experiments>),
    /// Look at the models, and move their labels
    #[command(subcommand)]
    Models(models::Models),
    /// Look at the catalogs, and make new ones
    #[command(subcommand)]
    Catalogs(catalogs::Catalogs),
    /// Make pictures of goods
    GenerateImage(image::GenerateImage),
    /// Ask whether the server is ready
    Health(health::Health),
    /// Measure how fast the server answers
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print completions for a shell, for its folder of completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command; the exit code when nothing failed.
pub async fn run(cli: Cli) -> Result<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Search(search) => search.run(global).await,
        Command::Recommend(recommend) => recommend.run(global).await,
        Command::Feedback(feedback) => feedback.run(global).await,
        Command::Items(items) => items.run(global).await,
        Command::Controls(controls) => controls.run(global).await,
        Command::Events(events) => events.run(global).await,
        Command::Users(users) => users.run(global).await,
        Command::Experiments(experiments) => experiments.run(global).await,
        Command::Models(models) => models.run(global).await,
        Command::Catalogs(catalogs) => catalogs.run(global).await,
        Command::GenerateImage(image) => image.run(global).await,
        Command::Health(health) => health.run(global).await,
        Command::Bench(bench) => bench.run(global).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vitrine", &mut script);
            line(String::from_utf8_lossy(&script))?;
            Ok(exit::OK)
        }
    }
}

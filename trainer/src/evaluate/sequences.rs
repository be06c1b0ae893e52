//! `vitrine-trainer evaluate sequences`: what a network foretells of each user, beside what it must beat.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use vitrine_models::{DeviceSpec, SequenceModel};

use crate::baselines::{self, Baselines, Exam, Line, Neighbours};
use crate::interactions::{self, Interaction, PastAndNext};
use crate::sequences::Split;
use crate::train::{learnt, ranking};

/// The length of rankings that are scored.
const K: usize = 10;

/// What to measure.
#[derive(Debug, Args)]
pub struct EvaluateSequences {
    /// The folder that was learnt into, or that of a version
    folder: PathBuf,
    /// Tab-separated with the columns `user_id`, `item_id` and `timestamp`
    #[arg(long, value_name = "FILE.inter")]
    interactions: PathBuf,
    /// What is foretold [default: as the network was tested]
    #[arg(long)]
    split: Option<Split>,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

impl EvaluateSequences {
    pub fn run(&self) -> Result<()> {
        let split = match self.split {
            Some(split) => split,
            None => learnt::setting(&self.folder, "split")?.unwrap_or_default(),
        };
        let lines = compare(&self.folder, split, interactions::read(&self.interactions)?)?;
        if self.json {
            println!("{}", json!({ "models": lines }));
        }
        Ok(())
    }
}

/// Scores a network beside the baselines, and prints the table.
pub fn compare(folder: &Path, split: Split, interactions: Vec<Interaction>) -> Result<Vec<Line>> {
    let split = match split {
        Split::LeaveOneOut => interactions::leave_one_out(interactions),
        Split::Time => interactions::before(interactions),
    };
    let (exam, popular, neighbours) = (Exam::new(&split, K), Baselines::new(&split.past), Neighbours::new(&split.past));
    let lines = vec![
        exam.line("Pop", |past| popular.popular(past, K)),
        exam.line("Markov", |past| popular.markov(past, K)),
        exam.line("item-kNN", |past| neighbours.rank(past, K)),
        exam.line_of(&learnt::kind(folder)?, recommended(folder, &split)?.into_iter()),
    ];
    baselines::print(&lines, K);
    println!("{} users, {} items; ± is half a 95 % interval", split.held_out.len(), split.items.len());
    Ok(lines)
}

/// NDCG of what is popular, and of networks in their folders, on the newest tenth of the interactions.
pub fn scores(folders: &[&Path], interactions: Vec<Interaction>) -> Result<(f64, Vec<f64>)> {
    let split = interactions::before(interactions);
    let (exam, popular) = (Exam::new(&split, K), Baselines::new(&split.past));
    let of_popular = exam.line("Pop", |past| popular.popular(past, K)).ndcg.value;
    let score = |folder: &&Path| Ok(exam.line_of("", recommended(folder, &split)?.into_iter()).ndcg.value);
    Ok((of_popular, folders.iter().map(score).collect::<Result<_>>()?))
}

/// What the network in a folder recommends to each user who is foretold: nothing to those of whom it knows no item.
fn recommended(folder: &Path, split: &PastAndNext) -> Result<Vec<Vec<String>>> {
    let model = SequenceModel::load(folder, &DeviceSpec::Cpu)?;
    let ids: HashMap<&str, u32> = model.items().iter().map(String::as_str).zip(1..).collect();
    let known = |user: &String| -> Vec<u32> {
        split.past[user].iter().filter_map(|met| ids.get(met.item.as_str()).copied()).collect()
    };
    let histories: Vec<Vec<u32>> = split.held_out.keys().map(known).collect();
    let mut rankings = vec![Vec::new(); histories.len()];
    let asked: Vec<usize> = (0..histories.len()).filter(|&user| !histories[user].is_empty()).collect();
    for users in asked.chunks(ranking::BATCH) {
        let asked: Vec<&[u32]> = users.iter().map(|&user| &histories[user][..]).collect();
        for ((&user, history), scores) in users.iter().zip(&asked).zip(model.scores(&asked)?) {
            let names = ranking::first(history, scores, K).into_iter().map(|id| model.items()[id as usize - 1].clone());
            rankings[user] = names.collect();
        }
    }
    Ok(rankings)
}

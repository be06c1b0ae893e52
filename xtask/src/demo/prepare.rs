//! Makes the catalogue's files, `items.jsonl` and `events.jsonl`, from the tables of the retail data. Made once: `prepared.json`
//! says of what, and is written last.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{retail::Retail, source::Source};
use crate::programs::{self, Interrupted};

/// To be raised when the files would become other ones.
const FORMAT: u32 = 1;

/// How much of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    Full,
    Small,
}

/// The catalogue's files.
pub struct Prepared {
    pub items: PathBuf,
    pub events: PathBuf,
    pub sample: Sample,
    about: About,
}

/// Ids worth trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Who bought most.
    pub user: String,
    /// What was bought most.
    pub item: String,
    /// The cat food that was bought most: few things tell more of a household.
    pub cat_food: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    format: u32,
    cut: Cut,
    items: usize,
    events: usize,
    sample: Sample,
}

impl Prepared {
    pub fn make(folder: &Path, cut: Cut, interrupted: &Interrupted) -> Result<Self> {
        let (items, events) = (folder.join("items.jsonl"), folder.join("events.jsonl"));
        let made = folder.join("prepared.json");
        let known = fs::read(&made).ok().and_then(|text| serde_json::from_slice::<About>(&text).ok());
        let about = match known {
            Some(about) if about.format == FORMAT && items.exists() && events.exists() => about,
            _ => {
                programs::say("Getting the retail data");
                let source = Source::get(interrupted)?;
                programs::say("Preparing items and events");
                let written = Retail::read(&source)?.write(&items, &events, cut)?;
                let about =
                    About { format: FORMAT, cut, items: written.items, events: written.events, sample: written.sample };
                fs::write(&made, serde_json::to_vec_pretty(&about)?).with_context(|| made.display().to_string())?;
                about
            }
        };
        println!("{} items in {}", about.items, items.display());
        println!("{} events in {}", about.events, events.display());
        Ok(Self { items, events, sample: about.sample.clone(), about })
    }

    /// The name under which an import that broke off goes on.
    pub fn import_id(&self, what: &str) -> String {
        format!("demo-{what}-{}", self.about.format)
    }

    /// What an import of these files is an import of.
    pub fn stamp(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.about)?)
    }
}

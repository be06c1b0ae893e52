//! Where the loop is. Written to its folder after every step, whole or not at all: a loop that was killed goes on from there.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vitrine_registry::Version;

/// The state's file.
const FILE: &str = "loop-state.json";

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Counts what was learnt or tried, from 1: names folders and experiments.
    pub round: u32,
    /// Events before this were there when the last network was learnt.
    pub watermark: Option<Timestamp>,
    /// What is being done.
    pub phase: Phase,
    /// How often it came to what, for metrics.
    pub counts: Counts,
    /// What the last network that was learnt came to, and what it was compared with.
    pub figures: Option<Figures>,
    /// What became of the last candidate.
    pub last: Option<Ended>,
}

/// What is being done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Phase {
    /// Nothing: it waits for events.
    #[default]
    Idle,
    /// A network is learnt from what had happened by `until`, and published if it passes the gate.
    Learning {
        /// When.
        until: Timestamp,
        /// The version that answered then.
        parent: Option<Version>,
    },
    /// A version proves itself.
    Trying(Trial),
    /// A version did.
    Promoting {
        /// Which.
        trial: Trial,
        /// How.
        why: String,
    },
    /// A version did not.
    RollingBack {
        /// Which.
        trial: Trial,
        /// How.
        why: String,
        /// Whether that speaks against the version.
        reject: bool,
    },
}

/// A version that proves itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The candidate.
    pub version: Version,
    /// What it is compared with. None: no version answers, and it is compared with recommendations without one.
    pub parent: Option<Version>,
    /// The experiment's id.
    pub experiment: String,
    /// The step, from 0.
    pub step: usize,
    /// When the step began. None: it has not.
    pub since: Option<Timestamp>,
    /// How many shoppers each arm had seen then.
    pub users: i64,
}

/// How often it came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Candidates that became what answers.
    pub promoted: u64,
    /// Candidates that were rejected.
    pub rejected: u64,
    /// Candidates whose trial somebody ended, or that could not be judged.
    pub abandoned: u64,
    /// Networks that did not pass the gate.
    pub held_back: u64,
}

/// NDCG@10 on the same newest tenth of the interactions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Of the network that was learnt.
    pub candidate: f64,
    /// Of the version that answered.
    pub live: Option<f64>,
    /// Of what is popular.
    pub popular: f64,
}

/// What became of a candidate, or of a network that did not become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The version. None: it was not published.
    pub version: Option<Version>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, for people.
    pub why: String,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It answers.
    Promoted,
    /// It proved bad.
    Rejected,
    /// It could not be judged.
    Abandoned,
    /// It did not pass the gate.
    HeldBack,
}

impl State {
    /// What was written, or the beginning.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        replace(&folder.join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// Goes back to waiting, and remembers what came of it.
    pub fn end(&mut self, ended: Ended) {
        match ended.outcome {
            Outcome::Promoted => self.counts.promoted += 1,
            Outcome::Rejected => self.counts.rejected += 1,
            Outcome::Abandoned => self.counts.abandoned += 1,
            Outcome::HeldBack => self.counts.held_back += 1,
        }
        self.last = Some(ended);
        self.phase = Phase::Idle;
    }

    /// The candidate, if there is one.
    pub fn trial(&self) -> Option<&Trial> {
        match &self.phase {
            Phase::Trying(trial) | Phase::Promoting { trial, .. } | Phase::RollingBack { trial, .. } => Some(trial),
            Phase::Idle | Phase::Learning { .. } => None,
        }
    }
}

impl Phase {
    /// Its name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Learning { .. } => "learning",
            Self::Trying(_) => "trying",
            Self::Promoting { .. } => "promoting",
            Self::RollingBack { .. } => "rolling-back",
        }
    }

    /// All names.
    pub const NAMES: [&'static str; 5] = ["idle", "learning", "trying", "promoting", "rolling-back"];
}

/// Replaces a file: whenever the program is killed, the old content is there or the new.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let place = || format!("cannot write {}", path.display());
    let new = path.with_extension("new");
    let mut file = File::create(&new).with_context(place)?;
    file.write_all(text).and_then(|()| file.sync_all()).with_context(place)?;
    fs::rename(&new, path).with_context(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()).unwrap(), State::default());
        let version = Version::FIRST;
        let trial = Trial {
            version,
            parent: None,
            experiment: "loop-1-1".into(),
            step: 2,
            since: Some(Timestamp::UNIX_EPOCH),
            users: 3,
        };
        let why = "because".to_owned();
        for phase in [
            Phase::Learning { until: Timestamp::UNIX_EPOCH, parent: Some(version) },
            Phase::Trying(trial.clone()),
            Phase::Promoting { trial: trial.clone(), why: why.clone() },
            Phase::RollingBack { trial, why, reject: true },
        ] {
            let state = State { phase, round: 7, ..State::default() };
            state.save(dir.path()).unwrap();
            assert_eq!(State::load(dir.path()).unwrap(), state);
        }
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(format!("{:#}", State::load(dir.path()).unwrap_err()).contains(FILE));
    }
}

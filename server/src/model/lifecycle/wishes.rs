//! What is wanted: by the registry's labels, by the policy, by callers, and for the sake of a quick way back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use vitrine_registry::{
    Label, Labels, ModelName, Version, Versions,
    lifecycle::{Policy, Wanted},
};

use super::Refused;

/// What a caller wants and waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That the label, which names the version now, answers with it here.
    Switched {
        /// The label.
        label: Label,
        /// The version.
        version: Version,
        /// Whether what the label answers with may go first.
        unload_first: bool,
    },
    /// That the version is available here.
    Loaded {
        /// The version.
        version: Version,
        /// Whether what nobody wants any more may go first.
        unload_first: bool,
    },
    /// That the version is gone from memory here.
    Unloaded {
        /// The version.
        version: Version,
    },
}

/// Everything that is wanted.
pub(in crate::model) struct Wishes {
    model: ModelName,
    policy: Policy,
    /// The label that answers by default.
    default: Label,
    /// How long a version is kept after a label has left it.
    keep: Duration,
    /// Where it is written what labels answer with.
    memory: Option<PathBuf>,
    named: BTreeMap<Label, Version>,
    there: BTreeSet<Version>,
    rejected: BTreeMap<Version, String>,
    /// What the policy chose when there was last something to choose.
    chosen: BTreeSet<Version>,
    restored: BTreeMap<Label, Version>,
    asked: BTreeSet<Version>,
    dismissed: BTreeSet<Version>,
    unload_first: BTreeSet<Version>,
    /// Versions that labels have left, and until when they are kept.
    left: BTreeMap<Version, Instant>,
}

/// What an operator wants.
pub(in crate::model) struct Setting {
    pub model: ModelName,
    pub policy: Policy,
    pub default: Label,
    pub keep: Duration,
    pub memory: Option<PathBuf>,
}

impl Wishes {
    /// What is wanted before the registry has been read.
    pub fn new(setting: Setting) -> Self {
        let Setting { model, policy, default, keep, memory } = setting;
        let restored = memory.as_ref().map(recall).unwrap_or_default();
        Self {
            model,
            policy,
            default,
            keep,
            memory,
            restored,
            named: BTreeMap::new(),
            there: BTreeSet::new(),
            rejected: BTreeMap::new(),
            chosen: BTreeSet::new(),
            asked: BTreeSet::new(),
            dismissed: BTreeSet::new(),
            unload_first: BTreeSet::new(),
            left: BTreeMap::new(),
        }
    }

    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// For the plan.
    pub fn wanted(&self) -> Wanted {
        let chosen = &self.chosen | &self.asked;
        Wanted {
            versions: &chosen - &self.dismissed,
            labels: self.named.clone(),
            restored: self.restored.clone(),
            kept: self.left.keys().copied().collect(),
            dismissed: self.dismissed.clone(),
            unload_first: self.unload_first.clone(),
        }
    }

    /// Takes note of what the registry says. Those `in_memory` whose files have become unreadable are as good as before; one
    /// whose folder was removed gives way to others, if there are any.
    pub fn read(&mut self, labels: Labels, found: &Versions, in_memory: &BTreeSet<Version>) {
        (self.named, self.rejected) = (labels.named, labels.rejected);
        let unreadable = found.unusable.iter().map(|version| version.version);
        let usable = found.usable.iter().map(|version| version.version);
        self.there = usable.chain(unreadable.filter(|version| in_memory.contains(version))).collect();
        let chosen = self.policy.choose(&self.there, &self.rejected);
        if chosen.is_empty() {
            self.chosen.retain(|version| !self.rejected.contains_key(version));
        } else {
            self.chosen = chosen;
        }
        self.asked.retain(|version| self.there.contains(version));
        // A label asks for it anew.
        self.dismissed.retain(|version| !self.named.values().any(|named| named == version));
    }

    /// What is missing in the registry, if nothing can answer by default.
    pub fn problem(&self) -> Option<String> {
        let (model, label) = (&self.model, &self.default);
        (!self.named.contains_key(label) && !self.newest_by_default()).then(|| {
            format!("label \"{label}\" of model \"{model}\" names no version; `vitrine-registry label` sets it")
        })
    }

    /// Whether the newest version answers by default, because no label says otherwise.
    pub fn newest_by_default(&self) -> bool {
        self.policy != Policy::Labels && !self.named.contains_key(&self.default)
    }

    /// Whether a version proved bad.
    pub fn is_rejected(&self, version: Version) -> bool {
        self.rejected.contains_key(&version)
    }

    /// What a label names in the registry.
    pub fn named(&self, label: &Label) -> Option<Version> {
        self.named.get(label).copied()
    }

    /// Whether a version is to be available.
    pub fn wants(&self, version: Version) -> bool {
        self.wanted().versions.contains(&version) || self.named.values().any(|named| *named == version)
    }

    /// Takes a caller's wish. `answering` is what labels answer with.
    pub fn take(&mut self, wish: &Wish, answering: &BTreeMap<Label, Version>) -> Result<(), Refused> {
        match *wish {
            Wish::Switched { version, unload_first, .. } => self.ask(version, unload_first),
            Wish::Loaded { version, unload_first } => {
                self.ask(version, unload_first);
                self.asked.insert(version);
            }
            Wish::Unloaded { version } => {
                let needs = self.named.iter().chain(answering).find(|(_, needed)| **needed == version);
                if let Some((label, _)) = needs {
                    return Err(Refused::Needed { label: label.clone(), version });
                }
                self.asked.remove(&version);
                self.left.remove(&version);
                self.dismissed.insert(version);
            }
        }
        Ok(())
    }

    fn ask(&mut self, version: Version, unload_first: bool) {
        self.dismissed.remove(&version);
        if unload_first {
            self.unload_first.insert(version);
        } else {
            self.unload_first.remove(&version);
        }
    }

    /// Takes note that a label answers with `now` instead of `before`.
    pub fn moved(&mut self, label: &Label, before: Option<Version>, now: Version) {
        self.restored.remove(label);
        self.left.remove(&now);
        self.unload_first.remove(&now);
        if let Some(before) = before {
            self.left.insert(before, Instant::now() + self.keep);
        }
    }

    /// When the first version is kept no longer.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.left.values().min().copied()
    }

    /// Forgets what has been kept long enough.
    pub fn expire(&mut self) {
        let now = Instant::now();
        self.left.retain(|_, until| *until > now);
    }

    /// Writes down what labels answer with, for the next start.
    pub fn remember(&self, answering: &BTreeMap<Label, Version>) {
        let Some(path) = &self.memory else { return };
        if let Err(error) = replace(path, answering) {
            tracing::warn!(%error, path = %path.display(), "cannot write down what labels answer with");
        }
    }
}

/// Whenever the server is killed, the old content is there or the new. Waits for no disk: a label is about to move.
fn replace(path: &Path, answering: &BTreeMap<Label, Version>) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(answering)?)?;
    fs::rename(new, path)
}

/// What labels answered with before. Without it the next start follows the registry alone.
fn recall(path: &PathBuf) -> BTreeMap<Label, Version> {
    let Ok(text) = fs::read(path) else { return BTreeMap::new() };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "cannot read what labels answered with");
        BTreeMap::new()
    })
}

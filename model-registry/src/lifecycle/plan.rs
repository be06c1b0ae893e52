//! The function from what is wanted and what is there to what to do next.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Observed, Phase, Wanted};
use crate::name::{Label, Version};

/// What to do next, in this order. Empty: wait until something happens.
pub fn plan(wanted: &Wanted, observed: &Observed) -> Vec<Action> {
    Planner { wanted, observed, answering: observed.labels.clone(), actions: Vec::new() }.run()
}

struct Planner<'a> {
    wanted: &'a Wanted,
    observed: &'a Observed,
    /// What labels answer with once the actions so far are performed.
    answering: BTreeMap<Label, Version>,
    actions: Vec<Action>,
}

impl Planner<'_> {
    fn run(mut self) -> Vec<Action> {
        self.move_labels();
        self.admit();
        self.unload();
        self.load();
        self.actions
    }

    fn phase(&self, version: Version) -> Phase {
        self.observed.versions.get(&version).map_or(Phase::Start, |seen| seen.phase)
    }

    fn in_phase(&self, phase: Phase) -> impl Iterator<Item = Version> {
        self.observed.versions.iter().filter(move |(_, seen)| seen.phase == phase).map(|(version, _)| *version)
    }

    fn move_labels(&mut self) {
        for (label, &target) in &self.wanted.labels {
            let now = self.answering.get(label).copied();
            let former = self.wanted.restored.get(label).copied().filter(|_| now.is_none());
            let available = |version: &Version| self.phase(*version) == Phase::Available;
            let Some(next) = [Some(target), former].into_iter().flatten().find(available) else { continue };
            if now != Some(next) {
                self.answering.insert(label.clone(), next);
                self.actions.push(Action::Point(label.clone(), next));
            }
        }
        for label in self.observed.labels.keys().filter(|label| !self.wanted.labels.contains_key(label)) {
            self.answering.remove(label);
            self.actions.push(Action::Unpoint(label.clone()));
        }
    }

    /// A version need not wait for its vectors where nothing else could answer meanwhile.
    fn admit(&mut self) {
        if self.in_phase(Phase::Available).next().is_some() {
            return;
        }
        let coming: BTreeSet<Version> =
            self.restoring().filter(|version| self.phase(*version) != Phase::Failed).collect();
        let first = self
            .order()
            .into_iter()
            .find(|version| self.phase(*version) == Phase::Indexing && (coming.is_empty() || coming.contains(version)));
        self.actions.extend(first.map(Action::Admit));
    }

    /// What labels without an answer answered with before.
    fn restoring(&self) -> impl Iterator<Item = Version> {
        let unanswered = self
            .wanted
            .restored
            .iter()
            .filter(|(label, _)| self.wanted.labels.contains_key(label) && !self.answering.contains_key(label));
        unanswered.map(|(_, version)| *version)
    }

    /// Everything that is to be in memory, the most urgent first: what answered before, what labels wait for, the newest.
    fn order(&self) -> Vec<Version> {
        let labels = self.wanted.labels.values().copied();
        let others = self.wanted.versions.iter().rev().copied();
        let mut seen = BTreeSet::new();
        self.restoring().chain(labels).chain(others).filter(|version| seen.insert(*version)).collect()
    }

    fn unload(&mut self) {
        let needed = self.needed();
        let loading = [Phase::Loading, Phase::Warming].into_iter().flat_map(|phase| self.in_phase(phase));
        let cancelled = loading.filter(|version| !needed.contains(version)).map(Action::Cancel);
        let indexing = self.in_phase(Phase::Indexing).filter(|version| !needed.contains(version));
        let (asked, idle): (Vec<_>, Vec<_>) =
            self.idle().into_iter().partition(|version| self.wanted.dismissed.contains(version));
        let idle = idle.into_iter().skip(self.stand_ins()).filter(|version| !self.wanted.kept.contains(version));
        let gone: Vec<Action> = cancelled.chain(indexing.chain(asked).chain(idle).map(Action::Unload)).collect();
        self.actions.extend(gone);
    }

    /// What is to be in memory, or answers. What a label leaves just now is among it: whether to keep it is decided anew,
    /// after the move.
    fn needed(&self) -> BTreeSet<Version> {
        let answering = self.observed.labels.values().chain(self.answering.values()).copied();
        self.order().into_iter().chain(answering).collect()
    }

    /// What is available and not needed, the newest first.
    fn idle(&self) -> Vec<Version> {
        let needed = self.needed();
        let mut idle: Vec<Version> =
            self.in_phase(Phase::Available).filter(|version| !needed.contains(version)).collect();
        idle.reverse();
        idle
    }

    /// How many idle versions stay: one for each wanted version that cannot answer yet and has no other stand-in.
    fn stand_ins(&self) -> usize {
        let wanted: BTreeSet<Version> = self.order().into_iter().collect();
        let missing = wanted.iter().filter(|version| self.phase(**version) != Phase::Available).count();
        let answering: BTreeSet<Version> = self.answering.values().copied().collect();
        missing.saturating_sub(answering.difference(&wanted).count())
    }

    /// One version at a time; one that has no room does not hold up those after it.
    fn load(&mut self) {
        if [Phase::Loading, Phase::Warming].into_iter().any(|phase| self.in_phase(phase).next().is_some()) {
            return;
        }
        for version in self.order() {
            if !matches!(self.phase(version), Phase::Start | Phase::Ended) {
                continue;
            }
            match self.room_for(version) {
                Room::Enough => {
                    self.actions.push(Action::Load(version));
                    return;
                }
                Room::Soon(unload) => {
                    for version in unload {
                        let labels = self.answering.iter().filter(|(_, answering)| **answering == version);
                        self.actions.extend(labels.map(|(label, _)| Action::Unpoint(label.clone())));
                        self.actions.push(Action::Unload(version));
                    }
                    return;
                }
                Room::None(refusal) => self.actions.push(refusal),
            }
        }
    }

    fn memory(&self, versions: impl Iterator<Item = Version>) -> u64 {
        versions.filter_map(|version| self.observed.versions.get(&version)).map(|seen| seen.memory).sum()
    }

    fn room_for(&self, version: Version) -> Room {
        let observed = &self.observed.versions;
        let needed = self.memory([version].into_iter());
        let in_memory = observed.iter().filter(|(_, seen)| seen.phase.takes_memory()).map(|(version, _)| *version);
        let free = self.observed.memory.saturating_sub(self.memory(in_memory));
        if needed <= free {
            return Room::Enough;
        }
        let mut leaving: BTreeSet<Version> = self.in_phase(Phase::Draining).collect();
        leaving.extend(self.actions.iter().filter_map(|action| match action {
            Action::Unload(version) => Some(*version),
            _ => None,
        }));
        let mut room = free + self.memory(leaving.iter().copied());
        let mut unload = Vec::new();
        for idle in self.evictable(version).into_iter().filter(|idle| !leaving.contains(idle)) {
            if needed <= room {
                break;
            }
            room += self.memory([idle].into_iter());
            unload.push(idle);
        }
        if needed <= room { Room::Soon(unload) } else { Room::None(Action::Refuse { version, needed, free: room }) }
    }

    /// What may leave so that `version` has room: first what is only kept, then, if that was asked for, what it replaces.
    fn evictable(&self, version: Version) -> Vec<Version> {
        let idle = self.idle();
        let stand_ins = self.stand_ins().min(idle.len());
        let mut evictable = idle[stand_ins..].to_vec();
        if self.wanted.unload_first.contains(&version) {
            evictable.extend(&idle[..stand_ins]);
            let still_wanted: BTreeSet<Version> = self.order().into_iter().collect();
            let replaced = self.answering.iter().filter(|(label, answering)| {
                self.wanted.labels.get(label) == Some(&version) && !still_wanted.contains(answering)
            });
            let replaced: BTreeSet<Version> = replaced.map(|(_, answering)| *answering).collect();
            evictable.extend(replaced);
        }
        evictable
    }
}

/// Whether there is room for a version.
enum Room {
    Enough,
    /// When what is draining has left, and these have.
    Soon(Vec<Version>),
    /// There is none; the action that says so.
    None(Action),
}

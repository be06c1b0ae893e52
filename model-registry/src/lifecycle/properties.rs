//! The promises of the plan, held against random worlds: a server that performs what it is told, while versions are wanted,
//! fail, and leave in any order.

use proptest::{collection::vec, prelude::*};

use super::*;

const VERSIONS: u32 = 5;
const LABELS: [&str; 2] = ["canary", "stable"];

/// What happens to a server, or what is asked of it.
#[derive(Debug, Clone)]
enum Event {
    Label(usize, Option<u32>),
    Latest(BTreeSet<u32>),
    Keep(BTreeSet<u32>),
    Dismiss(BTreeSet<u32>),
    UnloadFirst(BTreeSet<u32>),
    Memory(u64),
    /// A version under way gets one phase further.
    Step(u32),
    Fail(u32),
}

#[derive(Debug, Clone)]
struct World {
    wanted: Wanted,
    observed: Observed,
    /// Versions that fail whenever they are loaded.
    broken: BTreeSet<Version>,
}

fn v(number: u32) -> Version {
    Version::new(number).unwrap()
}

fn label(index: usize) -> Label {
    LABELS[index].parse().unwrap()
}

fn all(numbers: &BTreeSet<u32>) -> BTreeSet<Version> {
    numbers.iter().map(|number| v(*number)).collect()
}

fn number() -> impl Strategy<Value = u32> {
    1..=VERSIONS
}

fn numbers() -> impl Strategy<Value = BTreeSet<u32>> {
    vec(number(), 0..3).prop_map(BTreeSet::from_iter)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..LABELS.len(), proptest::option::weighted(0.9, number())).prop_map(|(label, to)| Event::Label(label, to)),
        1 => numbers().prop_map(Event::Latest),
        1 => numbers().prop_map(Event::Keep),
        1 => numbers().prop_map(Event::Dismiss),
        1 => numbers().prop_map(Event::UnloadFirst),
        1 => (10_u64..60).prop_map(Event::Memory),
        9 => number().prop_map(Event::Step),
        1 => number().prop_map(Event::Fail),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let restored = vec((0..LABELS.len(), number()), 0..2);
    (vec(5_u64..20, VERSIONS as usize), numbers(), restored, 20_u64..60).prop_map(
        |(needs, broken, restored, memory)| {
            let seen = |memory| Seen { phase: Phase::Start, memory };
            let versions = needs.into_iter().zip(1..).map(|(memory, number)| (v(number), seen(memory))).collect();
            let restored = restored.into_iter().map(|(index, number)| (label(index), v(number))).collect();
            World {
                wanted: Wanted { restored, ..Wanted::default() },
                observed: Observed { versions, memory, ..Observed::default() },
                broken: all(&broken),
            }
        },
    )
}

impl World {
    fn phase(&self, version: Version) -> Phase {
        self.observed.versions[&version].phase
    }

    fn set(&mut self, version: Version, phase: Phase) {
        self.observed.versions.get_mut(&version).unwrap().phase = phase;
    }

    fn available(&self) -> BTreeSet<Version> {
        self.observed.versions.keys().copied().filter(|version| self.phase(*version) == Phase::Available).collect()
    }

    fn used(&self) -> u64 {
        self.observed.versions.values().filter(|seen| seen.phase.takes_memory()).map(|seen| seen.memory).sum()
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Label(index, Some(to)) => drop(self.wanted.labels.insert(label(*index), v(*to))),
            Event::Label(index, None) => drop(self.wanted.labels.remove(&label(*index))),
            Event::Latest(versions) => self.wanted.versions = all(versions),
            Event::Keep(versions) => self.wanted.kept = all(versions),
            Event::Dismiss(versions) => self.wanted.dismissed = all(versions),
            Event::UnloadFirst(versions) => self.wanted.unload_first = all(versions),
            Event::Memory(memory) => self.observed.memory = *memory,
            Event::Step(number) => self.step(v(*number)),
            Event::Fail(number) => {
                if matches!(self.phase(v(*number)), Phase::Loading | Phase::Warming) {
                    self.set(v(*number), Phase::Failed);
                }
            }
        }
    }

    fn step(&mut self, version: Version) {
        let next = match self.phase(version) {
            Phase::Loading if self.broken.contains(&version) => Phase::Failed,
            Phase::Loading => Phase::Warming,
            Phase::Warming => Phase::Indexing,
            Phase::Indexing => Phase::Available,
            Phase::Draining => Phase::Ended,
            rest @ (Phase::Start | Phase::Available | Phase::Ended | Phase::Failed) => rest,
        };
        self.set(version, next);
    }

    /// Performs an action, and checks that it may be performed.
    fn perform(&mut self, action: &Action) {
        match action {
            Action::Load(version) => {
                assert!(matches!(self.phase(*version), Phase::Start | Phase::Ended));
                self.set(*version, Phase::Loading);
                assert!(self.used() <= self.observed.memory, "loaded what does not fit");
            }
            Action::Cancel(version) => {
                assert!(matches!(self.phase(*version), Phase::Loading | Phase::Warming));
                self.set(*version, Phase::Ended);
            }
            Action::Refuse { version, needed, free } => {
                assert!(needed > free);
                self.set(*version, Phase::Failed);
            }
            Action::Admit(version) => {
                assert_eq!(self.phase(*version), Phase::Indexing);
                assert!(self.available().is_empty(), "something could answer");
                self.set(*version, Phase::Available);
            }
            Action::Point(label, version) => {
                assert_eq!(self.phase(*version), Phase::Available, "a label points into nothing");
                self.observed.labels.insert(label.clone(), *version);
            }
            Action::Unpoint(label) => drop(self.observed.labels.remove(label)),
            Action::Unload(version) => {
                assert!(matches!(self.phase(*version), Phase::Indexing | Phase::Available));
                assert!(!self.observed.labels.values().any(|answering| answering == version), "it answers");
                self.set(*version, Phase::Draining);
            }
        }
    }

    /// Performs what the plan says until it says nothing more.
    fn settle(&mut self) {
        for _ in 0..20 {
            let actions = plan(&self.wanted, &self.observed);
            if actions.is_empty() {
                return;
            }
            for action in &actions {
                self.perform(action);
            }
            let repeated: Vec<Action> =
                plan(&self.wanted, &self.observed).into_iter().filter(|action| actions.contains(action)).collect();
            assert!(repeated.is_empty(), "{repeated:?} again after {actions:?}");
        }
        panic!("the plan does not come to rest: {self:?}");
    }

    /// Everything under way ends, nothing new happens.
    fn rest(&mut self) {
        for _ in 0..100 {
            self.settle();
            let before = self.observed.clone();
            for number in 1..=VERSIONS {
                self.step(v(number));
            }
            if self.observed == before {
                return;
            }
        }
        panic!("it does not come to rest: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn labels_never_lose_their_answer_and_available_versions_are_never_fewer(
        mut world in world(),
        events in vec(event(), 0..60),
    ) {
        for event in &events {
            world.happen(event);
            let before = world.clone();
            world.settle();
            let wanted: BTreeSet<Version> =
                world.wanted.labels.values().chain(&world.wanted.versions).copied().collect();
            let asked = |version: &Version| world.wanted.dismissed.contains(version);
            let unload_first = !world.wanted.unload_first.is_empty();
            for (label, version) in &before.observed.labels {
                if world.wanted.labels.contains_key(label) && !unload_first {
                    let now = world.observed.labels.get(label);
                    prop_assert!(now == Some(version) || now == world.wanted.labels.get(label), "{label}: {now:?}");
                }
            }
            let kept_for_nothing = before.available().iter().filter(|version| asked(version)).count();
            let least = (before.available().len() - kept_for_nothing).min(wanted.len());
            prop_assert!(unload_first || world.available().len() >= least, "{event:?}: {before:?} to {world:?}");
        }
    }

    #[test]
    fn in_the_end_everything_wanted_is_available_or_failed_and_nothing_else_is_in_memory(
        mut world in world(),
        events in vec(event(), 0..40),
    ) {
        for event in &events {
            world.happen(event);
            world.settle();
        }
        // The time to keep anything for a way back is over.
        world.wanted.kept.clear();
        world.rest();
        let wanted: BTreeSet<Version> = world.wanted.labels.values().chain(&world.wanted.versions).copied().collect();
        for version in &wanted {
            prop_assert!(matches!(world.phase(*version), Phase::Available | Phase::Failed), "{version}: {world:?}");
        }
        let failed = wanted.iter().filter(|version| world.phase(**version) == Phase::Failed).count();
        let others = world.available().difference(&wanted).count();
        let answering: BTreeSet<&Version> = world.observed.labels.values().collect();
        prop_assert!(others <= failed.max(answering.len()), "{world:?}");
        for (label, target) in &world.wanted.labels {
            if world.phase(*target) == Phase::Available {
                prop_assert_eq!(world.observed.labels.get(label), Some(target));
            }
        }
        for version in world.observed.versions.keys() {
            let phase = world.phase(*version);
            prop_assert!(
                matches!(phase, Phase::Start | Phase::Available | Phase::Failed | Phase::Ended),
                "{version} hangs in {phase:?}"
            );
        }
    }

    #[test]
    fn a_version_that_fails_blocks_no_other(mut world in world(), targets in vec(number(), 2)) {
        world.observed.memory = u64::MAX;
        world.wanted.restored.clear();
        for (index, number) in targets.iter().enumerate() {
            world.happen(&Event::Label(index, Some(*number)));
        }
        world.rest();
        for number in targets {
            let expected = if world.broken.contains(&v(number)) { Phase::Failed } else { Phase::Available };
            prop_assert_eq!(world.phase(v(number)), expected);
        }
    }
}

//! The loop by example and by property, in a world that does what is decided: it is killed between any two steps, and people interfere.

use jiff::SignedDuration;
use proptest::prelude::*;
use vitrine::v1::{
    ArmReport, Comparison, ConfidenceInterval, Experiment, ExperimentMetric, ExperimentReport, ExperimentState,
    GuardRail, GuardRailReport, GuardRailState,
};

use super::act::take_up;
use super::decide::{Next, Seen, begun, next};
use super::state::{Ended, Outcome};
use super::verdict::{CANDIDATE, CONTROL};
use super::*;
use vitrine_registry::Version;

/// How good versions are, by their numbers: what each makes of the clicks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Quality {
    Good,
    Bad,
}

/// Server, registry and shoppers.
#[derive(Clone, Debug)]
struct Shop {
    config: LoopConfig,
    seen: Seen,
    /// Of versions from 1 on; all others are good.
    quality: Vec<Quality>,
    published: u32,
    users: i64,
    /// The largest share of shoppers that ever got a bad version.
    worst: f64,
    state: State,
    /// What is on disk.
    saved: State,
}

fn config() -> LoopConfig {
    let text = "catalog = \"shop\"\nregistry = \"r\"\nfolder = \"f\"\nmodel = \"next\"\n[data]\nmin_new_events = 10\n\
                [experiment]\nmin_step_users = 10\nmin_step_time = \"0s\"";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    LoopConfig::read(file.path()).unwrap()
}

fn v(number: u32) -> Version {
    Version::new(number).unwrap()
}

impl Shop {
    fn new(quality: &[Quality]) -> Self {
        let seen = Seen {
            now: jiff::Timestamp::UNIX_EPOCH,
            live: None,
            candidate: None,
            rejected: [].into(),
            new_events: 10,
            experiment: None,
            report: None,
        };
        let (state, saved) = (State::default(), State::default());
        let quality = quality.to_vec();
        Self { config: config(), seen, quality, published: 0, users: 0, worst: 0.0, state, saved }
    }

    fn is_bad(&self, version: Option<Version>) -> bool {
        version.is_some_and(|version| self.quality.get(version.get() as usize - 1) == Some(&Quality::Bad))
    }

    /// People come, and the report tells of it.
    fn shoppers(&mut self) {
        self.seen.now += SignedDuration::from_mins(1);
        self.users += 20;
        let arm =
            |name: &str| ArmReport { arm: name.into(), users: self.users, answers: self.users, ..Default::default() };
        let bad = self.is_bad(self.seen.candidate);
        let (lower, upper) = if bad { (-0.6, -0.3) } else { (0.0, 0.2) };
        let mut compared =
            Comparison { arm: CANDIDATE.into(), lift: f64::midpoint(lower, upper), ..Default::default() };
        compared.set_metric(ExperimentMetric::Ctr);
        compared.sequential_interval = Some(ConfidenceInterval { lower, upper });
        let state = if bad { GuardRailState::Broken } else { GuardRailState::Holds };
        let rail = GuardRailReport {
            arm: CANDIDATE.into(),
            guard_rail: Some(GuardRail { metric: ExperimentMetric::Ctr as i32, tolerance: 0.05 }),
            state: state as i32,
        };
        let (arms, comparisons) = (vec![arm(CONTROL), arm(CANDIDATE)], vec![compared]);
        self.seen.report =
            Some(ExperimentReport { arms, comparisons, guard_rails: vec![rail], ..ExperimentReport::default() });
        let running = self.seen.experiment.as_ref().filter(|found| found.state() == ExperimentState::Running);
        if let Some(running) = running
            && bad
        {
            self.worst = self.worst.max(running.coverage.unwrap_or(1.0) / 2.0);
        }
        assert!(!self.is_bad(self.seen.live), "everybody gets a bad version");
    }

    /// Looks and does one thing; whether there was one.
    fn step(&mut self) -> bool {
        let mut seen = self.seen.clone();
        // An experiment is looked for by its name.
        let name = self.state.trial().map(|trial| trial.experiment.clone());
        seen.experiment = seen.experiment.filter(|found| name.as_ref() == Some(&found.name));
        let next = next(&self.config, &self.state, &seen);
        let world = &mut self.seen;
        match next {
            Next::Wait(_) => return false,
            Next::Become(phase) => take_up(&mut self.state, phase),
            Next::Learn { until, parent } => {
                // The version is found again, if it was published before the loop was killed.
                if self.saved.watermark != Some(until) {
                    self.published = self.published.max(self.state.round);
                }
                self.state.watermark = Some(until);
                self.state.phase = Phase::Trying(begun(&self.config, self.state.round, v(self.published), parent));
                world.new_events = 0;
            }
            Next::PutLabel(version) => {
                assert!(!world.rejected.contains(&version) && world.candidate.is_none());
                world.candidate = Some(version);
            }
            Next::Plan => {
                let trial = self.state.trial().unwrap();
                let coverage = Some(self.config.experiment.coverage(0));
                let mut planned = Experiment { name: trial.experiment.clone(), coverage, ..Default::default() };
                planned.set_state(ExperimentState::Draft);
                world.experiment = Some(planned);
                // Nobody has seen anything of it yet.
                world.report = None;
                self.users = 0;
            }
            Next::Start => self.experiment_is(ExperimentState::Draft, ExperimentState::Running),
            Next::Stop(_) => self.experiment_is(ExperimentState::Running, ExperimentState::Stopped),
            Next::Cover(step) => {
                let coverage = self.config.experiment.coverage(step);
                let running = world.experiment.as_mut().unwrap();
                assert!(running.coverage.unwrap() < coverage);
                running.coverage = Some(coverage);
            }
            Next::Promote { version, parent } => {
                assert_eq!((world.live, world.candidate), (parent, Some(version)));
                world.live = Some(version);
            }
            Next::TakeLabel(version) => {
                assert_eq!(world.candidate, Some(version));
                world.candidate = None;
            }
            Next::Reject(version, _) => {
                assert!(world.candidate != Some(version) && world.live != Some(version));
                world.rejected.insert(version);
            }
            Next::End(outcome, why) => {
                let version = self.state.trial().map(|trial| trial.version);
                self.state.end(Ended { version, outcome, why });
            }
        }
        true
    }

    fn experiment_is(&mut self, before: ExperimentState, now: ExperimentState) {
        let experiment = self.seen.experiment.as_mut().unwrap();
        assert_eq!(experiment.state(), before);
        experiment.set_state(now);
    }

    /// What `--once` does, while people come.
    fn rounds(&mut self, most: usize) {
        for _ in 0..most {
            self.shoppers();
            let mut steps = 0;
            while self.step() {
                self.saved = self.state.clone();
                steps += 1;
                assert!(steps < 50, "it does not come to rest: {:?}", self.state);
            }
        }
    }
}

#[test]
fn a_good_version_is_tried_on_more_and_more_people_and_then_answers() {
    let mut shop = Shop::new(&[Quality::Good]);
    let mut covered = Vec::new();
    for _ in 0..6 {
        shop.rounds(1);
        let running = shop.seen.experiment.as_ref().filter(|found| found.state() == ExperimentState::Running);
        covered.extend(running.and_then(|found| found.coverage));
    }
    covered.dedup();
    assert_eq!(covered, [0.1, 0.4, 1.0]);
    assert_eq!((shop.seen.live, shop.seen.candidate), (Some(v(1)), None));
    assert_eq!(shop.state.last.as_ref().unwrap().outcome, Outcome::Promoted);
    // The next one is compared with it.
    shop.seen.new_events = 10;
    shop.rounds(1);
    assert_eq!(shop.state.trial().and_then(|trial| trial.parent), Some(v(1)));
    shop.rounds(6);
    assert_eq!((shop.seen.live, shop.state.counts.promoted), (Some(v(2)), 2));
}

#[test]
fn a_bad_version_never_reaches_more_than_the_first_step() {
    let mut shop = Shop::new(&[Quality::Good, Quality::Bad]);
    shop.rounds(8);
    // By hand.
    shop.seen.candidate = Some(v(2));
    shop.rounds(8);
    assert_eq!((shop.seen.live, shop.seen.candidate), (Some(v(1)), None));
    assert!(shop.seen.rejected.contains(&v(2)));
    assert!(shop.worst > 0.0 && shop.worst <= 0.05, "{}", shop.worst);
    assert!(shop.state.last.as_ref().unwrap().why.contains("guard rail"), "{:?}", shop.state.last);
}

#[test]
fn what_people_do_is_followed_and_does_not_speak_against_the_version() {
    let tried = || {
        let mut shop = Shop::new(&[]);
        shop.rounds(1);
        assert!(matches!(shop.state.phase, Phase::Trying(_)));
        shop
    };
    let ends = |mut shop: Shop, outcome: Outcome| {
        shop.rounds(2);
        assert_eq!(shop.state.last.as_ref().map(|last| last.outcome), Some(outcome), "{:?}", shop.state);
        assert!(shop.seen.rejected.is_empty());
        let experiment = shop.seen.experiment.as_ref().unwrap();
        assert_ne!(experiment.state(), ExperimentState::Running);
        shop
    };
    let mut stopped = tried();
    stopped.seen.experiment.as_mut().unwrap().set_state(ExperimentState::Stopped);
    assert_eq!(ends(stopped, Outcome::Abandoned).seen.candidate, None);
    let mut taken = tried();
    taken.seen.candidate = None;
    ends(taken, Outcome::Abandoned);
    let mut promoted = tried();
    promoted.seen.live = Some(v(1));
    assert_eq!(ends(promoted, Outcome::Promoted).seen.candidate, None);
    let mut overtaken = tried();
    overtaken.seen.live = Some(v(7));
    assert_eq!(ends(overtaken, Outcome::Abandoned).seen.live, Some(v(7)));
}

#[test]
fn few_events_are_waited_for() {
    let mut shop = Shop::new(&[]);
    shop.seen.new_events = 9;
    shop.rounds(3);
    assert_eq!((shop.state.phase.clone(), shop.published), (Phase::Idle, 0));
}

proptest! {
    /// At each moment: it is killed before it wrote down what it did (0), people come (1), it works (all else).
    #[test]
    fn killed_at_any_time_it_comes_to_the_same(moments in proptest::collection::vec(0..6, 0..200)) {
        let mut shop = Shop::new(&[Quality::Good, Quality::Bad]);
        for moment in moments {
            match moment {
                0 => {
                    shop.step();
                    shop.state = shop.saved.clone();
                }
                1 => shop.shoppers(),
                _ => {
                    if shop.step() {
                        shop.saved = shop.state.clone();
                    }
                    if shop.state.phase == Phase::Idle && shop.published == 1 && shop.seen.live.is_some() {
                        shop.seen.new_events = 10;
                    }
                }
            }
        }
        shop.seen.new_events = 0;
        if shop.saved == State::default() {
            shop.seen.new_events = 10;
        }
        shop.rounds(12);
        prop_assert_eq!((shop.seen.live, shop.seen.candidate), (Some(v(1)), None), "{:?}", shop.state);
        prop_assert_eq!(shop.state.counts.promoted, 1);
        prop_assert!(shop.worst <= 0.05, "{}", shop.worst);
        if shop.published == 2 {
            prop_assert!(shop.seen.rejected.contains(&v(2)));
        }
    }
}

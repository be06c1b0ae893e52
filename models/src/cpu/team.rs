//! A few threads that work on one thing together. They wait for the next a moment awake, and then asleep; nothing else
//! is between them and the caller.
//!
//! Nobody waits for a thread that has no core: work is taken part by part by whoever is there, and a helper that comes
//! too late finds it done. Only a part that somebody has begun must be waited for.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::linear::share;

/// How often a thread looks for what it waits for before it sleeps: some tens of microseconds. Longer would take time
/// from the threads that send the answers.
const LOOKS: usize = 2_000;

/// Parts of a step for each member: few, as taking one costs some tens of nanoseconds, and enough that nobody waits long
/// for the last.
const PARTS: usize = 2;

/// The caller and its helpers.
pub(super) struct Team {
    office: Arc<Office>,
    helpers: Vec<JoinHandle<()>>,
}

/// What a member is told of its place in the team.
pub(super) struct Member<'a> {
    /// From 0, the caller.
    pub(super) index: usize,
    office: Option<&'a Office>,
    /// Steps it has taken.
    steps: Cell<usize>,
}

/// Another member panicked, and will not come.
#[derive(Debug)]
pub(super) struct Broken;

type Job<'a> = dyn Fn(&Member<'_>) + Sync + 'a;

/// Where the caller puts work, and helpers find it.
struct Office {
    /// The caller and the helpers.
    members: usize,
    /// Counts the jobs.
    number: AtomicUsize,
    end: AtomicBool,
    job: UnsafeCell<Option<&'static Job<'static>>>,
    /// Of the job that runs.
    steps: UnsafeCell<Vec<Step>>,
    /// [`OPEN`] while helpers may come in, and the number of those who are.
    present: AtomicUsize,
    broken: AtomicBool,
    waiting: Waiting,
}

/// Above every number of helpers.
const OPEN: usize = 1 << (usize::BITS / 2);

// SAFETY: `job` and `steps` are written while no helper is in and none may come in, and read by those who are.
unsafe impl Sync for Office {}
// SAFETY: the reference in `job` is to something that may be used by all threads.
unsafe impl Send for Office {}

/// A part of a job that is over before the next begins.
#[derive(Default)]
#[repr(align(64))]
struct Step {
    /// Parts that somebody has taken.
    taken: AtomicUsize,
    done: AtomicUsize,
}

impl Team {
    /// Starts the helpers. They inherit the caller's priority.
    pub(super) fn start(helpers: usize) -> io::Result<Self> {
        let office = Arc::new(Office {
            members: helpers + 1,
            number: AtomicUsize::new(0),
            end: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            steps: UnsafeCell::new(Vec::new()),
            present: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            waiting: Waiting::default(),
        });
        let mut team = Self { office, helpers: Vec::with_capacity(helpers) };
        for index in 1..=helpers {
            let office = Arc::clone(&team.office);
            let work = move || office.help(index);
            team.helpers.push(thread::Builder::new().name(format!("encoder-{index}")).spawn(work)?);
        }
        Ok(team)
    }

    /// Members: the caller and the helpers.
    pub(super) fn members(&self) -> usize {
        self.office.members
    }

    /// Runs a job of at most so many steps on the caller and the helpers that come in time, and returns when it is done.
    /// A panic of one of them goes on here.
    pub(super) fn run(&mut self, steps: usize, job: &Job<'_>) {
        let office = &*self.office;
        office.broken.store(false, Ordering::Relaxed);
        // SAFETY: no helper is in, and `&mut self` sees to it that no other job runs. The reference is not used after
        // this function: it lets nobody in any more and waits for those who are, before it returns.
        unsafe {
            *office.job.get() = Some(std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job));
            let all = &mut *office.steps.get();
            all.clear();
            all.resize_with(steps, Step::default);
        }
        office.present.fetch_add(OPEN, Ordering::AcqRel);
        office.number.fetch_add(1, Ordering::Release);
        for helper in &self.helpers {
            helper.thread().unpark();
        }
        let done = office.work(job, 0);
        office.present.fetch_sub(OPEN, Ordering::AcqRel);
        office.waiting.until(|| office.present.load(Ordering::Acquire) == 0);
        if let Err(panic) = done {
            resume_unwind(panic);
        }
        assert!(!office.broken.load(Ordering::Acquire), "a helper panicked; the log has its message");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.office.end.store(true, Ordering::Relaxed);
        self.office.number.fetch_add(1, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches its panics: there is none to pass on.
            let _ = helper.join();
        }
    }
}

impl Office {
    fn help(&self, index: usize) {
        let mut seen = 0;
        loop {
            let mut looks = 0;
            while self.number.load(Ordering::Acquire) == seen {
                looks += 1;
                if looks < LOOKS {
                    std::hint::spin_loop();
                } else {
                    // Returns at once if there was an `unpark` since the last time.
                    thread::park();
                }
            }
            seen = self.number.load(Ordering::Acquire);
            if self.end.load(Ordering::Relaxed) {
                return;
            }
            if self.present.fetch_add(1, Ordering::AcqRel) >= OPEN {
                // SAFETY: it was written before helpers were let in, and is not written again while this one is.
                if let Some(job) = unsafe { *self.job.get() } {
                    let _ = self.work(job, index);
                }
            }
            self.present.fetch_sub(1, Ordering::AcqRel);
            self.waiting.wake();
        }
    }

    fn work(&self, job: &Job<'_>, index: usize) -> Result<(), Box<dyn Any + Send>> {
        let member = Member { index, office: Some(self), steps: Cell::new(0) };
        let done = catch_unwind(AssertUnwindSafe(|| job(&member)));
        if done.is_err() {
            self.broken.store(true, Ordering::Release);
            self.waiting.wake();
        }
        done
    }

    fn step(&self, step: usize) -> &Step {
        // SAFETY: whoever is in reads only.
        unsafe { &(&*self.steps.get())[step] }
    }
}

impl Member<'_> {
    /// A member of nothing: works alone.
    pub(super) fn alone() -> Self {
        Self { index: 0, office: None, steps: Cell::new(0) }
    }

    /// Takes one step: does what no other member has taken of a range, part by part, and returns when all of it is done.
    /// What others wrote is then seen. All members take the same steps in the same order, or none.
    pub(super) fn share(&self, range: Range<usize>, mut work: impl FnMut(Range<usize>)) -> Result<(), Broken> {
        let Some(office) = self.office else {
            work(range);
            return Ok(());
        };
        let step = office.step(self.steps.replace(self.steps.get() + 1));
        let parts = range.len().min(PARTS * office.members);
        loop {
            let part = step.taken.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            work(share(range.clone(), part, parts));
            if step.done.fetch_add(1, Ordering::AcqRel) + 1 == parts {
                office.waiting.wake();
            }
        }
        let broken = || office.broken.load(Ordering::Acquire);
        office.waiting.until(|| step.done.load(Ordering::Acquire) == parts || broken());
        if broken() { Err(Broken) } else { Ok(()) }
    }
}

/// Where members wait for each other: awake at first, as it is for less than it takes to fall asleep; then asleep, so
/// that the one that is waited for may have the core.
#[derive(Default)]
struct Waiting {
    asleep: AtomicUsize,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Waiting {
    fn until(&self, done: impl Fn() -> bool) {
        for _ in 0..LOOKS {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut locked = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::Relaxed);
        // One of the two sees what the other wrote: who falls asleep what it waits for, or who wakes that somebody sleeps.
        fence(Ordering::SeqCst);
        while !done() {
            locked = self.woken.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }

    /// To be called after every change that somebody may wait for.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.woken.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_part_of_every_step_is_done_once() {
        let mut team = Team::start(3).unwrap();
        for length in 0..200 {
            let done: Vec<AtomicUsize> = (0..length).map(|_| AtomicUsize::new(0)).collect();
            team.run(3, &|member| {
                for _ in 0..3 {
                    let part = |part: Range<usize>| part.for_each(|at| _ = done[at].fetch_add(1, Ordering::Relaxed));
                    member.share(0..length, part).unwrap();
                }
            });
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 3));
        }
    }

    #[test]
    fn what_was_written_in_a_step_is_seen_after_it() {
        let mut team = Team::start(2).unwrap();
        let cells: Vec<AtomicUsize> = (0..30).map(|_| AtomicUsize::new(0)).collect();
        team.run(1000, &|member| {
            for round in 1..=500 {
                let write = |part: Range<usize>| part.for_each(|at| cells[at].store(round, Ordering::Relaxed));
                member.share(0..30, write).unwrap();
                let read = |_| assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == round));
                member.share(0..30, read).unwrap();
            }
        });
    }

    #[test]
    fn a_helper_that_comes_too_late_is_not_waited_for() {
        let mut team = Team::start(1).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let receiver = Mutex::new(receiver);
        // The helper does not take a step before the caller has taken all of them.
        team.run(2, &|member| {
            if member.index == 1 {
                let _ = receiver.lock().unwrap().recv_timeout(Duration::from_secs(10));
            }
            for _ in 0..2 {
                member.share(0..8, |_| assert_eq!(member.index, 0, "the caller has done it all")).unwrap();
            }
            if member.index == 0 {
                let _ = sender.send(());
            }
        });
    }

    #[test]
    fn who_waits_long_sleeps_and_is_woken() {
        let mut team = Team::start(1).unwrap();
        for slow in [0, 1] {
            let done = AtomicUsize::new(0);
            team.run(1, &|member| {
                let work = |_| {
                    if member.index == slow {
                        thread::sleep(Duration::from_millis(20));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                };
                member.share(0..2, work).unwrap();
                assert_eq!(done.load(Ordering::Relaxed), 2);
            });
        }
    }

    #[test]
    fn a_panic_of_one_releases_the_others_and_the_team_goes_on() {
        let mut team = Team::start(2).unwrap();
        for _ in 0..3 {
            let job = |member: &Member<'_>| {
                let shared = member.share(0..100, |part| assert!(!part.contains(&42), "unlucky"));
                assert!(shared.is_err());
            };
            assert!(catch_unwind(AssertUnwindSafe(|| team.run(1, &job))).is_err());
            team.run(1, &|member| member.share(0..100, |_| ()).unwrap());
        }
    }

    #[test]
    fn who_is_alone_does_everything() {
        let mut done = Vec::new();
        assert!(Member::alone().share(2..7, |part| done.extend(part)).is_ok());
        assert_eq!(done, [2, 3, 4, 5, 6]);
    }
}

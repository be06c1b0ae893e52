//! A few threads that work on one thing together. They wait for the next a moment awake, and then asleep; nothing else
//! is between them and the caller, and no thread is woken within a forward pass.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use std::cell::UnsafeCell;

/// How often a helper looks for work before it sleeps: some tens of microseconds. Longer would take time from the
/// threads that send the answers.
const LOOKS: usize = 2_000;

/// How often a thread looks whether the others have arrived before it lets others run on its core.
const LOOKS_AT_BARRIER: usize = 4_000;

/// The caller and its helpers.
pub(super) struct Team {
    office: Arc<Office>,
    helpers: Vec<JoinHandle<()>>,
}

/// What a member is told of its place in the team.
pub(super) struct Member<'a> {
    /// From 0, the caller.
    pub(super) index: usize,
    /// Members of the team.
    pub(super) of: usize,
    barrier: Option<&'a Barrier>,
}

/// Another member panicked, and will not come.
#[derive(Debug)]
pub(super) struct Broken;

type Job<'a> = dyn Fn(&Member<'_>) + Sync + 'a;

/// Where the caller puts work, and helpers find it.
struct Office {
    /// Counts the jobs; even when helpers are to end.
    number: AtomicUsize,
    end: AtomicBool,
    job: UnsafeCell<Option<&'static Job<'static>>>,
    /// Helpers that have not finished the job.
    working: AtomicUsize,
    barrier: Barrier,
}

// SAFETY: `job` is written while no helper works, and read after `number` has announced it.
unsafe impl Sync for Office {}
// SAFETY: the reference in `job` is to something that may be used by all threads.
unsafe impl Send for Office {}

impl Team {
    /// Starts the helpers. They inherit the caller's priority.
    pub(super) fn start(helpers: usize) -> io::Result<Self> {
        let office = Arc::new(Office {
            number: AtomicUsize::new(0),
            end: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            working: AtomicUsize::new(0),
            barrier: Barrier::new(helpers + 1),
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
        self.helpers.len() + 1
    }

    /// Runs the job on every member, and returns when all have finished. A panic of one of them goes on here.
    pub(super) fn run(&mut self, job: &Job<'_>) {
        let office = &*self.office;
        office.barrier.mend();
        // SAFETY: no helper works, `&mut self` sees to it that none is about to, and the reference is not used after
        // this function: it waits for all helpers, and does not return before.
        unsafe {
            *office.job.get() = Some(std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job));
        }
        office.working.store(self.helpers.len(), Ordering::Relaxed);
        office.number.fetch_add(1, Ordering::Release);
        for helper in &self.helpers {
            helper.thread().unpark();
        }
        let done = office.work(job, 0);
        let mut looks = 0;
        while office.working.load(Ordering::Acquire) > 0 {
            wait_a_little(&mut looks, LOOKS_AT_BARRIER);
        }
        if let Err(panic) = done {
            resume_unwind(panic);
        }
        assert!(!office.barrier.is_broken(), "a helper panicked; the log has its message");
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
            seen = seen.wrapping_add(1);
            if self.end.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: it was written before the number was raised, and is not written again while this helper works.
            if let Some(job) = unsafe { *self.job.get() } {
                let _ = self.work(job, index);
            }
            self.working.fetch_sub(1, Ordering::Release);
        }
    }

    fn work(&self, job: &Job<'_>, index: usize) -> Result<(), Box<dyn Any + Send>> {
        let member = Member { index, of: self.barrier.of, barrier: Some(&self.barrier) };
        let done = catch_unwind(AssertUnwindSafe(|| job(&member)));
        if done.is_err() {
            self.barrier.break_it();
        }
        done
    }
}

impl Member<'_> {
    /// A member of nothing: works alone.
    pub(super) fn alone() -> Self {
        Self { index: 0, of: 1, barrier: None }
    }

    /// Waits for the others. What they wrote before is seen after.
    pub(super) fn meet(&self) -> Result<(), Broken> {
        self.barrier.map_or(Ok(()), Barrier::wait)
    }
}

struct Barrier {
    of: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    broken: AtomicBool,
}

impl Barrier {
    fn new(of: usize) -> Self {
        Self { of, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0), broken: AtomicBool::new(false) }
    }

    fn wait(&self) -> Result<(), Broken> {
        let round = self.round.load(Ordering::Relaxed);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.of {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
        }
        let mut looks = 0;
        while self.round.load(Ordering::Acquire) == round {
            if self.is_broken() {
                return Err(Broken);
            }
            wait_a_little(&mut looks, LOOKS_AT_BARRIER);
        }
        Ok(())
    }

    fn break_it(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// For the next job; nobody waits now.
    fn mend(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
    }
}

/// Spins, and after some time lets another thread run: the one that is waited for may have no core.
fn wait_a_little(looks: &mut usize, most: usize) {
    *looks += 1;
    if *looks < most {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_runs_every_job_once() {
        let mut team = Team::start(3).unwrap();
        for _ in 0..200 {
            let ran: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
            team.run(&|member| {
                assert_eq!(member.of, 4);
                ran[member.index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(ran.iter().all(|ran| ran.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn what_was_written_before_a_meeting_is_seen_after_it() {
        let mut team = Team::start(2).unwrap();
        let cells: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        team.run(&|member| {
            for round in 1..500 {
                cells[member.index].store(round, Ordering::Relaxed);
                member.meet().unwrap();
                assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == round));
                member.meet().unwrap();
            }
        });
    }

    #[test]
    fn a_panic_of_one_releases_the_others_and_the_team_goes_on() {
        let mut team = Team::start(2).unwrap();
        for unlucky in 0..3 {
            let job = |member: &Member<'_>| {
                assert!(member.index != unlucky, "unlucky");
                assert!(member.meet().is_err());
            };
            assert!(catch_unwind(AssertUnwindSafe(|| team.run(&job))).is_err());
            team.run(&|member| member.meet().unwrap());
        }
    }

    #[test]
    fn who_is_alone_waits_for_nobody() {
        assert!(Member::alone().meet().is_ok());
    }
}

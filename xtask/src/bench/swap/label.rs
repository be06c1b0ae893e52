//! Where the label was when, and whether an answer fits that.

use std::time::{Duration, Instant};

use super::searches::Answer;

/// One move of the label.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    pub to: u32,
    /// When the call was sent.
    pub sent: Instant,
    /// When it was answered.
    pub done: Instant,
    /// When the first search was answered by the new version.
    pub first: Instant,
}

impl Move {
    /// From the call to the first answer of the new version.
    pub fn switch(&self) -> Duration {
        self.first - self.sent
    }

    /// From the call to its answer.
    pub fn call(&self) -> Duration {
        self.done - self.sent
    }
}

/// Which versions the label may have led to, and when.
pub struct History {
    periods: Vec<Period>,
}

struct Period {
    version: u32,
    since: Option<Instant>,
    until: Option<Instant>,
}

impl History {
    /// While a call is on its way the label may lead to either version.
    pub fn new(first: u32, moves: &[Move]) -> Self {
        let mut periods = vec![Period { version: first, since: None, until: None }];
        for moved in moves {
            if let Some(last) = periods.last_mut() {
                last.until = Some(moved.done);
            }
            periods.push(Period { version: moved.to, since: Some(moved.sent), until: None });
        }
        Self { periods }
    }

    /// Whether the label led to the answer's version at some time between the sending of the search and its answer.
    pub fn explains(&self, answer: &Answer) -> bool {
        self.periods.iter().any(|period| {
            answer.version == Some(period.version)
                && period.since.is_none_or(|since| since <= answer.received)
                && period.until.is_none_or(|until| answer.sent <= until)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_be_of_a_version_that_the_label_led_to_while_it_was_made() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let moved = |to, sent, done| Move { to, sent: at(sent), done: at(done), first: at(done) };
        let history = History::new(1, &[moved(2, 100, 110), moved(1, 200, 210)]);
        let fits = |version, sent, received| {
            history.explains(&Answer { sent: at(sent), received: at(received), version: Some(version) })
        };
        assert!(fits(1, 0, 10) && !fits(2, 0, 99), "before the move");
        assert!(fits(1, 105, 120) && fits(2, 90, 101), "during the move");
        assert!(fits(1, 50, 150), "an answer may take long");
        assert!(!fits(1, 111, 150) && fits(2, 111, 150), "after the move");
        assert!(fits(1, 111, 201) && fits(1, 300, 310) && !fits(2, 211, 310), "after the move back");
        assert!(!history.explains(&Answer { sent: at(0), received: at(1), version: None }));
    }
}

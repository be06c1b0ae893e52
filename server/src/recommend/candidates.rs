//! Candidates with their scores, by source, and where they came from.

use std::cmp::Ordering;

use vitrine::v1::ReasonCode;

use super::tally::Tally;
use crate::Doc;

/// Where candidates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// What users did next.
    Follows,
    /// What is in the same orders.
    Together,
    /// What is similar by vectors.
    Similar,
    /// What looks similar.
    LooksLike,
    /// What the user buys regularly.
    Again,
    /// What many want.
    Popular,
    /// What a network that read the history expects next.
    Next,
    /// What a ranker thinks of what the others propose.
    Ranked,
    /// What the shop wants.
    Pinned,
    /// What a campaign pays for.
    Advertised,
    /// What chance wants.
    Explored,
}

impl Source {
    /// Those that propose something to a person.
    pub const OF_PEOPLE: [Self; 6] =
        [Self::Next, Self::Follows, Self::Together, Self::Similar, Self::Again, Self::Popular];

    /// Its name among the stages of an answer.
    pub fn stage(self) -> &'static str {
        match self {
            Self::Follows => "follows",
            Self::Together => "bought_together",
            Self::Similar => "similar",
            Self::LooksLike => "looks_like",
            Self::Again => "buy_again",
            Self::Popular => "popular",
            Self::Next => "next",
            Self::Ranked => "ranked",
            Self::Pinned => "pinned",
            Self::Advertised => "advertised",
            Self::Explored => "explored",
        }
    }

    /// The reason for an item that is proposed mostly because of this source.
    pub fn code(self) -> ReasonCode {
        match self {
            Self::Follows => ReasonCode::Follows,
            Self::Together => ReasonCode::BoughtTogether,
            Self::Similar => ReasonCode::Similar,
            Self::LooksLike => ReasonCode::LooksLike,
            Self::Again => ReasonCode::BuyAgain,
            Self::Popular => ReasonCode::Popular,
            Self::Next => ReasonCode::Next,
            // It proposes nothing.
            Self::Ranked => ReasonCode::Unspecified,
            Self::Pinned => ReasonCode::Pinned,
            Self::Advertised => ReasonCode::Advertised,
            Self::Explored => ReasonCode::Explored,
        }
    }
}

/// How many source items are remembered for a candidate.
pub const REASONS: usize = 3;

/// A candidate of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Its score there: larger is better, positive.
    pub score: f32,
    /// The source items that gave it the most, with how much; 0: none.
    pub from: [(Doc, f32); REASONS],
}

/// The candidates of one source.
#[derive(Clone, Debug, Default)]
pub struct Candidates(Tally<Candidate>);

impl Candidates {
    /// None, with room for as many items as there are.
    pub fn with_room(docs: usize) -> Self {
        Self(Tally::with_room(docs))
    }

    /// Adds to a candidate's score, because of one source item.
    pub fn add(&mut self, doc: Doc, score: f32, from: Doc) {
        let candidate = self.0.entry(doc);
        candidate.score += score;
        candidate.note(from, score);
    }

    /// Raises a candidate's score to at least that, because of one source item.
    pub fn raise(&mut self, doc: Doc, score: f32, from: Doc) {
        let candidate = self.0.entry(doc);
        candidate.score = candidate.score.max(score);
        candidate.note(from, score);
    }

    /// Sets a candidate's score, because of no item.
    pub fn set(&mut self, doc: Doc, score: f32) {
        *self.0.entry(doc) = Candidate { score, ..Candidate::default() };
    }

    /// Changes every score; what is not positive and finite afterwards is no candidate.
    pub fn rescale(&mut self, scale: impl Fn(Doc, f32) -> f32) {
        self.0.retain(|doc, candidate| {
            candidate.score = scale(doc, candidate.score);
            candidate.score > 0.0 && candidate.score.is_finite()
        });
    }

    /// Takes one out.
    pub fn remove(&mut self, doc: Doc) {
        self.0.remove(doc);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Doc, &Candidate)> {
        self.0.iter()
    }

    /// One of them.
    pub fn get(&self, doc: Doc) -> Option<&Candidate> {
        self.0.get(doc)
    }

    /// The largest score; 0 if there are none.
    pub fn best(&self) -> f32 {
        self.0.iter().fold(0.0, |best, (_, candidate)| best.max(candidate.score))
    }
}

impl Candidate {
    fn note(&mut self, from: Doc, score: f32) {
        let Some(place) = self.from.iter().position(|other| score > other.1) else { return };
        self.from[place..].rotate_right(1);
        self.from[place] = (from, score);
    }

    /// The source items that gave it the most, the most first.
    pub fn sources(&self) -> impl Iterator<Item = Doc> {
        self.from.iter().filter(|from| from.1 > 0.0).map(|from| from.0)
    }
}

/// Best first; equal scores by the older item, so that the same state gives the same order.
pub fn best_first(a: &(Doc, f32), b: &(Doc, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `take` best of a list, in order.
pub fn top(mut scored: Vec<(Doc, f32)>, take: usize) -> Vec<(Doc, f32)> {
    if scored.len() > take && take > 0 {
        scored.select_nth_unstable_by(take - 1, best_first);
    }
    scored.truncate(take);
    scored.sort_unstable_by(best_first);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_remembers_what_gave_it_the_most() {
        let mut candidates = Candidates::default();
        for (from, score) in [(10, 0.1), (11, 0.4), (12, 0.2), (13, 0.3)] {
            candidates.add(1, score, from);
        }
        let candidate = candidates.get(1).copied().unwrap_or_default();
        assert!((candidate.score - 1.0).abs() < 1e-6);
        assert_eq!(candidate.sources().collect::<Vec<_>>(), [11, 13, 12]);
    }

    #[test]
    fn the_top_is_ordered_and_ties_go_to_the_older_item() {
        let scored = vec![(3, 0.5), (1, 0.5), (2, 0.9), (4, 0.1)];
        assert_eq!(top(scored.clone(), 3), [(2, 0.9), (1, 0.5), (3, 0.5)]);
        assert_eq!(top(scored, 0), []);
    }

    #[test]
    fn what_is_not_positive_is_no_candidate() {
        let mut candidates = Candidates::default();
        candidates.set(1, 1.0);
        candidates.set(2, 2.0);
        candidates.rescale(|doc, score| if doc == 1 { f32::NAN } else { score });
        assert_eq!(candidates.len(), 1);
        assert!((candidates.best() - 2.0).abs() < f32::EPSILON);
    }
}

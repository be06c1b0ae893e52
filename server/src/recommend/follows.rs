//! What users did next after the source items.
//!
//! A neighbourhood method over histories, computed on demand: each source item's newest visits are looked up in their
//! users' histories, and the actions around each count less the farther they are. Looking one action ahead this is a
//! first-order Markov chain; with reach, decay and a discount for going backward it is sequence-aware item-based
//! filtering (Ludewig & Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018: sequential rules).
//!
//! Actions of one second are one act (a basket, a page of ratings): they have no before and after among themselves, and
//! count in the order in which they were recorded.

use super::RecommendOptions;
use super::candidates::Candidates;
use super::tally::Tally;
use crate::Doc;
use crate::behaviour::weight::is_met;
use crate::behaviour::{Behaviour, Entry, Person, Visit};

/// Candidates that follow `sources` (items and their weights) in the histories of people other than `who`.
pub fn follows(
    behaviour: &Behaviour,
    sources: &[(Doc, f32)],
    who: Option<Person>,
    options: &RecommendOptions,
) -> Candidates {
    let mut candidates = Candidates::with_room(behaviour.docs());
    let mut near: Tally<f32> = Tally::with_room(behaviour.docs());
    for &(source, weight) in sources {
        near.clear();
        let visits = behaviour.visits(source);
        let visits = &visits[visits.len().saturating_sub(options.follow_visits)..];
        for visit in visits.iter().filter(|visit| Some(visit.person) != who) {
            let actions = behaviour.history(visit.person).actions;
            if let Some(place) = locate(actions, source, *visit) {
                gather(&mut near, actions, place, options);
            }
        }
        let scale = weight / (visits.len() as f32 + options.follow_shrinkage);
        for (doc, &score) in near.iter() {
            candidates.add(doc, score * scale, source);
        }
    }
    candidates.rescale(|doc, score| score / (behaviour.visit_count(doc).max(1) as f32).powf(options.follow_dampening));
    candidates
}

/// Where in a history a visit is. It may have been dropped from it.
fn locate(actions: &[Entry], source: Doc, visit: Visit) -> Option<usize> {
    let first = actions.partition_point(|entry| entry.seconds() < visit.seconds);
    let same_time = actions[first..].iter().take_while(|entry| entry.seconds() == visit.seconds);
    same_time.enumerate().find(|(_, entry)| entry.doc == source).map(|(offset, _)| first + offset)
}

/// Counts what is around one place of a history.
fn gather(near: &mut Tally<f32>, actions: &[Entry], place: usize, options: &RecommendOptions) {
    let source = actions[place].doc;
    let mut count = |entry: &Entry, weight: f32| {
        if entry.doc != source && is_met(entry.kind()) {
            *near.entry(entry.doc) += weight;
        }
    };
    let mut weight = 1.0;
    for entry in actions[place + 1..].iter().take(options.follow_reach) {
        count(entry, weight);
        weight *= options.follow_decay;
    }
    let mut weight = options.follow_backward;
    if weight > 0.0 {
        for entry in actions[..place].iter().rev().take(options.follow_reach) {
            count(entry, weight);
            weight *= options.follow_decay;
        }
    }
}

//! Queries, each sent once.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Queries that nobody has sent before.
pub struct Queries {
    names: Vec<String>,
    turn: AtomicUsize,
}

impl Queries {
    /// Made of names, each of which is there once.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, turn: AtomicUsize::new(0) }
    }

    /// How many there are before numbers are put behind the names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// One more.
    pub fn next(&self) -> String {
        self.at(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// One of those sent, in turn.
    pub fn sent(&self, turn: u64) -> String {
        self.at(turn as usize % self.turn.load(Ordering::Relaxed).max(1))
    }

    fn at(&self, turn: usize) -> String {
        let (round, place) = (turn / self.names.len().max(1), turn % self.names.len().max(1));
        let name = self.names.get(place).cloned().unwrap_or_default();
        if round == 0 { name } else { format!("{name} {round}") }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_query_comes_twice() {
        let queries = Queries::new(vec!["milk".to_owned(), "bread".to_owned()]);
        let sent: Vec<String> = (0..6).map(|_| queries.next()).collect();
        assert_eq!(sent[..3], ["milk", "bread", "milk 1"]);
        assert_eq!((0..7).map(|turn| queries.sent(turn)).collect::<Vec<_>>()[..6], sent);
        assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len());
    }
}

//! A time-ordered list that keeps only its newest entries.

/// Something with a time.
pub trait Timed {
    /// When, in milliseconds since 1970.
    fn millis(&self) -> i64;
}

/// The newest entries of a stream that may arrive late, oldest first; entries of one time stay in the order of their
/// arrival. What [`newest`](Self::newest) shows does not depend on the order in which entries of different times came.
///
/// The limit is not stored but passed to each call, always the same one: there is one list for every item and user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent<T> {
    entries: Vec<T>,
    total: u32,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), total: 0 }
    }
}

impl<T: Timed> Recent<T> {
    /// Puts an entry in its place, and drops what is over the limit (in strides, so that it is cheap).
    pub fn insert(&mut self, entry: T, limit: usize) {
        self.total = self.total.saturating_add(1);
        let at = entry.millis();
        let place = match self.entries.last() {
            Some(last) if last.millis() > at => self.entries.partition_point(|other| other.millis() <= at),
            _ => self.entries.len(),
        };
        if self.entries.len() == self.entries.capacity() {
            // A quarter at a time instead of doubling: most lists are short and there are many.
            self.entries.reserve_exact(self.entries.len() / 4 + 2);
        }
        self.entries.insert(place, entry);
        if self.entries.len() > limit + limit / 4 {
            self.entries.drain(..self.entries.len() - limit);
        }
    }
}

impl<T> Recent<T> {
    /// The newest `limit` entries, oldest first.
    pub fn newest(&self, limit: usize) -> &[T] {
        &self.entries[self.entries.len().saturating_sub(limit)..]
    }

    /// Removes the entries that `keep` refuses, also from the count of all.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let before = self.entries.len();
        self.entries.retain(keep);
        self.total = self.total.saturating_sub((before - self.entries.len()) as u32);
    }

    /// How many entries there were, those no longer kept included.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Puts back what [`newest`](Self::newest) and [`total`](Self::total) gave.
    pub(super) fn restore(entries: Vec<T>, total: u32) -> Self {
        Self { entries, total }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Timed for (i64, u32) {
        fn millis(&self) -> i64 {
            self.0
        }
    }

    proptest! {
        #[test]
        fn shows_the_newest_in_order_however_they_came(times in prop::collection::vec(0_i64..50, 0..120), limit in 1_usize..40) {
            let mut list = Recent::default();
            let mut all = Vec::new();
            for (n, &at) in times.iter().enumerate() {
                list.insert((at, n as u32), limit);
                all.push((at, n as u32));
            }
            all.sort_by_key(|entry| entry.0);
            prop_assert_eq!(list.newest(limit), &all[all.len().saturating_sub(limit)..]);
        }
    }
}

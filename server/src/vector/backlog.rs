//! Which part of the log to look at next: the newest first.
//!
//! When much is to be done, what changed just now should not wait behind it. The log not yet looked at is kept as ranges,
//! the newest on top; the order does not matter for the result, since a change is read as its item's state now.

/// The positions of the log that are still to be looked at.
#[derive(Debug)]
pub struct Backlog {
    /// Half-open from below: (after, up to]. Ascending, apart, the newest last.
    ranges: Vec<(u64, u64)>,
    head: u64,
}

impl Backlog {
    /// Everything after `watermark`.
    pub fn after(watermark: u64) -> Self {
        Self { ranges: Vec::new(), head: watermark }
    }

    /// Takes note that the log has grown up to `head`.
    pub fn extend(&mut self, head: u64) {
        if head > self.head {
            self.ranges.push((self.head, head));
            self.head = head;
        }
    }

    /// What to look at next: the positions after the first and up to the second.
    pub fn next(&self) -> Option<(u64, u64)> {
        self.ranges.last().copied()
    }

    /// Takes note that of [`Backlog::next`] everything up to `position` is done.
    pub fn done(&mut self, position: u64) {
        if let Some((after, upto)) = self.ranges.last_mut() {
            *after = position.max(*after);
            if *after >= *upto {
                self.ranges.pop();
            }
        }
    }

    /// Up to where everything is done.
    pub fn watermark(&self) -> u64 {
        self.ranges.first().map_or(self.head, |range| range.0)
    }

    /// How many positions are left.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(after, upto)| upto - after).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_came_last_is_done_first() {
        let mut backlog = Backlog::after(10);
        backlog.extend(90_000);
        backlog.done(64);
        backlog.extend(90_002);
        assert_eq!(backlog.next(), Some((90_000, 90_002)));
        backlog.done(90_002);
        assert_eq!((backlog.next(), backlog.watermark(), backlog.len()), (Some((64, 90_000)), 64, 89_936));
        backlog.done(90_000);
        assert_eq!((backlog.next(), backlog.watermark(), backlog.len()), (None, 90_002, 0));
    }

    proptest! {
        #[test]
        fn every_position_is_looked_at_once_and_none_below_the_watermark_is_left(
            start in 0..50_u64, steps in proptest::collection::vec((0..20_u64, 1..8_u64), 0..60),
        ) {
            let mut backlog = Backlog::after(start);
            let mut head = start;
            let mut seen = std::collections::BTreeSet::new();
            for (growth, amount) in steps {
                head += growth;
                backlog.extend(head);
                if let Some((after, upto)) = backlog.next() {
                    let position = (after + amount).min(upto);
                    for position in after + 1..=position {
                        prop_assert!(seen.insert(position));
                    }
                    backlog.done(position);
                }
                prop_assert!((start + 1..=backlog.watermark()).all(|position| seen.contains(&position)));
                prop_assert_eq!(seen.len() as u64 + backlog.len(), head - start);
            }
        }
    }
}

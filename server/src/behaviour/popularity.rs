//! What many want: with exponential decay, and within a sliding window.
//!
//! The decayed sums are kept by forward decay (Cormode et al., "Forward Decay: A Practical Time Decay Model for
//! Streaming Systems", ICDE 2009): an event at time t adds 2^((t − landmark) / half-life), and a reader divides by one
//! factor for all items. Late events need nothing special.
//!
//! The sums for windows are kept by hour for the newest 14 days and by day before. A window counts the hours and days
//! that it touches, so its start is exact to an hour, or to a day if it reaches back further.

use std::collections::BTreeMap;

use super::weight::Strength;
use crate::Doc;

const HOUR: u32 = 3_600;
const DAY: u32 = 24 * HOUR;
/// How far back of the newest event, in days, sums are kept by the hour.
const HOURLY_DAYS: u32 = 14;
/// The landmark follows when the newest event is so many half-lives after it, well before 2^x leaves the range of f64.
const LANDMARK_REACH: i64 = 400;

/// Sums of one hour or day, sorted by item, in sixteenths of a purchase.
pub(super) type Sums = Vec<(Doc, i32)>;

/// How much each item is wanted.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Popularity {
    /// In half-lives since 1970.
    pub(super) landmark: Option<i64>,
    /// By item.
    pub(super) decayed: Vec<f64>,
    pub(super) hours: BTreeMap<u32, Sums>,
    pub(super) days: BTreeMap<u32, Sums>,
    /// The newest day with an event.
    pub(super) newest_day: u32,
}

impl Popularity {
    pub(super) fn add(&mut self, doc: Doc, seconds: u32, strength: Strength, half_life: u32) {
        if strength == Strength::default() {
            return;
        }
        let half_life = i64::from(half_life.max(1));
        if self.decayed.len() <= doc as usize {
            self.decayed.resize(doc as usize + 1, 0.0);
        }
        let age = i64::from(seconds) / half_life;
        let mut landmark = *self.landmark.get_or_insert(age);
        if age - landmark > LANDMARK_REACH {
            let shift = 0.5_f64.powi(i32::try_from(age - landmark).unwrap_or(i32::MAX));
            self.decayed.iter_mut().for_each(|sum| *sum *= shift);
            landmark = age;
            self.landmark = Some(age);
        }
        let since = (i64::from(seconds) - landmark * half_life) as f64 / half_life as f64;
        self.decayed[doc as usize] += f64::from(strength.0) * since.exp2();
        self.count(doc, seconds, i32::from(strength.0));
    }

    fn count(&mut self, doc: Doc, seconds: u32, amount: i32) {
        let day = seconds / DAY;
        if day > self.newest_day {
            self.newest_day = day;
            let first_hour = day.saturating_sub(HOURLY_DAYS) * 24;
            while let Some(entry) = self.hours.first_entry().filter(|entry| *entry.key() < first_hour) {
                let (hour, sums) = entry.remove_entry();
                let target = self.days.entry(hour / 24).or_default();
                for (doc, amount) in sums {
                    add_to(target, doc, amount);
                }
            }
        }
        let by_hour = day >= self.newest_day.saturating_sub(HOURLY_DAYS);
        let sums = if by_hour { self.hours.entry(seconds / HOUR) } else { self.days.entry(day) };
        add_to(sums.or_default(), doc, amount);
    }

    /// How much each item was wanted, by item, newer events counting more. Comparable with each other only; not
    /// positive: more sent back or refused than bought.
    pub fn decayed(&self) -> &[f64] {
        &self.decayed
    }

    /// How much each item was wanted in the `window` seconds before `now` (seconds since 1970), by item, in purchases.
    pub fn within(&self, window: u32, now: u32) -> Vec<f64> {
        let start = now.saturating_sub(window);
        let mut sums = vec![0.0; self.decayed.len()];
        let days = self.days.range(start / DAY..=now / DAY);
        let hours = self.hours.range(start / HOUR..=now / HOUR);
        for &(doc, amount) in days.chain(hours).flat_map(|(_, bucket)| bucket) {
            if let Some(sum) = sums.get_mut(doc as usize) {
                *sum += f64::from(amount) / 16.0;
            }
        }
        sums
    }
}

fn add_to(sums: &mut Sums, doc: Doc, amount: i32) {
    match sums.binary_search_by_key(&doc, |sum| sum.0) {
        Ok(place) => sums[place].1 = sums[place].1.saturating_add(amount),
        Err(place) => sums.insert(place, (doc, amount)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUGHT: Strength = Strength(16);

    #[test]
    fn an_event_counts_half_after_a_half_life() {
        let mut popularity = Popularity::default();
        popularity.add(0, 1_000_000, BOUGHT, 1_000);
        popularity.add(1, 1_001_000, BOUGHT, 1_000);
        let sums = popularity.decayed();
        assert!((sums[1] / sums[0] - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_half_life_over_many_years_stays_in_range() {
        let mut popularity = Popularity::default();
        for year in 0..100 {
            popularity.add(year % 3, year * 365 * DAY, BOUGHT, 60);
        }
        assert!(popularity.decayed().iter().all(|sum| sum.is_finite()));
        assert!(popularity.decayed()[0] > 0.0, "the newest event counts");
    }

    #[test]
    fn a_window_counts_what_is_in_it() {
        let mut popularity = Popularity::default();
        let now = 2_000 * DAY;
        popularity.add(0, now - 40 * DAY, BOUGHT, DAY);
        popularity.add(0, now - 2 * HOUR, BOUGHT, DAY);
        popularity.add(1, now - 5 * DAY, BOUGHT, DAY);
        let sum = |window| popularity.within(window, now).iter().map(|sum| *sum as u32).collect::<Vec<_>>();
        assert_eq!(sum(HOUR), [0, 0]);
        assert_eq!(sum(3 * HOUR), [1, 0]);
        assert_eq!(sum(6 * DAY), [1, 1]);
        assert_eq!(sum(41 * DAY), [2, 1]);
    }

    proptest! {
        #[test]
        fn late_events_give_the_same_sums(mut events in prop::collection::vec((0_u32..5, 0_u32..60 * DAY, -16_i8..=16), 1..60)) {
            let build = |events: &[(u32, u32, i8)]| {
                let mut popularity = Popularity::default();
                for &(doc, at, strength) in events {
                    popularity.add(doc, at, Strength(strength), 7 * DAY);
                }
                popularity
            };
            let late = build(&events);
            events.sort_by_key(|event| event.1);
            let ordered = build(&events);
            prop_assert_eq!(&late.hours, &ordered.hours);
            prop_assert_eq!(&late.days, &ordered.days);
            let scale = |popularity: &Popularity| (popularity.landmark.unwrap_or(0) as f64).exp2();
            for (a, b) in late.decayed.iter().zip(&ordered.decayed) {
                prop_assert!((a * scale(&late) - b * scale(&ordered)).abs() <= 1e-9 * scale(&ordered) * 60.0 * 16.0 * 1e3);
            }
        }
    }
}

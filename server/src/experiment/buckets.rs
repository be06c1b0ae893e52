//! Which buckets belong to which arm. A new experiment shares them out as GrowthBook does; a change of weights or coverage moves as few as
//! possible.

use vitrine::v1::BucketRange;

use super::hash::BUCKETS;

/// The buckets of each arm: half-open intervals, in order.
pub type Ranges = Vec<Vec<BucketRange>>;

/// GrowthBook's `getBucketRanges`: each arm has its own part of the whole, and as much of the beginning of it as `coverage` says.
pub fn fresh(weights: &[f64], coverage: f64) -> Ranges {
    let mut start = 0.0;
    let share = |weight: &f64| {
        let (from, to) = (start, start + coverage * weight);
        start += weight;
        let range = BucketRange { first: first_from(from), end: first_from(to) };
        if range.first < range.end { vec![range] } else { Vec::new() }
    };
    weights.iter().map(share).collect()
}

/// The first bucket that is not before this place, a share of the whole.
fn first_from(place: f64) -> u32 {
    let of_bucket = |bucket: u32| f64::from(bucket) / BUCKETS as f64;
    let mut bucket = ((place * BUCKETS as f64) as u32).saturating_sub(1);
    while (bucket as usize) < BUCKETS && of_bucket(bucket) < place {
        bucket += 1;
    }
    bucket
}

/// The same with other weights or coverage: an arm that is to have fewer buckets gives its last ones up, one that is to have more takes the
/// first free ones.
pub fn moved(before: &[Vec<BucketRange>], weights: &[f64], coverage: f64) -> Ranges {
    let wanted: Vec<usize> = fresh(weights, coverage).iter().map(|ranges| size(ranges)).collect();
    let mut arms = owners(before);
    let mut counts: Vec<usize> = before.iter().map(|ranges| size(ranges)).collect();
    for owner in arms.iter_mut().rev() {
        let Some(arm) = *owner else { continue };
        if counts[arm] > wanted[arm] {
            counts[arm] -= 1;
            *owner = None;
        }
    }
    for owner in arms.iter_mut().filter(|owner| owner.is_none()) {
        let Some(arm) = (0..counts.len()).find(|&arm| counts[arm] < wanted[arm]) else { break };
        counts[arm] += 1;
        *owner = Some(arm);
    }
    (0..before.len()).map(|arm| intervals(&arms, arm)).collect()
}

/// Which arm each bucket belongs to.
pub fn owners(ranges: &[Vec<BucketRange>]) -> Vec<Option<usize>> {
    let mut owners = vec![None; BUCKETS];
    for (arm, ranges) in ranges.iter().enumerate() {
        for range in ranges {
            let end = (range.end as usize).min(BUCKETS);
            owners[(range.first as usize).min(end)..end].fill(Some(arm));
        }
    }
    owners
}

fn intervals(owners: &[Option<usize>], arm: usize) -> Vec<BucketRange> {
    let mut intervals: Vec<BucketRange> = Vec::new();
    for bucket in (0..).zip(owners).filter(|(_, owner)| **owner == Some(arm)).map(|(bucket, _)| bucket) {
        match intervals.last_mut().filter(|last| last.end == bucket) {
            Some(last) => last.end += 1,
            None => intervals.push(BucketRange { first: bucket, end: bucket + 1 }),
        }
    }
    intervals
}

fn size(ranges: &[BucketRange]) -> usize {
    ranges.iter().map(|range| range.end.saturating_sub(range.first) as usize).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(ranges: &Ranges) -> Vec<Vec<(u32, u32)>> {
        ranges.iter().map(|arm| arm.iter().map(|range| (range.first, range.end)).collect()).collect()
    }

    /// GrowthBook's cases of `getBucketRange`, in buckets. What 0.2 × 0.2 is too much in binary fractions it is there, too.
    #[test]
    fn new_experiments_are_shared_out_as_growthbook_does() {
        type Case<'a> = (&'a [f64], f64, &'a [(u32, u32)]);
        let cases: [Case<'_>; 6] = [
            (&[0.5, 0.5], 1.0, &[(0, 5_000), (5_000, 10_000)]),
            (&[0.5, 0.5], 0.5, &[(0, 2_500), (5_000, 7_500)]),
            (&[0.25; 4], 1.0, &[(0, 2_500), (2_500, 5_000), (5_000, 7_500), (7_500, 10_000)]),
            (&[0.4, 0.6], 1.0, &[(0, 4_000), (4_000, 10_000)]),
            (&[0.2, 0.3, 0.5], 1.0, &[(0, 2_000), (2_000, 5_000), (5_000, 10_000)]),
            (&[0.2, 0.3, 0.5], 0.2, &[(0, 401), (2_000, 2_600), (5_000, 6_000)]),
        ];
        for (weights, coverage, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|range| vec![*range]).collect();
            assert_eq!(shown(&fresh(weights, coverage)), expected, "{weights:?} {coverage}");
        }
        assert_eq!(shown(&fresh(&[0.5, 0.5], 0.0)), [vec![], vec![]] as [Vec<(u32, u32)>; 2]);
        assert_eq!(shown(&fresh(&[1.0, 0.0], 1.0)), [vec![(0, 10_000)], vec![]]);
    }

    #[test]
    fn growing_coverage_moves_nobody_from_arm_to_arm() {
        let before = fresh(&[0.5, 0.5], 0.1);
        let after = moved(&before, &[0.5, 0.5], 1.0);
        assert_eq!(after.iter().map(|arm| size(arm)).collect::<Vec<_>>(), [5_000, 5_000]);
        let changed = owners(&before).into_iter().zip(owners(&after)).filter(|(was, is)| was.is_some() && was != is);
        assert_eq!(changed.count(), 0);
    }

    proptest! {
        #[test]
        fn a_change_moves_no_more_than_arms_lose(
            first in proptest::collection::vec(1u32..100, 2..6),
            second in proptest::collection::vec(1u32..100, 6),
            coverages in (0.0f64..=1.0, 0.0f64..=1.0),
        ) {
            let shares = |parts: &[u32]| -> Vec<f64> {
                let sum: u32 = parts.iter().sum();
                parts.iter().map(|part| f64::from(*part) / f64::from(sum)).collect()
            };
            let second = shares(&second[..first.len()]);
            let before = fresh(&shares(&first), coverages.0);
            let after = moved(&before, &second, coverages.1);
            let wanted: Vec<usize> = fresh(&second, coverages.1).iter().map(|arm| size(arm)).collect();
            prop_assert_eq!(&after.iter().map(|arm| size(arm)).collect::<Vec<_>>(), &wanted);
            let left = owners(&before).into_iter().zip(owners(&after)).filter(|(was, is)| was.is_some() && was != is).count();
            let lost: usize = before.iter().zip(&wanted).map(|(arm, wanted)| size(arm).saturating_sub(*wanted)).sum();
            prop_assert_eq!(left, lost);
        }
    }
}

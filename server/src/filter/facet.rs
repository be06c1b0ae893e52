//! Counting the matching items by their values.

use roaring::RoaringBitmap;
use thiserror::Error;
use vitrine::v1::{Facet, FacetRequest, FacetValue, Interval};

use super::ast::Key;
use super::column::{Column, Number};
use super::columns::{Columns, Text, Values};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: i32 = 300;
const MAX_INTERVALS: usize = 300;

/// A facet that cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FacetError {
    /// There is nothing to count by that key.
    #[error("items cannot be counted by `{0}`: expected brand, categories, tags, price or attributes.NAME")]
    Key(String),
    /// The limit is negative or too large.
    #[error("the limit must be from 0 to 300, not {0}")]
    Limit(i32),
    /// There are too many intervals.
    #[error("at most 300 intervals, not {0}")]
    TooManyIntervals(usize),
    /// An interval is empty, or has an end that is not a number.
    #[error("intervals[{0}]: the minimum must be less than the maximum")]
    Interval(usize),
}

impl Columns {
    /// Counts `matching` by the values of a key: most frequent first, then by name. Categories are counted along their
    /// whole path: an item under `Shoes > Running` counts for `Shoes` too. Numbers are counted in the intervals asked
    /// for, in that order. `matching` is what the filter leaves without the request's `excluded_filter_keys`.
    pub fn facet(&self, request: &FacetRequest, matching: &RoaringBitmap) -> Result<Facet, FacetError> {
        check(request)?;
        let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize };
        let mut facet = Facet { key: request.key.clone(), ..Facet::default() };
        match Key::named(&request.key) {
            Key::Categories => facet.values = count_texts(self.category_ancestors(), matching, limit),
            key => match self.values(&key) {
                Values::Texts(column) => facet.values = count_texts(column, matching, limit),
                Values::Numbers(column) => count_numbers(&mut facet, column, &request.intervals, matching),
                Values::Both(attribute) => {
                    facet.values = count_texts(&attribute.texts, matching, limit);
                    count_numbers(&mut facet, &attribute.numbers, &request.intervals, matching);
                }
                Values::Truth(_) | Values::Nothing => {}
            },
        }
        Ok(facet)
    }
}

fn check(request: &FacetRequest) -> Result<(), FacetError> {
    match Key::named(&request.key) {
        Key::Brand | Key::Categories | Key::Tags | Key::Price => {}
        Key::Attribute(name) if !name.is_empty() => {}
        _ => return Err(FacetError::Key(request.key.clone())),
    }
    if !(0..=MAX_LIMIT).contains(&request.limit) {
        return Err(FacetError::Limit(request.limit));
    }
    if request.intervals.len() > MAX_INTERVALS {
        return Err(FacetError::TooManyIntervals(request.intervals.len()));
    }
    let is_sound = |interval: &Interval| {
        let (minimum, maximum) = ends(interval);
        minimum < maximum
    };
    match request.intervals.iter().position(|interval| !is_sound(interval)) {
        Some(index) => Err(FacetError::Interval(index)),
        None => Ok(()),
    }
}

fn ends(interval: &Interval) -> (f64, f64) {
    (interval.minimum.unwrap_or(f64::NEG_INFINITY), interval.maximum.unwrap_or(f64::INFINITY))
}

fn count_texts(column: &Column<Text>, matching: &RoaringBitmap, limit: usize) -> Vec<FacetValue> {
    let counted = column.iter().map(|(text, postings)| (text, postings.count_in(matching)));
    let mut counts: Vec<(&Text, u64)> = counted.filter(|(_, count)| *count > 0).collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    counts.truncate(limit);
    let value = |(text, count): (&Text, u64)| FacetValue {
        value: text.spelling().to_owned(),
        interval: None,
        count: count as i64,
    };
    counts.into_iter().map(value).collect()
}

/// Adds the smallest, the largest, and how many items there are in each interval; an item with several numbers in one
/// interval counts once.
fn count_numbers(facet: &mut Facet, column: &Column<Number>, intervals: &[Interval], matching: &RoaringBitmap) {
    let matched = || column.iter().filter(|(_, postings)| postings.count_in(matching) > 0);
    facet.minimum = matched().next().map(|(number, _)| number.get());
    facet.maximum = matched().next_back().map(|(number, _)| number.get());
    for interval in intervals {
        let (minimum, maximum) = ends(interval);
        let found = column.such_that(|number| (minimum..maximum).contains(&number.get()));
        facet.values.push(FacetValue {
            value: format!("[{minimum}, {maximum})"),
            interval: Some(*interval),
            count: found.intersection_len(matching) as i64,
        });
    }
}

//! The values of all items by key, kept in step with them, and which items match a filter.

use std::borrow::Borrow;
use std::ops::Bound;

use prost_types::value::Kind;
use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use vitrine::v1::Item;

use super::ast::{Comparator, Condition, Expression, Filter, Key, Operand};
use super::column::{Column, Number, Postings};
use crate::Doc;

/// The values of all items by key.
///
/// In memory it takes about what the items' short texts and numbers take: each distinct value is held once, with a
/// bitmap of its items, or the one item that has it.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    all: RoaringBitmap,
    available: RoaringBitmap,
    ids: Column<Text>,
    titles: Column<Text>,
    brands: Column<Text>,
    tags: Column<Text>,
    /// Whole category paths, as items have them.
    paths: Column<Text>,
    /// Every path and every beginning of one.
    ancestors: Column<Text>,
    /// Every single step of a path.
    steps: Column<Text>,
    prices: Column<Number>,
    created: Column<Number>,
    attributes: FxHashMap<Box<str>, Attribute>,
}

/// One attribute's values: the same name may hold texts in one item and numbers in another.
#[derive(Debug, Clone, Default)]
pub(super) struct Attribute {
    pub(super) texts: Column<Text>,
    pub(super) numbers: Column<Number>,
}

/// A text that equals its other spellings in capitals or small letters, and remembers the first one seen.
#[derive(Debug, Clone)]
pub(super) struct Text {
    folded: Box<str>,
    /// None: as folded.
    spelling: Option<Box<str>>,
}

/// The columns of one key.
pub(super) enum Values<'a> {
    Texts(&'a Column<Text>),
    Numbers(&'a Column<Number>),
    Both(&'a Attribute),
    Truth(&'a RoaringBitmap),
    Nothing,
}

impl Columns {
    /// Takes in an item. `old` is what was taken in under this `doc` before, if anything.
    pub fn upsert(&mut self, doc: Doc, old: Option<&Item>, new: &Item) {
        if let Some(old) = old {
            self.remove(doc, old);
        }
        self.all.insert(doc);
        if new.available.unwrap_or(true) {
            self.available.insert(doc);
        }
        self.each_value(new, |column, value| match (column, value) {
            (ColumnMut::Texts(column), Value::Text(text)) => column.insert(doc, Text::new(text)),
            (ColumnMut::Numbers(column), Value::Number(number)) => column.insert(doc, number),
            (ColumnMut::Texts(_), Value::Number(_)) | (ColumnMut::Numbers(_), Value::Text(_)) => {}
        });
    }

    /// Forgets an item. `old` must be what was taken in.
    pub fn remove(&mut self, doc: Doc, old: &Item) {
        self.all.remove(doc);
        self.available.remove(doc);
        self.each_value(old, |column, value| match (column, value) {
            (ColumnMut::Texts(column), Value::Text(text)) => column.remove(doc, fold(text).as_str()),
            (ColumnMut::Numbers(column), Value::Number(number)) => column.remove(doc, &number),
            (ColumnMut::Texts(_), Value::Number(_)) | (ColumnMut::Numbers(_), Value::Text(_)) => {}
        });
        if let Some(fields) = &old.attributes {
            for name in fields.fields.keys() {
                if self.attributes.get(name.as_str()).is_some_and(|a| a.texts.is_empty() && a.numbers.is_empty()) {
                    self.attributes.remove(name.as_str());
                }
            }
        }
    }

    /// Which items match. A key that no item has matches none.
    pub fn evaluate(&self, filter: &Filter) -> RoaringBitmap {
        filter.root.as_ref().map_or_else(|| self.all.clone(), |root| self.matching(root))
    }

    fn matching(&self, expression: &Expression) -> RoaringBitmap {
        match expression {
            Expression::And(parts) => {
                let mut found: Option<RoaringBitmap> = None;
                for part in parts {
                    let these = self.matching(part);
                    let both = found.map_or_else(|| these.clone(), |found| found & &these);
                    if both.is_empty() {
                        return both;
                    }
                    found = Some(both);
                }
                found.unwrap_or_else(|| self.all.clone())
            }
            Expression::Or(parts) => parts.iter().fold(RoaringBitmap::new(), |found, part| found | self.matching(part)),
            Expression::Not(part) => &self.all - self.matching(part),
            Expression::Condition(condition) => self.satisfying(condition),
        }
    }

    fn satisfying(&self, condition: &Condition) -> RoaringBitmap {
        if condition.comparator == Comparator::NotEqual {
            let equal = Condition { comparator: Comparator::Equal, ..condition.clone() };
            return self.present(&condition.key) - self.satisfying(&equal);
        }
        match (&condition.key, &condition.operand) {
            (key, Operand::Any) => self.present(key),
            (Key::Categories, Operand::Text(text)) => {
                let path = path_of(text);
                if condition.comparator == Comparator::Has {
                    self.ancestors.with(path.as_str()) | self.steps.with(path.as_str())
                } else {
                    self.paths.with(path.as_str())
                }
            }
            (Key::Title, Operand::Text(text)) if condition.comparator == Comparator::Has => {
                let part = fold(text);
                self.titles.such_that(|title| title.folded.contains(&part))
            }
            (key, operand) => match self.values(key) {
                Values::Nothing => RoaringBitmap::new(),
                Values::Truth(yes) => match operand {
                    Operand::Truth(true) => yes.clone(),
                    _ => &self.all - yes,
                },
                Values::Texts(column) => texts_equal(column, operand),
                Values::Numbers(column) => numbers_within(column, condition.comparator, operand),
                Values::Both(attribute) => {
                    let mut found = numbers_within(&attribute.numbers, condition.comparator, operand);
                    if matches!(condition.comparator, Comparator::Equal | Comparator::Has) {
                        found |= texts_equal(&attribute.texts, operand);
                    }
                    found
                }
            },
        }
    }

    fn present(&self, key: &Key) -> RoaringBitmap {
        match self.values(key) {
            Values::Nothing => RoaringBitmap::new(),
            Values::Truth(_) => self.all.clone(),
            Values::Texts(column) => column.present().clone(),
            Values::Numbers(column) => column.present().clone(),
            Values::Both(attribute) => attribute.texts.present() | attribute.numbers.present(),
        }
    }

    /// A number for each of `docs` that has a value of the key, the same for the same value; of several values of an item
    /// the first in order counts.
    pub fn groups(&self, key: &Key, docs: &RoaringBitmap) -> FxHashMap<Doc, u32> {
        let mut groups = FxHashMap::default();
        let mut number = 0;
        let mut take = |postings: &Postings| {
            number += 1;
            postings.for_each(|doc| {
                if docs.contains(doc) {
                    groups.entry(doc).or_insert(number);
                }
            });
        };
        match self.values(key) {
            Values::Texts(column) => column.iter().for_each(|(_, postings)| take(postings)),
            Values::Numbers(column) => column.iter().for_each(|(_, postings)| take(postings)),
            Values::Both(attribute) => {
                attribute.texts.iter().for_each(|(_, postings)| take(postings));
                attribute.numbers.iter().for_each(|(_, postings)| take(postings));
            }
            Values::Truth(_) | Values::Nothing => {}
        }
        groups
    }

    /// What is held for a key; for categories the whole paths.
    pub(super) fn values(&self, key: &Key) -> Values<'_> {
        match key {
            Key::Id => Values::Texts(&self.ids),
            Key::Title => Values::Texts(&self.titles),
            Key::Brand => Values::Texts(&self.brands),
            Key::Categories => Values::Texts(&self.paths),
            Key::Tags => Values::Texts(&self.tags),
            Key::Price => Values::Numbers(&self.prices),
            Key::Available => Values::Truth(&self.available),
            Key::Created => Values::Numbers(&self.created),
            Key::Attribute(name) => self.attributes.get(name.as_str()).map_or(Values::Nothing, Values::Both),
        }
    }

    /// Every item.
    pub(super) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// Every category path and every beginning of one.
    pub(super) fn category_ancestors(&self) -> &Column<Text> {
        &self.ancestors
    }

    /// Calls `act` for every value of an item with the column it belongs in.
    fn each_value(&mut self, item: &Item, mut act: impl FnMut(ColumnMut<'_>, Value<'_>)) {
        act(ColumnMut::Texts(&mut self.ids), Value::Text(&item.id));
        for (column, text) in [(&mut self.titles, &item.title), (&mut self.brands, &item.brand)] {
            if !text.trim().is_empty() {
                act(ColumnMut::Texts(column), Value::Text(text));
            }
        }
        for tag in item.tags.iter().filter(|tag| !tag.trim().is_empty()) {
            act(ColumnMut::Texts(&mut self.tags), Value::Text(tag));
        }
        for category in &item.categories {
            let steps: Vec<&str> = steps_of(category).collect();
            for (index, step) in steps.iter().enumerate() {
                let ancestor = steps[..=index].join(" > ");
                act(ColumnMut::Texts(&mut self.ancestors), Value::Text(&ancestor));
                act(ColumnMut::Texts(&mut self.steps), Value::Text(step));
            }
            if !steps.is_empty() {
                act(ColumnMut::Texts(&mut self.paths), Value::Text(&steps.join(" > ")));
            }
        }
        let price = item.price.as_ref().and_then(|price| price.amount.trim().parse().ok()).and_then(Number::new);
        if let Some(price) = price {
            act(ColumnMut::Numbers(&mut self.prices), Value::Number(price));
        }
        let created = item.created.as_ref().and_then(|time| Number::new(crate::unix_ms(time) as f64));
        if let Some(created) = created {
            act(ColumnMut::Numbers(&mut self.created), Value::Number(created));
        }
        for (name, value) in item.attributes.iter().flat_map(|attributes| &attributes.fields) {
            let column = self.attributes.entry(name.as_str().into()).or_default();
            let kinds: &mut dyn Iterator<Item = &Kind> = match &value.kind {
                Some(Kind::ListValue(list)) => &mut list.values.iter().filter_map(|value| value.kind.as_ref()),
                kind => &mut kind.iter(),
            };
            for kind in kinds {
                match kind {
                    Kind::StringValue(text) if !text.trim().is_empty() => {
                        act(ColumnMut::Texts(&mut column.texts), Value::Text(text));
                    }
                    Kind::BoolValue(truth) => {
                        act(ColumnMut::Texts(&mut column.texts), Value::Text(if *truth { "true" } else { "false" }));
                    }
                    Kind::NumberValue(number) => {
                        if let Some(number) = Number::new(*number) {
                            act(ColumnMut::Numbers(&mut column.numbers), Value::Number(number));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

enum ColumnMut<'a> {
    Texts(&'a mut Column<Text>),
    Numbers(&'a mut Column<Number>),
}

enum Value<'a> {
    Text(&'a str),
    Number(Number),
}

fn texts_equal(column: &Column<Text>, operand: &Operand) -> RoaringBitmap {
    match operand {
        Operand::Text(text) => column.with(fold(text).as_str()),
        Operand::Number(number) => column.with(number.to_string().as_str()),
        Operand::Truth(truth) => column.with(if *truth { "true" } else { "false" }),
        Operand::Any | Operand::Time(_) => RoaringBitmap::new(),
    }
}

fn numbers_within(column: &Column<Number>, comparator: Comparator, operand: &Operand) -> RoaringBitmap {
    let bound = match operand {
        Operand::Number(number) => Number::new(*number),
        Operand::Time(ms) => Number::new(*ms as f64),
        Operand::Any | Operand::Text(_) | Operand::Truth(_) => None,
    };
    let Some(bound) = bound else { return RoaringBitmap::new() };
    column.between(match comparator {
        Comparator::Less => (Bound::Unbounded, Bound::Excluded(bound)),
        Comparator::LessOrEqual => (Bound::Unbounded, Bound::Included(bound)),
        Comparator::Greater => (Bound::Excluded(bound), Bound::Unbounded),
        Comparator::GreaterOrEqual => (Bound::Included(bound), Bound::Unbounded),
        Comparator::Equal | Comparator::NotEqual | Comparator::Has => return column.with(&bound),
    })
}

/// A text as it is compared: without surrounding space, in small letters.
pub(super) fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

fn steps_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('>').map(str::trim).filter(|step| !step.is_empty())
}

/// A category path as it is compared.
fn path_of(text: &str) -> String {
    fold(&steps_of(text).collect::<Vec<_>>().join(" > "))
}

impl Text {
    fn new(text: &str) -> Self {
        let text = text.trim();
        let folded = fold(text).into_boxed_str();
        let spelling = (*folded != *text).then(|| text.into());
        Self { folded, spelling }
    }

    /// As the first item that had it spelt it.
    pub(super) fn spelling(&self) -> &str {
        self.spelling.as_ref().unwrap_or(&self.folded)
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.folded
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded.cmp(&other.folded)
    }
}

//! The shop's own rules: what is shown first, last or never, whatever the models think.
//!
//! - [`rule`]: one control, checked and made ready; [`Controls`]: all of a catalog.
//! - [`Rules`]: what those that apply mean for one request.
//!
//! In a search boosts come right after fusion, so that personalisation and diversity work on boosted scores. Bury and pin
//! come last; what is hidden is no candidate in the first place, so it counts in no facet and no total.

pub mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use vitrine::v1::{Boost, Placement};

use crate::ads::Campaign;
use crate::catalog::items::Table;
use crate::error::Violations;
use crate::filter::Filter;
use crate::lexical::{Phrase, Synonyms};
use crate::{Doc, catalog};
use rule::{Action, Rule};

/// What a strength of 1 multiplies a score by.
const FULL_STRENGTH: f64 = 4.0;

/// A catalog's controls, made ready.
#[derive(Debug, Default)]
pub struct Controls {
    /// What they were made from.
    stored: Arc<catalog::Controls>,
    /// By name.
    rules: Vec<Rule>,
}

impl Controls {
    /// Makes them ready. All of them were checked before they were recorded: one that is not understood is left out.
    pub fn new(stored: Arc<catalog::Controls>) -> Self {
        let ready = stored.iter().filter_map(|(id, control)| {
            let mut violations = Violations::default();
            let rule = Rule::new(control, &mut violations);
            if rule.is_none() {
                tracing::warn!(control = &**id, problems = ?violations.into_messages(), "a control is not understood");
            }
            rule
        });
        Self { rules: ready.collect(), stored }
    }

    /// Whether they were made from these.
    pub fn are_of(&self, stored: &Arc<catalog::Controls>) -> bool {
        Arc::ptr_eq(&self.stored, stored)
    }

    /// The campaigns that run now, in the order of their names, and their times if these have both ends (in unix milliseconds).
    pub fn campaigns(&self, now_ms: i64) -> impl Iterator<Item = (&str, &Campaign, Option<(i64, i64)>)> {
        let running = self.rules.iter().filter(move |rule| rule.active.contains(&now_ms));
        running.filter_map(|rule| Some((rule.name.as_str(), rule.campaign()?, rule.time())))
    }

    /// The control of that resource name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// What those mean that apply. `allowed` are the items that may be shown without them.
    pub fn rules(&self, asking: &Asking<'_>, table: &Table, allowed: &RoaringBitmap) -> Rules {
        let &Asking { placement, query, now_ms, ref without } = asking;
        let mut rules = Rules::default();
        if self.rules.is_empty() {
            return rules;
        }
        let query = query.map(Phrase::new);
        let applying: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.applies(placement, query.as_ref(), now_ms) && !without.contains(rule.id()))
            .collect();
        for rule in &applying {
            if let Action::Hide(filter) = &rule.action {
                let hidden = table.columns().evaluate(filter) & allowed;
                if !hidden.is_empty() {
                    rules.hidden |= hidden;
                    rules.applied.push(rule.name.clone());
                }
            }
        }
        let shown = allowed - &rules.hidden;
        let mut redirect = None;
        for rule in applying {
            let matching = |filter: &Filter| table.columns().evaluate(filter) & &shown;
            let did = match &rule.action {
                // Advertisements come by what they are worth, and have an auction of their own.
                Action::Hide(_) | Action::Advertise(_) => false,
                _ if placement == Placement::Ads => false,
                Action::Pin { item_id, place } => {
                    let doc = table.doc(item_id).filter(|&doc| shown.contains(doc));
                    rules.pins.extend(doc.map(|doc| (*place, doc)));
                    doc.is_some()
                }
                Action::Boost { filter, strength } => rules.boost(matching(filter), *strength),
                Action::Bury(filter) => {
                    let buried = matching(filter);
                    rules.buried |= &buried;
                    !buried.is_empty()
                }
                Action::Synonyms(synonyms) => {
                    let concerned = query.as_ref().is_some_and(|query| synonyms.concern(query));
                    rules.synonyms.extend(concerned.then(|| Arc::clone(synonyms)));
                    concerned
                }
                Action::Redirect(uri) => {
                    let first = query.is_some() && redirect.is_none();
                    redirect = redirect.or(Some(uri));
                    first
                }
            };
            if did {
                rules.applied.push(rule.name.clone());
            }
        }
        rules.applied.sort();
        rules.pins.sort_by_key(|(place, _)| *place);
        let mut placed = RoaringBitmap::new();
        rules.pins.retain(|(_, doc)| placed.insert(*doc));
        rules.redirect_uri = redirect.filter(|_| query.is_some()).cloned().unwrap_or_default();
        rules
    }
}

/// A request that controls may apply to.
#[derive(Debug, Default)]
pub struct Asking<'a> {
    /// Where its answer is shown.
    pub placement: Placement,
    /// What is searched for, if it is a text.
    pub query: Option<&'a str>,
    /// The time, in unix milliseconds.
    pub now_ms: i64,
    /// Ids of controls that are left out.
    pub without: BTreeSet<&'a str>,
}

/// What the controls mean that apply to one request.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Items that are not shown.
    pub hidden: RoaringBitmap,
    /// What stands for words of the query.
    pub synonyms: Vec<Arc<Synonyms>>,
    /// Items at their places, from 0; in the order of these.
    pub pins: Vec<(usize, Doc)>,
    /// Where the customer is to be sent. Empty: nowhere.
    pub redirect_uri: String,
    /// The names of those that did something, in order.
    pub applied: Vec<String>,
    boosts: Vec<(RoaringBitmap, f64)>,
    buried: RoaringBitmap,
}

impl Rules {
    /// Adds the boosts of the request itself; they were checked.
    pub fn add_boosts(&mut self, boosts: &[(Filter, f64)], table: &Table) {
        for (filter, strength) in boosts {
            self.boost(table.columns().evaluate(filter), *strength);
        }
    }

    /// Whether there are items to boost.
    fn boost(&mut self, docs: RoaringBitmap, strength: f64) -> bool {
        let any = !docs.is_empty();
        if any {
            self.boosts.push((docs, FULL_STRENGTH.powf(strength)));
        }
        any
    }

    /// Whether any item's score changes.
    pub fn boosts_any(&self) -> bool {
        !self.boosts.is_empty()
    }

    /// An item's score as the boosts make it. A negative score moves the way a positive one does.
    pub fn boosted(&self, doc: Doc, score: f32) -> f32 {
        let factors = self.boosts.iter().filter(|(docs, _)| docs.contains(doc)).map(|(_, factor)| factor);
        let factor: f64 = factors.product();
        (f64::from(score) * if score < 0.0 { factor.recip() } else { factor }) as f32
    }

    /// Whether an item stands behind all others.
    pub fn buries(&self, doc: Doc) -> bool {
        self.buried.contains(doc)
    }

    /// Puts what is buried behind all others.
    pub fn bury(&self, order: &mut [(Doc, f32)]) {
        if !self.buried.is_empty() {
            order.sort_by_key(|&(doc, _)| self.buries(doc));
        }
    }
}

/// Puts `pinned` at their places in `order`, where they are not yet; of two for one place the first one has it.
pub fn pin<T>(order: &mut Vec<T>, pinned: impl IntoIterator<Item = (usize, T)>) {
    let mut free = 0;
    for (place, one) in pinned {
        free = place.max(free).min(order.len());
        order.insert(free, one);
        free += 1;
    }
}

/// Checks boosts of a request; what is wrong goes to `violations`.
pub fn parse_boosts(violations: &mut Violations, field: &str, boosts: &[Boost]) -> Vec<(Filter, f64)> {
    let parsed = boosts.iter().enumerate();
    parsed.filter_map(|(index, boost)| rule::boost(violations, &format!("{field}[{index}]"), boost)).collect()
}

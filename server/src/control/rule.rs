//! One control: what the shop wrote, checked and made ready.

use std::sync::Arc;

use vitrine::v1::{self, Boost, Control, Placement, QueryMatch, control};

use crate::ads::Campaign;
use crate::check;
use crate::error::Violations;
use crate::filter::Filter;
use crate::lexical::{Phrase, Synonyms};

const MAX_FILTER_CHARS: usize = 4_000;
const MAX_NOTE_CHARS: usize = 1_000;
const MAX_URI_CHARS: usize = 2_000;
const MAX_QUERIES: usize = 100;
const MAX_QUERY_CHARS: usize = 200;
const MAX_TERMS: usize = 100;
const MAX_TERM_CHARS: usize = 100;
const MAX_POSITION: i32 = 1_000;

/// A control, ready to be applied.
#[derive(Debug)]
pub struct Rule {
    /// Its resource name.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Only for these queries, the second of the pair: also as a part. Empty: for any request.
    queries: Vec<(Phrase, bool)>,
    /// Only there. Empty: everywhere.
    placements: Vec<Placement>,
    /// When it applies, in unix milliseconds, the end excluded.
    pub active: std::ops::Range<i64>,
}

/// What a control does, see [`Control`].
#[derive(Debug)]
pub enum Action {
    /// Puts an item at a place, from 0.
    Pin {
        /// Which.
        item_id: String,
        /// Where.
        place: usize,
    },
    /// Changes scores.
    Boost {
        /// Of which items.
        filter: Filter,
        /// -1 to 1.
        strength: f64,
    },
    /// Puts items last.
    Bury(Filter),
    /// Never shows items.
    Hide(Filter),
    /// Lets words stand for each other.
    Synonyms(Arc<Synonyms>),
    /// Sends the customer elsewhere.
    Redirect(String),
    /// Pays for items to be shown.
    Advertise(Campaign),
}

impl Rule {
    /// The last part of its name.
    pub fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Makes a control ready, if nothing is wrong with it.
    pub fn new(control: &Control, violations: &mut Violations) -> Option<Self> {
        let before = violations.len();
        check::text(violations, "control.note", &control.note, MAX_NOTE_CHARS);
        let condition = control.condition.clone().unwrap_or_default();
        let queries = queries(violations, &condition.queries);
        let mut placements = Vec::new();
        for (index, &number) in condition.placements.iter().enumerate() {
            match Placement::try_from(number) {
                Ok(Placement::Unspecified | Placement::GenerateImage) | Err(_) => violations.add(
                    format!("control.condition.placements[{index}]"),
                    format!("is {number}; it must be a placement, as PLACEMENT_SEARCH"),
                ),
                Ok(placement) => placements.push(placement),
            }
        }
        let mut time = |field: &str, at: &Option<prost_types::Timestamp>| {
            let at = at.as_ref()?;
            if !(0..1_000_000_000).contains(&at.nanos) || at.seconds.checked_mul(1_000).is_none() {
                violations.add(format!("control.condition.{field}"), "is no time");
            }
            Some(crate::unix_ms(at))
        };
        let start = time("start_time", &condition.start_time).unwrap_or(i64::MIN);
        let end = time("end_time", &condition.end_time).unwrap_or(i64::MAX);
        if start >= end {
            violations.add("control.condition.end_time", "must be after start_time");
        }
        let action = action(violations, control);
        if matches!(action, Some(Action::Advertise(_))) {
            for (field, used) in [("queries", !queries.is_empty()), ("placements", !placements.is_empty())] {
                if used {
                    violations.add(format!("control.condition.{field}"), "must be empty where the control advertises");
                }
            }
        }
        let action = action.filter(|_| violations.len() == before)?;
        Some(Self { name: control.name.clone(), action, queries, placements, active: start..end })
    }

    /// The campaign, if it is one.
    pub fn campaign(&self) -> Option<&Campaign> {
        if let Action::Advertise(campaign) = &self.action { Some(campaign) } else { None }
    }

    /// When it applies, if that begins and ends.
    pub fn time(&self) -> Option<(i64, i64)> {
        let (start, end) = (self.active.start, self.active.end);
        (start > i64::MIN && end < i64::MAX).then_some((start, end))
    }

    /// Whether its condition holds.
    pub fn applies(&self, placement: Placement, query: Option<&Phrase>, now_ms: i64) -> bool {
        let matches = |query: &Phrase| {
            self.queries.iter().any(|(wanted, partial)| if *partial { query.has(wanted) } else { query.is(wanted) })
        };
        self.active.contains(&now_ms)
            && (self.placements.is_empty() || self.placements.contains(&placement))
            && (self.queries.is_empty() || query.is_some_and(matches))
    }
}

fn queries(violations: &mut Violations, queries: &[QueryMatch]) -> Vec<(Phrase, bool)> {
    let field = "control.condition.queries";
    if queries.len() > MAX_QUERIES {
        violations.add(field, format!("has {} entries; at most {MAX_QUERIES} are allowed", queries.len()));
    }
    let checked = queries.iter().take(MAX_QUERIES).enumerate().map(|(index, query)| {
        (phrase(violations, &format!("{field}[{index}].text"), &query.text, MAX_QUERY_CHARS), query.partial)
    });
    checked.collect()
}

fn phrase(violations: &mut Violations, field: &str, text: &str, limit: usize) -> Phrase {
    check::text(violations, field, text, limit);
    let phrase = Phrase::new(text);
    if phrase.is_empty() {
        violations.add(field, "must have a word");
    }
    phrase
}

fn action(violations: &mut Violations, control: &Control) -> Option<Action> {
    let Some(action) = &control.action else {
        violations.add(
            "control.action",
            "is required: `pin`, `boost`, `bury`, `hide`, `synonyms`, `redirect` or `advertise`",
        );
        return None;
    };
    match action {
        control::Action::Pin(pin) => {
            check::id(violations, "control.pin.item_id", &pin.item_id);
            if !(0..=MAX_POSITION).contains(&pin.position) {
                let problem = format!("is {}; it must be 1 to {MAX_POSITION}", pin.position);
                violations.add("control.pin.position", problem);
            }
            let place = usize::try_from(pin.position).unwrap_or_default().saturating_sub(1);
            Some(Action::Pin { item_id: pin.item_id.clone(), place })
        }
        control::Action::Boost(wanted) => {
            boost(violations, "control.boost", wanted).map(|(filter, strength)| Action::Boost { filter, strength })
        }
        control::Action::Bury(bury) => filter(violations, "control.bury.filter", &bury.filter).map(Action::Bury),
        control::Action::Hide(hide) => filter(violations, "control.hide.filter", &hide.filter).map(Action::Hide),
        control::Action::Synonyms(wanted) => Some(Action::Synonyms(Arc::new(synonyms(violations, wanted)))),
        control::Action::Redirect(redirect) => {
            if redirect.uri.trim().is_empty() {
                violations.add("control.redirect.uri", "is required");
            }
            check::text(violations, "control.redirect.uri", &redirect.uri, MAX_URI_CHARS);
            Some(Action::Redirect(redirect.uri.clone()))
        }
        control::Action::Advertise(advertise) => Campaign::new(violations, advertise).map(Action::Advertise),
    }
}

/// Checks a boost, also of a request.
pub(super) fn boost(violations: &mut Violations, field: &str, boost: &Boost) -> Option<(Filter, f64)> {
    let strength = boost.strength;
    if !(-1.0..=1.0).contains(&strength) || strength == 0.0 {
        violations.add(format!("{field}.strength"), format!("is {strength}; it must be -1 to 1 and not 0"));
    }
    Some((filter(violations, &format!("{field}.filter"), &boost.filter)?, strength))
}

/// Checks a filter, which must be there.
pub fn filter(violations: &mut Violations, field: &str, text: &str) -> Option<Filter> {
    if text.trim().is_empty() {
        violations.add(field, "is required; `id:*` is every item");
        return None;
    }
    check::filter(violations, field, text, MAX_FILTER_CHARS)
}

fn synonyms(violations: &mut Violations, synonyms: &v1::Synonyms) -> Synonyms {
    let mut phrases = |name: &str, texts: &[String], least: usize| -> Vec<Phrase> {
        let field = format!("control.synonyms.{name}");
        if !(least..=MAX_TERMS).contains(&texts.len()) {
            violations.add(&field, format!("has {} entries; {least} to {MAX_TERMS} are allowed", texts.len()));
        }
        let texts = texts.iter().take(MAX_TERMS).enumerate();
        texts.map(|(index, text)| phrase(violations, &format!("{field}[{index}]"), text, MAX_TERM_CHARS)).collect()
    };
    let queries = phrases("queries", &synonyms.queries, 0);
    let terms = phrases("terms", &synonyms.terms, if queries.is_empty() { 2 } else { 1 });
    Synonyms::new(terms, queries)
}

//! What each user and visitor did, in order of time.

use std::collections::HashMap;

use vitrine::v1::{Event, EventType};

use super::BehaviourOptions;
use super::basket::OrderId;
use super::recent::{Recent, Timed};
use super::weight::{self, Strength};
use crate::Doc;
use crate::log::Who;

/// A user or visitor, numbered from 0 in the order they were first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Person(pub u32);

/// One thing a person did with one item. 16 bytes: there are as many as events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) seconds: u32,
    pub(super) order: u32,
    /// With which item.
    pub doc: Doc,
    pub(super) millis: u16,
    pub(super) kind: u8,
    /// How much it says.
    pub strength: Strength,
}

const NO_ORDER: u32 = u32::MAX;

impl Entry {
    /// An entry at that time, in milliseconds since 1970; times before 1970 and after 2106 are moved to the nearest end.
    pub fn new(millis: i64, doc: Doc, kind: EventType, strength: Strength, order: Option<OrderId>) -> Self {
        let millis = millis.clamp(0, i64::from(u32::MAX) * 1_000);
        Self {
            seconds: (millis / 1_000) as u32,
            order: order.map_or(NO_ORDER, |order| order.0),
            doc,
            millis: (millis % 1_000) as u16,
            kind: kind as u8,
            strength,
        }
    }

    /// When, in seconds since 1970.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// What was done.
    pub fn kind(&self) -> EventType {
        EventType::try_from(i32::from(self.kind)).unwrap_or_default()
    }

    /// The order it was part of.
    pub fn order(&self) -> Option<OrderId> {
        (self.order != NO_ORDER).then_some(OrderId(self.order))
    }
}

impl Timed for Entry {
    fn millis(&self) -> i64 {
        i64::from(self.seconds) * 1_000 + i64::from(self.millis)
    }
}

/// What one person did; each list oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History<'a> {
    /// All but the other two.
    pub actions: &'a [Entry],
    /// Impressions.
    pub shown: &'a [Entry],
    /// Hides and dislikes.
    pub refused: &'a [Entry],
}

#[derive(Clone, Default)]
pub(super) struct Lists {
    pub(super) actions: Recent<Entry>,
    pub(super) shown: Recent<Entry>,
    pub(super) refused: Recent<Entry>,
}

/// All users and visitors.
#[derive(Clone, Default)]
pub struct People {
    pub(super) users: HashMap<Box<str>, u32>,
    pub(super) visitors: HashMap<Box<str>, u32>,
    pub(super) lists: Vec<Lists>,
}

impl People {
    /// The person of an event, made known if need be: the user if it names one, else the visitor.
    pub(super) fn admit(&mut self, user_id: &str, visitor_id: &str) -> Option<Person> {
        let (names, id) = match (user_id, visitor_id) {
            ("", "") => return None,
            ("", visitor) => (&mut self.visitors, visitor),
            (user, _) => (&mut self.users, user),
        };
        if let Some(&known) = names.get(id) {
            return Some(Person(known));
        }
        let new = u32::try_from(self.lists.len()).ok()?;
        names.insert(id.into(), new);
        self.lists.push(Lists::default());
        Some(Person(new))
    }

    pub(super) fn find(&self, user_id: &str, visitor_id: &str) -> Option<Person> {
        let user = self.users.get(user_id);
        user.or_else(|| self.visitors.get(visitor_id)).copied().map(Person)
    }

    /// Forgets a person; the number is not given again.
    pub(super) fn forget(&mut self, who: &Who) -> Option<Person> {
        let person = match who {
            Who::User(id) => self.users.remove(id.as_str()),
            Who::Visitor(id) => self.visitors.remove(id.as_str()),
        }?;
        if let Some(lists) = self.lists.get_mut(person as usize) {
            *lists = Lists::default();
        }
        Some(Person(person))
    }

    pub(super) fn record(&mut self, person: Person, entry: Entry, options: &BehaviourOptions) {
        if let Some(lists) = self.lists.get_mut(person.0 as usize) {
            lists.record(entry, options);
        }
    }

    pub(super) fn history(&self, person: Person, options: &BehaviourOptions) -> History<'_> {
        self.lists.get(person.0 as usize).map_or(History::default(), |lists| lists.view(options))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether nobody did anything yet.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// What happened in one session, sent along with a request and not recorded.
#[derive(Clone, Default)]
pub struct Session(Lists);

impl Session {
    /// From events, oldest first, each with its items. `now_ms` stands in for missing times.
    pub fn new<'a>(events: impl IntoIterator<Item = (&'a Event, &'a [Doc])>, now_ms: i64) -> Self {
        let mut lists = Lists::default();
        for (event, docs) in events {
            let (kind, millis) = (event.r#type(), super::millis_of(event, now_ms));
            for &doc in docs {
                lists.record(
                    Entry::new(millis, doc, kind, Strength::of(kind, event.weight), None),
                    &BehaviourOptions::default(),
                );
            }
        }
        Self(lists)
    }

    /// It, as a history.
    pub fn history(&self) -> History<'_> {
        self.0.view(&BehaviourOptions::default())
    }
}

impl Lists {
    fn record(&mut self, entry: Entry, options: &BehaviourOptions) {
        match entry.kind() {
            kind if weight::is_shown(kind) => self.shown.insert(entry, options.impressions_per_person),
            kind if weight::is_refusal(kind) => self.refused.insert(entry, options.refusals_per_person),
            _ => self.actions.insert(entry, options.actions_per_person),
        }
    }

    fn view(&self, options: &BehaviourOptions) -> History<'_> {
        History {
            actions: self.actions.newest(options.actions_per_person),
            shown: self.shown.newest(options.impressions_per_person),
            refused: self.refused.newest(options.refusals_per_person),
        }
    }
}

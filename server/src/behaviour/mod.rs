//! What users did: histories, baskets and popularity, made from the log's events.
//!
//! [`Behaviour`] is a projection: it holds nothing that the log does not, is rebuilt from it, and keeps a checkpoint
//! ([`checkpoint`]) so that a start needs only the events since. The recommend pipelines read it; what a recommendation
//! is made of them is their business.
//!
//! - [`weight`]: how much an event says, by its type.
//! - [`recent`]: a time-ordered list that keeps only its newest entries.
//! - [`history`]: what each user or visitor did.
//! - [`basket`]: which items were ordered together.
//! - [`popularity`]: what many want, decaying and by window.
//!
//! Events are placed by their own time, so a late one gives the same state as if it had come in order. Events of one
//! time keep the order in which they were recorded. A user and a visitor of the same id are different people; what a
//! visitor did before logging in is not joined to the user (an event that names both belongs to the user).

pub mod basket;
pub mod checkpoint;
pub mod history;
pub mod popularity;
pub mod recent;
#[cfg(test)]
mod tests;
pub mod weight;

use std::fmt;

use vitrine::v1::{Event, EventType};

pub use basket::{Baskets, OrderId, Placed};
pub use checkpoint::CheckpointError;
pub use history::{Entry, History, People, Person, Session};
pub use popularity::Popularity;
pub use weight::Strength;

use crate::{Doc, ads::Ledger, log::Who};
use recent::{Recent, Timed};

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BehaviourOptions {
    /// How many of a person's newest actions are kept; older ones no longer count for that person.
    pub actions_per_person: usize,
    /// How many of the newest impressions of a person are kept, beside the actions.
    pub impressions_per_person: usize,
    /// How many of the newest hides and dislikes of a person are kept, beside the actions.
    pub refusals_per_person: usize,
    /// How many of the newest actions on an item are kept for finding out what people did next.
    pub visits_per_item: usize,
    /// How many of the newest orders with an item are kept for finding out what is bought with it.
    pub orders_per_item: usize,
    /// How many different items of one order count as bought together; more are no basket a person filled.
    pub items_per_order: usize,
    /// After how many seconds an event counts half for the popularity of its item.
    pub popularity_half_life_seconds: u32,
}

impl Default for BehaviourOptions {
    fn default() -> Self {
        Self {
            actions_per_person: 4_000,
            impressions_per_person: 1_000,
            refusals_per_person: 2_000,
            visits_per_item: 2_000,
            orders_per_item: 1_000,
            items_per_order: 300,
            popularity_half_life_seconds: 30 * 86_400,
        }
    }
}

/// One action on an item, by whom and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When, in seconds since 1970.
    pub seconds: u32,
    /// By whom.
    pub person: Person,
}

impl Timed for Visit {
    fn millis(&self) -> i64 {
        i64::from(self.seconds) * 1_000
    }
}

/// Everything known about what users did in one catalog. See the [module](self).
#[derive(Clone, Default)]
pub struct Behaviour {
    options: BehaviourOptions,
    people: People,
    baskets: Baskets,
    visits: Vec<Recent<Visit>>,
    popularity: Popularity,
    ads: Ledger,
    events: u64,
}

impl Behaviour {
    /// Nothing has happened yet.
    pub fn new(options: BehaviourOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes in one event about `docs`, its items in their order. `recorded_ms` stands in for a missing time, in
    /// milliseconds since 1970. Repeated events are the caller's to hold back. An event of an unknown type or of
    /// nobody changes nothing.
    pub fn apply(&mut self, event: &Event, docs: &[Doc], recorded_ms: i64) {
        let kind = event.r#type();
        let Some(person) = self.people.admit(&event.user_id, &event.visitor_id) else { return };
        if kind == EventType::Unspecified || docs.is_empty() {
            return;
        }
        self.events += 1;
        self.ads.apply(event, docs, recorded_ms);
        let millis = millis_of(event, recorded_ms);
        let strength = Strength::of(kind, event.weight);
        let order = self.order_of(kind, &event.order_id, docs);
        for &doc in docs {
            let entry = Entry::new(millis, doc, kind, strength, order);
            self.people.record(person, entry, &self.options);
            if weight::is_met(kind) {
                if self.visits.len() <= doc as usize {
                    self.visits.resize_with(doc as usize + 1, Recent::default);
                }
                let visit = Visit { seconds: entry.seconds(), person };
                self.visits[doc as usize].insert(visit, self.options.visits_per_item);
            }
            if let Some(order) = order {
                self.baskets.add(order, doc, entry.seconds(), &self.options);
            }
            self.popularity.add(doc, entry.seconds(), strength, self.options.popularity_half_life_seconds);
        }
    }

    /// Forgets a person: that many events, and the names of these orders. Sums over everybody (popularity, which items were ordered together) stay:
    /// nothing in them names the person any more.
    pub fn forget<'a>(&mut self, who: &Who, events: u64, orders: impl IntoIterator<Item = &'a str>) {
        self.events = self.events.saturating_sub(events);
        for order in orders {
            self.baskets.names.remove(order);
        }
        if let Some(person) = self.people.forget(who) {
            for visits in &mut self.visits {
                visits.retain(|visit| visit.person != person);
            }
        }
    }

    /// The order that a purchase belongs to. One without an id is a basket of its own if it has several items.
    fn order_of(&mut self, kind: EventType, order_id: &str, docs: &[Doc]) -> Option<OrderId> {
        match kind {
            EventType::Purchase if !order_id.is_empty() => Some(self.baskets.admit(order_id)),
            EventType::Purchase if docs.len() > 1 => Some(self.baskets.unnamed()),
            _ => None,
        }
    }

    /// The user of that id if there is a history of theirs, else the visitor. Empty ids are nobody.
    pub fn person(&self, user_id: &str, visitor_id: &str) -> Option<Person> {
        self.people.find(user_id, visitor_id)
    }

    /// What a person did.
    pub fn history(&self, person: Person) -> History<'_> {
        self.people.history(person, &self.options)
    }

    /// The newest actions on an item, oldest first.
    pub fn visits(&self, doc: Doc) -> &[Visit] {
        self.visits.get(doc as usize).map_or(&[], |visits| visits.newest(self.options.visits_per_item))
    }

    /// How many actions there were on an item, ever.
    pub fn visit_count(&self, doc: Doc) -> u32 {
        self.visits.get(doc as usize).map_or(0, Recent::total)
    }

    /// The newest orders with an item, oldest first.
    pub fn orders(&self, doc: Doc) -> &[Placed] {
        self.baskets.orders(doc, &self.options)
    }

    /// How many orders had an item since that time (seconds since 1970), that whole day included; estimated where they
    /// are no longer kept.
    pub fn order_count_since(&self, doc: Doc, seconds: u32) -> f32 {
        self.baskets.count_since(doc, seconds, &self.options)
    }

    /// One more than the largest item with any action.
    pub fn docs(&self) -> usize {
        self.visits.len()
    }

    /// What was ordered together.
    pub fn baskets(&self) -> &Baskets {
        &self.baskets
    }

    /// What many want.
    pub fn popularity(&self) -> &Popularity {
        &self.popularity
    }

    /// What campaigns spent, and how often their items were shown and clicked.
    pub fn ads(&self) -> &Ledger {
        &self.ads
    }

    /// How many events were taken in.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many users and visitors are known.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// How much of the past is kept.
    pub fn options(&self) -> &BehaviourOptions {
        &self.options
    }
}

/// When it happened, in milliseconds since 1970; `otherwise` if it does not say.
fn millis_of(event: &Event, otherwise: i64) -> i64 {
    event.time.as_ref().map_or(otherwise, crate::unix_ms)
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("events", &self.events)
            .field("people", &self.people.len())
            .field("orders", &self.baskets.len())
            .finish_non_exhaustive()
    }
}

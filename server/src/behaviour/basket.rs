//! Which items were ordered together. The lines of one order may come in one event or in many.

use std::collections::{BTreeMap, HashMap};

use super::BehaviourOptions;
use super::recent::{Recent, Timed};
use crate::{DAY, Doc};

/// An order, numbered from 0 in the sequence in which they were first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(pub u32);

/// An order that an item is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// When the item was bought, in seconds since 1970.
    pub seconds: u32,
    /// In which order.
    pub order: OrderId,
}

impl Timed for Placed {
    fn millis(&self) -> i64 {
        i64::from(self.seconds) * 1_000
    }
}

/// All orders.
#[derive(Clone, Default)]
pub struct Baskets {
    pub(super) names: HashMap<Box<str>, u32>,
    /// The different items of each order, sorted.
    pub(super) orders: Vec<Vec<Doc>>,
    /// The orders of each item.
    pub(super) placed: Vec<Recent<Placed>>,
    /// How many orders there were, by day since 1970.
    pub(super) days: BTreeMap<u32, u32>,
}

impl Baskets {
    /// The order of that id, made known if need be.
    pub(super) fn admit(&mut self, order_id: &str) -> OrderId {
        if let Some(&known) = self.names.get(order_id) {
            return OrderId(known);
        }
        let new = self.unnamed();
        self.names.insert(order_id.into(), new.0);
        new
    }

    /// A new order that no other event can add to.
    pub(super) fn unnamed(&mut self) -> OrderId {
        self.orders.push(Vec::new());
        OrderId((self.orders.len() - 1) as u32)
    }

    /// Adds a line to an order; a second line of the same item changes nothing.
    pub(super) fn add(&mut self, order: OrderId, doc: Doc, seconds: u32, options: &BehaviourOptions) {
        let Some(docs) = self.orders.get_mut(order.0 as usize) else { return };
        let Err(place) = docs.binary_search(&doc) else { return };
        if docs.len() >= options.items_per_order {
            return;
        }
        if docs.len() == docs.capacity() {
            docs.reserve_exact(docs.len() / 2 + 1);
        }
        if docs.is_empty() {
            *self.days.entry(seconds / DAY).or_default() += 1;
        }
        docs.insert(place, doc);
        if self.placed.len() <= doc as usize {
            self.placed.resize_with(doc as usize + 1, Recent::default);
        }
        self.placed[doc as usize].insert(Placed { seconds, order }, options.orders_per_item);
    }

    /// The different items of an order, sorted.
    pub fn items(&self, order: OrderId) -> &[Doc] {
        self.orders.get(order.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// How many orders had that item, ever.
    pub fn count(&self, doc: Doc) -> u32 {
        self.placed.get(doc as usize).map_or(0, Recent::total)
    }

    /// How many orders there are since that time (seconds since 1970), that whole day included.
    pub fn len_since(&self, seconds: u32) -> u32 {
        self.days.range(seconds / DAY..).map(|(_, count)| count).sum()
    }

    /// How many orders had an item since that time, that whole day included. Where the kept orders do not reach back
    /// so far, as many as there would be at their rate.
    pub(super) fn count_since(&self, doc: Doc, seconds: u32, options: &BehaviourOptions) -> f32 {
        let orders = self.orders(doc, options);
        let (Some(first), Some(last)) = (orders.first(), orders.last()) else { return 0.0 };
        let start = seconds / DAY * DAY;
        let all = self.count(doc) as f32;
        if first.seconds > start && all > orders.len() as f32 {
            let span = |from: u32| f32::max(1.0, (last.seconds - from) as f32);
            return f32::min(all, orders.len() as f32 * span(start) / span(first.seconds));
        }
        (orders.len() - orders.partition_point(|placed| placed.seconds < start)) as f32
    }

    /// How many orders there are.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether nothing was ordered yet.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    pub(super) fn orders(&self, doc: Doc, options: &BehaviourOptions) -> &[Placed] {
        self.placed.get(doc as usize).map_or(&[], |placed| placed.newest(options.orders_per_item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_order_come_together_whenever_they_come() {
        let options = BehaviourOptions::default();
        let mut baskets = Baskets::default();
        for (name, doc) in [("a", 3), ("b", 1), ("a", 1), ("a", 3)] {
            let order = baskets.admit(name);
            baskets.add(order, doc, 10, &options);
        }
        assert_eq!(baskets.len(), 2);
        assert_eq!(baskets.items(OrderId(0)), [1, 3]);
        assert_eq!(baskets.items(OrderId(1)), [1]);
        assert_eq!((baskets.count(1), baskets.count(3), baskets.count(99)), (2, 1, 0));
        assert_eq!(baskets.orders(1, &options).len(), 2);
    }

    #[test]
    fn an_order_holds_no_more_items_than_a_basket() {
        let options = BehaviourOptions { items_per_order: 2, ..BehaviourOptions::default() };
        let mut baskets = Baskets::default();
        let order = baskets.unnamed();
        for doc in 0..5 {
            baskets.add(order, doc, 10, &options);
        }
        assert_eq!(baskets.items(order), [0, 1]);
    }
}

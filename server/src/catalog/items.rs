//! The current state of a catalog's items, in memory: what every answer is checked against before it is served.
//!
//! It leaves durability to [`crate::log`] and ranking to the indexes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use vitrine::v1::Item;

use crate::Doc;
use crate::filter::Columns;

/// The items of one catalog, shared by its writer and all who read.
#[derive(Default)]
pub struct Items {
    table: RwLock<Table>,
    /// Of the table, for those who hold it already: to take it twice waits for a write that waits for the first time.
    count: AtomicUsize,
    pictures: AtomicUsize,
}

impl Items {
    /// Shares `table`.
    pub fn new(table: Table) -> Self {
        let (count, pictures) = (table.len().into(), table.picture_count().into());
        Self { count, pictures, table: RwLock::new(table) }
    }

    /// The current table. Hold it briefly: writes wait for it. Don't take it twice on one thread.
    pub fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read()
    }

    /// How many items exist. Waits for nobody.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many of them have a picture. Waits for nobody.
    pub fn picture_count(&self) -> usize {
        self.pictures.load(Ordering::Relaxed)
    }

    /// For the catalog's writer.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.write();
        let changed = change(&mut table);
        self.count.store(table.len(), Ordering::Relaxed);
        self.pictures.store(table.picture_count(), Ordering::Relaxed);
        changed
    }
}

/// Item ids and the items that exist now, by [`Doc`].
#[derive(Default)]
pub struct Table {
    docs: FxHashMap<Arc<str>, Doc>,
    ids: Vec<Arc<str>>,
    /// As long as `ids`.
    items: Vec<Option<Arc<Item>>>,
    /// Ids of existing items. Some 35 bytes an item, so that a page of a list costs its own length, not a sort.
    ordered: BTreeMap<Arc<str>, Doc>,
    live: RoaringBitmap,
    servable: RoaringBitmap,
    columns: Columns,
    /// What tells the pictures of items from others, of those that have one.
    pictures: FxHashMap<Doc, u64>,
}

impl Table {
    /// The doc of an id, also of an item that does not exist (yet).
    pub fn doc(&self, id: &str) -> Option<Doc> {
        self.docs.get(id).copied()
    }

    /// The id of a doc.
    pub fn id(&self, doc: Doc) -> Option<&Arc<str>> {
        self.ids.get(doc as usize)
    }

    /// The item, if it exists now.
    pub fn item(&self, doc: Doc) -> Option<&Arc<Item>> {
        self.items.get(doc as usize)?.as_ref()
    }

    /// How many items exist.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Whether no item exists.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// How many ids were ever seen: all docs are below it.
    pub fn doc_count(&self) -> usize {
        self.ids.len()
    }

    /// Items that exist.
    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// Items that exist and can be bought now.
    pub fn servable(&self) -> &RoaringBitmap {
        &self.servable
    }

    /// What filters, facets and orders are evaluated on.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// What tells an item's picture from others, if it has one.
    pub fn picture(&self, doc: Doc) -> Option<u64> {
        self.pictures.get(&doc).copied()
    }

    /// How many items have a picture.
    pub fn picture_count(&self) -> usize {
        self.pictures.len()
    }

    /// Existing items in the order of their ids (bytewise), from the first id after `after` on.
    pub fn list(&self, after: Option<&str>) -> impl Iterator<Item = Doc> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ordered.range::<str, _>((from, Bound::Unbounded)).map(|(_, &doc)| doc)
    }

    /// The doc of `id`, given now if it has none.
    pub fn intern(&mut self, id: &str) -> Doc {
        if let Some(doc) = self.doc(id) {
            return doc;
        }
        let doc = self.ids.len() as Doc;
        let id: Arc<str> = id.into();
        self.docs.insert(Arc::clone(&id), doc);
        self.ids.push(id);
        self.items.push(None);
        doc
    }

    /// Adds an item, or replaces the one with its id.
    pub fn upsert(&mut self, item: Arc<Item>) -> Doc {
        let doc = self.intern(&item.id);
        let slot = &mut self.items[doc as usize];
        self.columns.upsert(doc, slot.as_deref(), &item);
        if slot.is_none() {
            self.ordered.insert(Arc::clone(&self.ids[doc as usize]), doc);
            self.live.insert(doc);
        }
        if item.available.unwrap_or(true) {
            self.servable.insert(doc);
        } else {
            self.servable.remove(doc);
        }
        *slot = Some(item);
        doc
    }

    /// Takes note of an item's picture.
    pub fn put_picture(&mut self, doc: Doc, hash: u64) {
        self.pictures.insert(doc, hash);
    }

    /// Takes note that an item has no picture.
    pub fn remove_picture(&mut self, doc: Doc) {
        self.pictures.remove(&doc);
    }

    /// Removes an item and its picture; its doc stays. Answers what was there.
    pub fn remove(&mut self, doc: Doc) -> Option<Arc<Item>> {
        self.remove_picture(doc);
        let old = self.items.get_mut(doc as usize)?.take()?;
        self.columns.remove(doc, &old);
        self.ordered.remove(old.id.as_str());
        self.live.remove(doc);
        self.servable.remove(doc);
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> Arc<Item> {
        Arc::new(Item { id: id.into(), title: format!("Item {id}"), ..Item::default() })
    }

    #[test]
    fn who_reads_the_table_counts_the_items_while_a_write_waits() {
        let items = Items::default();
        std::thread::scope(|scope| {
            let table = items.read();
            let writing = scope.spawn(|| items.change(|table| table.upsert(item("a"))));
            while items.table.try_read().is_some() {
                std::thread::yield_now();
            }
            assert_eq!((items.count(), table.len()), (0, 0));
            drop(table);
            writing.join().unwrap();
        });
        assert_eq!(items.count(), 1);
    }

    #[test]
    fn an_id_keeps_its_doc_through_removal_and_return() {
        let mut table = Table::default();
        assert_eq!(table.intern("b"), 0);
        assert_eq!(table.upsert(item("a")), 1);
        assert_eq!(table.upsert(item("b")), 0);
        assert_eq!(table.remove(0).map(|old| old.id.clone()), Some("b".into()));
        assert_eq!(table.remove(0), None);
        assert_eq!((table.doc("b"), table.item(0)), (Some(0), None));
        assert_eq!(table.upsert(item("b")), 0);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn unavailable_items_live_and_are_not_servable() {
        let mut table = Table::default();
        let mut sold_out = Item::clone(&item("a"));
        sold_out.available = Some(false);
        let doc = table.upsert(Arc::new(sold_out));
        assert!(table.live().contains(doc) && !table.servable().contains(doc));
        table.upsert(item("a"));
        assert!(table.servable().contains(doc));
    }

    #[test]
    fn a_list_goes_on_after_an_id_even_one_that_is_gone() {
        let mut table = Table::default();
        for id in ["c", "a", "d", "b"] {
            table.upsert(item(id));
        }
        table.intern("aa");
        table.remove(3);
        let ids = |after| table.list(after).filter_map(|doc| table.id(doc)).map(|id| &**id).collect::<Vec<_>>();
        assert_eq!(ids(None), ["a", "c", "d"]);
        assert_eq!(ids(Some("b")), ["c", "d"]);
        assert_eq!(ids(Some("d")), [""; 0]);
    }
}

//! What a group of changes means for the table as it stands: which records to write, which docs to give, what to answer.
//!
//! It decides and changes nothing, so that a group that cannot be written leaves no trace.

use std::sync::Arc;

use bytes::Bytes;
use prost_types::Timestamp;
use rustc_hash::FxHashMap;
use vitrine::v1::{Control, Event, Item};

use super::{Controls, items::Table};
use crate::Doc;
use crate::ads::{Charges, Ledger};
use crate::hash::fnv1a;
use crate::log::{Appended, Change, ControlId, Entry, Group, ImportPosition, Patch, Picture, Seq};

/// Changes made ready for the log, beside the answers to them.
pub(super) struct Plan<'a> {
    table: &'a Table,
    controls: Arc<Controls>,
    docs: FxHashMap<Arc<str>, Doc>,
    items: FxHashMap<Doc, Option<Arc<Item>>>,
    pictures: FxHashMap<Doc, Option<u64>>,
    charges: Charges<'a>,
    group: Group,
    answers: Vec<Answer>,
}

/// The answer to one change, before its position is known.
pub(super) struct Answer {
    /// Whether it is an entry of the group, or changes nothing.
    pub recorded: bool,
    /// As in [`Appended`], like the rest.
    pub docs: Vec<Doc>,
    pub existed: bool,
    pub unknown: Vec<String>,
}

impl<'a> Plan<'a> {
    /// A plan for changes to `table` and `controls`, recorded at `recorded_ms` (unix milliseconds). `ledger` says what campaigns have spent.
    pub fn new(table: &'a Table, controls: Arc<Controls>, ledger: &'a Ledger, recorded_ms: i64) -> Self {
        let group = Group { recorded_ms, ..Group::default() };
        let (docs, items, pictures) = (FxHashMap::default(), FxHashMap::default(), FxHashMap::default());
        Self { table, controls, docs, items, pictures, charges: Charges::new(ledger), group, answers: Vec::new() }
    }

    /// Adds a change, after all those added before.
    pub fn add(&mut self, change: Change) {
        let answer = match change {
            Change::UpsertItem(item) => self.upsert(item),
            Change::PatchItem(patch) => self.patch(&patch),
            Change::DeleteItem(id) => self.delete(&id),
            Change::Event(event) => self.event(event),
            Change::PutControl(id, control) => self.put_control(id, control),
            Change::DeleteControl(id) => self.delete_control(id),
            Change::PutPicture(id, data) => self.put_picture(&id, data),
            Change::DeletePicture(id) => self.delete_picture(&id),
        };
        self.answers.push(answer);
    }

    /// Adds the position of an import.
    pub fn import(&mut self, import: ImportPosition) {
        self.group.imports.push(import);
    }

    /// The group to write, the answers, one for each change, and the controls as they are then: the same if none changed.
    pub fn finish(self) -> (Group, Vec<Answer>, Arc<Controls>) {
        (self.group, self.answers, self.controls)
    }

    /// An item as it already is changes nothing. One without a time of creation keeps that of the item it replaces, or
    /// was created now.
    fn upsert(&mut self, mut item: Item) -> Answer {
        let doc = self.intern(&item.id);
        let old = self.item(doc);
        let existed = old.is_some();
        if item.created.is_none() {
            item.created = old.and_then(|old| old.created).or_else(|| Some(timestamp(self.group.recorded_ms)));
        }
        let recorded = old.is_none_or(|old| **old != item);
        if recorded {
            let item = Arc::new(item);
            self.items.insert(doc, Some(Arc::clone(&item)));
            self.group.entries.push(Entry::Upsert(doc, item));
        }
        Answer { recorded, docs: vec![doc], existed, unknown: Vec::new() }
    }

    fn patch(&mut self, patch: &Patch) -> Answer {
        let stored = self.doc(&patch.item.id).and_then(|doc| self.item(doc));
        let Some(mut item) = stored.map(|item| Item::clone(item)) else {
            return Answer { recorded: false, docs: Vec::new(), existed: false, unknown: Vec::new() };
        };
        patch.apply(&mut item);
        self.upsert(item)
    }

    fn delete(&mut self, id: &str) -> Answer {
        let doc = self.doc(id);
        let old = doc.and_then(|doc| Some((doc, self.item(doc)?)));
        let recorded = old.is_some();
        if let Some((doc, item)) = old {
            let id = item.id.as_str().into();
            self.items.insert(doc, None);
            self.pictures.insert(doc, None);
            self.group.entries.push(Entry::Delete(doc, id));
        }
        Answer { recorded, docs: doc.into_iter().collect(), existed: recorded, unknown: Vec::new() }
    }

    /// An event without a time happens now. Its items get their docs even if it turns out to be a duplicate.
    fn event(&mut self, mut event: Event) -> Answer {
        event.time.get_or_insert_with(|| timestamp(self.group.recorded_ms));
        self.charges.fix(&mut event, &self.controls, self.group.recorded_ms);
        let docs: Vec<Doc> = event.items.iter().map(|item| self.intern(&item.id)).collect();
        let mut unknown = Vec::new();
        for (item, &doc) in event.items.iter().zip(&docs) {
            if self.item(doc).is_none() && !unknown.contains(&item.id) {
                unknown.push(item.id.clone());
            }
        }
        self.group.entries.push(Entry::Event(Box::new(event)));
        Answer { recorded: true, docs, existed: false, unknown }
    }

    /// A control as it already is changes nothing.
    fn put_control(&mut self, id: ControlId, control: Control) -> Answer {
        let old = self.controls.get(&id);
        let (existed, recorded) = (old.is_some(), old.is_none_or(|old| **old != control));
        if recorded {
            let control = Arc::new(control);
            Arc::make_mut(&mut self.controls).insert(Arc::clone(&id), Arc::clone(&control));
            self.group.entries.push(Entry::PutControl(id, control));
        }
        Answer { recorded, docs: Vec::new(), existed, unknown: Vec::new() }
    }

    fn delete_control(&mut self, id: ControlId) -> Answer {
        let existed = self.controls.contains_key(&id);
        if existed {
            Arc::make_mut(&mut self.controls).remove(&id);
            self.group.entries.push(Entry::DeleteControl(id));
        }
        Answer { recorded: existed, docs: Vec::new(), existed, unknown: Vec::new() }
    }

    /// A picture as it already is changes nothing, and neither does one of no item.
    fn put_picture(&mut self, id: &str, data: Bytes) -> Answer {
        let item = self.doc(id).and_then(|doc| Some((doc, self.item(doc)?)));
        let Some((doc, id)) = item.map(|(doc, item)| (doc, item.id.as_str().into())) else {
            return Answer { recorded: false, docs: Vec::new(), existed: false, unknown: Vec::new() };
        };
        let hash = fnv1a(&[&data]);
        let recorded = self.picture(doc) != Some(hash);
        if recorded {
            self.pictures.insert(doc, Some(hash));
            self.group.entries.push(Entry::PutPicture(doc, id, Picture { data, hash }));
        }
        Answer { recorded, docs: vec![doc], existed: true, unknown: Vec::new() }
    }

    fn delete_picture(&mut self, id: &str) -> Answer {
        let doc = self.doc(id);
        let recorded = doc.is_some_and(|doc| self.picture(doc).is_some());
        if let Some(doc) = doc.filter(|_| recorded) {
            self.pictures.insert(doc, None);
            self.group.entries.push(Entry::DeletePicture(doc, id.into()));
        }
        Answer { recorded, docs: doc.into_iter().collect(), existed: recorded, unknown: Vec::new() }
    }

    fn picture(&self, doc: Doc) -> Option<u64> {
        self.pictures.get(&doc).copied().unwrap_or_else(|| self.table.picture(doc))
    }

    fn doc(&self, id: &str) -> Option<Doc> {
        self.docs.get(id).copied().or_else(|| self.table.doc(id))
    }

    fn intern(&mut self, id: &str) -> Doc {
        self.doc(id).unwrap_or_else(|| {
            let doc = (self.table.doc_count() + self.docs.len()) as Doc;
            let id: Arc<str> = id.into();
            self.docs.insert(Arc::clone(&id), doc);
            self.group.docs.push((doc, id));
            doc
        })
    }

    fn item(&self, doc: Doc) -> Option<&Arc<Item>> {
        self.items.get(&doc).map_or_else(|| self.table.item(doc), Option::as_ref)
    }
}

/// The answers in full: `seqs` are the positions of the entries, `before` is the log's head before them.
pub(super) fn resolve(answers: Vec<Answer>, seqs: &[Option<Seq>], before: Seq) -> Vec<Appended> {
    let mut seqs = seqs.iter();
    let mut last = before;
    answers
        .into_iter()
        .map(|Answer { recorded, docs, existed, unknown }| {
            if recorded {
                match seqs.next() {
                    Some(&Some(seq)) => last = seq,
                    _ => return Appended::Duplicate,
                }
            }
            Appended::Accepted { seq: last, docs, existed, unknown }
        })
        .collect()
}

fn timestamp(unix_ms: i64) -> Timestamp {
    Timestamp { seconds: unix_ms.div_euclid(1_000), nanos: unix_ms.rem_euclid(1_000) as i32 * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use vitrine::v1::EventItem;

    use super::*;
    use crate::log::Field;

    fn item(id: &str, title: &str) -> Change {
        Change::UpsertItem(Item { id: id.into(), title: title.into(), ..Item::default() })
    }

    fn event(id: &str, items: &[&str]) -> Change {
        let items = items.iter().map(|&id| EventItem { id: id.into(), ..EventItem::default() }).collect();
        Change::Event(Event { event_id: id.into(), items, ..Event::default() })
    }

    fn plan(table: &Table, changes: impl IntoIterator<Item = Change>) -> (Group, Vec<Answer>) {
        let ledger = Ledger::default();
        let mut plan = Plan::new(table, Arc::default(), &ledger, 1_500);
        for change in changes {
            plan.add(change);
        }
        let (group, answers, _) = plan.finish();
        (group, answers)
    }

    #[test]
    fn an_item_as_it_already_is_is_not_recorded_again() {
        let (group, answers) = plan(&Table::default(), [item("a", "A"), item("a", "A"), item("a", "B")]);
        assert_eq!(group.entries.len(), 2);
        assert_eq!(
            answers.iter().map(|a| (a.recorded, a.existed)).collect::<Vec<_>>(),
            [(true, false), (false, true), (true, true)]
        );
    }

    #[test]
    fn patches_of_one_item_do_not_undo_each_other() {
        let patch = |path: &str, item: Item| {
            let fields = [Field::parse(path).unwrap()];
            Change::PatchItem(Patch { item: Item { id: "a".into(), ..item }, fields: fields.into() })
        };
        let title = || patch("title", Item { title: "B".into(), ..Item::default() });
        let brand = patch("brand", Item { brand: "Acme".into(), ..Item::default() });
        let (group, answers) = plan(&Table::default(), [title(), item("a", "A"), title(), brand]);
        assert_eq!(answers.iter().map(|a| a.existed).collect::<Vec<_>>(), [false, false, true, true]);
        let Some(Entry::Upsert(_, last)) = group.entries.last() else { panic!("{group:?}") };
        assert_eq!((group.entries.len(), last.title.as_str(), last.brand.as_str()), (3, "B", "Acme"));
    }

    #[test]
    fn a_control_as_it_already_is_is_not_recorded_again() {
        let put = |note: &str| Change::PutControl("c".into(), Control { note: note.into(), ..Control::default() });
        let delete = || Change::DeleteControl("c".into());
        let (group, answers) = plan(&Table::default(), [delete(), put("A"), put("A"), put("B"), delete(), put("B")]);
        assert_eq!(group.entries.len(), 4);
        let told: Vec<_> = answers.iter().map(|answer| (answer.recorded, answer.existed)).collect();
        assert_eq!(told, [(false, false), (true, false), (false, true), (true, true), (true, true), (true, false)]);
    }

    #[test]
    fn a_replaced_item_keeps_its_time_of_creation() {
        let mut table = Table::default();
        let created = Some(Timestamp { seconds: 7, nanos: 0 });
        table.upsert(Arc::new(Item { id: "a".into(), title: "A".into(), created, ..Item::default() }));
        let (group, _) = plan(&table, [item("a", "A"), item("a", "B"), item("b", "B")]);
        let created: Vec<_> = group
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::Upsert(doc, item) => (*doc, item.created.map(|time| (time.seconds, time.nanos))),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(created, [(0, Some((7, 0))), (1, Some((1, 500_000_000)))]);
    }

    #[test]
    fn changes_see_those_before_them_in_the_group() {
        let mut table = Table::default();
        table.intern("x");
        let changes = [
            event("e1", &["a", "x", "a"]),
            item("a", "A"),
            event("e2", &["a", "b"]),
            Change::DeleteItem("a".into()),
            Change::DeleteItem("a".into()),
            Change::DeleteItem("never seen".into()),
        ];
        let (group, answers) = plan(&table, changes);
        assert_eq!(group.docs, [(1, "a".into()), (2, "b".into())]);
        let unknown: Vec<_> = answers.iter().map(|answer| answer.unknown.join(",")).collect();
        assert_eq!(unknown, ["a,x", "", "b", "", "", ""]);
        let docs: Vec<_> = answers.iter().map(|answer| answer.docs.as_slice()).collect();
        assert_eq!(docs, [&[1, 0, 1][..], &[1], &[1, 2], &[1], &[1], &[]]);
        let existed: Vec<_> = answers.iter().map(|answer| answer.existed).collect();
        assert_eq!(existed, [false, false, false, true, false, false]);
    }
}

//! Whatever is done, a catalog that is opened again is as it was, and is what its log says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::log::{Field, Patch};

/// One call: its changes, and whether the catalog is opened again after it.
fn calls() -> impl Strategy<Value = Vec<(Vec<Change>, bool)>> {
    let change = prop_oneof![
        4 => (0..8_u8, 0..3_u8).prop_map(|(id, title)| item(&format!("i{id}"), &format!("T{title}"))),
        1 => (0..8_u8).prop_map(|id| match item(&format!("i{id}"), "sold out") {
            Change::UpsertItem(sold_out) => Change::UpsertItem(Item { available: Some(false), ..sold_out }),
            other => other,
        }),
        2 => (0..9_u8, 0..3_u8).prop_map(|(id, title)| match item(&format!("i{id}"), &format!("T{title}")) {
            Change::UpsertItem(item) => Change::PatchItem(Patch { item, fields: [Field::Title].into() }),
            other => other,
        }),
        2 => (0..9_u8).prop_map(|id| Change::DeleteItem(format!("i{id}"))),
        4 => (0..20_u8, prop::collection::vec(0..10_u8, 0..3)).prop_map(|(id, items)| {
            let items: Vec<_> = items.iter().map(|id| format!("i{id}")).collect();
            event(&format!("e{id}"), &items.iter().map(String::as_str).collect::<Vec<_>>())
        }),
    ];
    let control = prop_oneof![
        2 => (0..4_u8, 0..3_u8).prop_map(|(id, note)| {
            let control = Control { note: format!("N{note}"), ..Control::default() };
            Change::PutControl(format!("c{id}").into(), control)
        }),
        1 => (0..5_u8).prop_map(|id| Change::DeleteControl(format!("c{id}").into())),
    ];
    let picture = prop_oneof![
        3 => (0..9_u8, 0..3_u8).prop_map(|(id, data)| Change::PutPicture(format!("i{id}"), vec![data; 3].into())),
        1 => (0..9_u8).prop_map(|id| Change::DeletePicture(format!("i{id}"))),
    ];
    let change = prop_oneof![13 => change, 2 => control, 5 => picture];
    prop::collection::vec((prop::collection::vec(change, 0..12), prop::bool::weighted(0.2)), 1..8)
}

/// All that is in memory, comparable.
#[derive(Debug, PartialEq)]
struct Memory {
    /// By doc.
    items: Vec<(String, Option<Item>)>,
    /// Live, servable, and in the order of ids.
    docs: [Vec<Doc>; 3],
    controls: Controls,
    /// By doc.
    pictures: Vec<Option<u64>>,
    /// In the behaviour, and counted.
    events: [u64; 2],
    head: Seq,
}

impl Memory {
    fn of(catalog: &Catalog) -> Self {
        let table = catalog.items.read();
        let item = |doc| (table.id(doc).unwrap().to_string(), table.item(doc).map(|item| Item::clone(item)));
        Self {
            items: (0..table.doc_count() as Doc).map(item).collect(),
            docs: [table.live().iter().collect(), table.servable().iter().collect(), table.list(None).collect()],
            controls: Controls::clone(&catalog.controls()),
            pictures: (0..table.doc_count() as Doc).map(|doc| table.picture(doc)).collect(),
            events: [catalog.behaviour.read().events(), catalog.event_count()],
            head: *catalog.head().borrow(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_catalog_opened_again_is_as_it_was(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = open(dir.path());
        let (mut items, mut events, mut controls) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut pictures = BTreeMap::new();
        for (changes, reopen) in calls {
            for change in &changes {
                match change {
                    Change::UpsertItem(item) => drop(items.insert(item.id.clone(), (item.title.clone(), item.available))),
                    Change::PatchItem(Patch { item, .. }) => {
                        items.entry(item.id.clone()).and_modify(|(title, _)| title.clone_from(&item.title));
                    }
                    Change::DeleteItem(id) => {
                        items.remove(id);
                        pictures.remove(id);
                    }
                    Change::PutPicture(id, data) => {
                        if items.contains_key(id) {
                            pictures.insert(id.clone(), data.clone());
                        }
                    }
                    Change::DeletePicture(id) => drop(pictures.remove(id)),
                    Change::Event(event) => drop(events.insert(event.event_id.clone())),
                    Change::PutControl(id, control) => drop(controls.insert(id.clone(), Arc::new(control.clone()))),
                    Change::DeleteControl(id) => drop(controls.remove(id)),
                }
            }
            let count = changes.len();
            prop_assert_eq!(runtime.block_on(catalog.append(changes)).unwrap().len(), count);
            if reopen {
                let before = Memory::of(&catalog);
                drop(catalog);
                catalog = open(dir.path());
                prop_assert_eq!(Memory::of(&catalog), before);
            }
        }
        let now: BTreeMap<_, _> = {
            let table = catalog.items.read();
            let items = table.list(None).filter_map(|doc| table.item(doc));
            items.map(|item| (item.id.clone(), (item.title.clone(), item.available))).collect()
        };
        prop_assert_eq!(&now, &items);
        prop_assert_eq!(catalog.event_count(), events.len() as u64);
        prop_assert_eq!(&*catalog.controls(), &controls);
        let kept: BTreeMap<_, _> = {
            let table = catalog.items.read();
            let picture = |doc| Some((table.id(doc)?.to_string(), catalog.picture(doc).unwrap()?));
            (0..table.doc_count() as Doc).filter_map(picture).collect()
        };
        prop_assert_eq!(&kept, &pictures);
        prop_assert_eq!(catalog.picture_count(), pictures.len());
        // Whoever follows pictures hears of each that there is.
        let table = catalog.items.read();
        let followed = catalog.changed(Followed::Pictures, Seq(0), usize::MAX >> 1).unwrap();
        let followed = followed.into_iter().filter(|&(_, doc)| table.picture(doc).is_some());
        let ids: BTreeSet<_> = followed.filter_map(|(_, doc)| Some(table.id(doc)?.to_string())).collect();
        prop_assert!(ids.iter().eq(pictures.keys()));
        // What the records say, one after the other.
        let (mut replayed, mut seen, mut ruled) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let (mut shown, mut last) = (BTreeMap::new(), Seq(0));
        for record in catalog.read(Seq(0), usize::MAX >> 1).unwrap() {
            prop_assert!(record.seq > last);
            last = record.seq;
            match record.change {
                Change::UpsertItem(item) => drop(replayed.insert(item.id, (item.title, item.available))),
                Change::PatchItem(patch) => panic!("the log holds whole items: {patch:?}"),
                Change::DeleteItem(id) => {
                    replayed.remove(&id);
                    shown.remove(&id);
                }
                // Those that were replaced are there no more.
                Change::PutPicture(id, data) => prop_assert!(shown.insert(id, data).is_none()),
                Change::DeletePicture(id) => drop(shown.remove(&id)),
                Change::Event(event) => seen.push(event.event_id),
                Change::PutControl(id, control) => drop(ruled.insert(id, Arc::new(control))),
                Change::DeleteControl(id) => drop(ruled.remove(&id)),
            }
        }
        prop_assert_eq!(replayed, items);
        prop_assert_eq!(ruled, controls);
        prop_assert_eq!(shown, pictures);
        seen.sort();
        prop_assert!(seen.into_iter().eq(events));
    }
}

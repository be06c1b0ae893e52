//! The index from outside: what is found, in which order, and what survives.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use roaring::RoaringBitmap;
use tempfile::TempDir;
use vitrine::v1::Item;

use super::{LexicalHits, LexicalIndex, LexicalQuery, Phrase, Synonyms};
use crate::Doc;

fn item(title: &str, description: &str) -> Item {
    Item { id: title.to_owned(), title: title.to_owned(), description: description.to_owned(), ..Item::default() }
}

fn index(items: &[Item]) -> (TempDir, LexicalIndex) {
    let dir = tempfile::tempdir().unwrap();
    let index = LexicalIndex::open(dir.path()).unwrap();
    index.apply((0..).zip(items.iter().map(Some))).unwrap();
    index.commit(items.len() as u64).unwrap();
    (dir, index)
}

fn search(index: &LexicalIndex, text: &str) -> LexicalHits {
    index.search(&wording(text, &[])).unwrap()
}

fn wording<'a>(text: &'a str, synonyms: &'a [Arc<Synonyms>]) -> LexicalQuery<'a> {
    LexicalQuery { text, allowed: None, limit: 10, spelling: true, synonyms }
}

fn found(index: &LexicalIndex, text: &str) -> Vec<Doc> {
    search(index, text).hits.into_iter().map(|(doc, _)| doc).collect()
}

fn groceries() -> Vec<Item> {
    vec![
        item("Whole Milk 1 gal", "From grass-fed cows"),
        item("Chocolate Milk 12 oz", ""),
        item("Milk Chocolate 6 oz bar", "Swiss, with hazelnuts"),
        item("Crème brûlée", "A dessert of cream, without chocolate"),
        item("Running shoes", "For the trail"),
        item("有机牛奶", "来自内蒙古"),
        item("Spider-Man toy", ""),
        item("Chocolate Milk 16oz", ""),
    ]
}

fn highlights(index: &LexicalIndex, text: &str, item: &Item) -> Vec<vitrine::v1::Highlight> {
    index.highlighter(&wording(text, &[])).unwrap().highlights(item)
}

#[test]
fn words_match_in_any_order_and_more_words_rank_higher() {
    let (_dir, index) = index(&groceries());
    assert_eq!(found(&index, "milk whole")[0], 0);
    let both = found(&index, "chocolate milk");
    assert_eq!(both[..2], [1, 7], "words in this order first, equal ones by number");
    assert!(both[2..].contains(&2) && both.contains(&3));
    assert_eq!(*both.last().unwrap(), 3, "the description counts least");
}

#[test]
fn a_title_that_is_the_whole_query_comes_first() {
    let (_dir, index) =
        index(&[item("The Smile Shop", "smile smile"), item("Smile", ""), item("A Smile a Day", "smile")]);
    assert_eq!(found(&index, "smile")[0], 1);
}

#[test]
fn stems_accents_compounds_and_units_match() {
    let (_dir, index) = index(&groceries());
    for (query, doc) in
        [("shoe run", 4), ("creme brulee", 3), ("spiderman", 6), ("spider man", 6), ("16 oz", 7), ("12oz", 1)]
    {
        assert_eq!(found(&index, query).first(), Some(&doc), "{query}");
    }
}

#[test]
fn chinese_words_match_without_spaces() {
    let (_dir, index) = index(&groceries());
    assert_eq!(found(&index, "牛奶"), [5]);
    assert_eq!(found(&index, "内蒙古 牛奶"), [5]);
}

#[test]
fn every_text_field_is_searched() {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let item = Item {
        brand: "Acme".to_owned(),
        categories: vec!["Footwear > Outdoor".to_owned()],
        tags: vec!["clearance".to_owned()],
        attributes: Some(Struct { fields: BTreeMap::from([("colour".to_owned(), text("turquoise"))]) }),
        ..item("Boot", "waterproof")
    };
    let (_dir, index) = index(std::slice::from_ref(&item));
    for word in ["acme", "outdoor", "clearance", "turquoise", "waterproof", "boots"] {
        assert_eq!(found(&index, word), [0], "{word}");
        assert_eq!(highlights(&index, word, &item).len(), 1, "{word}");
    }
    assert_eq!(highlights(&index, "turquoise", &item)[0].field, "attributes.colour");
}

#[test]
fn misspelt_words_are_corrected_unless_that_is_off() {
    let (_dir, index) = index(&groceries());
    for (query, corrected, doc) in [
        ("Choclate milk", "chocolate milk", 1),
        ("hazlenuts", "hazelnuts", 2),
        ("mlik whole", "milk whole", 0),
        ("wholemilk", "whole milk", 0),
        ("chokolade bar", "chocolate bar", 2),
    ] {
        let hits = search(&index, query);
        assert_eq!(hits.corrected.as_deref(), Some(corrected));
        assert_eq!(hits.hits[0].0, doc, "{query}");
        let off = LexicalQuery { spelling: false, ..wording(query, &[]) };
        assert_eq!(index.search(&off).unwrap().corrected, None);
    }
    assert_eq!(search(&index, "chocolate").corrected, None);
    assert!(search(&index, "xyz qqqqqqqq").hits.is_empty());
}

#[test]
fn synonyms_find_each_other_and_one_way_ones_only_one_way() {
    let goods = [
        item("Grey couch", ""),
        item("Corner settees", ""),
        item("Soft drink can", ""),
        item("Drink holder", "For soft seats"),
        item("Soda water", ""),
        item("Laptop sleeve", ""),
        item("Gaming notebook", ""),
    ];
    let (_dir, index) = index(&goods);
    let phrases = |texts: &[&str]| texts.iter().map(|text| Phrase::new(text)).collect::<Vec<_>>();
    let synonyms = [
        Synonyms::new(phrases(&["sofa", "Couches", "settee"]), Vec::new()),
        Synonyms::new(phrases(&["soda", "soft drinks"]), Vec::new()),
        Synonyms::new(phrases(&["notebook"]), phrases(&["laptop"])),
    ]
    .map(Arc::new);
    let found = |text: &str| -> Vec<Doc> {
        index.search(&wording(text, &synonyms)).unwrap().hits.into_iter().map(|(doc, _)| doc).collect()
    };
    // No item has the word, and it is not taken for a misspelt `soda`.
    assert_eq!(found("sofa"), [0, 1]);
    assert_eq!(index.search(&wording("sofa", &synonyms)).unwrap().corrected, None);
    assert_eq!(found("sofas grey"), [0, 1]);
    // A word for a phrase: its words stand together, in any form.
    assert_eq!(found("soda"), [4, 2]);
    // And a word for a phrase, both before what has the phrase's words apart.
    let soft = found("soft drinks");
    assert!(soft[..2].contains(&2) && soft[..2].contains(&4) && soft[2..] == [3], "{soft:?}");
    assert_eq!((found("laptop"), found("notebook")), (vec![5, 6], vec![6]));
    // The word itself counts more than what stands for it.
    assert_eq!(found("settee"), [1, 0]);
    let marks = |query: &str, doc: usize| {
        index.highlighter(&wording(query, &synonyms)).unwrap().highlights(&goods[doc])[0].snippet.clone()
    };
    assert_eq!(marks("sofa", 1), "Corner <em>settees</em>");
    assert_eq!(marks("soda", 2), "<em>Soft</em> <em>drink</em> can");
}

#[test]
fn only_allowed_items_are_found_and_all_of_them_are_counted() {
    let items: Vec<Item> = (0..50).map(|_| item("Milk", "")).collect();
    let (_dir, index) = index(&items);
    let allowed = RoaringBitmap::from_iter([3, 7, 11, 40]);
    let query = LexicalQuery { allowed: Some(&allowed), limit: 3, ..wording("milk", &[]) };
    let hits = index.search(&query).unwrap();
    assert_eq!(hits.hits.iter().map(|(doc, _)| *doc).collect::<Vec<_>>(), [3, 7, 11]);
    assert_eq!(hits.matched, allowed);
    assert!(index.search(&LexicalQuery { limit: 0, ..query }).unwrap().hits.is_empty());
}

#[test]
fn changes_are_seen_after_the_commit_and_outlive_the_process() {
    let (dir, index) = index(&groceries());
    index.apply([(0, Some(&item("Oat drink", ""))), (1, None), (0, Some(&item("Soy drink", "")))]).unwrap();
    assert_eq!(found(&index, "whole"), [0]);
    index.commit(20).unwrap();
    assert!(found(&index, "whole").is_empty() && found(&index, "oat").is_empty());
    assert_eq!(found(&index, "soy"), [0]);
    assert!(!found(&index, "milk").contains(&1));
    index.apply([(9, Some(&item("Never committed", "")))]).unwrap();
    drop(index);
    let index = LexicalIndex::open(dir.path()).unwrap();
    assert_eq!((index.watermark(), index.len()), (20, 7));
    assert_eq!(found(&index, "soy"), [0]);
    assert!(found(&index, "committed").is_empty());
}

type Damage<'a> = (&'a str, &'a dyn Fn(&TempDir));

#[test]
fn a_damaged_index_is_made_anew() {
    let biggest = |dir: &TempDir| {
        let files = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
    };
    let damages: [Damage<'_>; 4] = [
        ("a flipped byte", &|dir| {
            let file = biggest(dir);
            let mut bytes = fs::read(&file).unwrap();
            bytes[0] ^= 0xff;
            fs::write(&file, bytes).unwrap();
        }),
        ("a file cut short", &|dir| fs::write(biggest(dir), b"").unwrap()),
        ("a missing file", &|dir| fs::remove_file(biggest(dir)).unwrap()),
        ("meta.json", &|dir| fs::write(dir.path().join("meta.json"), b"{\"segments\":").unwrap()),
    ];
    for (what, damage) in damages {
        let (dir, index) = index(&groceries());
        drop(index);
        damage(&dir);
        let index = LexicalIndex::open(dir.path()).unwrap();
        assert_eq!((index.watermark(), index.len()), (0, 0), "{what}");
        index.apply([(0, Some(&item("Milk", "")))]).unwrap();
        index.commit(1).unwrap();
        assert_eq!(found(&index, "milk"), [0], "{what}");
    }
}

#[test]
fn a_failed_write_leaves_the_last_commit_searchable() {
    let (dir, index) = index(&groceries());
    fs::remove_dir_all(dir.path()).unwrap();
    let write = || index.apply([(9, Some(&item("Lost", "")))]).and_then(|()| index.commit(99));
    assert!(write().is_err() && write().is_err());
    assert_eq!(index.watermark(), 8);
    assert_eq!(found(&index, "whole"), [0]);
    drop(dir);
}

#[test]
fn highlights_mark_what_matched_and_escape_the_rest() {
    let (_dir, index) = index(&groceries());
    let item =
        item("Milk & <b>Chocolates</b>", &format!("{} the best chocolate {}", "word ".repeat(99), "x ".repeat(99)));
    let highlights = highlights(&index, "choclate", &item);
    assert_eq!(highlights[0].snippet, "Milk &amp; &lt;b&gt;<em>Chocolates</em>&lt;/b&gt;");
    assert_eq!(highlights[1].field, "description");
    assert!(highlights[1].snippet.contains("best <em>chocolate</em> x"), "{}", highlights[1].snippet);
    assert!(highlights[1].snippet.starts_with("… ") && highlights[1].snippet.ends_with(" …"));
    assert!(highlights[1].snippet.len() < 300);
}

#[test]
fn no_query_is_a_language() {
    let (_dir, index) = index(&groceries());
    for query in ["\"milk", "title:milk", "milk*", "+milk -whole", "(milk", "milk^2 OR", "/milk/", "milk~", "{milk TO"]
    {
        assert!(found(&index, query).contains(&0), "{query}");
    }
    for query in ["", " ", "\"", "*", "🙂", "\u{0}", "-"] {
        assert!(found(&index, query).is_empty(), "{query}");
    }
    assert!(!found(&index, &"milk ".repeat(200_000)).is_empty(), "a long query");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_query_is_answered_and_any_text_marked(text in ".{0,40}", words in prop::collection::vec("[a-zé牛奶 '<&-]{0,9}", 0..9)) {
        let (_dir, index) = index(&[item(&text, &words.join(" ")), item("milk", &text)]);
        let query = words.join("-");
        search(&index, &query);
        for hit in highlights(&index, &text, &item(&text, &query)) {
            prop_assert!(hit.snippet.contains("<em>"));
        }
    }
}

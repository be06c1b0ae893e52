//! What every recommendation must hold to, whatever happened before.

use proptest::prelude::*;
use roaring::RoaringBitmap;
use vitrine::v1::{Event, EventType, ReasonCode};

use super::*;
use crate::behaviour::BehaviourOptions;

const NOW_MS: i64 = 1_700_000_000_000;
const DOCS: Doc = 30;

struct Shop {
    behaviour: Behaviour,
    options: RecommendOptions,
    all: RoaringBitmap,
    none: RoaringBitmap,
    rules: Rules,
}

impl Shop {
    fn new() -> Self {
        Self {
            behaviour: Behaviour::new(BehaviourOptions::default()),
            options: RecommendOptions::default(),
            all: (0..DOCS).collect(),
            none: RoaringBitmap::new(),
            rules: Rules::default(),
        }
    }

    /// `seconds_ago`: before now.
    fn happens(&mut self, kind: EventType, user: &str, order: &str, docs: &[Doc], seconds_ago: i64) {
        let event = Event { user_id: user.into(), order_id: order.into(), r#type: kind as i32, ..Event::default() };
        self.behaviour.apply(&event, docs, NOW_MS - seconds_ago * 1_000);
    }

    fn want(&self, count: usize) -> Want<'_> {
        Want {
            count,
            allowed: &self.all,
            beyond: None,
            exclude: &self.none,
            exclude_interacted: None,
            diversity: None,
            exploration: None,
            rules: &self.rules,
        }
    }

    fn recommend(&self, target: &Target<'_>, want: &Want<'_>) -> Ranking {
        let now_ms = NOW_MS;
        Recommender { behaviour: &self.behaviour, next: None, vectors: Some(&Line), now_ms, options: &self.options }
            .recommend(target, want)
    }

    fn for_user(&self, user: &str, want: &Want<'_>) -> Ranking {
        self.recommend(&Target::ForUser(self.behaviour.person(user, "")), want)
    }
}

/// Items in a line: those with near numbers are similar.
struct Line;

impl Neighbours for Line {
    fn vector(&self, doc: Doc) -> Option<Vec<f32>> {
        let angle = doc as f32 * 0.05;
        Some(vec![angle.cos(), angle.sin()])
    }

    fn nearest(&self, vector: &[f32], k: usize, allowed: &RoaringBitmap) -> Vec<(Doc, f32)> {
        let cosine = |doc| self.vector(doc).map_or(0.0, |other| other[0] * vector[0] + other[1] * vector[1]);
        candidates::top(allowed.iter().map(|doc| (doc, cosine(doc))).collect(), k)
    }
}

fn docs(ranking: &Ranking) -> Vec<Doc> {
    ranking.results.iter().map(|result| result.doc).collect()
}

#[test]
fn pinned_items_stand_where_the_shop_wants_them() {
    let mut shop = Shop::new();
    for doc in 0..6 {
        for user in 0..6 - doc {
            shop.happens(EventType::Purchase, &format!("u{user}"), "", &[doc], 60);
        }
    }
    let docs = |shop: &Shop, want: &Want<'_>| -> Vec<Doc> {
        shop.recommend(&Target::Popular(None), want).results.iter().map(|result| result.doc).collect()
    };
    assert_eq!(docs(&shop, &shop.want(4)), [0, 1, 2, 3]);
    // One that was found, one that was not, two for one place.
    shop.rules.pins = vec![(0, 20), (1, 3), (1, 21)];
    assert_eq!(docs(&shop, &shop.want(6)), [20, 3, 21, 0, 1, 2]);
    let pinned = shop.recommend(&Target::Popular(None), &shop.want(4)).results.swap_remove(1);
    assert_eq!((pinned.doc, pinned.reason.code), (3, ReasonCode::Pinned));
    assert!(pinned.score > 0.0 && pinned.stages.iter().any(|stage| stage.source == Source::Pinned));
    // What may not be shown is not, pinned or not.
    let some: RoaringBitmap = [0, 1, 21].into_iter().collect();
    assert_eq!(docs(&shop, &Want { allowed: &some, ..shop.want(6) }), [0, 21, 1]);
    let exclude: RoaringBitmap = [20, 3].into_iter().collect();
    assert_eq!(docs(&shop, &Want { exclude: &exclude, ..shop.want(3) }), [0, 21, 1]);
}

#[test]
fn what_is_bought_together_is_proposed_before_what_everybody_buys() {
    let mut shop = Shop::new();
    for n in 0..40 {
        let (user, order) = (format!("u{n}"), format!("o{n}"));
        let basket: &[Doc] = if n % 4 == 0 { &[0, 1, 9] } else { &[9, 2] };
        // Each line is an event of its own.
        for &doc in basket {
            shop.happens(EventType::Purchase, &user, &order, &[doc], 1_000 - n);
        }
    }
    let ranking = shop.recommend(&Target::BoughtTogether(&[0]), &shop.want(5));
    assert_eq!(docs(&ranking), [1], "9 is in every order, and says nothing about 0");
    assert_eq!(ranking.results[0].reason, Reason { code: ReasonCode::BoughtTogether, sources: vec![0] });
}

#[test]
fn nobody_known_gets_what_is_popular() {
    let mut shop = Shop::new();
    shop.happens(EventType::Purchase, "u", "", &[3], 10);
    shop.happens(EventType::View, "u", "", &[4], 10);
    let ranking = shop.for_user("stranger", &shop.want(5));
    assert_eq!(docs(&ranking), [3, 4]);
    assert!(ranking.results.iter().all(|result| result.reason.code == ReasonCode::Popular));
}

#[test]
fn an_event_changes_the_next_answer() {
    let mut shop = Shop::new();
    for (n, doc) in [(0, 5), (1, 5), (2, 6), (3, 6)] {
        shop.happens(EventType::View, &format!("u{n}"), "", &[doc], 100);
        shop.happens(EventType::View, &format!("u{n}"), "", &[doc + 10], 90);
    }
    let before = docs(&shop.for_user("me", &shop.want(3)));
    shop.happens(EventType::View, "me", "", &[6], 1);
    let ranking = shop.for_user("me", &shop.want(3));
    assert_ne!(docs(&ranking), before);
    assert_eq!(ranking.results[0].doc, 16);
    assert_eq!(ranking.results[0].reason, Reason { code: ReasonCode::Follows, sources: vec![6] });
}

#[test]
fn a_hidden_item_stays_away_until_it_is_wanted_again() {
    let mut shop = Shop::new();
    shop.happens(EventType::Purchase, "other", "", &[3], 100);
    assert_eq!(docs(&shop.for_user("me", &shop.want(3))), [3]);
    shop.happens(EventType::Hide, "me", "", &[3], 50);
    assert!(!docs(&shop.for_user("me", &shop.want(30))).contains(&3));
    shop.happens(EventType::Like, "me", "", &[3], 20);
    assert!(docs(&shop.for_user("me", &shop.want(30))).contains(&3));
}

#[test]
fn what_is_bought_regularly_is_proposed_again_unless_excluded() {
    let mut shop = Shop::new();
    for day in 1..5 {
        shop.happens(EventType::Purchase, "me", &day.to_string(), &[7], day * 7 * 86_400);
    }
    let ranking = shop.for_user("me", &shop.want(1));
    assert_eq!((ranking.results[0].doc, ranking.results[0].reason.code), (7, ReasonCode::BuyAgain));
    let bought = Interacted { types: &[EventType::Purchase], window_seconds: None };
    let ranking = shop.for_user("me", &Want { exclude_interacted: Some(bought), ..shop.want(30) });
    assert!(!docs(&ranking).contains(&7));
    let lately = Interacted { types: &[EventType::Purchase], window_seconds: Some(86_400) };
    let ranking = shop.for_user("me", &Want { exclude_interacted: Some(lately), ..shop.want(30) });
    assert!(docs(&ranking).contains(&7));
}

#[test]
fn too_narrow_a_filter_is_relaxed_only_if_asked_and_says_so() {
    let mut shop = Shop::new();
    shop.happens(EventType::Purchase, "u", "", &[1], 10);
    shop.happens(EventType::Click, "u", "", &[2], 10);
    let narrow = RoaringBitmap::from_iter([2]);
    let strict = Want { allowed: &narrow, ..shop.want(5) };
    let ranking = shop.for_user("stranger", &strict);
    assert_eq!((docs(&ranking), ranking.relaxed), (vec![2], false));
    let ranking = shop.for_user("stranger", &Want { beyond: Some(&shop.all), ..strict });
    assert_eq!((docs(&ranking), ranking.relaxed), (vec![2, 1], true));
    assert!(ranking.results[0].score >= ranking.results[1].score);
}

#[test]
fn similar_items_leave_out_the_items_themselves() {
    let shop = Shop::new();
    let ranking = shop.recommend(&Target::SimilarTo(&[10, 20], Source::Similar), &shop.want(4));
    assert_eq!(docs(&ranking).into_iter().collect::<RoaringBitmap>(), RoaringBitmap::from_iter([9, 11, 19, 21]));
    let reason = ranking.results.iter().find(|result| result.doc == 19).map(|result| &result.reason);
    assert_eq!(reason, Some(&Reason { code: ReasonCode::Similar, sources: vec![20, 10] }));
}

#[test]
fn a_session_leads_on_without_being_recorded() {
    let mut shop = Shop::new();
    for user in ["a", "b"] {
        shop.happens(EventType::View, user, "", &[5], 100);
        shop.happens(EventType::View, user, "", &[6], 90);
    }
    let events = [Event { r#type: EventType::View as i32, ..Event::default() }];
    let session = crate::behaviour::Session::new(events.iter().map(|event| (event, &[5][..])), NOW_MS);
    let ranking = shop.recommend(&Target::ForSession(session.history(), None), &shop.want(1));
    assert_eq!(docs(&ranking), [6]);
    assert_eq!(shop.behaviour.people(), 2);
}

fn kinds() -> impl Strategy<Value = EventType> {
    (1_i32..=14).prop_map(|kind| EventType::try_from(kind).unwrap_or_default())
}

fn happenings() -> impl Strategy<Value = Vec<(EventType, u8, u8, Doc, i64)>> {
    prop::collection::vec((kinds(), 0_u8..5, 0_u8..8, 0..DOCS, 0_i64..10_000_000), 0..80)
}

fn shop_of(events: &[(EventType, u8, u8, Doc, i64)]) -> Shop {
    let mut shop = Shop::new();
    for &(kind, user, order, doc, ago) in events {
        shop.happens(kind, &user.to_string(), &order.to_string(), &[doc], ago);
    }
    shop
}

fn targets<'a>(shop: &Shop, docs: &'a [Doc]) -> [Target<'a>; 5] {
    let person = shop.behaviour.person("1", "");
    [
        Target::ForUser(person),
        Target::ForUser(None),
        Target::SimilarTo(docs, Source::Similar),
        Target::BoughtTogether(docs),
        Target::Popular(None),
    ]
}

proptest! {
    #[test]
    fn only_what_is_allowed_and_not_excluded_is_proposed_and_once(
        events in happenings(),
        allowed in prop::collection::btree_set(0..DOCS, 0..25),
        exclude in prop::collection::btree_set(0..DOCS, 0..10),
        lambda in 0.0..=1.0,
    ) {
        let shop = shop_of(&events);
        let (allowed, exclude) = (allowed.into_iter().collect(), exclude.into_iter().collect());
        let diversity = Some(Diversity { lambda, candidates: 20, cap: None });
        let want = Want { allowed: &allowed, exclude: &exclude, diversity, ..shop.want(8) };
        for target in targets(&shop, &[1, 2]) {
            let found = docs(&shop.recommend(&target, &want));
            let unique: RoaringBitmap = found.iter().copied().collect();
            prop_assert_eq!(unique.len(), found.len() as u64);
            prop_assert!(unique.is_subset(&allowed) && unique.is_disjoint(&exclude));
        }
    }

    #[test]
    fn pages_never_repeat_and_end(events in happenings(), size in 1_usize..6) {
        let shop = shop_of(&events);
        for target in targets(&shop, &[1, 2]) {
            let mut shown = RoaringBitmap::new();
            loop {
                let page = shop.recommend(&target, &Want { exclude: &shown, ..shop.want(size) });
                if page.results.is_empty() {
                    break;
                }
                for doc in docs(&page) {
                    prop_assert!(shown.insert(doc), "{} came twice", doc);
                }
            }
        }
    }

    #[test]
    fn the_same_state_gives_the_same_answer_also_after_a_checkpoint(events in happenings()) {
        let shop = shop_of(&events);
        let mut file = Vec::new();
        shop.behaviour.save(&mut file, 42).unwrap();
        let (behaviour, seq) = Behaviour::load(file.as_slice()).unwrap();
        prop_assert_eq!(seq, 42);
        let again = Shop { behaviour, ..Shop::new() };
        for target in targets(&shop, &[1, 2]) {
            let want = shop.want(10);
            prop_assert_eq!(shop.recommend(&target, &want).results, again.recommend(&target, &want).results);
        }
    }
}

//! Search with the real text encoder: what is found by words and by meaning, how it is narrowed, paged and ordered, and
//! what the answer says about itself.

#![cfg(test)]

mod harness;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use harness::{
    CATALOG, Start, TestServer, context, eventually, item, price, purchase, recommend, refused, stock, text_search,
};
use vitrine::v1::{
    DeleteItemRequest, Diversity, FacetRequest, FeedbackRequest, GetCatalogRequest, Item, ItemList, Personalize,
    Popular, RequestContext, SearchMode, SearchRequest, SearchResponse, VectorQuery, recommend_request::Target,
    search_request::Query,
};
use vitrine_client::{Client, Code};

fn goods() -> Vec<Item> {
    let of = |id: &str, title: &str, brand: &str, category: &str, amount: &str| Item {
        brand: brand.into(),
        categories: vec![category.into()],
        price: price(amount),
        ..item(id, title)
    };
    vec![
        of("trail", "Trail shoe", "Acme", "Shoes", "89.90"),
        of("sandal", "Leather sandal", "Acme", "Shoes", "39.00"),
        of("milk", "Whole milk", "Dairyland", "Dairy", "1.50"),
        of("oat", "Oat milk", "Barista", "Dairy", "2.50"),
        of("soy", "Soy milk", "Barista", "Dairy", "1.90"),
        of("butter", "Salted butter", "Dairyland", "Dairy", "3.20"),
        of("kettle", "Electric kettle", "Acme", "Kitchen", "29.00"),
        of("lamp", "Desk lamp", "Lumen", "Office", "45.00"),
    ]
}

/// A server with these items, all of which have their vectors.
async fn shop(items: Vec<Item>) -> (TestServer, Client) {
    let count = items.len() as i64;
    let server = Start::with_encoder().run();
    let client = server.client().await;
    stock(&client, items).await;
    indexed(&client, count).await;
    (server, client)
}

/// Waits until the indexes hold so many items.
async fn indexed(client: &Client, count: i64) {
    eventually("everything is indexed", async || {
        let catalog = client.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap();
        let vectors = catalog.vector_indexes.first()?;
        let words = catalog.lexical_index.as_ref()?;
        let done = vectors.pending_items == 0 && vectors.indexed_items == count && words.lag == 0;
        (done && words.indexed_items == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_personal_search_moves_up_what_the_user_bought_and_what_is_like_it() {
    let (_server, client) = shop(goods()).await;
    let search = |strength: Option<f64>, user: &str| SearchRequest {
        context: Some(RequestContext { catalog: CATALOG.into(), user_id: user.into(), ..Default::default() }),
        personalize: strength.map(|strength| Personalize { strength: Some(strength), candidates: 0 }),
        ..text_search("milk")
    };
    let plain = client.search(search(None, "soy drinker")).await.unwrap();
    assert_ne!(ids(&plain)[0], "soy");
    let events = vec![purchase("e1", "soy drinker", "soy")];
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    let personal = client.search(search(Some(0.6), "soy drinker")).await.unwrap();
    assert_eq!(ids(&personal)[0], "soy");
    assert!(personal.results[0].stages.iter().any(|stage| stage.stage == "personalized"));
    let sorted = |answer: &SearchResponse| ids(answer).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&personal), sorted(&plain), "it finds the same items");
    // Nobody else notices, nor does the user who does not ask for it.
    for (strength, user) in [(Some(0.6), "stranger"), (None, "soy drinker"), (Some(0.0), "soy drinker")] {
        let answer = client.search(search(strength, user)).await.unwrap();
        assert_eq!(ids(&answer), ids(&plain), "{strength:?} {user}");
    }
    let error = refused(client.search(search(Some(1.5), "soy drinker")).await);
    assert!(error.to_string().contains("personalize.strength"), "{error}");
}

fn ids(answer: &SearchResponse) -> Vec<&str> {
    answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect()
}

fn lexical(text: &str) -> SearchRequest {
    SearchRequest { mode: SearchMode::Lexical as i32, ..text_search(text) }
}

fn semantic(text: &str) -> SearchRequest {
    SearchRequest { mode: SearchMode::Semantic as i32, ..text_search(text) }
}

#[tokio::test]
async fn meaning_finds_what_words_do_not() {
    let (_server, client) = shop(goods()).await;
    let query = "footwear for running";
    assert_eq!(ids(&client.search(lexical(query)).await.unwrap()), [""; 0]);
    for request in [text_search(query), semantic(query)] {
        let answer = client.search(request).await.unwrap();
        assert_eq!(ids(&answer)[0], "trail", "{answer:?}");
        assert!(answer.degraded.is_empty(), "{answer:?}");
        let served = &answer.served_by;
        assert_eq!((served.len(), served[0].task.as_str()), (1, "text-embedding"), "{served:?}");
        assert_eq!((served[0].model.as_str(), served[0].label.as_str()), ("minilm", "stable"), "{served:?}");
        assert!(served[0].version >= 1);
    }
    let words = client.search(lexical("milk")).await.unwrap();
    assert!(words.served_by.is_empty(), "no model takes part in a search by words");
    assert!(!words.attribution_token.is_empty());
}

#[tokio::test]
async fn each_stage_tells_its_score_and_the_words_are_marked() {
    let (_server, client) = shop(goods()).await;
    let answer = client.search(text_search("oat milk")).await.unwrap();
    let first = &answer.results[0];
    assert_eq!((ids(&answer)[0], first.rank), ("oat", 1));
    let stages: BTreeMap<&str, _> = first.stages.iter().map(|stage| (stage.stage.as_str(), stage)).collect();
    assert_eq!(stages.keys().copied().collect::<Vec<_>>(), ["fused", "lexical", "semantic"]);
    assert!(stages.values().all(|stage| stage.rank == 1 && stage.score.is_finite()), "{stages:?}");
    assert!((stages["fused"].score - first.score).abs() < 1e-9);
    let title = first.highlights.iter().find(|highlight| highlight.field == "title").unwrap();
    assert_eq!(title.snippet, "<em>Oat</em> <em>milk</em>");
    assert!(answer.results.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let ranks: Vec<i32> = answer.results.iter().map(|result| result.rank).collect();
    assert_eq!(ranks, (1..=ranks.len() as i32).collect::<Vec<_>>());
}

#[tokio::test]
async fn filters_narrow_and_facets_count_the_matches() {
    let (_server, client) = shop(goods()).await;
    let facets = |excluded: &[&str]| {
        let brand = FacetRequest {
            key: "brand".into(),
            excluded_filter_keys: excluded.iter().map(|&key| key.to_owned()).collect(),
            ..Default::default()
        };
        vec![brand, FacetRequest { key: "price".into(), ..Default::default() }]
    };
    let counts = |answer: &SearchResponse| -> BTreeMap<String, i64> {
        answer.facets[0].values.iter().map(|value| (value.value.clone(), value.count)).collect()
    };
    let both = BTreeMap::from([("Barista".to_owned(), 2), ("Dairyland".to_owned(), 1)]);
    let answer = client.search(SearchRequest { facets: facets(&[]), ..lexical("milk") }).await.unwrap();
    assert_eq!((answer.total_size, counts(&answer)), (3, both.clone()));
    assert_eq!((answer.facets[1].minimum, answer.facets[1].maximum), (Some(1.5), Some(2.5)));

    let filter = "brand = \"Barista\" AND price < 2.20 AND categories: \"Dairy\"".to_owned();
    let narrowed = SearchRequest { filter, facets: facets(&[]), ..lexical("milk") };
    let answer = client.search(narrowed).await.unwrap();
    assert_eq!(ids(&answer), ["soy"]);
    assert_eq!(counts(&answer), BTreeMap::from([("Barista".to_owned(), 1)]));

    // Multi-select: the chosen brand does not hide the counts of the others.
    let filter = "brand = \"Barista\"".to_owned();
    let answer = client.search(SearchRequest { filter, facets: facets(&["brand"]), ..lexical("milk") }).await.unwrap();
    assert_eq!((answer.results.len(), counts(&answer)), (2, both));
    for request in [text_search("milk"), semantic("milk")] {
        let answer = client.search(SearchRequest { filter: "price > 20".into(), ..request }).await.unwrap();
        assert!(ids(&answer).iter().all(|id| ["trail", "sandal", "kettle", "lamp"].contains(id)), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_written_shows_and_what_is_deleted_vanishes() {
    let (_server, client) = shop(goods()).await;
    let shows = async |id: &str, text: &str, wanted: bool| {
        for request in [text_search(text), lexical(text), semantic(text)] {
            eventually(&format!("{id} in {request:?}: {wanted}"), async || {
                let answer = client.search(request.clone()).await.unwrap();
                (ids(&answer).contains(&id) == wanted).then_some(())
            })
            .await;
        }
    };
    shows("guitar", "acoustic guitar", false).await;
    harness::upsert(&client, vec![item("guitar", "Acoustic guitar")]).await;
    shows("guitar", "acoustic guitar", true).await;
    // Another title: found by the new words, not by the old ones.
    harness::upsert(&client, vec![item("guitar", "Garden hose")]).await;
    shows("guitar", "garden hose", true).await;
    eventually("the old words are forgotten", async || {
        client.search(lexical("acoustic guitar")).await.unwrap().results.is_empty().then_some(())
    })
    .await;
    client
        .delete_item(DeleteItemRequest { name: format!("{CATALOG}/items/guitar"), allow_missing: false })
        .await
        .unwrap();
    shows("guitar", "garden hose", false).await;
}

#[tokio::test]
async fn unavailable_items_are_never_served() {
    let (_server, client) = shop(goods()).await;
    let events = vec![harness::purchase("e1", "u2", "oat"), harness::purchase("e2", "u2", "milk")];
    client.feedback(vitrine::v1::FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    harness::upsert(&client, vec![Item { available: Some(false), ..item("oat", "Oat milk") }]).await;
    for request in [text_search("oat milk"), lexical("oat milk"), semantic("oat milk")] {
        eventually("the sold-out item is gone", async || {
            let answer = client.search(request.clone()).await.unwrap();
            (!ids(&answer).contains(&"oat")).then_some(())
        })
        .await;
    }
    let like_soy = Target::SimilarToItems(ItemList { ids: vec!["soy".into()] });
    for target in [Target::Popular(Popular::default()), like_soy] {
        let answer = client.recommend(recommend(target)).await.unwrap();
        let ids: Vec<_> = answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect();
        assert!(ids.contains(&"milk") && !ids.contains(&"oat"), "{ids:?}");
    }
    // It is kept, and comes back.
    harness::upsert(&client, vec![item("oat", "Oat milk")]).await;
    eventually("the item is back", async || {
        let answer = client.search(text_search("oat milk")).await.unwrap();
        ids(&answer).contains(&"oat").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_vector_of_the_wrong_width_is_refused() {
    let (_server, client) = shop(goods()).await;
    let by = |values| SearchRequest {
        context: context(),
        query: Some(Query::Vector(VectorQuery { values })),
        ..Default::default()
    };
    for width in [1, 383, 385, 768] {
        let error = refused(client.search(by(vec![0.1; width])).await);
        assert_eq!(error.code, Code::InvalidArgument, "{error:?}");
        assert_eq!(error.violations[0].field, "vector.values", "{error:?}");
        let description = &error.violations[0].description;
        assert!(description.contains("384") && description.contains(&width.to_string()), "{description}");
    }
    client.search(by(vec![0.1; 384])).await.unwrap();
}

#[tokio::test]
async fn the_pages_cover_every_match_once() {
    let items = (0..45).map(|n| item(&format!("s{n}"), &format!("Running shoe number {n}"))).collect();
    let (_server, client) = shop(items).await;
    for request in [text_search("running shoe"), lexical("running shoe"), semantic("running shoe")] {
        let whole = client.search(SearchRequest { page_size: 100, ..request.clone() }).await.unwrap();
        assert_eq!((whole.results.len(), whole.total_size, whole.next_page_token.as_str()), (45, 45, ""));
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        // The size of a page may change on the way.
        for page_size in [7, 7, 3, 20, 7, 7, 7] {
            let page = SearchRequest { page_size, page_token, ..request.clone() };
            let page = client.search(page).await.unwrap();
            assert_eq!(page.results[0].rank as usize, seen.len() + 1);
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(page_token, "");
        assert_eq!(seen, ids(&whole));
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 45);
    }
}

#[tokio::test]
async fn diversity_changes_the_order_and_not_the_set() {
    let mut items: Vec<Item> = (0..6).map(|n| item(&format!("red{n}"), &format!("Red running shoe {n}"))).collect();
    items.extend([item("polish", "Shoe polish"), item("rack", "Wooden shoe rack"), item("horse", "Horse shoe")]);
    let (_server, client) = shop(items).await;
    let plain = client.search(text_search("running shoe")).await.unwrap();
    let diversity = Some(Diversity { mmr_lambda: Some(0.3), candidates: 100, ..Default::default() });
    let request = SearchRequest { diversity, ..text_search("running shoe") };
    let diverse = client.search(request.clone()).await.unwrap();
    assert_ne!(ids(&plain), ids(&diverse));
    assert_eq!(ids(&plain)[0], ids(&diverse)[0], "the best stays first");
    let set = |answer: &SearchResponse| -> HashSet<String> { ids(answer).into_iter().map(str::to_owned).collect() };
    assert_eq!(set(&plain), set(&diverse));
    assert_eq!((plain.results.len(), diverse.results.len()), (9, 9));
    assert!(!ids(&diverse)[1].starts_with("red"), "{:?}", ids(&diverse));
    assert!(diverse.results.iter().all(|result| result.stages.iter().any(|stage| stage.stage == "diversified")));
    let again = client.search(request).await.unwrap();
    assert_eq!(ids(&again), ids(&diverse), "the same request gives the same answer");
}

#[tokio::test]
async fn no_brand_fills_the_first_places_and_nothing_is_left_out() {
    let shoe = |n: usize| Item {
        brand: if n < 6 { "Acme".into() } else { format!("Brand {n}") },
        ..item(&format!("shoe{n}"), &format!("Running shoe{}", " with more words".repeat(n)))
    };
    let (_server, client) = shop((0..9).map(shoe).collect()).await;
    let request = |cap: i32| SearchRequest {
        diversity: (cap > 0).then(|| Diversity { cap_by: "brand".into(), cap, ..Default::default() }),
        mode: SearchMode::Lexical.into(),
        ..text_search("running shoe")
    };
    let (plain, capped) = (client.search(request(0)).await.unwrap(), client.search(request(2)).await.unwrap());
    assert_eq!(ids(&plain)[..3], ["shoe0", "shoe1", "shoe2"]);
    assert_eq!(ids(&capped), ["shoe0", "shoe1", "shoe6", "shoe7", "shoe8", "shoe2", "shoe3", "shoe4", "shoe5"]);

    let mut similar = recommend(Target::SimilarToItems(ItemList { ids: vec!["shoe8".into()] }));
    similar.page_size = 4;
    similar.diversity = Some(Diversity { cap_by: "brand".into(), cap: 1, ..Default::default() });
    let answer = client.recommend(similar).await.unwrap();
    let brands: Vec<&str> = answer.results.iter().map(|result| result.item.as_ref().unwrap().brand.as_str()).collect();
    assert_eq!(
        brands.iter().filter(|brand| **brand == "Acme").count(),
        2,
        "one, and, as none else is left, another: {brands:?}"
    );
}

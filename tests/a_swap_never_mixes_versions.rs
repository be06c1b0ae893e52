//! The rotation test. The second version of the encoder is the first one followed by a random rotation: its vectors are
//! others, the angles between them the same. So rankings are the same before, while and after a label moves between them;
//! comparing anything of one version with anything of the other destroys them.

#![cfg(test)]

mod harness;

use std::{
    collections::{BTreeSet, HashMap},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use harness::{Start, context, encoders, eventually, item, models, program, recommend, stock, text_search, upsert};
use vitrine::v1::{
    Item, ItemList, SearchMode, SearchRequest, SearchResponse, ServedBy, VectorQuery, recommend_request::Target,
    search_request::Query,
};
use vitrine_client::Client;

/// What is for sale from the beginning.
const GOODS: [&str; 48] = [
    "Whole milk",
    "Oat milk",
    "Salted butter",
    "Cheddar cheese",
    "Greek yoghurt",
    "Rye bread",
    "Sourdough loaf",
    "Blueberry muffin",
    "Dark chocolate",
    "Peppermint tea",
    "Ground coffee",
    "Orange juice",
    "Sparkling water",
    "Red wine",
    "Wheat beer",
    "Salmon fillet",
    "Chicken breast",
    "Minced beef",
    "Vegetable soup",
    "Tomato sauce",
    "Spaghetti",
    "Basmati rice",
    "Olive oil",
    "Sea salt",
    "Trail shoe",
    "Leather sandal",
    "Rain jacket",
    "Wool jumper",
    "Cotton shirt",
    "Denim trousers",
    "Bicycle helmet",
    "Tent for two",
    "Sleeping bag",
    "Climbing rope",
    "Desk lamp",
    "Office chair",
    "Book shelf",
    "Electric kettle",
    "Frying pan",
    "Bread knife",
    "Dish soap",
    "Toilet paper",
    "Tooth paste",
    "Cat food",
    "Dog leash",
    "Garden hose",
    "Cordless drill",
    "Paint brush",
];
const QUERIES: [&str; 12] = [
    "something to drink",
    "breakfast",
    "for hiking in the mountains",
    "dairy",
    "italian dinner",
    "clean the house",
    "pets",
    "furniture",
    "tools",
    "winter clothes",
    "seafood",
    "hot beverage",
];
/// Vectors are kept in half precision: scores this close may come out in either order.
const TIE: f64 = 2e-3;

/// What a query finds by meaning: every item's similarity, and as much of the ranking as these tell apart.
struct Expected {
    query: &'static str,
    similarity: HashMap<String, f64>,
    ranking: Vec<String>,
}

/// What the searchers saw.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    first: AtomicU64,
    second: AtomicU64,
    stop: AtomicBool,
}

fn search(query: &str, mode: SearchMode) -> SearchRequest {
    SearchRequest {
        mode: mode as i32,
        // Items that come meanwhile are of other brands.
        filter: "brand = \"First\"".into(),
        page_size: GOODS.len() as i32,
        ..text_search(query)
    }
}

fn ids(answer: &SearchResponse) -> Vec<String> {
    answer.results.iter().map(|result| result.item.clone().unwrap_or_default().id).collect()
}

/// What the vectors say of each result.
fn similarity(answer: &SearchResponse) -> HashMap<String, f64> {
    let scores = answer.results.iter().map(|result| result.stages.iter().find(|stage| stage.stage == "semantic"));
    ids(answer).into_iter().zip(scores).filter_map(|(id, stage)| Some((id, stage?.score))).collect()
}

fn version(served_by: &[ServedBy]) -> u32 {
    let encoders: Vec<&ServedBy> = served_by.iter().filter(|served| served.task == "text-embedding").collect();
    assert_eq!(encoders.len(), 1, "one answer, one version: {served_by:?}");
    encoders[0].version
}

async fn baseline(client: &Client) -> Vec<Expected> {
    let mut all = Vec::new();
    for query in QUERIES {
        let answer = client.search(search(query, SearchMode::Semantic)).await.unwrap();
        assert_eq!(version(&answer.served_by), 1);
        let tie = answer.results.windows(2).position(|pair| pair[0].score - pair[1].score < TIE);
        let ranking: Vec<String> = ids(&answer).into_iter().take(tie.unwrap_or(answer.results.len())).collect();
        all.push(Expected { query, similarity: similarity(&answer), ranking });
    }
    let told_apart: usize = all.iter().map(|expected| expected.ranking.len()).sum();
    assert!(told_apart > 3 * QUERIES.len(), "scores tell too little apart: {told_apart}");
    all
}

/// Searches and compares until told to stop.
async fn searcher(client: Client, expected: Arc<Vec<Expected>>, similar: Arc<Vec<String>>, seen: Arc<Seen>) {
    for turn in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        let Expected { query, similarity: known, ranking } = &expected[turn % expected.len()];
        // By words as well, ranks change with what else there is; what the vectors say does not.
        let mode = if turn % 2 == 0 { SearchMode::Semantic } else { SearchMode::Hybrid };
        let answer = client.search(search(query, mode)).await.unwrap();
        let by = version(&answer.served_by);
        if mode == SearchMode::Semantic {
            let got: Vec<String> = ids(&answer).into_iter().take(ranking.len()).collect();
            assert_eq!(&got, ranking, "{query} by version {by}");
        }
        for (id, score) in similarity(&answer) {
            let before = known.get(&id);
            assert!(before.is_none_or(|before| (before - score).abs() < TIE), "{query}, {id}: {score}, not {before:?}");
        }
        seen.answers.fetch_add(1, Ordering::Relaxed);
        if by == 1 { &seen.first } else { &seen.second }.fetch_add(1, Ordering::Relaxed);
        // Load, and no more: what runs behind the searches is to come to its end on any machine.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if turn % 8 == 0 {
            assert_eq!(similar_to_milk(&client, similar.len()).await, *similar);
        }
    }
}

/// What is recommended beside the milk: so many, which the scores tell apart.
async fn similar_to_milk(client: &Client, count: usize) -> Vec<String> {
    let mut request = recommend(Target::SimilarToItems(ItemList { ids: vec!["0".into()] }));
    request.filter = "brand = \"First\"".into();
    let answer = client.recommend(request).await.unwrap();
    answer.results.into_iter().take(count).map(|result| result.item.unwrap_or_default().id).collect()
}

/// Adds items all the while.
async fn stocker(client: Client, seen: Arc<Seen>) -> usize {
    for turn in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            return turn;
        }
        let new = |at: usize| Item {
            brand: "Later".into(),
            ..item(&format!("later-{turn}-{at}"), &format!("{} number {turn}", GOODS[(turn * 5 + at) % GOODS.len()]))
        };
        upsert(&client, (0..5).map(new).collect()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rankings_are_the_same_before_while_and_after_versions_are_swapped_under_load() {
    let start = Start::default();
    encoders::own_registry(&start.registry);
    let registry = start.registry.clone();
    let server = start.run();
    let client = server.client().await;
    let first = |(at, title): (usize, &&str)| Item { brand: "First".into(), ..item(&at.to_string(), title) };
    stock(&client, GOODS.iter().enumerate().map(first).collect()).await;
    harness::vectors_done(&client).await;
    let expected = Arc::new(baseline(&client).await);
    let similar = Arc::new(similar_to_milk(&client, 2).await);

    let folder = encoders::rotated(&registry);
    let recorded = Command::new(program("vitrine-trainer")).arg("golden").arg(folder.path()).output().unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));

    let seen = Arc::new(Seen::default());
    let searchers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(searcher(client.clone(), Arc::clone(&expected), Arc::clone(&similar), Arc::clone(&seen))))
        .collect();
    let stocker = tokio::spawn(stocker(client.clone(), Arc::clone(&seen)));
    assert_eq!(encoders::publish(&registry, folder.path()), 2);
    let by = async |text: &str| version(&client.search(search(text, SearchMode::Hybrid)).await.unwrap().served_by);
    models::set_label(&client, 1, 2).await.unwrap();
    assert_eq!(by("a first query").await, 2);
    models::roll_back(&client).await.unwrap();
    assert_eq!(by("a second query").await, 1);
    models::set_label(&client, 1, 2).await.unwrap();
    assert_eq!(by("a third query").await, 2);
    let enough = seen.second.load(Ordering::Relaxed) + 100;
    eventually("many searches after the last swap", async || {
        (seen.second.load(Ordering::Relaxed) > enough).then_some(())
    })
    .await;
    seen.stop.store(true, Ordering::Relaxed);
    for searcher in searchers {
        searcher.await.unwrap();
    }
    assert!(stocker.await.unwrap() > 5, "items came meanwhile");
    assert!(seen.first.load(Ordering::Relaxed) > 10, "version 1 answered too");

    // Would a mixing be seen? A vector of version 1 finds in version 2 what it should not.
    let vector = models::embed(&server, 1, QUERIES[2]).await;
    let by_vector = async |selector: &str| {
        let mut context = context().unwrap();
        context.model_selector = [("text-embedding".to_owned(), selector.to_owned())].into();
        let query = Query::Vector(VectorQuery { values: vector.clone() });
        let request = SearchRequest { context: Some(context), query: Some(query), ..search("", SearchMode::Semantic) };
        ids(&client.search(request).await.unwrap()).into_iter().take(5).collect::<BTreeSet<_>>()
    };
    let (right, mixed) = (by_vector("1").await, by_vector("2").await);
    assert!(right.intersection(&mixed).count() < 4, "{right:?} {mixed:?}");
}

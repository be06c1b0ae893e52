//! Shoppers who know what they want next, and tell nobody: they search, look at what is recommended, and click on what they want if they see it.
//! How good recommendations are shows in what they do, as in a real shop.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::task::JoinSet;
use vitrine::v1::{
    Event, EventItem, EventStatus, EventType, ExcludeInteracted, FeedbackRequest, ForUser, Item, Money,
    RecommendRequest, RecommendResponse, RequestContext, SearchRequest, recommend_request::Target,
    search_request::Query,
};
use vitrine_client::{Client, Error};

use super::{CATALOG, item};

/// How many visits are made at the same time.
const AT_ONCE: usize = 16;
/// How likely the item that comes next is clicked when it is seen, the one after it, and so on; and any other.
const WANTED: [f64; 3] = [0.8, 0.5, 0.3];
const UNWANTED: f64 = 0.01;
/// How likely the first place of a list is looked at; place n is so many times n to the power of -[`PATIENCE`].
const LOOKED_AT: f64 = 0.98;
const PATIENCE: f64 = 0.4;

/// What is sold, and what follows what: a circle that only shoppers know.
#[derive(Clone)]
pub struct Goods {
    /// What comes after each item.
    next: Vec<usize>,
}

/// Somebody with a history.
struct Shopper {
    id: String,
    /// What they met last.
    at: usize,
    visits: u32,
    random: StdRng,
}

/// All shoppers, and what they want.
pub struct Shoppers {
    goods: Arc<Goods>,
    shoppers: Vec<Shopper>,
}

/// What came of visits.
#[derive(Clone, Debug, Default)]
pub struct Visits {
    /// Answers to `for_user`.
    pub answers: usize,
    /// Those of which something was clicked.
    pub clicked: usize,
    /// By experiment and arm.
    pub arms: BTreeMap<(String, String), Seen>,
    /// Calls that failed, and events that were not recorded.
    pub failures: Vec<String>,
    /// Calls.
    pub requests: usize,
}

/// What came of the answers of one arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    pub shoppers: BTreeSet<String>,
    pub answers: usize,
    pub clicked: usize,
}

impl Goods {
    /// So many items in a secret order.
    pub fn new(items: usize, seed: u64) -> Self {
        let mut circle: Vec<usize> = (0..items).collect();
        circle.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut next = vec![0; items];
        for (place, &item) in circle.iter().enumerate() {
            next[item] = circle[(place + 1) % items];
        }
        Self { next }
    }

    /// For the catalog.
    pub fn items(&self) -> Vec<Item> {
        (0..self.next.len()).map(|number| item(&id(number), &title(number))).collect()
    }

    /// What so many people met, one after the other, as a trainer reads it.
    pub fn histories(&self, people: usize, length: usize, seed: u64) -> String {
        let mut random = StdRng::seed_from_u64(seed);
        let mut lines = "user_id:token\titem_id:token\ttimestamp:float\n".to_owned();
        for person in 0..people {
            let mut at = random.random_range(0..self.next.len());
            for time in 0..length {
                writeln!(lines, "u{person}\t{}\t{time}", id(at)).unwrap();
                at = self.next[at];
            }
        }
        lines
    }

    /// How likely a shopper who met `at` last clicks on an item.
    fn affinity(&self, at: usize, number: usize) -> f64 {
        let mut next = at;
        for wanted in WANTED {
            next = self.next[next];
            if next == number {
                return wanted;
            }
        }
        UNWANTED
    }
}

impl Shoppers {
    /// So many, who have met nothing yet.
    pub fn new(goods: &Goods, shoppers: usize, seed: u64) -> Self {
        let shopper = |number: usize| {
            let mut random = StdRng::seed_from_u64(seed ^ (number as u64) << 20);
            let at = random.random_range(0..goods.next.len());
            Shopper { id: format!("shopper-{number}"), at, visits: 0, random }
        };
        Self { goods: Arc::new(goods.clone()), shoppers: (0..shoppers).map(shopper).collect() }
    }

    pub fn len(&self) -> usize {
        self.shoppers.len()
    }

    /// Each of them comes once, many at the same time.
    pub async fn visit(&mut self, client: &Client) -> Visits {
        let waiting = Arc::new(std::sync::Mutex::new(std::mem::take(&mut self.shoppers)));
        let requests = Arc::new(AtomicUsize::new(0));
        let mut crowd = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, goods) = (client.clone(), Arc::clone(&self.goods));
            let (waiting, requests) = (Arc::clone(&waiting), Arc::clone(&requests));
            crowd.spawn(async move {
                let (mut visits, mut gone) = (Visits::default(), Vec::new());
                loop {
                    let Some(mut shopper) = waiting.lock().unwrap().pop() else { break };
                    if let Err(error) = shopper.visit(&client, &goods, &mut visits, &requests).await {
                        visits.failures.push(error.to_string());
                    }
                    gone.push(shopper);
                }
                (visits, gone)
            });
        }
        let mut all = Visits::default();
        while let Some(ended) = crowd.join_next().await {
            let (visits, gone) = ended.unwrap();
            all.add(visits);
            self.shoppers.extend(gone);
        }
        all.requests = requests.load(Ordering::Relaxed);
        all
    }
}

impl Shopper {
    /// Looks for something, looks at what is recommended, and says what it did.
    async fn visit(
        &mut self,
        client: &Client,
        goods: &Goods,
        visits: &mut Visits,
        requests: &AtomicUsize,
    ) -> Result<(), Error> {
        self.visits += 1;
        let mut events = Vec::new();
        if self.visits == 1 || self.random.random_bool(0.5) {
            requests.fetch_add(1, Ordering::Relaxed);
            self.search(client, goods, &mut events).await?;
        }
        if !events.is_empty() {
            requests.fetch_add(1, Ordering::Relaxed);
            self.tell(client, std::mem::take(&mut events), visits).await?;
        }
        requests.fetch_add(2, Ordering::Relaxed);
        let answer = client.recommend(self.for_user()).await?;
        self.look(goods, &answer, &mut events, visits);
        self.tell(client, events, visits).await
    }

    fn context(&self) -> Option<RequestContext> {
        Some(RequestContext { catalog: CATALOG.into(), user_id: self.id.clone(), ..Default::default() })
    }

    fn for_user(&self) -> RecommendRequest {
        RecommendRequest {
            context: self.context(),
            target: Some(Target::ForUser(ForUser {})),
            exclude_interacted: Some(ExcludeInteracted::default()),
            ..Default::default()
        }
    }

    /// Looks for what comes next, by its name: nobody has to recommend it.
    async fn search(&mut self, client: &Client, goods: &Goods, events: &mut Vec<Event>) -> Result<(), Error> {
        let ahead = self.random.random_range(0..10) / 7 + 1;
        let wanted = (0..ahead).fold(self.at, |at, _| goods.next[at]);
        let request =
            SearchRequest { context: self.context(), query: Some(Query::Text(title(wanted))), ..Default::default() };
        let answer = client.search(request).await?;
        let ids = answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str());
        if let Some(place) = ids.into_iter().position(|found| found == id(wanted)) {
            events.push(self.event(events.len(), EventType::Click, wanted, &answer.attribution_token, place));
            self.at = wanted;
        }
        Ok(())
    }

    /// Looks at a list from the top, and clicks on what it wants.
    fn look(&mut self, goods: &Goods, answer: &RecommendResponse, events: &mut Vec<Event>, visits: &mut Visits) {
        let token = &answer.attribution_token;
        let shown = answer.results.iter().filter_map(|result| number(&result.item.as_ref()?.id));
        let shown: Vec<usize> = shown.collect();
        let mut clicked = None;
        for (place, &item) in shown.iter().enumerate() {
            let looks = LOOKED_AT * (place as f64 + 1.0).powf(-PATIENCE);
            if self.random.random_bool(looks) && self.random.random_bool(goods.affinity(self.at, item)) {
                clicked = Some((place, item));
                break;
            }
        }
        let seen = usize::from(clicked.is_some());
        for arm in &answer.experiments {
            let of_arm = visits.arms.entry((arm.experiment.clone(), arm.arm.clone())).or_default();
            of_arm.add(Seen { shoppers: [self.id.clone()].into(), answers: 1, clicked: seen });
        }
        visits.answers += 1;
        visits.clicked += seen;
        let Some((place, item)) = clicked else { return };
        events.push(self.event(events.len(), EventType::Click, item, token, place));
        if self.random.random_bool(0.3) {
            events.push(self.event(events.len(), EventType::AddToCart, item, token, place));
            if self.random.random_bool(0.5) {
                let bought = self.event(events.len(), EventType::Purchase, item, token, place);
                let value = Some(Money { amount: "9.90".into(), currency: "EUR".into() });
                events.push(Event { value, order_id: format!("{}-{}", self.id, self.visits), ..bought });
            }
        }
        self.at = item;
    }

    fn event(&self, number: usize, kind: EventType, item: usize, token: &str, place: usize) -> Event {
        Event {
            event_id: format!("{}-{}-{number}-{item}", self.id, self.visits),
            r#type: kind as i32,
            time: Some(SystemTime::now().into()),
            user_id: self.id.clone(),
            session_id: format!("{}-{}", self.id, self.visits),
            items: vec![EventItem { id: id(item), ..Default::default() }],
            attribution_token: token.to_owned(),
            position: place as u32 + 1,
            ..Default::default()
        }
    }

    async fn tell(&self, client: &Client, events: Vec<Event>, visits: &mut Visits) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let answer = client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await?;
        let refused = answer.results.iter().filter(|result| result.status() != EventStatus::Accepted);
        visits.failures.extend(refused.map(|result| format!("{result:?}")));
        Ok(())
    }
}

impl Visits {
    /// The share of answers of which something was clicked.
    pub fn ctr(&self) -> f64 {
        self.clicked as f64 / self.answers.max(1) as f64
    }

    /// Adds what came of others.
    pub fn add(&mut self, others: Self) {
        self.answers += others.answers;
        self.clicked += others.clicked;
        self.requests += others.requests;
        self.failures.extend(others.failures);
        for (arm, seen) in others.arms {
            self.arms.entry(arm).or_default().add(seen);
        }
    }
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.shoppers.extend(other.shoppers);
        self.answers += other.answers;
        self.clicked += other.clicked;
    }
}

/// A version that takes every `nth` item for another: its figures are as good as ever, and these answers wrong.
pub fn shuffled(version: &Path, broken: &Path, nth: usize) {
    fs::create_dir(broken).unwrap();
    for file in ["config.json", "model.safetensors", "golden.safetensors"] {
        fs::copy(version.join(file), broken.join(file)).unwrap();
    }
    let mut items: Vec<String> = serde_json::from_slice(&fs::read(version.join("items.json")).unwrap()).unwrap();
    let places: Vec<usize> = (0..items.len()).step_by(nth).collect();
    let mut others: Vec<String> = places.iter().map(|place| items[*place].clone()).collect();
    let half = others.len() / 2;
    others.rotate_left(half);
    for (place, other) in places.into_iter().zip(others) {
        items[place] = other;
    }
    fs::write(broken.join("items.json"), serde_json::to_vec(&items).unwrap()).unwrap();
}

fn id(number: usize) -> String {
    format!("i{number:03}")
}

/// Words that are no other item's.
fn title(number: usize) -> String {
    format!("Thing{number:03}")
}

fn number(id: &str) -> Option<usize> {
    id.strip_prefix('i')?.parse().ok()
}

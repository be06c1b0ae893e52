//! The soak: versions are published, good ones and bad ones, labels move and go back, items are written, all at random and
//! at once; and every answer comes from a version that the label answered with at some time between question and answer.
//!
//! For a few seconds with every run of the tests; `cargo ci --soak` goes on for `VITRINE_SOAK_SECONDS`, 300 if that is not
//! set. `VITRINE_SOAK_SEED` repeats a run's choices.

#![cfg(test)]

mod harness;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{Start, TestServer, encoders, item, models::MODEL, recommend, refused, stock, text_search, upsert};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vitrine::v1::{
    ItemList, RequestContext, RollbackRequest, SearchRequest, ServedBy, SetLabelRequest, recommend_request::Target,
};
use vitrine_client::{Client, Code};

const WORDS: [&str; 8] = ["milk", "oat", "bread", "shoe", "red", "lamp", "desk", "butter"];
/// Versions that are kept on disk beside those in use; more are removed.
const KEEP: u32 = 6;

/// Which versions may answer, from when on.
struct History(Mutex<Vec<(Instant, BTreeSet<u32>)>>);

impl History {
    fn new(version: u32) -> Self {
        Self(Mutex::new(vec![(Instant::now(), [version].into())]))
    }

    fn note(&self, versions: impl Into<BTreeSet<u32>>) {
        self.0.lock().unwrap().push((Instant::now(), versions.into()));
    }

    /// What might answer a question asked at `sent` and answered now.
    fn allowed(&self, sent: Instant) -> BTreeSet<u32> {
        let history = self.0.lock().unwrap();
        let since = history.iter().rposition(|(from, _)| *from <= sent).unwrap_or(0);
        history[since..].iter().flat_map(|(_, versions)| versions).copied().collect()
    }
}

/// What all tasks share.
struct Soak {
    client: Client,
    history: History,
    stop: AtomicBool,
    answers: AtomicU64,
    writes: AtomicU64,
}

impl Soak {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Holds an answer against the history.
    fn check(&self, sent: Instant, served_by: &[ServedBy]) {
        let version = served_by.iter().find(|served| served.task == "text-embedding").map(|served| served.version);
        let allowed = self.history.allowed(sent);
        assert!(version.is_some_and(|version| allowed.contains(&version)), "{served_by:?}, not one of {allowed:?}");
        self.answers.fetch_add(1, Ordering::Relaxed);
    }
}

async fn search(soak: Arc<Soak>, mut random: StdRng) {
    while soak.goes_on() {
        let words: Vec<&str> = (0..random.random_range(1..4)).map(|_| WORDS[random.random_range(0..8)]).collect();
        let sent = Instant::now();
        if random.random_bool(0.2) {
            let target = Target::SimilarToItems(ItemList { ids: vec![random.random_range(0..20).to_string()] });
            let answer = soak.client.recommend(recommend(target)).await.unwrap();
            soak.check(sent, &answer.served_by);
        } else {
            let answer = soak.client.search(text_search(&words.join(" "))).await.unwrap();
            soak.check(sent, &answer.served_by);
        }
        if random.random_bool(0.05) {
            select(&soak.client, random.random_range(1..40)).await;
        }
    }
}

/// A version that is asked for by number answers itself, or is said not to be loaded. One that is just loaded has no vectors:
/// then the answer is by words, and says so.
async fn select(client: &Client, version: u32) {
    let selector = [("text-embedding".to_owned(), version.to_string())].into();
    let context = RequestContext { model_selector: selector, ..harness::context().unwrap() };
    match client.search(SearchRequest { context: Some(context), ..text_search("milk") }).await {
        Ok(answer) if answer.served_by.is_empty() => assert!(!answer.degraded.is_empty()),
        Ok(answer) => assert_eq!(answer.served_by[0].version, version),
        Err(error) => assert_eq!(error.code(), Code::NotFound, "{error}"),
    }
}

async fn write(soak: Arc<Soak>, mut random: StdRng) {
    while soak.goes_on() {
        let id = random.random_range(0..200);
        let title = format!("{} {}", WORDS[random.random_range(0..8)], WORDS[random.random_range(0..8)]);
        upsert(&soak.client, vec![item(&id.to_string(), &title)]).await;
        soak.writes.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(random.random_range(5..50))).await;
    }
}

/// The one who publishes and moves the label, and knows what should come of it.
struct Operator {
    soak: Arc<Soak>,
    registry: PathBuf,
    random: StdRng,
    good: BTreeSet<u32>,
    bad: BTreeSet<u32>,
    now: u32,
    previous: Option<u32>,
    moves: usize,
    refusals: usize,
}

impl Operator {
    async fn work(&mut self) {
        while self.soak.goes_on() {
            match self.random.random_range(0..10) {
                0..3 => self.publish_good(),
                3 => self.publish_bad(),
                4..8 => self.move_label().await,
                8 => self.roll_back().await,
                _ => self.clean_up(),
            }
        }
    }

    fn publish_good(&mut self) {
        let folder = encoders::tiny(self.random.random());
        self.good.insert(encoders::publish(&self.registry, folder.path()));
    }

    /// Something that can be published, and never be used.
    fn publish_bad(&mut self) {
        let folder = encoders::tiny(self.random.random());
        let kind = self.random.random_range(0..4);
        match kind {
            0 => encoders::write_golden(folder.path(), &[0.5; encoders::TINY_WIDTH]),
            1 => change(&folder.path().join("config.json"), "\"hidden_size\":8", "\"hidden_size\":16"),
            2 => change(&folder.path().join("config.json"), "\"vocab_size\":12", "\"vocab_size\":13"),
            _ => {}
        }
        let version = encoders::publish(&self.registry, folder.path());
        if kind == 3 {
            let weights = encoders::version_folder(&self.registry, version).join("model.safetensors");
            let whole = fs::read(&weights).unwrap();
            fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
        }
        self.bad.insert(version);
    }

    async fn move_label(&mut self) {
        let all: Vec<u32> = self.good.union(&self.bad).copied().filter(|version| *version != self.now).collect();
        if all.is_empty() {
            return;
        }
        let version = all[self.random.random_range(0..all.len())];
        let (name, label) = (MODEL.to_owned(), "stable".to_owned());
        let request = SetLabelRequest { name, label, version, expected_version: self.now, unload_first: false };
        if self.bad.contains(&version) {
            let error = refused(self.soak.client.set_label(request).await);
            assert_eq!(error.code, Code::FailedPrecondition, "{error}");
            self.refusals += 1;
            return;
        }
        self.soak.history.note([self.now, version]);
        self.soak.client.set_label(request).await.unwrap();
        self.moved(version);
    }

    async fn roll_back(&mut self) {
        let request = RollbackRequest { name: MODEL.into(), label: "stable".into() };
        let Some(previous) = self.previous else {
            assert_eq!(refused(self.soak.client.rollback(request).await).code, Code::FailedPrecondition);
            return;
        };
        self.soak.history.note([self.now, previous]);
        self.soak.client.rollback(request).await.unwrap();
        self.moved(previous);
    }

    /// Only this version may answer from now on.
    fn moved(&mut self, version: u32) {
        self.soak.history.note([version]);
        self.previous = Some(self.now);
        self.now = version;
        self.moves += 1;
    }

    /// Removes old versions, as a cron job would.
    fn clean_up(&mut self) {
        let output = encoders::registry_command(&self.registry, &["gc", "minilm", "--keep-newest", &KEEP.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let is_there = |version: &u32| encoders::version_folder(&self.registry, *version).is_dir();
        self.good.retain(is_there);
        self.bad.retain(is_there);
        assert!(self.good.contains(&self.now), "the label's version was removed");
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Resident memory in mebibytes.
fn memory(server: &TestServer) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn run(time: Duration) {
    let seed = env::var("VITRINE_SOAK_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("VITRINE_SOAK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let start = Start::default().set("text_encoder.keep_previous=1s");
    let registry = start.registry.clone();
    let first = encoders::tiny(random.random());
    assert_eq!(encoders::publish(&registry, first.path()), 1);
    encoders::label(&registry, 1);
    let server = start.run();
    let client = server.client().await.with_timeout(Duration::from_mins(1));
    stock(&client, (0..20).map(|id: usize| item(&id.to_string(), WORDS[id % 8])).collect()).await;
    harness::vectors_done(&client).await;

    let (stop, answers, writes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let soak = Arc::new(Soak { client, history: History::new(1), stop, answers, writes });
    let mut tasks: Vec<_> =
        (0..3).map(|_| tokio::spawn(search(Arc::clone(&soak), StdRng::from_rng(&mut random)))).collect();
    tasks.push(tokio::spawn(write(Arc::clone(&soak), StdRng::from_rng(&mut random))));
    let mut operator = Operator {
        soak: Arc::clone(&soak),
        registry,
        random,
        good: [1].into(),
        bad: BTreeSet::new(),
        now: 1,
        previous: None,
        moves: 0,
        refusals: 0,
    };
    let ending = Arc::clone(&soak);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        ending.stop.store(true, Ordering::Relaxed);
    });
    let before = memory(&server);
    operator.work().await;
    for task in tasks {
        task.await.unwrap();
    }
    let (answers, writes) = (soak.answers.load(Ordering::Relaxed), soak.writes.load(Ordering::Relaxed));
    let Operator { moves, refusals, good, bad, .. } = operator;
    println!(
        "{answers} answers, {writes} items written, {moves} moves, {refusals} refused; versions up to {:?}; {before} to {} MiB",
        good.union(&bad).max(),
        memory(&server)
    );
    assert!(moves > 0 && answers > 0 && writes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_by_a_version_that_the_label_answered_with() {
    run(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo ci --soak` runs it"]
async fn the_same_for_minutes() {
    let seconds = env::var("VITRINE_SOAK_SECONDS").map_or(300, |seconds| seconds.parse().unwrap());
    run(Duration::from_secs(seconds)).await;
}

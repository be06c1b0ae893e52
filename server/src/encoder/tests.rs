//! Encoders over a real registry directory, with models that the test lets load and run: what answers, and texts.
//! `versions`: how versions come and go.

mod versions;

use std::{
    fs,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tempfile::TempDir;
use vitrine::v1::VersionState;
use vitrine_registry::{Label, ModelName, PublishRequest, Registry, Version, VersionDir};

use super::{load::Tokenize, loaded::EncoderParts, *};
use crate::{
    batch::{Batcher, DeviceOptions, Row, RowCost, RunError, Runner},
    model::{Load, Loaded as _, Managed as _, ModelOptions, NotLoaded, Ready, Refused, Warming, Wish},
    registry_source::RegistrySource,
};

const LONG: Duration = Duration::from_mins(1);

/// What the made-up models do, watched and held up by the test.
#[derive(Clone, Default)]
struct Stage {
    /// Rows of every batch that ran.
    batches: Arc<Mutex<Vec<Vec<Row>>>>,
    /// When set: a run says that it began, and then waits to be let go.
    runs: Arc<Mutex<Option<Gate>>>,
    /// The same for loading.
    loads: Arc<Mutex<Option<Gate>>>,
    /// Every version that was begun to load.
    loaded: Arc<Mutex<Vec<u32>>>,
}

struct Gate {
    began: mpsc::Sender<()>,
    go: mpsc::Receiver<()>,
}

struct Keeper {
    began: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

fn gate() -> (Gate, Keeper) {
    let (began, began_here) = mpsc::channel();
    let (go_here, go) = mpsc::channel();
    (Gate { began, go }, Keeper { began: began_here, go: go_here })
}

fn pass(gate: &Mutex<Option<Gate>>) {
    if let Some(gate) = &*gate.lock() {
        gate.began.send(()).unwrap();
        gate.go.recv().unwrap();
    }
}

/// A row of the text's bytes; `?` cannot be tokenised.
struct Bytes;

impl Tokenize for Bytes {
    fn row(&self, text: &str) -> Result<Row, String> {
        if text == "?" { Err("no token for `?`".to_owned()) } else { Ok(text.bytes().map(u32::from).collect()) }
    }
}

/// A text's vector is the version, and the text's length.
struct Fake {
    version: u32,
    stage: Stage,
}

impl Runner for Fake {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        pass(&self.stage.runs);
        self.stage.batches.lock().push(rows.iter().map(|row| row.to_vec()).collect());
        Ok(rows.iter().map(|row| vec![self.version as f32, row.len() as f32]).collect())
    }
}

/// Loads what `config.json` says: `ok`, `bad`, or `panic`.
impl Load<Encoder> for Stage {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Encoder>, String> {
        self.loaded.lock().push(version.version.get());
        pass(&self.loads);
        warming()?;
        match fs::read_to_string(version.path.join("config.json")).unwrap().as_str() {
            "ok" => {}
            "bad" => return Err("golden row 3 differs".to_owned()),
            other => panic!("{other}"),
        }
        let parts = EncoderParts { dimensions: 2, tokenize: Arc::new(Bytes), query_cache_bytes: 1 << 20 };
        Ok(Ready {
            runner: Box::new(Fake { version: version.version.get(), stage: self.clone() }),
            max_tokens: 64,
            cost: RowCost::from_fn(64, |_| Duration::from_micros(10)),
            published: version.manifest.created.to_string(),
            open: Box::new(|opened| Encoder::new(opened, parts)),
        })
    }
}

struct Bench {
    dir: TempDir,
    stage: Stage,
    model: ModelName,
    label: Label,
}

impl Bench {
    fn new() -> Self {
        let (model, label) = ("minilm".parse().unwrap(), "stable".parse().unwrap());
        Self { dir: tempfile::tempdir().unwrap(), stage: Stage::default(), model, label }
    }

    fn registry(&self) -> Registry {
        Registry::create(self.dir.path().join("registry")).unwrap()
    }

    fn publish(&self, config: &str) -> Version {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("config.json"), config).unwrap();
        let request = PublishRequest::from_folder(&self.model, "bert", TEXT_EMBEDDING, files.path()).unwrap();
        self.registry().publish(&request).unwrap().version
    }

    fn point_at(&self, version: Version) {
        let registry = self.registry();
        let now = registry.labels(&self.model).unwrap().get(&self.label);
        registry.set_label(&self.model, &self.label, version, now).unwrap();
    }

    fn options(&self) -> ModelOptions {
        ModelOptions {
            registry: RegistrySource::Folder(self.dir.path().join("registry")),
            registry_retry: Duration::from_millis(5),
            keep_previous: Duration::ZERO,
            state_file: Some(self.dir.path().join("labels.json")),
            ..ModelOptions::default()
        }
    }

    /// A server whose vectors are there at once.
    fn start(&self, options: ModelOptions) -> Arc<Encoders> {
        let encoders = self.start_slow(options);
        let (indexed, mut transitions) = (Arc::downgrade(&encoders), encoders.transitions());
        tokio::spawn(async move {
            while let Ok(transition) = transitions.recv().await {
                if transition.now.state == VersionState::Indexing
                    && let Some(encoders) = indexed.upgrade()
                {
                    encoders.indexed(transition.now.version, Ok(()));
                }
            }
        });
        encoders
    }

    /// A server whose vectors the test makes.
    fn start_slow(&self, options: ModelOptions) -> Arc<Encoders> {
        let device = Arc::new(Batcher::start("cpu", DeviceOptions::default()).unwrap());
        Arc::new(Encoders::start(options, Box::new(self.stage.clone()), device).unwrap())
    }

    /// A server on which version 1 answers.
    async fn ready(&self, options: ModelOptions) -> Arc<Encoders> {
        self.point_at(self.publish("ok"));
        let encoders = self.start(options);
        encoders.answers(1).await;
        encoders
    }
}

impl Encoders {
    /// Resolves when the version answers by default.
    async fn answers(&self, version: u32) {
        while self.answering() != Some(version) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn reaches(&self, version: u32, state: VersionState) {
        self.states.until(|inner| inner.state(version) == Some(state)).await;
    }

    fn failure(&self, version: u32) -> String {
        self.states().into_iter().find(|state| state.version == version).unwrap().failure
    }

    fn answering(&self) -> Option<u32> {
        self.resolve(None).ok().map(|encoder| encoder.opened().version)
    }
}

#[tokio::test]
async fn the_version_that_the_label_names_answers() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let requests = || encoders.states()[0].requests.get();
    let before = requests();
    let encoder = encoders.resolve(None).unwrap();
    assert_eq!((encoder.dimensions(), encoder.opened().version, encoder.served_by().label.as_str()), (2, 1, "stable"));
    assert_eq!(encoder.embed_query("milk", None).await.as_deref(), Ok(&[1.0, 4.0][..]));
    assert_eq!(encoder.served_by().task, "text-embedding");
    assert_eq!(encoders.resolve(Some("stable")).unwrap().opened().version, 1);
    assert_eq!(encoders.resolve(Some("1")).unwrap().opened().version, 1);
    for other in ["canary", "2", "-1", ""] {
        let Err(NotLoaded(detail)) = encoders.resolve(Some(other)) else { panic!("{other}") };
        assert!(detail.contains("versions 1,") && detail.contains("[stable]"), "{detail}");
    }
    assert_eq!(requests() - before, 3, "only those that got it count");
}

#[tokio::test]
async fn without_a_registry_the_reason_is_given_and_one_that_appears_is_followed() {
    let bench = Bench::new();
    let encoders = bench.start(bench.options());
    encoders.states.until(|inner| !inner.problem().is_empty()).await;
    let Err(NotLoaded(detail)) = encoders.resolve(None) else { panic!("nothing can be loaded") };
    assert!(detail.contains("does not exist"), "{detail}");
    let version = bench.publish("ok");
    encoders.states.until(|inner| inner.problem().contains("stable")).await;
    bench.point_at(version);
    encoders.answers(1).await;
    assert_eq!((encoders.answering(), encoders.problem()), (Some(1), None));
}

#[tokio::test]
async fn equal_queries_are_run_once() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let encoder = encoders.resolve(None).unwrap();
    let (one, two) = tokio::join!(encoder.embed_query("milk", None), encoder.embed_query("milk", None));
    assert_eq!(one, two);
    assert_eq!(encoder.embed_query("milk", Some(Instant::now())).await, one, "kept from before");
    assert_eq!(bench.stage.batches.lock().len(), 1);
}

#[tokio::test]
async fn errors_are_not_kept_and_a_short_deadline_does_not_fail_who_has_more_time() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let encoder = encoders.resolve(None).unwrap();
    let (gate, keeper) = gate();
    *bench.stage.runs.lock() = Some(gate);
    let hurried = {
        let encoder = encoder.clone();
        tokio::spawn(async move { encoder.embed_query("milk", Some(Instant::now() + Duration::from_millis(20))).await })
    };
    tokio::task::yield_now().await;
    let patient = tokio::spawn(async move { encoder.embed_query("milk", None).await });
    assert_eq!(hurried.await.unwrap(), Err(EncoderError::DeadlineExceeded));
    for _ in 0..2 {
        keeper.go.send(()).unwrap();
    }
    assert_eq!(patient.await.unwrap().as_deref(), Ok(&[1.0, 4.0][..]));
}

#[tokio::test]
async fn a_text_that_cannot_be_tokenised_fails_alone() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let encoder = encoders.resolve(None).unwrap();
    let failed = encoder.embed_query("?", None).await;
    assert_eq!(failed, Err(EncoderError::Failed { detail: "no token for `?`".to_owned() }));
    assert!(encoder.embed_query("milk", None).await.is_ok());
}

#[tokio::test]
async fn bulk_waits_for_room_and_keeps_the_order() {
    let bench = Bench::new();
    let encoders = bench.ready(ModelOptions { max_queue_rows: 2, ..bench.options() }).await;
    let encoder = encoders.resolve(None).unwrap();
    let texts: Vec<String> = (1..=20).map(|length| "x".repeat(length)).collect();
    let wanted: Vec<Vec<f32>> = (1..=20).map(|length| vec![1.0, length as f32]).collect();
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let (encoder, texts) = (encoder.clone(), texts.clone());
            tokio::spawn(async move { encoder.embed_bulk(texts).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().as_ref(), Ok(&wanted));
    }
    assert_eq!(encoder.embed_bulk(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn shutdown_unloads_everything() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    encoders.stop();
    encoders.reaches(1, VersionState::Ended).await;
    assert_eq!(encoders.answering(), None);
}

#[test]
fn names_that_are_none_are_refused_at_the_start() {
    let device = Arc::new(Batcher::start("cpu", DeviceOptions::default()).unwrap());
    let refused = |options| {
        let started = Encoders::start(options, Box::new(Stage::default()), Arc::clone(&device));
        started.err().unwrap().to_string()
    };
    let model = ModelOptions { model: "../etc".to_owned(), ..ModelOptions::default() };
    assert!(refused(model).contains("model"));
    let label = ModelOptions { label: String::new(), ..ModelOptions::default() };
    assert!(refused(label).contains("label"));
}

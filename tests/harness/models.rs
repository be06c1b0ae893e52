//! Watching and moving the versions of `minilm` on a server.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::Status;
use vitrine::{
    inference::{
        InferTensorContents, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
    },
    v1::{
        DegradedReason, GetModelRequest, GetModelVersionRequest, Model, ModelVersion, RollbackRequest, SearchResponse,
        SetLabelRequest, VersionState, WatchVersionsRequest, WatchVersionsResponse,
    },
};
use vitrine_client::{Answers, Client, Error};

use super::{Start, TestServer, encoders, eventually, item, stock, text_search};

pub const MODEL: &str = "models/minilm";
/// Longer than anything takes: for calls whose end is awaited whenever it comes.
pub const PATIENCE: Duration = Duration::from_mins(4);
/// So long that no server expects to be late, however slow it has found itself.
pub const NO_HURRY: Duration = Duration::from_hours(20);

/// A server with a tiny encoder as version 1 that answers, and two items.
pub async fn served(start: Start) -> (TestServer, Client) {
    let version = encoders::publish(&start.registry, encoders::tiny(1).path());
    encoders::label(&start.registry, version);
    let server = start.run();
    let client = server.client().await;
    stock(&client, vec![item("milk", "Whole milk"), item("bread", "Rye bread")]).await;
    answers(&client, version).await;
    eventually("the items have their vectors", async || {
        client.search(text_search("milk")).await.unwrap().degraded.is_empty().then_some(())
    })
    .await;
    (server, client)
}

pub async fn model(client: &Client) -> Model {
    client.get_model(GetModelRequest { name: MODEL.into() }).await.unwrap()
}

pub fn version_name(version: u32) -> String {
    format!("{MODEL}/versions/{version}")
}

pub async fn version(client: &Client, version: u32) -> ModelVersion {
    client.get_model_version(GetModelVersionRequest { name: version_name(version) }).await.unwrap()
}

/// Moves `stable`, and waits for it.
pub async fn set_label(client: &Client, from: u32, to: u32) -> Result<Model, Error> {
    let request = SetLabelRequest {
        name: MODEL.into(),
        label: "stable".into(),
        version: to,
        expected_version: from,
        ..Default::default()
    };
    client.with_timeout(PATIENCE).set_label(request).await
}

/// Moves `stable` back, and waits for it.
pub async fn roll_back(client: &Client) -> Result<Model, Error> {
    let request = RollbackRequest { name: MODEL.into(), label: "stable".into() };
    client.with_timeout(PATIENCE).rollback(request).await
}

/// The version that an answer names; none if only words answered.
pub fn served_by(answer: &SearchResponse) -> Option<u32> {
    answer.served_by.first().map(|served| served.version)
}

/// Searches until a version answers, and answers with it.
pub async fn first_answer(client: &Client) -> u32 {
    eventually("a version answers", async || version_of_a_search(client).await).await
}

/// Searches until this version answers.
pub async fn answers(client: &Client, version: u32) {
    let what = format!("version {version} answers");
    eventually(&what, async || (version_of_a_search(client).await == Some(version)).then_some(())).await;
}

async fn version_of_a_search(client: &Client) -> Option<u32> {
    let answer = client.search(text_search("milk")).await.unwrap();
    if served_by(&answer).is_none() {
        // Shown by the test runner when the scenario fails.
        eprintln!("by words only: {:?}", answer.degraded);
    }
    served_by(&answer)
}

/// Searches that go on until they are stopped. Everyone is answered by a version.
pub struct Searching {
    stop: Arc<AtomicBool>,
    searches: JoinHandle<BTreeMap<u32, usize>>,
}

impl Searching {
    pub fn begin(client: &Client) -> Self {
        let (client, stop) = (client.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let searches = tokio::spawn(async move {
            let mut counts = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.search(text_search("milk")).await.unwrap();
                assert!(answer.degraded.iter().all(|why| why.reason() != DegradedReason::EncoderUnavailable));
                *counts.entry(served_by(&answer).expect("a version answers")).or_default() += 1;
            }
            counts
        });
        Self { stop, searches }
    }

    /// Ends them, and says how many each version answered.
    pub async fn end(self) -> BTreeMap<u32, usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.searches.await.unwrap()
    }
}

/// What the server tells of versions as it happens.
pub struct Watching(Answers<WatchVersionsResponse>);

/// Begins to watch: everything that happens after this is told.
pub async fn watch(client: &Client) -> Watching {
    Watching(client.watch_versions(WatchVersionsRequest { name: MODEL.into() }).await.unwrap())
}

impl Watching {
    /// Waits until the server tells of this version in this state.
    pub async fn until(&mut self, version: u32, state: VersionState) -> ModelVersion {
        let told = async {
            loop {
                let told = self.0.next().await.expect("the server watches for ever").unwrap();
                let told = told.version.unwrap();
                if told.version == version && told.state() == state {
                    return told;
                }
            }
        };
        let told = tokio::time::timeout(PATIENCE, told).await;
        told.unwrap_or_else(|_| panic!("version {version} never became {state:?}"))
    }

    /// The last state that was told of each version, once the server has ended.
    pub async fn last(mut self) -> BTreeMap<u32, VersionState> {
        let mut last = BTreeMap::new();
        while let Some(Ok(told)) = self.0.next().await {
            let told = told.version.unwrap();
            last.insert(told.version, told.state());
        }
        last
    }
}

/// Vectors of texts by the Open Inference Protocol: by a version, or the one that answers (0).
pub fn infer(
    server: &TestServer,
    version: u32,
    texts: Vec<String>,
) -> impl Future<Output = Result<ModelInferResponse, Status>> + use<> {
    infer_at(server.url(), version, texts)
}

async fn infer_at(url: String, version: u32, texts: Vec<String>) -> Result<ModelInferResponse, Status> {
    let mut client = GrpcInferenceServiceClient::connect(url).await.unwrap();
    let input = InferInputTensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: vec![texts.len() as i64],
        contents: Some(InferTensorContents {
            bytes_contents: texts.into_iter().map(Into::into).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let model_version = if version == 0 { String::new() } else { version.to_string() };
    let request =
        ModelInferRequest { model_name: "minilm".into(), model_version, inputs: vec![input], ..Default::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(NO_HURRY);
    Ok(client.model_infer(request).await?.into_inner())
}

/// The vector of one text.
pub async fn embed(server: &TestServer, version: u32, text: &str) -> Vec<f32> {
    let answer = infer(server, version, vec![text.into()]).await.unwrap();
    let raw = &answer.raw_output_contents[0];
    raw.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

//! A fake server: enough of the services, in memory, to try the client against; with scripted failures.

// Each test file uses its own part of it.
#![allow(dead_code, unused_imports, unused_macros)]

mod catalog;
pub mod experiment;
mod model;
mod storefront;
pub mod terminal;
pub mod web;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    sync::mpsc,
    task::AbortHandle,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Request, Status,
    transport::{
        Channel, Endpoint, Server,
        server::{Router, TcpIncoming},
    },
};
use tonic_types::{ErrorDetails, StatusExt as _};
use vitrine::v1::{
    Control, Event, Experiment, ExperimentReport, ExportExposuresRequest, Exposure, Item, RecommendRequest,
    ReportExperimentRequest, SearchRequest, catalog_service_server::CatalogServiceServer,
    experiment_service_server::ExperimentServiceServer, model_service_server::ModelServiceServer,
    storefront_service_server::StorefrontServiceServer,
};
use vitrine_client::{Client, Options};

/// A shop's server, faked.
#[derive(Clone, Default)]
pub struct FakeShop(Arc<Mutex<State>>);

/// What it knows, and what it was told to do wrong.
#[derive(Default)]
pub struct State {
    pub items: BTreeMap<String, Item>,
    /// By item.
    pub pictures: BTreeMap<String, Bytes>,
    pub events: Vec<Event>,
    pub labels: BTreeMap<String, u32>,
    /// By resource name.
    pub controls: BTreeMap<String, Control>,
    /// By resource name.
    pub experiments: BTreeMap<String, Experiment>,
    /// Somebody else changes an experiment before it is updated.
    pub rival: bool,
    /// What every experiment has led to.
    pub report: ExperimentReport,
    /// The latest request for a report.
    pub reported: ReportExperimentRequest,
    pub exposures: Vec<Exposure>,
    /// The latest request for exposures.
    pub exported: ExportExposuresRequest,
    /// The latest search.
    pub searched: SearchRequest,
    /// The latest request for recommendations.
    pub recommended: RecommendRequest,
    /// Import position by import id.
    pub positions: HashMap<String, i64>,
    /// The next calls fail with these.
    pub failures: VecDeque<Status>,
    /// How often each call arrived.
    pub calls: HashMap<&'static str, usize>,
    /// `grpc-timeout` of each call.
    pub timeouts: Vec<String>,
    /// Break the connection when so many more rows have arrived.
    pub break_after_rows: Option<usize>,
    /// Never answer.
    pub silent: bool,
    /// Connections that can be broken.
    links: Vec<AbortHandle>,
}

impl State {
    /// All of them, whatever their conditions.
    fn applied_controls(&self) -> Vec<String> {
        self.controls.keys().map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }
}

impl FakeShop {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn fail_next(&self, status: Status) -> &Self {
        self.state().failures.push_back(status);
        self
    }

    pub fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or(0)
    }

    /// Counts the call, and fails or falls silent if that was asked for.
    async fn arrive<T>(&self, method: &'static str, request: &Request<T>) -> Result<(), Status> {
        let silent = {
            let mut state = self.state();
            *state.calls.entry(method).or_default() += 1;
            let timeout = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
            state.timeouts.extend(timeout.map(str::to_owned));
            if let Some(status) = state.failures.pop_front() {
                return Err(status);
            }
            state.silent
        };
        if silent { std::future::pending().await } else { Ok(()) }
    }

    /// Cuts every connection, as a power failure would.
    fn cut(&self) {
        self.state().links.drain(..).for_each(|link| link.abort());
    }

    fn router(&self) -> Router {
        let (_, health) = tonic_health::server::health_reporter();
        Server::builder()
            .add_service(health)
            .add_service(StorefrontServiceServer::new(self.clone()))
            .add_service(CatalogServiceServer::new(self.clone()))
            .add_service(ExperimentServiceServer::new(self.clone()))
            .add_service(ModelServiceServer::new(self.clone()))
    }

    /// Serves on a free port; its address.
    pub fn listen(&self) -> String {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap().with_nodelay(Some(true));
        let address = format!("http://{}", incoming.local_addr().unwrap());
        tokio::spawn(self.router().serve_with_incoming(incoming));
        address
    }

    /// A client connected in memory: no sockets, so that paused time stands still while messages travel.
    pub fn client(&self, options: Options) -> Client {
        Client::from_channel(self.channel(), options)
    }

    fn channel(&self) -> Channel {
        let (arrivals, incoming) = mpsc::unbounded_channel::<std::io::Result<DuplexStream>>();
        tokio::spawn(self.router().serve_with_incoming(UnboundedReceiverStream::new(incoming)));
        let shop = self.clone();
        let connector = tower::service_fn(move |_| {
            let (client, mut near) = duplex(1 << 16);
            let (mut far, server) = duplex(1 << 16);
            let link = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            shop.state().links.push(link.abort_handle());
            let arrived = arrivals.send(Ok(server)).map_err(std::io::Error::other);
            std::future::ready(arrived.map(|()| TokioIo::new(client)))
        });
        Endpoint::from_static("http://fake").connect_with_connector_lazy(connector)
    }
}

/// A full queue that asks to come back later.
pub fn busy(wait: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, "the queue is full", details)
}

pub fn item(id: &str) -> Item {
    Item { id: id.to_owned(), title: format!("Item {id}"), ..Default::default() }
}

/// A picture of one shade.
pub fn png(shade: u8) -> Bytes {
    let mut picture = std::io::Cursor::new(Vec::new());
    let grey = image::GrayImage::from_pixel(8, 8, image::Luma([shade]));
    grey.write_to(&mut picture, image::ImageFormat::Png).unwrap();
    picture.into_inner().into()
}

//! Handles and worker together, with models whose runs the test lets begin and end.

use std::{
    pin::Pin,
    sync::mpsc,
    task::{Context, Waker},
    thread::{self, ThreadId},
};

use super::*;
use crate::batch::runner::RunError;

const LONG: Duration = Duration::from_mins(1);

/// What the test tells a run to do once it has begun.
enum Order {
    Answer,
    Panic(&'static str),
    Fail(&'static str),
    AnswerShort,
}

/// A model that reports each batch when it begins, and waits for an order to end it.
struct Model {
    began: mpsc::Sender<Vec<Row>>,
    orders: mpsc::Receiver<Order>,
    dropped_on: mpsc::Sender<ThreadId>,
}

impl Runner for Model {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        self.began.send(rows.iter().map(|row| row.to_vec()).collect()).unwrap();
        let outputs = rows.iter().map(|row| vec![row.iter().sum::<u32>() as f32]);
        match self.orders.recv().unwrap() {
            Order::Answer => Ok(outputs.collect()),
            Order::AnswerShort => Ok(outputs.skip(1).collect()),
            Order::Fail(text) => Err(RunError(text.to_owned())),
            Order::Panic(text) => panic!("{text}"),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.dropped_on.send(thread::current().id());
    }
}

/// The test's side of a model.
struct Remote {
    began: mpsc::Receiver<Vec<Row>>,
    orders: mpsc::Sender<Order>,
    dropped_on: mpsc::Receiver<ThreadId>,
}

impl Remote {
    /// Waits for the next batch to begin.
    fn began(&self) -> Vec<Row> {
        self.began.recv_timeout(LONG).unwrap()
    }
}

fn model() -> (Box<Model>, Remote) {
    let (began, began_here) = mpsc::channel();
    let (orders_here, orders) = mpsc::channel();
    let (dropped_on, dropped_here) = mpsc::channel();
    let remote = Remote { began: began_here, orders: orders_here, dropped_on: dropped_here };
    (Box::new(Model { began, orders, dropped_on }), remote)
}

fn device() -> Batcher {
    Batcher::start("test:0", DeviceOptions::default()).unwrap()
}

fn small() -> LaneOptions {
    LaneOptions { max_batch_rows: 4, max_queue_rows: 4, ..LaneOptions::default() }
}

fn open(device: &Batcher) -> (Lane, Remote) {
    let (model, remote) = model();
    (device.open_lane("model/1", model, small()).unwrap(), remote)
}

/// A request that waits.
type Asked = Pin<Box<dyn Future<Output = Result<Vec<Output>, BatchError>> + Send>>;

/// Asks, up to the point where the request waits in its queue.
fn ask(lane: &Lane, rows: &[Row], class: Class, deadline: Option<Instant>) -> Asked {
    let (lane, rows) = (lane.clone(), rows.to_vec());
    let mut future = Box::pin(async move { lane.run(rows, class, deadline).await });
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

fn interactive(lane: &Lane, row: u32) -> Asked {
    ask(lane, &[vec![row]], Class::Interactive, None)
}

#[tokio::test]
async fn rows_come_back_in_order_though_the_request_was_split() {
    let device = device();
    let (lane, remote) = open(&device);
    let first = interactive(&lane, 9);
    assert_eq!(remote.began(), [vec![9]], "an idle device starts at once");
    let second = interactive(&lane, 1);
    let third = ask(&lane, &[vec![2], vec![3, 3], vec![4]], Class::Interactive, None);
    for _ in 0..2 {
        remote.orders.send(Order::Answer).unwrap();
    }
    assert_eq!(remote.began(), [vec![1], vec![2], vec![3, 3], vec![4]], "what came meanwhile runs together");
    assert_eq!(first.await, Ok(vec![vec![9.0]]));
    assert_eq!(second.await, Ok(vec![vec![1.0]]));
    assert_eq!(third.await, Ok(vec![vec![2.0], vec![6.0], vec![4.0]]));
    assert_eq!(lane.run(Vec::new(), Class::Bulk, None).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_panic_and_an_error_fail_their_own_batch_only() {
    let device = device();
    let (lane, remote) = open(&device);
    for (order, text) in [
        (Order::Panic("index out of bounds"), "index out of bounds"),
        (Order::Fail("the device is lost"), "the device is lost"),
        (Order::AnswerShort, "0 outputs"),
    ] {
        let failing = interactive(&lane, 1);
        remote.began();
        let waiting = interactive(&lane, 2);
        remote.orders.send(order).unwrap();
        remote.orders.send(Order::Answer).unwrap();
        let Err(BatchError::Failed(reason)) = failing.await else { panic!("the batch should have failed") };
        assert!(reason.contains(text), "{reason}");
        assert_eq!(waiting.await, Ok(vec![vec![2.0]]));
        remote.began();
    }
}

#[tokio::test]
async fn a_batch_that_lacks_memory_says_so_and_the_model_and_its_neighbours_go_on() {
    let device = device();
    let ((lane, remote), (other, others)) = (open(&device), open(&device));
    for order in [
        Order::Fail("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"),
        Order::Panic("capacity overflow"),
        Order::Panic("memory allocation of 274877906944 bytes failed"),
    ] {
        let failing = interactive(&lane, 1);
        remote.began();
        let neighbour = interactive(&other, 2);
        remote.orders.send(order).unwrap();
        let Err(BatchError::OutOfMemory(reason)) = failing.await else { panic!("the batch should have failed") };
        assert!(!reason.is_empty());
        others.orders.send(Order::Answer).unwrap();
        assert_eq!(neighbour.await, Ok(vec![vec![2.0]]));
        let next = interactive(&lane, 3);
        remote.began();
        remote.orders.send(Order::Answer).unwrap();
        assert_eq!(next.await, Ok(vec![vec![3.0]]), "the next one runs");
        others.began();
    }
}

#[tokio::test]
async fn a_cancelled_request_is_not_computed_and_its_neighbours_are() {
    let device = device();
    let (lane, remote) = open(&device);
    let running = interactive(&lane, 1);
    remote.began();
    let cancelled = interactive(&lane, 2);
    let waiting = interactive(&lane, 3);
    drop(cancelled);
    remote.orders.send(Order::Answer).unwrap();
    assert_eq!(remote.began(), [vec![3]]);
    remote.orders.send(Order::Answer).unwrap();
    assert!(running.await.is_ok() && waiting.await.is_ok());
}

#[tokio::test]
async fn a_deadline_is_kept_while_another_batch_runs_and_the_rows_are_not_computed() {
    let device = device();
    let (lane, remote) = open(&device);
    assert_eq!(
        lane.run(vec![vec![1]], Class::Interactive, Some(Instant::now())).await,
        Err(BatchError::DeadlineExceeded)
    );
    // A first run teaches the device that it is quick, so that admission hopes for the best.
    let quick = interactive(&lane, 1);
    remote.orders.send(Order::Answer).unwrap();
    assert!(quick.await.is_ok());
    remote.began();

    let running = interactive(&lane, 1);
    remote.began();
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(lane.run(vec![vec![2]], Class::Interactive, Some(deadline)).await, Err(BatchError::DeadlineExceeded));
    let waiting = interactive(&lane, 3);
    remote.orders.send(Order::Answer).unwrap();
    assert_eq!(remote.began(), [vec![3]]);
    remote.orders.send(Order::Answer).unwrap();
    assert!(running.await.is_ok() && waiting.await.is_ok());
}

#[tokio::test]
async fn interactive_rows_wait_for_no_more_than_the_bulk_batch_that_runs() {
    let device = device();
    let (lane, remote) = open(&device);
    let first = ask(&lane, &[vec![1], vec![1]], Class::Bulk, None);
    remote.began();
    let second = ask(&lane, &[vec![2], vec![2]], Class::Bulk, None);
    let urgent = interactive(&lane, 3);
    // On a slow machine the bulk rows behind it run one by one: a batch as long as the first would hold up queries.
    for _ in 0..4 {
        remote.orders.send(Order::Answer).unwrap();
    }
    assert_eq!(remote.began(), [vec![3]]);
    assert!(first.await.is_ok() && second.await.is_ok() && urgent.await.is_ok());
}

#[tokio::test]
async fn a_full_queue_says_so_and_when_to_come_back() {
    let device = device();
    let (lane, remote) = open(&device);
    let running = interactive(&lane, 1);
    remote.began();
    let waiting = ask(&lane, &vec![vec![2]; 4], Class::Interactive, None);
    let refused = lane.run(vec![vec![3]], Class::Interactive, None).await;
    let Err(BatchError::QueueFull { retry_after }) = refused else { panic!("{refused:?}") };
    assert!(retry_after > Duration::ZERO);
    remote.orders.send(Order::Answer).unwrap();
    remote.orders.send(Order::Answer).unwrap();
    assert!(running.await.is_ok() && waiting.await.is_ok());
}

#[tokio::test]
async fn closing_a_lane_drains_it_and_drops_the_model_on_the_device_thread() {
    let device = device();
    let (lane, remote) = open(&device);
    let (other, other_remote) = open(&device);
    let running = interactive(&lane, 1);
    remote.began();
    let waiting = interactive(&lane, 2);
    let gone = lane.gone();
    let closing = tokio::spawn({
        let lane = lane.clone();
        async move { lane.close().await }
    });
    remote.orders.send(Order::Answer).unwrap();
    remote.orders.send(Order::Answer).unwrap();
    assert!(running.await.is_ok() && waiting.await.is_ok());
    closing.await.unwrap();
    gone.await;
    assert_ne!(remote.dropped_on.try_recv().unwrap(), thread::current().id());
    assert_eq!(lane.run(vec![vec![3]], Class::Interactive, None).await, Err(BatchError::Unavailable));

    let still = interactive(&other, 4);
    other_remote.orders.send(Order::Answer).unwrap();
    assert_eq!(still.await, Ok(vec![vec![4.0]]));
}

#[tokio::test]
async fn a_model_leaves_while_another_one_is_never_idle() {
    let device = device();
    let (leaving, left) = open(&device);
    let (busy, remote) = open(&device);
    let running = interactive(&busy, 1);
    remote.began();
    let waiting = interactive(&busy, 2);
    drop(leaving);
    remote.orders.send(Order::Answer).unwrap();
    assert_eq!(remote.began(), [vec![2]]);
    assert!(left.dropped_on.try_recv().is_ok(), "it goes between two batches");
    remote.orders.send(Order::Answer).unwrap();
    assert!(running.await.is_ok() && waiting.await.is_ok());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_lane() {
    let device = device();
    let (lane, remote) = open(&device);
    let gone = lane.gone();
    drop(lane);
    gone.await;
    assert!(remote.dropped_on.try_recv().is_ok());
}

#[tokio::test]
async fn shutdown_runs_what_waits_and_then_lets_nothing_in() {
    let device = device();
    let (lane, remote) = open(&device);
    let running = interactive(&lane, 1);
    remote.began();
    let waiting = interactive(&lane, 2);
    remote.orders.send(Order::Answer).unwrap();
    remote.orders.send(Order::Answer).unwrap();
    device.shutdown(LONG).await.unwrap();
    assert!(running.await.is_ok() && waiting.await.is_ok());
    assert!(remote.dropped_on.try_recv().is_ok());
    assert_eq!(lane.run(vec![vec![3]], Class::Interactive, None).await, Err(BatchError::Unavailable));
}

#[tokio::test]
async fn shutdown_is_bounded_and_drops_what_still_waits() {
    let device = device();
    let (lane, remote) = open(&device);
    let running = interactive(&lane, 1);
    remote.began();
    let waiting = interactive(&lane, 2);
    let late = device.shutdown(Duration::ZERO).await.unwrap_err();
    assert!(late.to_string().contains("test:0"));
    remote.orders.send(Order::Answer).unwrap();
    assert!(running.await.is_ok(), "what was launched is answered");
    assert_eq!(waiting.await, Err(BatchError::Unavailable));
}

#[tokio::test]
async fn ten_thousand_cancelled_requests_cost_no_forward_pass() {
    const REQUESTS: usize = 10_000;
    let device = device();
    let (model, remote) = model();
    let options = LaneOptions { max_batch_rows: 64, max_queue_rows: REQUESTS, ..LaneOptions::default() };
    let lane = device.open_lane("model/1", model, options).unwrap();
    let running = interactive(&lane, 1);
    remote.began();
    let cancelled: Vec<Asked> = (0..REQUESTS)
        .map(|number| {
            let class = if number % 2 == 0 { Class::Interactive } else { Class::Bulk };
            ask(&lane, &[vec![2], vec![2]][..=number % 2], class, None)
        })
        .collect();
    drop(cancelled);
    let wanted = interactive(&lane, 3);
    remote.orders.send(Order::Answer).unwrap();
    remote.orders.send(Order::Answer).unwrap();
    assert_eq!(remote.began(), [vec![3]]);
    assert!(running.await.is_ok() && wanted.await.is_ok());
    assert!(remote.began.try_recv().is_err(), "nothing else has run");
}

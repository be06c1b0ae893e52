//! Making many calls, some of them at the same time.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::task::JoinSet;

/// The outcome of `call` for each input, in the inputs' order, `at_once` of them at a time. Ends at the first error.
pub async fn map<I, O, F>(inputs: Arc<Vec<I>>, at_once: usize, call: impl Fn(Arc<Vec<I>>, usize) -> F) -> Result<Vec<O>>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    F: Future<Output = Result<O>> + Send + 'static,
{
    let next = AtomicUsize::new(0);
    let mut running = JoinSet::new();
    let mut outcomes: Vec<Option<O>> = inputs.iter().map(|_| None).collect();
    let start = |running: &mut JoinSet<Result<(usize, O)>>| {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index < inputs.len() {
            let outcome = call(Arc::clone(&inputs), index);
            running.spawn(async move { Ok((index, outcome.await?)) });
        }
    };
    (0..at_once.max(1)).for_each(|_| start(&mut running));
    while let Some(ended) = running.join_next().await {
        let (index, outcome) = ended??;
        if let Some(place) = outcomes.get_mut(index) {
            *place = Some(outcome);
        }
        start(&mut running);
    }
    Ok(outcomes.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outcomes_come_in_the_order_of_the_inputs() {
        let inputs = Arc::new((0..100).collect::<Vec<u64>>());
        let doubled = map(inputs, 7, |inputs, index| async move {
            for _ in 0..index % 5 {
                tokio::task::yield_now().await;
            }
            Ok(inputs[index] * 2)
        });
        assert_eq!(doubled.await.unwrap(), (0..100).map(|n| n * 2).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn the_first_error_ends_it() {
        let failed: Result<Vec<()>> = map(Arc::new(vec![0; 9]), 2, |_, index| async move {
            anyhow::ensure!(index != 4, "number four");
            Ok(())
        })
        .await;
        assert_eq!(failed.unwrap_err().to_string(), "number four");
    }
}

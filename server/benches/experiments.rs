//! What an experiment adds to a request: finding the arms of a shopper, and logging what they are shown.
//!
//! `cargo bench --profile dev -p vitrine-server --bench experiments`

use criterion::{Criterion, criterion_group, criterion_main};
use vitrine::v1::{ExposedArm, ExposedItem, Exposure};
use vitrine_server::experiment::{Exposures, buckets, exposures::Kept, hash};

/// Of ten experiments that run at the same time.
const EXPERIMENTS: usize = 10;

fn assign(criterion: &mut Criterion) {
    let owners = buckets::owners(&buckets::fresh(&[0.5, 0.5], 1.0));
    let seeds: Vec<String> = (0..EXPERIMENTS).map(|number| format!("experiment-{number}")).collect();
    let mut user = 0_u64;
    criterion.bench_function("a shopper's arms in 10 experiments", |bencher| {
        bencher.iter(|| {
            user += 1;
            let unit = format!("user-{user}");
            seeds.iter().filter_map(|seed| owners[hash::bucket(seed, &unit)]).sum::<usize>()
        });
    });
}

fn log(criterion: &mut Criterion) {
    let dir = std::env::temp_dir().join(format!("vitrine-exposures-{}", std::process::id()));
    let opened = std::fs::create_dir_all(&dir).map(|()| Exposures::open(&dir));
    let Ok(Ok(exposures)) = opened else { return };
    let item = |number: usize| ExposedItem { id: format!("item-{number}"), ..ExposedItem::default() };
    let arm = ExposedArm { experiment: "search-encoder".into(), arm: "canary".into(), ..ExposedArm::default() };
    let shown = Exposure {
        arms: vec![arm],
        versions: vec!["minilm/3".into()],
        items: (0..10).map(item).collect(),
        ..Exposure::default()
    };
    let mut answer = 0_u64;
    let mut next = || {
        answer += 1;
        (Exposure { answer, user_id: format!("user-{answer}"), ..shown.clone() }, 1_700_000_000_000 + answer as i64)
    };
    criterion.bench_function("an exposure of 10 items", |bencher| {
        bencher.iter(|| {
            let (exposure, time_ms) = next();
            exposures.log(&exposure, time_ms, Vec::new())
        });
    });
    criterion.bench_function("an exposure of 10 items to somebody who keeps the arm", |bencher| {
        bencher.iter(|| {
            let (exposure, time_ms) = next();
            let (unit, arm) = (exposure.user_id.clone(), "canary".to_owned());
            let kept = Kept { experiment: "search-encoder".to_owned(), bucket_version: 0, unit, arm };
            exposures.log(&exposure, time_ms, vec![kept])
        });
    });
    // What is left of it is the system's to clean up.
    let _ = std::fs::remove_dir_all(dir);
}

criterion_group!(benches, assign, log);
criterion_main!(benches);

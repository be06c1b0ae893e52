//! Experiments on shoppers who come through the API: one between two versions of which one is known to be worse, and many between arms that are
//! the same. The first must be found, and told by as much as the shoppers themselves saw; of the others no more than chance has it.

#![cfg(test)]

mod harness;

use std::{fs, path::Path};

use harness::{
    CATALOG, Start,
    encoders::registry_command,
    eventually, run,
    shoppers::{Goods, Seen, Shoppers, Visits, shuffled},
    stock,
};
use vitrine::v1::{
    Arm, Comparison, CreateExperimentRequest, Experiment, ExperimentMetric, ExperimentReport, GetModelVersionRequest,
    LoadVersionRequest, Placement, ReportExperimentRequest, StartExperimentRequest, VersionState,
};
use vitrine_client::Client;

const ITEMS: usize = 200;
const SHOPPERS: usize = 1_500;
const WAVES: usize = 3;
/// Experiments of arms that are the same.
const SAME: usize = 40;
/// Of so many, each significant with a chance of 5 %, more than this many are once in 7,700 times (binomial distribution).
const BY_CHANCE: usize = 8;

/// Publishes a network that knows what comes next, and one that is wrong about a quarter of the items.
fn publish(goods: &Goods, dir: &Path, registry: &Path) {
    fs::write(dir.join("histories.inter"), goods.histories(400, 12, 1)).unwrap();
    let settings =
        "max_length = 8\nhidden = 32\ndropout = 0.1\n[learning]\nlearning_rate = 0.005\nepochs = 20\npatience = 5\n";
    fs::write(dir.join("sasrec.toml"), settings).unwrap();
    run("vitrine-trainer", dir, "train sasrec --interactions histories.inter --config sasrec.toml --out learnt");
    let line = format!("publish learnt --registry {} --model next-item --label stable", registry.display());
    run("vitrine-trainer", dir, &line);
    let broken = dir.join("broken");
    shuffled(&registry.join("models/next-item/1"), &broken, 4);
    let what = ["--kind", "sasrec", "--task", "sequence-recommendation", "--parent", "1"];
    let output = registry_command(registry, &[&["publish", "next-item", broken.to_str().unwrap()][..], &what].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An arm of half of the shoppers, answered by that version.
fn arm(name: &str, version: &str) -> Arm {
    let models = [("sequence-recommendation".to_owned(), version.to_owned())].into();
    Arm { name: name.into(), weight: 0.5, models, ..Arm::default() }
}

async fn begin(client: &Client, id: &str, arms: Vec<Arm>) {
    let name = format!("experiments/{id}");
    let placements = vec![Placement::ForUser as i32];
    let experiment = Experiment { name: name.clone(), catalog: CATALOG.into(), arms, placements, ..Default::default() };
    let create = CreateExperimentRequest { experiment: Some(experiment), ..Default::default() };
    client.create_experiment(create).await.unwrap();
    client.start_experiment(StartExperimentRequest { name, author: String::new() }).await.unwrap();
}

async fn report(client: &Client, id: &str) -> ExperimentReport {
    let request = ReportExperimentRequest { name: format!("experiments/{id}"), ..Default::default() };
    client.report_experiment(request).await.unwrap()
}

fn ctr(report: &ExperimentReport) -> &Comparison {
    let told = report.comparisons.iter().find(|comparison| comparison.metric() == ExperimentMetric::Ctr).unwrap();
    assert_eq!(told.not_enough_data, "");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worse_version_is_told_from_the_better_and_the_same_from_the_same_only_by_chance() {
    let (goods, start) = (Goods::new(ITEMS, 7), Start::default());
    publish(&goods, start.dir.path(), &start.registry);
    let others_off = ["follows", "together", "similar", "again"].map(|source| format!("recommend.{source}=0.0"));
    let start = others_off.iter().fold(start, |start, setting| start.set(setting));
    let server = start.set("recommend.next=1.0").set("sequence_model.model=next-item").run();
    let client = server.client().await;
    stock(&client, goods.items()).await;
    for version in [1, 2] {
        let name = format!("models/next-item/versions/{version}");
        client.load_version(LoadVersionRequest { name: name.clone(), unload_first: false }).await.unwrap();
        eventually("the version is available", async || {
            let version = client.get_model_version(GetModelVersionRequest { name: name.clone() }).await.ok()?;
            (version.state() == VersionState::Available).then_some(())
        })
        .await;
    }
    begin(&client, "versions", vec![arm("good", "1"), arm("bad", "2")]).await;
    let same: Vec<String> = (0..SAME).map(|number| format!("same-{number}")).collect();
    for id in &same {
        let arms = ["a", "b"].map(|name| Arm { models: [].into(), ..arm(name, "") });
        begin(&client, id, arms.to_vec()).await;
    }
    let (mut shoppers, mut visits) = (Shoppers::new(&goods, SHOPPERS, 7), Visits::default());
    for _ in 0..WAVES {
        visits.add(shoppers.visit(&client).await);
    }
    assert!(visits.failures.is_empty(), "{:?}", visits.failures);

    // What the report says is what the shoppers saw and did.
    let told = report(&client, "versions").await;
    let rates = ["good", "bad"].map(|arm| {
        let Seen { shoppers, answers, clicked } = &visits.arms[&("versions".to_owned(), arm.to_owned())];
        let rate = *clicked as f64 / *answers as f64;
        let of_arm = told.arms.iter().find(|told| told.arm == arm).unwrap();
        assert_eq!((of_arm.users, of_arm.answers), (shoppers.len() as i64, *answers as i64), "{arm}");
        let estimate = of_arm.metrics.iter().find(|metric| metric.metric() == ExperimentMetric::Ctr).unwrap().estimate;
        assert!((estimate.unwrap() - rate).abs() < 1e-9, "{arm}: {estimate:?}, {rate} by the shoppers");
        rate
    });
    let difference = ctr(&told);
    eprintln!("ctr {rates:.3?}, {difference:?}");
    assert!(rates[1] < 0.95 * rates[0], "{rates:?}");
    let interval = difference.sequential_interval.unwrap();
    assert!(interval.upper < 0.0, "it is found: {difference:?}");
    let lift = rates[1] / rates[0] - 1.0;
    assert!((interval.lower..interval.upper).contains(&lift), "{difference:?}, and {lift} by the shoppers");

    // Latencies have intervals too.
    for metric in [ExperimentMetric::LatencyP50, ExperimentMetric::LatencyP99] {
        let latency = told.comparisons.iter().find(|comparison| comparison.metric() == metric).unwrap();
        let interval = latency.interval.unwrap();
        assert!(interval.lower < latency.lift && latency.lift < interval.upper, "{latency:?}");
    }

    let (mut fixed, mut sequential) = (0, 0);
    for id in &same {
        let told = report(&client, id).await;
        let equal = ctr(&told);
        fixed += usize::from(equal.p_value < 0.05);
        sequential += usize::from(
            !(equal.sequential_interval.unwrap().lower..=equal.sequential_interval.unwrap().upper).contains(&0.0),
        );
        assert!(told.sample_ratio.unwrap().p_value > 0.0001, "{id}: {:?}", told.sample_ratio);
        assert_eq!(told.multiple_exposures, 0);
    }
    eprintln!("of {SAME} of the same {fixed} differ at 5 %, {sequential} by their always valid intervals");
    assert!(fixed <= BY_CHANCE && sequential <= fixed, "{fixed}, {sequential}");
}
